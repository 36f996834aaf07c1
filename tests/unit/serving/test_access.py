"""Tokens and limits, without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pcc_pipeline.config import Params, load_params
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.serving.access import Access, Limit, Tokens, new_token
from pcc_pipeline.serving.forms import RefusedError


def params(**serving: object) -> Params:
    return load_params(None, settings=[f"serving.{name}={value}" for name, value in serving.items()])


def test_a_token_is_known_by_its_name_and_each_may_be_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "tokens"
    first, second = new_token(file, "web"), new_token(file, "batch")
    tokens = Tokens(file)
    assert (tokens.name_of(first), tokens.name_of(second)) == ("web", "batch")
    assert tokens.name_of("") is None
    assert tokens.name_of(f"{first}x") is None
    file.write_text(file.read_text().splitlines()[1] + "\n")
    assert (tokens.name_of(first), tokens.name_of(second)) == (None, "batch")
    # What cannot be read now changes nothing.
    file.write_text("this is no line of it\n")
    assert tokens.name_of(second) == "batch"


@pytest.mark.parametrize("content", [None, "", "# nobody\n", "web 12\n", "\xff"])
def test_a_file_without_tokens_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"token|SHA-256") as refused:
        Tokens(file)
    assert "pcc serve --new-token NAME" in str(refused.value)


@pytest.mark.parametrize("name", ["", "two words", "#web"])
def test_a_name_that_the_file_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        new_token(tmp_path / "tokens", name)
    assert not (tmp_path / "tokens").exists()


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer no", "Basic d2ViOnh4", "\xff\xfe"])
def test_who_has_no_token_is_refused(tmp_path: Path, header: str) -> None:
    file = tmp_path / "tokens"
    token = new_token(file, "web")
    access = Access(params(accounts="tokens", tokens_file=file))
    with pytest.raises(RefusedError) as refused:
        asyncio.run(access.caller(header, "10.0.0.1"))
    assert refused.value.status == 401
    assert asyncio.run(access.caller(f"bearer {token}", "10.0.0.1")) == "web"


def test_a_caller_past_its_share_is_told_when_to_come_again_and_others_are_not() -> None:
    limit = Limit(params(requests_per_minute=3).serving)
    for _ in range(3):
        limit.demand("one")
    with pytest.raises(RefusedError) as refused:
        limit.demand("one")
    assert (refused.value.status, refused.value.retry_after) == (429, 20)
    limit.demand("another")
    for number in range(11_000):  # and what is remembered of callers is bounded
        limit.demand(str(number))
    assert len(limit._left) == 10_000
