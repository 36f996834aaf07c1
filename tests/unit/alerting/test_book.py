"""The book of alerts: each is told once, again as its rule says, and its end too, whatever happens to the process."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pcc_pipeline.alerting.book import AlertBook, Letter
from pcc_pipeline.config.alert_settings import AlertRule
from pcc_pipeline.errors import StorageError

RULE = AlertRule(metric="quality/rejected_share", above=0.05, repeat_hours=24)
BAD, GOOD = [("week 1", {"quality/rejected_share": 0.2})], [("week 2", {"quality/rejected_share": 0.0})]


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 5, 8, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> AlertBook:
    return AlertBook(tmp_path / "alerts", clock)


class Mailbox(list[Letter]):
    """Takes letters, unless it is down."""

    down = False

    def __call__(self, letter: Letter) -> str | None:
        if self.down:
            return "it does not answer"
        self.append(letter)
        return None


def kinds(notices: list) -> list[str]:
    return [notice.kind for notice in notices]


def test_an_alert_is_told_once_again_after_its_hours_and_when_it_is_over(book: AlertBook, clock: Clock) -> None:
    assert kinds(book.judge("model", [RULE], BAD, ["team"], version="v1")) == ["raised"]
    assert kinds(book.judge("model", [RULE], BAD, ["team"])) == []
    clock.now += timedelta(hours=23)
    assert kinds(book.judge("model", [RULE], BAD, ["team"])) == []
    clock.now += timedelta(hours=1)
    assert kinds(book.judge("model", [RULE], BAD, ["team"])) == ["repeated"]
    assert kinds(book.judge("model", [RULE], [("late", {})], ["team"])) == []  # says nothing of it
    assert len(book.alerts) == 1
    assert kinds(book.judge("model", [RULE], GOOD, ["team"])) == ["recovered"]
    assert book.alerts == []
    assert kinds(book.judge("model", [RULE], BAD, ["team"])) == ["raised"]
    letters = [letter.title for letter in book.waiting]
    assert letters == [
        "warning: model v1: quality/rejected_share",
        "still warning: model: quality/rejected_share",
        "recovered: model: quality/rejected_share",
        "warning: model: quality/rejected_share",
    ]
    assert len({letter.id for letter in book.waiting}) == 4


def test_a_letter_says_what_is_wrong_where_that_is_known(book: AlertBook, clock: Clock) -> None:
    words = {("week 1", RULE.metric): "a fifth of the rows breaks the contract", ("week 2", RULE.metric): "not said"}
    book.judge("model", [RULE], BAD, ["team"], words=words)
    clock.now += timedelta(hours=24)
    book.judge("model", [RULE], BAD, ["team"], words=words)
    book.judge("model", [RULE], GOOD, ["team"], words=words)
    raised, repeated, recovered = (letter.body for letter in book.waiting)
    for body in (raised, repeated):
        assert body.startswith(
            "A fifth of the rows breaks the contract.\nquality/rejected_share is 0.2 in window week 1"
        )
    assert recovered.startswith("quality/rejected_share is 0 in window week 2")


def test_a_rule_without_hours_tells_once(book: AlertBook, clock: Clock) -> None:
    rule = RULE.model_copy(update={"repeat_hours": None})
    assert kinds(book.judge("model", [rule], BAD, [])) == ["raised"]
    clock.now += timedelta(days=30)
    assert kinds(book.judge("model", [rule], BAD, [])) == []


def test_a_rule_that_is_taken_out_ends_its_alert_and_other_models_keep_theirs(book: AlertBook) -> None:
    book.judge("model", [RULE], BAD, ["team"])
    book.judge("another", [RULE], BAD, ["team"])
    assert kinds(book.judge("model", [], BAD, ["team"])) == []
    assert [alert.subject for alert in book.alerts] == ["another"]


def test_the_promotion_of_another_version_ends_its_alerts_and_says_so(book: AlertBook, clock: Clock) -> None:
    """Those of other models, and that nobody looks, stand."""
    book.judge("model", [RULE], BAD, ["team"], version="v1")
    book.judge("another", [RULE], BAD, ["team"], version="v1")
    assert [alert.version for alert in book.alerts] == ["v1", "v1"]
    assert book.succession("model", "v1") == []
    assert kinds(book.succession("model", "v2")) == ["ended"]
    assert [alert.subject for alert in book.alerts] == ["another"]
    assert [one.words for one in book.ended] == ["v1 is no longer the champion, v2 is"]
    letter = book.waiting[-1]
    assert letter.title == "ended: model v1: quality/rejected_share"
    assert letter.body.startswith(
        "Ended: v1 is no longer the champion, v2 is. quality/rejected_share was 0.2 in window week 1;"
    )
    assert book.succession("model", "v2") == []
    clock.now += timedelta(days=8)
    book.judge("model", [RULE], GOOD, ["team"], version="v2")
    assert book.ended == []


def test_a_look_at_another_champion_ends_what_stood_against_the_former_and_begins_its_own(book: AlertBook) -> None:
    book.judge("model", [RULE], BAD, ["team"], version="v1")
    assert kinds(book.judge("model", [RULE], BAD, ["team"], version="v2")) == ["ended", "raised"]
    assert [alert.version for alert in book.alerts] == ["v2"]
    assert kinds(book.judge("model", [RULE], GOOD, ["team"], version="v3")) == ["ended"]


def test_an_alert_of_an_earlier_release_has_no_version_and_ends_with_a_promotion(
    book: AlertBook, tmp_path: Path
) -> None:
    book.judge("model", [RULE], BAD, ["team"])
    path = tmp_path / "alerts" / "book.json"
    document = json.loads(path.read_text())
    del document["ended"], next(iter(document["alerts"].values()))["version"]
    path.write_text(json.dumps(document))
    assert kinds(book.judge("model", [RULE], BAD, ["team"], version="v2")) == []  # it may be of this very version
    book = AlertBook(tmp_path / "alerts")
    book.judge("model", [RULE], [("late", {})], ["team"])
    assert kinds(book.succession("model", "v3")) == ["ended"]


def test_its_end_goes_to_who_heard_of_its_beginning(book: AlertBook) -> None:
    book.judge("model", [RULE], BAD, ["old"])
    book.judge("model", [RULE], GOOD, ["new"])
    assert [letter.to for letter in book.waiting] == ["old", "old"]


def test_a_receiver_that_is_down_gets_everything_later_and_holds_nobody_else_up(book: AlertBook) -> None:
    boxes = {"team": Mailbox(), "boss": Mailbox()}
    boxes["team"].down = True
    book.judge("model", [RULE], BAD, ["team", "boss"])
    book.event("promoted v2", "promoted", "v2 is champion", ["team", "boss"])
    for _ in range(5):
        delivery = book.send(lambda letter: boxes[letter.to](letter))
        assert delivery.failed == {"team": "it does not answer"}
        assert delivery.waiting == 2
    assert kinds(boxes["boss"]) == ["raised", "event"]
    boxes["team"].down = False
    assert book.send(lambda letter: boxes[letter.to](letter)).sent == 2
    assert [letter.title for letter in boxes["team"]] == [letter.title for letter in boxes["boss"]]
    assert all("may have reached you" not in letter.body for letter in boxes["team"])
    assert book.waiting == []


def test_an_event_is_told_once_for_its_key(book: AlertBook, clock: Clock) -> None:
    assert kinds(book.event("promoted v2", "promoted", "v2", ["team"])) == ["event"]
    assert book.event("promoted v2", "promoted", "v2", ["team"]) == []
    clock.now += timedelta(days=30)
    assert book.event("promoted v2", "promoted", "v2", ["team"]) == []


def test_that_nobody_looked_is_told_once_until_somebody_does(book: AlertBook, clock: Clock) -> None:
    assert book.absence("model", 36, ["team"]) == []  # waited for from now on
    clock.now += timedelta(hours=37)
    assert kinds(book.absence("model", 36, ["team"])) == ["raised"]
    assert [alert.rule for alert in book.alerts] == ["no monitoring for 36 hours"]
    assert book.absence("model", 36, ["team"]) == []
    assert kinds(book.judge("model", [RULE], GOOD, ["team"])) == ["recovered"]
    assert book.alerts == []
    assert book.absence("model", 36, ["team"]) == []
    clock.now += timedelta(hours=40)
    assert kinds(book.absence("model", 36, ["team"])) == ["raised"]
    assert kinds(book.absence("model", 48, ["team"])) == ["recovered"]  # which waits for longer


def test_what_nobody_took_for_a_week_is_given_up_with_a_word(
    book: AlertBook, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    book.judge("model", [RULE], BAD, ["team"])
    clock.now += timedelta(days=8)
    book.judge("model", [], [], ["team"])
    assert book.waiting == []
    assert "team was not told within a week: warning: model: quality/rejected_share" in caplog.text


def test_a_killed_sender_sends_again_under_the_same_id_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "alerts"
    book = AlertBook(folder)
    book.judge("model", [RULE], BAD, ["team"])
    (waiting,) = book.waiting

    def killed() -> None:
        AlertBook(folder).send(lambda letter: os.kill(os.getpid(), signal.SIGKILL))

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    box = Mailbox()
    assert book.send(box).sent == 1
    assert box[0].id == waiting.id
    assert box[0].body.endswith("(This may have reached you before.)")
    assert book.send(box).sent == 0


def test_two_at_once_tell_one_alert_once(tmp_path: Path) -> None:
    folder = tmp_path / "alerts"
    told = tmp_path / "told"

    def deliver(letter: Letter) -> None:
        with told.open("a") as file:
            file.write(f"{letter.id}\n")

    def both() -> None:
        book = AlertBook(folder)
        book.judge("model", [RULE], BAD, ["team"])
        book.event("promoted", "promoted", "v2", ["team"])
        book.send(deliver)

    processes = [multiprocessing.get_context("fork").Process(target=both) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6
    lines = told.read_text().split()
    assert len(lines) == len(set(lines)) == 2


def test_the_book_is_for_its_owner_alone(book: AlertBook, tmp_path: Path) -> None:
    book.judge("model", [RULE], BAD, ["team"])
    for path in [tmp_path / "alerts", *(tmp_path / "alerts").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("content", ["", "{", '{"format": 2}', '{"format": 1, "unknown": 1}'])
def test_a_damaged_book_is_an_error_that_names_it_and_stays(book: AlertBook, tmp_path: Path, content: str) -> None:
    book.judge("model", [RULE], BAD, ["team"])
    path = tmp_path / "alerts" / "book.json"
    path.write_text(content)
    with pytest.raises(StorageError, match="damaged, or of a newer version") as raised:
        book.judge("model", [RULE], GOOD, ["team"])
    assert raised.value.where == str(path)
    assert path.read_text() == content


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "alerts").write_text("a file")
    with pytest.raises(StorageError, match="cannot be written"):
        AlertBook(tmp_path / "alerts").judge("model", [RULE], BAD, ["team"])
