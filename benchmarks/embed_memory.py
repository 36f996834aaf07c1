"""What `embed` of a large file takes in memory above the encoder; run by itself: `python -m benchmarks.embed_memory`.

Each side is a process of its own: one that loads the encoder and encodes one text, one that embeds the file. The file
repeats 20,000 different texts, so that its time is that of rows and not of texts; ids are made for all rows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pcc_pipeline.data.sample.messages import sample

REPOSITORY = Path(__file__).parents[1]
_TEXTS = 20_000
# Of this program alone: `ru_maxrss` goes on from the process that started it, so beside a large parent it says nothing.
PEAK = "print(next(int(line.split()[1]) // 1024 for line in open('/proc/self/status') if line.startswith('VmHWM:')))"
_ENCODER = (
    "from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder\n"
    "SentenceEncoder(backend='auto').encode(['a text'])\n"
)
_EMBED = "import sys; sys.path.insert(0, 'entrypoints'); import embed\nassert embed.main(sys.argv[1:]) == 0\n"


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=["parquet", "csv"], default="parquet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / f"rows.{options.kind}", options.rows)
        encoder, _ = _peak(_ENCODER, folder, [])
        whole, seconds = _peak(_EMBED, folder, ["--data", str(folder / f"rows.{options.kind}")])
        (embedded,) = (folder / "embedded").glob("rows-*.parquet")
        written = pq.read_metadata(embedded).num_rows
    print(f"encoder alone        {encoder:>7,} MB")
    print(f"embed, {written:,} rows {whole:>7,} MB, {whole - encoder:,} MB above it, {seconds:,.0f} s")
    return 0 if written == options.rows else 1


def _write(path: Path, rows: int) -> None:
    first = sample(2_000)
    texts = [f"{text} ({number})" for number in range(_TEXTS // len(first)) for text in first["text"]]
    labels = list(first["intent"]) * (_TEXTS // len(first))
    block = pa.table({"text": texts, "intent": labels})
    writer = pq.ParquetWriter if path.suffix == ".parquet" else pyarrow.csv.CSVWriter
    with writer(path, block.schema) as file:
        for start in range(0, rows, len(texts)):
            file.write_table(block.slice(0, min(len(texts), rows - start)))


def _peak(code: str, folder: Path, options: list[str]) -> tuple[int, float]:
    """Peak of resident memory in MB, and seconds."""
    places = {"EMBEDDED_DIR": "embedded", "REJECTED": "rejected.parquet"}
    environment = {
        **os.environ,
        **{f"PCC_OUTPUT__{key}": str(folder / place) for key, place in places.items()},
        "PCC_PREPROCESSING__CACHE_DIR": str(folder / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    begun = time.perf_counter()
    command = [sys.executable, "-c", code + PEAK, *options]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return int(done.stdout.splitlines()[-1]), time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
