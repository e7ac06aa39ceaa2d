"""What is kept loaded, and the commands that load by hand, against a stand-in of vLLM or Ollama."""

import json
import shutil

import pytest
from model_servers import BASE, create_ollama, create_vllm
from typer.testing import CliRunner
from upstream_app import Server

from flywheel.adapters import keep_adapters_loaded
from flywheel.cli import app
from foundation import artifacts
from foundation.settings import get_settings
from router import promote
from trainer.tables import ModelVersion


@pytest.fixture
def add_version(session, tmp_path):
    def add(number, **fields):
        folder = tmp_path / f"adapter-{number}"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"r": number}))
        stored = artifacts.put(folder)
        own = {"artifact_uri": stored.uri, "content_hash": stored.content_hash, "kind": "adapter"}
        named = {"role": "coder", "number": number, "name": f"coder-v{number}", "base_model": BASE}
        version = ModelVersion(**{**own, **named, **fields})
        session.add(version)
        session.commit()
        return version

    return add


@pytest.fixture
def serve(monkeypatch):
    """Make a stand-in the deployment's model server."""
    running = []

    def start(application):
        server = Server(application).__enter__()
        running.append(server)
        monkeypatch.setenv("FLYWHEEL_ENGINE_URL", f"{server.url}/v1")
        get_settings.cache_clear()
        return application.state

    yield start
    for server in running:
        server.__exit__()


def run(*arguments):
    return CliRunner().invoke(app, [*arguments])


def test_who_serves_who_is_tried_and_who_served_before_stay_loaded(session, add_version, serve):
    state = serve(create_vllm())
    first, second, tried, _ = (add_version(number) for number in (1, 2, 3, 4))
    promote.initial(session, "coder", first)
    promote.promote(session, "coder", second, reason="better", actor="test")
    tried.stage = "experimental"
    session.add(tried)
    session.commit()
    assert sorted(keep_adapters_loaded()) == ["coder-v1", "coder-v2", "coder-v3"]
    assert set(state.adapters) == {"coder-v1", "coder-v2", "coder-v3"}
    assert keep_adapters_loaded() == []
    del state.adapters["coder-v1"]
    assert keep_adapters_loaded() == ["coder-v1"], "a rollback must not wait"


def test_a_version_whose_files_are_gone_keeps_no_other_from_loading(session, add_version, serve):
    state = serve(create_vllm())
    lost, whole = add_version(1), add_version(2, role="tester", name="tester-v2")
    for version in (lost, whole):
        promote.initial(session, version.role, version)
    session.commit()
    shutil.rmtree(artifacts.fetch(lost.artifact_uri))
    assert keep_adapters_loaded() == ["tester-v2"]
    assert set(state.adapters) == {"tester-v2"}


def test_ollama_is_told_who_serves(session, add_version, serve):
    state = serve(create_ollama(takes_adapters=True))
    state.made["coder-v1"] = {"adapter": "a"}
    promote.initial(session, "coder", add_version(1))
    session.commit()
    keep_adapters_loaded()
    assert state.made["coder"] == state.made["coder-v1"]
    copies = [one for one in state.seen if "destination" in one]
    keep_adapters_loaded()
    assert [one for one in state.seen if "destination" in one] == copies, "once is enough"


def test_a_version_is_deployed_and_forgotten_by_hand(session, add_version, serve):
    state = serve(create_vllm())
    version = add_version(1)
    deployed = run("model", "deploy", "coder-v1", "--json")
    assert deployed.exit_code == 0, deployed.output
    said = json.loads(deployed.stdout)
    assert (said["loaded"], said["differs"]) == (True, True)
    assert said["server"].startswith("vllm http://127.0.0.1")
    listed = json.loads(run("model", "served", "--json").stdout)
    assert [model["name"] for model in listed["models"]] == [BASE, "coder-v1"]
    assert run("model", "undeploy", "coder-v1").exit_code == 0
    assert state.adapters == {}
    state.deaf = True
    refused = run("model", "deploy", "coder-v1")
    assert refused.exit_code != 0
    assert "as the base does" in str(refused.exception or refused.output)
    assert state.adapters == {}
    promote.initial(session, "coder", version)
    session.commit()
    kept = run("model", "undeploy", "coder-v1")
    assert kept.exit_code != 0
    assert "production" in str(kept.exception or kept.output)
