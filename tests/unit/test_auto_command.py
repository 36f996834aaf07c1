"""`auto_pipeline.py --every`: rounds go on whatever becomes of one, and a signal ends the wait between two."""

from __future__ import annotations

import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pcc_pipeline.command_line import options
from pcc_pipeline.command_line.commands import auto_command
from pcc_pipeline.command_line.running import exit_code
from pcc_pipeline.errors import ConfigError, Interrupted
from pcc_pipeline.steps.retraining.circle import CircleOutcome
from tests import process_state


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    with process_state.entry_point_undone():
        yield


def rounds(one: Callable[[], CircleOutcome], every: float) -> int:
    return exit_code(lambda: auto_command._again_and_again(one, every, debug=False), debug=False)


ROUNDS = """
import os, signal, sys
from pcc_pipeline import interruption
from pcc_pipeline.command_line.commands import auto_command
from pcc_pipeline.command_line.running import exit_code
from pcc_pipeline.steps.retraining.circle import CircleOutcome

done, sleep = [], interruption.sleep

def one():
    done.append(len(done))
    if len(done) == 1:
        raise KeyError("Dear Sir, my address is")
    if len(done) == 2:
        return CircleOutcome((), ("no server answers",), False)
    return CircleOutcome(("no need    it learned them",), (), False)

def sent(seconds):
    if len(done) >= 3:
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])
        seconds = 60
    sleep(seconds)

interruption.sleep = sent
sys.exit(exit_code(lambda: auto_command._again_and_again(one, 0.2, debug=False), debug=False))
"""


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.long)])
def test_a_round_that_fails_ends_nothing_and_a_signal_ends_the_wait(name: str, tmp_path: Path) -> None:
    """In a process of its own: a signal that came at a wrong time would end the tests' own."""
    (tmp_path / "rounds.py").write_text(ROUNDS)
    command = [sys.executable, str(tmp_path / "rounds.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert "error: KeyError at rounds.py:" in done.stderr
    assert "error: no server answers" in done.stderr
    assert "Dear Sir" not in done.stderr + done.stdout
    assert done.stdout.count("next round 20") >= 3
    assert "no need    it learned them" in done.stdout
    assert done.stdout.endswith(f"ended      by {name}, between two rounds\n")


def test_a_signal_in_a_round_ends_it_as_it_ends_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    def one() -> CircleOutcome:
        raise Interrupted(signal.SIGTERM)

    assert rounds(one, every=3600.0) == 128 + signal.SIGTERM
    assert "ended from outside (SIGTERM)" in capsys.readouterr().err


def test_a_length_of_time_is_a_number_and_a_unit() -> None:
    def seconds(text: str) -> float | None:
        return options.duration(options.EVERY, Namespace(every=text))

    assert [seconds(text) for text in ("45s", "90m", "24h", "7d", options.LEFT_OUT)] == [45, 5400, 86400, 604800, None]
    for text in ("24", "h", "0h", "-1h", "1.5h", "24 h"):
        with pytest.raises(ConfigError, match="is no length of time"):
            seconds(text)


def test_a_failure_decides_the_exit_code_before_an_alarm() -> None:
    assert [
        CircleOutcome((), errors, alarmed).exit_code
        for errors, alarmed in (((), False), ((), True), (("x",), False), (("x",), True))
    ] == [0, 3, 1, 1]
