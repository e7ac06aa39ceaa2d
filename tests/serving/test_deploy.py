"""Loading and verifying before a promotion, with the real engine."""

import json
import shutil

import pytest

from foundation import artifacts
from foundation.settings import get_settings
from serving import deploy
from serving.backends.openai_compatible import list_models, remove_adapter
from trainer.tables import ModelVersion


@pytest.fixture
def engine(server, monkeypatch, tmp_path):
    """The settings' engine is the running server; what a test loads is forgotten after it."""
    monkeypatch.setenv("FLYWHEEL_ENGINE_URL", f"{server.url}/v1")
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield f"{server.url}/v1"
    for model in list_models(f"{server.url}/v1"):
        if model.parent is not None:
            remove_adapter(f"{server.url}/v1", model.name)
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.fixture
def add_version(session, engine, served_base):
    def add(folder=None, **fields):
        stored = artifacts.put(folder) if folder else None
        values = {
            "role": "coder",
            "number": 1,
            "name": "coder-v1",
            "kind": "adapter",
            "base_model": str(served_base),
            "artifact_uri": stored and stored.uri,
            "content_hash": stored and stored.content_hash,
        }
        version = ModelVersion(**{**values, **fields})
        session.add(version)
        session.flush()
        return version

    return add


@pytest.fixture
def silent_adapter(yes_adapter, tmp_path):
    """An adapter that a server takes and that changes nothing: every lora_B is 0."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(yes_adapter, tmp_path / "silent")
    weights = load_file(folder / "adapter_model.safetensors")
    silent = {name: w * 0 if "lora_B" in name else w for name, w in weights.items()}
    save_file(silent, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def names(engine):
    return {model.name for model in list_models(engine)}


def test_a_version_is_loaded_and_told_apart_from_its_base(
    session, add_version, engine, yes_adapter
):
    version = add_version(yes_adapter)
    first = deploy.prepare(session, version)
    assert (first.loaded, first.differs, first.model) == (True, True, "coder-v1")
    assert first.server == f"embedded {engine}"
    assert "nats" in first.reason
    assert "coder-v1" in names(engine)
    again = deploy.prepare(session, version)
    assert (again.loaded, again.differs) == (False, True)
    assert json.loads(json.dumps(first.as_json()))["version_id"] == str(version.id)


def test_an_adapter_that_changes_nothing_is_refused_and_forgotten(
    session, add_version, engine, silent_adapter
):
    with pytest.raises(deploy.DeployFailed, match="answers as the base does") as refused:
        deploy.prepare(session, add_version(silent_adapter))
    assert refused.value.is_server_down is False
    assert "coder-v1" not in names(engine)


def test_files_that_are_gone_or_cut_are_refused(session, add_version, engine, yes_adapter):
    version = add_version(yes_adapter)
    folder = artifacts.fetch(version.artifact_uri)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(deploy.DeployFailed, match="changed or cut"):
        deploy.prepare(session, version)
    shutil.rmtree(folder)
    with pytest.raises(deploy.DeployFailed, match="files are gone"):
        deploy.prepare(session, version)
    assert deploy.warm(session, version) is False
    assert "coder-v1" not in names(engine)


def test_a_folder_that_is_no_adapter_is_refused_in_the_servers_words(
    session, add_version, tmp_path
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    with pytest.raises(deploy.DeployFailed, match="adapter_model.safetensors"):
        deploy.prepare(session, add_version(tmp_path / "empty"))


def test_a_server_that_is_away_is_said_to_be(session, add_version, yes_adapter, monkeypatch):
    version = add_version(yes_adapter)
    monkeypatch.setenv("FLYWHEEL_ENGINE_URL", "http://127.0.0.1:9/v1")
    get_settings.cache_clear()
    with pytest.raises(deploy.DeployFailed, match="127.0.0.1:9") as refused:
        deploy.prepare(session, version)
    assert refused.value.is_server_down is True
    assert deploy.warm(session, version) is False


def test_a_base_must_be_what_the_server_runs(session, add_version, served_base):
    base = add_version(kind="base", name="coder-base", number=0)
    assert deploy.prepare(session, base).differs is None
    other = add_version(kind="base", name="coder-base-2", number=2, base_model="/somewhere/else")
    with pytest.raises(deploy.DeployFailed, match="somewhere/else"):
        deploy.prepare(session, other)


@pytest.mark.parametrize("way", [None, "int8"])
def test_a_whole_model_is_loaded_beside_the_base_quantised_or_not(
    way, session, add_version, engine, served_base, tmp_path
):
    folder = served_base
    if way:
        from trainer.compress.quantize import quantized

        folder = quantized(str(served_base), way, tmp_path / "made").folder
    version = add_version(folder, kind="quantized" if way else "full")
    first = deploy.prepare(session, version)
    assert (first.loaded, first.differs, first.model) == (True, None, "coder-v1")
    assert "coder-v1" in names(engine)
    assert deploy.prepare(session, version).loaded is False
    deploy.undeploy(session, version)
    assert "coder-v1" not in names(engine)
    deploy.undeploy(session, version)


def test_an_external_model_is_its_providers_to_load(session, add_version):
    version = add_version(kind="external", name="coder-ext", base_model="openai/gpt-x")
    ready = deploy.prepare(session, version)
    assert (ready.server, ready.model, ready.differs) == ("upstream", "openai/gpt-x", None)


def test_warming_loads_without_a_probe(session, add_version, engine, silent_adapter):
    assert deploy.warm(session, add_version(silent_adapter)) is True
    assert "coder-v1" in names(engine)
