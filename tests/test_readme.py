"""README and docs/ tell the truth: every command, option, file and table in them is held against what is there."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest
import yaml

from pcc_pipeline.command_line import pcc
from pcc_pipeline.command_line.commands import auto_command, manage_commands
from pcc_pipeline.command_line.commands.step_commands import STEPS
from pcc_pipeline.command_line.options import LEFT_OUT
from pcc_pipeline.command_line.parser import Parser
from pcc_pipeline.config import Params, reference
from pcc_pipeline.config.schema import ContractColumn, SearchMethod
from pcc_pipeline.evaluation.predictions import COLUMNS
from pcc_pipeline.model.families import FAMILIES
from pcc_pipeline.serving.forms import read_request
from pcc_pipeline.steps.parameters import NAMED_OPTIONS, resolve
from tests.compose_files import compose

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
README = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
PROJECT = yaml.safe_load((REPOSITORY / "MLproject").read_text(encoding="utf-8"))["entry_points"]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
# The table of options has a test of its own.
_UNREAD = rf"^```.*?^```$|{re.escape(reference.BEGIN)}.*?{re.escape(reference.END)}"
PROSE = re.sub(_UNREAD, "", README, flags=re.MULTILINE | re.DOTALL)
SPANS = sorted(set(re.findall(r"`([^`\n]+)`", PROSE)))

# Files that runs make, artifacts, and places on the user's machine: named in the README and not in the repository.
MADE = {
    # Of a data set in parts.
    "_lineage/",
    "_manifest.json",
    "persons.txt",
    ".venv",
    "outputs/",
    "outputs/audit",
    "outputs/embedded/",
    "outputs/studies",
    "outputs/server/",
    "outputs/serving/",
    "outputs/server/audit",
    "outputs/screenshots/",
    "mlflow.db",
    "mlruns/",
    "rejected.parquet",
    "split.parquet",
    "lineage.parquet",
    "records.json",
    "reference_profile.npz",
    "monitor.html",
    "data_files.json",
    "trials.parquet",
    "backtest.parquet",
    "volumes.parquet",
    "label_issues.parquet",
    "predictions.parquet",
    "metrics.json",
    "metadata.json",
    "model_card.md",
    "comparison.json",
    "outputs/report.html",
}


def shell_lines() -> list[str]:
    """The commands of the shell blocks, and those in the prose."""
    blocks = [line.partition("  #")[0].strip() for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
    prose = [span for span in SPANS if re.match(r"(?:[A-Z_]+=\S+ )*(?:make|mlflow run|pcc) ", span)]
    return [line.replace("<entry point>", "main") for line in [*blocks, *prose] if line]


def words_of(line: str) -> tuple[dict[str, str], list[str]]:
    """Variables set in front of a command, and its words."""
    words, environment = shlex.split(line), {}
    while words and re.fullmatch(r"[A-Z_]+[A-Z0-9_]*=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    return environment, words


LINES = shell_lines()


def commands(*start: str) -> list[str]:
    found = [line for line in LINES if words_of(line)[1][: len(start)] == list(start)]
    assert found, f"the README shows no command {' '.join(start)}"
    return found


def table(*head: str) -> list[list[str]]:
    """The rows of the table with these column names, each cell as text."""
    pattern = r"^\| " + r" \| ".join(re.escape(name) for name in head) + r" \|\n\|[-|]+\|\n((?:\|.*\|\n)+)"
    found = re.findall(pattern, README, flags=re.MULTILINE)
    assert len(found) == 1, f"{len(found)} tables headed {head}"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"))] for row in found[0].splitlines()]


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def settings_of(words: list[str], name: str) -> list[str]:
    """The values of a repeated option such as -P."""
    return [words[place + 1] for place, word in enumerate(words) if word == name]


@pytest.mark.parametrize("line", LINES)
def test_every_command_is_of_a_kind_that_is_checked(line: str) -> None:
    """A new kind of command needs a test below."""
    _, words = words_of(line)
    known = (
        "make",
        "mlflow",
        "pcc",
        "python",
        "python3.11",
        "source",
        "pip",
        "curl",
        "export",
        "docker",
        "gcloud",
        "dask",
    )
    # What tests/server/test_kubernetes_page.py checks.
    of_kubernetes = ("kubectl", "sed", "aws", "eksctl")
    assert words, line
    assert words[0] in (*known, *of_kubernetes)


@pytest.mark.parametrize("line", commands("dask"))
def test_dask_knows_the_command_and_its_options(line: str) -> None:
    from distributed.cli import dask_scheduler, dask_worker

    _, (_, name, *rest) = words_of(line)
    command = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= options


@pytest.mark.parametrize("line", commands("make"))
def test_make_targets_and_variables_exist(line: str) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    arguments = words_of(line)[1][1:]
    targets = [word for word in arguments if "=" not in word]
    assert targets, line
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE), f"no target {target}"
    for name in [word.partition("=")[0] for word in arguments if "=" in word]:
        assert re.search(rf"^{name} \?=", makefile, flags=re.MULTILINE), f"no variable {name}"


def project_commands() -> Iterator[str]:
    """Every `mlflow run`, and what `make run ARGS=…` adds to it."""
    yield from commands("mlflow", "run", ".")
    for line in commands("make", "run"):
        for word in words_of(line)[1]:
            if word.startswith("ARGS="):
                yield f"mlflow run . {word.removeprefix('ARGS=')}"


@pytest.mark.parametrize("line", list(project_commands()))
def test_mlflow_run_names_parameters_that_exist_and_options_that_resolve(line: str) -> None:
    environment, words = words_of(line)
    entry = next(iter(settings_of(words, "-e")), "main")
    given = dict(pair.split("=", 1) for pair in settings_of(words, "-P"))
    assert given.keys() <= PROJECT[entry]["parameters"].keys()
    named = {name: value for name, value in given.items() if name in NAMED_OPTIONS}
    params = resolve(REPOSITORY / "params.yaml", named, [given["set"]] if "set" in given else [], environment)
    for name, value in named.items():
        assert params.flat()[NAMED_OPTIONS[name]] == value


@pytest.mark.parametrize("line", [*commands("mlflow"), "mlflow ui --host 127.0.0.1 --port 5000 --workers 1"])
def test_mlflow_has_the_commands_and_options(line: str) -> None:
    from mlflow.cli import cli

    words, command = words_of(line)[1][1:], cli
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
    assert command is not None
    command.make_parser(click.Context(command)).parse_args(words)


@pytest.mark.parametrize("line", commands("python"))
def test_scripts_take_the_options(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (_, script, *options) = words_of(line)
    assert (REPOSITORY / script).is_file()
    if script == "deploy/accounts.py":
        monkeypatch.setattr(sys, "path", [str(REPOSITORY / "deploy"), *sys.path])
        importlib.import_module("accounts").parser_of_accounts().parse_args(options)
        return
    if script == "deploy/kubernetes/switch.py":
        monkeypatch.setattr(sys, "path", [str(REPOSITORY / "deploy/kubernetes"), *sys.path])
        importlib.import_module("switch").parser_of_switch().parse_args(options)
        return
    if script == "entrypoints/manage_models.py":
        manage_commands.parser(script).parse_args(options)
        return
    if script == "entrypoints/auto_pipeline.py":
        parser = Parser()
        auto_command.AutoCommand().add_options(parser)
        parser.parse_args(options)
        return
    (step,) = [step for step in STEPS if script == f"entrypoints/{step.entry}.py"]
    found = vars(step.parser(script).parse_args(options))
    named = {name: found[name] for name in NAMED_OPTIONS if found.get(name, LEFT_OUT) != LEFT_OUT}
    resolve(REPOSITORY / "params.yaml", named, found["set"])


@pytest.mark.parametrize("line", commands("pcc"))
def test_pcc_takes_the_commands_and_options(line: str) -> None:
    pcc.parser().parse_args(words_of(line)[1][1:])


@pytest.mark.parametrize("line", commands("docker", "compose"))
def test_docker_compose_is_told_of_services_and_scripts_that_are_there(line: str) -> None:
    """deploy/try_containers.sh runs them; no engine is at hand here."""
    words = words_of(line)[1][2:]
    services: dict[str, Any] = {}
    while words[0] == "-f":
        for name, service in compose(words[1].removeprefix("deploy/"))["services"].items():
            services[name] = {**services.get(name, {}), **service}
        words = words[2:]
    while words[0] == "--profile":
        assert any(words[1] in service.get("profiles", []) for service in services.values())
        words = words[2:]
    action, *rest = words
    assert action in ("up", "stop", "start", "exec", "cp", "run", "build", "down")
    options = [word for word in rest if word.startswith("-")]
    if action in ("up", "build", "down"):
        assert set(rest) <= {"--build", "--detach", "--wait", "--volumes", *services}
    elif action == "run":
        assert set(options[:1]) == {"--rm"}
        service, command, *given = [word for word in rest if word not in options[:1]]
        assert service == "pipeline"
        pcc.parser().parse_args([command, *given])
    elif action == "cp":
        for place in rest:
            service, colon, folder = place.partition(":")
            assert not colon or any(
                mount.partition(":")[2] == f"/{folder.split('/')[1]}" for mount in services[service]["volumes"]
            )
    elif action == "exec" and "tls" in rest:
        assert rest[1:] == ["tls", "cat", "/data/caddy/pki/authorities/local/root.crt", ">", "root.crt"]
        assert "${PCC_TRY_ROOT:-../root.crt}:/run/root.crt:ro" in services["pipeline"]["volumes"]
    elif action == "exec" and "tar" in rest:
        assert rest[:5] == ["-T", "postgres", "tar", "-C", "/backups"]
        assert "backups:/backups" in services["postgres"]["volumes"]
    else:
        assert rest[0] in services
        if action == "exec":
            dockerfile = (REPOSITORY / services[rest[0]]["build"]["dockerfile"]).read_text(encoding="utf-8")
            assert f"deploy/{rest[1]}" in dockerfile
            assert f"backups:{Path(rest[2]).parent}" in services[rest[0]]["volumes"]


@pytest.mark.parametrize("line", commands("docker", "build"))
def test_docker_builds_from_files_that_are_there(line: str) -> None:
    words = words_of(line)[1]
    assert (REPOSITORY / settings_of(words, "-f")[0]).is_file()
    assert words[-1] == "."
    assert line.lstrip("$ ") in (REPOSITORY / settings_of(words, "-f")[0]).read_text(encoding="utf-8")


@pytest.mark.parametrize("line", commands("docker", "run"))
def test_docker_runs_the_projects_image_as_the_compose_file_of_the_try_does(line: str) -> None:
    words = words_of(line)[1]
    place = words.index("pcc-pipeline")
    if "--entrypoint" not in words:
        pcc.parser().parse_args(words[place + 1 :])
        assert {"--rm", "--read-only", "--init"} <= set(words)
        assert settings_of(words, "-v") == ["pcc-outputs:/srv/project/outputs"]
        assert settings_of(words, "--tmpfs") == ["/tmp"]


@pytest.mark.parametrize("line", commands("gcloud", "storage", "rsync"))
def test_gcloud_copies_between_buckets(line: str) -> None:
    """What else gcloud does, for Kubernetes, tests/server/test_kubernetes_page.py checks."""
    words = words_of(line)[1]
    assert words[3] == "--recursive"
    assert [word.startswith("gs://") for word in words[4:]] == [True, True]


@pytest.mark.parametrize("line", commands("pip"))
def test_pip_installs_extras_that_exist_at_the_pinned_versions(line: str) -> None:
    _, words = words_of(line)
    assert settings_of(words, "-c") == ["constraints.txt"]
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    for installed in settings_of(words, "-e"):
        named = re.fullmatch(r"\.(?:\[(.+)\])?", installed)
        assert named, installed
        assert {name.strip() for name in (named[1] or "").split(",") if name} <= extras.keys()


def test_the_requests_that_curl_sends_are_those_that_the_servers_take() -> None:
    lines = [words_of(line)[1] for line in commands("curl")]
    (of_mlflow,) = [words for words in lines if "/v1/classify" not in "".join(words)]
    of_ours = [words for words in lines if words is not of_mlflow]
    assert [list(row) for row in json.loads(settings_of(of_mlflow, "-d")[0])["inputs"]] == [["text"]]
    (serve,) = commands("mlflow", "models", "serve")
    assert f":{settings_of(words_of(serve)[1], '-p')[0]}/invocations" in of_mlflow[1]
    for words in of_ours:
        assert [case.text for case in read_request(settings_of(words, "-d")[0].encode(), 1).cases] != [None]
    addresses = {word for words in of_ours for word in words if "/v1/classify" in word}
    assert addresses == {
        f"http://127.0.0.1:{Params().serving.port}/v1/classify",
        "https://pcc.example.org/v1/classify",
        "https://mlflow.example.org/v1/classify",
    }


@pytest.mark.parametrize("block", [block for kind, block in BLOCKS if kind == "yaml"])
@pytest.mark.parametrize("method", get_args(SearchMethod))
def test_configuration_examples_load(block: str, method: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(block, encoding="utf-8")
    resolve(path, {"search_method": method})


@pytest.mark.parametrize("block", [block for kind, block in BLOCKS if kind == "python"])
def test_python_examples_are_python(block: str) -> None:
    """They are run on a real store in pipeline/test_notebooks.py."""
    compile(block, "README.md", "exec")


def test_every_dotted_key_is_an_option() -> None:
    known = set(Params().flat()) | {"model.hyperparameters"}
    sections = "|".join(Params.model_fields)
    files = {"model.joblib", "lineage.parquet"}  # of a published version, of a run
    named = {
        span.partition("=")[0] for span in SPANS if re.fullmatch(rf"(?:{sections})\.[a-z_.]+(?:=\S+)?", span)
    } - files
    assert len(named) > 10
    assert named - known == set()


def test_every_file_named_is_there_or_is_made_by_a_run() -> None:
    suffixes = r"\.(?:py|ipynb|md|yaml|yml|toml|txt|json|parquet|db|png)"
    paths = {
        span
        for span in SPANS
        if re.fullmatch(rf"[\w./-]+(?:{suffixes}|/)|[\w.-]+(?:/[\w.-]+)+|MLproject|Makefile|\.\w+", span)
        and not span.startswith(
            (
                "http",
                "figures/",
                "test/",
                "train/",
                "val/",
                "cv/",
                "backtest/",
                "probability/",
                "data/",
                "quality/",
                "operation/",
                "drift/",
                "observed/",
                "roles/",
                ".",
            )
        )
    } | {span for span in SPANS if span.startswith(".ci")}
    assert {"params.yaml", "tests/test_architecture.py", ".ci/run"} <= paths
    # The table of floors names their folders by the last name.
    folders = {f"{path.name}/" for path in (REPOSITORY / "pcc_pipeline").rglob("*") if path.is_dir()}
    # The page of Kubernetes names what lies in its folder from there.
    roots = (REPOSITORY, REPOSITORY / "deploy" / "kubernetes")
    missing = [path for path in paths - MADE - folders if not any((root / path).exists() for root in roots)]
    assert sorted(missing) == []


def headings(page: Path) -> set[str]:
    """As the anchors that a link may name."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_and_headings_that_are_there(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")) if "://" not in link]
    for link in links:
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def test_the_readme_names_every_page_of_docs() -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGES[0].read_text(encoding="utf-8"))
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= set(links)


def test_the_table_of_options_is_that_of_the_schema_and_of_params_yaml() -> None:
    page = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")
    params_file = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    assert page == reference.with_reference(page, params_file), "run make docs"
    told = {names_in(row)[0] for row in page.splitlines() if re.match(r"\| `[a-z_]+\.", row)}
    assert told == set(Params().flat()) | {"model.hyperparameters"}
    assert not re.findall(r"^\| `.*\|  \|$", page, flags=re.MULTILINE), "an option without a word on it"


def test_the_tables_of_entry_points_and_parameters_equal_the_project_file() -> None:
    assert [names_in(row[0]) for row in table("entry point", "what it does")] == [[name] for name in PROJECT]
    rows = table("parameter", "stands for", "of")
    for entry, described in PROJECT.items():
        shown = [names_in(row[0])[0] for row in rows if row[2] == "all" or entry in names_in(row[2])]
        assert shown == list(described["parameters"]), entry
    stand_for = {names_in(row[0])[0]: names_in(row[1])[0] for row in rows if names_in(row[0])[0] in NAMED_OPTIONS}
    assert stand_for == NAMED_OPTIONS


def test_the_tables_of_columns_search_methods_and_floors_are_whole() -> None:
    columns = [name for row in table("column", "type", "rule") for name in names_in(row[0])]
    assert columns == ["text", "intent", *get_args(ContractColumn)]
    methods = [names_in(row[0])[0] for row in table("`search_method`", "what it tries")]
    assert methods == list(get_args(SearchMethod))
    floors = {names_in(row[0])[0] for row in table("floor", "what is there")}
    there = {path for path in (REPOSITORY / "pcc_pipeline").iterdir() if not path.name.startswith(("__", "py.typed"))}
    assert floors == {f"pcc_pipeline/{path.name}{'/' if path.is_dir() else ''}" for path in there}


def test_model_types_and_prediction_columns_are_named() -> None:
    types = next(line for line in README.splitlines() if line.startswith("Classifiers (`model.type`)"))
    assert [name for name in names_in(types) if name[0].isupper()] == list(FAMILIES)
    answer = next(line for line in README.splitlines() if line.startswith("The answer has the downstream"))
    assert [name for name in names_in(answer) if name in COLUMNS][: len(COLUMNS)] == list(COLUMNS)


def test_the_defaults_that_the_readme_states_are_the_defaults() -> None:
    params = Params()
    methods = table("`search_method`", "what it tries")
    assert [names_in(row[0]) for row in methods if "(default)" in row[1]] == [[params.model.search_method]]
    assert f"`{params.model.type}` (default)" in README
    assert f"`{params.registry.model_name}`" in README
    assert f"`{params.preprocessing.cache_dir}`" in README
    assert f"under `{params.output.studies_dir}`" in README
    assert f"`{params.output.embedded_dir}/`" in README
