"""deploy/kubernetes without a cluster: rendered, held against Kubernetes' own schemas, and read.

kubectl renders it (1.27 or newer, whose kustomize is 5); where there is none, those tests are skipped, and each file by
itself is checked all the same. docs/kubernetes.md says what was run beyond that.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from google.auth import identity_pool

from pcc_pipeline.command_line import pcc
from pcc_pipeline.command_line.commands.step_commands import STEPS
from pcc_pipeline.serving.server import _GRACE_SECONDS
from pcc_pipeline.steps.parameters import resolve
from tests.server.custom_resources import SPECIFICATIONS, schema_of

REPOSITORY = Path(__file__).parents[2]
FILES = REPOSITORY / "deploy" / "kubernetes"
OVERLAYS = sorted(
    path.parent.relative_to(FILES).as_posix()
    for path in (FILES / "overlays").rglob("kustomization.yaml")
    if yaml.safe_load(path.read_text())["kind"] == "Kustomization"
)
PRODUCTION = [name for name in OVERLAYS if name.startswith("overlays/production/")]
COLOURS = ("blue", "green")
CLOUDS = ("gke", "eks")
# The oldest one that GKE and EKS have as this is written, and the newest one that the validator knows.
VERSIONS = ("1.33", "1.37")
Document = dict[str, Any]


def kustomize_version() -> int:
    if shutil.which("kubectl") is None:
        return 0
    done = subprocess.run(["kubectl", "version", "--client", "--output=json"], capture_output=True, text=True)
    found = re.search(r'"kustomizeVersion": "v(\d+)\.', done.stdout)
    return int(found[1]) if found else 0


@cache
def rendered(overlay: str) -> list[Document]:
    if kustomize_version() < 5:
        pytest.skip("no kubectl of 1.27 or newer to render with")
    done = subprocess.run(["kubectl", "kustomize", str(FILES / overlay)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


def faults(document: Document) -> list[str]:
    """What is wrong with a document, for both versions of Kubernetes or by our schemas of custom resources."""
    if (document["apiVersion"], document["kind"]) in SPECIFICATIONS:
        found = jsonschema.Draft202012Validator(schema_of(document)).iter_errors(document)
        return [error.message for error in found]
    told = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            told.append(f"{version}: {error}")
    return told


def pods_of(documents: list[Document]) -> list[tuple[str, Document, Document]]:
    """Name, labels and specification of all pods that would run."""
    found = []
    for document in documents:
        inner = document.get("spec", {})
        if document["kind"] == "CronJob":
            inner = inner["jobTemplate"]["spec"]
        if "template" in inner:
            pod = inner["template"]
            found.append((document["metadata"]["name"], pod["metadata"]["labels"], pod["spec"]))
    return found


def single_files() -> list[Path]:
    return sorted(
        path for path in FILES.rglob("*.yaml") if path.name not in ("kustomization.yaml", "adapter_values.yaml")
    )


@pytest.mark.parametrize("path", single_files(), ids=lambda path: path.relative_to(FILES).as_posix())
def test_every_document_of_ours_is_one_of_kubernetes_or_of_a_known_custom_resource(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    assert documents
    for document in documents:
        assert faults(document) == [], document["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_an_overlay_renders_is_valid_for_both_versions(overlay: str) -> None:
    documents = rendered(overlay)
    assert len(documents) >= 4
    for document in documents:
        assert faults(document) == [], f"{document['kind']} {document['metadata']['name']}"
        # A list would go on where a name is twice, and the second would win.
    names = [(each["kind"], each["metadata"]["name"]) for each in documents]
    assert len(names) == len(set(names))
    # Whoever applies an overlay fills no other namespace.
    assert {each["metadata"].get("namespace", "pcc") for each in documents} == {"pcc"}


def test_the_validators_find_what_is_wrong() -> None:
    (deployment,) = yaml.safe_load_all((FILES / "serve/deployment.yaml").read_text(encoding="utf-8"))
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
    assert len(faults(deployment)) == len(VERSIONS)
    assert faults({"apiVersion": "v1", "kind": "Nothing", "metadata": {"name": "a"}})
    (monitor,) = yaml.safe_load_all((FILES / "components/prometheus/service_monitor.yaml").read_text(encoding="utf-8"))
    monitor["spec"]["endpoints"][0]["bearer"] = "a"
    assert len(faults(monitor)) == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_is_what_the_restricted_standard_admits(overlay: str) -> None:
    pods = pods_of(rendered(overlay))
    assert pods or overlay.endswith("settings")
    for name, _, pod in pods:
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"], security["runAsGroup"]) == (True, 10001, 10001), name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory", "ephemeral-storage"} == container["resources"]["requests"].keys()
            assert {"memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
            mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
            assert {"/tmp", "/srv/project/outputs"} <= mounts.keys()
            assert set(mounts.values()) == {each["name"] for each in pod["volumes"]}
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "secret", "persistentVolumeClaim", "projected"}
    (namespace,) = of_kind(rendered("overlays/small"), "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_image_is_the_one_of_the_dockerfile() -> None:
    dockerfile = (FILES.parent / "project.Dockerfile").read_text(encoding="utf-8")
    assert "USER 10001:10001\n" in dockerfile
    assert 'ENTRYPOINT ["pcc"]' in dockerfile
    assert "WORKDIR /srv/project\n" in dockerfile
    for overlay in OVERLAYS:
        for _, _, pod in pods_of(rendered(overlay)):
            for container in pod["containers"]:
                assert re.fullmatch(r"registry\.example\.org/pcc-pipeline:\d+\.\d+\.\d+", container["image"])
                assert "command" not in container


@pytest.mark.parametrize("colour", COLOURS)
def test_a_server_has_longer_to_end_than_it_takes(colour: str) -> None:
    (deployment,) = of_kind(rendered(f"overlays/production/{colour}"), "Deployment").values()
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = {each["name"]: each["value"] for each in container["env"]}
    params = resolve(REPOSITORY / "params.yaml", {}, [], options)
    ending = params.serving.drain_seconds + _GRACE_SECONDS
    assert params.serving.drain_seconds > 0
    assert pod["terminationGracePeriodSeconds"] >= ending + 10
    assert {
        name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")
    } == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert params.serving.accounts == "tokens"
    assert container["ports"] == [{"name": "http", "containerPort": params.serving.port}]
    folder, _, file = str(params.serving.tokens_file).rpartition("/")
    (tokens,) = [each for each in container["volumeMounts"] if each["mountPath"] == folder]
    (volume,) = [each for each in pod["volumes"] if each["name"] == tokens["name"]]
    stored = of_kind(rendered("overlays/production/gke"), "ExternalSecret")[volume["secret"]["secretName"]]
    assert [each["secretKey"] for each in stored["spec"]["data"]] == [file]
    pcc.parser().parse_args(container["args"])


def test_blue_and_green_are_the_same_but_for_their_colour_and_have_no_say_in_who_is_called() -> None:
    blue, green = (rendered(f"overlays/production/{colour}") for colour in COLOURS)
    assert yaml.safe_dump(blue).replace("blue", "green") == yaml.safe_dump(green)
    assert {each["kind"] for each in blue} == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
    }
    (deployment,) = of_kind(blue, "Deployment").values()
    assert "replicas" not in deployment["spec"]  # it would undo the autoscaler's number each time
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"],
        next(iter(of_kind(blue, "PodDisruptionBudget").values()))["spec"]["selector"],
        *(each["labelSelector"] for each in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]),
    ):
        assert selector == {"matchLabels": labels}
    assert labels == {"app.kubernetes.io/name": "pcc-serve", "pcc/colour": "blue"}
    (autoscaler,) = of_kind(blue, "HorizontalPodAutoscaler").values()
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"] == "pcc-serve-blue"
    for cloud in CLOUDS:
        services = of_kind(rendered(f"overlays/production/{cloud}"), "Service")
        assert "selector" not in services["pcc-serve"]["spec"]
        assert services["pcc-serve-pods"]["spec"]["selector"] == {"app.kubernetes.io/name": "pcc-serve"}


def test_the_small_overlay_is_one_server_behind_its_service() -> None:
    documents = rendered("overlays/small")
    assert not {"HorizontalPodAutoscaler", "PodDisruptionBudget", "Ingress"} & {each["kind"] for each in documents}
    (deployment,) = of_kind(documents, "Deployment").values()
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert of_kind(documents, "Service")["pcc-serve"]["spec"]["selector"].items() <= labels.items()
    assert not {each["apiVersion"] for each in documents} & {api for api, _ in SPECIFICATIONS}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_are_options_of_params_yaml_and_hold_no_secret(overlay: str) -> None:
    settings = next(
        each for name, each in of_kind(rendered(overlay), "ConfigMap").items() if name.startswith("pcc-settings")
    )
    resolve(REPOSITORY / "params.yaml", {}, [], settings["data"])
    assert not [name for name in settings["data"] if re.search("PASSWORD|SECRET|TOKEN|KEY|NOTIFY", name)]
    for name, _, pod in pods_of(rendered(overlay)):
        (container,) = pod["containers"]
        taken = [each["configMapRef"]["name"] for each in container["envFrom"] if "configMapRef" in each]
        assert taken == [settings["metadata"]["name"]], name


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_secret_that_is_taken_is_fetched_and_every_account_is_there(cloud: str) -> None:
    documents = [each for name in (cloud, *COLOURS) for each in rendered(f"overlays/production/{name}")]
    fetched = of_kind(documents, "ExternalSecret")
    taken = set()
    for name, _, pod in pods_of(documents):
        assert pod["serviceAccountName"] in of_kind(documents, "ServiceAccount"), name
        for container in pod["containers"]:
            taken |= {each["secretRef"]["name"] for each in container["envFrom"] if "secretRef" in each}
        taken |= {
            volume["secret"]["secretName"]
            for volume in pod["volumes"]
            if "secret" in volume and not volume["secret"].get("optional")
        }
    (monitor,) = of_kind(documents, "ServiceMonitor").values()
    shown = monitor["spec"]["endpoints"][0]["authorization"]["credentials"]
    assert shown["key"] in [each["secretKey"] for each in fetched[shown["name"]]["spec"]["data"]]
    assert taken | {shown["name"]} == set(fetched)
    (store,) = of_kind(documents, "SecretStore").values()
    assert {each["spec"]["secretStoreRef"]["name"] for each in fetched.values()} == {store["metadata"]["name"]}
    assert "Secret" not in {each["kind"] for each in documents}
    for account in ("pcc-reader", "pcc-trainer"):
        assert [each["secretKey"] for each in fetched[account]["spec"]["data"]] == [
            "MLFLOW_TRACKING_USERNAME",
            "MLFLOW_TRACKING_PASSWORD",
        ]
    annotation = {"gke": "iam.gke.io/gcp-service-account", "eks": "eks.amazonaws.com/role-arn"}[cloud]
    assert annotation in of_kind(documents, "ServiceAccount")["pcc-secrets"]["metadata"]["annotations"]


def test_on_eks_googles_library_takes_the_credentials_and_they_hold_no_key() -> None:
    documents = rendered("overlays/production/eks")
    given = next(
        each for name, each in of_kind(documents, "ConfigMap").items() if name.startswith("pcc-google-credentials")
    )
    text = given["data"]["google_credentials.json"]
    assert "private_key" not in text
    credentials = identity_pool.Credentials.from_info(json.loads(text))
    assert credentials.service_account_email == "pcc-jobs@our-project.iam.gserviceaccount.com"
    for _, _, pod in pods_of(documents):
        (container,) = pod["containers"]
        (sources,) = [each["projected"]["sources"] for each in pod["volumes"] if "projected" in each]
        (mounted,) = [each["mountPath"] for each in container["volumeMounts"] if each["name"] == "google"]
        assert sources[0] == {"configMap": {"name": given["metadata"]["name"]}}
        assert json.loads(text)["credential_source"]["file"] == f"{mounted}/{sources[1]['serviceAccountToken']['path']}"
        named = {each["name"]: each.get("value") for each in container["env"]}
        assert named["GOOGLE_APPLICATION_CREDENTIALS"] == f"{mounted}/google_credentials.json"


@pytest.mark.parametrize("overlay", ["overlays/small", *(f"overlays/production/{cloud}" for cloud in CLOUDS)])
def test_each_entry_point_is_a_template_that_waits_and_auto_runs_every_day(overlay: str) -> None:
    jobs = of_kind(rendered(overlay), "CronJob")
    steps = {"run" if step.entry == "main" else step.entry.replace("_", "-") for step in STEPS}
    assert set(jobs) == {f"pcc-{name}" for name in steps} | {"pcc-auto"}
    (volume,) = of_kind(rendered(overlay), "PersistentVolumeClaim")
    for name, job in jobs.items():
        assert job["spec"]["suspend"] is (name != "pcc-auto")
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
        pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        assert pod["restartPolicy"] == "Never"
        (container,) = pod["containers"]
        options = pcc.parser().parse_args(container["args"])
        assert f"pcc-{container['args'][0]}" == name
        assert options is not None
        (kept,) = [each["persistentVolumeClaim"] for each in pod["volumes"] if each["name"] == "outputs"]
        assert kept == {"claimName": volume}
        (cores,) = [each for each in container["env"] if each["name"] == "PCC_SEARCH__N_JOBS"]
        assert cores["valueFrom"] == {"resourceFieldRef": {"resource": "limits.cpu"}}
        assert "cpu" in container["resources"]["limits"]
    assert re.fullmatch(r"\d+ \d+ \* \* \*", jobs["pcc-auto"]["spec"]["schedule"])


@pytest.mark.parametrize("cloud", CLOUDS)
def test_everything_is_closed_but_for_the_ways_that_are_named(cloud: str) -> None:
    documents = [each for name in (cloud, "blue") for each in rendered(f"overlays/production/{name}")]
    policies = {name: each["spec"] for name, each in of_kind(documents, "NetworkPolicy").items()}
    assert policies.pop("closed") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    labels = {name: labels for name, labels, _ in pods_of(documents)}

    def ways(pod: str, kind: str) -> set[str]:
        return {
            name
            for name, policy in policies.items()
            if policy["podSelector"].get("matchLabels", {}).items() <= labels[pod].items()
            and policy["policyTypes"] == [kind]
        }

    metadata = {"to-metadata-server"} if cloud == "gke" else set()
    assert ways("pcc-serve-blue", "Ingress") == {"from-callers", "from-load-balancer", "from-prometheus"}
    assert ways("pcc-serve-blue", "Egress") == {"to-dns", "to-tracking-server", *metadata}
    assert ways("pcc-train", "Ingress") == set()
    assert ways("pcc-train", "Egress") == {"to-dns", "to-tracking-server", "to-bucket", *metadata}
    for name, policy in policies.items():
        for rule in [*policy.get("ingress", []), *policy.get("egress", [])]:
            # An empty `from`, `to` or `ports` would stand for all of them.
            assert rule.get("from") or rule.get("to"), name
            assert rule["ports"], name
            for peer in [*rule.get("from", []), *rule.get("to", [])]:
                if "ipBlock" in peer:
                    ipaddress.ip_network(peer["ipBlock"]["cidr"])
    (tracking,) = policies["to-tracking-server"]["egress"][0]["to"]
    assert ipaddress.ip_network(tracking["ipBlock"]["cidr"]).num_addresses == 1


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_load_balancer_asks_readyz_and_has_tls(cloud: str) -> None:
    documents = rendered(f"overlays/production/{cloud}")
    (ingress,) = of_kind(documents, "Ingress").values()
    notes = ingress["metadata"]["annotations"]
    service = of_kind(documents, "Service")["pcc-serve"]
    if cloud == "gke":
        assert ingress["spec"]["defaultBackend"]["service"]["name"] == "pcc-serve"
        (certificate,) = of_kind(documents, "ManagedCertificate")
        (front,) = of_kind(documents, "FrontendConfig")
        (backend,) = of_kind(documents, "BackendConfig").values()
        assert notes["networking.gke.io/managed-certificates"] == certificate
        assert notes["networking.gke.io/v1beta1.FrontendConfig"] == front
        annotated = json.loads(service["metadata"]["annotations"]["cloud.google.com/backend-config"])
        assert annotated == {"default": backend["metadata"]["name"]}
        assert backend["spec"]["healthCheck"]["requestPath"] == "/readyz"
    else:
        assert notes["alb.ingress.kubernetes.io/healthcheck-path"] == "/readyz"
        assert json.loads(notes["alb.ingress.kubernetes.io/listen-ports"]) == [{"HTTP": 80}, {"HTTPS": 443}]
        assert notes["alb.ingress.kubernetes.io/ssl-redirect"] == "443"


def test_pods_by_the_length_of_their_queue_are_a_metric_that_the_server_has(tmp_path: Path) -> None:
    """The component, on a copy of the colour that has its comment sign taken away."""
    if kustomize_version() < 5:
        pytest.skip("no kubectl of 1.27 or newer to render with")
    copy = tmp_path / "kubernetes"
    shutil.copytree(FILES, copy)
    path = copy / "overlays/production/blue/kustomization.yaml"
    text = path.read_text(encoding="utf-8")
    changed = re.sub(r"# (- ../../../components/queue_metric).*", r"\1", text)
    assert changed != text
    path.write_text(changed, encoding="utf-8")
    done = subprocess.run(["kubectl", "kustomize", str(path.parent)], capture_output=True, text=True)
    documents = list(yaml.safe_load_all(done.stdout))
    (autoscaler,) = of_kind(documents, "HorizontalPodAutoscaler").values()
    assert faults(autoscaler) == []
    cpu, queue = autoscaler["spec"]["metrics"]
    assert cpu["resource"]["name"] == "cpu"
    name = queue["pods"]["metric"]["name"]
    (rule,) = yaml.safe_load((FILES / "components/queue_metric/adapter_values.yaml").read_text())["rules"]["custom"]
    assert rule["seriesQuery"].startswith(f"{name}{{")
    assert rule["name"]["as"] == name
    assert f'"{name}"' in (REPOSITORY / "pcc_pipeline/serving/metrics.py").read_text(encoding="utf-8")
