"""What a training run found out, and how it is written down: metrics, documents, tables and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.quality.counts import DuplicateReport
from pcc_pipeline.data.quality.near_duplicates import NearDuplicates
from pcc_pipeline.evaluation.label_issues import LabelIssues
from pcc_pipeline.evaluation.metrics import objective
from pcc_pipeline.evaluation.over_time.backtest import Backtest
from pcc_pipeline.evaluation.over_time.volumes import Volumes
from pcc_pipeline.evaluation.plots.data_and_search import (
    class_distribution,
    optimisation_history,
    parameter_importances,
)
from pcc_pipeline.evaluation.plots.over_time import score_against_time
from pcc_pipeline.evaluation.report import Report
from pcc_pipeline.model.lineage import Lineage
from pcc_pipeline.model.selection import FeaturesUsed
from pcc_pipeline.search.trials import SearchOutcome
from pcc_pipeline.steps.inputs.split import Split
from pcc_pipeline.steps.training.calibrate import Answering
from pcc_pipeline.steps.training.sampled import Sampled
from pcc_pipeline.tracking import payloads


@dataclass(frozen=True)
class TrainingRecord:
    """The facts of one training run; `solver` is what fitted the final model, `lengths` counts rows by text length."""

    params: Params
    version: str
    lineage: Lineage
    classes: list[str]
    hyperparameters: dict[str, Any]
    split: Split
    labels: np.ndarray
    lengths: Mapping[str, int]
    quality: DuplicateReport
    reports: dict[str, Report]
    cross_validation: dict[str, float]
    search: SearchOutcome | None
    sampled: Sampled
    warnings: tuple[str, ...]
    rejected: int
    blank_lines: int
    solver: str
    features: FeaturesUsed
    near: NearDuplicates
    answering: Answering
    issues: LabelIssues | None = None
    backtest: Backtest | None = None
    volumes: Volumes | None = None

    @property
    def headline(self) -> dict[str, float]:
        """The few numbers that stand beside a version in the registry."""
        validation = self.reports["val"].scores
        scores = {f"val/{name}": validation[name] for name in ("accuracy", "f1_macro", "roc_auc")}
        for kind in ("mean", "corrected"):
            name = f"cv/{self.params.model.scoring}_{kind}"
            if name in self.cross_validation:
                scores[name] = self.cross_validation[name]
        return {name: value for name, value in scores.items() if np.isfinite(value)}

    @property
    def metrics(self) -> dict[str, float]:
        """Every number of the run under its name in MLflow."""
        counts = {
            "data/rows": len(self.labels),
            "data/rejected_rows": self.rejected,
            "data/blank_lines": self.blank_lines,
            "data/duplicate_rows": self.quality.duplicate_rows,
            "data/conflicting_texts": self.quality.conflicting_texts,
            "data/rows_in_conflict": self.quality.rows_in_conflict,
            "data/overlap_removed_rows": self.split.overlapping,
            "data/near_duplicate_rows": self.near.repeated,
            "data/excluded_rows": self.split.excluded,
        }
        if self.issues is not None:
            counts["data/label_issues"] = len(self.issues.table)
        return {
            **counts,
            **self.quality.shares(self.rejected),
            **self.reports["train"].metrics(by_class=False),
            **self.reports["val"].metrics(by_class=False),
            **self.cross_validation,
            **self.answering.metrics,
            **({} if self.backtest is None else self.backtest.metrics),
            **({} if self.volumes is None else self.volumes.metrics),
        }

    @property
    def class_counts(self) -> dict[str, dict[str, int]]:
        """Side -> label -> rows."""
        parts = {"train": self.split.train, "val": self.split.validation, "test": self.split.test}
        return {
            name: dict(Counter(str(label) for label in self.labels[positions]))
            for name, positions in parts.items()
            if len(positions)
        }


def metadata_document(record: TrainingRecord, embedding_model: str, dimensions: int) -> dict[str, Any]:
    """metadata.json of the contract with the downstream system."""
    model = record.params.model
    trained = {**record.class_counts["train"]}
    if model.refit:
        for label, count in record.class_counts.get("val", {}).items():
            if label in record.classes:  # the final fit leaves out rows of a label that no training row has
                trained[label] = trained.get(label, 0) + count
    best = record.search.best if record.search else None
    return {
        "model_version": record.version,
        **record.lineage.document(),
        "embedding_model": embedding_model,
        "trained_on": record.params.data.path,
        "classifier": model.type,
        "model_type": model.type,
        "hyperparameters": record.hyperparameters,
        "solver": record.solver,
        "search_method": model.search_method,
        "search_info": {
            "scoring": model.scoring,
            "folds": model.folds_used,
            "trials": len(record.search.trials) if record.search else 0,
            "trials_by_state": record.search.counts if record.search else {},
            "workers_died": record.search.workers_died if record.search else 0,
            "stopped_by_timeout": record.search is not None and record.search.timeout is not None,
            "best_trial": best.number if best else None,
            "best_score": best.score if best else None,
            "best_score_corrected": record.cross_validation.get(f"cv/{model.scoring}_corrected"),
            "study_name": record.search.study_name if record.search else None,
        },
        "sampled": record.sampled.document(),
        "training_samples": sum(trained.values()),
        "feature_dimensions": dimensions,
        "feature_selection": record.features.document(),
        "classes": record.classes,
        "class_distribution": dict(sorted(trained.items())),
        **record.answering.document(record.classes),
        "training_timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def metrics_document(record: TrainingRecord) -> dict[str, Any]:
    """metrics.json of a training run; evaluation adds `test`."""
    return {
        "model_version": record.version,
        "train": record.reports["train"].to_json(),
        "val": record.reports["val"].to_json(),
        "cv": record.cross_validation,
        "data": {
            "rows": len(record.labels),
            "rejected_rows": record.rejected,
            "blank_lines": record.blank_lines,
            "unique_texts": record.quality.unique_texts,
            "duplicate_rows": record.quality.duplicate_rows,
            "conflicting_texts": record.quality.conflicting_texts,
            "conflicting_case_ids": list(record.quality.conflicting_case_ids),
            "overlap_removed_rows": record.split.overlapping,
            "near_duplicate_rows": record.near.repeated,
            "near_duplicates_looked_at": record.near.looked_at,
            "excluded_rows": record.split.excluded,
            "label_issues": None if record.issues is None else len(record.issues.table),
            "class_counts": record.class_counts,
            "length_counts": dict(record.lengths),
        },
        "label_issues": [] if record.issues is None else record.issues.to_json(),
        "backtest": None if record.backtest is None else record.backtest.to_json(),
        "volumes": None if record.volumes is None else record.volumes.to_json(),
        "warnings": list(record.warnings),
    }


def _search_tags(search: SearchOutcome) -> dict[str, str]:
    """By which runs are found whose best candidate is the best of fewer than were to be tried."""
    tags = {"pcc.search_trials": search.summary}
    if search.workers_died:
        tags["pcc.search_workers_died"] = str(search.workers_died)
    if search.timeout is not None:
        tags["pcc.search_stopped_by"] = "search.timeout"
    return tags


def training_payloads(record: TrainingRecord, metadata: dict[str, Any]) -> list[payloads.Payload]:
    """All that a training run logs with its model."""
    entries: list[payloads.Payload] = [
        payloads.Metrics(record.metrics, model_id=payloads.OF_THE_MODEL),
        payloads.Json("metrics.json", metrics_document(record)),
        payloads.Json("metadata.json", metadata),
        payloads.Tags({"pcc.solver": record.solver}),
        payloads.LoggedParams(
            {f"best.{name}": str(value) for name, value in record.hyperparameters.items() if value is not None}
        ),
    ]
    if record.issues is not None:
        entries.append(payloads.Table("label_issues.parquet", record.issues.table))
    if record.volumes is not None:
        entries.append(payloads.Table("volumes.parquet", record.volumes.table))
    drawings = {"class_distribution": class_distribution(record.class_counts)}
    if (backtest := record.backtest) is not None:
        entries.append(payloads.Table("backtest.parquet", backtest.table))
        entries += [payloads.Metrics(backtest.metrics_of(each), step=each.window) for each in backtest.windows]
        drawings["score_against_time"] = score_against_time(backtest.to_json()["windows"])
    search = record.search
    if search is not None:
        entries.append(payloads.Tags(_search_tags(search)))
        entries.append(
            payloads.Table("trials.parquet", search.frame(partial(objective, scoring=record.params.model.scoring)))
        )
        if len(search.trials) > 1:
            scores = [float("nan") if trial.score is None else trial.score for trial in search.trials]
            states = [trial.state for trial in search.trials]
            drawings["optimisation_history"] = optimisation_history(scores, states, record.params.model.scoring)
        if search.importances:
            drawings["parameter_importances"] = parameter_importances(search.importances, record.params.model.scoring)
    entries.append(payloads.Figures(drawings))
    return entries
