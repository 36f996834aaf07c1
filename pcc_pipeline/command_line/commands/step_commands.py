"""The steps as commands: `pcc train`, or `python entrypoints/train.py`, with the options that each of them uses."""

from __future__ import annotations

import importlib
import logging
import os
import shlex
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pcc_pipeline.command_line import options as of
from pcc_pipeline.command_line.options import LEFT_OUT, Option, unless_left_out
from pcc_pipeline.command_line.parser import Parser
from pcc_pipeline.command_line.running import (
    any_text_prints,
    exit_code,
    imports,
    log,
    quiet_if_ended,
    volume,
    volume_options,
)
from pcc_pipeline.errors import ConfigError, TrackingError

if TYPE_CHECKING:
    from pcc_pipeline.config import Params

EPILOG = """\
What is not given comes from the parameter file, which explains every option; without one, from the defaults. Any
option can be set by its dotted key:  --set "model.cv_folds=3 preprocessing.balance=false"
"""


class Outcome(Protocol):
    """What a step did."""

    @property
    def summary(self) -> list[str]:
        """The lines that tell of it."""


class StepCommand(NamedTuple):
    """A step as it is called.

    Attributes:
        entry: its entry point in MLproject, and the name of the script.
        name: its command of `pcc`.
        module: of pcc_pipeline.steps.
        options: those that it uses beside the parameter file and `--set`, which all have.
        runs_are_next: whether its summary ends with where to look at the runs; else it says itself what is next.
        moves_champion: whether it may, with these options.
    """

    entry: str
    name: str
    module: str
    description: str
    options: tuple[Option, ...]
    call: Callable[[Params, Namespace], Outcome]
    epilog: str = EPILOG
    runs_are_next: bool = True
    moves_champion: Callable[[Namespace], bool] = lambda _: False

    def add_options(self, parser: Parser) -> None:
        """Make the options those of this parser."""
        add_options(parser, self.options)
        for option in self._idle:
            option.hide_in(parser)

    @property
    def _idle(self) -> list[Option]:
        """Every entry point took these once: older command lines go on working, with a warning."""
        used = {option.name for option in self.options}
        return [option for option in _EVERYWHERE_ONCE if option.name not in used]

    def parser(self, program: str) -> Parser:
        """The parser of the script."""
        parser = Parser(prog=program, description=self.description, epilog=self.epilog)
        self.add_options(parser)
        return parser

    def run(self, options: Namespace) -> int:
        """Resolve the configuration, do the step, print its summary; the exit code."""
        done = 0

        def answer() -> str:
            nonlocal done
            with _noted():
                with imports():
                    params = self._params(options)
                    importlib.import_module(f"pcc_pipeline.steps.{self.module}")
                outcome = self.call(params, options)
            done = getattr(outcome, "exit_code", 0)
            return "\n".join(["", *outcome.summary, *(_next(outcome) if self.runs_are_next else [])])

        return exit_code(answer, debug=options.debug, unprinted=0) or done

    def _params(self, options: Namespace) -> Params:
        # Before the file is read, which may have something to say.
        log(volume(options) or "WARNING")
        for option in self._idle:
            if unless_left_out(getattr(options, option.name)) is not None:
                logging.getLogger(__name__).warning("%s does not use %s: it changes nothing", self.entry, option.name)
        return configuration(options, self.options, file_demanded=self.moves_champion(options))


def add_options(parser: Parser, own: Sequence[Option]) -> None:
    """The options of a command that goes by a configuration: its file, the command's own, and what all have."""
    of.PARAMS_FILE.add_to(parser)
    for option in own:
        option.add_to(parser)
    parser.add_argument("--set", action="append", default=[], metavar="…", help='"section.option=value …"; repeatable')
    volume_options(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def configuration(options: Namespace, used: Sequence[Option], *, file_demanded: bool = False) -> Params:
    """The configuration in force for a parsed command, whose level of logging is set.

    Args:
        used: the options that may stand for keys of it.
    """
    from pcc_pipeline.config.loading import chosen_file
    from pcc_pipeline.steps.parameters import NAMED_OPTIONS, resolve

    named = {option.name: unless_left_out(getattr(options, option.name)) for option in used}
    settings = [text for text in options.set if text != LEFT_OUT]
    if (level := volume(options)) is not None:
        settings.append(f"logging.level={level}")
    file = chosen_file(unless_left_out(options.params_file), demanded=file_demanded)
    params = resolve(
        file,
        {name: value for name, value in named.items() if name in NAMED_OPTIONS},
        settings,
        os.environ,
    )
    log(params.logging.level)
    if file is None:
        logging.getLogger(__name__).info("no params.yaml in this folder: the defaults of every option are used")
    return params


def main(entry: str, arguments: Sequence[str] | None = None) -> int:
    """Run an entry point as its script does."""
    step = next(step for step in STEPS if step.entry == entry)
    any_text_prints()
    return quiet_if_ended(lambda: step.run(step.parser(f"{entry}.py").parse_args(arguments)))


@contextmanager
def _noted() -> Iterator[None]:
    """A wrong option or configuration is noted on the run that `mlflow run` made, which no step has taken over yet."""
    try:
        yield
    except ConfigError as error:
        from pcc_pipeline.tracking.environment import run_to_take_over

        if (run_id := run_to_take_over()) is not None:
            from pcc_pipeline.tracking.runs import note_failure

            note_failure(run_id, error)
        raise


def _next(outcome: Outcome) -> list[str]:
    """What to do now: what the step itself says, and where its runs are."""
    lines = [*getattr(outcome, "next_steps", []), *_where_runs_are()]
    return [f"{'next' if not place else '':<10} {line}" for place, line in enumerate(lines)]


def _where_runs_are() -> list[str]:
    """MLflow's UI opens on a page without runs, so the address is that of the experiment's runs."""
    from pcc_pipeline.tracking.delivery.writer import brief_requests
    from pcc_pipeline.tracking.registry.versions import shown_address
    from pcc_pipeline.tracking.store.experiments import find, runs_page

    address = shown_address()
    try:
        with brief_requests():  # the summary must not wait for a server that went away
            experiment = find()
    except TrackingError:  # what the step did is done, and told; the address alone is left to tell
        experiment = None
    number = None if experiment is None else str(experiment.experiment_id)
    if address.startswith("http"):
        return [f"look at the runs: {runs_page(address, number) if number else address}"]
    lines = [f"look at the runs: mlflow ui --backend-store-uri {shlex.quote(address)}"]
    return [*lines, f"then open {runs_page('http://127.0.0.1:5000', number)}"] if number else lines


def _main(params: Params, options: Namespace) -> Outcome:
    from pcc_pipeline.steps import pipeline

    return pipeline.run(params, promotion=_promotes(options))


def _embed(params: Params, options: Namespace) -> Outcome:
    from pcc_pipeline.steps import embed

    return embed.run(params)


def _train(params: Params, options: Namespace) -> Outcome:
    from pcc_pipeline.steps import train

    return train.run(params)


def _evaluate(params: Params, options: Namespace) -> Outcome:
    from pcc_pipeline.steps import evaluate

    return evaluate.run(params, unless_left_out(options.model), unless_left_out(options.data))


def _score(params: Params, options: Namespace) -> Outcome:
    from pcc_pipeline.steps import score

    return score.run(params, unless_left_out(options.model), unless_left_out(options.output))


def _monitor(params: Params, options: Namespace) -> Outcome:
    from pcc_pipeline.steps import monitor

    return monitor.run(params, unless_left_out(options.model), unless_left_out(options.labels))


def _ab_test(params: Params, options: Namespace) -> Outcome:
    from pcc_pipeline.steps import ab_test

    if (accuracy := unless_left_out(options.plan)) is not None:
        return ab_test.plan(params, accuracy)
    return ab_test.run(params, unless_left_out(options.labels), unless_left_out(options.challenger))


def _retrain(params: Params, options: Namespace) -> Outcome:
    from pcc_pipeline.steps import retrain

    return retrain.run(params)


def _erase(params: Params, options: Namespace) -> Outcome:
    from pcc_pipeline.steps import erase

    subjects, cases, confirm = (unless_left_out(getattr(options, name)) for name in ("subjects", "cases", "confirm"))
    if (certificate := unless_left_out(options.verify)) is not None:
        of.exclusive("verify", subjects=subjects is not None, cases=cases is not None, confirm=confirm is not None)
        return erase.verify(params, certificate)
    dry_run = unless_left_out(options.dry_run)
    if dry_run is not None and of.switch(of.DRY_RUN, options):
        of.exclusive("dry_run", confirm=confirm is not None)
    elif dry_run is not None and confirm is None:
        raise ConfigError(
            "nothing is erased before its plan was looked at",
            where="option dry_run",
            fix="leave it out, look at the plan, and give the --confirm that it names",
        )
    force, reason = of.switch(of.FORCE, options), unless_left_out(options.reason) or ""
    return erase.run(params, subjects, cases, confirm=confirm, force=force, reason=reason)


def _promotes(options: Namespace) -> bool:
    return of.choice(of.PROMOTE, options) == "auto"


def _promote(params: Params, options: Namespace) -> Outcome:
    from pcc_pipeline.steps import promote

    reason = unless_left_out(options.reason) or ""
    rollback, force = of.switch(of.ROLLBACK, options), of.switch(of.FORCE, options)
    if rollback:
        of.exclusive("rollback", force=force, model=unless_left_out(options.model) is not None)
        return promote.roll_back(params, reason=reason)
    return promote.run(
        params, unless_left_out(options.model), reason=reason, force=force, data=unless_left_out(options.data)
    )


_ERASE_EPILOG = (
    """\
examples:
  pcc erase --subjects persons.txt                          what would be removed, replaced and left: nothing changes
  pcc erase --subjects persons.txt --confirm 3f9a0c21b7de   carry out the plan of that number
  pcc erase --cases cases.txt                               single cases instead of persons
  pcc erase --verify outputs/erasures/3f9a0c21b7de.certificate.json

One name stands in each line of persons.txt. If it is cut off, the same line goes on where it was. Your own input files
are never changed: the plan says what you must do about them.

"""
    + EPILOG
)
_EVERYWHERE_ONCE = (of.DATA, of.TEST_DATA, of.LABEL, of.SEARCH_METHOD, of.N_ITER, of.MODEL_TYPE)
_TRAINING = _EVERYWHERE_ONCE
# In the order in which people meet them.
STEPS = (
    StepCommand(
        "main",
        "run",
        "pipeline",
        "Embed, train and evaluate: from a file of labelled messages to an evaluated, registered model.",
        (*_TRAINING, of.PROMOTE),
        _main,
        moves_champion=_promotes,
    ),
    StepCommand(
        "embed",
        "embed",
        "embed",
        "Embed a file, or (--parts) many: the same rows with their sentence vectors, as Parquet.",
        (of.DATA, of.TEST_DATA, of.LABEL, of.PARTS, of.WORKERS, of.SHARD),
        _embed,
    ),
    StepCommand(
        "train",
        "train",
        "train",
        "Train a classifier, log it and register it with the alias challenger.",
        _TRAINING,
        _train,
    ),
    StepCommand(
        "evaluate",
        "evaluate",
        "evaluate",
        "Evaluate a logged model on the rows its training set aside, or (--test-data) on another labelled file.",
        (of.TRAINING_DATA, of.TEST_DATA, of.LABEL, of.model("challenger", *of.ADDRESSES)),
        _evaluate,
    ),
    StepCommand(
        "score",
        "score",
        "score",
        "Score messages (--data; they need no labels) with the champion, or (--model) with another registered model.",
        (
            *(of.MESSAGES, of.model("champion", *of.ADDRESSES), of.OUTPUT, of.CHALLENGER_SHARE, of.SHADOW),
            *(of.WORKERS, of.SHARD),
        ),
        _score,
    ),
    StepCommand(
        "monitor",
        "monitor",
        "monitor",
        "Watch the champion, or (--model) another version: whether messages have changed, and how right it is.",
        (
            *(of.WATCHED, of.LABEL, of.model("champion", *of.ADDRESSES), of.LABELS, of.WINDOWS, of.FAIL_ON, of.LOGS),
            of.WORKERS,
        ),
        _monitor,
    ),
    StepCommand(
        "ab_test",
        "ab-test",
        "ab_test",
        "Say which of two versions is better in the field, by the labels (--labels) that came back for scored files.",
        (of.SCORED, of.LABEL, of.LABELS, of.CHALLENGER, of.CHALLENGER_SHARE, of.PLAN),
        _ab_test,
    ),
    StepCommand(
        "promote",
        "promote",
        "promote",
        "Make a version the champion if it passes registry.gates; --rollback true takes the last move back.",
        (
            *(of.TRAINING_DATA, of.TEST_DATA, of.LABEL, of.model("challenger", *of.ADDRESSES[:2])),
            *(of.REASON, of.FORCE, of.ROLLBACK),
        ),
        _promote,
        moves_champion=lambda _: True,
    ),
    StepCommand(
        "retrain",
        "retrain",
        "retrain",
        "Train, evaluate, promote and publish, if there is data (--watch) that the champion has not learned.",
        (of.WATCH, of.SINCE, of.LABEL, of.SEARCH_METHOD, of.N_ITER, of.MODEL_TYPE),
        _retrain,
        moves_champion=lambda _: True,
    ),
    StepCommand(
        "erase",
        "erase",
        "erase",
        "Take all that is held of persons out of runs, files and models: a plan first, then (--confirm) all of it.",
        (of.SUBJECTS, of.CASES, of.CONFIRM, of.DRY_RUN, of.REASON, of.FORCE, of.VERIFY),
        _erase,
        epilog=_ERASE_EPILOG,
        runs_are_next=False,
        moves_champion=lambda options: unless_left_out(options.confirm) is not None,
    ),
)
