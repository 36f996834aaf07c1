"""compose.yaml, Caddyfile and the Dockerfiles, as far as they can be checked without a container engine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
REPOSITORY = DEPLOY.parent
sys.path.insert(0, str(DEPLOY))

from tracking_server import (  # noqa: E402  (in the folder named above)
    NEEDED,
    SECRETS,
    command_of,
    environment_of,
    faults_of_secrets,
)

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
GIVEN = {
    **{name: "0123456789abcdef" + name for name in SECRETS},
    "PCC_SERVER_BUCKET": "team-bucket",
    "PCC_SERVER_NAME": "mlflow.example.org",
}
DOCKERFILES = sorted(DEPLOY.glob("*.Dockerfile"))


def filled(text: str) -> str:
    """Compose's own substitution: ${NAME:?message} and ${NAME:-default}."""

    def value(found: re.Match[str]) -> str:
        name, sign, rest = found.groups()
        return GIVEN[name] if sign == ":?" else GIVEN.get(name, rest)

    return re.sub(r"\$\{(\w+)(:\?|:-)([^}]*)\}", value, text)


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", path.read_text(encoding="utf-8"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def test_every_secret_and_name_is_demanded_and_none_is_written_down() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(GIVEN)
    assert set(re.findall(r"\$\{(\w+)(?!\w|:\?)", text)) == {"PCC_SERVER_WORKERS", "PCC_SERVER_APPROVALS"}
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|KEY")
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not secret.search(name) or re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name


def test_images_are_pinned() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images += [argument for path in DOCKERFILES for name, argument in instructions(path) if name == "FROM"]
    assert len(images) == 4
    for image in images:
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?-[a-z-]+", image), image
    mlflow = re.search(r"^mlflow==(.+)$", (REPOSITORY / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert mlflow
    assert SERVICES["mlflow"]["image"] == f"pcc-tracking-server:{mlflow[1]}"


def test_the_command_is_that_of_the_local_server_with_productions_values() -> None:
    """Both start tracking_server.py; here with what compose gives it."""
    assert ("ENTRYPOINT", '["python", "deploy/tracking_server.py"]') in instructions(DEPLOY / "server.Dockerfile")
    assert not {"command", "entrypoint"} & set(SERVICES["mlflow"])
    given = {name: filled(str(value)) for name, value in SERVICES["mlflow"]["environment"].items()}
    assert set(NEEDED) <= set(given)
    assert faults_of_secrets(given) == []
    command = command_of(given)
    options = dict(zip(command[4::2], command[5::2], strict=False))
    assert options["--app-name"] == "pcc-accounts"
    assert "--serve-artifacts" in command
    text = shlex.join(command)
    for part in (
        "--artifacts-destination gs://team-bucket/mlflow",
        "--allowed-hosts mlflow.example.org",
        "--cors-allowed-origins https://mlflow.example.org",
        "--host 0.0.0.0 --port 5000 --workers 4",
        "--backend-store-uri postgresql+psycopg:///mlflow",
    ):
        assert part in text
    assert not any(GIVEN[name] in text for name in SECRETS)
    environment = environment_of(given)
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert (environment["PGHOST"], environment["PGUSER"]) == ("postgres", "mlflow")


def test_the_image_has_all_that_the_servers_audit_log_needs(tmp_path: Path) -> None:
    for name, given in instructions(DEPLOY / "server.Dockerfile"):
        *sources, target = given.split()
        for source in (REPOSITORY / each for each in sources if name == "COPY"):
            (tmp_path / target).mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, tmp_path / target, dirs_exist_ok=True)
            else:
                shutil.copy(source, tmp_path / target)
    code = (
        f"import sys\nsys.path[:0] = [{str(tmp_path)!r}, {str(tmp_path / 'deploy/mlflow_app')!r}]\n"
        "import pcc_requests\nprint(sys.modules['pcc_pipeline.auditing.log'].__file__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{tmp_path / 'pcc_pipeline/auditing/log.py'}\n", done.stderr
    assert f"audit:{SERVICES['mlflow']['environment']['PCC_SERVER_AUDIT']}" in SERVICES["mlflow"]["volumes"]


def test_only_tls_is_reachable_from_outside_and_the_database_by_mlflow_alone() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"tls"}
    on_database = {name for name, service in SERVICES.items() if "database" in service["networks"]}
    assert on_database == {"postgres", "mlflow"}
    assert COMPOSE["networks"]["database"] == {"internal": True}
    assert set(SERVICES["tls"]["networks"]) == {"web"}
    caddy = (DEPLOY / "Caddyfile").read_text(encoding="utf-8")
    assert "{$PCC_SERVER_NAME} {" in caddy
    assert "reverse_proxy mlflow:5000" in caddy
    assert caddy.count("{") == caddy.count("}")


def test_services_wait_for_each_other_and_are_watched() -> None:
    assert SERVICES["mlflow"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["tls"]["depends_on"] == {"mlflow": {"condition": "service_healthy"}}
    for name in ("postgres", "mlflow"):
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    compile(SERVICES["mlflow"]["healthcheck"]["test"][3], "healthcheck", "exec")
    assert "/health" in SERVICES["mlflow"]["healthcheck"]["test"][3]
    for name, service in SERVICES.items():
        assert service["restart"] == "unless-stopped", name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_mounted_files_and_volumes_exist() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"], mount


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_copies_what_is_there_hides_nothing_it_needs_and_ends_as_no_root(path: Path) -> None:
    found = instructions(path)
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "ARG", "USER", "EXPOSE", "ENTRYPOINT"}
    assert {name for name, _ in found} <= known
    ignored = Path(f"{path}.dockerignore").read_text(encoding="utf-8").split()
    for name, argument in found:
        if name == "COPY":
            for source in [word for word in argument.split() if not word.startswith("--")][:-1]:
                assert (REPOSITORY / source).exists(), source
                assert "*" not in ignored or f"!{source.split('/')[0]}" in ignored, source
        if name in ("ENV", "ARG"):
            assert not re.search(r"PASSWORD|SECRET|TOKEN", argument)
    users = [argument for name, argument in found if name == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    assert any("-c constraints.txt" in argument for name, argument in found if name == "RUN")


@pytest.mark.parametrize("name", ["backup.sh", "restore.sh"])
def test_shell_scripts_parse_and_may_be_run(name: str) -> None:
    assert os.access(DEPLOY / name, os.X_OK)
    assert subprocess.run(["sh", "-n", str(DEPLOY / name)], capture_output=True).returncode == 0


def test_compose_itself_accepts_the_file_where_it_is_installed() -> None:
    docker = shutil.which("docker")
    known = docker and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0
    if not known:
        pytest.skip("docker compose is not here")
    command = [str(docker), "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PCC_", "MLFLOW_"))}
    assert subprocess.run(command, env={**plain, **GIVEN}, capture_output=True, text=True).stderr == ""
    done = subprocess.run(command, env=plain, capture_output=True, text=True)
    assert done.returncode != 0
    assert "set " in done.stderr
