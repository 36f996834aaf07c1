"""`score` and `embed` in parts by two workers of Dask, beside two processes that share the files: rows a second.

`python -m benchmarks.parts` makes files with vectors of 584 numbers, which need no encoder, and files of texts, trains
a model, and writes each kind in parts: by two runs at the same time, with `shard=1/2` and `shard=2/2` and one thread
each; by two worker processes of one run; by two workers that Dask starts; and by two of a cluster that stands, which
has done a run before. The time is that of the work, from the first task to the manifest: imports and the look-up of the
model come before it, and the start of workers, with their imports, is in it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from benchmarks.vector_rows import write_rows
from pcc_pipeline.data.sample.messages import sample

_PROGRAM = [str(Path(sys.executable).with_name("pcc"))]
_WAYS: dict[str, list[list[str]]] = {
    "two processes, a share each": [["--shard", "1/2"], ["--shard", "2/2"]],
    "two workers of one run": [["--workers", "2"]],
    "two workers that Dask starts": [["--workers", "2", "--set", "compute.engine=dask"]],
    "two workers of a cluster": [["--set", "compute.engine=dask compute.address=ADDRESS preprocessing.threads=1"]],
}


def _run(folder: Path, words: Sequence[str]) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PCC_PREPROCESSING__CACHE_DIR": "null",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    return subprocess.Popen(
        [*_PROGRAM, *words], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, stdout=subprocess.PIPE
    )


def _done(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate()
    if process.returncode:
        raise SystemExit(err)
    return out


def _timed(folder: Path, step: Sequence[str], way: list[list[str]]) -> float:
    """Rows a second, of all processes of one way, by what their summaries say."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    threads = ["--set", "preprocessing.threads=1"] if len(way) > 1 else []
    processes = [_run(folder, [*step, *words, *threads]) for words in way]
    rates = [float(match[1].replace(",", "")) for each in processes if (match := re.search(r"([\d,]+)/s", _done(each)))]
    return sum(rates)


@contextmanager
def _cluster(folder: Path) -> Iterator[str]:
    """The address of a scheduler of Dask that has two workers of one thread."""
    import distributed

    with distributed.LocalCluster(  # type: ignore[no-untyped-call] # Dask leaves it without types
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(folder)
    ) as cluster:
        yield str(cluster.scheduler_address)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="rows with vectors")
    parser.add_argument("--texts", type=int, default=16_000, help="texts for the encoder")
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts")
    parser.add_argument("--only", default="", help="the ways whose names hold this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "vectors").mkdir()
        write_rows(folder / "training.parquet", 3000, seed=options.files)
        for number in range(options.files):
            write_rows(folder / f"vectors/{number:02d}.parquet", options.rows // options.files, seed=number)
        texts = pd.concat([sample()] * (options.texts // 900 + 1), ignore_index=True)[: options.texts]
        texts["text"] = [f"{text} ({number})" for number, text in enumerate(texts["text"])]
        texts = texts.drop(columns=["intent", "case_id"], errors="ignore")
        (folder / "texts").mkdir()
        for number in range(options.files):
            texts[number :: options.files].to_csv(folder / f"texts/{number:02d}.csv", index=False)
        _done(_run(folder, ["train", "--data", "training.parquet", "--search-method", "none"]))
        model = ["--model", "models:/pcc-intent-classifier@challenger", "--output", "out/"]
        kinds = {
            f"score, {options.rows:,} rows with vectors": ["score", "--data", "vectors/", *model],
            f"embed, {options.texts:,} texts": ["embed", "--data", "texts/", "--parts", "out/"],
        }
        ways = {way: runs for way, runs in _WAYS.items() if not options.only or options.only in way}
        with _cluster(folder) as address:
            for kind, step in kinds.items():
                _compare(folder, kind, step, ways, address, options.rounds)


def _compare(
    folder: Path, kind: str, step: list[str], ways: dict[str, list[list[str]]], address: str, rounds: int
) -> None:
    best = dict.fromkeys(ways, 0.0)
    for number in range(rounds + 1):
        for way, runs in ways.items():
            commands = [[word.replace("ADDRESS", address) for word in words] for words in runs]
            # The first round of a cluster is that in which its workers import and load.
            if number or way == "two workers of a cluster":
                rate = _timed(folder, step, commands)
                best[way] = max(best[way], rate) if number else 0.0
    print(f"\n{kind}", flush=True)
    first = next(iter(best.values()))
    for way, rate in best.items():
        print(f"  {way:30} {rate:10,.0f} rows/s  {rate / first:.2f}", flush=True)


if __name__ == "__main__":
    main()
