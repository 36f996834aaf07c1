"""The compose files, Caddyfile and Dockerfiles, as far as they can be checked without a container engine.

deploy/try_containers.sh runs them; docs/operations.md says with which images that was done.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
import shutil
import site
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pcc_pipeline.config import load_params
from tests.compose_files import DEPLOY, compose

REPOSITORY = DEPLOY.parent
sys.path.insert(0, str(DEPLOY))

from tracking_server import (  # noqa: E402  (in the folder named above)
    NEEDED,
    SECRETS,
    command_of,
    environment_of,
    faults_of_proxies,
    faults_of_secrets,
)

COMPOSE, TRY = compose("compose.yaml"), compose("compose.try.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
# Services of the try that production has not.
ONLY_TRIED = {name: service for name, service in TRY["services"].items() if name not in SERVICES}
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
    assert set(re.findall(r"\$\{(\w+)(?!\w|:\?)", text)) == {
        "PCC_SERVER_WORKERS",
        "PCC_SERVER_APPROVALS",
        "PCC_SERVER_PROXY_NETWORK",
        "PCC_SERVER_MEMORY",
        "PCC_SERVER_CPUS",
        "PCC_GRAFANA_PORT",
        "PCC_SERVE_USERNAME",
        "PCC_SERVE_PASSWORD",
        "PCC_SERVE_CPUS",
        "COMPOSE_PROJECT_NAME",
        "REVISION",
    }
    # Compose demands a variable of everybody, whatever profile they start.
    of_a_profile = "${PCC_SERVE_PASSWORD:-}"
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|KEY")
    for service in [*SERVICES.values(), *TRY["services"].values()]:
        for name, value in service.get("environment", {}).items():
            assert not secret.search(name) or value == of_a_profile or re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name


def test_images_are_pinned() -> None:
    """What they are made from, and under which version they are kept."""
    images = {
        argument.partition(" AS ")[0] for path in DOCKERFILES for name, argument in instructions(path) if name == "FROM"
    }
    assert len(images) == 5
    for image in images:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z-]+)?", image), image
    pins = dict(re.findall(r"^(\S+)==(.+)$", (REPOSITORY / "constraints.txt").read_text(), flags=re.MULTILINE))
    versions = dict(re.split("[:-]", image.rpartition("/")[2])[:2] for image in images)
    assert SERVICES["mlflow"]["image"] == f"pcc-tracking-server:{pins['mlflow']}"
    assert SERVICES["postgres"]["image"] == f"pcc-database:{versions['postgres']}"
    assert SERVICES["tls"]["image"] == f"pcc-tls:{versions['caddy']}"
    assert SERVICES["prometheus"]["image"] == f"pcc-prometheus:{versions['prometheus'].removeprefix('v')}"
    assert SERVICES["grafana"]["image"] == f"pcc-grafana:{versions['grafana']}"
    assert ONLY_TRIED["bucket"]["image"] == f"pcc-bucket-emulator:{pins['gcp-storage-emulator']}"
    lines = [line for line in (DEPLOY / "build_tools.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)


def test_the_projects_image_has_the_extras_that_it_needs_and_tells_its_commit() -> None:
    found = instructions(DEPLOY / "project.Dockerfile")
    (extras,) = [match[1] for _, given in found if (match := re.search(r"\.whl\)\[([\w,]+)\]", given))]
    known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    assert set(extras.split(",")) == {"openvino", "postgresql", "notify", "redis", "serve"} <= set(known)
    assert ("ARG", "REVISION") in found
    assert any("PCC_CODE_REVISION=$REVISION" in given for name, given in found if name == "ENV")


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


def uvicorns(environment: dict[str, str]) -> list[str]:
    command = command_of({"PCC_SERVER_ARTIFACTS": "gs://b", "PCC_SERVER_ALLOWED_HOSTS": "h", **environment})
    return shlex.split(command[command.index("--uvicorn-opts") + 1])


def test_the_clients_address_is_believed_of_the_proxys_network_alone() -> None:
    given = filled(SERVICES["mlflow"]["environment"]["PCC_SERVER_PROXIES"])
    (subnet,) = [filled(each["subnet"]) for each in COMPOSE["networks"]["proxy"]["ipam"]["config"]]
    assert given == subnet
    assert ipaddress.ip_network(subnet).is_private
    options = uvicorns({"PCC_SERVER_PROXIES": given})
    assert options[options.index("--forwarded-allow-ips") + 1] == subnet
    assert "--no-proxy-headers" in uvicorns({})  # where nothing stands before it, nobody's word counts
    assert faults_of_proxies("172.16.250.0/28, 10.0.0.1,::1") == []
    assert len(faults_of_proxies("proxy,10.0.0.1/8,0.0.0.0/0,*")) == 4


def test_the_image_has_all_that_the_servers_audit_log_needs(tmp_path: Path) -> None:
    found = instructions(DEPLOY / "server.Dockerfile")
    kept = found[max(place for place, (name, _) in enumerate(found) if name == "FROM") :]
    for given in [given for name, given in kept if name == "COPY" and "--from=" not in given]:
        *sources, target = given.split()
        for source in (REPOSITORY / each for each in sources):
            (tmp_path / target).mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, tmp_path / target, dirs_exist_ok=True)
            else:
                shutil.copy(source, tmp_path / target)
    # Without `site` no installed copy of the package steps in for what the image lacks.
    paths = [str(tmp_path), str(tmp_path / "deploy/mlflow_app"), *site.getsitepackages()]
    code = (
        f"import sys\nsys.path[:0] = {paths!r}\nimport pcc_accounts\n"
        "print(*(module.__file__ for name, module in sys.modules.items() if name.split('.')[0] == 'pcc_pipeline'))\n"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    files = {Path(file).relative_to(tmp_path) for file in done.stdout.split()}
    assert Path("pcc_pipeline/auditing/log.py") in files, done.stderr
    assert f"audit:{SERVICES['mlflow']['environment']['PCC_SERVER_AUDIT']}" in SERVICES["mlflow"]["volumes"]


def test_only_tls_is_reachable_from_outside_and_the_database_by_mlflow_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"tls", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in published["grafana"])
    on = {
        network: {name for name, service in SERVICES.items() if network in service["networks"]}
        for network in COMPOSE["networks"]
    }
    # Two services share one network at most: by another one, what a service is told of clients would not be believed.
    assert on == {
        "database": {"postgres", "mlflow"},
        "proxy": {"mlflow", "tls"},
        "serving": {"tls", "serve"},
        "watched": {"serve", "prometheus"},
        "watch": {"prometheus", "grafana"},
        "look": {"grafana"},
        "registry": {"serve", "mlflow"},
        "bucket": {"mlflow"},
        "web": {"tls"},
    }
    for name in ("database", "serving", "registry", "watched", "watch"):
        assert COMPOSE["networks"][name] == {"internal": True}
    assert COMPOSE["networks"]["proxy"]["internal"] is True
    assert all(port.startswith("127.0.0.1:") for port in TRY["services"]["tls"]["ports"])
    assert not any("ports" in service for service in ONLY_TRIED.values())


def test_caddy_announces_what_is_published_waits_for_mlflow_and_has_no_second_door() -> None:
    caddy = re.sub(r"^\s*#.*", "", (DEPLOY / "Caddyfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert "{$PCC_SERVER_NAME} {" in caddy
    assert re.search(r"^\s*protocols h1 h2$", caddy, flags=re.MULTILINE)  # HTTP/3 is UDP
    assert not [port for port in SERVICES["tls"]["ports"] if "udp" in port]
    assert "reverse_proxy mlflow:5000 {\n" in caddy
    assert "lb_try_duration 100s" in caddy
    assert "admin off" in caddy
    assert caddy.count("{") == caddy.count("}")
    assert SERVICES["tls"]["environment"]["PCC_SERVER_CERTIFICATES"] == ""


def test_the_model_server_answers_by_caddy_and_needs_no_champion_for_the_rest_to_come_up() -> None:
    serve = SERVICES["serve"]
    assert serve["profiles"] == ["serve"]
    replicas = SERVICES["tls"]["environment"]["PCC_SERVE_REPLICAS"].split()
    assert replicas == [f"${{COMPOSE_PROJECT_NAME}}-serve-{n + 1}:8000" for n in range(serve["deploy"]["replicas"])]
    caddy = (DEPLOY / "Caddyfile").read_text(encoding="utf-8")
    for line in (
        "@model path /v1/classify /invocations",
        "reverse_proxy {$PCC_SERVE_REPLICAS} {",
        "health_uri /readyz",
        "method POST",
        "request_buffers 512KiB",
    ):
        assert f"\t{line}" in caddy, line
    version = SERVICES["tls"]["image"].partition(":")[2]
    assert tuple(map(int, version.split("."))) >= (2, 11)  # it sends a body again as often as needed
    given = {name: filled(str(value)) for name, value in serve["environment"].items()}
    known_as = given["MLFLOW_TRACKING_URI"].removeprefix("http://")
    for service in (SERVICES["mlflow"], TRY["services"]["mlflow"]):
        assert service["environment"]["PCC_SERVER_ALLOWED_HOSTS"].split(",")[-1] == known_as
    words = serve["command"][1:]
    settings = {
        f"serving.{name.removeprefix('--')}": value for name, value in zip(words[::2], words[1::2], strict=True)
    }
    prefix = "PCC_SERVING__"
    settings |= {
        f"serving.{name.removeprefix(prefix).lower()}": value
        for name, value in given.items()
        if name.startswith(prefix)
    }
    serving = load_params(None, settings=[f"{name}={value}" for name, value in settings.items()]).serving
    assert (serving.accounts, serving.port, serving.open_metrics) == ("tracking", 8000, True)
    assert int(serve["stop_grace_period"].removesuffix("s")) > serving.drain_seconds + 30


def test_what_watches_the_model_server_knows_its_port_and_its_metrics(tmp_path: Path) -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = scraped["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    words = SERVICES["serve"]["command"]
    assert (found["names"], str(found["port"])) == (["serve"], words[words.index("--port") + 1])
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert {name for name in ("prometheus", "grafana") if SERVICES[name]["profiles"] != ["watch"]} == set()
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text(encoding="utf-8"))["groups"]
    shown = json.loads((DEPLOY / "grafana/dashboards/serving.json").read_text(encoding="utf-8"))["panels"]
    asked = [rule["expr"] for group in rules for rule in group["rules"]]
    asked += [target["expr"] for panel in shown for target in panel["targets"]]
    written = {
        f"{name}{ending}" for name in _metrics_of_serving() for ending in ("", "_total", "_bucket", "_sum", "_count")
    }
    used = {name for expression in asked for name in re.findall(r"\bpcc_\w+", expression)}
    assert used <= written
    assert len(used) > 10
    by_name = {rule["alert"]: rule for group in rules for rule in group["rules"]}
    for rule in by_name.values():
        assert {"summary", "do"} == set(rule["annotations"])
        assert rule["labels"]["severity"] in ("warning", "critical")
    replicas = SERVICES["serve"]["deploy"]["replicas"]
    assert by_name["PccServeOneIsGone"]["expr"].endswith(f" < {replicas}")
    assert f" of {replicas} " in by_name["PccServeOneIsGone"]["annotations"]["summary"]
    # Of requests those count that Caddy hands on, and neither its own looks at /readyz nor Prometheus' at /metrics.
    (paths,) = re.findall(r"@model path (.+)", (DEPLOY / "Caddyfile").read_text(encoding="utf-8"))
    counted = re.findall(r"pcc_request(?:s_total|_seconds_\w+)[^}]*", " ".join(asked))
    assert len(counted) > 5
    assert all(f'path=~"{"|".join(paths.split())}"' in each for each in counted)


def _metrics_of_serving() -> set[str]:
    from pcc_pipeline.serving.metrics import Metrics

    return {metric.name for metric in Metrics()._registry.collect()}


def test_prometheus_itself_takes_the_rules_and_calls_somebody_where_it_is_installed() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not here")
    for words in (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml", "rules_week_test.yml"],
    ):
        done = subprocess.run([promtool, *words], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_services_wait_for_each_other_and_are_watched() -> None:
    assert SERVICES["mlflow"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("tls", "serve"):
        assert SERVICES[name]["depends_on"] == {"mlflow": {"condition": "service_healthy"}}
    checks = {
        name: service["healthcheck"]["test"]
        for name, service in {**SERVICES, **ONLY_TRIED}.items()
        if name != "pipeline"
    }
    assert all(check[0] == "CMD" for check in checks.values())
    for name in ("mlflow", "bucket", "serve"):
        compile(checks[name][3], "healthcheck", "exec")
    assert "/health" in checks["mlflow"][3]
    path = checks["tls"][-1].rpartition("/")[2]
    assert f"path /{path}\n" in (DEPLOY / "Caddyfile").read_text(encoding="utf-8")
    (itself,) = SERVICES["tls"]["extra_hosts"]
    assert checks["tls"][-1] == f"https://{itself.removesuffix(':127.0.0.1')}/{path}"


@pytest.mark.parametrize("name", [*SERVICES, *ONLY_TRIED])
def test_a_service_has_no_rights_and_no_more_of_the_machine_than_it_is_given(name: str) -> None:
    service = SERVICES.get(name) or ONLY_TRIED[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["init"] is True
    assert {"mem_limit", "pids_limit", "cpus"} <= set(service)
    assert service["logging"]["options"] == {"max-size": "20m", "max-file": "5"}
    assert "user" not in service  # its image says who it is
    assert (DEPLOY.parent / service["build"]["dockerfile"]).is_file()
    assert service.get("restart") == (None if name == "pipeline" else "unless-stopped")


def test_volumes_are_named() -> None:
    """No file of this machine, so that an image is all that a machine needs."""
    root = "${PCC_TRY_ROOT:-../root.crt}:/run/root.crt:ro"  # of the try: what its clients trust
    for service in [*SERVICES.values(), *ONLY_TRIED.values()]:
        for mount in service.get("volumes", []):
            assert mount == root or mount.split(":")[0] in {**COMPOSE["volumes"], **TRY["volumes"]}, mount


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_copies_what_is_there_hides_nothing_it_needs_and_ends_as_no_root(path: Path) -> None:
    """With nothing that only BuildKit knows; the ignore file at the root is the one that every builder reads."""
    found = instructions(path)
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "ARG", "USER", "EXPOSE", "LABEL", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in found} <= known
    assert not any("--mount" in argument for name, argument in found if name == "RUN")
    assert not list(DEPLOY.glob("*.dockerignore"))
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert "*" in ignored
    for name, argument in found:
        if name == "COPY" and "--from=" not in argument:
            for source in argument.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
                assert f"!{source.split('/')[0]}" in ignored, source
        if name in ("ENV", "ARG"):
            assert not re.search(r"PASSWORD|SECRET|TOKEN", argument)
    users = [argument for name, argument in found if name == "USER"]
    assert users
    assert users[-1].split(":")[0] not in ("root", "0")


@pytest.mark.parametrize(
    "path", [each for each in DOCKERFILES if "pip " in each.read_text(encoding="utf-8")], ids=lambda path: path.name
)
def test_an_image_of_python_is_built_apart_from_pins_and_tells_what_is_in_it(path: Path) -> None:
    found = instructions(path)
    stages = [place for place, (name, _) in enumerate(found) if name == "FROM"]
    assert len(stages) == 2
    assert found[stages[0]][1] == f"{found[stages[1]][1]} AS build"
    built, kept = found[: stages[1]], found[stages[1] :]
    assert not [argument for name, argument in kept if name == "RUN" and re.search(r"pip|apt", argument)]
    # The last step writes the bill of materials.
    finished = re.fullmatch(r"sh finish_environment\.sh (/\S+) /\S+", dict(built[-1:])["RUN"])
    assert finished is not None
    environment = finished[1]
    installed = [argument for _, argument in built if f"--python {environment}/bin/python install" in argument]
    assert installed
    assert all("-c constraints.txt" in argument or "--no-deps" in argument for argument in installed)
    assert ("COPY", f"--from=build {environment} {environment}") in kept


@pytest.mark.parametrize("name", ["backup.sh", "restore.sh", "finish_environment.sh"])
def test_shell_scripts_parse_and_may_be_run(name: str) -> None:
    assert os.access(DEPLOY / name, os.X_OK)
    assert subprocess.run(["sh", "-n", str(DEPLOY / name)], capture_output=True).returncode == 0


def test_the_drill_of_the_containers_parses_works_on_a_project_of_its_own_and_breaks_every_service() -> None:
    """It is run by hand; docs/operations.md says what came of it."""
    path = DEPLOY / "try_containers.sh"
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True).returncode == 0
    text = path.read_text(encoding="utf-8")
    (project,) = set(re.findall(r"docker compose -p (\S+)", text))
    assert project not in (COMPOSE["name"], TRY["name"])  # it removes the project's volumes
    (services,) = re.findall(r"^services=\(([\w ]+)\)", text, flags=re.MULTILINE)
    assert set(services.split()) == {*SERVICES, *ONLY_TRIED} - {"pipeline", "serve", "prometheus", "grafana"}
    assert "--wait serve" in text  # by itself, once there is a champion
    assert "--wait prometheus" in text  # Grafana is not looked at
    images = [service["image"] for service in [*SERVICES.values(), *ONLY_TRIED.values()]]
    assert set(re.findall(r"pcc-[\w-]+:[\d.]+", text)) <= set(images)


def test_compose_itself_accepts_the_file_where_it_is_installed() -> None:
    docker = shutil.which("docker")
    known = docker and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0
    if not known:
        pytest.skip("docker compose is not here")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PCC_", "MLFLOW_"))}
    for names in (["compose.yaml"], ["compose.yaml", "compose.try.yaml"]):
        files = [word for name in names for word in ("-f", str(DEPLOY / name))]
        command = [str(docker), "compose", *files, "--profile", "*", "config", "--format", "json"]
        done = subprocess.run(command, env={**plain, **GIVEN}, capture_output=True, text=True)
        assert done.stderr == ""
        services = json.loads(done.stdout)["services"]
        assert set(services) == set(SERVICES) | (set() if len(names) == 1 else set(ONLY_TRIED))
        published = services["tls"]["ports"]
        assert len(published) == (2 if len(names) == 1 else 1)
        done = subprocess.run(command, env=plain, capture_output=True, text=True)
        assert done.returncode != 0
        assert "set " in done.stderr
