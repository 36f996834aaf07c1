"""The rows that a trained model has not learned: a test file, or those its training set aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import Contract
from pcc_pipeline.data.dataset import Dataset, load
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.data.split_record import TEST, SplitRecord
from pcc_pipeline.data.splits import RowKeys
from pcc_pipeline.errors import DataError
from pcc_pipeline.steps.inputs.datasets import input_files, load_dataset, read
from pcc_pipeline.steps.inputs.suppressed import keeps_out
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel
from pcc_pipeline.tracking.payloads import InputFile
from pcc_pipeline.tracking.runs import TrainingRun, read_split


@dataclass(frozen=True)
class HeldOut:
    """Labelled rows to measure a model on.

    Attributes:
        dataset: the rows.
        address: of the file that they stand in.
        source: where they come from, for the record.
        total_rows: rows asked for, good, rejected and learned.
        learned_rows: rows left out because the model learned their text or group, or that of a row they are tied to.
        unchecked: why it is not known whether the model learned some of the rows; empty where it is.
        file_notes: what to know about a test file that its good rows do not show.
    """

    dataset: Dataset
    address: str
    source: str
    total_rows: int
    rejected_rows: int
    learned_rows: int = 0
    unchecked: str = ""
    file_notes: tuple[str, ...] = ()

    @property
    def inputs(self) -> list[InputFile]:
        """The files among the data sets of a run that measures a model."""
        return input_files(self.address, "testing", self.dataset)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know beside the numbers."""
        learned = f"{self.learned_rows:,} of {self.total_rows:,} rows left out: the model learned their text or group"
        rejected = self.dataset.rejection_line if self.rejected_rows else ()
        return (*rejected, *([learned] if self.learned_rows else []))


def held_out(
    params: Params,
    training: TrainingRun,
    loaded: LoadedModel,
    data: str | None = None,
    slices: Sequence[str] = (),
) -> HeldOut:
    """The rows of `data.test_path` if it is given, else those of the training's test file, else those it set aside.

    Of a test file that is given, rows whose text or group the model learned are left out.

    Args:
        data: where the training file lies now, if not where the training run found it.
        slices: columns that the rows must have besides.

    Raises:
        DataError: the training's file has changed or its run kept no record of the split, so that its test rows cannot
            be told from its training rows; or the model learned every row that was given.
    """
    # Who is kept out is said by the list of now, wherever the training had its own.
    training = replace(training, params=training.params.model_copy(update={"lineage": params.lineage}))
    learned = training.params
    if params.data.test_path is not None:
        return _unlearned(_test_file(params, learned, loaded, slices), training, loaded, params.data.test_path)
    if learned.data.test_path is not None:
        # Its texts and groups were left out of the training rows.
        test = load_dataset(learned.data.test_path, learned, loaded.model.classes, slices)
        _demand_digest(test, training.tags.get("pcc.test_digest"), learned.data.test_path, loaded, "--test-data")
        return whole_file(test, learned.data.test_path)
    address = data or learned.data.path
    record = read_split(training)
    if record is None:
        raise DataError(
            f"the run that trained {loaded.model.model_version} kept no record of its split, so its test rows cannot "
            "be told from its training rows",
            where=f"run {training.run_id}, of an earlier pcc_pipeline",
            fix="train again, or give labelled rows that it has not seen with --test-data FILE",
        )
    return set_aside(training_file(loaded, training, address, slices), record, address)


def training_file(loaded: LoadedModel, training: TrainingRun, address: str, slices: Sequence[str] = ()) -> Dataset:
    """The file that a model was trained with, as it was then.

    Args:
        address: where it lies now.
        slices: columns that the rows must have besides.

    Raises:
        DataError: it has changed, or is another one.
    """
    dataset = load_dataset(address, training.params, slices=slices)
    _demand_digest(dataset, training.tags.get("pcc.data_digest"), address, loaded, "--data")
    return _learned_vectors(dataset, training, address, loaded)


def whole_file(test: Dataset, address: str) -> HeldOut:
    """All good rows of a test file."""
    return HeldOut(test, address, address, test.total_rows, len(test.rejected), file_notes=test.notes)


def set_aside(dataset: Dataset, record: SplitRecord, address: str) -> HeldOut:
    """The test rows of a training file, with their vectors where it has them."""
    if len(record.split) != len(dataset.frame):
        raise DataError(
            f"the record of the split has {len(record.split):,} lines and the file {len(dataset.frame):,} rows, so its "
            "test rows cannot be told",
            where=address,
            fix="see that lineage.suppression_file is the one of the last erasure; or give test rows with test_data",
        )
    positions = record.positions(TEST)
    return HeldOut(dataset.take(positions), address, f"held-out rows of {address}", len(positions), 0)


def _test_file(params: Params, learned: Params, loaded: LoadedModel, slices: Sequence[str]) -> Dataset:
    """The given test file, with the groups that the training split by, where it has them, and its way with labels."""
    data, group, address = params.data, learned.data.group_column, str(params.data.test_path)
    notes = ReadNotes()
    batches = read(address, notes)
    first = next(batches)
    known = group is not None and group in first.columns
    contract = Contract(
        data.label_column,
        data.required_columns,
        group if known else None,
        learned.data.normalise_labels,
        tuple(slices),
        keeps_out=keeps_out(params),
    )
    return load(
        chain([first], batches),
        contract,
        address,
        data.max_rejected_fraction,
        notes=notes,
        known_labels=loaded.model.classes,
    )


def _unlearned(test: Dataset, training: TrainingRun, loaded: LoadedModel, address: str) -> HeldOut:
    held, version = whole_file(test, address), loaded.model.model_version
    record = read_split(training)
    if record is None and test.digest == training.tags.get("pcc.test_digest"):
        return held  # the file that the training had, whose rows it left out
    if record is None:
        return replace(
            held,
            unchecked=f"the run that trained {version} kept no record of its split, so nothing tells what it learned; "
            "train again to have one",
        )
    learned = RowKeys.of(test.texts, test.groups).known_to(record.learned_keys)
    if learned.all():
        raise DataError(
            f"{version} learned the text or the group of each of these {len(learned):,} rows, so there is nothing to "
            "measure it on",
            where=address,
            fix="give rows that it has not seen, or leave test_data out: then the rows that its training set aside "
            "are used",
        )
    column = training.params.data.group_column
    unchecked = ""
    if column is not None and test.groups is None:
        unchecked = f"the file has no column {column}, by which {version} keeps groups together; add it"
    kept = test.take(~learned) if learned.any() else test
    return replace(held, dataset=kept, learned_rows=int(learned.sum()), unchecked=unchecked)


def _learned_vectors(dataset: Dataset, training: TrainingRun, address: str, loaded: LoadedModel) -> Dataset:
    """The training file with the vectors that were learned from.

    Where it brought none then, vectors that do not say whose they are do not count.

    Raises:
        DataError: its vectors are not those of the training.
    """
    learned = training.tags.get("pcc.vectors_digest")
    if dataset.vectors is None or learned == dataset.vectors_digest:
        return dataset
    if learned is None:
        return dataset if dataset.encoder_digest is not None else replace(dataset, vectors=None)
    raise DataError(
        f"the vectors in this file are not those that {loaded.model.model_version} was trained with",
        where=address,
        fix="give the original file with --data FILE",
    )


def _demand_digest(dataset: Dataset, expected: str | None, address: str, loaded: LoadedModel, option: str) -> None:
    if dataset.digest != expected:
        raise DataError(
            f"this is not the file that {loaded.model.model_version} was trained with: its rows differ, so the rows "
            "that training set aside cannot be found in it",
            where=address,
            fix=f"give the original file with {option} FILE, or evaluate on other labelled rows with --test-data FILE",
        )
