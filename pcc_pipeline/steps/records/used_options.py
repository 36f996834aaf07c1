"""What each step's run records of the configuration: the options that the step uses, and no others.

A run that measures a model records what the model was made with, and of the caller's options those that were used.
"""

from __future__ import annotations

from pcc_pipeline.config import Params

# What is kept for MLflow is encrypted by the key of lineage, if at all.
_ALWAYS = ("tracking", "logging", "output.unlogged_dir", "output.encryption", "lineage.key_file")
_READING = ("data.label_column", "data.schema", "data.max_rejected_fraction")
_CACHES = ("preprocessing.cache_dir", "preprocessing.cache")
_ENCODING = ("preprocessing.backend", "preprocessing.batch_size", "preprocessing.threads", *_CACHES)
# Of manifests of persons; who trains records all of `data`.
_PERSONS = ("data.subject_column", "lineage.suppression_file")
_MODEL = ("data", "preprocessing", "model", "decision", "search")
_PUBLISHING = ("registry.model_name", "registry.publish", "output.model_dir", "audit")

# Step -> keys of options, or of sections for all that is in them.
USED: dict[str, tuple[str, ...]] = {
    "embed": (
        *("data.path", "data.test_path", "data.group_column", "data.normalise_labels", "evaluation.slices", *_READING),
        *("preprocessing.embedding_model", *_ENCODING, "output.embedded_dir", "output.embedded_parts"),
        *("output.rejected", "compute"),
        *_PERSONS,
    ),
    "train": (
        *_MODEL,
        *("compute.engine", "compute.workers", "compute.address"),
        "evaluation",
        "registry.model_name",
        "output.studies_dir",
        "output.label_issues",
        "lineage.suppression_file",
    ),
    "evaluate": (
        *("registry.model_name", "registry.gates", "evaluation.slices", *_ENCODING),
        *("output.predictions", "output.extra_columns", "output.metrics", "output.report", "output.figures_dir"),
        *("output.monitoring_log", "lineage.suppression_file"),
    ),
    "ab_test": ("data.path", "data.label_column", "data.normalise_labels", "ab_test", "registry.model_name", *_PERSONS),
    "retrain": ("retrain", "registry.model_name", "data.split"),
    "promote": (
        *_ENCODING,
        *_PUBLISHING,
        "registry.gates",
        "registry.approvals",
        "registry.erasure_policy",
        "lineage.suppression_file",
    ),
    "erase": (
        *(*_PUBLISHING, "registry.gates", "registry.erasure_policy", "data.subject_column", "lineage.suppression_file"),
        *(*_CACHES, "output.erasures_dir", "output.metrics", "output.report", "registry.approvals"),
        "serving.models_dir",
    ),
    "roll_back": _PUBLISHING,
    "publish": _PUBLISHING,
    "monitor": (
        *_PERSONS,
        *("data.path", "data.label_column", "data.schema", "data.max_rejected_fraction"),
        *("monitoring.windows", "monitoring.false_alarm_rate", "monitoring.fail_on", "monitoring.logs"),
        *("monitoring.alerts", "monitoring.notify", "output.alerts_dir", "audit"),
        *("preprocessing.embedding_model", *_ENCODING, "registry.model_name"),
        *("output.monitor_page", "output.novel_rows", "output.metrics_file", "retrain.watch", "compute"),
    ),
    "score": (
        *_PERSONS,
        *("data.path", "data.schema", "data.max_rejected_fraction", "preprocessing.embedding_model", *_ENCODING),
        *("registry.model_name", "ab_test.challenger_share", "ab_test.shadow"),
        *("output.scores", "output.encrypt_scores", "output.extra_columns", "output.rejected", "output.monitoring_log"),
        "compute",
    ),
}


def used(params: Params, *steps: str) -> dict[str, str]:
    """Dotted key -> text of the options that these steps use."""
    return params.flat(*_ALWAYS, *(key for step in steps for key in USED[step]))


def used_on_model(params: Params, step: str, learned: Params, data: str | None = None) -> dict[str, str]:
    """The same of a step that measures a model: with the settings of its training in place of the caller's.

    Args:
        learned: the configuration of the model's training.
        data: where its training file lies now, if not where its training found it.
    """
    options = {**learned.flat(*_MODEL), **used(params, step)}
    if params.data.test_path is not None:
        return {**options, **params.flat("data.test_path", *_READING)}
    return options if data is None else {**options, "data.path": data}
