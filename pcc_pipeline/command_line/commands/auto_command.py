"""`pcc auto`, or `python entrypoints/auto_pipeline.py`: the circle of training and watching, now or by a schedule."""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from pcc_pipeline.command_line import options as of
from pcc_pipeline.command_line.commands.step_commands import add_options, configuration
from pcc_pipeline.command_line.options import unless_left_out
from pcc_pipeline.command_line.parser import Parser
from pcc_pipeline.command_line.running import any_text_prints, exit_code, imports, log, quiet_if_ended, volume

if TYPE_CHECKING:
    from pcc_pipeline.steps.retraining.circle import CircleOutcome

DESCRIPTION = "Train again where there is need, then watch the champion: once, or (--every) again and again."
EPILOG = """\
examples:
  %(prog)s --watch 'gs://bucket/cases_*.csv'                              once, as cron or a timer calls it
  %(prog)s --watch incoming/ --monitor scored/ --every 24h                until it is ended

A round is what `retrain` does, and then, of the files that --monitor names, what `monitor` does (with --labels, beside
what came back for them). `retrain` trains, evaluates, promotes and publishes if there is data that the champion has not
learned; else it says why not. Each has a run of its own in MLflow. At last it removes what is older than `retention` in
the parameter file allows, as `pcc models retention --delete` does.

Exit codes of one round: 0 it did what was to be done, or there was nothing; 1 a step failed, or a guard stopped the
training; 2 there is no such option; 3 something is wrong with the champion (--fail-on alert); 128 and its number for a
signal. With --every a round that fails is told as an alert and ends nothing. The first round begins at once, the others
at equal distances from it, however long they take; a time that passes during a round is left out. SIGTERM and Ctrl-C
end the wait between two rounds at once, with exit code 0, and a round as they end its steps: what is open is closed,
and what was not done is done by the next one.

What is not given comes from the parameter file, which explains every option.
"""
_OPTIONS = (
    *(of.WATCH, of.SINCE, of.LABEL, of.SEARCH_METHOD, of.N_ITER, of.MODEL_TYPE),
    *(of.MONITOR, of.LABELS, of.WINDOWS, of.FAIL_ON, of.EVERY),
)


class AutoCommand:
    """`pcc auto`."""

    def add_options(self, parser: Parser) -> None:
        """Make the options those of this parser."""
        add_options(parser, _OPTIONS)

    def run(self, options: Namespace) -> int:
        """Run the rounds, and print what each did; the exit code."""
        done = 0

        def answer() -> str:
            nonlocal done
            log(volume(options) or "WARNING")
            every = of.duration(of.EVERY, options)
            with imports():
                params = configuration(options, _OPTIONS, file_demanded=True)
                from pcc_pipeline.steps import retrain
                from pcc_pipeline.steps.retraining import circle
            retrain.demand_watch(params)

            def one() -> CircleOutcome:
                return circle.run(params, unless_left_out(options.monitor), unless_left_out(options.labels))

            if every is not None:
                return _again_and_again(one, every, debug=options.debug)
            outcome = one()
            _say_errors(outcome)
            done = outcome.exit_code
            return "\n".join(["", *outcome.lines])

        again = unless_left_out(getattr(options, of.EVERY.name)) is not None
        return exit_code(answer, debug=options.debug, unprinted=0, for_weeks=again) or done


def _again_and_again(one: Callable[[], CircleOutcome], every: float, *, debug: bool) -> str:
    """Rounds until a signal comes; what is printed last."""
    from pcc_pipeline import interruption
    from pcc_pipeline.errors import Interrupted
    from pcc_pipeline.tracking.runs import describe
    from pcc_pipeline.waiting import Schedule

    schedule = Schedule(every)
    while True:
        try:
            outcome = one()
        except Exception as error:  # it was told; the next round may go well
            if debug:
                raise
            _say(f"\nerror: {describe(error)}: this is a defect of the program; --debug shows more", sys.stderr)
        else:
            _say_errors(outcome)
            _say("\n".join(["", *outcome.lines]))
        try:
            _say(f"next round {datetime.fromtimestamp(schedule.next, UTC):%Y-%m-%d %H:%M:%S} UTC")
            schedule.wait()
        except Interrupted as ended:
            interruption.over()
            return f"ended      by {ended.number.name}, between two rounds"


def _say_errors(outcome: CircleOutcome) -> None:
    for error in outcome.errors:
        _say(f"\nerror: {error}", sys.stderr)


def _say(text: str, stream: TextIO | None = None) -> None:
    # Who reads it may be gone, or its disk full; the rounds go on.
    with contextlib.suppress(OSError):
        print(text, file=stream or sys.stdout, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as its script does."""
    any_text_prints()
    parser = Parser(prog="auto_pipeline.py", description=DESCRIPTION, epilog=EPILOG)
    command = AutoCommand()
    command.add_options(parser)
    return quiet_if_ended(lambda: command.run(parser.parse_args(arguments)))
