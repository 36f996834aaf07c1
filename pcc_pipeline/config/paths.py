"""What a path in the configuration or an option stands for on this machine: `~` is the home folder everywhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from pcc_pipeline.errors import ConfigError
from pcc_pipeline.masking import masked

_SCHEME, _BUCKET = re.compile(r"[A-Za-z][\w+.-]+:/"), re.compile("gs://[^/]")


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


def is_address(text: str) -> bool:
    """Whether this begins as an address does, s3://x or a mistyped gs:/x, and would be a folder of that name here."""
    return _SCHEME.match(text) is not None


def local_output(text: str, option: str) -> Path:
    """The path of what an option has written to this machine.

    Raises:
        ConfigError: it is an address, which would become a folder of that name; or the home folder is not known.
    """
    if is_address(text):
        raise ConfigError(
            "this is written to this machine, and an address is no path of it",
            where=f"{option}: {masked(text)}",
            fix="name a local path, and copy what stands there afterwards",
        )
    return local_path(text)


def output_address(text: str, option: str) -> str:
    """The address of what an option has written to this machine or to a bucket, with `~` as the home folder.

    Raises:
        ConfigError: it is an address of something else, which would become a folder of that name.
    """
    try:
        return _here_or_in_a_bucket(text)
    except ValueError as error:
        raise ConfigError(str(error), where=option, fix="name a local path or gs://bucket/path") from error


def _expanded(text: str) -> str:
    if not text.startswith("~"):
        return text
    try:
        # A slash at the end says that a folder is meant.
        return str(local_path(text)) + "/" * text.endswith("/")
    except ConfigError as error:
        raise ValueError(f"{text!r}: {error.what}; {error.fix}") from error


def addresses_in(text: str) -> list[str]:
    """The addresses of an option that takes one or several: `a.csv`, or `["a.csv", "b.csv"]`, a list in YAML or JSON.

    Raises:
        ValueError: it begins as a list does, and is none of texts.
    """
    if not text.startswith("["):
        return [text]
    listed = _listed(text)
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) and one for one in listed):
        raise ValueError(f"{text!r} is no list of files such as [a.csv, b.csv]; a file of that name is ./{text}")
    return listed


def in_brief(address: str) -> str:
    """An address for people: of several files how many they are, and the last; one stays as it is."""
    try:
        files = addresses_in(address)
    except ValueError:
        return address
    return address if len(files) == 1 else f"{len(files):,} files, the last {files[-1]}"


def _listed(text: str) -> object:
    # JSON first, as a run records several: YAML refuses some of its characters, and reads an escaped pair as two.
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _one_text(value: object) -> object:
    """One or several addresses as the text that a run's record holds: a list of one is that one, several are JSON."""
    if isinstance(value, str) and value.startswith("["):
        value = addresses_in(value)
    if not isinstance(value, list | tuple):
        return _expanded(value) if isinstance(value, str) else value
    if not value or not all(isinstance(one, str) and one for one in value):
        raise ValueError(f"{value!r} is no list of files such as [a.csv, b.csv]")
    listed = [_expanded(one) for one in value]
    return listed[0] if len(listed) == 1 and not listed[0].startswith("[") else json.dumps(listed, ensure_ascii=False)


def _here(text: str) -> str:
    if is_address(text):
        raise ValueError(f"{masked(text)!r}: a path on this machine is meant, and this is an address")
    return _expanded(text)


def _written(text: str) -> str:
    _here(text)
    return text


def _here_or_in_a_bucket(text: str) -> str:
    if is_address(text) and not _BUCKET.match(text):
        raise ValueError(f"{masked(text)!r}: a path on this machine or gs://bucket/… is meant")
    return _expanded(text)


# For what a run reads or writes on its own machine alone.
HomePath = Annotated[str, Field(min_length=1), AfterValidator(_here)]
# The same where another machine may take it from a run's record, such as the folder of the cache: it stays as it is
# written, and its ~ is then that machine's.
WrittenPath = Annotated[str, Field(min_length=1), AfterValidator(_written)]
# For what a run writes there or to a bucket.
OutputAddress = Annotated[str, Field(min_length=1), AfterValidator(_here_or_in_a_bucket)]
DataAddress = Annotated[str, Field(min_length=1), BeforeValidator(_one_text)]
