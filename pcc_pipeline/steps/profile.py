"""`profile`: what a file of messages is like, before anything is made of it. It is no run and needs no MLflow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.contract import Contract
from pcc_pipeline.data.dataset import CheckedFile
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.data.quality.profile import KnownModel, Profile, Profiler
from pcc_pipeline.errors import DataError
from pcc_pipeline.gates.judge import data_age_limit
from pcc_pipeline.persons.keys import use_keys
from pcc_pipeline.steps.inputs.datasets import contract_of, progress_bar, read, unlabelled
from pcc_pipeline.steps.inputs.early_checks import demand_input
from pcc_pipeline.steps.inputs.own_files import own_page
from pcc_pipeline.steps.pages.profile_page import (
    Demands,
    Finding,
    findings_of,
    profile_document,
    profile_lines,
    profile_page,
)
from pcc_pipeline.storage.objects import replacing


@dataclass(frozen=True)
class ProfileOutcome:
    """A file that was looked at.

    Attributes:
        source: its address.
        findings: what to look at, the worst first.
        page: the file of the HTML page, where one was asked for.
    """

    source: str
    profile: Profile
    findings: tuple[Finding, ...]
    page: Path | None = None

    @property
    def summary(self) -> list[str]:
        """For the terminal."""
        written = [f"           as a page: {self.page}"] if self.page else []
        return [*profile_lines(self.source, self.profile, self.findings), *written]

    @property
    def document(self) -> dict[str, Any]:
        """For machines: `metrics` under their names `quality/…`, and what they were counted from."""
        return profile_document(self.source, self.profile, self.findings)


def run(
    params: Params,
    model_uri: str | None = None,
    *,
    labelled: bool = False,
    html: str | None = None,
    now: datetime | None = None,
) -> ProfileOutcome:
    """Profile `data.path`, with its labels where it has the column `data.label_column`.

    Memory is bounded but for some fifty bytes, and the case id or a hash, of each row.

    Args:
        model_uri: a model whose labels, and texts that it learned, the file is compared with.
        labelled: the column of the labels must be there.
        html: a local file to write the profile to, as a page that needs nothing else.
        now: the end of the time that rows may be from, with its zone; default is this moment.

    Raises:
        ConfigError: the page would replace the data.
        DataError, StorageError: the file cannot be read or lacks columns; or the page cannot be written.
        TrackingError: there is no such model.
    """
    address, now = params.data.path, now or datetime.now(UTC)
    use_keys(local_path(params.lineage.key_file))
    page = None if html is None else own_page(html, address)
    demand_input(address, contract_of(params) if labelled else unlabelled(params))
    model = None if model_uri is None else _known(model_uri)
    notes = ReadNotes()
    file: CheckedFile | None = None
    with progress_bar(None, f"profile {address}") as bar:
        for batch in read(address, notes):
            if file is None:
                contract = _contract(params, [str(name) for name in batch.columns], labelled=labelled)
                file, profiler = CheckedFile(contract, address, kept=False), Profiler(contract, now)
            profiler.add(batch, file.add(batch))
            bar.update(len(batch))
    if file is None:
        raise DataError("the data file has no rows", where=address, fix="give a file with at least one row")
    profile = profiler.profile(file, notes.lines, notes.blank_lines, model)
    findings = tuple(findings_of(profile, _demands(params)))
    outcome = ProfileOutcome(address, profile, findings, page)
    if page is not None:
        content = profile_page(address, f"{now:%Y-%m-%d %H:%M %Z}", profile, findings)
        with replacing(page) as partial:
            partial.write_text(content, encoding="utf-8")
    return outcome


def _contract(params: Params, columns: list[str], *, labelled: bool) -> Contract:
    """What the configuration asks, but for columns that a file to score need not have."""
    contract = contract_of(params, labelled=labelled or params.data.label_column in columns)
    # What is looked at is the file as its owner keeps it.
    contract = replace(contract, keeps_out=None)
    return contract if contract.group_column in columns else replace(contract, group_column=None)


def _demands(params: Params) -> Demands:
    return Demands(params.data.max_rejected_fraction, data_age_limit(params.registry.gates))


def _known(model_uri: str) -> KnownModel:
    from pcc_pipeline.tracking.logged_models.log_and_load import load_trained_model
    from pcc_pipeline.tracking.runs import read_split, read_training_run

    loaded = load_trained_model(model_uri)
    training = read_training_run(loaded.run_id)
    record = read_split(training)
    return KnownModel(
        name=loaded.model.model_version,
        classes=loaded.model.classes,
        normalises=training.params.data.normalise_labels,
        learned=None if record is None else record.learned_keys,
    )
