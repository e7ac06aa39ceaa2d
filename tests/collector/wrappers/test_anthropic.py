import asyncio
import json
from contextlib import suppress

import pytest
from provider_app import ARGUMENTS, INPUT_TOKENS, OUTPUT_TOKENS

anthropic = pytest.importorskip("anthropic")

TOOLS = [{"name": "write", "description": "writes", "input_schema": {"type": "object"}}]


CUT = "peer closed|incomplete|Connection error"


def ask(text):
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}]}


@pytest.fixture
def client(flywheel, provider):
    with anthropic.Anthropic(base_url=provider.url, api_key="k", max_retries=2) as bare:
        yield flywheel.wrap(bare)


@pytest.fixture
def in_loop(flywheel, provider):
    """Return a function that runs `act(client)` in a loop of its own, with a wrapped client."""

    def run(act):
        async def inner():
            async with anthropic.AsyncAnthropic(base_url=provider.url, api_key="k") as bare:
                return await act(flywheel.wrap(bare))

        return asyncio.run(inner())

    return run


def message_of(record):
    return record["response"]["choices"][0]["message"]


def test_a_message_becomes_a_chat_completion(client, record, seen):
    answer = client.messages.create(**ask("tools"), system="be brief", tools=TOOLS)
    one = record()
    assert isinstance(client, anthropic.Anthropic)
    assert one["id"] == str(answer.flywheel_interaction_id)
    assert "flywheel" not in answer.model_dump_json()
    assert one["gen_ai_provider_name"] == "anthropic"
    assert one["request"]["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "tools"},
    ]
    assert one["request"]["tools"][0]["function"] == {
        "name": "write", "description": "writes", "parameters": {"type": "object"},
    }  # fmt: skip
    assert message_of(one)["content"] == "I write"
    (call,) = message_of(one)["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == json.loads(ARGUMENTS)
    assert one["response"]["choices"][0]["finish_reason"] == "tool_calls"
    assert one["gen_ai_usage_input_tokens"] == INPUT_TOKENS  # what the cache gave is input too
    assert one["gen_ai_usage_output_tokens"] == OUTPUT_TOKENS
    exact = one["attributes"]["exact"]
    assert exact["api"] == "anthropic.messages"
    assert exact["request"] == seen[-1][2]
    assert exact["response"]["stop_reason"] == "tool_use"


def test_turns_with_tools_and_images_become_chat(client, record):
    image = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "r"}]}
    turns = [
        {"role": "user", "content": [{"type": "image", "source": image}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "I read"},
            {"type": "tool_use", "id": "t", "name": "read", "input": {"ü": 1}},
        ]},
        {"role": "user", "content": [result, {"type": "text", "text": "say go on"}]},
    ]  # fmt: skip
    client.messages.create(model="m", max_tokens=9, messages=turns)
    first, second, third, fourth = record()["request"]["messages"]
    assert first["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    ]
    assert second["reasoning_content"] == "hm"
    assert second["tool_calls"][0]["function"] == {"name": "read", "arguments": '{"ü": 1}'}
    assert third == {"role": "tool", "tool_call_id": "t", "content": "r"}
    assert fourth == {"role": "user", "content": "say go on"}


def test_thinking_is_kept_apart_from_the_answer(client, record):
    client.messages.create(**ask("think 42"))
    assert message_of(record()) == {
        "role": "assistant", "content": "42", "reasoning_content": "hm",
    }  # fmt: skip
    list(client.messages.create(**ask("think 42"), stream=True))
    assert message_of(record())["reasoning_content"] == "hm"


def test_streams_are_assembled_to_the_byte(client, record):
    stream = client.messages.create(**ask("tools"), stream=True)
    list(stream)
    one = record()
    assert one["id"] == str(stream.flywheel_interaction_id)
    assert (one["status"], one["completed"]) == ("success", True)
    assert 0 < one["ttft_ms"] <= one["latency_ms"]
    (call,) = message_of(one)["tool_calls"]
    assert call["function"] == {"name": "write", "arguments": ARGUMENTS}
    assert one["gen_ai_usage_input_tokens"] == INPUT_TOKENS
    assert one["gen_ai_usage_output_tokens"] == OUTPUT_TOKENS


def test_stream_helpers_and_beta_are_recorded(client, record):
    with client.messages.stream(**ask("say hello")) as stream:
        assert "".join(stream.text_stream) == "hello"
    assert message_of(record())["content"] == "hello"
    client.beta.messages.create(**ask("say beta"), betas=["x-2025-01-01"])
    assert message_of(record())["content"] == "beta"
    with client.beta.messages.stream(**ask("say beta stream")) as stream:
        stream.get_final_message()
    assert message_of(record())["content"] == "beta stream"
    client.messages.with_raw_response.create(**ask("say raw"))
    assert message_of(record())["content"] == "raw"
    with client.messages.with_streaming_response.create(**ask("say raw")) as raw:
        raw.read()
    assert message_of(record())["content"] == "raw"


def test_cut_streams_keep_what_came(client, record):
    with client.messages.stream(**ask("drip")) as stream:
        for text in stream.text_stream:
            assert text == "x"
            break
    one = record()
    assert (one["status"], one["completed"]) == ("cut", False)
    assert set(message_of(one)["content"]) == {"x"}
    with pytest.raises(Exception, match=CUT):
        list(client.messages.create(**ask("break"), stream=True))
    one = record()
    assert (one["status"], message_of(one)["content"]) == ("cut", "half an ans")
    with pytest.raises(anthropic.APIError):
        list(client.messages.create(**ask("oops"), stream=True))
    one = record()
    assert (one["status"], one["error_type"]) == ("cut", "overloaded_error")


def test_failures_and_retries_make_one_record(client, record, seen):
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(**ask("fail 429"))
    one = record()
    assert (one["status"], one["error_type"]) == ("error", "RateLimitError")
    assert one["attributes"]["attempts"] == len(seen) == 3
    client.messages.create(**ask("flaky 500 messages"))
    assert record()["attributes"]["attempts"] == 2


def test_async_clients_are_recorded(in_loop, records):
    async def leave(client):
        async with client.messages.stream(**ask("drip")) as stream:
            async for _ in stream.text_stream:
                break

    async def act(client):
        await client.messages.create(**ask("say one"))
        async for _ in await client.messages.create(**ask("tools"), stream=True):
            pass
        async with client.messages.stream(**ask("say three")) as stream:
            await stream.get_final_message()
        await leave(client)
        with suppress(anthropic.BadRequestError):
            await client.messages.create(**ask("fail 400"))

    in_loop(act)
    found = records()
    statuses = [one["status"] for one in found]
    assert statuses == ["success", "success", "success", "cut", "error"]
    assert message_of(found[1])["tool_calls"][0]["function"]["arguments"] == ARGUMENTS


def test_clients_with_middleware_are_recorded_once(flywheel, provider, record):
    def passing(request, call_next):
        return call_next(request)

    bare = anthropic.Anthropic(base_url=provider.url, api_key="k", max_retries=2)
    if not hasattr(bare, "with_middleware"):
        pytest.skip("this version of anthropic has no middleware")
    with flywheel.wrap(bare).with_middleware(passing) as client:
        client.messages.create(**ask("flaky 500 middleware"))
        assert record()["attributes"]["attempts"] == 2
        list(client.messages.create(**ask("say hi"), stream=True))
        assert message_of(record())["content"] == "hi"


def test_counting_tokens_is_not_recorded(client, records):
    with suppress(anthropic.APIError):
        client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "fail 400"}])
    assert records() == []
