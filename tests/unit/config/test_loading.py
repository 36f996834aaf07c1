"""From a file, the environment and the command line to one configuration, or to one message with every fault."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from pcc_pipeline.config import Fault, Params, load_params
from pcc_pipeline.config.loading import chosen_file
from pcc_pipeline.config.schema import ModelParams
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier
from pcc_pipeline.steps.parameters import NAMED_OPTIONS, resolve


def written(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(error: ConfigError) -> list[str]:
    return [line.removeprefix("  - ") for line in str(error).splitlines() if line.startswith("  - ")]


def test_without_a_file_the_defaults_are_in_force() -> None:
    assert load_params(None) == Params()


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "data: {test_size: 2, pathh: a.csv}\nmodel: {search_method: bayes}\nmodell: {}\n")
    with pytest.raises(ConfigError) as caught:
        load_params(path, {"model.cv_folds": "many"}, ["nonsense"], {"PCC_LOGGING__LEVEL": "LOUD"})
    found = faults_of(caught.value)
    assert "the configuration has 7 faults:" in str(caught.value)
    assert {fault.split(":")[0] for fault in found} == {
        "set",
        "data.test_size",
        "data.pathh",
        "model.search_method",
        "model.cv_folds",
        "modell",
        "logging.level",
    }
    assert f"where: {path}" in str(caught.value)


def test_faults_of_hyperparameters_stand_beside_those_of_the_schema() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(None, {}, ["model.hyperparameters.D=1 data.test_size=2 model.hyperparameters.C=big"])
    found = dict(fault.split(": ", 1) for fault in faults_of(caught.value))
    assert set(found) == {"model.hyperparameters.D", "data.test_size", "model.hyperparameters.C"}
    assert "LogisticRegression has no such hyperparameter; there are C, penalty" in found["model.hyperparameters.D"]


def test_an_unknown_key_is_told_with_the_closest_name_and_all_names() -> None:
    with pytest.raises(ConfigError) as caught:
        load_params(None, {"model.serch_method": "grid", "datta.path": "x", "preprocessing.tfidf.analyser": "word"})
    found = dict(fault.split(": ", 1) for fault in faults_of(caught.value))
    assert found["model.serch_method"].startswith("no such option (did you mean search_method?); there are type, ")
    assert found["datta"].startswith("no such option (did you mean data?); there are data, preprocessing, ")
    assert "(did you mean analyzer?); there are analyzer, ngram_range" in found["preprocessing.tfidf.analyser"]


def test_an_unknown_key_like_no_other_is_told_without_a_guess() -> None:
    with pytest.raises(ConfigError, match=r"data\.zzz: no such option; there are path, test_path, .*, schema, "):
        load_params(None, {"data.zzz": 1})


def test_an_option_of_another_section_is_named_where_it_stands() -> None:
    with pytest.raises(ConfigError, match=r"search\.n_iter: no such option \(did you mean model\.n_iter\?\)"):
        load_params(None, {"search.n_iter": 30})


def test_the_file_spells_schema_as_the_contract_does(tmp_path: Path) -> None:
    params = load_params(written(tmp_path, "data: {schema: [case_id, timestamp]}"))
    assert params.data.required_columns == ("case_id", "timestamp")


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "model: {cv_folds: 3, n_iter: 3, scoring: f1}\nsearch: {n_jobs: 3}")
    environment = {"PCC_MODEL__CV_FOLDS": "4", "PCC_MODEL__N_ITER": "4", "PCC_MODEL__SCORING": "accuracy"}
    model = load_params(path, {"model.n_iter": 6}, ["model.n_iter=5 model.cv_folds=5"], environment).model
    assert (model.cv_folds, model.n_iter, model.scoring) == (5, 6, "accuracy")
    assert load_params(path, environment=environment).model.cv_folds == 4
    assert load_params(path, environment=environment).search.n_jobs == 3


def test_variables_that_are_not_options_are_left_alone() -> None:
    assert load_params(None, environment={"PCC_HOME": "/x", "PATH": "/bin", "XPCC_MODEL__CV_FOLDS": "0"}) == Params()


def test_a_misspelt_variable_is_told() -> None:
    with pytest.raises(ConfigError, match=r"model\.cv_fold: no such option \(did you mean cv_folds\?\)"):
        load_params(None, environment={"PCC_MODEL__CV_FOLD": "3"})


def test_set_takes_several_options_and_yaml_values() -> None:
    text = "model.cv_folds=3 preprocessing.balance=false data.path='my file.csv' search.timeout=1.5"
    more = (
        'model.hyperparameters.C=1e-3 model.hyperparameters.solver=saga data.group_column=null "data.schema=[case_id]"'
    )
    params = load_params(None, {}, [text, more])
    assert params.model.cv_folds == 3
    assert params.preprocessing.balance is False
    assert params.data.path == "my file.csv"
    assert params.search.timeout == 1.5
    assert params.data.group_column is None
    assert params.data.required_columns == ("case_id",)
    assert params.model.hyperparameters == {"C": 1e-3, "solver": "saga"}


@pytest.mark.parametrize(
    "text",
    [
        "/data/cases #2.csv",
        "#2.csv",
        "*.csv",
        "&b.csv",
        "Mode: fast",
        "a: b: c",
        "2026-11-28",
        "yes",
        "1e3",
        "0x10",
        "no #1",
        "%x",
        "@home",
        "!tag",
        "~x.csv",
        "--- a",
    ],
)
@pytest.mark.parametrize("key", ["data.label_column", "decision.label", "search.study_name"])
def test_text_comes_as_it_was_written(key: str, text: str) -> None:
    """YAML would end it at ` #`, or make something else of it than text."""
    optuna = {"model.search_method": "optuna"}
    variable = f"PCC_{key.upper().replace('.', '__')}"
    assert load_params(None, optuna, environment={variable: text}).flat()[key] == text
    assert load_params(None, optuna, environment={variable: f" {text}\n"}).flat()[key] == text
    assert load_params(None, optuna, [shlex.quote(f"{key}={text}")]).flat()[key] == text


def test_text_of_an_option_below_a_section_of_a_section_comes_as_it_was_written() -> None:
    environment = {"PCC_REGISTRY__PUBLISH__TARGET": "gs://bucket/privacy #2"}
    assert load_params(None, environment=environment).registry.publish.target == "gs://bucket/privacy #2"


def test_an_option_that_takes_text_takes_null_lists_and_quotes_of_yaml() -> None:
    for null in ("null", "~", "", " ", "NULL"):
        assert load_params(None, environment={"PCC_DATA__GROUP_COLUMN": null}).data.group_column is None
    for quoted in ("'a #1'", '"a #1"', " 'a #1' # which is one"):
        assert load_params(None, environment={"PCC_DATA__GROUP_COLUMN": quoted}).data.group_column == "a #1"
    for listed in ("[a.csv, 'b #2.csv']", "- a.csv\n- 'b #2.csv'"):
        assert load_params(None, environment={"PCC_DATA__PATH": listed}).data.path == '["a.csv", "b #2.csv"]'
    for wrong in ("[a.csv", "'a", "{a: 1}", "a\x1bb"):
        with pytest.raises(ConfigError, match=r"1 fault:\n  - data\.path: "):
            load_params(None, environment={"PCC_DATA__PATH": wrong})
    # What takes no text is YAML still, its comments too.
    assert load_params(None, environment={"PCC_MODEL__N_ITER": "3 # few"}).model.n_iter == 3
    assert load_params(None, environment={"PCC_MODEL__HYPERPARAMETERS": "C: 3"}).model.hyperparameters == {"C": 3}
    assert load_params(None, environment={"PCC_EVALUATION__SLICES": "- a\n- b"}).evaluation.slices == ("a", "b")


def test_the_later_setting_wins() -> None:
    assert load_params(None, {}, ["model.n_iter=1", "model.n_iter=2 model.n_iter=3"]).model.n_iter == 3


def test_a_value_may_hold_an_equals_sign() -> None:
    address = "postgresql://u@h/s?sslmode=require"
    params = load_params(None, {"model.search_method": "optuna"}, [f"search.storage={address}"])
    assert params.search.storage == address


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.cv_folds", r"set: 'model\.cv_folds' is not of the form section\.option=value"),
        ("cv_folds=3", r"cv_folds: an option is named by its dotted key.*did you mean model\.cv_folds\?"),
        ("model.cv_folds=[1", r"model\.cv_folds: '\[1' is not a YAML value"),
        ("data.path='a.csv", r"set: .* cannot be split into key=value pairs: No closing quotation"),
        ("=3", "an option is named by its dotted key"),
        ("model.=3", r"model\.: no such option"),
        ("model..cv_folds=3", "no such option"),
        ("model.cv_folds.x=3", r"model\.cv_folds: .*valid integer"),
        ("model=3", "an option is named by its dotted key"),
    ],
)
def test_a_setting_that_cannot_be_read_is_told(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_params(None, {}, [setting])


@pytest.mark.parametrize(
    "setting",
    [
        "preprocessing.cache='redis://u:my/S3CR@h",
        "redis://u:my/S3CR@h",
        "search.sampler=redis://u:my/S3CR@h",
        "preprocessing.cache=mysql://u:my/S3CR@h",
        "data.stratify=redis://h?password=S3CR",
    ],
)
def test_a_password_in_a_setting_that_is_refused_is_not_repeated(setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_params(None, {}, [setting])
    assert "S3CR" not in str(caught.value)


def test_an_option_below_an_unknown_section_of_plain_text_is_told(tmp_path: Path) -> None:
    """The file's `model: 3` gives way to the override, which says what a section is."""
    assert load_params(written(tmp_path, "model: 3"), {"model.n_iter": 2}).model.n_iter == 2
    with pytest.raises(ConfigError, match=r"model: 3: .*dictionary"):
        load_params(written(tmp_path, "model: 3"))


def test_a_section_of_comments_means_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "data:\n  # path: x\nmodel:\nlogging: {level: ERROR}\n")
    params = load_params(path)
    assert (params.data, params.logging.level) == (Params().data, "ERROR")
    assert load_params(path, {"model.n_iter": 2}).model.n_iter == 2


def test_a_null_section_within_a_section_means_the_defaults(tmp_path: Path) -> None:
    params = load_params(written(tmp_path, "preprocessing:\n  tfidf:\nmodel:\n  hyperparameters:\n"))
    assert params == Params()


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_params(written(tmp_path, "# nothing\n")) == Params()


def test_an_unknown_null_section_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"modle: no such option \(did you mean model\?\)"):
        load_params(written(tmp_path, "modle:\n"))


def test_a_file_that_is_not_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "data:\n  path: [a\nmodel: {}\n")
    with pytest.raises(ConfigError, match=r"(?s)not valid YAML: .*line 3.*where: .*params\.yaml"):
        load_params(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("registry: {approvals: 1}\nretention: {runs: 9}\nregistry:\n  model_name: x\n", "'registry'.*line 1.*line 3"),
        ("retention:\n  runs: 365\n  scores: 90\n  'runs': 3\n", "'runs'.*line 2.*line 4"),
        ("monitoring:\n  alerts: [{metric: drift/alarm, above: 0, above: 1}]\n", "'above'.*line 2.*line 2"),
        ("data: &a {path: x, path: y}\nmodel: {<<: *a}\n", "'path'.*line 1"),
    ],
)
def test_a_key_that_stands_twice_is_told_with_both_lines(tmp_path: Path, text: str, message: str) -> None:
    """Of two sections of a name the first, gates and all, would be dropped without a word."""
    with pytest.raises(ConfigError, match=rf"(?s)not valid YAML: the key {message}"):
        load_params(written(tmp_path, text))


def test_a_key_that_stands_twice_in_an_override_is_told() -> None:
    with pytest.raises(ConfigError, match=r"model\.hyperparameters: .* the key 'C' stands twice"):
        load_params(None, {}, ["'model.hyperparameters={C: 1, C: 2}'"])
    with pytest.raises(ConfigError, match=r"model\.hyperparameters: .* the key 'C' stands twice"):
        load_params(None, environment={"PCC_MODEL__HYPERPARAMETERS": "{C: 1, C: 2}"})


def test_what_a_merge_key_brings_along_may_stand_there_again(tmp_path: Path) -> None:
    text = """\
model:
  hyperparameters: &inner {<<: &base {C: 1, max_iter: 50}, C: 2}
  search_space: null
retention: {<<: [{runs: 3, scores: 4}, {runs: 5, caches: 6}], scores: 7}
data: {test_size: 0.3}
"""
    params = load_params(written(tmp_path, text))
    assert params.model.hyperparameters == {"C": 2, "max_iter": 50}
    assert (params.retention.runs, params.retention.scores, params.retention.caches) == (3, 7, 6)
    # Merged before it is built itself, the inner one already holds what it brings along.
    merged = f"{text.replace('data: {test_size: 0.3}', '')}data: {{<<: *inner}}\n"
    with pytest.raises(ConfigError, match=r"data\.C: no such option"):
        load_params(written(tmp_path, merged))


@pytest.mark.parametrize(("text", "kind"), [("- data\n- model\n", "list"), ("data", "str"), ("3", "int")])
def test_a_file_without_sections_is_told(tmp_path: Path, text: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"expected sections such as `data:`, found a {kind}"):
        load_params(written(tmp_path, text))


def test_a_key_that_is_not_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1"):
        load_params(written(tmp_path, "1: {path: x}\n"))
    with pytest.raises(ConfigError, match=r"data\.3"):
        load_params(written(tmp_path, "data: {3: x}\n"))


def test_a_missing_file_is_told() -> None:
    with pytest.raises(ConfigError, match=r"(?s)no such parameter file.*where: nowhere\.yaml.*an existing path"):
        load_params("nowhere.yaml")


def test_a_folder_or_a_binary_file_in_its_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the parameter file cannot be read"):
        load_params(tmp_path)
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00d")
    with pytest.raises(ConfigError, match="the parameter file cannot be read"):
        load_params(tmp_path / "params.yaml")


def test_yaml_that_would_build_python_objects_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = written(tmp_path, f"data: !!python/object/apply:os.system ['touch {mark}']\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_params(path)
    assert not mark.exists()


def test_section_checks_run_though_another_section_is_wrong() -> None:
    def check(model: ModelParams) -> list[Fault]:
        return [Fault("model.type", f"{model.type} is not to my taste")]

    with pytest.raises(ConfigError) as caught:
        load_params(None, {"data.test_size": 2}, checks={"model": check})
    assert [fault.split(":")[0] for fault in faults_of(caught.value)] == ["data.test_size", "model.type"]


def test_the_check_of_the_whole_runs_on_valid_sections_only() -> None:
    seen: list[Params] = []

    def check(params: Params) -> list[Fault]:
        seen.append(params)
        return [Fault("", "no")]

    with pytest.raises(ConfigError, match="1 fault:\n  - no"):
        load_params(None, whole_check=check)
    assert len(seen) == 1
    with pytest.raises(ConfigError):
        load_params(None, {"data.test_size": 2}, whole_check=check)
    assert len(seen) == 1


def test_named_options_stand_for_their_keys() -> None:
    params = resolve(
        None,
        {
            "data": "a.csv",
            "test_data": "b.csv",
            "label": "kind",
            "search_method": "grid",
            "n_iter": "7",
            "model_type": None,
        },
    )
    assert (params.data.path, params.data.test_path, params.data.label_column) == ("a.csv", "b.csv", "kind")
    assert (params.model.search_method, params.model.n_iter, params.model.type) == ("grid", 7, "LogisticRegression")
    defaults = Params().flat()
    assert set(NAMED_OPTIONS.values()) <= set(defaults)


def test_an_unknown_model_type_is_told_with_the_types_there_are() -> None:
    with pytest.raises(ConfigError, match=r"model\.type: 'XGBoost' is not one of LogisticRegression, LinearSVC"):
        resolve(None, {"model_type": "XGBoost"})


@pytest.mark.parametrize(
    ("model_type", "members"), [("MLP", ""), ("Voting", " model.hyperparameters.members=[MLP,SGD]")]
)
def test_class_weight_with_a_model_that_cannot_weigh_is_told(model_type: str, members: str) -> None:
    setting = "preprocessing.balance_method=class_weight" + members
    with pytest.raises(ConfigError, match=f"class_weight does not work with {model_type}.*choose SMOTE"):
        resolve(None, {"model_type": model_type, "search_method": "none"}, [setting])
    # Switched off, the method is of no account.
    resolve(None, {"model_type": model_type, "search_method": "none"}, [setting + " preprocessing.balance=false"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.n_features=585"], r"model\.n_features: .*less than or equal to 584"),
        (["model.feature_selection=lasso"], r"model\.feature_selection: .*'l1', 'mutual_information' or 'recursive'"),
        (
            ["model.hyperparameters.n_features=5"],
            r"no hyperparameter of LogisticRegression; it is the option model\.n_f",
        ),
        (["'model.search_space={n_features: [5, 9]}'"], r"nothing is chosen while model\.feature_selection is none"),
    ],
)
def test_a_choice_of_features_that_cannot_be_is_told(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(None, settings=settings)


def test_hyperparameters_that_clash_are_told() -> None:
    with pytest.raises(
        ConfigError, match=r"model\.hyperparameters: solver lbfgs cannot fit penalty l1; solvers that can"
    ):
        resolve(None, {"search_method": "none"}, ["model.hyperparameters.penalty=l1"])


@pytest.mark.parametrize(
    "setting",
    [
        "'model.hyperparameters={penalty: l1}' 'model.search_space={solver: [liblinear, saga], C: [1, 10]}'",
        "'model.hyperparameters={penalty: l1}' 'model.search_space={solver: [lbfgs, saga]}'",
        "'model.hyperparameters={penalty: l1}' model.search_space=older",
        "'model.hyperparameters={penalty: l1}'",
        "'model.hyperparameters={penalty: elasticnet, solver: saga}' 'model.search_space={l1_ratio: [0.1, 0.9]}'",
        "'model.hyperparameters={solver: lbfgs}' 'model.search_space={penalty: [l1], solver: [saga]}'",
        "model.type=Voting 'model.hyperparameters={weights: [1, 2]}'",
    ],
)
def test_what_clashes_with_a_default_that_is_never_tried_is_no_fault(setting: str) -> None:
    assert resolve(None, {}, [setting]).model.hyperparameters


@pytest.mark.parametrize(
    "setting",
    [
        "'model.hyperparameters={penalty: l1}' 'model.search_space={C: [1, 10]}'",
        "'model.hyperparameters={penalty: l1}' 'model.search_space={solver: [lbfgs, sag]}'",
        "'model.hyperparameters={penalty: l1, solver: lbfgs}'",
        "'model.hyperparameters={penalty: elasticnet, solver: saga}'",
        "'model.hyperparameters={penalty: l1}' 'model.search_space={solver: [saga]}' model.search_method=none",
        "model.type=Voting 'model.hyperparameters={weights: [1, 2, 3, 4]}'",
    ],
)
def test_hyperparameters_that_clash_in_every_candidate_are_told(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"1 fault:\n  - model\.hyperparameters: .*(penalty|weights)"):
        resolve(None, {}, [setting])


OLDER_SPACE = "model.search_space: older, the older system's own, since the file names none"
OLDER = """\
data:
  path: cases.csv
  schema:
    - {name: text, type: string}
    - {name: intent, type: string}
    - {name: case_id, type: string}
    - {name: confidence, type: float}
    - {name: timestamp, type: 'datetime64[ns]'}
    - {name: text_length, type: int}
    - {name: word_count, type: int64}
    - {name: has_personal_info, type: int}
    - {name: source_system, type: string}
    - {name: embeddings, type: 'list<float>', required: false}
  stratify: true
  test_size: 0.25
preprocessing:
  embedding_model: all-MiniLM-L6-v2
  balance: true
  balance_method: SMOTE
model:
  type: LogisticRegression
  hyperparameters: {C: 10, penalty: l2, solver: lbfgs, max_iter: 500, random_state: 7}
  grid_search: true
  cross_val: true
  cv_folds: 4
  scoring: f1_weighted
output:
  predictions: output/test_predictions.parquet
  metrics: output/metrics.json
  monitoring_log: output/monitoring.jsonl
logging:
  level: INFO
"""
OLDER_NOTES = [
    "data.schema: read as a list of names: the file must have case_id, confidence, timestamp, text_length, word_count, "
    "has_personal_info; optional: embeddings; left alone, as no columns of the data contract: source_system; types "
    "are checked as the data contract has them; has_personal_info is true or false there, not int",
    "model.grid_search: true is taken as model.search_method: grid",
    "model.hyperparameters.random_state: 7 is taken as data.random_state, the seed of all",
    OLDER_SPACE,
]


def notes_of(caplog: pytest.LogCaptureFixture, path: Path) -> list[str]:
    return [record.getMessage().removeprefix(f"{path}: ") for record in caplog.records]


def test_a_file_of_the_older_system_loads_whole_and_says_what_it_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, OLDER)
    params = resolve(path)
    assert notes_of(caplog, path) == OLDER_NOTES
    assert (params.data.path, params.data.test_size, params.data.random_state) == ("cases.csv", 0.25, 7)
    assert params.data.required_columns == (
        "case_id",
        "confidence",
        "timestamp",
        "text_length",
        "word_count",
        "has_personal_info",
    )
    assert (params.model.search_method, params.model.cross_val, params.model.cv_folds) == ("grid", True, 4)
    assert params.model.hyperparameters == {"C": 10, "penalty": "l2", "solver": "lbfgs", "max_iter": 500}
    assert (params.model.scoring, params.preprocessing.balance_method) == ("f1_weighted", "SMOTE")
    assert params.output.predictions == "output/test_predictions.parquet"
    assert params.output.monitoring_log == "output/monitoring.jsonl"


def test_options_that_only_the_older_system_had_are_left_out_of_its_file_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(
        tmp_path,
        "model: {grid_search: false, cross_validation: 5, hyperparameters: {C: 1, class_weight: balanced, n_jobs: 2}}\n"
        "output: {model: output/model.joblib}\ntraining: {epochs: 3}\n",
    )
    params = resolve(path)
    assert (params.model.search_method, params.model.hyperparameters) == ("none", {"C": 1})
    assert notes_of(caplog, path) == [
        "model.grid_search: false is taken as model.search_method: none",
        "model.hyperparameters.class_weight: balanced is left out: preprocessing.balance_method: class_weight weighs "
        "the classes",
        "model.hyperparameters.n_jobs: 2 is left out: search.n_jobs sets the worker processes",
        "model.cross_validation is left out: there is no such option (is cross_val meant?)",
        "output.model is left out: there is no such option (is model_dir meant?)",
        "training is left out: there is no such option (is tracking meant?)",
    ]


@pytest.mark.parametrize(
    ("text", "seed", "method", "notes"),
    [
        (
            "data: {random_state: 3}\nmodel: {hyperparameters: {random_state: 7}}",
            3,
            "random",
            ["model.hyperparameters.random_state: 7 is left out: data.random_state, the seed of all, is 3"],
        ),
        (
            "data: {random_state: 7}\nmodel: {hyperparameters: {random_state: 7}}",
            7,
            "random",
            ["model.hyperparameters.random_state: 7 stands in data.random_state already, the seed of all"],
        ),
        (
            "model: {hyperparameters: {random_state: null}, grid_search: null}",
            42,
            "random",
            [
                "model.grid_search: null says nothing and is left out",
                "model.hyperparameters.random_state: null is left out: data.random_state is the seed of all",
                OLDER_SPACE,
            ],
        ),
        (
            "model: {grid_search: true, search_method: optuna}",
            42,
            "optuna",
            ["model.grid_search: true is left out: model.search_method says optuna", OLDER_SPACE],
        ),
    ],
)
def test_of_two_words_for_one_thing_todays_is_taken_and_the_older_one_is_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, seed: int, method: str, notes: list[str]
) -> None:
    path = written(tmp_path, text)
    params = resolve(path)
    assert (params.data.random_state, params.model.search_method) == (seed, method)
    assert notes_of(caplog, path) == notes


def test_what_the_command_line_says_wins_over_a_translated_word(tmp_path: Path) -> None:
    path = written(tmp_path, OLDER)
    params = resolve(path, {"search_method": "none"}, ["data.random_state=9"])
    assert (params.model.search_method, params.data.random_state) == ("none", 9)


@pytest.mark.parametrize("key", ["data.pathh", "model.hyperparameters.D", "model.serch_method", "modell"])
def test_the_older_systems_leniency_reaches_no_file_of_today(tmp_path: Path, key: str) -> None:
    """A seed among the hyperparameters is moved; that alone makes no unknown option pass."""
    path = written(tmp_path, "model: {hyperparameters: {random_state: 7}}")
    with pytest.raises(ConfigError, match=key):
        resolve(path, {}, [f"{key}=1" if "." in key else f"{key}.x=1"])
    section, _, option = key.partition(".")
    text = f"{section}: {{{option or 'x'}: 1}}" if section != "model" else f"model: {{{option}: 1}}"
    if "hyperparameters" not in key:
        with pytest.raises(ConfigError, match=key):
            resolve(written(tmp_path, text))
    # And what is given beside an older file is given today.
    with pytest.raises(ConfigError, match=key):
        resolve(written(tmp_path, OLDER), {}, [f"{key}=1" if "." in key else f"{key}.x=1"])


@pytest.mark.parametrize("text", ["model: {grid_search: 'perhaps'}", "data: {schema: [{nme: text}]}"])
def test_an_older_option_without_sense_is_a_fault(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"grid_search: no such option|data\.schema\.0"):
        resolve(written(tmp_path, text))


def test_the_older_penalty_becomes_the_ratio_that_scikit_learn_takes_now(tmp_path: Path) -> None:
    for penalty, ratio in (("l1", 1.0), ("l2", 0.0)):
        model = resolve(
            written(tmp_path, OLDER.replace("penalty: l2, solver: lbfgs", f"penalty: {penalty}, solver: liblinear"))
        ).model
        classifier = build_classifier(model.type, model.hyperparameters, Task(2, 0))
        assert (classifier.l1_ratio, classifier.C, classifier.max_iter) == (ratio, 10, 500)


@pytest.mark.parametrize(("text", "number"), [("1e-3", 1e-3), ("1E3", 1e3), ("+2e+1", 20.0), ("1.0e-3", 1e-3)])
def test_powers_of_ten_are_numbers_with_or_without_a_dot(tmp_path: Path, text: str, number: float) -> None:
    """Plain YAML 1.1 reads 1e-3 as text, and a hyperparameter given so would be refused."""
    assert resolve(None, {}, [f"model.hyperparameters.C={text}"]).model.hyperparameters == {"C": number}
    path = written(tmp_path, f"model: {{hyperparameters: {{C: {text}}}}}")
    assert resolve(path).model.hyperparameters == {"C": number}
    # Digits with letters stay text.
    assert load_params(None, {}, ["data.path=1e3a"]).data.path == "1e3a"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("2026-02-31", "no timestamp that there can be"),
        ("9" * 5000, "no int that there can be"),
        ("0x" + "f" * 5000, "a number of so many digits"),
        ("!!bool maybe", "no bool that there can be"),
        ("!!int ''", "no int that there can be"),
        ("!!timestamp soon", "no timestamp that there can be"),
        ("[" * 5000, "is not a YAML value"),
        ("&a [*a]", "is not a YAML value"),
    ],
)
def test_a_value_that_cannot_be_is_a_fault_of_its_option(tmp_path: Path, value: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(None, {}, [f"model.hyperparameters.C={shlex.quote(value)}"])
    (fault,) = faults_of(caught.value)
    assert fault.startswith("model.hyperparameters.C: ")
    assert problem in fault
    assert len(fault) < 400
    with pytest.raises(ConfigError, match="not valid YAML"):
        resolve(written(tmp_path, f"model: {{hyperparameters: {{C: {value}}}}}"))
    with pytest.raises(ConfigError, match=r"model\.hyperparameters\.C"):
        resolve(None, environment={"PCC_MODEL__HYPERPARAMETERS__C": value})


def test_a_file_that_grows_without_bounds_is_refused(tmp_path: Path) -> None:
    lists = "\n".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairwise("abcdefghij"))
    path = written(tmp_path, f"a: &a [x, x, x, x, x, x, x, x, x]\n{lists}\n")
    with pytest.raises(ConfigError, match="aliases stand for more than 100,000 values"):
        load_params(path)
    # Aliases as such are no fault.
    path = written(tmp_path, "data: {test_size: &share 0.3, validation_size: *share}")
    assert load_params(path).data.validation_size == 0.3


def test_a_file_that_is_much_too_large_or_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more than 4,000,000 bytes"):
        load_params("/dev/zero")
    (tmp_path / "latin.yaml").write_bytes(b"data: \xe9")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 6"):
        load_params(tmp_path / "latin.yaml")


def test_a_key_without_end_is_a_fault() -> None:
    with pytest.raises(ConfigError, match=r"model\.hyperparameters\.x\.…: no such option"):
        load_params(None, {}, ["model.hyperparameters" + ".x" * 5000 + "=1"])


def test_a_number_without_end_in_a_named_option_is_a_fault() -> None:
    with pytest.raises(ConfigError, match=r"model\.n_iter: '999.*\(5,002 characters\): unable to parse"):
        resolve(None, {"n_iter": "9" * 5000})


def test_a_command_goes_by_the_file_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, by the defaults; but what moves a champion needs one."""
    monkeypatch.chdir(tmp_path)
    assert chosen_file(None) is None
    assert chosen_file("~/mine.yaml") == Path.home() / "mine.yaml"
    with pytest.raises(ConfigError, match=rf"(?s)a promotion goes by its gates.*where: {tmp_path}.*--params-file"):
        chosen_file(None, demanded=True)
    written(tmp_path, "")
    assert chosen_file(None) == chosen_file(None, demanded=True) == Path("params.yaml")


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, "model: {n_iter: 3}")
    none = {"output.extra_columns", "output.encryption", "output.encrypt_scores"}
    names = [name for name in Params().flat() if name.startswith("output.") and name not in none]
    assert len(names) == 18
    keys = [*names, "data.path", "data.test_path", "monitoring.logs", "registry.publish.target"]
    params = load_params("~/params.yaml", {key: f"~/{key}" for key in keys})
    assert params.model.n_iter == 3
    flat = params.flat()
    assert {key: flat[key] for key in keys} == {key: f"{tmp_path}/{key}" for key in keys}
    # A slash at the end says that a folder is meant.
    assert load_params(None, {"output.scores": "~/parts/"}).output.scores == f"{tmp_path}/parts/"
    # The cache is that of the machine that reads the record of a run.
    assert params.preprocessing.cache_dir == "~/.cache/pcc_pipeline"
    assert load_params(None, {"data.path": "gs://b/~x.csv"}).data.path == "gs://b/~x.csv"


def test_an_address_is_no_path_of_this_machine() -> None:
    """It would become a folder `https:` here."""
    either = {"output.scores", "output.embedded_parts", "registry.publish.target"}
    none = {"output.extra_columns", "output.encryption", "output.encrypt_scores"}
    names = [name for name in Params().flat() if name.startswith("output.") and name not in none]
    others = ("data.exclude", "lineage.key_file", "serving.tokens_file", "preprocessing.cache_dir")
    for name in (*names, *either, *others):
        bucket = ["gs:/b/x"] if name in either else ["gs://b/x", "gs:/b/x"]
        for address in ("https://host/x", "s3://b/x", "file:///x", *bucket):
            with pytest.raises(ConfigError, match=rf"{re.escape(name)}: '{address}': a path on this machine .* meant"):
                load_params(None, {name: address})
        assert load_params(None, {name: "outputs/2026-11-28T12:00"}).flat()[name] == "outputs/2026-11-28T12:00"
        with pytest.raises(ConfigError, match="on this machine") as refused:
            load_params(None, {name: "https://me:S3CRET@host/x"})
        assert "S3CRET" not in str(refused.value)
    for name in either:
        assert load_params(None, {name: "gs://b/x"}).flat()[name] == "gs://b/x"


def test_a_home_folder_that_is_not_known_is_a_fault() -> None:
    with pytest.raises(ConfigError, match=r"output\.metrics: .*~nobody-by-that-name.*is not known; set HOME"):
        load_params(None, {"output.metrics": "~nobody-by-that-name/m.json"})
    with pytest.raises(ConfigError, match=r"(?s)the home folder that ~ stands for is not known.*set HOME"):
        load_params("~nobody-by-that-name/params.yaml")
