"""The sections of params.yaml. Defaults here equal the shipped params.yaml, whose comments explain each option."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from pcc_pipeline.config.alert_settings import AlertParams
from pcc_pipeline.config.gate_settings import DEFAULT, Gates, default_gates
from pcc_pipeline.config.paths import DataAddress, HomePath, OutputAddress, WrittenPath, addresses_in
from pcc_pipeline.config.section import Fraction, NonEmpty, Section
from pcc_pipeline.config.serving_settings import ServingParams
from pcc_pipeline.masking import masked, masked_in

ContractColumn = Literal[
    "case_id",
    "confidence",
    "timestamp",
    "text_length",
    "word_count",
    "has_personal_info",
    "formality_score",
    "urgency_score",
    "embeddings",
]
BalanceMethod = Literal["SMOTE", "BorderlineSMOTE", "ADASYN", "RandomOverSampler", "class_weight", "none"]
SearchMethod = Literal["none", "grid", "random", "optuna"]
ExtraColumn = Literal["row", "probabilities"]
FeatureSelection = Literal["none", "l1", "mutual_information", "recursive"]
Calibration = Literal["none", "temperature", "sigmoid", "isotonic", "auto"]
Scoring = Literal["f1", "f1_weighted", "f1_macro", "accuracy", "roc_auc", "pr_auc", "neg_log_loss"]


class DataParams(Section):
    """`data`: the files, their columns and rules, and the split."""

    path: DataAddress = "sample"
    test_path: DataAddress | None = None
    exclude: HomePath | None = None
    label_column: NonEmpty = "intent"
    group_column: NonEmpty | None = None
    subject_column: NonEmpty | None = None
    positive_label: str | None = None
    normalise_labels: bool = False
    # `schema` is the file's word; the attribute differs because pydantic's models own that name.
    required_columns: tuple[ContractColumn, ...] = Field(default=(), alias="schema")
    split: Literal["random", "time", "stable"] = "random"
    stratify: bool = True
    test_size: Fraction = 0.2
    validation_size: Fraction = 0.1
    max_rejected_fraction: float = Field(default=0.1, ge=0, lt=1)
    random_state: int = Field(default=42, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _leaves_rows_to_train_on(self) -> Self:
        if self.test_path is None and self.test_size + self.validation_size >= 1:
            raise ValueError(
                f"test_size {self.test_size} and validation_size {self.validation_size} leave no rows to train on; "
                "together they must stay below 1"
            )
        return self


class TfidfParams(Section):
    """`preprocessing.tfidf`: the lexical half."""

    analyzer: Literal["word", "char", "char_wb"] = "char_wb"
    ngram_range: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(le=10)]] = (3, 5)
    n_features: int = Field(default=65536, ge=256, le=2**22)
    sublinear_tf: bool = True

    @model_validator(mode="after")
    def _ngrams_ascend(self) -> Self:
        if self.ngram_range[0] > self.ngram_range[1]:
            raise ValueError(f"ngram_range {list(self.ngram_range)} must be [smallest, largest]")
        return self


POSTGRESQL = ("postgresql://", "postgresql+psycopg://")


def _demand_cache(address: str) -> str:
    if not address.startswith(("redis://", "rediss://", "unix://", *POSTGRESQL)):
        raise ValueError(
            "begins with redis://, rediss:// or unix:// of a Redis, such as redis://host:6379/0, or with postgresql://"
        )
    return address


class PreprocessingParams(Section):
    """`preprocessing`: how a text becomes numbers."""

    embedding_model: NonEmpty = "all-MiniLM-L6-v2"
    backend: Literal["auto", "torch", "openvino"] = "auto"
    cache_dir: WrittenPath | None = "~/.cache/pcc_pipeline"
    cache: Annotated[NonEmpty, AfterValidator(_demand_cache)] | None = None
    batch_size: int = Field(default=32, ge=1, le=4096)
    threads: int | None = Field(default=None, ge=1, le=1024)
    tfidf: TfidfParams = TfidfParams()
    svd_components: int = Field(default=200, ge=1, le=200)
    balance: bool = True
    balance_method: BalanceMethod = "SMOTE"
    balance_above: float = Field(default=10.0, ge=1)

    @property
    def lexical(self) -> dict[str, Any]:
        """The options of the lexical half: those of `tfidf`, and how many components are kept."""
        return {**self.tfidf.model_dump(), "components": self.svd_components}

    def balance_for(self, imbalance: float) -> BalanceMethod:
        """The method in force for training rows whose largest class is `imbalance` times the smallest."""
        return self.balance_method if self.balance and imbalance > self.balance_above else "none"


class ModelParams(Section):
    """`model`: the classifier, and how its hyperparameters are found."""

    type: NonEmpty = "LogisticRegression"
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    search_method: SearchMethod = "random"
    search_space: dict[str, Any] | Literal["older"] | None = None
    n_iter: int = Field(default=20, ge=1, le=100_000)
    cross_val: bool | Literal["auto"] = "auto"
    cv_folds: int = Field(default=5, ge=2, le=50)
    scoring: Scoring = "f1_macro"
    feature_selection: FeatureSelection = "none"
    n_features: int = Field(default=300, ge=1, le=584)
    calibration: Calibration = "auto"
    refit: bool = True
    solver_exact: bool = False
    in_memory_rows: int = Field(default=100_000, ge=1_000)

    @property
    def fixed(self) -> dict[str, Any]:
        """What a search lays its values over: the hyperparameters, and how features are chosen where they may be."""
        searched = self.search_space if self.search_method != "none" and isinstance(self.search_space, dict) else {}
        if self.feature_selection == "none" and "feature_selection" not in searched:
            return self.hyperparameters
        choice = {"feature_selection": self.feature_selection, "n_features": self.n_features}
        return {**self.hyperparameters, **choice}

    @property
    def folds_used(self) -> int:
        """How many of `cv_folds` each candidate is scored on: all, one (`cross_val: false`) or, unsearched, none."""
        if self.search_method == "none":
            return self.cv_folds if self.cross_val is True else 0
        return 1 if self.cross_val is False else self.cv_folds


class DecisionParams(Section):
    """Which rows the model leaves to a person, and its sets of labels."""

    abstain: Literal["none", "threshold", "auto"] = "none"
    score: Literal["confidence", "margin", "entropy"] = "confidence"
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    target_accuracy: Annotated[float, Field(gt=0, lt=1)] | None = None
    max_review_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    label: NonEmpty | None = None
    out_of_scope_label: NonEmpty | None = None
    conformal: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    conformal_by_class: bool = False

    @model_validator(mode="after")
    def _aims_fit(self) -> Self:
        aims = [name for name in ("target_accuracy", "max_review_share") if getattr(self, name) is not None]
        if self.abstain == "auto" and len(aims) != 1:
            raise ValueError("abstain: auto needs target_accuracy or max_review_share, and one of them only")
        if self.abstain != "auto" and aims:
            raise ValueError(f"{aims[0]} is what abstain: auto works towards; set abstain: auto, or leave it out")
        if (self.abstain == "threshold") != (self.threshold is not None):
            raise ValueError("abstain: threshold and a threshold go together: give both or neither")
        if self.conformal_by_class and self.conformal is None:
            raise ValueError("conformal_by_class needs conformal, the share of rows whose set holds their label")
        return self


class EvaluationParams(Section):
    """`evaluation`: what is measured besides the scores: slices of test rows, and a backtest on training rows."""

    slices: tuple[NonEmpty, ...] = ()
    backtest: int = Field(default=0, ge=0, le=100)

    @field_validator("slices")
    @classmethod
    def _groups_only(cls, slices: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in slices if name in ("text", "case_id", "embeddings")]:
            raise ValueError(f"{', '.join(wrong)} cannot be sliced by: its values are no groups of rows")
        return tuple(dict.fromkeys(slices))


class SearchParams(Section):
    """`search`: how a search runs, and where its study is kept."""

    n_jobs: int = Field(default=-1, ge=-1, le=256)
    timeout: float | None = Field(default=None, gt=0)
    sampler: Literal["tpe", "gp", "qmc"] = "tpe"
    pruning: bool = False
    study_name: NonEmpty | None = None
    storage: NonEmpty | None = None

    @model_validator(mode="after")
    def _some_worker(self) -> Self:
        if self.n_jobs == 0:
            raise ValueError("n_jobs 0 leaves nobody to work; give 1 or more, or -1 for one per processor core")
        return self


class PublishParams(Section):
    """`registry.publish`: where champions are published."""

    target: OutputAddress | None = None


class RegistryParams(Section):
    """`registry`: the registered model, and what its champion must show."""

    model_name: Annotated[str, Field(min_length=1, pattern=r"^[^/:]+$")] = "pcc-intent-classifier"
    gates: Gates = Field(default_factory=default_gates, json_schema_extra={"default": [*DEFAULT]})
    approvals: int = Field(default=0, ge=0, le=1)
    publish: PublishParams = PublishParams()
    erasure_policy: Literal["retrain", "block", "note"] = "retrain"


class AbTestParams(Section):
    """`ab_test`: the challenger beside the champion, in the field."""

    challenger_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shadow: bool = False
    difference: Fraction = 0.03
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    power: Annotated[float, Field(ge=0.5, lt=1)] = 0.8

    @model_validator(mode="after")
    def _answers_once(self) -> Self:
        if self.shadow and self.challenger_share:
            raise ValueError("with shadow the challenger's answers are not used: leave out challenger_share, or shadow")
        return self


class RetrainParams(Section):
    """`retrain`: which data is looked at, and what stands against training on it."""

    watch: DataAddress | None = None
    since: Literal["all", "champion"] = "all"
    window_days: int | None = Field(default=None, ge=1)
    min_new_rows: int = Field(default=100, ge=0)
    labels: Literal["same", "any"] = "same"
    worse_by: float | None = Field(default=0.05, ge=0, le=1)
    most_a_day: int = Field(default=3, ge=1)
    demanded_by: tuple[NonEmpty, ...] = ("drift/*", "estimated/*", "observed/*")
    settle_seconds: float = Field(default=10, ge=0, le=3600)


class TrackingParams(Section):
    """`tracking`: what is done about an MLflow server that does not answer."""

    preflight: bool = True
    patience: float = Field(default=600, ge=0)


class MonitoringParams(AlertParams):
    """`monitoring`: what is watched of a model that serves, and who is told."""

    windows: Literal["all", "day", "week"] | Annotated[int, Field(ge=30)] = "all"
    false_alarm_rate: float = Field(default=0.05, ge=0.002, le=0.5)
    fail_on: Literal["never", "alert"] = "never"
    logs: DataAddress | None = None
    absence_hours: Annotated[float, Field(gt=0)] = 36.0


class OutputParams(Section):
    """`output`: where local copies go."""

    embedded_dir: HomePath = "outputs/embedded"
    embedded_parts: OutputAddress | None = None
    predictions: HomePath = "outputs/predictions.parquet"
    extra_columns: tuple[ExtraColumn, ...] = ()
    metrics: HomePath = "outputs/metrics.json"
    report: HomePath = "outputs/report.html"
    figures_dir: HomePath = "outputs/figures"
    rejected: HomePath = "outputs/rejected.parquet"
    label_issues: HomePath = "outputs/label_issues.parquet"
    studies_dir: HomePath = "outputs/studies"
    monitoring_log: HomePath = "outputs/monitoring_log.jsonl"
    scores: OutputAddress = "outputs/scores.parquet"
    monitor_page: HomePath = "outputs/monitor.html"
    novel_rows: HomePath = "outputs/novel_rows.parquet"
    metrics_file: HomePath | None = None
    unlogged_dir: HomePath = "outputs/unlogged"
    alerts_dir: HomePath = "outputs/alerts"
    erasures_dir: HomePath = "outputs/erasures"
    model_dir: HomePath | None = "outputs/models"
    encryption: Literal["none", "key"] = "none"
    encrypt_scores: bool = False

    @property
    def encrypts(self) -> bool:
        """Whether what holds texts on this machine is sealed."""
        return self.encryption == "key"


Days = Annotated[int, Field(ge=1)]


class ComputeParams(Section):
    """`compute`: who scores or embeds the files of a data set in parts, and who measures a search's candidates."""

    engine: Literal["local", "dask"] = "local"
    workers: int = Field(default=1, ge=-1, le=1024)
    address: NonEmpty | None = None
    shard: Annotated[str, Field(pattern=r"^\d+/\d+$")] | None = None

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        if self.workers == 0:
            raise ValueError("workers is 0: give 1 or more, or -1 for one for each core")
        if self.address is not None and self.engine != "dask":
            raise ValueError("address is that of Dask's scheduler: set engine to dask")
        number, of = self.part_of
        if not 1 <= number <= of:
            raise ValueError(f"shard {self.shard} is none: 1/{max(of, 1)} is the first, {of}/{of} the last")
        return self

    @property
    def part_of(self) -> tuple[int, int]:
        """Which part of the inputs, counted from 1, and of how many; 1 of 1 is all of them."""
        number, _, of = (self.shard or "1/1").partition("/")
        return int(number), int(of)


class RetentionParams(Section):
    """`retention`: after how many days what is written goes."""

    embedded: Days | None = None
    caches: Days | None = None
    predictions: Days | None = None
    scores: Days | None = None
    runs: Days | None = None


class LineageParams(Section):
    """`lineage`: who stood in which rows."""

    key_file: HomePath = Field(default="~/.config/pcc_pipeline/lineage.key", validate_default=True)
    suppression_file: HomePath = Field(default="~/.config/pcc_pipeline/suppressed.json", validate_default=True)


class AuditParams(Section):
    """`audit`: the log of who decided or touched what."""

    folder: HomePath = "outputs/audit"
    rotate_mb: float = Field(default=10, gt=0, le=10_000)


class LoggingParams(Section):
    """`logging`: what is written to standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class Params(Section):
    """One run's whole configuration."""

    data: DataParams = DataParams()
    preprocessing: PreprocessingParams = PreprocessingParams()
    model: ModelParams = ModelParams()
    decision: DecisionParams = DecisionParams()
    evaluation: EvaluationParams = EvaluationParams()
    search: SearchParams = SearchParams()
    registry: RegistryParams = Field(default_factory=RegistryParams)
    ab_test: AbTestParams = AbTestParams()
    retrain: RetrainParams = RetrainParams()
    tracking: TrackingParams = TrackingParams()
    monitoring: MonitoringParams = MonitoringParams()
    serving: ServingParams = ServingParams()
    output: OutputParams = OutputParams()
    retention: RetentionParams = RetentionParams()
    lineage: LineageParams = LineageParams()
    audit: AuditParams = AuditParams()
    compute: ComputeParams = ComputeParams()
    logging: LoggingParams = LoggingParams()

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        faults = []
        if self.search.pruning and self.model.search_method == "none":
            faults.append("search.pruning=true needs a model.search_method other than none: there is nothing to stop")
        if (self.search.study_name or self.search.storage) and self.model.search_method != "optuna":
            faults.append(
                "search.study_name and search.storage need model.search_method=optuna: no other method has a study"
            )
        if self.output.encrypt_scores and not self.output.encrypts:
            faults.append("output.encrypt_scores=true needs output.encryption=key")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def learns_rule(self) -> bool:
        """Whether the decision rule is learned, from training rows of each fold in turn."""
        return self.decision.abstain == "auto" or self.decision.conformal is not None

    @property
    def needs_held_scores(self) -> bool:
        """Whether training has to look at rows through models that did not learn them."""
        return self.model.calibration != "none" or self.learns_rule

    def document(self) -> dict[str, Any]:
        """The configuration as params.yaml would spell it: nested plain values, for the record.

        What is secret in an address, such as that of `search.storage`, is left out: three asterisks stand for it.
        """
        document: dict[str, Any] = _without_secrets(self.model_dump(mode="json", by_alias=True))
        return document

    def flat(self, *keys: str) -> dict[str, str]:
        """Dotted key -> text, for logging: lists and mappings of one option stay in one value.

        Args:
            keys: options, or sections for all that is in them; none for the whole configuration.
        """
        options = dict(_flatten("", self.document()))
        if not keys:
            return options
        return {
            name: value
            for name, value in options.items()
            if any(name == key or name.startswith(f"{key}.") for key in keys)
        }


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    if isinstance(value, str):
        return _masked_each(value) if value.startswith("[") else masked(value)
    return value


def _masked_each(text: str) -> str:
    """A list of addresses, which is one text, with what is secret left out; it stays such a list."""
    try:
        addresses = addresses_in(text)
    except ValueError:
        return masked_in(text)
    shown = [masked(address) for address in addresses]
    return text if shown == addresses else json.dumps(shown, ensure_ascii=False)


def _flatten(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict) and (value or not prefix):
        return [pair for key, inner in value.items() for pair in _flatten(f"{prefix}.{key}" if prefix else key, inner)]
    return [(prefix, str(value))]
