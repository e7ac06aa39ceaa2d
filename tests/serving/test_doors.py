"""The doors to other people's servers, against stand-ins that speak their protocols."""

import json
import shutil

import numpy as np
import pytest
from model_servers import BASE, create_llama_router, create_llama_server, create_ollama, create_vllm
from safetensors.numpy import save_file
from upstream_app import Server

from serving.backends import probe
from serving.backends.door import Files, NotServable
from serving.backends.kinds import detect, open_door
from serving.backends.llama_cpp import LlamaCpp
from serving.backends.openai_compatible import EngineRefused, EngineUnavailable, ensure_adapter
from trainer.export import gguf

NAME = "coder-v1"
HEADS, KV_HEADS, WIDTH, RANK = 2, 1, 32, 4


@pytest.fixture
def files(tmp_path):
    """A Qwen2 base, of which only the configuration is there, and an adapter of one layer."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    adapter.mkdir()
    config = {"model_type": "qwen2", "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS}
    (base / "config.json").write_text(json.dumps(config))
    prefix = "base_model.model.model.layers.0.mlp.up_proj"
    a, b = np.full((RANK, WIDTH), 0.5, np.float32), np.ones((WIDTH, RANK), np.float32)
    tensors = {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}
    save_file(tensors, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "bias": "none"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    return Files(NAME, adapter, str(base))


@pytest.fixture
def base_gguf(tmp_path):
    """The base's GGUF file, with the layer that the adapter changes."""
    values = {
        "general.architecture": "qwen2",
        "qwen2.attention.head_count": HEADS,
        "qwen2.attention.head_count_kv": KV_HEADS,
    }
    path = tmp_path / "base.gguf"
    gguf.write(path, values, {"blk.0.ffn_up.weight": np.ones((WIDTH, WIDTH), np.float32)})
    return path


@pytest.fixture
def served(tmp_path):
    """Where the door puts files together."""
    return tmp_path / "served"


@pytest.fixture
def serve():
    """Start stand-ins; each is stopped when the test is over."""
    running = []

    def start(app):
        server = Server(app)
        server.__enter__()
        running.append(server)
        return app.state, f"{server.url}/v1"

    yield start
    for server in running:
        server.__exit__()


def names(door):
    return {model.name for model in door.models()}


# Which server it is


@pytest.mark.parametrize(
    ("app", "kind"),
    [
        (create_vllm(), "vllm"),
        (create_ollama(takes_adapters=True), "ollama"),
        (create_llama_server(), "llama_cpp"),
    ],
    ids=["vllm", "ollama", "llama-server"],
)
def test_a_server_is_known_by_what_it_says(serve, app, kind):
    _, url = serve(app)
    assert detect(url) == kind
    assert open_door("auto", url).kind == kind


def test_an_empty_list_of_llama_servers_models_is_enough(serve, tmp_path):
    _, url = serve(create_llama_router(tmp_path / "none.ini"))
    assert detect(url) == "llama_cpp"


def test_nobody_there_is_said(tmp_path):
    with pytest.raises(EngineUnavailable, match="127.0.0.1:9"):
        open_door("auto", "http://127.0.0.1:9/v1")


# The probe


def test_the_probe_tells_an_adapter_from_its_base(serve, files):
    state, url = serve(create_vllm())
    door = open_door("vllm", url)
    assert door.load(files) is True
    assert door.load(files) is False
    assert door.base_of(files) == BASE
    assert probe.check(door, NAME, BASE).differs is True
    state.deaf = True
    assert probe.check(door, NAME, BASE).differs is False


def test_a_base_that_does_not_repeat_itself_proves_nothing(serve, files):
    state, url = serve(create_vllm(deaf=True, jitter=0.001))
    door = open_door("vllm", url)
    door.load(files)
    found = probe.check(door, NAME, BASE)
    assert found.differs is None
    assert "the base from itself by" in found.reason


def test_without_log_probabilities_the_words_are_compared(serve, files):
    state, url = serve(create_ollama(takes_adapters=False))
    state.made[NAME] = {}
    door = open_door("ollama", url)
    same = probe.check(door, NAME, BASE)
    assert (same.differs, "tells no logits" in same.reason) == (None, True)
    state.adapters[NAME] = {}
    assert probe.check(door, NAME, BASE).differs is True


@pytest.mark.parametrize(
    ("first", "again", "other", "differs"),
    [
        ([-1.0], [-1.0], [-1.5], True),
        ([-1.0], [-1.0], [-1.0], False),
        ([-1.0], [-1.0], [-1.00005], False),
        ([-1.0], [-1.2], [-1.3], None),
        ([-1.0], [-1.2], [-2.0], True),
    ],
    ids=["other", "same", "below-what-kernels-repeat", "within-noise", "beyond-noise"],
)
def test_a_difference_counts_beyond_the_bases_own(first, again, other, differs):
    readings = [[[{"a": value} for value in one]] for one in (first, again, other)]
    assert probe.compare(*readings).differs is differs


def test_tokens_that_one_side_names_count_by_the_least_of_the_other():
    here, there = [[{"a": -0.1, "b": -3.0}]], [[{"c": -0.2, "d": -4.0}]]
    assert probe.distance(here, there) == pytest.approx(3.9)


def test_places_after_another_word_are_not_compared():
    here, there = [[{"a": -0.1, "b": -3.0}, {"x": -9.0}]], [[{"a": -3.0, "b": -0.1}, {"x": -0.1}]]
    assert probe.distance(here, there) == pytest.approx(2.9)


# vLLM


def test_vllm_that_may_not_load_while_it_runs_is_told_how(serve, files):
    _, url = serve(create_vllm(runtime_lora=False))
    with pytest.raises(NotServable, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        open_door("vllm", url).load(files)


def test_vllm_refuses_in_its_own_words_and_forgets_what_it_does_not_know(
    serve, files, tmp_path, served
):
    _, url = serve(create_vllm())
    door = open_door("vllm", url)
    with pytest.raises(EngineRefused, match="No adapter found"):
        door.load(Files(NAME, tmp_path / "none", "x"))
    door.unload("coder-v9")
    with pytest.raises(NotServable, match="--served-model-name coder-v1"):
        door.load(Files(NAME, tmp_path, "x", is_adapter=False))


def test_an_adapter_of_another_folder_under_the_name_is_replaced(serve, files, tmp_path):
    state, url = serve(create_vllm())
    other = shutil.copytree(files.folder, tmp_path / "other")
    ensure_adapter(url, NAME, other)
    assert open_door("vllm", url).load(files) is True
    assert state.adapters[NAME] == str(files.folder)


# Ollama


def test_an_old_ollama_gets_base_and_adapter(serve, files, served):
    state, url = serve(create_ollama(takes_adapters=True))
    door = open_door("ollama", url, base_name=BASE, folder=served)
    assert door.load(files) is True
    made = [one for one in state.seen if "adapters" in one][0]
    assert made["from"] == BASE
    assert list(made["adapters"]) == [f"{NAME}.gguf"]
    assert {"model": NAME, "keep_alive": -1, "stream": False} in state.seen
    assert door.load(files) is False, "the same content is there"
    assert probe.check(door, NAME, BASE).differs is True
    assert names(door) == {BASE, NAME}
    assert door.switch("coder", NAME) is True
    assert door.switch("coder", NAME) is False
    assert "coder" in names(door)
    door.unload(NAME)
    door.unload(NAME)
    assert NAME not in names(door)


def test_a_new_ollama_gets_the_merged_file_in_the_bases_manner(serve, files, base_gguf, served):
    state, url = serve(create_ollama(takes_adapters=False))
    door = open_door("ollama", url, base_name=BASE, folder=served, base_gguf=base_gguf)
    assert door.load(files) is True
    made = [one for one in state.seen if "files" in one][0]
    assert made["template"] == "{{ .Prompt }}"
    assert made["parameters"] == {
        "num_ctx": 4096,
        "stop": ["<|im_end|>", "<|end|>"],
        "temperature": 0.6,
    }
    blob = state.blobs[made["files"][f"{NAME}-merged.gguf"].removeprefix("sha256:")]
    assert len(blob) == base_gguf.stat().st_size
    assert blob != base_gguf.read_bytes()
    assert list(served.glob("*-merged.gguf")) == [], "as large as the base: not kept twice"
    assert door.load(files) is False


def test_a_new_ollama_without_the_bases_file_says_what_it_needs(serve, files, served):
    _, url = serve(create_ollama(takes_adapters=False))
    with pytest.raises(NotServable, match="FLYWHEEL_BASE_GGUF"):
        open_door("ollama", url, base_name=BASE, folder=served).load(files)


def test_ollama_is_told_which_of_its_models_is_the_base(serve, files, served):
    state, url = serve(create_ollama(takes_adapters=True))
    nameless = open_door("ollama", url, folder=served)
    with pytest.raises(NotServable, match="FLYWHEEL_ENGINE_BASE"):
        nameless.load(files)
    with pytest.raises(NotServable, match="FLYWHEEL_ENGINE_BASE"):
        nameless.load_base("Qwen/Qwen3-0.6B")
    named = open_door("ollama", url, base_name=BASE, folder=served)
    assert named.load_base("Qwen/Qwen3-0.6B") is True
    assert named.load_base("Qwen/Qwen3-0.6B") is False
    assert "Qwen/Qwen3-0.6B" in names(named)
    with pytest.raises(NotServable, match="no model of that name"):
        named.load_base("/a/folder/of/ours")


# llama.cpp


def test_one_model_switches_what_it_was_started_with(serve, files, base_gguf, served):
    before = open_door("llama_cpp", serve(create_llama_server())[1], folder=served)
    with pytest.raises(NotServable, match=rf"--lora-scaled {served}/{NAME}\.gguf:0 "):
        before.load(files)
    state, url = serve(create_llama_server(served / "coder-v0.gguf", served / f"{NAME}.gguf"))
    door = open_door("llama_cpp", url, folder=served)
    assert door.load(files) is False
    assert names(door) == {BASE, "coder-v0", NAME}
    assert door.base_of(files) == BASE
    assert door.fields(NAME) == {"lora": [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 1.0}]}
    assert probe.check(door, NAME, BASE).differs is True
    assert state.scales == [0.0, 0.0], "the probe switched nobody"
    assert door.switch("coder", NAME) is True
    assert state.scales == [0.0, 1.0]
    assert door.switch("coder", NAME) is False
    assert door.switch("coder", BASE) is True
    assert state.scales == [0.0, 0.0]
    door.switch("coder", NAME)
    door.unload(NAME)
    assert state.scales == [0.0, 0.0]


def test_many_models_load_a_version_while_they_run(serve, files, base_gguf, served):
    state, url = serve(create_llama_router(served / "models.ini"))
    door = open_door("llama_cpp", url, folder=served, base_gguf=base_gguf)
    assert door.load(files) is True
    assert door.load(files) is False
    base = door.base_of(files)
    assert base == files.base_model
    assert names(door) == {base, NAME}
    assert f"lora = {served}/{NAME}.gguf" in (served / "models.ini").read_text()
    assert door.fields(NAME) == {}
    assert probe.check(door, NAME, base).differs is True
    assert door.switch("coder", NAME) is False
    door.unload(NAME)
    assert names(door) == {base}
    state.broken.add(NAME)
    with pytest.raises(NotServable, match="ended with 1"):
        door.load(files)


def test_many_models_of_another_list_are_told_where_ours_is(
    serve, files, base_gguf, tmp_path, served
):
    _, url = serve(create_llama_router(tmp_path / "other.ini"))
    with pytest.raises(NotServable, match=r"--models-preset .*models\.ini"):
        LlamaCpp(url, folder=served, base_gguf=base_gguf).load(files)
    with pytest.raises(NotServable, match="FLYWHEEL_BASE_GGUF"):
        LlamaCpp(url, folder=served).load(files)
