"""Files are new by the day in their names, and one that somebody still writes is not read, here or in a bucket."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pcc_pipeline.config.schema import RetrainParams
from pcc_pipeline.steps.retraining.sources import new_enough, settled, unchanged
from pcc_pipeline.storage.objects import open_store, state_of


@contextmanager
def again_and_again(act: Callable[[], object]) -> Iterator[None]:
    """Does it every twentieth of a second, in a thread, while the block lasts."""
    ended = threading.Event()

    def going_on() -> None:
        while not ended.wait(0.05):
            act()

    thread = threading.Thread(target=going_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_the_day_is_that_of_the_name_or_else_of_the_last_change(tmp_path: Path) -> None:
    names = ["cases_20260131.csv", "cases_2026-02-02.csv", "cases_20260231.csv", "cases.csv"]
    files = [str(tmp_path / name) for name in names]
    for file in files:
        Path(file).write_text("x")
    os.utime(files[2], (0, 0))  # its name holds no day of the calendar, so it is of 1970
    champion = RetrainParams(since="champion")
    assert new_enough(files, champion, date(2026, 2, 1)) == [files[1], files[3]]
    assert new_enough(files, champion, None) == files
    assert new_enough(files, RetrainParams(), date(2026, 2, 1)) == files
    today = datetime.now(UTC).date()
    recent = f"cases_{today - timedelta(days=3):%Y%m%d}.csv"
    assert new_enough([*names[:2], recent], RetrainParams(window_days=7), None) == [recent]


def test_a_file_that_grows_is_not_settled_and_one_that_has_stopped_is(tmp_path: Path) -> None:
    whole, grows = tmp_path / "whole.csv", tmp_path / "grows.csv"
    whole.write_text("text,intent\n")

    def append() -> None:
        with grows.open("a") as file:
            file.write("one more,other\n")

    append()
    with again_and_again(append):
        assert settled([str(whole), str(grows)], 0.3) is None
    states = settled([str(whole), str(grows)], 0.3)
    assert states is not None
    assert unchanged([str(whole), str(grows)], states)
    append()
    assert not unchanged([str(whole), str(grows)], states)


def test_a_file_in_anothers_place_is_another_even_of_the_same_size_and_time(tmp_path: Path) -> None:
    path, other = tmp_path / "cases.csv", tmp_path / "other.csv"
    path.write_text("a")
    before = state_of(str(path))
    assert state_of(str(path)) == before
    other.write_text("b")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    other.replace(path)
    os.utime(path, ns=times)
    assert state_of(str(path)) != before


def test_an_object_that_is_written_again_is_not_settled(bucket: str, tmp_path: Path) -> None:
    store = open_store(bucket)
    (tmp_path / "part").write_text("text,intent\n")
    store.upload(tmp_path / "part", "cases_20260131.csv")
    file = f"{bucket}/cases_20260131.csv"
    with again_and_again(lambda: store.upload(tmp_path / "part", "cases_20260131.csv")):
        assert settled([file], 0.5) is None
    states = settled([file], 0.1)
    assert states is not None
    store.upload(tmp_path / "part", "cases_20260131.csv")  # the same bytes: it is another object all the same
    assert not unchanged([file], states)
