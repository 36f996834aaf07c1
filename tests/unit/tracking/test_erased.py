"""What the registry says of versions once persons were erased: which may be promoted, and which stay."""

from __future__ import annotations

import time
from pathlib import Path
from unittest.mock import patch

import pytest
from mlflow import MlflowClient

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.persons.holds import VersionHold
from pcc_pipeline.tracking.registry.erased import (
    LIST_TAG,
    note_list,
    read_without_list,
    remove_version,
    version_is_there,
)
from pcc_pipeline.tracking.registry.holds import hold_version

NAME = "m"
# What a tag of a registered model may hold where MLflow keeps it in PostgreSQL.
_LONGEST = 5000
_START = 1_796_000_000_000
# Of MLflow's registry, in milliseconds.
_CLOCK = "mlflow.store.model_registry.sqlalchemy_store.get_current_time_millis"


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
        with patch(_CLOCK, lambda: _START + at):
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


@pytest.fixture
def experiment(mlflow_store: Path) -> str:
    client = MlflowClient()
    client.create_registered_model("m")
    return client.create_experiment("e")


def run_of(experiment: str, digest: str = "") -> str:
    time.sleep(0.01)  # the registry counts milliseconds
    return MlflowClient().create_run(experiment, tags={LIST_TAG: digest} if digest else {}).info.run_id


def version_of(run_id: str, name: str = "m") -> str:
    time.sleep(0.01)
    return str(MlflowClient().create_model_version(name, f"file:///nowhere/{run_id}", run_id).version)


def test_a_version_is_of_the_newest_list_that_there_was_when_it_was_registered(experiment: str) -> None:
    before, under_way, under_way_by_one = run_of(experiment), run_of(experiment), ""
    version = version_of(before)
    note_list("m", "one", run_of(experiment))
    under_way_by_one, after = run_of(experiment, "one"), run_of(experiment, "one")
    by_one = version_of(after)
    assert not read_without_list("m", version)
    assert not read_without_list("m", by_one)
    assert read_without_list("m", version_of(run_of(experiment)))
    # Its training began before, and had read the rows by then.
    assert read_without_list("m", version_of(under_way))
    note_list("m", "two", run_of(experiment))
    assert not read_without_list("m", by_one)
    assert read_without_list("m", version_of(under_way_by_one))
    assert not read_without_list("m", version_of(run_of(experiment, "two")))


def test_a_version_that_is_held_is_not_removed_nor_is_another_one_of_its_training(experiment: str) -> None:
    client, run_id = MlflowClient(), run_of(experiment)
    client.create_registered_model("other")
    number, other = version_of(run_id), version_of(run_id, "other")
    hold_version(VersionHold("m", number, "case 21", "2026-11-01", "officer"))
    for name, its in (("m", number), ("other", other)):
        with pytest.raises(TrackingError, match=f"m version {number} is held"):
            remove_version(name, its, run_id)
        assert version_is_there(name, its)
    client.delete_model_version_tag("m", number, "pcc.hold")
    remove_version("m", number, run_id)
    assert not version_is_there("m", number)
