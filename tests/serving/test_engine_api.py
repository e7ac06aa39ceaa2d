"""The engine's door, through a real server and the official OpenAI client."""

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from foundation.settings import get_settings
from serving.backends.openai_compatible import (
    EngineRefused,
    EngineUnavailable,
    ensure_adapter,
    list_models,
    remove_adapter,
    wait_ready,
)

# peft 0.21 asks transformers 5.23 by an attribute's old name.

ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "add 3 and 4"}]


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


@pytest.fixture
def loaded(server, yes_adapter):
    """The adapter under a name, until the test is over."""
    ensure_adapter(f"{server.url}/v1", "coder-v1", yes_adapter)
    yield "coder-v1"
    remove_adapter(f"{server.url}/v1", "coder-v1")


def ask(client, model="base", **options):
    return client.chat.completions.create(
        model=model, messages=ASK, **{"max_tokens": 12, "seed": 1, **options}
    )


def test_an_answer_with_its_usage(client):
    answer = ask(client)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.prompt_tokens > 10
    assert 1 <= usage.completion_tokens <= 12
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_seed_repeats_an_answer_and_n_gives_different_ones(client):
    several = ask(client, n=4)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    texts = [choice.message.content for choice in several.choices]
    assert len(set(texts)) > 1
    assert ask(client).choices[0].message.content == texts[0]
    assert [c.message.content for c in ask(client, n=4).choices] == texts
    assert ask(client, seed=2).choices[0].message.content != texts[0]
    assert several.usage.completion_tokens > ask(client).usage.completion_tokens


def test_temperature_0_is_greedy(client):
    first, second = (ask(client, temperature=0, seed=seed) for seed in (1, 2))
    assert first.choices[0].message.content == second.choices[0].message.content


def test_a_stop_string_ends_an_answer(client):
    whole = ask(client, temperature=0).choices[0].message.content
    stopped = ask(client, temperature=0, stop=[whole[2:4]]).choices[0]
    assert stopped.message.content == whole[: whole.index(whole[2:4])]
    assert stopped.finish_reason == "stop"


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"n": 2}])
def test_a_stream_says_the_same_as_the_whole_answer(client, options):
    whole = ask(client, **options)
    texts, finish = {}, {}
    usage = None
    for chunk in ask(client, stream=True, stream_options={"include_usage": True}, **options):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            finish[choice.index] = choice.finish_reason or finish.get(choice.index)
    assert list(texts.values()) == [choice.message.content for choice in whole.choices]
    assert list(finish.values()) == [choice.finish_reason for choice in whole.choices]
    assert usage == whole.usage


def test_a_stream_is_server_sent_events_that_end_with_done(server):
    body = {"model": "base", "messages": ASK, "max_tokens": 3, "stream": True}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.strip().split("\n\n")
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"]
    assert not any("usage" in chunk for chunk in chunks), "nobody asked for it"


def test_an_adapter_is_a_model_and_answers_as_it_was_trained(client, server, loaded):
    assert ask(client, loaded, temperature=0).choices[0].message.content == "yes 7"
    assert ask(client, temperature=0).choices[0].message.content != "yes 7"
    streamed = ask(client, loaded, temperature=0, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == "yes 7"
    base, adapter = list_models(f"{server.url}/v1")
    assert (adapter.name, adapter.parent) == (loaded, base.name)
    assert client.models.list().data[1].id == loaded


def test_loading_an_adapter_again_changes_nothing(server, yes_adapter, loaded, tmp_path):
    url = f"{server.url}/v1"
    assert ensure_adapter(url, loaded, yes_adapter) is False
    body = {"name": loaded, "path": str(yes_adapter)}
    assert httpx.post(f"{url}/adapters", json=body).json()["status"] == "already loaded"
    copy = shutil.copytree(yes_adapter, tmp_path / "copy")
    assert ensure_adapter(url, loaded, copy) is True, "another folder under the same name"
    assert httpx.post(f"{url}/adapters", json=body).json()["status"] == "loaded"
    assert len(list_models(url)) == 2
    for _ in range(2):
        assert httpx.delete(f"{url}/adapters/{loaded}").status_code == 204
    assert len(list_models(url)) == 1


@pytest.mark.parametrize(
    ("name", "make", "status"),
    [
        ("gone", lambda folder: None, 404),
        ("pickled", lambda folder: (folder / "adapter_model.bin").write_bytes(b""), 400),
        ("base", lambda folder: None, 409),
    ],
)
def test_an_adapter_that_cannot_be_loaded(server, tmp_path, name, make, status):
    make(tmp_path)
    with pytest.raises(EngineRefused) as caught:
        ensure_adapter(f"{server.url}/v1", name, tmp_path)
    assert caught.value.status == status
    assert len(list_models(f"{server.url}/v1")) == 1


def test_an_adapter_of_another_base_is_refused_and_leaves_no_trace(server, yes_adapter, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(yes_adapter, tmp_path / "other")
    weights = load_file(folder / "adapter_model.safetensors")
    wider = {name: tensor.repeat(2, 2) for name, tensor in weights.items()}
    save_file(wider, folder / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(EngineRefused, match="another base model") as caught:
        ensure_adapter(f"{server.url}/v1", "wider", folder)
    assert caught.value.status == 400
    assert len(list_models(f"{server.url}/v1")) == 1


def test_an_unknown_model_is_a_404(client):
    with pytest.raises(openai.NotFoundError, match="coder-v9") as caught:
        ask(client, "coder-v9")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        ask(client, "coder-v9", stream=True)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"messages": [{"role": "user", "content": "1" * 500}]}, "messages"),
        ({"messages": []}, "messages"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_what_is_refused_names_its_parameter(client, options, named):
    request = {"model": "base", "messages": ASK, **options}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**request)
    assert caught.value.param == named
    assert caught.value.type == "invalid_request_error"


def test_an_answer_ends_where_the_context_ends(client):
    long = [{"role": "user", "content": "1" * 100}]
    answer = client.chat.completions.create(model="base", messages=long, temperature=0, stop=None)
    assert answer.usage.total_tokens <= 128
    bounded = client.chat.completions.create(model="base", messages=long, max_tokens=10_000)
    assert bounded.usage.total_tokens <= 128


def test_requests_of_a_crowd_share_batches_and_get_their_own_answers(client, server, loaded):
    def answer(number):
        model = (loaded, "base")[number % 2]
        return ask(client, model, seed=number).choices[0].message.content

    alone = [answer(number) for number in range(16)]
    before = httpx.get(f"{server.url}/healthz").json()
    with ThreadPoolExecutor(16) as crowd:
        together = list(crowd.map(answer, range(16)))
    after = httpx.get(f"{server.url}/healthz").json()
    assert together == alone
    assert after["rows"] - before["rows"] == 16
    assert after["prefills"] - before["prefills"] < 16
    assert after["largest_batch"] > 1


def test_a_client_that_left_is_not_answered(server):
    """The owner thread is busy, the client gives up, its row is dropped before it is begun."""
    batcher = server.app.state.served.batcher
    before = batcher.counters()
    go_on = threading.Event()
    busy = batcher.call(go_on.wait)
    body = {"model": "base", "messages": ASK, "max_tokens": 3}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=1)
    while server.open_requests:
        time.sleep(0.01)
    go_on.set()
    busy.result()
    batcher.call(lambda: None).result()
    after = batcher.counters()
    assert after["dropped"] == before["dropped"] + 1
    assert after["rows"] == before["rows"]


def test_an_adapter_unloaded_meanwhile_fails_its_own_rows_only(server, loaded):
    from foundation.errors import NotFound
    from serving.rows import Row

    served = server.app.state.served
    batcher, engine = served.batcher, served.engine_of(served.first)
    go_on = threading.Event()
    batcher.call(go_on.wait)
    rows = [Row(engine.encode(ASK), name, 3) for name in ("unloaded", None)]
    lost, kept = (batcher.submit(engine, [row]) for row in rows)
    go_on.set()
    assert kept.result()[0].output_tokens >= 1
    with pytest.raises(NotFound, match="unloaded"):
        lost.result()


def test_vllms_words_for_adapters(server, yes_adapter):
    url = f"{server.url}/v1"
    body = {"lora_name": "tester-v1", "lora_path": str(yes_adapter)}
    assert httpx.post(f"{url}/load_lora_adapter", json=body).status_code == 200
    assert "tester-v1" in [model.name for model in list_models(url)]
    assert httpx.post(f"{url}/unload_lora_adapter", json=body).status_code == 200
    assert "tester-v1" not in [model.name for model in list_models(url)]


def test_without_the_key_the_door_stays_shut(server, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_API_KEY", "s3cret-key")
    get_settings.cache_clear()
    try:
        with pytest.raises(EngineRefused, match="no valid API key") as caught:
            list_models(f"{server.url}/v1")
        assert caught.value.status == 401
        assert list_models(f"{server.url}/v1", "s3cret-key")
        assert httpx.get(f"{server.url}/healthz").status_code == 200
    finally:
        monkeypatch.delenv("FLYWHEEL_API_KEY")
        get_settings.cache_clear()


def test_a_server_that_does_not_answer_is_named():
    with pytest.raises(EngineUnavailable, match="FLYWHEEL_ENGINE_URL"):
        list_models("http://127.0.0.1:9/v1")
    with pytest.raises(EngineUnavailable):
        wait_ready("http://127.0.0.1:9/v1", timeout_s=0.2)


def test_a_ready_server_is_ready(server):
    wait_ready(f"{server.url}/v1", timeout_s=1)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8712"},  # a name that leads to this machine
        {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
    ],
)
def test_no_other_site_has_the_engine_do_anything(server, headers: dict[str, str]) -> None:
    body = {"model": "base", "messages": ASK, "max_tokens": 1}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 403
