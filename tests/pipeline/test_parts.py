"""Data sets in parts: a part for each file, whoever writes it, however often it is begun; and then the manifest."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.search.pools import dask_cluster
from pcc_pipeline.steps.parts.engines import DaskEngine
from pcc_pipeline.storage.objects import open_store
from tests.pipeline.conftest import Store

pytestmark = pytest.mark.pipeline

NAME = "pcc-intent-classifier"
FIXED = ("--search-method", "none", "--set", "model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs")
FILES, ROWS = 6, 30
TIMES = ["inference_timestamp", "ingestion_time"]
IN_WORKERS = ("--workers", "2")
BY_DASK = (*IN_WORKERS, "--set", "compute.engine=dask")


@pytest.fixture(scope="module")
def trained(new_store, in_process, small_file, with_vectors) -> Store:
    """A store with a champion, a second version, and a folder of six files with vectors, one row of which is bad."""
    store = new_store("parts")
    for words in (FIXED, ("--model-type", "SGD", "--search-method", "none")):
        assert in_process(store.folder, "train", ["--data", str(small_file), *words]) == 0
    store.client.set_registered_model_alias(NAME, "champion", "1")
    rows = with_vectors(sample(FILES * ROWS)).drop(columns="intent").reset_index(drop=True)
    rows["case_id"] = [f"case-{number:03d}" for number in range(len(rows))]
    rows.loc[2 * ROWS + 3, "text"] = " "
    (store.folder / "in").mkdir()
    for number in range(FILES):
        part = rows[number * ROWS : (number + 1) * ROWS].reset_index(drop=True)
        part.to_parquet(store.folder / f"in/cases_{number}.parquet", index=False)
    assert in_process(store.folder, "score", ["--data", "in/", "--output", "one.parquet"]) == 0
    return store


def table(*files: Path | str) -> pd.DataFrame:
    """The rows of tables in the order of their cases, but for the times of writing."""
    frame = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    return frame.drop(columns=[name for name in TIMES if name in frame]).sort_values("case_id", ignore_index=True)


def parts_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "_manifest.json").read_text())


def whole(store: Store, name: str) -> None:
    """The folder has all rows once, and says so."""
    folder = store.folder / name
    pd.testing.assert_frame_equal(table(*parts_of(folder)), table(store.folder / "one.parquet"))
    manifest = manifest_of(folder)
    assert (manifest["rows"], manifest["rejected"]) == (FILES * ROWS - 1, 1)
    assert [part["source"] for part in manifest["parts"]] == [f"in/cases_{number}.parquet" for number in range(FILES)]
    assert sorted(part["name"] for part in manifest["parts"]) == [path.name for path in parts_of(folder)]
    assert not list(folder.rglob(".partial-*"))
    assert not list(folder.glob("_lineage/*"))


@pytest.mark.parametrize(
    "words",
    [(), IN_WORKERS, pytest.param(BY_DASK, marks=pytest.mark.long)],
    ids=["this process", "two workers", "Dask"],
)
def test_parts_hold_what_one_file_holds(command, trained, words, request) -> None:
    name = f"{request.node.callspec.id.replace(' ', '-')}/"
    done = command("score", "--data", "in/", "--output", name, *words, store=trained)
    assert done.code == 0, done.err
    whole(trained, name)
    assert "whole: _manifest.json lists 6 parts" in done.out
    assert f"1 row rejected, with their reasons in {name}_rejected/" in done.out
    (rejected,) = (trained.folder / name / "_rejected").iterdir()
    assert pd.read_parquet(rejected)["row"].tolist() == [3]
    run = trained.step("score")
    assert (run.data.metrics["score/rows"], run.data.metrics["score/rejected_rows"]) == (FILES * ROWS - 1, 1)
    assert sum(part["rows"] for part in json.loads(trained.file(run, "data_files.json").read_text())) == 179
    assert len(run.inputs.dataset_inputs) == FILES
    line = json.loads((trained.folder / "outputs/monitoring_log.jsonl").read_text().splitlines()[-1])
    assert (line["total_cases"], line["passed_validation"], line["dropped_cases"]) == (180, 179, 1)


def test_shards_write_a_whole_together_and_the_last_one_says_so(command, trained) -> None:
    for number, left in ((1, 4), (3, 2)):
        done = command("score", "--data", "in/", "--output", "shards/", "--shard", f"{number}/3", store=trained)
        assert done.code == 0, done.err
        assert f"shard {number}/3: 2 parts in shards/" in done.out
        assert f"{left} of 6 parts do not stand yet" in done.out
        assert not (trained.folder / "shards/_manifest.json").exists()
    done = command("score", "--data", "shards/", "--output", "again.parquet", store=trained)
    assert done.code == 1
    assert "is being written, or its writing was cut off: 4 of its parts stand" in done.err
    assert command("score", "--data", "in/", "--output", "shards/", "--shard", "2/3", store=trained).code == 0
    whole(trained, "shards")


def test_what_stands_is_not_done_again_and_a_new_file_is_added(command, trained, with_vectors) -> None:
    folder = trained.folder / "grows"
    for number in range(3):
        (trained.folder / "some").mkdir(exist_ok=True)
        source = trained.folder / f"in/cases_{number}.parquet"
        (trained.folder / f"some/{source.name}").write_bytes(source.read_bytes())
        done = command("score", "--data", "some/", "--output", "grows/", store=trained)
        assert done.code == 0, done.err
        assert len(manifest_of(folder)["parts"]) == number + 1
        assert ("stood before" in done.out) == (number > 0)
    before = {path: path.stat().st_mtime_ns for path in parts_of(folder)}
    done = command("score", "--data", "some/", "--output", "grows/", store=trained)
    assert "3 parts in grows/, 3 stood before" in done.out
    assert before == {path: path.stat().st_mtime_ns for path in parts_of(folder)}
    # A file that is changed, or gone, would leave its old rows among the others.
    changed = trained.folder / "some/cases_1.parquet"
    pd.read_parquet(changed)[:10].to_parquet(changed, index=False)
    done = command("score", "--data", "some/", "--output", "grows/", store=trained)
    assert done.code == 1
    assert "there are 2 parts of some/cases_1.parquet: it was changed meanwhile" in done.err
    changed.unlink()
    done = command("score", "--data", "some/", "--output", "grows/", store=trained)
    assert "holds parts of 1 inputs that are not among these: some/cases_1.parquet" in done.err
    assert len(manifest_of(folder)["parts"]) == 3


def test_a_folder_is_of_one_job(command, trained) -> None:
    assert command("score", "--data", "in/cases_0.parquet", "--output", "job/", store=trained).code == 0
    for words, told in {
        ("--model", f"models:/{NAME}/2"): "the folder holds another data set: model_version is v",
        ("--set", "output.extra_columns=[row]"): r"extra_columns is \[\] there and \['row'\] now",
        ("--set", "data.schema=[timestamp]"): r"schema is None there and \['timestamp'\] now",
        ("--set", "data.subject_column=case_id"): "subject_column is None there and case_id now",
    }.items():
        done = command("score", "--data", "in/cases_0.parquet", "--output", "job/", *words, store=trained)
        assert done.code == 1
        assert re.search(told, done.err)
    (trained.folder / "mine").mkdir()
    (trained.folder / "mine/notes.txt").write_text("mine")
    done = command("score", "--data", "in/", "--output", "mine/", store=trained)
    assert "has a folder of its own, and this one holds notes.txt" in done.err
    assert [path.name for path in (trained.folder / "mine").iterdir()] == ["notes.txt"]


def test_parts_that_other_rules_for_good_rows_made_are_not_taken_for_good(command, trained) -> None:
    words = ("embed", "--data", "in/cases_0.parquet", "--parts", "ruled/", "--set")
    schema = "data.schema=[timestamp,text_length]"
    assert command(*words, schema, store=trained).code == 0
    again = command(*words, "data.schema=[text_length,timestamp] data.normalise_labels=true", store=trained)
    assert "1 stood before" in again.out, "the order of columns is no rule, and labels stay as they stand"
    for settings, told in {
        "data.normalise_labels=false": r"schema is \['text_length', 'timestamp'\] there and None now",
        f"{schema} data.group_column=case_id": "group_column is None there and case_id now",
        f"{schema} data.subject_column=case_id": "subject_column is None there and case_id now",
        f"{schema} data.label_column=topic": "label_column is intent there and topic now",
    }.items():
        done = command(*words, settings, store=trained)
        assert done.code == 1
        assert re.search(told, done.err), done.err


def test_several_processes_do_not_keep_score_from_writing_one_file(command, trained) -> None:
    done = command("score", "--data", "in/", "--output", "one.csv", "--workers", "2", store=trained)
    assert done.code == 0
    assert "one process writes one file; output.scores=FOLDER/ gets a part for each file" in done.out + done.err
    assert len(pd.read_csv(trained.folder / "one.csv")) == FILES * ROWS - 1


@pytest.mark.long
def test_a_file_without_rows_has_a_part_without_rows(command, trained) -> None:
    (trained.folder / "days").mkdir()
    (trained.folder / "days/cases_0.parquet").write_bytes((trained.folder / "in/cases_0.parquet").read_bytes())
    (trained.folder / "days/sunday.csv").write_text("case_id,text\n")
    for words, folder in (
        (("score", "--output", "answered/"), "answered"),
        (("score", "--output", "by_workers/", *IN_WORKERS), "by_workers"),
        (("embed", "--parts", "of_days/"), "of_days"),
    ):
        done = command(*words, "--data", "days/", store=trained)
        assert done.code == 0, done.err
        assert "warning    days/sunday.csv: it has columns and no rows" in done.out
        parts = {part["source"]: part for part in manifest_of(trained.folder / folder)["parts"]}
        sunday = parts.pop("days/sunday.csv")
        (other,) = parts.values()
        assert (sunday["rows"], other["rows"] + other["rejected"]) == (0, ROWS)
        assert len(pd.read_parquet(trained.folder / folder / sunday["name"])) == 0
    pd.testing.assert_frame_equal(
        table(*parts_of(trained.folder / "answered")), table(*parts_of(trained.folder / "by_workers"))
    )
    done = command("score", "--data", "of_days/", "--output", "of_days.parquet", store=trained)
    assert done.code == 0, done.err
    assert len(pd.read_parquet(trained.folder / "of_days.parquet")) == other["rows"]
    for words in (("score", "--output", "alone/"), ("embed", "--parts", "alone/")):
        done = command(*words, "--data", "days/sunday.csv", store=trained)
        assert (done.code, "the data file has columns and no rows" in done.err) == (1, True), done.err
        assert not (trained.folder / "alone").exists()


def test_a_file_may_have_any_name(command, trained) -> None:
    # A list, a pattern, and a name in Latin-1, which is no UTF-8.
    odd = ["[2026] mails.parquet", "wild*card?.parquet", os.fsdecode(b"caf\xe9.csv")]
    (trained.folder / "odd").mkdir()
    for number, name in enumerate(odd):
        rows = pd.read_parquet(trained.folder / f"in/cases_{number}.parquet").drop(columns="embeddings")
        with (trained.folder / "odd" / name).open("wb") as file:
            rows.to_csv(file, index=False) if name.endswith("csv") else rows.to_parquet(file, index=False)
    for words, folder in (
        (("score", "--data", "odd/", "--output", "odd-scores/"), "odd-scores"),
        (("embed", "--data", "odd/", "--parts", "odd-vectors/"), "odd-vectors"),
    ):
        for stood in (False, True):
            done = command(*words, store=trained)
            assert (done.code, "stood before" in done.out) == (0, stood), done.err
        sources = [part["source"].rpartition("/")[2] for part in manifest_of(trained.folder / folder)["parts"]]
        assert sources == sorted(odd)
    done = command("score", "--data", "odd-vectors/", "--output", "odd.parquet", store=trained)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--output", "one.csv", "--shard", "1/2"),
            "compute.shard is for a data set in parts, and one file is written",
        ),
        (("--output", "x/", "--shard", "3/2"), "shard 3/2 is none: 1/2 is the first, 2/2 the last"),
        (("--output", "x/", "--shard", "half"), "compute.shard"),
        (("--output", "x/", "--workers", "0"), "workers is 0"),
        (("--output", "in/"), "output.scores would be written among the files of data.path"),
        (("--output", "./"), "output.scores would be written among the files of data.path"),
        (("--output", "x/", "--shadow", "true"), "go beside one file"),
        (("--output", "x/", "--set", "compute.address=tcp://127.0.0.1:1"), "set engine to dask"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(command, trained, words, told) -> None:
    done = command("score", "--data", "in/", *words, store=trained)
    assert done.code == 1
    assert told in done.err
    assert not (trained.folder / "x").exists()


def test_a_cluster_that_is_not_there_is_told_before_the_model_loads(command, trained, monkeypatch) -> None:
    monkeypatch.setattr(dask_cluster, "_PATIENCE", 1)
    settings = "compute.engine=dask compute.address=tcp://127.0.0.1:1"
    done = command("score", "--data", "in/", "--output", "x/", "--set", settings, store=trained)
    assert done.code == 1
    assert "no scheduler of Dask answers" in done.err
    assert "scoring" not in done.err
    assert not (trained.folder / "x").exists()


def test_a_bad_file_stops_none_of_the_others_and_is_named(command, trained, tmp_path) -> None:
    files = sorted((trained.folder / "in").iterdir())
    for file in files:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    words, folder = ("--data", f"{tmp_path}/cases_*", "--output", "mended/"), trained.folder / "mended"
    (tmp_path / "cases_1.parquet").write_bytes(b"PAR1 and no more")  # which a first look shows
    (tmp_path / "cases_3.parquet").rename(tmp_path / "cases_3.pkl")  # which none does
    done = command("score", *words, *IN_WORKERS, store=trained)
    assert done.code == 1
    assert "2 of 6 files failed, this one first: the" in done.err
    assert "then begin again: 4 parts stand already" in done.err
    assert str(tmp_path / "cases_1.parquet") in done.err
    assert str(tmp_path / "cases_3.pkl") in done.err
    assert len(parts_of(folder)) == FILES - 2
    (tmp_path / "cases_1.parquet").write_bytes(files[1].read_bytes())
    pd.read_parquet(files[3]).to_pickle(tmp_path / "cases_3.pkl")
    done = command("score", *words, store=trained)
    assert done.code == 0, done.err
    assert "6 parts in mended/, 4 stood before" in done.out
    pd.testing.assert_frame_equal(table(*parts_of(folder)), table(trained.folder / "one.parquet"))


def test_files_that_are_all_bad_are_told_of_before_a_model_is_loaded(command, trained, tmp_path) -> None:
    for number in range(3):
        (tmp_path / f"cases_{number}.parquet").write_bytes(b"PAR1 and no more")
    done = command("score", "--data", f"{tmp_path}/", "--output", "none/", store=trained)
    assert (done.code, (trained.folder / "none").exists()) == (1, False)
    assert "error: the file is not a readable parquet file" in done.err
    assert str(tmp_path / "cases_0.parquet") in done.err


def test_too_many_rejected_rows_of_all_leave_no_manifest(command, trained, tmp_path) -> None:
    for number in range(2):
        rows = pd.read_parquet(trained.folder / f"in/cases_{number}.parquet")
        if number:
            rows["text"] = ""
        rows.to_parquet(tmp_path / f"cases_{number}.parquet", index=False)
    done = command("score", "--data", f"{tmp_path}/", "--output", "bad/", store=trained)
    assert done.code == 1
    assert "30 of 60 rows are rejected, more than data.max_rejected_fraction allows (0.1)" in done.err
    assert not (trained.folder / "bad/_manifest.json").exists()
    done = command(
        "score", "--data", f"{tmp_path}/", "--output", "bad/", "--set", "data.max_rejected_fraction=0.6", store=trained
    )
    assert done.code == 0, done.err
    assert manifest_of(trained.folder / "bad")["rejected"] == 30


def test_an_input_without_a_good_row_is_a_part_without_rows_that_nobody_stumbles_over(
    command, trained, tmp_path
) -> None:
    for number in range(2):
        rows = pd.read_parquet(trained.folder / f"in/cases_{number}.parquet").drop(columns="embeddings")
        rows = rows[2:4].assign(text=" ") if number else rows
        rows.to_csv(tmp_path / f"cases_{number}.csv", index=False)
    for step, option in (("embed", "--parts"), ("score", "--output")):
        done = command(step, "--data", f"{tmp_path}/", option, f"hollow-{step}/", store=trained)
        assert done.code == 0, done.err
        folder = trained.folder / f"hollow-{step}"
        assert sorted(part["rows"] for part in manifest_of(folder)["parts"]) == [0, ROWS]
        assert pd.read_parquet(folder)["case_id"].nunique() == ROWS  # whoever reads all of the folder reads them, too
    done = command("score", "--data", "hollow-embed/", "--output", "hollow.parquet", store=trained)
    assert done.code == 0, done.err
    assert len(pd.read_parquet(trained.folder / "hollow.parquet")) == ROWS


def test_two_clusters_of_one_machine_are_not_in_each_others_way() -> None:
    """Dask warns of a port that is taken, and a warning is an error here."""
    alone = dask_cluster.DaskCluster(None, 1)
    with alone.client(), alone.client() as second:
        assert second.submit(sum, [1, 2]).result() == 3


@pytest.mark.long
def test_a_cluster_without_workers_is_told_and_not_waited_for(
    command, trained, start_dask, monkeypatch, tmp_path
) -> None:
    start_dask("scheduler", "--port", "0")
    known, end = tmp_path / "scheduler.json", time.monotonic() + 60
    while not known.exists() or not known.read_text().strip():
        assert time.monotonic() < end
        time.sleep(0.1)
    settings = f"compute.engine=dask compute.address={json.loads(known.read_text())['address']}"
    monkeypatch.setattr(dask_cluster, "_PATIENCE", 3)
    done = command("score", "--data", "in/", "--output", "nobody/", "--set", settings, store=trained)
    assert (done.code, "the cluster has no worker, and none came within 3 s" in done.err) == (1, True), done.err


def test_embedded_parts_are_a_data_set_that_is_scored_and_trained_on(command, trained, small_frame) -> None:
    texts = trained.folder / "texts"
    texts.mkdir()
    for number in range(3):
        small_frame.drop(columns="embeddings")[number::3].to_csv(texts / f"cases_{number}.csv", index=False)
    done = command("embed", "--data", "texts/", "--parts", "vectors/", *IN_WORKERS, store=trained)
    assert done.code == 0, done.err
    assert "whole: _manifest.json lists 3 parts" in done.out
    into_parts = trained.step("embed").data.tags
    assert command("embed", "--data", "texts/", "--set", "output.embedded_dir=single", store=trained).code == 0
    into_a_file = trained.step("embed").data.tags
    for tag in ("pcc.encoder_digest", "pcc.encoder_backend"):
        assert into_parts[tag] == into_a_file[tag]
    (single,) = (trained.folder / "single").glob("*.parquet")
    pd.testing.assert_frame_equal(
        table(*parts_of(trained.folder / "vectors")).drop(columns="file", errors="ignore"),
        table(single).drop(columns="file", errors="ignore"),
    )
    for source in ("texts/", "vectors/"):
        done = command("score", "--data", source, "--output", f"{source[:-1]}.parquet", store=trained)
        assert done.code == 0, done.err
    # In the order of the inputs, though the names of parts have none.
    pd.testing.assert_frame_equal(
        *(pd.read_parquet(trained.folder / f"{name}.parquet").drop(columns=TIMES) for name in ("texts", "vectors"))
    )
    assert command("train", "--data", "vectors/", *FIXED, store=trained).code == 0
    for words, told in {
        ("--parts", "vectors"): "a folder, whose address ends in a slash",
        ("--parts", "more/", "--test-data", str(single)): "a folder of parts is one data set, and two are given",
        ("--shard", "1/2"): "compute.shard is for a data set in parts",
    }.items():
        assert told in command("embed", "--data", "texts/", *words, store=trained).err


def test_in_a_bucket_it_is_the_same(command, trained, bucket) -> None:
    done = command("score", "--data", "in/", "--output", f"{bucket}/one.parquet", store=trained)
    assert done.code == 0, done.err
    assert f"predictions in {bucket}/one.parquet" in done.out
    done = command("score", "--data", "in/", "--output", f"{bucket}/parts/", *IN_WORKERS, store=trained)
    assert done.code == 0, done.err
    store, here = open_store(f"{bucket}/parts"), trained.folder / "fetched"
    here.mkdir()
    for name in store.names():
        (here / name).parent.mkdir(exist_ok=True)
        store.download(name, here / name)
    open_store(bucket).download("one.parquet", here / "one")
    pd.testing.assert_frame_equal(table(here / "one"), table(trained.folder / "one.parquet"))
    whole(trained, "fetched")
    done = command("score", "--data", "in/", "--output", f"{bucket}/parts/", store=trained)
    assert "6 stood before" in done.out
    done = command("embed", "--data", "in/", "--parts", f"{bucket}/vectors/", store=trained)
    assert done.code == 0, done.err
    done = command("score", "--data", f"{bucket}/vectors/", "--output", f"{bucket}/again/", store=trained)
    assert done.code == 0, done.err
    assert f"179 rows of {bucket}/vectors/" in done.out
    done = command("score", "--data", f"{bucket}/one.parquet", "--output", f"{bucket}/one.parquet", store=trained)
    assert "would replace the file of data.path" in done.err


def test_a_full_disk_leaves_the_parts_that_stand(command, trained, disk) -> None:
    folder = disk("size=24k")
    done = command("score", "--data", "in/", "--output", f"{folder}/", store=trained)
    assert done.code == 1
    assert "No space left" in done.err
    stand = len(parts_of(folder))
    assert 0 < stand < FILES
    assert not list(folder.rglob(".partial-*"))
    subprocess.run(["mount", "-o", "remount,size=2m", str(folder)], check=True, timeout=20)
    done = command("score", "--data", "in/", "--output", f"{folder}/", store=trained)
    assert f"6 parts in {folder}/, {stand} stood before" in done.out
    pd.testing.assert_frame_equal(table(*parts_of(folder)), table(trained.folder / "one.parquet"))


def _once_parts_stand(folder: Path, number: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while len(parts_of(folder)) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def _many_files(trained: Store, number: int) -> str:
    folder = trained.folder / f"many_{number}"
    if not folder.exists():
        folder.mkdir()
        rows = pd.concat([pd.read_parquet(path) for path in sorted((trained.folder / "in").iterdir())])
        rows = rows[rows["text"] != " "].reset_index(drop=True)
        for place in range(number):
            part = rows.assign(case_id=[f"{place:03d}-{case}" for case in rows["case_id"]])
            part.to_parquet(folder / f"cases_{place:03d}.parquet", index=False)
    return folder.name


@pytest.mark.long
def test_a_worker_that_is_killed_has_its_file_done_again(trained, outside) -> None:
    source, folder = _many_files(trained, 24), trained.folder / "worker-killed"
    words = ("pcc", "score", "--data", f"{source}/", "--output", "worker-killed/", *IN_WORKERS)
    process = outside(trained.folder, *words)
    _once_parts_stand(folder, 3, process)
    workers = [
        child for child in psutil.Process(process.pid).children(recursive=True) if "loky" in str(child.cmdline())
    ]
    random.choice([each for each in workers if "popen_loky" in str(each.cmdline())]).kill()
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert "24 parts" in out
    assert table(*parts_of(folder))["case_id"].is_unique
    assert manifest_of(folder)["rows"] == 24 * (FILES * ROWS - 1)


@pytest.mark.long
@pytest.mark.parametrize("words", [(), IN_WORKERS, BY_DASK], ids=["this process", "two workers", "Dask"])
@pytest.mark.parametrize("after", [1, 9, 24], ids=["early", "in mid-work", "at the manifest"])
def test_killed_and_begun_again_each_row_stands_once(trained, outside, words, after, request) -> None:
    source, name = _many_files(trained, 24), re.sub(r"\W", "-", request.node.callspec.id)
    command = ("pcc", "score", "--data", f"{source}/", "--output", f"{name}/", *words)
    process = outside(trained.folder, *command)
    _once_parts_stand(trained.folder / name, after, process)
    time.sleep(random.uniform(0, 0.05))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    process = outside(trained.folder, *command)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    folder = trained.folder / name
    assert table(*parts_of(folder))["case_id"].is_unique
    assert manifest_of(folder)["rows"] == 24 * (FILES * ROWS - 1)
    assert len(parts_of(folder)) == 24


@pytest.mark.long
def test_a_cluster_loses_a_worker_then_its_scheduler_and_no_row(trained, outside, cluster) -> None:
    address, scheduler, workers = cluster
    source, folder = _many_files(trained, 48), trained.folder / "cluster"
    # Relative to this folder, which is not the workers'.
    words = ("pcc", "score", "--data", f"{source}/", "--output", "cluster/")
    settings = ("--set", f"compute.engine=dask compute.address={address}")
    process = outside(trained.folder, *words, *settings)
    _once_parts_stand(folder, 4, process)
    for child in psutil.Process(workers[0].pid).children(recursive=True):
        child.kill()
    _once_parts_stand(folder, 12, process)
    scheduler.kill()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert "the scheduler of Dask is gone" in err
    assert "Traceback" not in err
    assert 12 <= len(parts_of(folder)) < 48
    process = outside(trained.folder, *words)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert table(*parts_of(folder))["case_id"].is_unique
    assert manifest_of(folder)["rows"] == 48 * (FILES * ROWS - 1)


@pytest.mark.long
def test_a_worker_that_stands_still_holds_nobody_up_and_doubles_nothing_when_it_goes_on(
    trained, outside, cluster
) -> None:
    address, _, workers = cluster
    source, folder = _many_files(trained, 48), trained.folder / "slow"
    settings = ("--set", f"compute.engine=dask compute.address={address}")
    process = outside(trained.folder, "pcc", "score", "--data", f"{source}/", "--output", "slow/", *settings)
    _once_parts_stand(folder, 4, process)
    still = [workers[0].pid, *(child.pid for child in psutil.Process(workers[0].pid).children(recursive=True))]
    for number in still:
        os.kill(number, signal.SIGSTOP)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    before = {path: path.read_bytes() for path in parts_of(folder)}
    for number in still:
        os.kill(number, signal.SIGCONT)
    # It ends what it had under way, and by then the whole stands.
    time.sleep(10)
    assert {path: path.read_bytes() for path in parts_of(folder)} == before
    assert table(*parts_of(folder))["case_id"].is_unique
    assert manifest_of(folder)["rows"] == 48 * (FILES * ROWS - 1)


@pytest.mark.long
def test_a_run_whose_last_worker_goes_says_so_and_goes_on_with_the_next(
    cluster, start_dask_worker, monkeypatch, caplog
) -> None:
    address, _, workers = cluster
    monkeypatch.setattr(dask_cluster, "_LOOK", 0.5)
    inputs = ["x" * number for number in range(40)]
    results = DaskEngine(dask_cluster.DaskCluster(address, 1)).run(len, inputs)
    done = [next(results)]
    for worker in workers:
        children = psutil.Process(worker.pid).children(recursive=True)
        for each in (worker, *children):
            each.kill()
    said = f"the cluster at {address} has no worker any more, and this waits for the next one that comes"

    def send_one() -> None:
        end = time.monotonic() + 60
        while said not in caplog.text and time.monotonic() < end:
            time.sleep(0.1)
        start_dask_worker()

    helper = threading.Thread(target=send_one)
    helper.start()
    done += results
    helper.join()
    assert said in caplog.text
    assert sorted(done) == [(one, len(one)) for one in sorted(inputs)]


def test_every_part_says_what_it_is(trained, command) -> None:
    assert command("score", "--data", "in/", "--output", "told/", store=trained).code == 0
    for path in parts_of(trained.folder / "told"):
        known = json.loads(pq.read_metadata(path).metadata[b"pcc.part"])
        assert known["source"].startswith("in/cases_")
        assert known["rows"] == pq.read_metadata(path).num_rows
    for path, content, told in (
        ("part-" + "0" * 24 + ".parquet", b"", "is damaged"),
        ("_manifest.json", b"{", "this file was changed"),
    ):
        (trained.folder / "told" / path).write_bytes(content)
        done = command("score", "--data", "in/", "--output", "told/", store=trained)
        assert (done.code, "Traceback" in done.err) == (1, False)
        assert told in done.err
        (trained.folder / "told" / path).unlink()
