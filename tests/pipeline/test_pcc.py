"""The command `pcc` and what it shares with the scripts: commands, options, what is logged, what is mistyped."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from mlflow.projects.utils import load_project

from pcc_pipeline import __version__
from pcc_pipeline.command_line import options, pcc
from pcc_pipeline.command_line.commands import explain_command, manage_commands
from pcc_pipeline.command_line.commands.step_commands import STEPS
from pcc_pipeline.config.schema import SearchMethod
from pcc_pipeline.data.formats.readers import SUFFIXES
from pcc_pipeline.evaluation.explanations.word_weights import Method
from pcc_pipeline.model.families import FAMILIES
from pcc_pipeline.tracking.store.legacy_import import read_entry
from tests import process_state

REPOSITORY = Path(__file__).parents[2]
PCC = "pcc_pipeline.command_line.pcc"


def test_the_package_installs_the_command() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    target = importlib.metadata.EntryPoint("pcc", project["scripts"]["pcc"], "console_scripts")
    assert target.load() is pcc.program


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    with process_state.entry_point_undone():
        yield


@pytest.mark.pipeline
def test_pcc_trains_and_looks_up_what_it_trained(command: Any, store: Any, small_file: Path, outside: Any) -> None:
    """With -q nothing is logged but errors, for this call alone, and it stands on the run."""
    done = command(PCC, "train", "--data", str(small_file), "--search-method", "none", "-q")
    assert done.code == 0, done.err
    assert "alias challenger" in done.out
    assert "fitting" not in done.err
    training = store.step("train")
    assert training.data.params["logging.level"] == "ERROR"
    assert training.data.params["model.search_method"] == "none"
    start = f"import sys; from {PCC} import main; sys.exit(main())"
    process = outside(store.folder, sys.executable, "-c", start, "models", "get", "--version", "@challenger")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert training.data.tags["pcc.version"] in out


@pytest.mark.pipeline
def test_without_a_parameter_file_the_defaults_stand_and_a_line_says_so(command: Any, store: Any) -> None:
    """But what may move a champion goes by a file, and a file that is named must be there."""
    unnamed = ("--params-file", options.LEFT_OUT)
    done = command(PCC, "train", *unnamed, "--data", "missing.csv")
    assert "the data file does not exist" in done.err
    assert done.err.count("no params.yaml in this folder: the defaults of every option are used") == 1
    assert "no such parameter file" in command(PCC, "train", "--params-file", "params.yaml").err
    for words in (("promote",), ("promote", "--rollback", "true"), ("run", "--promote", "auto")):
        done = command(PCC, *words, *unnamed)
        assert done.code == 1
        assert "no params.yaml in this folder, and a promotion goes by its gates" in done.err
    (store.folder / "params.yaml").write_text("modle: {}\n", encoding="utf-8")
    assert "did you mean model?" in command(PCC, "train", *unnamed).err


def test_the_help_names_every_kind_of_file_that_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    zipped = {suffix.removesuffix(".gz") for suffix in SUFFIXES if suffix.endswith(".gz")}
    plain, others = options.KINDS.split(" (also with .gz), ")
    assert set(plain.split(", ")) == zipped
    assert set(others.split(" or ")) == {suffix for suffix in SUFFIXES if not suffix.endswith(".gz")} - zipped
    for step in ("run", "train", "score", "profile"):
        with pytest.raises(SystemExit):
            pcc.main([step, "--help"])
        assert options.KINDS in " ".join(capsys.readouterr().out.split())


def test_the_help_of_import_shows_a_registry_that_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """As docs/commands.md does."""
    shown = _help(capsys, "models", "import")
    (entry,) = json.loads(shown[shown.index('{"runs"') : shown.index("}]}") + 3])["runs"]
    page = (REPOSITORY / "docs/commands.md").read_text(encoding="utf-8")
    assert json.loads(page.partition("```json\n")[2].partition("```")[0]) == {"runs": [entry]}
    needed = {"run_id", "timestamp", "status"}
    for name in entry:
        less = {key: value for key, value in entry.items() if key != name}
        if name in needed:
            with pytest.raises(ValueError, match=name):
                read_entry(less)
        else:
            read_entry(less)
    legacy = read_entry(entry)
    assert (legacy.finished, legacy.metrics["legacy/f1_macro"], legacy.params["best.C"]) == (True, 0.91, "10")
    assert legacy.left_out == ("notes",)


def test_every_entry_point_and_every_command_of_manage_models_is_a_command_of_pcc(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the options of the script."""
    for step in STEPS:
        for name in {step.name, step.entry}:
            assert _help(capsys, name).partition("\n\n")[2] == step.parser("").format_help().partition("\n\n")[2]
    for each in manage_commands.COMMANDS:
        assert _help(capsys, "models", each.name).startswith(f"usage: pcc models {each.name} ")


def _help(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        pcc.main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        pcc.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"pcc {__version__}\n")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("trian", "no command 'trian' (did you mean train?)"),
        ("models lst", "no command 'lst' (did you mean list?)"),
        ("train --serch-method none", "unrecognized arguments: --serch-method (did you mean --search-method?)"),
        ("train --search_method=none", "--search_method (did you mean --search-method?)"),
        ("models get --verson 3", "unrecognized arguments: --verson (did you mean --version?)"),
        ("evaluate --niter 5", "unrecognized arguments: --niter\n"),  # near to one that it takes, but does not use
        ("train cases.csv", "unrecognized arguments: cases.csv"),
        ("models export --format xml", "invalid choice: 'xml'"),
        ("", "usage: pcc"),
    ],
)
def test_what_is_mistyped_is_refused_with_what_may_be_meant(
    line: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        pcc.main(shlex.split(line))
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert meant in said.err


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("model.cv_fold=3", "did you mean cv_folds?"),
        ("modle.cv_folds=3", "did you mean model?"),
        ("cv_folds=3", "did you mean model.cv_folds?"),
        ("model.hyperparameters.maxiter=3", "did you mean max_iter?"),
    ],
)
def test_a_mistyped_key_is_answered_with_the_key_that_may_be_meant(setting: str, meant: str, command: Any) -> None:
    done = command(PCC, "train", "--set", setting)
    assert done.code == 1
    assert meant in done.err


@pytest.mark.parametrize(
    ("words", "also_a_bucket"),
    [
        (("score", "--data", "sample", "--output"), True),
        (("embed", "--data", "sample", "--parts"), True),
        (("profile", "--data", "sample", "--html"), False),
        (("explain", "--text", "a", "--html"), False),
        (("models", "export", "--output"), False),
        (("subject", "export", "--subject", "anna", "--output"), False),
        (("decrypt", "table.parquet", "--output"), False),
    ],
)
def test_an_address_is_no_place_of_this_machine_to_write_to(
    words: tuple[str, ...],
    also_a_bucket: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It would become a folder `s3:` here, and the command would say that all is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("PCC_LINEAGE_KEY", "11" * 32)
    addresses = ["s3://me:S3CRET@host/x/", "https://host/x.csv", "gs:/bucket/x.parquet"]
    for address in addresses if also_a_bucket else [*addresses, "gs://bucket/x.csv"]:
        with process_state.entry_point_undone():
            code = pcc.main([*words, address])
        out, err = capsys.readouterr()
        assert (code, out) == (1, ""), err
        assert re.search("an address is no path of it|a path on this machine or gs://bucket/… is meant", err)
        assert "S3CRET" not in err
        assert not [path for path in tmp_path.iterdir() if ":" in path.name]


@pytest.mark.parametrize(
    ("entry", "idle"),
    [("evaluate", ("n_iter", "model_type")), ("score", ("test_data", "label")), ("embed", ("n_iter",))],
)
def test_an_older_command_line_is_taken_and_told_what_changes_nothing(
    entry: str, idle: tuple[str, ...], command: Any
) -> None:
    """Every entry point had these parameters once. `mlflow run` hands on what MLproject does not name."""
    project = load_project(str(REPOSITORY)).get_entry_point(entry)
    values = {"data": "missing.csv", **dict.fromkeys(idle, "5")}
    arguments = shlex.split(project.compute_command(values, None))[2:]
    given = [word for word in arguments if not word.startswith("--params-file")]
    done = command(entry, *given)
    assert done.code == 1
    assert "the data file does not exist" in done.err
    for name in idle:
        assert done.err.count(f"{entry} does not use {name}: it changes nothing") == 1


def test_the_options_of_choice_name_the_choices_that_there_are() -> None:
    assert options.SEARCH_METHOD.choices == get_args(SearchMethod)
    assert options.MODEL_TYPE.choices == tuple(FAMILIES)
    assert explain_command.METHOD.choices == get_args(Method)


COMPLETES = """
source {script}
complete -p pcc
while read -ra COMP_WORDS; do
    [ "${{COMP_WORDS[-1]}}" != NOTHING ] || COMP_WORDS[-1]=""
    COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) COMPREPLY=()
    _shtab_pcc
    echo "${{COMPREPLY[*]}}"
done
"""
COMPLETED = {
    "pcc tr": "train",
    "pcc prof": "profile",
    "pcc profile --ht": "--html",
    "pcc models re": "resume retention",
    "pcc train --se": "--search-method --set",
    "pcc evaluate --n": "",  # taken, but not used
    "pcc train --search-method r": "random",
    "pcc models export --format NOTHING": "csv json",
    "pcc score --data cas": "cases.csv",
    "pcc profile --data cas": "cases.csv",
}


def test_bash_completes_commands_options_words_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pcc.main(["completion", "bash"]) == 0
    script = tmp_path / "pcc.bash"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    (tmp_path / "cases.csv").touch()
    done = subprocess.run(
        ["bash", "-c", COMPLETES.format(script=script)],
        cwd=tmp_path,
        input="".join(f"{line}\n" for line in COMPLETED),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    registered, *answers = done.stdout.splitlines()
    assert registered.endswith(" pcc")
    assert dict(zip(COMPLETED, answers, strict=True)) == COMPLETED


def test_zsh_gets_a_script_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pcc.main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef pcc\n")
    assert "_files" in script
    if (zsh := shutil.which("zsh")) is not None:
        subprocess.run([zsh, "-n"], input=script, text=True, timeout=60, check=True)


@pytest.mark.parametrize("script", sorted(path.stem for path in (REPOSITORY / "entrypoints").glob("*.py")))
def test_without_the_package_a_script_says_what_to_do(script: str, tmp_path: Path) -> None:
    """As `python entrypoints/train.py` with the system's Python."""
    done = _without_packages(script, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: pcc_pipeline is not installed for {sys.executable}\n")
    assert "source .venv/bin/activate" in done.stderr
    assert "Traceback" not in done.stderr


def test_in_a_half_made_environment_a_script_says_what_is_missing(tmp_path: Path) -> None:
    done = _without_packages("train", tmp_path, PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 1
    assert "is not installed for" in done.stderr
    assert "Traceback" not in done.stderr


def _without_packages(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # -S: no site-packages.
    command = [sys.executable, "-S", str(REPOSITORY / f"entrypoints/{script}.py")]
    return subprocess.run(
        command, cwd=folder, env=kept | environment, capture_output=True, text=True, timeout=60, check=False
    )
