"""A whole `mlflow run` as a trainer on the server, and then a person's look at it in a real browser, as a reader.

Screenshots are kept in outputs/screenshots/.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from requests import HTTPError

from pcc_pipeline.tracking.store.experiments import runs_page

pytestmark = pytest.mark.server

REPOSITORY = Path(__file__).parents[2]
EXPERIMENT, MODEL = "pcc-intent", "pcc-intent-classifier"
PATIENCE_MS = 60_000


def account(server: Any, name: str, password: str, *options: str) -> None:
    """Add a user as the README says."""
    command = [sys.executable, str(REPOSITORY / "deploy" / "accounts.py"), "add", name, *options]
    given = {**server.environment, "PCC_ACCOUNT_PASSWORD": password}
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def trained(server: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The runs of one `mlflow run` by a trainer, by their step."""
    account(server, "trainer", "password of the trainer")
    outputs = tmp_path_factory.mktemp("outputs")
    settings = {
        "PCC_MODEL__SEARCH_METHOD": "none",
        "PCC_OUTPUT__PREDICTIONS": f"{outputs}/predictions.parquet",
        "PCC_OUTPUT__METRICS": f"{outputs}/metrics.json",
        "PCC_OUTPUT__REJECTED": f"{outputs}/rejected.parquet",
        "PCC_OUTPUT__EMBEDDED_DIR": f"{outputs}/embedded",
        "PCC_OUTPUT__STUDIES_DIR": f"{outputs}/studies",
        "PCC_OUTPUT__MONITORING_LOG": f"{outputs}/monitoring.jsonl",
        "PCC_PREPROCESSING__CACHE_DIR": f"{outputs}/cache",
    }
    login = {"MLFLOW_TRACKING_USERNAME": "trainer", "MLFLOW_TRACKING_PASSWORD": "password of the trainer"}
    command = ["mlflow", "run", str(REPOSITORY), "--env-manager", "local", "--experiment-name", EXPERIMENT]
    done = subprocess.run(
        command,
        env={**server.environment, **login, **settings},
        cwd=outputs,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.MonkeyPatch.context() as patch:
        for name, value in login.items():
            patch.setenv(name, value)
        client = MlflowClient(server.address)
        found = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
        version = client.get_model_version_by_alias(MODEL, "challenger")
        client.set_registered_model_alias(MODEL, "champion", version.version)  # as `promote` does, gates aside
    return {run.data.tags["pcc.step"]: run for run in found}


@pytest.fixture(scope="module")
def pictures() -> Path:
    folder = REPOSITORY / "outputs" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def reader(server: Any) -> tuple[str, str]:
    account(server, "reader", "password of the reader", "--reader")
    return "reader", "password of the reader"


@pytest.fixture
def page(server: Any, browser: Any, reader: tuple[str, str]) -> Iterator[Any]:
    """A page that is logged in as the reader, by the browser's own dialogue."""
    name, password = reader
    context = browser.new_context(
        http_credentials={"username": name, "password": password},
        viewport={"width": 1500, "height": 1000},
        base_url=server.address,
    )
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    refused: list[str] = []
    opened.on("response", lambda reply: refused.append(reply.url) if reply.status in (403, 404, 500) else None)
    yield opened
    context.close()
    assert refused == [], "the person saw an error"


def go(page: Any, address: str) -> None:
    """Open an address as from a terminal or a letter: anew.

    MLflow's pages differ in the fragment alone, which loads none anew: what the page before still does, such as to send
    the person on to another tab, would be done to the new one.
    """
    page.goto("about:blank")
    page.goto(address)


def test_who_does_not_log_in_sees_nothing(browser: Any, server: Any) -> None:
    from playwright.sync_api import Error

    context = browser.new_context(base_url=server.address)
    assert context.request.get("/").status == 401
    with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):  # a browser without a window for its dialogue
        context.new_page().goto("/")
    context.close()


def test_a_person_finds_the_run_its_scores_and_a_figure(
    page: Any, server: Any, trained: dict[str, Run], pictures: Path
) -> None:
    pipeline, evaluate = trained["pipeline"], trained["evaluate"]
    go(page, "/#/experiments")
    page.get_by_role("link", name=EXPERIMENT, exact=True).first.click()
    page.wait_for_url(re.compile(rf"/experiments/{pipeline.info.experiment_id}"))
    page.screenshot(path=pictures / "1-experiment.png")

    go(page, runs_page(server.address, pipeline.info.experiment_id))
    page.get_by_role("link", name="pipeline", exact=True).first.wait_for()
    page.get_by_role("heading", name="Runs", exact=True).wait_for()  # under GenAI they are called "Training runs"
    page.screenshot(path=pictures / "2-runs.png")

    go(page, runs_page(server.address, evaluate.info.experiment_id, evaluate.info.run_id))
    page.get_by_placeholder("Search metrics").fill("test/f1_macro")
    row = page.get_by_role("row").filter(has_text=re.compile(r"^test/f1_macro\s*0\."))
    row.first.scroll_into_view_if_needed()
    shown = float(re.search(r"0\.\d+", row.first.inner_text())[0])
    assert shown == pytest.approx(evaluate.data.metrics["test/f1_macro"], abs=1e-3)
    page.screenshot(path=pictures / "3-run.png")

    go(page, f"/#/experiments/{evaluate.info.experiment_id}/runs/{evaluate.info.run_id}/artifacts/figures")
    page.get_by_text("confusion_matrix.png", exact=True).first.click()
    figure = page.locator("img[src^='blob:']").first
    figure.wait_for()
    page.wait_for_function("image => image.complete && image.naturalWidth > 300", arg=figure.element_handle())
    page.screenshot(path=pictures / "4-figure.png")

    page.get_by_text("report.html", exact=True).first.click()
    report = page.locator("iframe[sandbox]").content_frame  # a blob without an origin, where links lead nowhere
    report.get_by_text("What it takes for what", exact=True).first.click()
    top = report.locator("#confusions").evaluate("section => section.getBoundingClientRect().top / innerHeight")
    assert 0 <= top < 0.5
    page.screenshot(path=pictures / "5-report.png")


@pytest.mark.parametrize("step", ["pipeline", "train", "evaluate"])
def test_the_page_of_a_run_says_at_first_sight_which_data_which_model_and_how_good(
    page: Any, server: Any, trained: dict[str, Run], pictures: Path, step: str
) -> None:
    run = trained[step].info
    go(page, runs_page(server.address, run.experiment_id, run.run_id))
    for said in ("LogisticRegression", "good rows", re.compile(r"[Mm]acro F1")):
        page.get_by_text(said).first.wait_for()
    page.screenshot(path=pictures / f"7-{step}.png")


def test_the_page_of_a_version_says_at_first_sight_what_it_is_and_how_good(
    page: Any, server: Any, trained: dict[str, Run], pictures: Path
) -> None:
    go(page, f"/#/models/{MODEL}/versions/1")
    page.get_by_text("LogisticRegression").first.wait_for()
    page.screenshot(path=pictures / "8-version.png")
    go(page, "/#/models")
    page.get_by_role("dialog").first.wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("link", name=MODEL, exact=True).first.wait_for()
    page.screenshot(path=pictures / "9-registry.png")


def test_a_person_sees_the_model_with_its_aliases(page: Any, trained: dict[str, Run], pictures: Path) -> None:
    go(page, "/#/models")
    page.get_by_role("dialog").first.wait_for()  # MLflow tells of its new registry, once
    page.keyboard.press("Escape")
    page.get_by_role("link", name=MODEL, exact=True).first.click()
    for alias in ("challenger", "champion"):
        page.get_by_text(re.compile(rf"^@\s{alias}$")).first.wait_for()
    page.screenshot(path=pictures / "6-model.png")


def test_a_reader_changes_nothing(server: Any, trained: dict[str, Run], reader: tuple[str, str], as_user: Any) -> None:
    as_user(*reader)
    client = MlflowClient(server.address)
    run_id = trained["train"].info.run_id
    assert client.get_run(run_id).info.run_id == run_id
    for change in (
        lambda: client.log_metric(run_id, "test/f1_macro", 1.0),
        lambda: client.log_text(run_id, "x", "notes.txt"),
        lambda: client.delete_run(run_id),
        lambda: client.set_registered_model_alias(MODEL, "champion", "1"),
        lambda: client.create_model_version(MODEL, f"runs:/{run_id}/model", run_id),
        lambda: client.delete_registered_model(MODEL),
        lambda: client.delete_experiment(trained["train"].info.experiment_id),
    ):
        with pytest.raises((MlflowException, HTTPError), match=r"PERMISSION_DENIED|403"):
            change()


def test_another_trainer_adds_to_the_work_and_deletes_none_of_it(
    server: Any, trained: dict[str, Run], as_user: Any
) -> None:
    account(server, "second", "password of the second")
    as_user("second", "password of the second")
    client = MlflowClient(server.address)
    experiment = trained["train"].info.experiment_id
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "mine", "notes.txt")
    version = client.get_model_version_by_alias(MODEL, "challenger")
    client.set_registered_model_alias(MODEL, "previous", version.version)
    for removal in (
        lambda: client.delete_experiment(experiment),
        lambda: client.delete_registered_model(MODEL),
        lambda: client.delete_registered_model_alias(MODEL, "previous"),
    ):
        with pytest.raises(MlflowException, match=r"Permission denied|403"):
            removal()
