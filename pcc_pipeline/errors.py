"""What can go wrong through no fault of the code: each error says what happened, where, and what to do now.

Entry points turn a `PccError` into one message and exit code 1; anything else is a defect and keeps its traceback.
No message may quote a customer's text: name the row and the column instead.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

from pcc_pipeline.masking import in_utf8, masked_in


class PccError(Exception):
    """A mistake or a condition that the user can mend.

    Args:
        what: what went wrong, one sentence.
        where: the file, option, run or address concerned.
        fix: what to do now.

    Attributes:
        became: what became of the work, as the audit log has it.
    """

    became = "failed"

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        # What a user wrote stands in both as it was written, in the log and in MLflow; a fix has our words.
        self.what, self.where, self.fix = in_utf8(masked_in(what)), in_utf8(masked_in(where)), in_utf8(fix)
        super().__init__(self.what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  do:    {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only fields would be lost when a worker process hands the error back.
        return (_rebuild, (type(self), self.what, self.where, self.fix))


def meant(word: str, names: Iterable[str]) -> str:
    """The nearest of some names as a question in brackets; empty where none is near. Options' dashes do not count."""
    import difflib  # a hundredth of a second, for mistakes alone

    bare = {name.lstrip("-"): name for name in names}
    near = difflib.get_close_matches(word.lstrip("-"), bare, n=1)
    return f" (did you mean {bare[near[0]]}?)" if near else ""


def _rebuild(kind: type[PccError], what: str, where: str, fix: str) -> PccError:
    return kind(what, where=where, fix=fix)


class Interrupted(KeyboardInterrupt):
    """A signal that ends the process, raised so that runs are closed and workers ended on the way out.

    Not an Exception: nothing that handles failures may swallow it. It is a KeyboardInterrupt whatever the signal, since
    libraries know what to do at that. Its notes say what became of the runs.
    """

    def __init__(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.number = number
        super().__init__(number.name)

    def __reduce__(self) -> tuple[object, ...]:
        return (Interrupted, (self.number,))


class ConfigError(PccError):
    """params.yaml or an override is wrong; the message lists every fault."""


class DataError(PccError):
    """A data file cannot be read or does not hold what the contract asks for."""


class NoRowsError(DataError):
    """A data file has columns and no rows. One of several may: of a day on which nobody wrote."""


class FeatureError(PccError):
    """A text cannot be turned into numbers: missing or altered encoder weights, wrong vector width."""


class ModelError(PccError):
    """A classifier cannot be built or fitted on these rows."""


class SearchError(PccError):
    """The search found no usable candidate, or its study cannot be resumed."""


class ComputeError(PccError):
    """What does the work, such as workers or a cluster, fails."""


class TrackingError(PccError):
    """MLflow's server, store or registry refused or did not answer."""


class StorageError(PccError):
    """A bucket or folder cannot be read or written."""
