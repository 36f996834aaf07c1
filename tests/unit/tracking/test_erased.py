"""The lists of erased persons on a registered model: each version is judged by the one that it should have read."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from pcc_pipeline.tracking.registry.erased import LIST_TAG, note_list, read_without_list

NAME = "m"
# What a tag of a registered model may hold where MLflow keeps it in PostgreSQL.
_LONGEST = 5000
_START = 1_796_000_000_000


class Registry:
    """A registered model whose versions are trained, and whose lists are noted, at times that a test says."""

    def __init__(self) -> None:
        self.client = MlflowClient()
        self.client.create_registered_model(NAME)
        self._experiment = self.client.search_experiments(filter_string="name = 'test'")[0].experiment_id

    def run(self, at: int, tags: dict[str, str] | None = None) -> str:
        return str(self.client.create_run(self._experiment, _START + at, tags).info.run_id)

    def noted(self, digest: str, at: int) -> None:
        note_list(NAME, digest, self.run(at))

    def trained(self, digest: str, at: int) -> str:
        run = self.run(at, {LIST_TAG: digest} if digest else {})
        model = self.client.create_logged_model(self._experiment, name="model", source_run_id=run)
        return str(self.client.create_model_version(NAME, f"models:/{model.model_id}", run).version)

    def lists(self) -> dict[str, str]:
        tags = self.client.get_registered_model(NAME).tags
        return {tag: text for tag, text in tags.items() if tag.startswith(LIST_TAG)}


@pytest.fixture
def registry(store: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    own = MlflowClient.set_registered_model_tag

    def limited(client: MlflowClient, name: str, key: str, value: str) -> None:
        assert len(value) <= _LONGEST, "value too long for type character varying(5000)"
        own(client, name, key, value)

    monkeypatch.setattr(MlflowClient, "set_registered_model_tag", limited)
    return Registry()


def digest_of(number: int) -> str:
    return f"{number:016x}"


def test_after_161_erasures_further_ones_are_noted_and_every_version_is_judged_by_its_own_list(
    registry: Registry,
) -> None:
    # As an earlier version of this program left it: one tag, which takes no other entry.
    full = ";".join(f"{digest_of(number)} {_START + 1000 * number}" for number in range(161))
    registry.client.set_registered_model_tag(NAME, LIST_TAG, full)
    for number in range(161, 164):
        registry.noted(digest_of(number), 1000 * number)
    assert [len(text) <= _LONGEST for text in registry.lists().values()] == [True, True]
    assert registry.lists()[LIST_TAG] == full
    for number in (0, 80, 160, 161, 163):
        for other in (number - 1, number, number + 1):
            version = registry.trained(digest_of(other) if other >= 0 else "", 1000 * number + 500)
            assert read_without_list(NAME, version) == (other != number)
    assert not read_without_list(NAME, registry.trained("", -1)), "before the first erasure"


def test_when_the_next_tag_is_full_there_is_another(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcc_pipeline.tracking.registry.erased._LONGEST_TAG", 31)
    for number in range(12):
        registry.noted(digest_of(number), 1000 * number)
    assert set(registry.lists()) == {LIST_TAG, *(f"{LIST_TAG}.{place}" for place in range(2, 13))}
    assert [
        read_without_list(NAME, registry.trained(digest_of(number), 1000 * number + 500)) for number in range(12)
    ] == [False] * 12
    assert read_without_list(NAME, registry.trained(digest_of(8), 11_500)), "the twelfth tag comes after the ninth"


def test_a_list_that_did_not_change_is_noted_once(registry: Registry) -> None:
    for at in range(3):
        registry.noted(digest_of(1), at)
    assert registry.lists() == {LIST_TAG: f"{digest_of(1)} {_START}"}
    note_list("never registered", digest_of(1), registry.run(3))
