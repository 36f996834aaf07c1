"""A run names the code that made it, or says in the log why it cannot."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pcc_pipeline.tracking import provenance
from pcc_pipeline.tracking.provenance import CodeVersion, code_version


def in_git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


@pytest.fixture(params=["checkout", "a b%20é"])
def checkout(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    provenance._warn.cache_clear()
    folder = tmp_path / str(request.param)
    (folder / "package").mkdir(parents=True)
    in_git(folder, "init")
    (folder / "package" / "module.py").write_text("a = 1\n", encoding="utf-8")
    in_git(folder, "add", ".")
    in_git(folder, "commit", "-m", "first")
    return folder


def test_the_code_is_known_by_its_commit(checkout: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert code_version(checkout / "package") == CodeVersion(in_git(checkout, "rev-parse", "HEAD"), False)
    assert code_version(checkout / "package").tags()["pcc.git_dirty"] == "false"
    (checkout / "outputs.txt").write_text("untracked files are no change of the code", encoding="utf-8")
    assert code_version(checkout / "package").dirty is False
    assert not caplog.records


def test_changed_code_is_dirty(checkout: Path) -> None:
    (checkout / "package" / "module.py").write_text("a = 2\n", encoding="utf-8")
    assert code_version(checkout / "package").dirty is True
    assert code_version(checkout / "package").tags()["pcc.git_dirty"] == "true"


def test_without_a_checkout_the_package_version_stands_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tags = code_version(tmp_path).tags()
    assert tags["pcc.git_commit"].startswith("package ")
    assert tags["pcc.git_dirty"] == "unknown"
    assert not caplog.records


@pytest.mark.parametrize(("behind", "dirty"), [("", False), ("-dirty", True)])
def test_an_image_without_a_checkout_tells_the_commit_that_it_was_built_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: str, dirty: bool
) -> None:
    monkeypatch.setenv("PCC_CODE_REVISION", "0123456789" * 4 + behind)
    assert code_version(tmp_path) == CodeVersion("0123456789" * 4, dirty)


def test_a_revision_that_is_no_commit_is_told_and_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    provenance._warn.cache_clear()
    monkeypatch.setenv("PCC_CODE_REVISION", "main")
    assert code_version(tmp_path).commit.startswith("package ")
    assert "PCC_CODE_REVISION" in caplog.text


def test_a_checkout_goes_before_what_the_environment_says(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCC_CODE_REVISION", "0123456789" * 4)
    assert code_version(checkout / "package").commit == in_git(checkout, "rev-parse", "HEAD")


def test_the_commit_of_another_users_checkout_is_found_and_the_rest_is_said(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commit = in_git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(subprocess.CalledProcessError):
        in_git(checkout, "rev-parse", "HEAD")
    for _ in range(2):
        assert code_version(checkout / "package") == CodeVersion(commit, None)
    (record,) = caplog.records
    assert "pcc.git_dirty is unknown" in record.getMessage()
    assert "git config --global --add safe.directory" in record.getMessage()


def test_nothing_that_another_users_repository_names_is_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_git(checkout, "config", "core.fsmonitor", f"touch '{checkout}/run' #")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    code_version(checkout / "package")
    assert not (checkout / "run").exists()


@pytest.mark.parametrize("fault", ["no git", "broken HEAD", "no commit", "slow"])
def test_a_commit_that_git_cannot_tell_is_unknown_and_the_log_says_why(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, fault: str
) -> None:
    reason = "git cannot be started" if fault == "no git" else "fatal: "
    if fault == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    elif fault == "slow":
        program = tmp_path / "git"
        program.write_text("#!/bin/sh\nexec /bin/sleep 30\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(provenance, "_SECONDS", 0.5)
        reason = "git gave no answer within"
    elif fault == "broken HEAD":
        (checkout / ".git" / "HEAD").write_text("nonsense\n", encoding="utf-8")
    else:
        in_git(checkout, "checkout", "--orphan", "new")
    assert code_version(checkout / "package").tags()["pcc.git_commit"] == "unknown"
    (record,) = caplog.records
    assert f"the commit of the code in {checkout} is not known: {reason}" in record.getMessage()


def test_the_checkout_around_an_environment_is_not_the_codes(checkout: Path) -> None:
    """A package in the .venv of another project is not that project's commit."""
    package = checkout / ".venv" / "site-packages" / "package"
    package.mkdir(parents=True)
    (package / "module.py").write_text("a = 1\n", encoding="utf-8")
    assert code_version(package).commit.startswith("package ")
