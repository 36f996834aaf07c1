"""What a path in the configuration or an option stands for on this machine: `~` is the home folder everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from pcc_pipeline.errors import ConfigError


def local_path(text: str | Path) -> Path:
    """The path, with `~` or `~anna` at its head as that home folder.

    Raises:
        ConfigError: there is no such home folder, as for a user id that the system has no entry of.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            "the home folder that ~ stands for is not known", where=str(text), fix="set HOME, or write the whole path"
        ) from error


def _expanded(text: str) -> str:
    if not text.startswith("~"):
        return text
    try:
        return str(local_path(text))
    except ConfigError as error:
        raise ValueError(f"{text!r}: {error.what}; {error.fix}") from error


# For what a run reads or writes on its own machine alone. A path that another machine may take from a run's record,
# such as that of the cache, stays as it is written: its ~ is then that machine's.
HomePath = Annotated[str, Field(min_length=1), AfterValidator(_expanded)]
