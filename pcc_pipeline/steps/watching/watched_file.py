"""One file that is watched: what is looked at of each of its rows. A task, which workers may do."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.data.columns import label_rule
from pcc_pipeline.data.contract import CASE_ID, TEXT, TIMESTAMP, CheckedBatch
from pcc_pipeline.data.dataset import CheckedFile
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.data.splits import Keys, RowKeys, exact_keys
from pcc_pipeline.data.vector_origin import origin_of
from pcc_pipeline.encoder.embed_texts import Progress
from pcc_pipeline.monitoring.change.learned_space import LearnedSpace
from pcc_pipeline.monitoring.change.signals import Signals
from pcc_pipeline.steps.answering.batch_vectors import BatchVectors, answers
from pcc_pipeline.steps.inputs.datasets import read, unlabelled
from pcc_pipeline.steps.inputs.model_vectors import OF_THE_DATA, demand_encoder
from pcc_pipeline.steps.parts.held import Held
from pcc_pipeline.steps.parts.surroundings import Surroundings
from pcc_pipeline.steps.records.persons import add_batch, new_manifest
from pcc_pipeline.steps.records.reference_profile import missing_values, signals_of
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel, TrainedModel, load_trained_model

PREDICTED = "predicted_label"


@dataclass(frozen=True)
class WatchedFile:
    """A file of messages: its good rows, n of them, in their order.

    Attributes:
        source: its address.
        signals: None where there is no good row.
        case_ids: (n,) object. `own_ids` says whether they are the file's or made of its rows.
        texts: a key of each text, (n,), equal where texts are.
        keys: what the rows have in common with others.
        times: the column `timestamp`, NaT where a row has none.
        labels: (n,) object, None where a row has none.
        rejected: which of its rows break the contract, (total,) bool; `faults` says why.
        missing: `missing/<column>` -> rows without a value, (n,) bool.
        digest: the Fingerprint of its good rows.
        kept_out: rows of erased persons.
        lineage: its manifest of persons; None without a key.
    """

    source: str
    signals: Signals | None
    case_ids: np.ndarray
    own_ids: bool
    texts: Keys
    keys: RowKeys
    times: pd.Series
    labels: np.ndarray
    rejected: np.ndarray
    faults: pd.DataFrame
    missing: dict[str, np.ndarray]
    digest: str
    kept_out: int
    notes: tuple[str, ...]
    lineage: bytes | None

    def __len__(self) -> int:
        return len(self.case_ids)


@dataclass(frozen=True)
class AnsweredFile:
    """A file of predictions without texts, as it stands."""

    source: str
    frame: pd.DataFrame
    notes: tuple[str, ...]


class Watcher:
    """A model that looks at files; its encoder and cache open at the first text, and serve all of them."""

    def __init__(self, params: Params, model: TrainedModel) -> None:
        self.params, self.model = params, model
        self._stack = ExitStack()
        self.vectors = self._stack.enter_context(BatchVectors(params, model))

    def close(self) -> None:
        """Give back what it opened."""
        self._stack.close()

    def look_at(self, source: str, space: LearnedSpace, progress: Progress) -> WatchedFile | AnsweredFile:
        """One file, whose vectors are seen in `space`.

        Raises:
            DataError: it cannot be read.
            FeatureError: its vectors are of another encoder.
        """
        notes = ReadNotes()
        look, frames = _Look(self, source, space), list[pd.DataFrame]()
        for batch in read(source, notes, one=True, may_be_empty=True):
            if TEXT not in batch.columns and PREDICTED in batch.columns:
                frames.append(batch)
            else:
                look.add(batch, progress)
        if frames:
            return AnsweredFile(source, pd.concat(frames, ignore_index=True), notes.lines)
        return look.file(notes)


_watchers: Held[Watcher] = Held()


@dataclass(frozen=True)
class WatchTask:
    """Looks at one file. It is sent to workers, and each of them loads the model once.

    Attributes:
        model_uri: an address that no later move of an alias can change.
        space: of the profile that the rows are judged beside. An `evaluate` meanwhile may leave the version another
            profile, so nobody reads it again.
        around: of the process that hands out the tasks.
    """

    params: Params
    model_uri: str
    space: LearnedSpace
    around: Surroundings

    def __call__(self, source: str) -> WatchedFile | AnsweredFile:
        """See `Watcher.look_at`."""
        self.around.take_on(self.params)
        return self.look_at(source)

    def look_at(self, source: str, progress: Progress = lambda _: None) -> WatchedFile | AnsweredFile:
        """The same in the process that the task was made in."""
        return _watchers.get(self._key, self._watcher).look_at(source, self.space, progress)

    def keep(self, loaded: LoadedModel) -> None:
        """Use a model that is loaded already, in this process."""
        _watchers.get(self._key, lambda: Watcher(self.params, loaded.model))

    def let_go(self) -> None:
        """Give back what this process has open for it."""
        _watchers.let_go(self._key)

    def _watcher(self) -> Watcher:
        return Watcher(self.params, load_trained_model(self.model_uri).model)

    @property
    def _key(self) -> str:
        return f"{self.model_uri} {self.params.model_dump_json()}"


class _Look:
    """A file of messages, batch by batch."""

    def __init__(self, watcher: Watcher, source: str, space: LearnedSpace) -> None:
        self._watcher, self._source, self._space = watcher, source, space
        # A label may be missing where labels come later, so the contract does not ask for it.
        self._file = CheckedFile(unlabelled(watcher.params), source, kept=False)
        self._manifest = new_manifest(watcher.params)
        self._own_ids = False
        self._signals: list[Signals] = []
        self._ids: list[np.ndarray] = [np.empty(0, object)]
        self._texts: list[str] = []
        self._times: list[pd.Series] = [pd.Series([], dtype="datetime64[us, UTC]")]
        self._labels: list[np.ndarray] = [np.empty(0, object)]
        self._rejected: list[np.ndarray] = [np.empty(0, bool)]
        self._missing: list[dict[str, np.ndarray]] = []

    def add(self, batch: pd.DataFrame, progress: Progress) -> None:
        """The next rows."""
        watcher, model = self._watcher, self._watcher.model
        self._own_ids = CASE_ID in batch
        checked = self._file.add(batch)
        progress(len(checked.rejected))
        self._rejected.append(_rejected(checked))
        add_batch(self._manifest, checked, "watched", self._source)
        if not len(checked.good):
            return
        if checked.vectors is not None:
            demand_encoder(origin_of(batch), model, OF_THE_DATA)
        vectors = watcher.vectors.vectors(checked, progress)
        some = [str(text) for text in checked.good[TEXT]]
        probabilities = answers(model, vectors, some)
        halves = vectors[:, : model.vector_width]  # a lexical half that the data brings is not the model's
        self._signals.append(signals_of(some, halves, probabilities, model.lexical, self._space))
        self._ids.append(checked.good[CASE_ID].to_numpy(dtype=object))
        self._texts += some
        self._missing.append(missing_values(checked.good))
        nothing = pd.Series(pd.NaT, index=checked.good.index, dtype="datetime64[us, UTC]")
        self._times.append(checked.good.get(TIMESTAMP, nothing))
        label = watcher.params.data.label_column
        there = label in checked.good
        self._labels.append(labels_in(checked.good[label]) if there else np.full(len(some), None, object))

    def file(self, notes: ReadNotes) -> WatchedFile:
        """All of them."""
        names = dict.fromkeys(name for part in self._missing for name in part)
        return WatchedFile(
            source=self._source,
            signals=Signals.joined(self._signals) if self._signals else None,
            case_ids=np.concatenate(self._ids),
            own_ids=self._own_ids,
            texts=exact_keys(self._texts),
            keys=RowKeys.of(self._texts),
            times=pd.concat(self._times, ignore_index=True),
            labels=np.concatenate(self._labels),
            rejected=np.concatenate(self._rejected),
            faults=self._file.all_rejected,
            missing={name: np.concatenate([part[name] for part in self._missing]) for name in names},
            digest=self._file.digest,
            kept_out=self._file.kept_out,
            notes=notes.lines,
            lineage=None if self._manifest is None else self._manifest.to_bytes(),
        )


def labels_in(column: pd.Series) -> np.ndarray:
    """Labels as the contract spells them; None where a row has none."""
    there = column.notna() & (column.astype(str).str.strip() != "")
    labels = np.full(len(column), None, dtype=object)
    if there.any():
        labels[there.to_numpy()] = label_rule(column[there])[0].to_numpy(dtype=object)
    return labels


def _rejected(checked: CheckedBatch) -> np.ndarray:
    """Which rows of a batch are rejected, bool, in the file's order; rows that are kept out are none."""
    rows = np.concatenate([checked.places.rows, checked.rejected["row"].to_numpy(dtype=np.int64)])
    return (np.arange(len(rows)) >= len(checked.good))[np.argsort(rows)]
