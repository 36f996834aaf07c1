"""From a parsed command to its exit code: logging, signals, and errors turned into one message.

Nothing heavy is imported before the options are parsed, so `--help` answers at once.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import logging
import os
import signal
import sys
import threading
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from pcc_pipeline.command_line.parser import Parser

_LEAVES_WITHIN = 5.0


def volume_options(parser: Parser) -> None:
    """How much a command logs."""
    parser.add_argument("-v", "--verbose", action="store_const", dest="volume", const="DEBUG", help="log everything")
    parser.add_argument("-q", "--quiet", action="store_const", dest="volume", const="ERROR", help="log errors only")


def volume(options: Namespace) -> str | None:
    """The level that -v or -q stands for; None where neither is given."""
    level: str | None = options.volume
    return level


def log(level: str) -> None:
    """Log this package's messages of a level and above to standard error, and the warnings of others."""
    from pcc_pipeline.interruption import LogHandler

    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[LogHandler()],
    )
    logging.getLogger("pcc_pipeline").setLevel(level)


def any_text_prints() -> None:
    """A letter that the terminal's or file's encoding lacks is written as its number, here and in what MLflow prints.

    To be called before anything is printed: a summary must not fail once the work that it tells of is done.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def quiet_if_ended(command: Callable[[], int]) -> int:
    """The exit code of a command; a Ctrl-C before the command handles signals itself is no traceback either.

    Nor is a signal of any kind between the moment in which it begins to handle them and its first work.
    """
    try:
        return command()
    except KeyboardInterrupt as error:
        number: signal.Signals = getattr(error, "number", signal.SIGINT)
        print(f"\nended from outside ({number.name})\n  nothing was begun", file=sys.stderr)
        return 128 + number


def exit_code(answer: Callable[[], str], *, debug: bool, unprinted: int = 1, for_weeks: bool = False) -> int:
    """Print what `answer()` returns; a `PccError` becomes one message and 1, a signal becomes 128 and its number.

    Args:
        debug: show an error's traceback instead.
        unprinted: the exit code where the text cannot be printed: 0 where it only tells of work that is done.
        for_weeks: it goes on for so long that a machine which clears /tmp of old folders may take one that is in use.
    """
    from pcc_pipeline import interruption
    from pcc_pipeline.errors import Interrupted, PccError
    from pcc_pipeline.files import own_temporary_files

    interruption.install()
    # What MLflow is told by `tracking`, other libraries go by.
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # MLflow tells of every table it makes; a user may still ask for it.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
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
    # A search's worker that holds many rows is replaced by a new one between two candidates: no leak, and no loss.
    warnings.filterwarnings("ignore", message="A worker was restarted while some jobs were given")
    try:
        with interruption.protected() as section:
            with contextlib.nullcontext() if for_weeks else own_temporary_files(), section.lifted():
                text = answer()
            interruption.over()
    except PccError as error:
        interruption.over()
        if debug:
            raise
        print("\n  ".join([f"\nerror: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        interruption.over()
        if debug or error.name is None or error.name.partition(".")[0] == "pcc_pipeline":
            raise
        print(
            f"\nerror: the package {error.name} is not installed for {sys.executable}\n"
            "  do:    activate the environment that has it (source .venv/bin/activate), or let `make run` make one",
            file=sys.stderr,
        )
        return 1
    except Interrupted as error:
        interruption.over()
        became = getattr(error, "__notes__", ["no run was open, and this command changed nothing"])
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


def leave(code: int) -> NoReturn:
    """End the process with the exit code of a command; where a signal ended that, without waiting for threads.

    A signal raises between any two lines, also where a library's pool has started a thread and not noted it yet, and
    for such a one Python waits for ever. Runs are closed and workers ended by then, so nothing is left to wait for.
    """
    if code <= 128:  # 128 and the signal's number, as shells have it
        sys.exit(code)
    # What waits for threads among the functions of the end must not keep it either.
    end = threading.Timer(_LEAVES_WITHIN, os._exit, [code])
    end.daemon = True
    end.start()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # who reads it is gone
            stream.flush()
    os._exit(code)


@contextmanager
def imports() -> Iterator[None]:
    """What is made within stays to the end of the process, so the garbage collector need not look at it.

    It would run some hundred times while modules are imported, and once more at the end of the process, and free
    nothing of use: a fifth of the time of a short step. In a process that has run a command before, such as that of a
    notebook, this does nothing: what the command before left behind is to be freed.
    """
    if gc.get_freeze_count():
        yield
        return
    atexit.register(gc.freeze)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        # Modules that are imported later, where they are first needed, would set it off every 700 objects.
        gc.set_threshold(10_000)
