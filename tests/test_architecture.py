"""The floors of the house: which module may import which, and what the entry points may cost."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = "pcc_pipeline"
ROOT = REPOSITORY / PACKAGE
ENTRYPOINTS = REPOSITORY / "entrypoints"

# Each floor may import those before it. tracking and storage stand side by side: see SIDE_BY_SIDE.
FLOORS = (
    "errors",
    "interruption",
    "processes",
    "imports",
    "files",
    "config",
    "data",
    "encoder",
    "features",
    "solvers",
    "model",
    "search",
    "evaluation",
    "gates",
    "storage",
    "publishing",
    "tracking",
    "steps",
    "manage",
    "command_line",
    "library",
)
SIDE_BY_SIDE = {frozenset({"tracking", "storage"}), frozenset({"tracking", "publishing"})}

# Vendors that one floor alone may import.
VENDOR_OF_FLOOR = {"mlflow": "tracking", "google": "storage"}

# Slow to import, so only imported inside what needs them.
HEAVY = ("torch", "openvino", "sentence_transformers", "google", "matplotlib", "optuna")
HEAVY_AT_THE_TOP = {
    "search/optuna_searcher.py": ("optuna", "the factory in searchers.py imports this module for method optuna only"),
    "search/optuna_storage.py": ("optuna", "only optuna_searcher.py and the factory's optuna branch import it"),
}
# Modules that may be imported inside functions only, but for the modules named, which are themselves such.
LAZY_MODULES = {
    "pcc_pipeline.search.optuna_searcher": set[str](),
    "pcc_pipeline.search.optuna_storage": {"search/optuna_searcher.py"},
}

SCRIPT_LINES = 20
# Not an entry point: what says so where the package is not installed.
SHARED_BY_SCRIPTS = "installed_package"
# Not an MLproject entry point: a table of subcommands, each with options of its own, in place of parameters.
TOOL = "manage_models"
SCRIPTS = sorted(path.stem for path in ENTRYPOINTS.glob("*.py") if path.stem not in (SHARED_BY_SCRIPTS, TOOL))
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}


@dataclass(frozen=True)
class Import:
    """One import: the dotted module, the line, and whether it runs when the file is imported."""

    module: str
    line: int
    at_the_top: bool

    def is_of(self, package: str) -> bool:
        return self.module == package or self.module.startswith(f"{package}.")


def imports_of(source: str) -> Iterator[Import]:
    """Every import of a source text, those inside functions and under TYPE_CHECKING included."""
    yield from _imports(ast.parse(source), at_the_top=True)


def _imports(node: ast.AST, at_the_top: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for name in child.names:
                yield Import(name.name, child.lineno, at_the_top)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: a relative import hides its floor"
            assert child.module is not None
            # `from pcc_pipeline import tracking` imports a floor by its name.
            names = [f"{child.module}.{name.name}" for name in child.names] if child.module == PACKAGE else []
            for module in names or [child.module]:
                yield Import(module, child.lineno, at_the_top)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports(child, at_the_top=False)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from _imports(ast.Module([part], []), at_the_top=False)
            for part in child.orelse:
                yield from _imports(ast.Module([part], []), at_the_top)
        else:
            yield from _imports(child, at_the_top)


def modules() -> Iterator[tuple[str, str, list[Import]]]:
    """(path under the package, floor, imports) of each module of the package."""
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        yield name, name.split("/")[0].removesuffix(".py"), list(imports_of(path.read_text(encoding="utf-8")))


def test_the_reader_of_imports_sees_all_ways_to_import() -> None:
    """Otherwise the rules below would hold of nothing."""
    source = (
        "import optuna.trial as t\nfrom pcc_pipeline import tracking, __version__\n"
        "class A:\n    import torch\ndef f():\n    import mlflow\n"
        "if TYPE_CHECKING:\n    import matplotlib\nelse:\n    import google.auth\n"
        "try:\n    import a\nexcept E:\n    import b\n"
    )
    found = {(item.module, item.at_the_top) for item in imports_of(source)}
    assert found == {
        ("optuna.trial", True),
        ("pcc_pipeline.tracking", True),
        ("pcc_pipeline.__version__", True),
        ("torch", True),
        ("mlflow", False),
        ("matplotlib", False),
        ("google.auth", True),
        ("a", True),
        ("b", True),
    }


def test_every_module_stands_on_a_floor() -> None:
    found = {floor for _, floor, _ in modules()}
    assert found == {"__init__", *FLOORS}


def test_each_floor_imports_only_the_floors_above_it_in_the_design() -> None:
    wrong = []
    for name, floor, imports in modules():
        for item in imports:
            if not item.is_of(PACKAGE) or item.module == f"{PACKAGE}.__version__":
                continue
            other = item.module.split(".")[1]
            if floor == "__init__":
                if item.module == f"{PACKAGE}.library" and not item.at_the_top:
                    continue
                wrong.append(
                    f"{name}:{item.line} imports {item.module}; the package's own file imports nothing but the library"
                )
            elif other != floor and (
                FLOORS.index(other) > FLOORS.index(floor) or frozenset({other, floor}) in SIDE_BY_SIDE
            ):
                wrong.append(f"{name}:{item.line} ({floor}) imports {item.module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("vendor", "owner"), VENDOR_OF_FLOOR.items())
def test_one_floor_alone_imports_a_vendor(vendor: str, owner: str) -> None:
    users = {
        (floor, f"{name}:{item.line}") for name, floor, imports in modules() for item in imports if item.is_of(vendor)
    }
    assert users, f"nobody imports {vendor}: is the rule still about anything?"
    wrong = [place for floor, place in users if floor != owner]
    assert not wrong, f"only {owner} may import {vendor}: {wrong}"


def test_heavy_packages_are_imported_inside_what_needs_them() -> None:
    wrong, excused = [], set()
    for name, _, imports in modules():
        for item in imports:
            heavy = next((package for package in HEAVY if item.is_of(package)), None)
            if heavy is None or not item.at_the_top:
                continue
            if HEAVY_AT_THE_TOP.get(name, ("",))[0] == heavy:
                excused.add(name)
            else:
                wrong.append(f"{name}:{item.line} imports {item.module} at the top")
    assert not wrong, "\n".join(wrong)
    assert excused == set(HEAVY_AT_THE_TOP), "an exception that excuses nothing is to be removed"


def test_modules_that_may_be_heavy_are_themselves_imported_lazily() -> None:
    wrong = [
        f"{name}:{item.line} imports {item.module} at the top"
        for name, _, imports in modules()
        for item in imports
        if item.at_the_top and item.module in LAZY_MODULES and name not in LAZY_MODULES[item.module]
    ]
    assert not wrong, "\n".join(wrong)


def test_entry_points_import_the_command_line_by_way_of_one_module() -> None:
    wrong = []
    for script in [*SCRIPTS, TOOL, SHARED_BY_SCRIPTS]:
        ours = f"{PACKAGE}.command_line" if script == SHARED_BY_SCRIPTS else SHARED_BY_SCRIPTS
        for item in imports_of((ENTRYPOINTS / f"{script}.py").read_text(encoding="utf-8")):
            if not (item.module.split(".")[0] in sys.stdlib_module_names or item.module == ours):
                wrong.append(f"{script}.py:{item.line} imports {item.module}")
    assert not wrong, "\n".join(wrong)


def test_the_command_line_imports_nothing_heavy_at_the_top() -> None:
    """So help answers at once; what a command needs is imported when it is called."""
    wrong = [
        f"{name}:{item.line} imports {item.module}"
        for name, floor, imports in modules()
        for item in imports
        if floor == "command_line"
        and item.at_the_top
        and not item.is_of(f"{PACKAGE}.command_line")
        and item.module not in (f"{PACKAGE}.__version__", f"{PACKAGE}.errors")
        and item.module.split(".")[0] not in sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(wrong)


def test_entry_points_are_thin() -> None:
    counted = {script: len((ENTRYPOINTS / f"{script}.py").read_text("utf-8").splitlines()) for script in SCRIPTS}
    assert {name: lines for name, lines in counted.items() if lines > SCRIPT_LINES} == {}


def test_modules_are_named_for_their_subject() -> None:
    files = [*ROOT.rglob("*.py"), *ENTRYPOINTS.glob("*.py"), *(REPOSITORY / "tests").rglob("*.py")]
    folders = [path for path in ROOT.rglob("*") if path.is_dir()]
    assert [path for path in [*files, *folders] if path.stem in NAMELESS] == []


def _modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has imported after `statement`."""
    code = f"{statement}\nimport json, sys\nprint('\\nMODULES' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    return set(json.loads(done.stdout.rpartition("MODULES")[2]))


def test_importing_the_package_imports_nothing_else() -> None:
    loaded = _modules_after(f"import {PACKAGE}")
    assert {name for name in loaded if name.startswith(PACKAGE)} == {PACKAGE}
    assert not loaded & {"pandas", "numpy", "sklearn", "mlflow", "pydantic", "yaml", *HEAVY}


def test_importing_every_step_leaves_what_only_some_runs_need() -> None:
    steps = sorted(path.stem for path in (ROOT / "steps").glob("*.py") if path.stem != "__init__")
    loaded = _modules_after("\n".join(f"import {PACKAGE}.steps.{step}" for step in steps))
    assert f"{PACKAGE}.steps.train" in loaded
    unwanted = {
        "torch",
        "openvino",
        "optuna",
        "sentence_transformers",
        "transformers",
        "google.cloud.storage",
        "matplotlib",
    }
    assert not loaded & unwanted


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


@pytest.mark.parametrize("command", [[], ["train"], ["models"], ["models", "list"]])
def test_help_of_pcc_answers_without_loading_a_library(command: list[str]) -> None:
    code = f"import sys\nfrom pcc_pipeline.command_line import pcc\nsys.exit(pcc.main({[*command, '--help']}))\n"
    assert _help_of(code).startswith(" ".join(["usage: pcc", *command]))


def _help_of(code: str) -> str:
    """What a program prints that ends in its help. It must not have imported a library for that."""
    listing = (
        "import atexit, json, sys\natexit.register(lambda: print('\\nMODULES' + json.dumps(sorted(sys.modules))))\n"
    )
    command = [sys.executable, "-c", listing + code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    shown, _, listed = done.stdout.rpartition("MODULES")
    unwanted = {"pandas", "numpy", "sklearn", "mlflow", "torch", "pydantic", "yaml", "shtab", *HEAVY} - {"google"}
    assert not set(json.loads(listed)) & unwanted
    return shown


def test_every_entry_point_of_the_project_file_is_a_script() -> None:
    import yaml

    project = yaml.safe_load((REPOSITORY / "MLproject").read_text(encoding="utf-8"))
    assert set(project["entry_points"]) == set(SCRIPTS)
