"""compose.yaml is what Compose reads, opens nothing, and names only what exists."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployed import (
    DEPLOY,
    composition,
    is_ours,
    known_variables,
    named_variables,
    parse,
    raw_composition,
    variables_of,
)

from foundation.settings import get_settings
from trainer.signing import sign, signing_key, trusted_keys, verify

SERVICES: dict[str, dict[str, Any]] = composition()["services"]
OURS = {name: service for name, service in SERVICES.items() if is_ours(service)}
PROFILES = sorted({p for service in SERVICES.values() for p in service.get("profiles", [])})


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `deploy/` made ready as its first lines say."""
    folder = tmp_path_factory.mktemp("compose") / "deploy"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("secrets", ".env"))
    subprocess.run([folder / "make-secrets"], check=True, capture_output=True)
    shutil.copy(folder / ".env.example", folder / ".env")
    shutil.copy(folder / "flywheel.env.example", folder / "flywheel.env")
    return folder


@pytest.mark.parametrize("profile", ["", *PROFILES, ",".join(PROFILES)])
def test_compose_reads_it_as_we_do(copied: Path, profile: str) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    done = subprocess.run(
        [program, "-f", copied / "compose.yaml", "config"],
        env={**os.environ, "COMPOSE_PROFILES": profile}, cwd=copied, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    read = yaml.safe_load(done.stdout)["services"]
    for name, service in SERVICES.items():
        if set(service.get("profiles", [])) <= set(profile.split(",")):
            said = {**variables_of(DEPLOY / "flywheel.env.example"), **service["environment"]} if (
                is_ours(service)
            ) else service.get("environment", {})  # fmt: skip
            assert said.items() <= read[name].get("environment", {}).items()
            command = [str(word).replace("$", "$$") for word in service.get("command", [])]
            assert command == read[name].get("command", [])


def test_only_the_worker_of_untrusted_code_may_be_let_make_namespaces() -> None:
    said = yaml.safe_load((DEPLOY / "compose.sandbox.yaml").read_text())["services"]
    assert said.keys() == {"worker-cpu"}
    assert said["worker-cpu"].keys() == {"security_opt"}
    assert "no-new-privileges:true" in said["worker-cpu"]["security_opt"]


def test_the_secrets_are_made_once_and_are_random(copied: Path) -> None:
    made = {path.name: path.read_text() for path in (copied / "secrets").iterdir()}
    assert made.keys() == raw_composition()["secrets"].keys()
    said = {name: said["file"] for name, said in raw_composition()["secrets"].items()}
    assert said == {name: f"./secrets/{name}" for name in made}
    password = made["postgres_password"].strip()
    assert len(password) == 64
    assert password in made["flywheel_database_url"]
    assert made["redis.conf"].split()[1] in made["flywheel_broker_url"]
    random = ("postgres_password", "flywheel_api_key", "flywheel_metrics_key", "grafana_password")
    assert len({made[name] for name in random}) == 4
    assert (copied / "secrets").stat().st_mode & 0o777 == 0o700
    subprocess.run([copied / "make-secrets"], check=True, capture_output=True)
    assert made == {path.name: path.read_text() for path in (copied / "secrets").iterdir()}


def test_what_a_worker_signs_all_trust_and_nobody_else_can_sign(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, service in OURS.items():
        said, is_worker = service["environment"], name.startswith("worker")
        assert {"signer.pem"} <= set(service["secrets"]), name
        assert ("signing.pem" in service["secrets"]) == is_worker, name
        assert ("FLYWHEEL_SIGNING_KEY" in said) == is_worker, name
    for name, value in SERVICES["worker-cpu"]["environment"].items():
        if name in ("FLYWHEEL_SIGNING_KEY", "FLYWHEEL_TRUSTED_SIGNERS"):
            monkeypatch.setenv(name, value.replace("/run/secrets", str(copied / "secrets")))
    get_settings.cache_clear()
    envelope = sign(b"{}", signing_key())
    monkeypatch.delenv("FLYWHEEL_SIGNING_KEY")
    get_settings.cache_clear()
    assert verify(envelope, trusted_keys()) in trusted_keys()
    get_settings.cache_clear()


def test_no_service_runs_as_root_or_can_become_more() -> None:
    for name, service in SERVICES.items():
        assert re.match(r"[1-9]", service["user"]), name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service
        assert service.get("read_only") or name == "vllm", name
        assert service["mem_limit"], name


def test_images_are_pinned_and_ports_are_on_loopback() -> None:
    for name, service in SERVICES.items():
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", service["image"]), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
    assert not {name for name in ("postgres", "redis", "vllm") if "ports" in SERVICES[name]}
    assert raw_composition()["networks"]["data"]["internal"] is True
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["data"]


def test_commands_and_options_exist() -> None:
    assert {parse([str(w) for w in s["command"]]) for s in OURS.values()} == {
        f"flywheel {name}"
        for name in ("db upgrade", "serve", "gateway", "worker", "scheduler", "engine")
    }


def test_variables_are_settings_and_secrets_are_not_among_them() -> None:
    for path in ("compose.yaml", ".env.example", "flywheel.env.example", "Dockerfile"):
        assert set(named_variables((DEPLOY / path).read_text())) <= known_variables(), path
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|API_KEY", variable):
                assert str(value).startswith("/run/secrets"), (name, variable)
    for name in (n for n in raw_composition()["secrets"] if n.startswith("flywheel_")):
        assert name.upper() in known_variables(), name


def test_what_is_mounted_and_waited_for_exists() -> None:
    said = raw_composition()
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source, _, target = mount.partition(":")
            if source.startswith("."):
                assert (DEPLOY / source).is_dir(), f"{name}: {source}"
            elif target:
                assert source in said["volumes"], f"{name}: {source}"
        assert set(service.get("secrets", [])) <= said["secrets"].keys(), name
        assert set(service["networks"]) <= said["networks"].keys(), name
        for other in service.get("depends_on", {}):
            assert other in SERVICES, name
            if isinstance(service["depends_on"], dict):
                wanted = service["depends_on"][other]["condition"]
                assert wanted != "service_healthy" or "test" in SERVICES[other]["healthcheck"]
        assert service["healthcheck"], name
    mounted = {p for s in OURS.values() for p in (v.split(":")[-1] for v in s["volumes"])}
    assert {"/var/lib/flywheel", "/var/lib/flywheel/artifacts"} <= mounted


def test_each_process_answers_where_its_health_check_asks() -> None:
    ports = {"serve": "8710", "gateway": "8711", "engine": "8712"}
    for name, service in OURS.items():
        if "test" in service["healthcheck"]:
            asked = re.search(
                r"127\.0\.0\.1:(\d+)/(healthz|readyz)$", service["healthcheck"]["test"][2]
            )
            assert asked, name
            assert asked[1] == ports.get(service["command"][0], "8713"), name


def test_the_files_of_the_observers_name_services_of_ours() -> None:
    path = DEPLOY / "prometheus/prometheus.yml"
    hosts = re.findall(r"['\"\[\s-]([a-z-]+):(?:87\d\d|8000)\b", path.read_text())
    assert hosts
    assert set(hosts) <= SERVICES.keys()
    keys = re.findall(r"credentials_file: /run/secrets/(\w+)", path.read_text())
    assert keys == SERVICES["prometheus"]["secrets"] == ["flywheel_metrics_key"]
