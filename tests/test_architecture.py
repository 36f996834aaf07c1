"""What importing costs, and how things are named. Which floor may import which: see pyproject.toml."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
PACKAGE = "pcc_pipeline"
ROOT = REPOSITORY / PACKAGE
ENTRYPOINTS = REPOSITORY / "entrypoints"

# Slow to import, so only imported inside what needs them. ruff (TID253) sees the plain statement at the head of a file.
HEAVY = {"torch", "openvino", "sentence_transformers", "transformers", "google.cloud", "matplotlib", "optuna"}
# Imported themselves where a search uses Optuna, and nowhere else.
WITH_OPTUNA = {
    f"{PACKAGE}.search.{module}" for module in ("optuna_searcher", "optuna_storage", "shared_study.searcher")
}

SCRIPT_LINES = 20
# Not an entry point: what says so where the package is not installed.
SHARED_BY_SCRIPTS = "installed_package"
# Not an MLproject entry point: a table of subcommands, each with options of its own, in place of parameters.
TOOL = "manage_models"
# Nor this: it calls steps by a schedule, which have runs of their own, and has none.
SCHEDULE = "auto_pipeline"
SCRIPTS = sorted(path.stem for path in ENTRYPOINTS.glob("*.py") if path.stem not in (SHARED_BY_SCRIPTS, TOOL))
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}
# Alone they say how something came, not what it is: a reader has to go and look.
SAYS_NOTHING = {"found", "wanted", "given", "told", "asked", "sides", "moves"}


def test_entry_points_are_thin() -> None:
    counted = {script: len((ENTRYPOINTS / f"{script}.py").read_text("utf-8").splitlines()) for script in SCRIPTS}
    assert {name: lines for name, lines in counted.items() if lines > SCRIPT_LINES} == {}


def test_every_entry_point_of_the_project_file_is_a_script() -> None:
    project = yaml.safe_load((REPOSITORY / "MLproject").read_text(encoding="utf-8"))
    assert {*project["entry_points"], SCHEDULE} == {*SCRIPTS}


def test_modules_are_named_for_their_subject() -> None:
    files = [*ROOT.rglob("*.py"), *ENTRYPOINTS.glob("*.py"), *(REPOSITORY / "tests").rglob("*.py")]
    folders = [path for path in ROOT.rglob("*") if path.is_dir()]
    assert [path for path in [*files, *folders] if path.stem in NAMELESS] == []


@pytest.mark.parametrize("folder", [PACKAGE, "entrypoints", "deploy", "benchmarks"])
def test_names_say_what_a_thing_is(folder: str) -> None:
    paths = sorted((REPOSITORY / folder).rglob("*.py"))
    assert paths, f"{folder} is not there any more: take it out of the list"
    said = [
        f"{path.relative_to(REPOSITORY)}:{line}: {name}"
        for path in paths
        for line, name in [*((1, part) for part in (path.parent.name, path.stem)), *_names_in(path)]
        if name.strip("_").lower() in SAYS_NOTHING
    ]
    assert said == [], (
        "these names say how a thing came and not what it is. Call each what it holds at its place, such as lines, "
        "match, rows, options or request"
    )


def test_importing_the_package_imports_nothing_else() -> None:
    loaded = _modules_after(f"import {PACKAGE}")
    assert {name for name in loaded if name.startswith(PACKAGE)} == {PACKAGE}
    assert not loaded & {"pandas", "numpy", "sklearn", "mlflow", "pydantic", "yaml", *HEAVY}


def test_importing_every_module_leaves_what_only_some_runs_need() -> None:
    paths = [path.relative_to(REPOSITORY).with_suffix("") for path in ROOT.rglob("*.py") if path.stem != "__init__"]
    modules = {".".join(path.parts) for path in paths}
    assert modules >= WITH_OPTUNA, "an exception that excuses nothing is to be removed"
    loaded = _modules_after("\n".join(f"import {module}" for module in sorted(modules - WITH_OPTUNA)))
    assert not loaded & (HEAVY | WITH_OPTUNA)


@pytest.mark.parametrize("script", [*SCRIPTS, TOOL])
def test_help_answers_without_loading_a_library(script: str) -> None:
    """The program text runs as it stands; what it had imported is read when it ends."""
    code = (
        f"import runpy, sys\nsys.path.insert(0, 'entrypoints')\nsys.argv = ['entrypoints/{script}.py', '--help']\n"
        f"runpy.run_path('entrypoints/{script}.py', run_name='__main__')\n"
    )
    shown = _help_of(code)
    assert shown.startswith(f"usage: {script}.py")
    for option in ("list", "compare", "import") if script == TOOL else ("--params-file", "--set"):
        assert option in shown


@pytest.mark.parametrize("command", [[], ["train"], ["profile"], ["models"], ["models", "list"]])
def test_help_of_pcc_answers_without_loading_a_library(command: list[str]) -> None:
    code = f"import sys\nfrom pcc_pipeline.command_line import pcc\nsys.exit(pcc.main({[*command, '--help']}))\n"
    assert _help_of(code).startswith(" ".join(["usage: pcc", *command]))


def _names_in(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each variable, argument, field, function and class of a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield node.lineno, name


def _modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has imported after `statement`."""
    code = f"{statement}\nimport json, sys\nprint('\\nMODULES' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    return set(json.loads(done.stdout.rpartition("MODULES")[2]))


def _help_of(code: str) -> str:
    """What a program prints that ends in its help. It must not have imported a library for that."""
    listing = (
        "import atexit, json, sys\natexit.register(lambda: print('\\nMODULES' + json.dumps(sorted(sys.modules))))\n"
    )
    command = [sys.executable, "-c", listing + code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    shown, _, listed = done.stdout.rpartition("MODULES")
    unwanted = {"pandas", "numpy", "sklearn", "mlflow", "pydantic", "yaml", "shtab", *HEAVY}
    assert not set(json.loads(listed)) & unwanted
    return shown
