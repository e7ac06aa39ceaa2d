import asyncio
import gc
import json
import time
import warnings
from contextlib import suppress
from uuid import UUID

import openai
import pytest
from provider_app import ARGUMENTS, INPUT_TOKENS, OUTPUT_TOKENS, TOOLS
from pydantic import BaseModel

from collector.client import Flywheel
from foundation.errors import BadInput
from foundation.ids import new_id

CUT = "peer closed|incomplete|Connection error"


def ask(text):
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


@pytest.fixture(scope="module", autouse=True)
def nothing_left_of_other_files():
    """Collect what tests before these left open: here a collection would name them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def client(flywheel, provider):
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k", max_retries=2) as bare:
        yield flywheel.wrap(bare)


@pytest.fixture
def in_loop(flywheel, provider):
    """Return a function that runs `act(client)` in a loop of its own, with a wrapped client."""

    def run(act):
        async def inner():
            async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as bare:
                return await act(flywheel.wrap(bare))

        return asyncio.run(inner())

    return run


def message_of(record):
    return record["response"]["choices"][0]["message"]


# Whole answers


def test_a_call_is_recorded_exactly(client, record, seen):
    answer = client.chat.completions.create(
        **ask("say hëllo"), temperature=0.5, tools=TOOLS, extra_body={"top_k": 3}
    )
    one = record()
    assert answer.choices[0].message.content == "hëllo"
    assert one["request"] == seen[-1][2]
    assert list(one["request"]) == list(seen[-1][2])
    assert one["request"]["top_k"] == 3
    assert one["response"]["x_own"] == {"ä": [1.5, None]}  # as sent, unknown keys and all
    assert "moderation" not in one["response"]
    assert (one["role"], one["status"], one["completed"]) == ("coder", "success", True)
    assert one["gen_ai_provider_name"] == "openai"
    assert one["gen_ai_usage_input_tokens"] == INPUT_TOKENS
    assert one["gen_ai_request_temperature"] == 0.5
    assert one["latency_ms"] > 0
    assert "attempts" not in (one.get("attributes") or {})


def test_the_answer_knows_its_interaction_and_dumps_as_before(client, flywheel, record):
    answer = client.chat.completions.create(**ask("say hi"))
    assert str(answer.flywheel_interaction_id) == record()["id"]
    assert flywheel.last_interaction_id() == answer.flywheel_interaction_id
    assert "flywheel" not in answer.model_dump_json()
    assert type(client).__name__ == "OpenAI"
    assert isinstance(client, openai.OpenAI)


def test_async_calls_are_recorded(in_loop, records):
    async def act(client):
        assert isinstance(client, openai.AsyncOpenAI)
        calls = [client.chat.completions.create(**ask(f"say {n}")) for n in range(5)]
        return await asyncio.gather(*calls)

    answers = in_loop(act)
    by_id = {one["id"]: one for one in records()}
    assert len(by_id) == 5
    for answer in answers:
        said = message_of(by_id[str(answer.flywheel_interaction_id)])["content"]
        assert said == answer.choices[0].message.content


def test_several_choices_and_tool_calls_are_kept(client, record):
    client.chat.completions.create(**ask("tools"), tools=TOOLS, n=2)
    choices = record()["response"]["choices"]
    assert len(choices) == 2
    for choice in choices:
        assert choice["message"]["tool_calls"][0]["function"]["arguments"] == ARGUMENTS


def test_compressed_answers_are_read(client, record):
    client.chat.completions.create(**ask("zip abc"))
    assert message_of(record())["content"] == "abc"
    list(client.chat.completions.create(**ask("zip abc"), stream=True))
    one = record()
    assert message_of(one)["content"] == "abc"
    assert one["ttft_ms"] > 0


def test_parsed_answers_are_recorded(client, record):
    class Sum(BaseModel):
        total: int

    chat = (
        client.chat.completions
        if hasattr(client.chat.completions, "parse")
        else client.beta.chat.completions
    )
    answer = chat.parse(**ask('say {"total": 3}'), response_format=Sum)
    assert answer.choices[0].message.parsed == Sum(total=3)
    one = record()
    assert message_of(one)["content"] == '{"total": 3}'
    assert one["request"]["response_format"]["type"] == "json_schema"
    assert one["id"] == str(answer.flywheel_interaction_id)


def test_raw_answers_are_recorded_once(client, record, records):
    raw = client.chat.completions.with_raw_response.create(**ask("say hi"))
    assert raw.headers["x-flywheel-interaction-id"] == record()["id"]
    assert raw.parse().choices[0].message.content == "hi"
    raw = client.chat.completions.with_raw_response.create(**ask("say hi"), stream=True)
    assert records() == []
    assert len(list(raw.parse())) == 3
    assert message_of(record())["content"] == "hi"


@pytest.mark.parametrize("read", ["json", "text", "parse", "iter_bytes", "iter_lines"])
def test_streamed_raw_answers_are_recorded_however_they_are_read(client, record, read):
    with client.chat.completions.with_streaming_response.create(**ask("say hi")) as raw:
        got = getattr(raw, read)()
        if read.startswith("iter"):
            list(got)
    one = record()
    assert one["status"] == "success"
    assert message_of(one)["content"] == "hi"


def test_async_raw_answers_are_recorded(in_loop, records):
    async def act(client):
        raw = await client.chat.completions.with_raw_response.create(**ask("say one"))
        opening = client.chat.completions.with_streaming_response.create(**ask("say two"))
        async with opening as streamed:
            await streamed.parse()
        return raw

    in_loop(act)
    assert [message_of(one)["content"] for one in records()] == ["one", "two"]


def test_legacy_completions_are_recorded(client, record):
    client.completions.create(model="m", prompt="say hi")
    assert record()["gen_ai_operation_name"] == "text_completion"
    list(client.completions.create(model="m", prompt="say hello", stream=True))
    one = record()
    assert one["response"]["choices"][0]["text"] == "hello"
    assert (one["status"], one["ttft_ms"] > 0) == ("success", True)


def test_embeddings_are_recorded_only_if_asked_for(client, flywheel, records):
    client.embeddings.create(model="e", input="x", encoding_format="float")
    assert records() == []
    flywheel.wrap(client, embeddings=True)
    client.embeddings.create(model="e", input="x", encoding_format="float")
    (one,) = records()
    assert one["gen_ai_operation_name"] == "embeddings"
    assert one["response"]["data"][0]["embedding"] == [0.5, -0.25]


# Streams


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_a_stream_is_assembled(client, record, options):
    stream = client.chat.completions.create(**ask("tools"), stream=True, n=2, **options)
    assert (
        "".join(
            chunk.choices[0].delta.tool_calls[0].function.arguments
            for chunk in stream
            if chunk.choices and chunk.choices[0].index == 0 and chunk.choices[0].delta.tool_calls
        )
        == ARGUMENTS
    )
    one = record()
    assert one["id"] == str(stream.flywheel_interaction_id)
    assert (one["status"], one["completed"]) == ("success", True)
    assert 0 < one["ttft_ms"] <= one["latency_ms"]
    for choice in one["response"]["choices"]:
        (call,) = choice["message"]["tool_calls"]
        assert call["function"] == {"name": "write", "arguments": ARGUMENTS}
        assert choice["finish_reason"] == "tool_calls"
    assert bool(one.get("usage_estimated")) is not bool(options)
    if options:
        assert one["gen_ai_usage_output_tokens"] == OUTPUT_TOKENS


def leave_by_break(client):
    for chunk in client.chat.completions.create(**ask("drip"), stream=True):
        if chunk.choices[0].delta.content:
            break


def leave_by_close(client):
    stream = client.chat.completions.create(**ask("drip"), stream=True)
    for _ in range(3):
        next(stream)
    stream.close()


def leave_with_block(client):
    with client.chat.completions.create(**ask("drip"), stream=True) as stream:
        for _ in range(3):
            next(stream)


def leave_by_error(client):
    with (
        suppress(ZeroDivisionError),
        client.chat.completions.create(**ask("drip"), stream=True) as stream,
    ):
        for _ in range(3):
            next(stream)
        1 / 0


def leave_raw(client):
    with client.chat.completions.with_streaming_response.create(**ask("drip"), stream=True) as raw:
        for line in raw.iter_lines():
            if '"x"' in line:
                break


@pytest.mark.parametrize(
    "leave", [leave_by_break, leave_by_close, leave_with_block, leave_by_error, leave_raw]
)
def test_an_abandoned_stream_is_recorded_as_cut(client, records, leave):
    leave(client)
    one = eventually_one(records)
    assert (one["status"], one["completed"]) == ("cut", False)
    assert set(message_of(one)["content"]) == {"x"}
    assert "error_type" not in one


def eventually_one(records):
    """The one record, which may come from the collector of garbage and its thread."""
    gc.collect()
    deadline = time.monotonic() + 60
    found = []
    while not found and time.monotonic() < deadline:
        found = records()
        time.sleep(0.01)
    (one,) = found
    return one


def test_a_stream_that_nobody_reads_is_recorded(client, records):
    client.chat.completions.create(**ask("drip"), stream=True)
    assert eventually_one(records)["status"] == "cut"


def test_a_stream_left_after_its_last_word_is_whole(client, record):
    stream = client.chat.completions.create(**ask("say hi"), stream=True)
    for chunk in stream:
        if chunk.choices[0].finish_reason:
            break
    stream.close()
    assert record()["status"] == "success"


def test_a_stream_cut_by_the_server_keeps_what_came(client, record):
    with pytest.raises(Exception, match=CUT):
        list(client.chat.completions.create(**ask("break"), stream=True))
    one = record()
    assert (one["status"], one["completed"]) == ("cut", False)
    assert one["error_type"] == "RemoteProtocolError"
    assert message_of(one)["content"] == "half an ans"


def test_an_error_inside_a_stream_is_recorded(client, record):
    with pytest.raises(openai.APIError, match="overloaded"):
        list(client.chat.completions.create(**ask("oops"), stream=True))
    one = record()
    assert (one["status"], one["error_type"]) == ("cut", "server_error")
    assert one["attributes"]["error"] == "overloaded"
    assert message_of(one)["content"] == "half"


def test_stream_helpers_are_recorded(client, record, records):
    chat = (
        client.chat.completions
        if hasattr(client.chat.completions, "stream")
        else client.beta.chat.completions
    )
    with chat.stream(**ask("say hello")) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "hello"
    assert message_of(record())["content"] == "hello"
    with chat.stream(**ask("drip")) as stream:
        next(stream)
    assert record()["status"] == "cut"


def test_async_streams_are_recorded_however_they_end(in_loop, records):
    async def read(client, text):
        stream = await client.chat.completions.create(**ask(text), stream=True)
        return [chunk async for chunk in stream]

    async def leave(client):
        async with await client.chat.completions.create(**ask("drip"), stream=True) as stream:
            async for _ in stream:
                break

    async def drop(client):
        async for chunk in await client.chat.completions.create(**ask("drip"), stream=True):
            if chunk.choices[0].delta.content:
                return

    async def act(client):
        await read(client, "say whole")
        await leave(client)
        await drop(client)
        with pytest.raises(Exception, match=CUT):
            await read(client, "break")
        task = asyncio.create_task(read(client, "drip"))
        await asyncio.sleep(0.2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    in_loop(act)
    gc.collect()
    found = {one["id"]: one for one in records()}.values()
    assert len(found) == 5
    assert [one["status"] for one in found].count("success") == 1
    assert {one["completed"] for one in found if one["status"] == "cut"} == {False}
    kinds = [one.get("error_type") for one in found]
    assert "CancelledError" in kinds
    assert "RemoteProtocolError" in kinds


# Failures


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "BadRequestError"), (429, "RateLimitError"), (500, "InternalServerError")],
)
def test_failures_are_recorded_once(client, record, seen, status, kind):
    with pytest.raises(openai.APIStatusError):
        client.chat.completions.create(**ask(f"fail {status}"))
    one = record()
    assert (one["status"], one["completed"], one["error_type"]) == ("error", False, kind)
    assert one["request"] == seen[-1][2]
    assert one["response"] is None
    assert "told to fail" in one["attributes"]["error"]
    assert one["attributes"].get("attempts", 1) == len(seen) == (1 if status == 400 else 3)


def test_retries_inside_the_client_make_one_record(client, record, in_loop, records):
    client.chat.completions.create(**ask("flaky 500 sync"))
    assert record()["attributes"]["attempts"] == 2
    list(client.chat.completions.create(**ask("flaky 429 stream"), stream=True))
    assert record()["attributes"]["attempts"] == 2
    in_loop(lambda client: client.chat.completions.create(**ask("flaky 500 async")))
    assert record()["attributes"]["attempts"] == 2


def test_no_connection_is_recorded(flywheel, record):
    client = flywheel.wrap(
        openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=1)
    )
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(**ask("say hi"))
    one = record()
    assert (one["status"], one["error_type"]) == ("error", "APIConnectionError")
    assert one["attributes"]["attempts"] == 2
    assert one["request"] == ask("say hi")
    client.close()


def test_an_unreadable_answer_is_recorded_as_an_error(client, record):
    with pytest.raises(json.JSONDecodeError):
        client.chat.completions.create(**ask("garbage"))
    one = record()
    assert (one["status"], one["error_type"]) == ("error", "JSONDecodeError")


def test_a_cancelled_call_is_recorded(in_loop, record, seen):
    async def act(client):
        call = asyncio.create_task(client.chat.completions.create(**ask("wait")))
        while not seen:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    in_loop(act)
    one = record()
    assert (one["status"], one["error_type"]) == ("cut", "CancelledError")
    assert one["request"] == ask("wait")


# Responses


def test_responses_become_chat(client, record, seen):
    given = [
        {"role": "user", "content": [{"type": "input_text", "text": "first"}]},
        {"type": "function_call", "call_id": "c0", "name": "write", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c0", "output": "tools"},
    ]
    tool = {"type": "function", "name": "write", "parameters": {"type": "object"}, "strict": False}
    answer = client.responses.create(
        model="m", input=given, instructions="be brief", tools=[tool], max_output_tokens=9
    )
    one = record()
    assert one["id"] == str(answer.flywheel_interaction_id)
    assert [m["role"] for m in one["request"]["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert one["request"]["messages"][1]["content"] == "first"
    assert one["request"]["messages"][2]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert one["request"]["messages"][3] == {
        "role": "tool",
        "tool_call_id": "c0",
        "content": "tools",
    }
    assert one["request"]["tools"][0]["function"]["name"] == "write"
    assert one["gen_ai_request_max_tokens"] == 9
    (call,) = message_of(one)["tool_calls"]
    assert call["function"]["arguments"] == ARGUMENTS
    assert one["response"]["choices"][0]["finish_reason"] == "tool_calls"
    assert one["gen_ai_usage_output_tokens"] == OUTPUT_TOKENS
    exact = one["attributes"]["exact"]
    assert exact["request"] == seen[-1][2]
    assert exact["response"]["output"][0]["call_id"] == "call_1"


def test_streamed_responses_are_assembled(client, record, in_loop):
    list(client.responses.create(model="m", input="say hello", stream=True))
    one = record()
    assert (one["status"], message_of(one)["content"]) == ("success", "hello")
    assert one["attributes"]["exact"]["response"]["status"] == "completed"
    assert one["ttft_ms"] > 0
    with client.responses.stream(model="m", input="tools") as stream:
        final = stream.get_final_response()
    assert final.output[0].arguments == ARGUMENTS
    assert message_of(record())["tool_calls"][0]["function"]["arguments"] == ARGUMENTS

    async def act(client):
        async for _ in await client.responses.create(model="m", input="say hi", stream=True):
            pass

    in_loop(act)
    assert message_of(record())["content"] == "hi"


def test_cut_responses_keep_what_came(client, record):
    with client.responses.create(model="m", input="drip", stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                break
    one = record()
    assert one["status"] == "cut"
    assert set(message_of(one)["content"]) == {"x"}
    with suppress(openai.APIError):
        list(client.responses.create(model="m", input="oops", stream=True))
    one = record()
    assert (one["status"], one["attributes"]["error"]) == ("cut", "overloaded")


# Whose call it is


def test_the_role_is_said_by_the_call_the_client_or_the_episode(client, flywheel, record):
    client.chat.completions.create(**ask("say 1"))
    assert record()["role"] == "coder"
    with flywheel.episode(task="t", task_type="fix", unit="u", role="tester") as episode:
        client.chat.completions.create(**ask("say 2"))
        one = record()
        assert (one["role"], one["episode_id"]) == ("tester", str(episode.id))
        assert (one["task_type"], one["unit_id"], one["attributes"]) == ("fix", "u", {"task": "t"})
        flywheel.wrap(client, role="reviewer")
        client.chat.completions.create(**ask("say 3"))
        assert record()["role"] == "reviewer"
        client.chat.completions.create(
            **ask("say 4"), extra_headers={"X-Flywheel-Role": "researcher"}
        )
        assert record()["role"] == "researcher"
        client.chat.completions.create(
            **ask("say 5"), metadata={"agent_role": "coordinator", "task_type": "plan"}
        )
        one = record()
        assert (one["role"], one["task_type"]) == ("coordinator", "plan")


def test_a_stream_belongs_to_the_episode_it_was_begun_in(client, flywheel, record):
    with flywheel.episode(role="tester") as episode:
        stream = client.chat.completions.create(**ask("say hi"), stream=True)
    with flywheel.episode(role="reviewer"):
        list(stream)
    one = record()
    assert (one["role"], one["episode_id"]) == ("tester", str(episode.id))


def test_a_later_change_of_the_messages_changes_no_record(client, record):
    asked = ask("say hi")
    stream = client.chat.completions.create(**asked, stream=True)
    asked["messages"].append({"role": "user", "content": "later"})
    list(stream)
    assert record()["request"]["messages"] == ask("say hi")["messages"]


def test_a_missing_role_is_counted_and_the_call_goes_on(provider, tmp_path):
    flywheel = Flywheel(spool=tmp_path)
    with flywheel.wrap(openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k")) as client:
        assert client.chat.completions.create(**ask("say hi")).choices[0].message.content == "hi"
    assert flywheel.counts()["dropped"] == {"no_role": 1}
    flywheel.close()


# Once, and no more


def test_wrapping_twice_records_once(client, flywheel, record):
    assert flywheel.wrap(flywheel.wrap(client)) is client
    client.chat.completions.create(**ask("say hi"))
    record()


def test_copies_of_a_client_record_too(client, record):
    client.with_options(timeout=5).chat.completions.create(**ask("say hi"))
    record()
    client.copy().with_options(max_retries=0).chat.completions.create(**ask("say hi"))
    record()


def test_what_our_gateway_recorded_is_not_recorded_again(client, flywheel, records, seen):
    identifier = new_id()
    with flywheel.episode(task_type="fix", unit="u1", role="tester") as episode:
        first = client.chat.completions.create(**ask(f"gateway {identifier}"))
        list(client.chat.completions.create(**ask(f"gateway {identifier}"), stream=True))
        client.chat.completions.create(**{**ask("say hi"), "model": "role:tester"})
    assert len(records()) == 1  # the last, which went to a server that only looks like a gateway
    assert first.flywheel_interaction_id == identifier
    assert isinstance(flywheel.last_interaction_id(), UUID)
    assert "x-flywheel-episode" not in seen[0][1]  # nobody knew yet that it is a gateway
    assert seen[1][1]["x-flywheel-episode"] == str(episode.id)
    assert seen[1][1]["x-flywheel-role"] == "tester"
    assert seen[1][1]["x-flywheel-task-type"] == "fix"
    assert seen[1][1]["x-flywheel-unit"] == "u1"


def test_a_declared_gateway_is_told_at_once(client, flywheel, provider, seen, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_GATEWAY_URL", f"{provider.url}/v1")
    flywheel.wrap(client)
    client.chat.completions.create(**ask("say hi"))
    assert seen[-1][1]["x-flywheel-role"] == "coder"


def test_other_servers_are_told_nothing_of_ours(client, seen):
    client.chat.completions.create(**ask("say hi"))
    assert not [name for name in seen[-1][1] if name.startswith("x-flywheel")]


def test_azure_clients_are_recorded(flywheel, record, provider):
    client = openai.AzureOpenAI(
        base_url=f"{provider.url}/v1", api_key="k", api_version="2024-10-21"
    )
    flywheel.wrap(client)
    # The deployment's path is not served here; what counts is what was asked and recorded.
    with suppress(openai.APIStatusError, openai.APIConnectionError):
        client.with_options(max_retries=0).chat.completions.create(**ask("fail 400"))
    assert record()["request"] == ask("fail 400")
    client.close()


@pytest.mark.parametrize("other", [object(), "client", 3])
def test_other_objects_are_refused(flywheel, other):
    with pytest.raises(BadInput, match="client to wrap"):
        flywheel.wrap(other)


def test_a_part_of_a_client_is_refused(flywheel, client):
    with pytest.raises(BadInput, match="client to wrap"):
        flywheel.wrap(client.chat.completions)
