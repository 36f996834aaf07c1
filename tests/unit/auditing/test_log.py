"""The audit log: what was changed, taken out or cut off is found, and named; nothing that was written is lost."""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pcc_pipeline.auditing.chain import Anchor, Entry, parse
from pcc_pipeline.auditing.log import AuditLog
from pcc_pipeline.errors import StorageError


def entry(number: int) -> Entry:
    return Entry("anna", "promote", {"version": str(number)}, "done", login="anna@here", reason="a test")


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    """A log of 10 lines: its own first one, and 9 entries."""
    log = AuditLog(tmp_path / "audit")
    for number in range(2, 11):
        log.append([entry(number)])
    return log


def only_file(log: AuditLog) -> Path:
    (file,) = log.folder.glob("*.jsonl")
    return file


def lines_of(log: AuditLog) -> list[bytes]:
    return only_file(log).read_bytes().splitlines(keepends=True)


def rewritten(lines: list[bytes], start: int) -> list[bytes]:
    """All lines from one on made anew, so that the chain is whole again, as whoever knows the program can."""
    previous = json.loads(lines[start - 1])["hash"]
    made = lines[:start]
    for raw in lines[start:]:
        fields = json.loads(raw) | {"previous": previous}
        del fields["hash"]
        body = json.dumps(fields, separators=(",", ":")).encode()[:-1]
        previous = hashlib.sha256(body).hexdigest()
        made.append(body + b',"hash":"' + previous.encode() + b'"}\n')
    return made


def test_a_whole_log_has_no_fault_and_lies_there_for_its_owner_alone(log: AuditLog) -> None:
    verdict = log.verify()
    assert (verdict.faults, verdict.notes, verdict.lines) == ([], [], 10)
    assert verdict.head == log.head()
    assert {stat.S_IMODE(path.stat().st_mode) for path in log.folder.iterdir()} == {0o600}
    first, second = (json.loads(line) for line in lines_of(log)[:2])
    assert second["previous"] == first["hash"]
    assert (second["who"], second["login"], second["on"]) == ("anna", "anna@here", {"version": "2"})


@pytest.mark.parametrize("line", [1, 2, 6, 10])
def test_each_changed_byte_is_found_in_its_line(log: AuditLog, line: int) -> None:
    content = lines_of(log)
    for place in range(0, len(content[line - 1]) - 1, 23):
        changed = bytearray(content[line - 1])
        changed[place] ^= 1
        if changed[place] == ord("\n"):
            continue
        only_file(log).write_bytes(b"".join([*content[: line - 1], bytes(changed), *content[line:]]))
        faults = log.verify().faults
        assert len(faults) >= 1, place
        assert any(f"line {line} was" in fault or f", line {line}" in fault for fault in faults), faults


def altered(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[AuditLog], None]:
    return lambda log: void(only_file(log).write_bytes(b"".join(change(lines_of(log)))))


def void(_: object) -> None: ...


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (lambda lines: lines[:4] + lines[5:], ["line 5 was taken out"]),
        (lambda lines: lines[3:], ["lines 1 to 3 were taken out"]),
        (lambda lines: lines[:2] + lines[4:6] + lines[8:], ["lines 3 to 4 were", "lines 7 to 8 were taken out"]),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], ["line 5 was moved: it stands behind line 6"]),
        (lambda lines: [*lines[:4], lines[2], *lines[4:]], ["there is a second line 3"]),
        (lambda lines: [*lines[:4], b"{}\n", *lines[4:]], ["line 5 is no line of this log: it was put in"]),
        (lambda lines: [*lines[:4], b"?\n", *lines[5:]], ["line 5 was changed beyond reading"]),
        (lambda lines: [*lines[:9], lines[9][:40] + b"\n"], ["line 10 was changed beyond reading"]),
        (lambda lines: [*lines[:4], rewritten([*lines[:4], lines[4].replace(b"anna", b"nora")], 4)[4], *lines[5:]],
         ["line 5 was made anew"]),
    ],
)  # fmt: skip
def test_what_was_done_to_lines_is_said_exactly(
    log: AuditLog, change: Callable[[list[bytes]], list[bytes]], faults: list[str]
) -> None:
    altered(change)(log)
    found = log.verify().faults
    assert len(found) == len(faults), found
    assert all(fault in each for fault, each in zip(faults, found, strict=True)), found


def test_only_an_anchor_tells_of_a_tail_that_was_cut_off(log: AuditLog) -> None:
    head = log.head()
    assert head is not None
    anchors = [Anchor(head.seq, head.hash, "run abc")]
    assert log.verify(anchors).anchored == 10
    altered(lambda lines: lines[:7])(log)
    assert log.verify().faults == []
    assert log.verify(anchors).faults == ["lines 8 to 10, and perhaps more, were cut off: run abc holds line 10"]


def test_only_an_anchor_tells_of_a_log_that_was_made_anew(log: AuditLog) -> None:
    kept = [parse(line.rstrip()) for line in lines_of(log)]
    anchors = [
        Anchor(line.seq, line.hash, f"run {line.seq}") for line in kept if line is not None and line.seq % 3 == 0
    ]
    altered(lambda lines: rewritten([each.replace(b'"version":"5"', b'"version":"7"') for each in lines], 4))(log)
    assert log.verify().faults == []
    first, second = log.verify(anchors).faults
    assert first == "of lines 4 to 6 some were written anew: line 6 is not the one that run 6 holds"
    assert second.endswith("line 9 is not the one that run 9 holds")


def test_a_line_that_a_crash_left_half_written_is_no_fault_and_the_next_one_says_so(log: AuditLog) -> None:
    altered(lambda lines: [*lines[:9], lines[9][:50]])(log)
    verdict = log.verify()
    assert (verdict.faults, verdict.lines) == ([], 9)
    assert "half written" in verdict.notes[0]
    log.append([entry(11)])
    verdict = log.verify()
    assert (verdict.faults, verdict.lines) == ([], 11)
    assert "half written by a crash or a full disk, before line 10" in verdict.notes[0]
    # It is not told so of a line that somebody halved later.
    altered(lambda lines: [*lines[:4], lines[4][:50] + b"\n", *lines[5:]])(log)
    assert ["line 5 was changed beyond reading" in fault for fault in log.verify().faults] == [True]


def test_a_log_goes_on_behind_a_line_that_was_destroyed_and_its_fault_stays(log: AuditLog) -> None:
    altered(lambda lines: [*lines[:9], b"?\n"])(log)
    log.append([entry(11)])
    (fault,) = log.verify().faults
    assert "line 10 was changed beyond reading" in fault


def test_the_chain_goes_over_files(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", rotate_bytes=1200)
    for number in range(20):
        log.append([entry(number)])
    files = sorted(log.folder.glob("*.jsonl"))
    assert len(files) > 3
    assert log.verify().faults == []
    assert {json.loads(file.read_bytes().splitlines()[0])["what"] for file in files} == {"log begun", "log continued"}
    files[1].unlink()
    (fault,) = log.verify().faults
    assert "were taken out" in fault


@pytest.mark.parametrize("length", [0, 30, 600_000])
def test_a_file_that_was_begun_by_a_killed_process_is_gone_on_with(tmp_path: Path, length: int) -> None:
    log = AuditLog(tmp_path / "audit")
    log.append([entry(2)])
    first = lines_of(log)[0]
    (log.folder / "audit-0000000003.jsonl").write_bytes(first[:30].ljust(length)[:length])
    log.append([entry(3)])
    assert log.verify().faults == []
    assert len(log.verify().notes) == bool(length)
    before = log.head()
    assert before is not None
    log.append([entry(4)])
    after = log.head()
    assert after is not None
    assert (after.log, after.log != "") == (before.log, True)


def _write(folder: Path, number: int, times: int) -> None:
    log = AuditLog(folder, rotate_bytes=4000)
    for _ in range(times):
        log.append([entry(number)])


def test_processes_that_write_at_once_share_one_chain(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write, args=(folder, number, 40)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    verdict = AuditLog(folder).verify()
    assert verdict.faults == []
    written = [
        line.on.get("version") for line in AuditLog(folder).lines() if line is not None and line.what == "promote"
    ]
    assert [written.count(str(number)) for number in range(3)] == [40, 40, 40]


_ENDLESS = """
import sys
from pathlib import Path
from pcc_pipeline.auditing.chain import Entry
from pcc_pipeline.auditing.log import AuditLog
log, number = AuditLog(Path(sys.argv[1]), rotate_bytes=3000), 0
while True:
    log.append([Entry("anna", "promote", {"version": number}, "done")])
    print(number, flush=True)
    number += 1
"""


def test_no_line_is_lost_by_sigkill(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    said: list[int] = []
    for seconds in (0.05, 0.15, 0.1):
        process = subprocess.Popen(
            [sys.executable, "-c", _ENDLESS, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        process.wait(10)
        process.stdout.close()
        said.append(1 + rest.count("\n"))
    verdict = AuditLog(folder).verify()
    assert verdict.faults == []
    written = sum(1 for line in AuditLog(folder).lines() if line is not None and line.what == "promote")
    assert sum(said) <= written <= sum(said) + 3


def test_a_full_disk_leaves_no_half_line_and_the_log_goes_on_when_there_is_room(disk: Callable[[str], Path]) -> None:
    folder = disk("size=32k")
    log = AuditLog(folder / "audit")
    with pytest.raises(StorageError, match="the audit log cannot be written: No space left on device"):
        _write(folder / "audit", 1, 1000)
    head = log.head()
    assert head is not None
    assert (log.verify().faults, log.verify().notes) == ([], [])
    subprocess.run(["mount", "-o", "remount,size=128k", str(folder)], check=True)
    log.append([entry(0)])
    verdict = log.verify([Anchor(head.seq, head.hash, "before")])
    assert (verdict.faults, verdict.anchored) == ([], head.seq)
    assert [line.on for line in log.lines() if line is not None][-1] == {"version": "0"}


def test_what_cannot_be_written_is_an_error_that_says_where(disk: Callable[[str], Path], tmp_path: Path) -> None:
    for folder in (disk("ro,size=64k") / "audit", tmp_path / "file" / "audit"):
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="the audit log cannot be written") as error:
            AuditLog(folder).append([entry(1)])
        assert (error.value.where, "audit.folder" in error.value.fix) == (str(folder), True)


def test_who_holds_the_log_for_long_does_not_hold_up_the_work(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcc_pipeline.auditing.log._PATIENCE_SECONDS", 0.05)
    with (log.folder / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another process holds it"):
            log.append([entry(1)])
    log.append([entry(1)])


def test_no_text_makes_a_line_that_the_next_one_cannot_follow(log: AuditLog) -> None:
    """An outcome is an error's own words, which may list thousands of files; a letter is up to twelve bytes."""
    texts = dict.fromkeys(("who", "what", "outcome", "login", "reason"), "\N{ABACUS}" * 50_000)
    log.append([Entry(on={"files": ["x" * 32_000]}, **texts)])
    log.append([entry(12)])
    verdict = log.verify()
    assert (verdict.faults, verdict.notes, verdict.lines) == ([], [], 12)
    assert len(lines_of(log)[-2]) < 128 * 1024


@pytest.mark.parametrize("half", [False, True])
def test_a_log_goes_on_behind_a_line_of_any_length(log: AuditLog, half: bool) -> None:
    """As an earlier release wrote them."""

    def lengthened(lines: list[bytes]) -> list[bytes]:
        longer = json.dumps(json.loads(lines[9]) | {"outcome": "x" * 700_000}).encode()
        *before, last = rewritten([*lines[:9], longer], 9)
        return [*before, last[:600_000] if half else last]

    altered(lengthened)(log)
    log.append([entry(11)])
    verdict = log.verify()
    assert (verdict.faults, len(verdict.notes), verdict.lines) == ([], half, 11)


def test_a_line_holds_ids_and_digests_whatever_it_is_given(log: AuditLog) -> None:
    log.append([Entry("anna\nbert\ud800", "export", {"long": "x" * 100_000}, "done", reason="y" * 5000)])
    last = json.loads(lines_of(log)[-1])
    assert (last["on"].keys(), len(last["reason"])) == ({"sha256", "bytes"}, 1000)
    assert log.verify().faults == []
    assert only_file(log).stat().st_size < 20_000
