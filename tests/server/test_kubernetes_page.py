"""docs/kubernetes.md: what its commands name is there. Whether clouds take them, no test here can say."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pcc_pipeline.command_line import pcc
from tests.server.test_kubernetes_files import FILES, OVERLAYS, REPOSITORY, kustomize_version, of_kind, rendered

PAGE = (REPOSITORY / "docs" / "kubernetes.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]
# Of the commands in a pipe, each by itself.
COMMANDS = [each.strip() for line in LINES for each in re.split(r" \| (?!\")", line)]
SECRETS = {"pcc-reader", "pcc-trainer", "pcc-serving-tokens", "pcc-metrics-token", "pcc-notify"}


def commands(*start: str) -> list[list[str]]:
    found = [words for words in map(shlex.split, COMMANDS) if words[: len(start)] == list(start)]
    assert found, start
    return found


def files_of(overlay: str) -> Iterator[dict[str, Any]]:
    for path in (FILES / overlay).rglob("*.yaml"):
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def option(words: list[str], name: str) -> str | None:
    return next((words[place + 1] for place, word in enumerate(words) if word == name), None)


@pytest.mark.parametrize("words", commands("kubectl"), ids=" ".join)
def test_kubectl_is_given_what_is_there(words: list[str]) -> None:
    words = words[1:]
    if words[:1] == ["-n"]:
        assert words[1] == "pcc"
        words = words[2:]
    verb, *rest = words
    jobs = {f"pcc-{path.parent.name}" for path in (FILES / "jobs").glob("*/kustomization.yaml")} - {"pcc-template"}
    if verb == "apply":
        assert rest[0] == "-k"
        assert Path(rest[1]).relative_to("deploy/kubernetes").as_posix() in OVERLAYS
    elif rest[:2] == ["secret", "generic"]:
        assert rest[2] in SECRETS | {"pcc-persons"}
        given = {word.partition("=")[2].partition("=")[0] for word in rest if word.startswith("--from-")}
        wanted = {
            "pcc-reader": {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"},
            "pcc-trainer": {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"},
            "pcc-serving-tokens": {"serving_tokens"},
            "pcc-persons": {"persons.txt"},
        }
        assert given == wanted[rest[2]]
    elif verb == "create" and rest[0] == "job":
        (origin,) = [word for word in rest if word.startswith("--from=")]
        assert origin.removeprefix("--from=cronjob/") in jobs
    elif verb in ("wait", "logs"):
        started = {each[5] for each in commands("kubectl", "-n", "pcc", "create", "job")}
        assert rest[-1].removeprefix("job/") in started
    elif verb in ("rollout", "port-forward"):
        assert {"deployment/pcc-serve", "service/pcc-serve"} & set(rest)
    elif verb == "get":
        kinds = {
            each.get("kind", "").lower()
            for overlay in ("overlays/production", "components")
            for each in files_of(overlay)
        }
        assert {rest[0], rest[0].removesuffix("s")} & kinds
    elif verb == "patch":
        (change,) = json.loads(option(rest, "-p") or "")
        assert change["path"] == "/spec/template/spec/containers/0/args"
        pcc.parser().parse_args(change["value"])
    else:
        assert (verb, *rest[:2]) in {("annotate", "storageclass", "gp2"), ("create", "-f", "-")}


def test_other_words_behind_pcc_come_into_the_job(tmp_path: Path) -> None:
    """The pipe of the page, without the server that its first command asks."""
    job = of_kind(rendered("overlays/small"), "CronJob")["pcc-score"]
    file = tmp_path / "job.yaml"
    file.write_text(
        yaml.safe_dump(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, **job["spec"]["jobTemplate"]}
        )
    )
    (words,) = commands("kubectl", "patch")
    done = subprocess.run([str(file) if word == "-" else word for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (container,) = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["score", "--data", "gs://our-bucket/monday.parquet"]


def test_the_line_that_fills_in_leaves_no_word_of_ours_and_breaks_nothing(tmp_path: Path) -> None:
    shutil.copytree(FILES, tmp_path / "deploy/kubernetes")
    fill = [line for line in LINES if line.startswith(("export REGISTRY", "sed"))]
    done = subprocess.run(["bash", "-euc", "\n".join(fill)], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    words = [word.replace("\\", "") for word in re.findall(r"s\|([^|]+)\|", fill[1])]
    assert len(words) == 6
    for path in [
        *(tmp_path / "deploy/kubernetes/overlays").rglob("*.*"),
        *(tmp_path / "deploy/kubernetes/jobs").rglob("*.yaml"),
    ]:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not [word for word in words if word in text], path
    if kustomize_version() >= 5:
        for overlay in OVERLAYS:
            command = ["kubectl", "kustomize", str(tmp_path / "deploy/kubernetes" / overlay)]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert not [word for word in words if word in text], overlay
            assert len(list(yaml.safe_load_all(text))) == len(rendered(overlay))


def test_the_names_that_clouds_are_given_are_those_in_the_files() -> None:
    gke, eks = ("\n".join(map(json.dumps, files_of(f"overlays/production/{cloud}"))) for cloud in ("gke", "eks"))
    for words in commands("gcloud", "iam", "service-accounts", "create"):
        assert f"{words[4]}@our-project.iam.gserviceaccount.com" in gke
    for start in (("gcloud", "secrets", "create"), ("aws", "secretsmanager", "create-secret")):
        names = {option(words, "--name") or words[3] for words in commands(*start)}
        assert names == SECRETS
    (fetched,) = (FILES / "components/external_secrets").glob("external*.yaml")
    assert set(re.findall(r"key: (pcc-[a-z-]+)", fetched.read_text(encoding="utf-8"))) == SECRETS
    bound = {
        (words[4].partition("@")[0], account)
        for words in commands("gcloud", "iam", "service-accounts", "add-iam-policy-binding")
        for account in re.findall(r"\[pcc/(.+)\]", option(words, "--member") or "")
    }
    assert bound == {(name, name) for name in ("pcc-jobs", "pcc-secrets")}
    for words in commands("gcloud", "compute", "addresses"):
        assert f'"kubernetes.io/ingress.global-static-ip-name": "{words[4]}"' in gke
    (role,) = commands("eksctl", "create", "iamserviceaccount")
    assert f":role/{option(role, '--role-name')}" in eks
    assert (option(role, "--namespace"), option(role, "--name")) == ("pcc", "pcc-secrets")
    (policy,) = commands("aws", "iam", "create-policy")
    assert json.loads(option(policy, "--policy-document") or "")["Statement"][0]["Effect"] == "Allow"
    google = json.loads((FILES / "overlays/production/eks/google_credentials.json").read_text())
    (provider,) = commands("gcloud", "iam", "workload-identity-pools", "providers", "create-oidc")
    assert google["audience"].endswith(
        f"/workloadIdentityPools/{option(provider, '--workload-identity-pool')}/providers/{provider[5]}"
    )
    assert option(provider, "--allowed-audiences") in (FILES / "overlays/production/eks/kustomization.yaml").read_text()
    (federated,) = [line for line in LINES if "principal://" in line]
    assert federated.rstrip('"').endswith("subject/system:serviceaccount:pcc:pcc-jobs")
    region = set(re.findall(r"eu-[a-z]+-\d", eks + "".join(LINES)))
    assert len(region) == 1


def test_images_are_pushed_under_the_name_and_version_that_is_pulled() -> None:
    tags = {words[-1].rpartition("/")[2] for words in [*commands("docker", "tag"), *commands("docker", "push")]}
    pulled = {
        container["image"].rpartition("/")[2]
        for overlay in OVERLAYS
        for each in rendered(overlay)
        if each["kind"] == "Deployment"
        for container in each["spec"]["template"]["spec"]["containers"]
    }
    assert tags == pulled
