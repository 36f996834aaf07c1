"""`explain`: which words of one message carried a model's answer, for whoever may read the message, and nobody else.

It is no run: nothing of it goes into MLflow, a log, an error or the embedding cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import CASE_ID, TEXT, Contract, ContractChecker
from pcc_pipeline.encoder.embed_texts import embed
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.errors import ConfigError, DataError, FeatureError, PccError
from pcc_pipeline.evaluation.explanations.nearest_rows import LearnedRow, nearest_rows
from pcc_pipeline.evaluation.explanations.word_weights import Answer, Explanation, Method, explain
from pcc_pipeline.model.decision import certainty
from pcc_pipeline.steps.inputs.chosen_model import chosen_model
from pcc_pipeline.steps.inputs.datasets import read
from pcc_pipeline.steps.inputs.early_checks import demand_input
from pcc_pipeline.steps.inputs.learned_rows import learned_rows
from pcc_pipeline.steps.inputs.model_vectors import own_encoder
from pcc_pipeline.steps.inputs.own_files import own_page
from pcc_pipeline.steps.pages.explanation_page import explanation_lines, explanation_page, nearest_lines
from pcc_pipeline.storage.objects import replacing
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel, TrainedModel
from pcc_pipeline.tracking.logged_models.served_model import text_fault

_OWN_VECTORS = "the file brings vectors, by which `score` answers; explained is the answer to the text"


@dataclass(frozen=True)
class Nearest:
    """Which rows that the model learned are named beside an explanation.

    Attributes:
        most: how many at most; a note says why where there are none.
        training_data: where the model's training file lies now, if not where its training read it.
    """

    most: int
    training_data: str | None = None


@dataclass(frozen=True)
class ExplainOutcome:
    """One message's answer taken apart.

    Attributes:
        undecided: why the answer is left to a person; empty where the model decides.
        nearest: of the rows that the model learned, where they were asked for; the nearest first.
        page: the file of the HTML page, where one was asked for.
        notes: what to know beside it.
    """

    model_version: str
    classes: tuple[str, ...]
    explanation: Explanation
    undecided: str
    nearest: tuple[LearnedRow, ...] = ()
    page: Path | None = None
    notes: tuple[str, ...] = ()

    def lines(self, *, colour: bool) -> list[str]:
        """For the terminal."""
        written = [f"           the same as a page, for you alone: {self.page}"] if self.page else []
        noted = [f"warning    {note}" for note in self.notes]
        shown = explanation_lines(self.explanation, self.classes, self.model_version, self.undecided, colour)
        return [*shown, *nearest_lines(self.nearest), *written, *noted]


def run(
    params: Params,
    model_uri: str | None = None,
    *,
    text: str | None = None,
    case_id: str | None = None,
    html: str | None = None,
    nearest: Nearest | None = None,
    method: Method = "leave-out",
) -> ExplainOutcome:
    """Explain a model's answer to a text, or to the row of `data.path` that has this case id.

    Args:
        model_uri: `models:/name@alias`, `models:/name/3`, `runs:/<id>/model`; default is the champion.
        html: a local file to write the explanation to, as a page that needs nothing else.
        nearest: the rows that the model learned to name; none where not said.
        method: how words are weighed.

    Raises:
        ConfigError: neither or both of text and case id; or the page would replace the data.
        DataError: there is no such row, or its text cannot be classified.
        TrackingError: there is no such model, or no champion yet.
        FeatureError: the model takes whole vectors; or its encoder is not at hand.
        StorageError: the page cannot be written.
    """
    if (text is None) == (case_id is None):
        raise ConfigError(
            "there must be one message to explain",
            where="options text and case-id",
            fix="give --text …, or --data FILE with --case-id ID",
        )
    page = None if html is None else own_page(html, None if case_id is None else params.data.path)
    message, vectors = (str(text), False) if case_id is None else _text_of(case_id, params)
    if fault := text_fault(message):
        raise DataError(f"the text cannot be classified: it is {fault}", where="the message", fix="give another one")
    loaded = chosen_model(params, model_uri)
    encoder = _encoder_of(loaded, params)
    explanation = explain(message, _answers_of(loaded.model, encoder), method=method)
    notes = [_OWN_VECTORS] if vectors else []
    near: tuple[LearnedRow, ...] = ()
    if nearest is not None and nearest.most:
        near, note = _nearest(message, loaded, params, encoder, nearest)
        notes += [note] if note else []
    outcome = ExplainOutcome(
        model_version=loaded.model.model_version,
        classes=loaded.model.classes,
        explanation=explanation,
        undecided=_left_to_a_person(loaded.model, explanation),
        nearest=near,
        page=page,
        notes=tuple(notes),
    )
    if page is not None:
        content = explanation_page(explanation, outcome.classes, outcome.model_version, outcome.undecided, near)
        with replacing(page) as partial:
            partial.write_text(content, encoding="utf-8")
    return outcome


def _encoder_of(loaded: LoadedModel, params: Params) -> SentenceEncoder:
    """The model's own.

    Raises:
        FeatureError: the model takes whole vectors; or its encoder is not at hand.
    """
    if loaded.model.lexical is None:
        raise FeatureError(
            "this model takes whole vectors, which do not say what they would be without a word",
            where=loaded.model_uri,
            fix="name a model that was trained on texts or on sentence vectors, with --model",
        )
    return own_encoder(loaded, params)


def _answers_of(model: TrainedModel, encoder: SentenceEncoder) -> Answer:
    """Each different text is encoded once, and its vector is kept nowhere."""

    def answer(texts: Sequence[str]) -> np.ndarray:
        vectors, _ = embed(texts, encoder, None)
        return model.probabilities(vectors, texts)

    return answer


def _nearest(
    message: str, loaded: LoadedModel, params: Params, encoder: SentenceEncoder, asked_for: Nearest
) -> tuple[tuple[LearnedRow, ...], str]:
    """The nearest rows that the model learned, and what to know of them; the words of an explanation stand without."""
    try:
        learned = learned_rows(loaded, params, encoder, asked_for.training_data)
    except PccError as error:
        fix = "--training-data names the file; `pcc embed` and `pcc train` fill the cache"
        return (), f"no nearest training messages: {error.what} ({fix})"
    vector = embed([message], encoder, None)[0][0]
    some = f"{learned.without:,} of {learned.without + len(learned.case_ids):,} training messages were not compared"
    note = f"{some}: the embedding cache holds no vector of them" if learned.without else ""
    return nearest_rows(
        vector, learned.vectors, learned.case_ids.tolist(), learned.labels.tolist(), asked_for.most
    ), note


def _left_to_a_person(model: TrainedModel, explanation: Explanation) -> str:
    rule, row = model.decision, explanation.probabilities[None, :]
    if rule.threshold is None or not rule.left_to_a_person(row)[0]:
        return ""
    return f"left to a person: {rule.reason(certainty(row, rule.score)[0])}"


def _text_of(case_id: str, params: Params) -> tuple[str, bool]:
    """The text of a row of `data.path`, by its own case id or the one that `score` or `evaluate` made for it.

    Also whether the file brings vectors.
    """
    address, label = params.data.path, params.data.label_column
    demand_input(address, Contract(None))
    # A made id is a hash of text and label: `score` makes it without the label, `evaluate` with it.
    for contract in (Contract(None), Contract(label)):
        batches = read(address)
        checker = ContractChecker(contract, source=address)
        for batch in batches:
            if contract.label_column is not None and label not in batch.columns:
                break
            checked = checker.check(batch)
            rows = checked.good[checked.good[CASE_ID] == case_id]
            if len(rows):
                return str(rows[TEXT].iloc[0]), checked.vectors is not None
            rejected = checked.rejected[checked.rejected[CASE_ID] == case_id]
            if len(rejected):
                first = rejected.iloc[0]
                raise DataError(
                    f"the row {case_id} breaks the data contract, so no model answers for it: "
                    f"{first['column']} {first['reason']}",
                    where=f"row {first['row']:,} of {address}",
                    fix="mend the row",
                )
    raise DataError(
        f"no row has the case id {case_id}", where=address, fix="name the file with --data, and an id that stands in it"
    )
