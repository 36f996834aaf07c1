"""What the entry points share: options, logging, signals, and errors turned into one message and an exit code.

Nothing heavy is imported before the options are parsed, so `--help` answers at once.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib
import io
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The value that MLproject passes for an option that `mlflow run -P` left out; MLflow cannot log an empty one.
NOT_GIVEN = "from-params-file"

_HELP = {
    "data": "labelled rows: .csv, .csv.gz, .parquet or .pkl, local or gs://…; `sample` is a generated set",
    "test_data": "labelled rows to test on, instead of a part of the data",
    "label": "the column that holds the labels",
    "search_method": "none, grid, random or optuna",
    "n_iter": "how many candidates random and optuna try",
    "model_type": "LogisticRegression, LinearSVC, RandomForest, HistGradientBoosting, MLP, SGD, Voting or Stacking",
}
_EPILOG = """\
What is not given comes from the parameter file, which explains every option. Any option can be set by its dotted
key:  --set "model.cv_folds=3 preprocessing.balance=false"
"""


def parser_of(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every entry point has."""
    parser = argparse.ArgumentParser(
        description=description, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params-file", default="params.yaml", metavar="FILE", help="default: params.yaml")
    for name, text in _HELP.items():
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, default=NOT_GIVEN, metavar="…", help=text)
    parser.add_argument("--set", action="append", default=[], metavar="…", help='"section.option=value …"; repeatable')
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def given(value: str) -> str | None:
    """An option's value, or None where it was left out."""
    return None if value == NOT_GIVEN else value


def switch(name: str, value: str) -> bool:
    """An option that is true or false; MLproject passes words, not flags."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if value.lower() not in words:
        from pcc_pipeline.errors import ConfigError

        raise ConfigError(f"{value!r} is neither true nor false", where=f"option {name}", fix="give true or false")
    return words[value.lower()]


def choice(name: str, value: str, *words: str) -> str:
    """An option that is one of some words."""
    if value not in words:
        from pcc_pipeline.errors import ConfigError

        raise ConfigError(f"{value!r} is not known", where=f"option {name}", fix=f"give {' or '.join(words)}")
    return value


def exclusive(name: str, **others: bool) -> None:
    """Refuse options that mean nothing beside another one."""
    if idle := [other for other, is_given in others.items() if is_given]:
        from pcc_pipeline.errors import ConfigError

        raise ConfigError(
            f"{' and '.join(idle)} mean nothing beside {name}", where=f"option {name}", fix="leave out one"
        )


def run(
    parser: argparse.ArgumentParser,
    name: str,
    step: Callable[[Any, Any, argparse.Namespace], Any],
    arguments: Sequence[str] | None = None,
) -> int:
    """Parse, resolve the configuration, call `step(module, params, options)`, print its summary; the exit code.

    Args:
        name: the module of pcc_pipeline.steps that `step` is given.
    """
    any_text_prints()
    options = parser.parse_args(arguments)

    def answer() -> str:
        with _noted():
            with imports():
                params = _params(options)
                module = importlib.import_module(f"pcc_pipeline.steps.{name}")
            outcome = step(module, params, options)
        return "\n".join(["", *outcome.summary, *_where_next()])

    return exit_code(answer, debug=options.debug, unprinted=0)


def any_text_prints() -> None:
    """A letter that the terminal's or file's encoding lacks is written as its number, here and in what MLflow prints.

    To be called before anything is printed: a summary must not fail once the work that it tells of is done.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def exit_code(answer: Callable[[], str], *, debug: bool, unprinted: int = 1) -> int:
    """Print what `answer()` returns; a `PccError` becomes one message and 1, a signal becomes 128 and its number.

    Args:
        debug: show an error's traceback instead.
        unprinted: the exit code where the text cannot be printed: 0 where it only tells of work that is done.
    """
    from pcc_pipeline import interruption
    from pcc_pipeline.errors import Interrupted, PccError

    interruption.install()
    # MLflow reports what it is used for unless this stands here before its import; other libraries go by the second.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # MLflow tells of every table it makes and draws a bar for every small file; a user may still ask for both.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Two lines with an address for each trial.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # How many rounds OpenMP's threads spin for more work: its own choice where threads are more than cores. With its
    # usual 300,000, gradient boosting beside other work takes over twice as long; alone it makes no difference.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if not debug:
        # It prints the traceback of a database's error, such as a full disk, which we report ourselves.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # In some containers joblib cannot tell physical from logical cores: nothing a user could mend.
    warnings.filterwarnings("ignore", message="Could not find the number of physical cores")
    try:
        with interruption.protected() as section:
            with section.lifted():
                text = answer()
            interruption.over()
    except PccError as error:
        interruption.over()
        if debug:
            raise
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        interruption.over()
        became = getattr(error, "__notes__", ["no run was open, and nothing is left half done"])
        with contextlib.suppress(OSError):  # the terminal may be gone: that is what SIGHUP says
            print("\n  ".join([f"\nended from outside ({error.number.name})", *became]), file=sys.stderr, flush=True)
        return 128 + error.number
    try:
        print(text, flush=True)
    except BrokenPipeError:  # who reads it, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # such as a full disk; what stays in the buffer would fail again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"\nthe answer cannot be written: {error.strerror}{text if not unprinted else ''}", file=sys.stderr)
        return unprinted
    return 0


@contextmanager
def imports() -> Iterator[None]:
    """What is made within stays to the end of the process, so the garbage collector need not look at it.

    It would run some hundred times while modules are imported, and once more at the end of the process, and free
    nothing of use: a fifth of the time of a short step.
    """
    atexit.register(gc.freeze)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        # Modules that are imported later, where they are first needed, would set it off every 700 objects.
        gc.set_threshold(10_000)


@contextmanager
def _noted() -> Iterator[None]:
    """A wrong option or configuration is noted on the run that `mlflow run` made, which no step has taken over yet."""
    from pcc_pipeline.errors import ConfigError

    try:
        yield
    except ConfigError as error:
        if os.environ.get("MLFLOW_RUN_ID"):
            from pcc_pipeline.tracking.runs import note_failure

            note_failure(error)
        raise


def _params(options: argparse.Namespace) -> Any:
    from pcc_pipeline.interruption import LogHandler
    from pcc_pipeline.steps.parameters import resolve

    named = {name: given(getattr(options, name)) for name in _HELP}
    settings = [text for text in options.set if text != NOT_GIVEN]
    # Before the file is read, which may have something to say.
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[LogHandler()],
    )
    params = resolve(Path(options.params_file), named, settings, os.environ)
    logging.getLogger("pcc_pipeline").setLevel(params.logging.level)
    return params


def _where_next() -> list[str]:
    from pcc_pipeline.tracking.store.versions import shown_address

    address = shown_address()
    shown = address if address.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(address)}"
    return [f"next       look at the runs: {shown}"]
