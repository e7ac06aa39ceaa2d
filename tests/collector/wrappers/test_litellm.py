"""Each way of calling litellm makes one record; litellm runs in the service's environment only."""

import asyncio
import gc
import inspect
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest
from provider_app import ARGUMENTS, INPUT_TOKENS, TOOLS

pytest.importorskip("litellm")

import openai

from collector.client import Flywheel
from collector.wrappers.announced import announce
from collector.wrappers.litellm import litellm_callback
from foundation import llm
from foundation.ids import new_id

pytestmark = pytest.mark.filterwarnings("default")  # litellm's own: it declares types anew, …

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def litellm(flywheel):
    module = llm._litellm()
    module.callbacks = [litellm_callback(flywheel)]
    yield module
    module.logging_callback_manager._reset_all_callbacks()  # litellm copies them to other lists


@pytest.fixture
def asked(provider):
    """Return a function that gives the arguments of a call."""

    def arguments(text, **rest):
        connection = {"model": "openai/m", "api_base": f"{provider.url}/v1", "api_key": "k"}
        return {**connection, "messages": [{"role": "user", "content": text}], **rest}

    return arguments


@pytest.fixture
def settled(records, flywheel):
    """Return a function that gives the records of a call, when no more can be under way."""

    def read(expected=1):
        found, deadline = [], time.monotonic() + 60
        while len(found) < expected and time.monotonic() < deadline:
            gc.collect()
            found += records()
            time.sleep(0.01)
        time.sleep(0.3)  # for one too many
        found += records()
        assert flywheel.counts()["dropped"] == {}
        return found

    return read


def run(act):
    async def inner():
        with suppress(openai.OpenAIError):
            await act()
        for _ in range(30):  # litellm tells of async calls in tasks of the loop: give them turns
            await asyncio.sleep(0.01)

    asyncio.run(inner())


def said(record):
    return record["response"]["choices"][0]["message"]


def test_hooks_have_the_names_that_litellm_calls_them_by(flywheel):
    logger, base = litellm_callback(flywheel), llm.custom_logger_base()
    own = [name for name in vars(type(logger)) if name.startswith(("log_", "async_log_"))]
    assert len(own) == 6
    for name in own:
        expected = inspect.signature(getattr(base, name)).parameters
        present = inspect.signature(getattr(type(logger), name)).parameters
        assert set(expected) <= set(present), name
        assert any(p.kind is p.VAR_KEYWORD for p in present.values()), name
        assert inspect.iscoroutinefunction(getattr(base, name)) == inspect.iscoroutinefunction(
            getattr(type(logger), name)
        )


def test_a_sync_call_is_one_record(litellm, asked, settled, flywheel, seen):
    with flywheel.episode(role="tester", task_type="fix") as episode:
        litellm.completion(**asked("say hi", temperature=0.5, tools=TOOLS))
    (one,) = settled()
    assert said(one)["content"] == "hi"
    assert one["request"]["messages"] == seen[-1][2]["messages"]
    assert one["request"]["tools"] == TOOLS
    assert one["request"]["temperature"] == 0.5
    assert (one["role"], one["episode_id"], one["task_type"]) == ("tester", str(episode.id), "fix")
    assert one["status"] == "success"
    assert one["gen_ai_usage_input_tokens"] == INPUT_TOKENS
    assert one["gen_ai_provider_name"] == "openai"
    assert one["id"] == str(flywheel.last_interaction_id())


def test_an_async_call_is_one_record(litellm, asked, settled, flywheel):
    async def act():
        with flywheel.episode(role="tester") as episode:
            await litellm.acompletion(**asked("tools", tools=TOOLS))
        act.episode = episode

    run(act)
    (one,) = settled()
    assert said(one)["tool_calls"][0]["function"]["arguments"] == ARGUMENTS
    assert (one["role"], one["episode_id"]) == ("tester", str(act.episode.id))


@pytest.mark.parametrize("usage", [False, True])
def test_streams_are_one_record(litellm, asked, settled, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}

    async def act():
        async for _ in await litellm.acompletion(**asked("tools", stream=True, **options)):
            pass

    list(litellm.completion(**asked("tools", stream=True, **options)))
    run(act)
    found = settled(2)
    assert len(found) == 2
    for one in found:
        assert (one["status"], one["completed"]) == ("success", True)
        assert said(one)["tool_calls"][0]["function"]["arguments"] == ARGUMENTS
        assert one["request"]["stream"] is True
        assert 0 < one["ttft_ms"] <= one["latency_ms"]
        assert bool(one.get("usage_estimated")) is not usage
        if usage:
            assert one["gen_ai_usage_input_tokens"] == INPUT_TOKENS


def test_a_stream_left_early_is_recorded_as_cut(litellm, asked, settled, flywheel):
    def leave():
        for chunk in litellm.completion(**asked("drip", stream=True)):
            if chunk.choices[0].delta.content:
                return

    async def aleave():
        stream = await litellm.acompletion(**asked("drip", stream=True))
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                return

    async def aclose():
        stream = await litellm.acompletion(**asked("drip", stream=True))
        for _ in range(3):
            await anext(stream)
        await stream.aclose()

    with flywheel.episode(role="tester"):
        leave()
    run(aleave)
    run(aclose)
    found = settled(3)
    assert [one["status"] for one in found] == ["cut"] * 3
    assert [one["completed"] for one in found] == [False] * 3
    assert sorted(one["role"] for one in found) == ["coder", "coder", "tester"]
    for one in found:
        assert set(said(one)["content"]) == {"x"}


def test_a_stream_left_after_its_last_word_is_whole(litellm, asked, settled):
    for chunk in litellm.completion(**asked("say hi", stream=True)):
        if chunk.choices[0].finish_reason:
            break
    del chunk
    (one,) = settled()
    assert (one["status"], said(one)["content"]) == ("success", "hi")


def test_a_stream_cut_by_the_server_is_one_record(litellm, asked, settled):
    with pytest.raises(openai.OpenAIError):
        list(litellm.completion(**asked("break", stream=True)))
    (one,) = settled()
    assert (one["status"], one["completed"]) == ("cut", False)
    assert one["error_type"]
    assert said(one)["content"] == "half an ans"

    async def act():
        async for _ in await litellm.acompletion(**asked("break", stream=True)):
            pass

    run(act)
    (one,) = settled()
    assert (one["status"], said(one)["content"]) == ("cut", "half an ans")


def test_failures_are_one_record(litellm, asked, settled):
    with pytest.raises(openai.BadRequestError):
        litellm.completion(**asked("fail 400"))
    run(lambda: litellm.acompletion(**asked("fail 429", max_retries=0)))
    found = settled(2)
    assert [one["error_type"] for one in found] == ["BadRequestError", "RateLimitError"]
    assert all(one["status"] == "error" and one["response"] is None for one in found)
    assert "told to fail" in found[0]["attributes"]["error"]


def test_retries_make_one_record_of_the_call_that_returned(litellm, asked, settled):
    litellm.completion(**asked("flaky 500 litellm", num_retries=2))
    run(lambda: litellm.acompletion(**asked("flaky 500 alitellm", num_retries=2)))
    found = settled(2)
    assert [one["status"] for one in found] == ["success", "success"]


def test_a_call_that_fails_in_every_attempt_is_one_record(litellm, asked, settled, seen):
    with pytest.raises(openai.OpenAIError):
        litellm.completion(**asked("fail 500", num_retries=2))
    run(lambda: litellm.acompletion(**asked("fail 500", num_retries=2)))
    found = settled(2)
    assert [one["status"] for one in found] == ["error", "error"]
    assert len(seen) > 2


def test_a_router_records_each_attempt(litellm, asked, settled):
    def deployment(name, model):
        given = asked("")
        del given["messages"]
        return {"model_name": name, "litellm_params": {**given, "model": model, "max_retries": 0}}

    router = litellm.Router(
        model_list=[deployment("first", "openai/m"), deployment("second", "openai/m2")],
        fallbacks=[{"first": ["second"]}],
        num_retries=1,
        retry_after=0,
    )
    messages = [{"role": "user", "content": "flaky 500 router"}]
    router.completion("first", messages=messages)
    failed, answered = sorted(settled(2), key=lambda one: one["status"])
    assert (failed["status"], answered["status"]) == ("error", "success")
    assert answered["attributes"]["attempts"] == 2

    async def act():
        stream = await router.acompletion(
            "second", messages=[{"role": "user", "content": "say hi"}], stream=True
        )
        async for _ in stream:
            pass

    run(act)
    (one,) = settled()
    assert (one["status"], said(one)["content"]) == ("success", "hi")


def test_text_completions_are_recorded_and_embeddings_are_not(litellm, asked, settled):
    given = asked("")
    del given["messages"]
    list(litellm.text_completion(**given, prompt="say hi", stream=True))
    litellm.text_completion(**given, prompt="say hello")  # litellm tells nothing of this one
    litellm.embedding(**{**given, "input": ["x"]})
    found = settled(2)
    assert len(found) == 2
    assert {one["gen_ai_operation_name"] for one in found} == {"text_completion"}
    assert all(one["status"] == "success" for one in found)


def test_a_cancelled_call_is_one_record(litellm, asked, settled, seen):
    async def act():
        call = asyncio.create_task(litellm.acompletion(**asked("wait", max_retries=0)))
        while not seen:
            await asyncio.sleep(0.01)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call

    run(act)
    (one,) = settled()
    assert (one["status"], one["completed"]) == ("cut", False)


def test_metadata_names_role_and_task_type(litellm, asked, settled):
    metadata = {"agent_role": "reviewer", "task_type": "review", "unit": "u"}
    litellm.completion(**asked("say hi", metadata=metadata))
    (one,) = settled()
    assert (one["role"], one["task_type"], one["unit_id"]) == ("reviewer", "review", "u")


def test_a_later_change_of_the_messages_changes_no_record(litellm, asked, settled):
    given = asked("say hi")
    litellm.completion(**given)
    given["messages"].append({"role": "user", "content": "later"})
    (one,) = settled()
    assert len(one["request"]["messages"]) == 1


def test_credentials_among_the_parameters_are_not_kept(litellm, asked, settled):
    litellm.completion(**asked("say hi", extra_headers={"x-secret": "s3cr3t"}, top_p=0.5))
    (one,) = settled()
    assert "s3cr3t" not in str(one)
    assert one["request"]["top_p"] == 0.5


def test_a_missing_role_is_counted_and_the_call_goes_on(litellm, asked, flywheel, records):
    flywheel.role = None
    assert litellm.completion(**asked("say hi")).choices[0].message.content == "hi"
    deadline = time.monotonic() + 60
    while not flywheel.counts()["dropped"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert flywheel.counts()["dropped"] == {"no_role": 1}
    assert records() == []


def test_wrapping_the_module_adds_one_callback(flywheel, litellm, asked, settled):
    litellm.callbacks = []
    assert flywheel.wrap(flywheel.wrap(litellm), role="reviewer") is litellm
    litellm.completion(**asked("say hi"))
    (one,) = settled()
    assert one["role"] == "reviewer"


# Once, whoever else records


@pytest.mark.parametrize("text", ["say hi", "fail 400", "drip", "break"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrapped_client_inside_litellm_records_once(
    litellm, asked, settled, flywheel, provider, text, stream
):
    if not stream and text in ("drip", "break"):
        pytest.skip("only streams end in the middle")
    client = flywheel.wrap(openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k", max_retries=0))
    with suppress(openai.OpenAIError):
        answer = litellm.completion(**asked(text, client=client, stream=stream))
        if stream:
            for number, _ in enumerate(answer):
                if text == "drip" and number == 3:
                    break
        del answer
    (one,) = settled()
    assert one["status"] == {"say hi": "success", "fail 400": "error"}.get(text, "cut")
    client.close()


@pytest.mark.parametrize("stream", [False, True])
def test_what_our_gateway_recorded_is_not_recorded_again(litellm, asked, settled, stream):
    answer = litellm.completion(**asked(f"gateway {new_id()}", stream=stream))
    if stream:
        list(answer)
    del answer
    assert settled(0) == []


@pytest.mark.parametrize("stream", [False, True])
def test_completion_records_once_beside_callback_and_wrap(
    litellm, flywheel, provider, settled, stream, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_BASE", f"{provider.url}/v1")
    flywheel.wrap(litellm)
    answer = flywheel.completion(
        messages=[{"role": "user", "content": "say hi"}],
        model="openai/m",
        api_key="k",
        stream=stream,
    )
    if stream:
        list(answer)
    (one,) = settled()
    assert one["id"] == str(answer.interaction_id)


@pytest.mark.slow
def test_a_process_that_ends_right_after_a_call_loses_nothing(provider, tmp_path):
    source = f"""
    import asyncio, os, sys
    sys.path.insert(0, {str(ROOT)!r})
    from collector.client import Flywheel
    from foundation.llm import _litellm
    litellm = _litellm()
    for how in {list(ENDINGS)!r}:
        if os.fork() == 0:
            break
        os.wait()
    else:
        sys.exit()
    flywheel = Flywheel(spool=os.path.join({str(tmp_path)!r}, how), role="coder")
    flywheel.wrap(litellm)
    text = "drip" if "left" in how else "flaky 500 end" if how == "fallback" else "say hi"
    asked = dict(model="openai/m", api_base={provider.url + "/v1"!r}, api_key="k", messages=[
        dict(role="user", content=text)])

    async def act():
        answer = await litellm.acompletion(**asked, stream=how != "async")
        if how == "async":
            return
        async for chunk in answer:
            if how == "aleft" and chunk.choices[0].delta.content:
                break

    if how.startswith("a"):
        asyncio.run(act())
    elif how == "sync":
        litellm.completion(**asked)
    elif how == "fallback":
        litellm.completion(**asked, max_retries=0, fallbacks=["openai/m2"])
    else:
        for chunk in litellm.completion(**asked, stream=True):
            if how == "left" and chunk.choices[0].delta.content:
                break
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(source)], check=True, timeout=120)
    assert {how: spooled(tmp_path / how) for how in ENDINGS} == ENDINGS


ENDINGS = {
    "sync": ["success"],
    "stream": ["success"],
    "left": ["cut"],
    "async": ["success"],
    "astream": ["success"],
    "aleft": ["cut"],
    "fallback": ["error", "success"],
}
"""Statuses that each way of calling leaves in the spool of a process that then ends."""


def spooled(folder):
    """The statuses of the interactions that a process left in its spool."""
    flywheel = Flywheel(spool=folder, role="coder")
    flywheel.spool.adopt()
    taken = flywheel.spool.take(100)
    flywheel.close()
    return sorted(line["record"]["status"] for line in taken.records) if taken else []


def test_a_call_that_a_framework_s_callback_records_is_left_to_it(litellm, asked, settled):
    above = announce()
    litellm.completion(**asked("say above"))
    assert not above.open
    litellm.completion(**asked("say below"))
    (record,) = settled()
    assert record["response"]["choices"][0]["message"]["content"] == "below"
