"""What README tells a newcomer to paste, pasted in its order into a new folder."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.conftest import Store, said

pytestmark = [pytest.mark.pipeline, pytest.mark.long]

README = Path(__file__).parents[2] / "README.md"


def test_the_promote_block_works_as_pasted(new_store: Callable[[str], Store]) -> None:
    folder = new_store("readme").folder
    shutil.copyfile(README.with_name("params.yaml"), folder / "params.yaml")
    text = README.read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(pcc promote --reason .*?)```", text, re.DOTALL)
    assert said(folder, "run", "--search-method", "none").code == 0
    lines = [shlex.split(line)[1:] for line in block.splitlines()]
    outcomes = [said(folder, *words) for words in lines]
    # "On the sample the first line is refused, with the table of gates."
    assert [outcome.code for outcome in outcomes] == [1, 0, 0, 0, 0], [outcome.err for outcome in outcomes]
    assert "gate" in outcomes[0].err
    assert "the champion stays" in outcomes[0].err
    assert "champion is version 1 now" in outcomes[1].out
    assert "champion is version 2 now" in outcomes[3].out
    assert "champion is version 1 now" in outcomes[4].out
    again = said(folder, "promote", "--model", "models:/pcc-intent-classifier@champion", *lines[1][1:])
    assert "version 1" in again.out
    assert "already" in again.out
