"""The manifests are valid, restricted, and say the same as compose.yaml."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from deployed import DEPLOY, composition, is_ours, known_variables, named_variables, parse

FOLDER = DEPLOY / "kubernetes"
FILES = sorted(FOLDER.rglob("*.yaml"))
MANIFESTS = [path for path in FILES if path.name != "kustomization.yaml"]


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


ALL = [(path.name, document) for path in MANIFESTS for document in documents(path)]
WORKLOADS = {
    document["metadata"]["name"]: document
    for _, document in ALL
    if document["kind"] in ("Deployment", "StatefulSet", "Job")
}


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = WORKLOADS[name]["spec"]["template"]["spec"]
    return found


def container(name: str) -> dict[str, Any]:
    (found,) = pod(name)["containers"]
    return dict(found)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_fits_the_newest_schema(path: Path) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        assert document["metadata"].get("namespace", "flywheel") == "flywheel"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_kustomize_lists_every_file_that_is_no_example(path: Path) -> None:
    if path.name == "kustomization.yaml":
        said = documents(path)[0]
        listed = [*said["resources"], *said.get("components", [])]
        assert not [name for name in listed if not (path.parent / name).exists()]
    elif ".example." not in path.name:
        (said,) = documents(path.parent / "kustomization.yaml")
        assert path.name in said["resources"]


def test_pods_keep_the_restricted_profile() -> None:
    assert documents(FOLDER / "namespace.yaml")[0]["metadata"]["labels"][
        "pod-security.kubernetes.io/enforce"
    ] == "restricted"  # fmt: skip
    for name in WORKLOADS:
        security, own = pod(name)["securityContext"], container(name)["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == 10001
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod(name)["automountServiceAccountToken"] is False
        assert pod(name)["enableServiceLinks"] is False, "a Service would set FLYWHEEL_ variables"
        assert {"cpu", "memory"} <= container(name)["resources"]["requests"].keys()
        assert "memory" in container(name)["resources"]["limits"]
        kinds = {kind for volume in pod(name)["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"secret", "emptyDir", "persistentVolumeClaim"}


def test_everything_that_is_named_is_there() -> None:
    claims = {d["metadata"]["name"] for _, d in ALL if d["kind"] == "PersistentVolumeClaim"}
    services = {d["metadata"]["name"]: d for _, d in ALL if d["kind"] == "Service"}
    for name, workload in WORKLOADS.items():
        volumes = {volume["name"] for volume in pod(name)["volumes"]}
        volumes |= {v["metadata"]["name"] for v in workload["spec"].get("volumeClaimTemplates", [])}
        assert {mount["name"] for mount in container(name)["volumeMounts"]} == volumes
        for volume in pod(name)["volumes"]:
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "shared") in claims
        if workload["kind"] != "Job":
            labels = workload["spec"]["template"]["metadata"]["labels"]
            assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
            ports = {port["name"] for port in container(name)["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container(name)[probe]["httpGet"]["port"] in ports
    for _, document in ALL:
        spec = document.get("spec", {})
        if document["kind"] == "Service":
            aim = spec["selector"]["app.kubernetes.io/name"]
            assert spec["ports"][0]["targetPort"] in {p["name"] for p in container(aim)["ports"]}
        if document["kind"] == "PodDisruptionBudget":
            assert spec["selector"]["matchLabels"]["app.kubernetes.io/name"] in WORKLOADS
        if document["kind"] == "HorizontalPodAutoscaler":
            aim = WORKLOADS[spec["scaleTargetRef"]["name"]]
            assert aim["kind"] == spec["scaleTargetRef"]["kind"]
            assert "replicas" not in aim["spec"], "an apply would undo what the autoscaler did"
        for backend in backends(document):
            assert backend["name"] in services
    assert WORKLOADS["gateway"]["spec"]["serviceName"] in services
    assert services["gateways"]["spec"]["clusterIP"] == "None"


def backends(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        if "backend" in document:
            yield document["backend"]["service"]
        document = list(document.values())
    for inner in document if isinstance(document, list) else ():
        yield from backends(inner)


def test_the_same_processes_and_commands_as_in_compose() -> None:
    services = {n: s for n, s in composition()["services"].items() if is_ours(s)}
    for name, service in services.items():
        if name == "engine":
            continue  # vLLM is the cluster's model server
        words = [str(word) for word in container(name)["args"]]
        composed = [str(word) for word in service["command"]]
        if "--workers" in composed:  # the cluster starts more of them
            composed = composed[: composed.index("--workers")]
        assert parse(words) == parse(composed)
        assert words == composed, name
        assert container(name)["image"] == service["image"]
        paths = {volume.split(":")[-1] for volume in service["volumes"]}
        mounted = {mount["mountPath"] for mount in container(name)["volumeMounts"]}
        shared = {"/var/lib/flywheel/artifacts", "/var/lib/flywheel/work"}
        assert mounted >= {"/var/lib/flywheel", "/tmp", "/run/secrets/flywheel"}
        if name.startswith("worker"):
            assert paths & shared == mounted & shared == shared


def test_variables_are_settings_and_the_same_as_in_compose() -> None:
    for path in FILES:
        assert set(named_variables(path.read_text())) <= known_variables(), path.name
    configured = documents(FOLDER / "configmap.yaml")[0]["data"]
    composed = composition()["services"]["gateway"]["environment"]
    ours = {name for name in configured if name.startswith("FLYWHEEL_")}
    assert composed.keys() - ours == {"FLYWHEEL_ENGINE_PORT"}
    elsewhere = {"FLYWHEEL_ENGINE_URL", "FLYWHEEL_SECRETS_DIR", "FLYWHEEL_TRUSTED_SIGNERS"}
    for name in composed.keys() & configured.keys() - elsewhere:
        assert composed[name] == configured[name], name
    assert configured["FORWARDED_ALLOW_IPS"] == "127.0.0.1", "a pod could claim any address"
    secret = documents(FOLDER / "secret.example.yaml")[0]["stringData"]
    assert set(secret) == set(composition()["services"]["gateway"]["secrets"])
    for value in secret.values():
        assert "CHANGE-ME" in value or value == "{}"


def test_workers_alone_have_the_key_that_versions_are_signed_with() -> None:
    configured = documents(FOLDER / "configmap.yaml")[0]["data"]
    assert json.loads(configured["FLYWHEEL_TRUSTED_SIGNERS"]) == [
        f"{configured['FLYWHEEL_SECRETS_DIR']}/signer.pem"
    ]
    _, signing = documents(FOLDER / "secret.example.yaml")
    for name in WORKLOADS:
        secrets = {v.get("secret", {}).get("secretName") for v in pod(name)["volumes"]}
        is_worker = name.startswith("worker")
        assert (signing["metadata"]["name"] in secrets) == is_worker, name
        said = {one["name"]: one.get("value") for one in container(name).get("env", [])}
        if is_worker:
            (place,) = [m for m in container(name)["volumeMounts"] if m["name"] == "signing"]
            (file,) = signing["stringData"]
            assert said["FLYWHEEL_SIGNING_KEY"] == f"{place['mountPath']}/{file}"
        else:
            assert "FLYWHEEL_SIGNING_KEY" not in said


def test_ports_are_the_ones_that_the_variables_say() -> None:
    configured = documents(FOLDER / "configmap.yaml")[0]["data"]
    ports = {"service": "PORT", "gateway": "GATEWAY_PORT"}
    for name in WORKLOADS.keys() - {"migrate", "vllm"}:
        said = configured[f"FLYWHEEL_{ports.get(name, 'METRICS_PORT')}"]
        assert container(name)["ports"][0]["containerPort"] == int(said), name
    assert re.match(r"http://vllm:8000/", configured["FLYWHEEL_ENGINE_URL"])
