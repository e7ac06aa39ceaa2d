"""The engine as a server: a bounded queue, clients that leave, texts that go on, bases, metrics."""

import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from foundation.errors import Conflict, NotFound
from foundation.settings import get_settings
from serving.api import create_engine_app
from serving.batching import Batcher, Overloaded
from serving.engine import Engine
from serving.rows import Limits, Row
from serving.served import Served

ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "add 3 and 4"}]


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


@pytest.fixture
def batcher(server):
    return server.app.state.served.batcher


def health(server):
    return httpx.get(f"{server.url}/health").json()


def wait_until(is_true):
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


# Together


@pytest.mark.parametrize("adapters", [False, True], ids=["base", "adapters"])
def test_streams_and_whole_answers_of_a_crowd_are_those_of_each_alone(
    client, server, yes_adapter, adapters
):
    body = {"name": "yes", "path": str(yes_adapter)}
    httpx.post(f"{server.url}/v1/adapters", json=body).raise_for_status()

    def answer(number, stream):
        asked = client.chat.completions.create(
            model=("base", "yes")[adapters and number % 2],
            messages=[*ASK[:1], {"role": "user", "content": f"add {number % 3} and 4"}],
            max_tokens=20,
            seed=number,
            stream=stream,
        )
        if stream:
            return "".join(chunk.choices[0].delta.content or "" for chunk in asked)
        return asked.choices[0].message.content

    alone = [answer(number, False) for number in range(12)]
    before = health(server)
    with ThreadPoolExecutor(12) as crowd:
        together = list(crowd.map(answer, range(12), [True, False] * 6))
    after = health(server)
    assert together == alone
    made = after["tokens"] - before["tokens"]
    assert after["steps"] - before["steps"] < made, "streams shared steps with the others"
    httpx.delete(f"{server.url}/v1/adapters/yes").raise_for_status()


# Leaving and waiting


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_an_answer_half_made_is_given_up_when_its_client_leaves(
    server, batcher, monkeypatch, stream
):
    batch = server.app.state.served.first.engine._batch
    step = batch.step
    monkeypatch.setattr(batch, "step", lambda: (time.sleep(0.02), step()))  # long enough to leave
    before = health(server)
    body = {"model": "base", "prompt": "1 1 1", "max_tokens": 100, "temperature": 100, "n": 32}
    url = f"{server.url}/v1/completions"
    if stream:
        with httpx.stream("POST", url, json={**body, "stream": True}) as answer:
            next(answer.iter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json=body, timeout=1)
    wait_until(lambda: batcher.n_rows == 0)
    after = health(server)
    assert after["dropped"] == before["dropped"] + 1
    assert after["running"] == after["waiting"] == 0
    assert 0 < after["tokens"] - before["tokens"] < 32 * 100


def test_who_comes_when_too_many_wait_is_told_to_come_back(served_base, running):
    app = create_engine_app(served_base, threads=1, limits=Limits(rows=2), max_waiting=2)
    with running(app) as server:
        batcher = app.state.served.batcher
        go_on = threading.Event()
        batcher.call(go_on.wait)
        url = f"{server.url}/v1/chat/completions"
        body = {"model": "base", "messages": ASK, "max_tokens": 3, "seed": 1}
        with ThreadPoolExecutor(4) as crowd:
            first = [crowd.submit(httpx.post, url, json=body) for _ in range(4)]
            wait_until(lambda: batcher.n_rows == 4)
            for stream in (False, True):
                refused = httpx.post(url, json={**body, "stream": stream})
                assert refused.status_code == 503
                assert int(refused.headers["retry-after"]) >= 1
                assert refused.json()["error"]["code"] == "engine_overloaded"
                assert "FLYWHEEL_ENGINE_QUEUE" in refused.json()["error"]["message"]
            go_on.set()
            texts = {one.result().json()["choices"][0]["message"]["content"] for one in first}
        assert len(texts) == 1, "those who waited were answered"
        assert httpx.post(url, json=body).status_code == 200
        assert health(server)["refused"] == 2
        assert health(server)["largest_batch"] == 2


def test_an_error_of_the_model_fails_who_was_under_way_and_nobody_after(served_base, monkeypatch):
    engine = Engine.load(served_base, threads=1)
    batcher = Batcher(wait_s=0.0)
    rows = [Row(engine.encode(ASK), None, 8, 0.0)]
    before = batcher.submit(engine, rows).result()
    with monkeypatch.context() as patch:
        patch.setattr(engine._batch.window, "drop", lambda row: 1 / 0)  # when the first is done
        with pytest.raises(ZeroDivisionError):
            batcher.submit(engine, rows * 3).result()
    assert engine.counters()["running"] == engine.counters()["kv_bytes"] == 0
    assert batcher.submit(engine, rows).result() == before
    assert batcher.counters()["failed"] == 1
    batcher.close()
    assert not batcher.is_alive


def test_a_batcher_that_closes_finishes_what_waits(served_base):
    engine = Engine.load(served_base, threads=1)
    batcher = Batcher(wait_s=0.0)
    asked = [batcher.submit(engine, [Row([5, 6], None, 20, seed=i)]) for i in range(5)]
    batcher.close()
    assert all(future.result()[0].output_tokens for future in asked)


def test_a_request_larger_than_the_queue_is_answered_by_an_idle_engine(served_base):
    engine = Engine.load(served_base, threads=1, limits=Limits(rows=2))
    batcher = Batcher(max_rows=2, max_waiting=0)
    rows = [Row([5, 6], None, 2)] * 5
    assert len(batcher.submit(engine, rows).result()) == 5
    go_on = threading.Event()
    batcher.call(go_on.wait)
    batcher.submit(engine, rows[:1])
    with pytest.raises(Overloaded, match="expected at most 2"):
        batcher.submit(engine, rows[:2])
    go_on.set()
    batcher.close()


# Texts that go on


def test_a_text_goes_on_as_the_same_tokens_would_in_a_chat(client, server):
    engine = server.app.state.served.first.engine
    chat = client.chat.completions.create(model="base", messages=ASK, max_tokens=9, temperature=0)
    prompt = engine.tokenizer.apply_chat_template(ASK, tokenize=False, add_generation_prompt=True)
    text = client.completions.create(model="base", prompt=prompt, max_tokens=9, temperature=0)
    assert text.object == "text_completion"
    assert text.choices[0].text == chat.choices[0].message.content
    assert text.usage == chat.usage


def test_texts_have_n_choices_each_and_stream_as_they_are_whole(client):
    asked = {"model": "base", "prompt": ["add 3", "the sum"], "n": 2, "max_tokens": 9, "seed": 4}
    whole = client.completions.create(**asked)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert len({choice.text for choice in whole.choices}) == 4
    texts, ends, usage = {}, {}, None
    for chunk in client.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            ends[choice.index] = choice.finish_reason or ends.get(choice.index)
    assert [texts[index] for index in range(4)] == [choice.text for choice in whole.choices]
    assert [ends[index] for index in range(4)] == [c.finish_reason for c in whole.choices]
    assert usage == whole.usage


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n": 100, "prompt": ["a", "b"]}, "n"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"prompt": "1" * 500}, "prompt"),
        ({"echo": True}, "max_tokens"),
        ({"max_tokens": 0, "echo": True, "logprobs": 0, "stream": True}, "stream"),
    ],
    ids=["n", "top_k", "min_p", "prompt", "echo", "stream"],
)
def test_what_no_text_goes_on_with_is_refused_by_name(server, options, named):
    answer = httpx.post(
        f"{server.url}/v1/completions", json={"model": "base", "prompt": "x", **options}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == named


# Bases


def test_a_further_base_answers_beside_the_first(
    client, server, served_base, yes_adapter, tmp_path
):
    folder = shutil.copytree(served_base, tmp_path / "merged")
    body = {"name": "coder-merged", "path": str(folder)}
    url = f"{server.url}/v1"
    first = httpx.post(f"{url}/bases", json=body).json()
    assert httpx.post(f"{url}/bases", json=body).json() == first, "the same again"
    adapter = {"name": "yes", "path": str(yes_adapter), "base": "coder-merged"}
    httpx.post(f"{url}/adapters", json=adapter).raise_for_status()
    parents = {model.id: getattr(model, "parent", None) for model in client.models.list().data}
    assert parents["yes"] == "coder-merged"

    def ask(model):
        asked = client.chat.completions.create(
            model=model, messages=ASK, max_tokens=9, temperature=0
        )
        return asked.choices[0].message.content

    with ThreadPoolExecutor(3) as crowd:
        base, other, adapted = crowd.map(ask, ("base", "coder-merged", "yes"))
    assert base == other
    assert adapted == "yes 7"
    taken = httpx.post(f"{url}/bases", json={**body, "path": str(served_base)})
    assert taken.status_code == 409
    assert httpx.delete(f"{url}/bases/base").status_code == 409
    assert httpx.delete(f"{url}/bases/coder-merged").status_code == 204
    assert len(client.models.list().data) == 1


def test_a_base_not_asked_for_longest_goes_and_comes_back_with_its_adapters(
    served_base, yes_adapter, tmp_path
):
    folders = [shutil.copytree(served_base, tmp_path / name) for name in ("first", "b", "c")]
    batcher = Batcher(wait_s=0.0)

    def load(path, adapters):
        return Engine.load(path, threads=1, adapters=adapters)

    served = Served(str(folders[0]), load, batcher, max_mb=0)
    served.add_base("b", str(folders[1]))
    served.load("yes", str(yes_adapter), "b")

    def held():
        return [base.name for base in served.bases if base.engine is not None]

    def ask(model):
        base, adapter = served.find(model)
        engine = served.engine_of(base)
        row = Row(engine.encode(ASK), adapter, 9, 0.0)
        return batcher.submit(engine, [row]).result()[0].text

    first = str(folders[0])
    assert held() == [first, "b"]
    served.add_base("c", str(folders[2]))
    assert held() == [first, "c"]
    assert ask("yes") == "yes 7"
    assert held() == [first, "b"]
    assert ask("c") == ask("base") != "yes 7"
    served.unload("yes")
    with pytest.raises(NotFound, match="'yes'"):
        served.find("yes")
    with pytest.raises(Conflict, match="first"):
        served.remove_base("base")
    with pytest.raises(NotFound, match="base model"):
        served.add_base("d", str(tmp_path / "nowhere"))
    batcher.close()


# What it says of itself


def test_the_key_of_the_figures_opens_the_engines_and_loads_nothing(server, monkeypatch):
    for name, key in (("FLYWHEEL_API_KEY", "the-master-key"), ("FLYWHEEL_METRICS_KEY", "figures")):
        monkeypatch.setenv(name, key)
    get_settings.cache_clear()
    try:
        asked = {"headers": {"authorization": "Bearer figures"}}
        assert httpx.get(f"{server.url}/metrics").status_code == 401
        assert httpx.get(f"{server.url}/metrics", **asked).status_code == 200
        assert httpx.get(f"{server.url}/v1/models", **asked).status_code == 401
        loading = {"lora_name": "a", "lora_path": "/tmp/a"}
        loaded = httpx.post(f"{server.url}/v1/load_lora_adapter", json=loading, **asked)
        assert loaded.status_code == 401
        monkeypatch.setenv("FLYWHEEL_METRICS_KEY", "")
        get_settings.cache_clear()
        assert httpx.get(f"{server.url}/metrics").status_code == 401, "an empty file is no key"
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()


def test_metrics_count_what_was_done(client, server):
    def figures():
        text = httpx.get(f"{server.url}/metrics").text
        found = re.findall(
            r"^flywheel_engine_(\w+)(?:\{base=\"([^\"]*)\"\})? ([\d.e+]+)$", text, re.M
        )
        return {(name, base): float(value) for name, base, value in found}

    base = server.app.state.served.first.path
    before = figures()
    usage = client.chat.completions.create(
        model="base", messages=ASK, max_tokens=5, n=2, stop="\u2603"
    ).usage
    after = figures()

    def grown(name, of=base):
        return after[name, of] - before[name, of]

    assert grown("tokens_total") == usage.completion_tokens
    assert grown("prompt_tokens_total") == 2 * usage.prompt_tokens
    assert grown("cached_tokens_total") >= usage.prompt_tokens, "the second choice's, at least"
    assert grown("rows_total", "") == 2
    assert grown("request_seconds_count", "") == grown("first_token_seconds_count", "") == 1
    assert after["running", base] == 0
    assert after["kv_bytes", base] > 0


def test_health_is_bad_when_the_thread_that_answers_has_ended(served_base, running):
    app = create_engine_app(served_base, threads=1)
    with running(app) as server:
        assert httpx.get(f"{server.url}/health").status_code == 200
        app.state.served.batcher.close()
        ended = httpx.get(f"{server.url}/healthz")
        assert ended.status_code == 503
        assert "ended" in ended.json()["status"]
