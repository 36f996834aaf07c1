"""A model measured on test rows, and what that leaves on record: for `evaluate` and for a promotion's judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.evaluation.answers import Answers, answers
from pcc_pipeline.evaluation.metrics import label_indices
from pcc_pipeline.evaluation.report import Report, report
from pcc_pipeline.evaluation.slices import Slice, groups, measure_slices, slice_metrics
from pcc_pipeline.features.full_vectors import full_vectors
from pcc_pipeline.model.fitting import Rows
from pcc_pipeline.steps.inputs.model_vectors import rows_for
from pcc_pipeline.steps.inputs.test_rows import HeldOut
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel
from pcc_pipeline.tracking.store.past_runs import ROWS_TAG


@dataclass(frozen=True)
class Measurement:
    """A model's answers for its test rows, and its scores.

    Attributes:
        rows: with the model's own vectors, whole ones.
        probabilities: shape (rows, K).
        slices: its scores on parts of the rows; empty where they were not asked for.
    """

    loaded: LoadedModel
    held: HeldOut
    rows: Rows
    probabilities: np.ndarray
    report: Report
    answers: Answers
    slices: tuple[Slice, ...] = ()

    @property
    def version_tags(self) -> dict[str, str]:
        """The scores that a registered version shows."""
        return {f"metric.test/{score}": f"{self.report.scores[score]:.6f}" for score in ("accuracy", "f1_macro")}

    @property
    def record(self) -> tuple[payloads.Payload, ...]:
        """Scores with intervals, on the run and on the model's page, and on which rows of which files."""
        model = self.loaded.model
        return (
            payloads.Tags(
                {
                    "pcc.version": model.model_version,
                    "pcc.encoder_digest": model.encoder_digest,
                    "pcc.model_uri": self.loaded.model_uri,
                    "pcc.training_run": self.loaded.run_id,
                    "pcc.test_source": self.held.source,
                    ROWS_TAG: self.held.dataset.rows_digest,
                }
            ),
            payloads.Metrics(
                {
                    **self.report.metrics(),
                    **self.answers.metrics("test"),
                    **slice_metrics(self.slices, "test"),
                },
                model_id=self.loaded.source.model_id,
            ),
            payloads.Metrics({"test/overlap_removed_rows": self.held.learned_rows}),
            payloads.Inputs(self.held.inputs),
            payloads.Models(used=[self.loaded.source.model_id]),
        )


def measure(
    loaded: LoadedModel, held: HeldOut, params: Params, learned: Params, slices: Sequence[str] | None = None
) -> Measurement:
    """Let a model answer for test rows, with vectors of its own encoder.

    Args:
        learned: the configuration of its training.
        slices: columns by which the rows are sliced besides the usual ones; None for no slices.

    Raises:
        DataError: a column cannot be sliced by.
        FeatureError: its encoder is not what stands under that name now.
        ModelError: it gives no probabilities.
    """
    rows, model = rows_for(loaded, held.dataset, params, learned, "test vectors"), loaded.model
    rows = replace(rows, vectors=full_vectors(rows.vectors, model.lexical, rows.texts))
    probabilities, uncalibrated = model.both_probabilities(rows.vectors, rows.texts)
    classes = list(model.classes)
    scores = report("test", rows.labels, probabilities, classes, model.positive_label, intervals_of_areas=True)
    outside = learned.decision.out_of_scope_label
    said = answers(rows.labels, probabilities, uncalibrated, classes, model.decision, outside)
    parts: tuple[Slice, ...] = ()
    if slices is not None:
        y = label_indices(rows.labels, [*classes, *scores.unknown_labels])
        parts = measure_slices(groups(held.dataset.frame, slices), y, probabilities.argmax(axis=1))
    return Measurement(loaded, held, rows, probabilities, scores, said, parts)
