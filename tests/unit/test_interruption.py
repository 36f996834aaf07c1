"""Signals raise where that harms nothing, once, and are never lost."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcc_pipeline import interruption
from pcc_pipeline.errors import Interrupted
from pcc_pipeline.interruption import SIGNALS, allowed, check, handled, install, protected, sleep, temporary_folder

pytestmark = pytest.mark.signals


@pytest.fixture
def installed() -> Iterator[None]:
    """Our handlers, until the end of the test."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}  # ignored, they would stay so
    install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption._state = interruption._State()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("number", SIGNALS)
def test_in_ordinary_code_a_signal_raises_at_once_and_says_which(number: signal.Signals) -> None:
    with pytest.raises(Interrupted) as caught:
        signal.raise_signal(number)
    assert caught.value.number == number


@pytest.mark.usefixtures("installed")
def test_in_a_protected_section_it_waits_for_the_end_of_the_outermost() -> None:
    done = []

    def work() -> None:
        with protected():
            with protected():
                signal.raise_signal(signal.SIGTERM)
                done.append("inner")
            done.append("outer")
        done.append("after")

    with pytest.raises(Interrupted):
        work()
    assert done == ["inner", "outer"]


@pytest.mark.usefixtures("installed")
def test_an_error_of_the_section_goes_its_way_and_the_next_check_raises() -> None:
    def work() -> None:
        with protected():
            signal.raise_signal(signal.SIGTERM)
            raise OSError("the error")

    with pytest.raises(OSError, match="the error"):
        work()
    with pytest.raises(Interrupted):
        check()


@pytest.mark.usefixtures("installed")
def test_a_long_wait_within_a_protected_section_is_cut_short() -> None:
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    began = time.monotonic()

    def wait() -> None:
        with protected():
            timer.start()
            sleep(60)

    with pytest.raises(Interrupted):
        wait()
    assert time.monotonic() - began < 30
    with pytest.raises(Interrupted), protected(), allowed():
        pytest.fail("a signal that came before is raised on the way in")


@pytest.mark.usefixtures("installed")
def test_on_the_way_out_no_further_signal_raises() -> None:
    done = []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            with protected():
                signal.raise_signal(signal.SIGHUP)
            check()
            done.append("closed")

    with pytest.raises(Interrupted) as caught:
        work()
    assert done == ["closed"]
    assert caught.value.number == signal.SIGINT


@pytest.mark.usefixtures("installed")
def test_a_signal_that_raised_where_python_ignores_it_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: ignored.append(unraisable.exc_type))
    Dying()
    assert ignored == [Interrupted]
    with pytest.raises(Interrupted), protected():
        pass


@pytest.mark.usefixtures("installed")
def test_once_the_work_is_over_a_signal_changes_nothing() -> None:
    interruption.over()
    signal.raise_signal(signal.SIGTERM)
    check()


@pytest.mark.usefixtures("installed")
def test_other_threads_neither_raise_nor_protect() -> None:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            with protected() as section:
                entered.set()
                released.wait(30)
            with section.lifted(), allowed():
                check()
        except BaseException as error:  # any would be wrong
            raised.append(error)

    entered, released = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    entered.wait(30)
    with pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGTERM)
    released.set()
    thread.join()
    assert not raised


@pytest.mark.usefixtures("installed")
def test_a_temporary_folder_goes_also_when_the_signal_comes_while_it_is_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    remove = os.unlink

    def removing(*arguments: object, **options: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        remove(*arguments, **options)  # type: ignore[arg-type]

    def work() -> None:
        with temporary_folder("pcc-folds-") as folder:
            (folder / "fold.npy").write_text("x")
            monkeypatch.setattr(os, "unlink", removing)

    with pytest.raises(Interrupted):
        work()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("installed")
def test_a_temporary_folder_protects_neither_its_block_nor_lifts_what_is_around_it() -> None:
    with pytest.raises(Interrupted), temporary_folder("pcc-"):
        signal.raise_signal(signal.SIGTERM)
    install()
    done = []

    def work() -> None:
        with protected():
            with temporary_folder("pcc-"):
                signal.raise_signal(signal.SIGTERM)
                done.append("whole")
            done.append("also after it")

    with pytest.raises(Interrupted):
        work()
    assert done == ["whole", "also after it"]


@pytest.mark.usefixtures("installed")
def test_a_signal_while_a_line_is_logged_leaves_the_log_free_for_others() -> None:
    """Raised within, it would leave the handler's lock to a thread that waits for the others."""
    handler = interruption.LogHandler()
    acquire, signals = handler.acquire, [signal.SIGTERM]

    def acquired() -> None:
        acquire()
        while signals:
            signal.raise_signal(signals.pop())

    handler.acquire = acquired  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        handler.handle(logging.makeLogRecord({"msg": "a"}))
    handler.acquire = acquire  # type: ignore[method-assign]
    free = []
    assert handler.lock is not None
    thread = threading.Thread(target=lambda: free.append(handler.lock.acquire(timeout=5)))  # type: ignore[union-attr]
    thread.start()
    thread.join()
    assert free == [True]


def test_in_a_program_of_others_ctrl_c_alone_is_handled_and_given_back() -> None:
    at_start = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def work() -> None:
        with handled():
            assert signal.getsignal(signal.SIGINT) == interruption._receive
            assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
            with handled(), protected():
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
    signal.signal(signal.SIGINT, at_start)


PROGRAM = """
import signal, sys, time
from pcc_pipeline import interruption
from pcc_pipeline.errors import Interrupted
interruption.install()
try:
    print("ready", flush=True)
    time.sleep(60)
except Interrupted:
    print("closing", flush=True)
    time.sleep(60)
"""


def started(*before: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    before = ("env", "--default-signal=INT", *before)
    process = subprocess.Popen([*before, sys.executable, "-c", PROGRAM], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_the_third_signal_of_one_kind_gives_up_and_the_second_says_so() -> None:
    """One Ctrl-C under `mlflow run` is a SIGINT and a SIGTERM, so those of two kinds are not added up."""
    with started() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "closing\n"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "\n"
        assert "once more gives that up" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the next run in this experiment closes as KILLED what is still open" in said


def test_a_hang_up_that_is_to_be_ignored_stays_ignored() -> None:
    with started("nohup") as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.readline() == "closing\n"
        process.kill()


LOST = """
import os, signal
from pcc_pipeline import interruption
from pcc_pipeline.errors import Interrupted

class Ends:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000): pass

class Fails:
    def __del__(self):
        raise ValueError("of somebody else")

interruption.install()
Ends()
Fails()
try:
    interruption.check()
except Interrupted as error:
    print(error.number.name)
"""


def test_a_signal_within_a_del_is_no_traceback_and_is_raised_by_the_next_check() -> None:
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, timeout=60)
    assert done.stdout == "SIGTERM\n"
    # What else goes wrong there is shown as ever.
    assert "of somebody else" in done.stderr
    assert "Interrupted" not in done.stderr


@pytest.mark.parametrize("command", ["step_commands.main('train', [])", "manage_commands.main([])", "pcc.main([])"])
def test_ctrl_c_before_a_command_has_begun_is_no_traceback(command: str) -> None:
    early = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from pcc_pipeline.command_line import parser, pcc
from pcc_pipeline.command_line.commands import manage_commands, step_commands
made = parser.Parser.__init__
def ended(self, **settings):
    os.kill(os.getpid(), signal.SIGINT)
    made(self, **settings)
parser.Parser.__init__ = ended
sys.exit({command})
"""
    done = subprocess.run([sys.executable, "-c", early], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "\nended from outside (SIGINT)\n  nothing was begun\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_before_the_first_work_of_a_command_is_called_by_its_name(number: signal.Signals) -> None:
    """It handles signals by then, and has begun nothing."""
    early = f"""
import os, signal
from pcc_pipeline import interruption
from pcc_pipeline.command_line import running
install = interruption.install
def ended():
    install()
    os.kill(os.getpid(), {int(number)})
interruption.install = ended
running.leave(running.quiet_if_ended(lambda: running.exit_code(str, debug=False)))
"""
    done = subprocess.run([sys.executable, "-c", early], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr == f"\nended from outside ({number.name})\n  nothing was begun\n"


@pytest.mark.parametrize("sent", ["", "SIGINT", "SIGTERM", "SIGKILL"])
def test_what_libraries_leave_among_temporary_files_goes_with_the_process(tmp_path: Path, sent: str) -> None:
    """A signal that comes once MLflow has made a folder, and before it has noted that it is to go; or a failure."""
    there = tmp_path / "there"
    there.mkdir()
    code = f"""
import os, signal, tempfile
from pcc_pipeline.command_line import running
from pcc_pipeline.errors import DataError

def answer():
    open(os.path.join(tempfile.mkdtemp(), "model.npz"), "w").write("numbers")
    if {sent!r}:
        os.kill(os.getpid(), getattr(signal, {sent!r} or "SIGINT"))
        signal.pause()
    raise DataError("no such file")

running.leave(running.exit_code(answer, debug=False))
"""
    again = "from pcc_pipeline.files import scratch_folder\nwith scratch_folder():\n    pass\n"
    environment = os.environ | {"TMPDIR": str(there)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, capture_output=True, text=True)
    assert ended.returncode == {"": 1, "SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9}[sent], ended.stderr
    if sent == "SIGKILL":
        assert [path.name for path in there.rglob("model.npz")] == ["model.npz"]
        subprocess.run([sys.executable, "-c", again], env=environment, timeout=60, check=True)
    assert list(there.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "stays"), [(143, "queue.Queue().get"), (1, "lambda: time.sleep(0.6) or print('done')")]
)
def test_a_command_that_was_ended_waits_for_no_thread_and_any_other_does(code: int, stays: str) -> None:
    program = f"""
import atexit, queue, threading, time
atexit.register(print, "bye")
from pcc_pipeline.command_line import running
threading.Thread(target={stays}).start()
running.leave({code})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, "done\nbye\n" if code == 1 else "bye\n")
