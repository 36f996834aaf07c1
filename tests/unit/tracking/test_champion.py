"""One champion, one previous, and a count without gaps, however many promote at once and whoever dies."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import mlflow
import pytest
from mlflow import MlflowClient

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel, log_trained_model
from pcc_pipeline.tracking.registry import champion as promotion
from pcc_pipeline.tracking.registry import locks
from pcc_pipeline.tracking.registry import versions as registry
from pcc_pipeline.tracking.registry.erased import erasure_of, mark_versions

NAME = "promoted"


@pytest.fixture
def versions(store: Path, trained: TrainedModel) -> list[str]:
    """Numbers of three registered versions."""
    numbers = []
    for place in range(3):
        with mlflow.start_run() as run:
            logged = log_trained_model(trained, None, {})
            tags = {"pcc.version": f"v20260101_00000{place}"}
            numbers.append(registry.register(logged.model_uri, NAME, run.info.run_id, tags))
    return numbers


def alias(name: str) -> str | None:
    found = registry.find_alias(NAME, name)
    return None if found is None else found.version


def lock_tags() -> list[str]:
    """Tags of the queue, and what earlier versions locked by."""
    client = MlflowClient()
    tags = [tag for tag in client.get_registered_model(NAME).tags if tag.startswith("pcc.turn")]
    return tags + [model.name for model in client.search_registered_models() if "promoting" in model.name]


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def holder(versions: list[str], *, stale: float = 60.0) -> Iterator[int]:
    """The id of a process that has the turn, and moves `champion` to version 3 when its file `go` appears."""
    go, ended = Path("go"), _context().Queue()
    process = _context().Process(target=_hold_the_turn, args=(mlflow.get_tracking_uri(), versions[2], stale, ended))
    process.start()
    try:
        until(lambda: any(tag.startswith("pcc.turn.") for tag in lock_tags()) and Path("held").exists())
        assert process.pid is not None
        yield process.pid
        if process.is_alive():
            go.touch()
            until(lambda: not ended.empty() or not process.is_alive())
            if not ended.empty():
                Path("outcome").write_text(ended.get())
    finally:
        process.kill()
        process.join()


def waiting(*calls: Callable[[], object]) -> Callable[[], list[object]]:
    """Start calls, each in a thread, and return when all of them wait for the turn that this process has.

    What is returned gives what they returned or raised, once they have ended.
    """
    results: list[object] = []

    def called(call: Callable[[], object]) -> None:
        try:
            results.append(call())
        except TrackingError as error:
            results.append(error)

    threads = [Thread(target=called, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    tickets = len(calls) + 1
    until(lambda: sum(tag.startswith("pcc.turn.") for tag in lock_tags()) == tickets)

    def ended() -> list[object]:
        for thread in threads:
            thread.join(300)
        return results

    return ended


def hasten(monkeypatch: pytest.MonkeyPatch, stale: float) -> None:
    monkeypatch.setattr(locks, "STALE_SECONDS", stale)
    monkeypatch.setattr(locks, "_BEAT_SECONDS", stale / 12)


def test_the_champion_before_becomes_previous(versions: list[str]) -> None:
    first = promotion.promote(NAME, versions[0], {"pcc.moved_by": "ada"})
    second = promotion.promote(NAME, versions[1], {"pcc.moved_by": "bob"})
    assert (first.number, first.before, first.after) == (1, None, versions[0])
    assert (second.number, second.before, second.after) == (2, versions[0], versions[1])
    assert (alias("champion"), alias("previous")) == (versions[1], versions[0])
    tags = [dict(MlflowClient().get_model_version(NAME, number).tags) for number in versions[:2]]
    assert [each["pcc.state"] for each in tags] == ["previous", "champion"]
    assert {each["pcc.moved_by"] for each in tags} == {"bob"}
    assert lock_tags() == []


def test_promoting_the_champion_again_is_no_move_and_keeps_the_way_back(versions: list[str]) -> None:
    moves = [promotion.promote(NAME, number, {}) for number in (versions[0], versions[1], versions[1])]
    assert [(move.number, move.is_none) for move in moves] == [(1, False), (2, False), (2, True)]
    assert (alias("champion"), alias("previous")) == (versions[1], versions[0])
    assert MlflowClient().get_model_version(NAME, versions[1]).tags["pcc.state"] == "champion"
    assert promotion.promote(NAME, versions[2], {}).number == 3


def test_a_move_that_was_cut_off_before_its_record_is_counted_by_the_next_try(versions: list[str]) -> None:
    promotion.promote(NAME, versions[0], {})
    MlflowClient().set_registered_model_alias(NAME, "champion", versions[1])
    assert promotion.promote(NAME, versions[1], {}).number == 2
    assert MlflowClient().get_model_version(NAME, versions[1]).tags["pcc.move"] == "2"


def test_nothing_moves_where_the_gates_compared_with_another_champion(versions: list[str]) -> None:
    promotion.promote(NAME, versions[0], {}, judged_against=None)
    assert promotion.promote(NAME, versions[0], {}, judged_against=None).is_none, "it is what was asked for"
    for judged_against, then in ((None, "there was none"), (versions[2], f"it was version {versions[2]}")):
        with pytest.raises(promotion.ChampionMovedError, match=f"is version {versions[0]} now, .* {then}; nothing"):
            promotion.promote(NAME, versions[1], {}, judged_against=judged_against)
    assert (alias("champion"), alias("previous")) == (versions[0], None)
    assert promotion.promote(NAME, versions[1], {}, judged_against=versions[0]).number == 2


def test_the_current_champion_tells_how_far_its_promotion_came(versions: list[str]) -> None:
    client = MlflowClient()

    def how_far() -> tuple[bool, bool]:
        champion = promotion.current_champion(NAME)
        assert champion is not None
        return champion.is_on_record, champion.is_published

    assert promotion.current_champion(NAME) is None
    client.set_registered_model_alias(NAME, "champion", versions[0])
    assert how_far() == (False, False)
    promotion.promote(NAME, versions[0], {})
    assert how_far() == (True, False)
    client.set_model_version_tag(NAME, versions[0], "pcc.published_move", promotion.last_move(NAME, versions[0]))
    assert how_far() == (True, True)
    promotion.promote(NAME, versions[1], {})
    assert how_far() == (True, False)
    promotion.roll_back(NAME, {})
    assert how_far() == (True, False), "what was published of it is not what is taken up now"


def test_a_rollback_and_a_second_one_swap_the_two(versions: list[str]) -> None:
    for number in versions[:2]:
        promotion.promote(NAME, number, {})
    assert promotion.roll_back(NAME, {}).after == versions[0]
    assert (alias("champion"), alias("previous")) == (versions[0], versions[1])
    assert promotion.roll_back(NAME, {}).number == 4
    assert (alias("champion"), alias("previous")) == (versions[1], versions[0])


def test_of_two_who_roll_back_the_same_champion_at_once_one_is_told_of_the_other(versions: list[str]) -> None:
    """The second would make the bad version champion again, and both would believe that it was left."""
    for number in versions[:2]:
        promotion.promote(NAME, number, {})
    with locks.turn(NAME, "held until both wait"):
        ended = waiting(lambda: promotion.roll_back(NAME, {}), lambda: promotion.roll_back(NAME, {}))
    (move,) = [each for each in ended() if isinstance(each, promotion.Move)]
    (refused,) = [each for each in ended() if isinstance(each, promotion.ChampionMovedError)]
    assert (move.number, move.before, move.after) == (3, versions[1], versions[0])
    assert (alias("champion"), alias("previous")) == (versions[0], versions[1])
    now, then = (f"champion {one}, previous {other}" for one, other in ((versions[0], versions[1]), versions[1::-1]))
    assert refused.what == (
        f"somebody promoted or rolled back meanwhile ({now} now; {then} when this rollback began); nothing was moved"
    )
    assert lock_tags() == []


def test_a_rollback_that_waited_behind_a_promotion_leaves_it_standing(versions: list[str]) -> None:
    for number in versions[:2]:
        promotion.promote(NAME, number, {})
    seen = promotion.standing(NAME)
    promotion.promote(NAME, versions[2], {})
    with pytest.raises(promotion.ChampionMovedError, match="meanwhile"):
        promotion.roll_back(NAME, {}, seen=seen)
    assert (alias("champion"), alias("previous")) == (versions[2], versions[1])
    assert promotion.roll_back(NAME, {}, seen=promotion.standing(NAME)).after == versions[1]


def test_what_may_not_be_champion_by_the_time_of_its_turn_moves_no_alias(versions: list[str]) -> None:
    def demand(version: str) -> None:
        if erasure_of(NAME, version):
            raise TrackingError("marked")

    for number in versions[:2]:
        promotion.promote(NAME, number, {}, demand=demand)
    mark_versions(NAME, dict.fromkeys((versions[0], versions[2]), "e-1: learned from 2 rows"), "")
    for move in (
        lambda: promotion.promote(NAME, versions[2], {}, demand=demand),
        lambda: promotion.roll_back(NAME, {}, demand=demand),
    ):
        with pytest.raises(TrackingError, match="marked"):
            move()
        assert (alias("champion"), alias("previous")) == (versions[1], versions[0])
    assert lock_tags() == []


def test_an_erasure_marks_in_the_turn_of_promotions_and_says_who_was_champion(versions: list[str]) -> None:
    """Else a promotion that just asked for the mark would make a version champion that was marked before the move."""
    promotion.promote(NAME, versions[0], {})
    with locks.turn(NAME, "a promotion that has asked for the mark"):
        ended = waiting(lambda: mark_versions(NAME, {versions[1]: "e-1"}, "", out_of_use="champion"))
        assert erasure_of(NAME, versions[1]) == ""
        MlflowClient().set_registered_model_alias(NAME, "champion", versions[1])
    assert ended() == [versions[1]]
    assert erasure_of(NAME, versions[1]) == "e-1"
    assert alias("champion") is None
    assert mark_versions("never registered", {"1": "e-1"}, "") is None
    assert lock_tags() == []


def test_with_nothing_to_go_back_to_a_rollback_says_so(versions: list[str]) -> None:
    promotion.promote(NAME, versions[0], {})
    with pytest.raises(TrackingError, match="there is no previous champion to go back to"):
        promotion.roll_back(NAME, {})
    assert alias("champion") == versions[0]
    assert lock_tags() == []


def test_a_version_that_is_not_there_changes_nothing(versions: list[str]) -> None:
    promotion.promote(NAME, versions[0], {})
    with pytest.raises(TrackingError, match="99"):
        promotion.promote(NAME, "99", {})
    assert (alias("champion"), alias("previous")) == (versions[0], None)
    assert lock_tags() == []


def test_the_turn_of_a_dead_process_is_taken_away(versions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is killed while it has the turn; the next promotion waits until it is known dead, then works."""
    with holder(versions) as number:
        os.kill(number, signal.SIGKILL)
    assert len(lock_tags()) >= 1
    hasten(monkeypatch, 3.0)
    assert promotion.promote(NAME, versions[0], {}).number == 1
    assert lock_tags() == []


@pytest.mark.long
def test_a_clock_that_is_an_hour_ahead_takes_no_turn_from_another(
    versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would promote at once, and one of the two moves would be lost."""
    real = time.time
    for offset in (3600.0, -3600.0):
        for name in ("go", "held", "outcome"):
            Path(name).unlink(missing_ok=True)
        with holder(versions):
            before = alias("champion")
            monkeypatch.setattr(time, "time", lambda offset=offset: real() + offset)
            waiting = Thread(target=promotion.promote, args=(NAME, versions[0], {}))
            waiting.start()
            waiting.join(5.0)
            monkeypatch.setattr(time, "time", real)
            assert waiting.is_alive()
            assert alias("champion") == before
        waiting.join(300)
        assert (alias("champion"), alias("previous")) == (versions[0], versions[2])
        assert Path("outcome").read_text() == "moved"
    assert lock_tags() == []


@pytest.mark.long
def test_a_turn_is_kept_for_as_long_as_it_is_needed(versions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, 6.0)
    with holder(versions, stale=6.0):
        waiting = Thread(target=promotion.promote, args=(NAME, versions[0], {}))
        waiting.start()
        waiting.join(15.0)  # more than twice as long as a dead one's is
        assert waiting.is_alive()
        assert alias("champion") is None
    waiting.join(300)
    assert alias("champion") == versions[0]
    assert Path("outcome").read_text() == "moved"


def test_a_process_that_stood_still_too_long_moves_nothing_when_it_goes_on(
    versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, 6.0)
    with holder(versions, stale=6.0) as number:
        os.kill(number, signal.SIGSTOP)
        assert promotion.promote(NAME, versions[0], {}).number == 1
        os.kill(number, signal.SIGCONT)
    assert "has lost its turn to another promotion" in Path("outcome").read_text()
    assert (alias("champion"), alias("previous")) == (versions[0], None)
    assert promotion.promote(NAME, versions[1], {}).number == 2
    assert lock_tags() == []


def test_who_waits_in_vain_is_told_whose_turn_it_is(versions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PROMOTION", replace(locks.PROMOTION, wait=0.5))
    with (
        locks.turn(NAME, "ada"),
        pytest.raises(TrackingError, match=r"another promotion has held the registry for minutes, of ada"),
    ):
        promotion.promote(NAME, versions[0], {})
    assert alias("champion") is None
    assert lock_tags() == []


def test_what_earlier_versions_locked_by_is_cleared_away(versions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient()
    for name in (f"{NAME}.promoting", f"{NAME}.promoting.stale-{'0' * 32}"):
        client.create_registered_model(name, tags={"pcc.lock": "true"})
    client.create_registered_model(f"{NAME}.promoting.of-a-user", tags={"pcc.lock": "true"})
    client.create_registered_model(f"other.{NAME}.promoting", tags={"pcc.lock": "true"})
    promotion.promote(NAME, versions[0], {})
    assert len(lock_tags()) == 4, "they may be of a process that lives"
    monkeypatch.setattr(locks, "server_now", lambda: time.time() + 61)
    promotion.promote(NAME, versions[1], {})
    assert sorted(lock_tags()) == [f"other.{NAME}.promoting", f"{NAME}.promoting.of-a-user"]


@pytest.mark.pipeline
@pytest.mark.long
def test_twenty_processes_at_once_leave_one_champion_and_no_gap(versions: list[str]) -> None:
    context = _context()
    results = context.Queue()
    address = mlflow.get_tracking_uri()
    processes = [context.Process(target=_promote, args=(address, versions[place % 3], results)) for place in range(20)]
    for process in processes:
        process.start()
    moves = sorted((results.get(timeout=500) for _ in processes), key=lambda move: move[0])
    for process in processes:
        process.join()
    moves = [(number, before, after) for number, before, after in moves if before != after]
    assert len(moves) > 2
    assert [number for number, _, _ in moves] == list(range(1, len(moves) + 1))
    # Each move starts from where the one before ended.
    assert [before for _, before, _ in moves] == [None, *(after for _, _, after in moves[:-1])]
    assert alias("champion") == moves[-1][2]
    assert alias("previous") not in (None, alias("champion"))
    assert lock_tags() == []


def _context() -> multiprocessing.context.ForkServerContext:
    # Forked from a server that has imported MLflow and opened nothing, so that twenty do not import it twenty times.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow", "pcc_pipeline.tracking.registry.champion"])
    return context


def _promote(address: str, version: str, results: multiprocessing.Queue[tuple[int, str | None, str]]) -> None:
    mlflow.set_tracking_uri(address)
    move = promotion.promote(NAME, version, {})
    results.put((move.number, move.before, move.after))


def _hold_the_turn(address: str, version: str, stale: float, ended: multiprocessing.Queue[str]) -> None:
    mlflow.set_tracking_uri(address)
    with pytest.MonkeyPatch.context() as patch:
        hasten(patch, stale)
        try:
            with locks.turn(NAME, "another process") as own:
                Path("held").touch()
                until(Path("go").exists)
                promotion._make_champion(own, NAME, version, alias("champion"), {})
            ended.put("moved")
        except TrackingError as error:
            ended.put(str(error))
