"""The clients that agents have, unmodified, against the running gateway: openai's, anthropic's,
litellm's and LangChain's, in every dialect, translated for an upstream of chats and passed through
to one that speaks it.
"""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import openai
import pytest
import yaml
from provider_app import ARGUMENTS, OUTPUT_TOKENS, Serving
from sqlmodel import delete, select
from upstream_app import TOOL_ARGUMENTS, Server, create_upstream_app

from collector.tables import Interaction, InteractionPayload
from foundation import chat, llm
from foundation.database import session_scope
from foundation.settings import get_settings
from router.gateway import create_gateway_app
from router.promote import initial
from router.tables import BudgetLimit
from trainer.tables import ModelVersion

ROOT = Path(__file__).resolve().parents[2]
ID = "x-flywheel-interaction-id"
ROLE = "linguist"
MODEL = f"role:{ROLE}"
KEY = "sk-of-the-gateway"
CHAT_TOOLS = [{"type": "function", "function": {"name": "write", "parameters": {"type": "object"}}}]
RESPONSES_TOOLS = [{"type": "function", "name": "write", "parameters": {"type": "object"}}]
MESSAGES_TOOLS: list[Any] = [{"name": "write", "input_schema": {"type": "object"}}]
MODELS = [pytest.param(MODEL, id="translated"), pytest.param("native", id="native")]


async def parrot(scope: Any, receive: Any, send: Any) -> None:
    """An upstream that answers with the last message, to the byte: its status, then its body."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    status, _, said = json.loads(body)["messages"][-1]["content"].partition(" ")
    kind = b"text/event-stream" if said.startswith("data:") else b"application/json"
    start = {"type": "http.response.start", "status": int(status)}
    await send({**start, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": said.encode()})


@pytest.fixture(scope="module")
def world(migrated, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A gateway whose role is served by an upstream of chats, and that has one that speaks all.

    One for the whole file: the role is no other file's, and each call has a record of its own.
    """
    folder = tmp_path_factory.mktemp("gateway")
    with (
        pytest.MonkeyPatch.context() as patch,
        Server(create_upstream_app()) as upstream,
        Serving() as provider,
        Server(parrot) as strange,
    ):
        native = {
            "base_url": f"{provider.url}/v1",
            "api_key": "sk-native",
            "models": ["native"],
            "dialects": ["chat", "completions", "embeddings", "responses", "messages"],
        }
        plain = {"base_url": f"{upstream.url}/v1", "models": ["chats"], "dialects": ["chat"]}
        odd = {"base_url": strange.url, "models": ["parrot"], "dialects": ["chat"]}
        file = folder / "gateway.yaml"
        file.write_text(
            yaml.safe_dump({"upstreams": {"all": native, "plain": plain, "strange": odd}})
        )
        patch.setenv("FLYWHEEL_HOME", str(folder / "home"))
        patch.setenv("FLYWHEEL_GATEWAY_FILE", str(file))
        patch.setenv("FLYWHEEL_ENGINE_URL", f"{upstream.url}/v1")
        patch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
        patch.setenv("OPENAI_API_KEY", "sk-of-the-provider")
        patch.setenv("FLYWHEEL_API_KEY", KEY)
        patch.setenv("FLYWHEEL_ROLES", json.dumps(["coder", ROLE]))
        get_settings.cache_clear()
        with session_scope() as session:
            session.execute(delete(BudgetLimit))  # what the file before has left would hold here
            version = ModelVersion(
                role=ROLE, number=1, kind="adapter", base_model="tiny", name=f"{ROLE}-v1"
            )
            session.add(version)
            session.flush()
            initial(session, ROLE, version)
        with Server(create_gateway_app()) as gateway:
            yield SimpleNamespace(
                url=gateway.url, upstream=upstream.app, provider=provider.app,
                base=f"{gateway.url}/r/{ROLE}/e/task-1",
            )  # fmt: skip
    get_settings.cache_clear()


@pytest.fixture
def gpt(world) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{world.base}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(world) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=world.base, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def litellm() -> Iterator[Any]:
    module = llm._litellm()
    yield module
    for client in module.in_memory_llm_clients_cache.cache_dict.values():
        closed = client.close()  # litellm keeps them for ever
        if asyncio.iscoroutine(closed):
            closed.close()  # of one that was made, and never used


def stored(identifier: str) -> SimpleNamespace:
    """The row and payload of a call, when they are there."""
    deadline = time.monotonic() + 20
    while True:
        with session_scope() as own:
            row = own.exec(select(Interaction).where(Interaction.id == identifier)).first()
            payload = own.exec(
                select(InteractionPayload).where(InteractionPayload.id == identifier)
            ).first()
            if row is not None and payload is not None:
                return SimpleNamespace(
                    row=row, request=payload.request, response=payload.response,
                    exact=(payload.attributes or {}).get("exact"),
                )  # fmt: skip
        assert time.monotonic() < deadline, f"no record of {identifier}"
        time.sleep(0.02)


# OpenAI's Responses


@pytest.mark.parametrize("model", MODELS)
def test_a_response(world, gpt, model: str) -> None:
    raw = gpt.responses.with_raw_response.create(
        model=model, input="say hello", instructions="be brief", max_output_tokens=9
    )
    answer = raw.parse()
    assert (answer.output_text, answer.status) == ("hello", "completed")
    assert answer.usage is not None
    assert answer.usage.output_tokens > 0
    one = stored(raw.headers[ID])
    assert (one.row.role, one.row.status, one.row.completed) == (ROLE, "success", True)
    assert [message["role"] for message in one.request["messages"]] == ["system", "user"]
    assert chat.answer_text(one.response) == "hello"
    assert one.row.gen_ai_usage_output_tokens == answer.usage.output_tokens
    assert one.exact["api"] == "openai.responses"
    assert one.exact["request"]["input"] == "say hello"


@pytest.mark.parametrize("model", MODELS)
def test_a_streamed_response(world, gpt, model: str) -> None:
    with gpt.responses.with_streaming_response.create(
        model=model, input="say héllo", stream=True
    ) as raw:
        identifier = raw.headers[ID]
        events = list(raw.parse())
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "héllo"
    assert len(deltas) > 1
    assert events[-1].type == "response.completed"
    one = stored(identifier)
    assert (one.row.status, one.row.completed) == ("success", True)
    assert chat.answer_text(one.response) == "héllo"
    assert one.row.ttft_ms > 0


@pytest.mark.parametrize("model", MODELS)
def test_the_stream_helper_of_responses(gpt, model: str) -> None:
    with gpt.responses.stream(model=model, input="say hello") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "hello"
    assert "response.output_text.done" in kinds


@pytest.mark.parametrize(("model", "arguments"), [
    pytest.param(MODEL, TOOL_ARGUMENTS, id="translated"),
    pytest.param("native", ARGUMENTS, id="native"),
])  # fmt: skip
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tools_of_responses_and_their_results(
    world, gpt, model: str, arguments: str, stream: bool
) -> None:
    def ask(given: Any) -> Any:
        asked = {"model": model, "input": given, "tools": RESPONSES_TOOLS}
        if not stream:
            return gpt.responses.create(**asked)
        return list(gpt.responses.create(**asked, stream=True))[-1].response

    answer = ask("tools please")
    (called,) = [item for item in answer.output if item.type == "function_call"]
    assert (called.name, called.call_id, called.arguments) == ("write", "call_1", arguments)
    again = ask(
        [
            {"role": "user", "content": "tools please"},
            *[item.model_dump(exclude_none=True) for item in answer.output],
            {"type": "function_call_output", "call_id": called.call_id, "output": "say done"},
        ]
    )
    assert again.output_text == "done"


def test_what_leans_on_an_earlier_response_is_refused(gpt) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        gpt.responses.create(model=MODEL, input="x", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"
    assert "whole conversation" in caught.value.message


@pytest.mark.parametrize("model", MODELS)
def test_a_response_whose_stream_breaks_raises(world, gpt, model: str) -> None:
    with pytest.raises(openai.APIError):
        list(gpt.responses.create(model=model, input="break", stream=True))


@pytest.mark.parametrize("model", MODELS)
def test_refusals_of_upstreams_reach_openai_s_client(gpt, model: str) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        gpt.responses.create(model=model, input="fail 429")
    assert "told to fail" in caught.value.message
    assert caught.value.code == "told_to"
    identifier = caught.value.response.headers[ID]
    assert stored(identifier).row.error_type == "told_to"


# OpenAI's text completions and embeddings

COMPLETING = [pytest.param("chats", id="translated"), pytest.param("native", id="native")]


@pytest.mark.parametrize("model", COMPLETING)
def test_a_completion(gpt, model: str) -> None:
    raw = gpt.completions.with_raw_response.create(model=model, prompt="say hello", max_tokens=5)
    assert raw.parse().choices[0].text == "hello"
    one = stored(raw.headers[ID])
    assert one.row.gen_ai_operation_name == "text_completion"
    assert chat.prompt_messages(one.request) == [chat.message("user", "say hello")]
    assert chat.answer_text(one.response) == "hello"


@pytest.mark.parametrize("model", COMPLETING)
def test_a_streamed_completion(gpt, model: str) -> None:
    chunks = list(gpt.completions.create(model=model, prompt="say héllo", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "héllo"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_embeddings(gpt) -> None:
    raw = gpt.embeddings.with_raw_response.create(model="native", input=["one", "two"])
    assert raw.parse().data[0].embedding == [0.5, -0.25]
    one = stored(raw.headers[ID])
    assert one.row.gen_ai_operation_name == "embeddings"
    assert [message["content"] for message in one.request["messages"]] == ["one", "two"]
    assert one.response["embeddings"] == {"count": 1, "dimensions": 2}
    assert "data" not in one.response


# Anthropic's Messages


@pytest.mark.parametrize("model", MODELS)
def test_a_message(world, claude, model: str) -> None:
    raw = claude.messages.with_raw_response.create(
        model=model,
        max_tokens=9,
        system="be brief",
        messages=[{"role": "user", "content": [{"type": "text", "text": "say hello"}]}],
    )
    message = raw.parse()
    assert (message.content[0].text, message.stop_reason) == ("hello", "end_turn")
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0
    one = stored(raw.headers[ID])
    assert (one.row.role, one.row.status) == (ROLE, "success")
    assert one.request["messages"][0] == {"role": "system", "content": "be brief"}
    assert chat.answer_text(one.response) == "hello"
    assert one.row.gen_ai_usage_output_tokens == message.usage.output_tokens
    assert one.exact["api"] == "anthropic.messages"


def test_a_native_upstream_is_asked_as_anthropic_s_is(world, claude) -> None:
    claude.messages.create(
        model="native", max_tokens=9, messages=[{"role": "user", "content": "say hello"}]
    )
    path, headers, body = world.provider.seen[-1]
    assert path == "/v1/messages"
    assert headers["x-api-key"] == "sk-native"
    assert headers["anthropic-version"]
    assert KEY not in json.dumps(headers)
    assert body["max_tokens"] == 9


@pytest.mark.parametrize("model", MODELS)
def test_a_streamed_message(claude, model: str) -> None:
    with claude.messages.stream(
        model=model, max_tokens=9, messages=[{"role": "user", "content": "say héllo"}]
    ) as stream:
        parts = list(stream.text_stream)
        final = stream.get_final_message()
        identifier = stream.response.headers[ID]
    assert "".join(parts) == final.content[0].text == "héllo"
    assert len(parts) > 1
    assert (final.stop_reason, final.usage.output_tokens > 0) == ("end_turn", True)
    one = stored(identifier)
    assert (one.row.status, one.row.completed) == ("success", True)
    assert chat.answer_text(one.response) == "héllo"


@pytest.mark.parametrize(("model", "arguments"), [
    pytest.param(MODEL, TOOL_ARGUMENTS, id="translated"),
    pytest.param("native", ARGUMENTS, id="native"),
])  # fmt: skip
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tools_of_messages_and_their_results(
    claude, model: str, arguments: str, stream: bool
) -> None:
    def ask(messages: Any) -> anthropic.types.Message:
        asked: Any = {"model": model, "max_tokens": 9, "messages": messages}
        if not stream:
            return claude.messages.create(**asked, tools=MESSAGES_TOOLS)
        with claude.messages.stream(**asked, tools=MESSAGES_TOOLS) as streamed:
            return streamed.get_final_message()

    asked: list[Any] = [{"role": "user", "content": "tools please"}]
    message = ask(asked)
    (called,) = [block for block in message.content if block.type == "tool_use"]
    assert (called.name, called.input) == ("write", json.loads(arguments))
    assert message.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": called.id, "content": "say done"}
    asked += [
        {"role": "assistant", "content": message.model_dump(exclude_none=True)["content"]},
        {"role": "user", "content": [result] if model == MODEL else "say done"},
    ]
    assert ask(asked).content[-1].text == "done"


@pytest.mark.filterwarnings("default")  # litellm's own
def test_a_message_for_a_provider_that_litellm_knows(claude) -> None:
    asked: Any = {"model": "openai/gpt-x", "max_tokens": 9, "tools": MESSAGES_TOOLS}
    message = claude.messages.create(
        **asked, messages=[{"role": "user", "content": "tools please"}]
    )
    assert (message.content[0].input, message.stop_reason) == (json.loads(ARGUMENTS), "tool_use")
    with claude.messages.stream(
        **asked, messages=[{"role": "user", "content": "say hello"}]
    ) as stream:
        assert "".join(stream.text_stream) == "hello"
        assert stream.get_final_message().usage.output_tokens == OUTPUT_TOKENS
        one = stored(stream.response.headers[ID])
    assert (one.row.gen_ai_provider_name, one.row.completed) == ("litellm", True)
    assert chat.answer_text(one.response) == "hello"


def test_tokens_are_counted_without_a_call(world, claude) -> None:
    before = len(world.upstream.state.seen)
    counted = claude.messages.count_tokens(
        model=MODEL, messages=[{"role": "user", "content": "x" * 400}]
    )
    assert counted.input_tokens == 100
    assert len(world.upstream.state.seen) == before


def test_errors_reach_anthropic_s_client_as_its_own(world, claude) -> None:
    asked: Any = {"max_tokens": 9, "messages": [{"role": "user", "content": "fail 429"}]}
    with pytest.raises(anthropic.RateLimitError) as caught:
        claude.messages.create(model=MODEL, **asked)
    assert "told to fail" in str(caught.value)
    assert caught.value.type == "rate_limit_error"
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="role:nobody", **asked)
    search: Any = {"type": "web_search_20250305", "name": "web_search"}
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(model=MODEL, **asked, tools=[search])
    assert "tools[0]" in str(refused.value)
    with anthropic.Anthropic(base_url=world.base, api_key="wrong", max_retries=0) as other:
        with pytest.raises(anthropic.AuthenticationError):
            other.messages.create(model=MODEL, **asked)


def test_a_caller_who_leaves_a_translated_stream_is_recorded(world, claude) -> None:
    world.upstream.state.left.clear()
    with claude.messages.stream(
        model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "drip"}]
    ) as stream:
        identifier = stream.response.headers[ID]
        for i, _ in enumerate(stream.text_stream):
            if i == 3:
                break
    assert world.upstream.state.left.wait(10), "the upstream goes on for nobody"
    one = stored(identifier)
    assert (one.row.status, one.row.completed, one.row.error_type) == ("cut", False, "client_gone")
    assert set(chat.answer_text(one.response)) == {"x"}


# What upstreams get wrong

HALF = '{"role": "assistant", "content": "half: \\ud83d"}'
WHOLE_HALF = f'{{"choices": [{{"index": 0, "message": {HALF}, "finish_reason": "stop"}}]}}'
STREAMED_HALF = f'data: {{"choices": [{{"index": 0, "delta": {HALF}, "finish_reason": "stop"}}]}}'


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_half_a_character_reaches_the_client_and_the_record(gpt, claude, stream: bool) -> None:
    said = f"200 {STREAMED_HALF}\n\ndata: [DONE]\n\n" if stream else f"200 {WHOLE_HALF}"
    asked: Any = {"model": "parrot", "max_tokens": 9, "stream": stream}
    messages = [{"role": "user", "content": said}]
    for raw in (
        claude.messages.with_raw_response.create(**asked, messages=messages),
        gpt.chat.completions.with_raw_response.create(**asked, messages=messages),
    ):
        assert b"half: \\ud83d" in raw.http_response.read()
        one = stored(raw.headers[ID])
        assert (one.row.status, one.row.completed) == ("success", True)
        assert chat.answer_text(one.response) == "half: \ufffd", "what PostgreSQL can keep"


@pytest.mark.parametrize(
    ("said", "error", "kind"),
    [
        ("200 {tr", anthropic.InternalServerError, "upstream_garbage"),
        ('200 {"choices": 3}', anthropic.InternalServerError, "upstream_garbage"),
        ("500 ", anthropic.InternalServerError, "http_500"),
        ('429 {"error": "slow \\ud83d down"}', anthropic.RateLimitError, "http_429"),
        ("400 <h1>no</h1>", anthropic.BadRequestError, "refused:http_400"),
    ],
    ids=["half-a-json", "no-choices", "no-words", "half-a-character", "html"],
)
def test_what_is_no_answer_is_an_error_and_a_record(
    claude, said: str, error: Any, kind: str
) -> None:
    messages = [{"role": "user", "content": said}]
    with pytest.raises(error) as caught:
        claude.messages.create(model="parrot", max_tokens=9, messages=messages)
    one = stored(caught.value.response.headers[ID])
    assert (one.row.status, one.row.error_type, one.response) == ("error", kind, None)


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_that_breaks_is_recorded_as_far_as_it_came(claude, model: str) -> None:
    asked: Any = {"max_tokens": 9, "messages": [{"role": "user", "content": "break"}]}
    with claude.messages.stream(model=model, **asked) as stream:
        identifier = stream.response.headers[ID]
        with pytest.raises(anthropic.APIError):
            stream.get_final_message()
    one = stored(identifier)
    assert (one.row.status, one.row.completed, one.row.error_type) == (
        "error",
        False,
        "upstream_cut",
    )
    assert chat.answer_text(one.response) == "half an ans"


def test_an_error_inside_a_native_stream_is_recorded(claude, gpt) -> None:
    asked: Any = {"max_tokens": 9, "messages": [{"role": "user", "content": "oops"}]}
    with claude.messages.stream(model="native", **asked) as stream:
        identifier = stream.response.headers[ID]
        with pytest.raises(anthropic.APIError, match="overloaded"):
            stream.get_final_message()
    row = stored(identifier).row
    assert (row.status, row.completed, row.error_type) == ("error", False, "overloaded_error")
    with gpt.responses.with_streaming_response.create(
        model="native", input="oops", stream=True
    ) as raw:
        identifier = raw.headers[ID]
        list(raw.iter_lines())
    row = stored(identifier).row
    assert (row.status, row.completed, row.error_type) == ("error", False, "server_error")


# litellm, as an agent's library


@pytest.mark.filterwarnings("default")  # litellm's own
@pytest.mark.parametrize("model", [f"openai/{MODEL}", "openai/native", f"anthropic/{MODEL}",
                                   "anthropic/native"])  # fmt: skip
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_litellm_s_chats(world, litellm, model: str, stream: bool) -> None:
    base = world.base if model.startswith("anthropic") else f"{world.base}/v1"

    def ask(text: str) -> dict[str, Any]:
        answer = litellm.completion(
            model=model,
            messages=[{"role": "user", "content": text}],
            api_base=base,
            api_key=KEY,
            stream=stream,
            num_retries=0,
            tools=CHAT_TOOLS,
        )
        whole = litellm.stream_chunk_builder(list(answer)) if stream else answer
        return whole.model_dump()

    assert chat.answer_text(ask("say hello")) == "hello"
    (call,) = chat.tool_calls(ask("tools please"))
    assert call["function"]["name"] == "write"
    expected = ARGUMENTS if model.endswith("native") else TOOL_ARGUMENTS
    assert json.loads(call["function"]["arguments"]) == json.loads(expected)


@pytest.mark.filterwarnings("default")  # litellm's own
def test_litellm_s_other_calls(world, litellm) -> None:
    connection = {"api_base": f"{world.base}/v1", "api_key": KEY}
    answer = litellm.responses(model=f"openai/{MODEL}", input="say hello", **connection)
    assert answer.output[0].content[0].text == "hello"
    vectors = litellm.embedding(model="openai/native", input=["x"], **connection)
    assert vectors.data[0]["embedding"] == [0.5, -0.25]
    text = litellm.text_completion(
        model="text-completion-openai/chats", prompt="say hello", **connection
    )
    assert text.choices[0].text == "hello"


# Clients in environments of their own: see `make test-clients`

ENVIRONMENTS = Path(os.environ.get("FLYWHEEL_TEST_CLIENTS", ROOT))


@pytest.mark.parametrize("client", ["langchain", "openai1", "openai3"])
def test_clients_of_other_versions(world, client: str) -> None:
    python = ENVIRONMENTS / f".venv-clients-{client}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no environment {python.parent.parent.name}: make test-clients makes it")
    script = ROOT / "tests" / "clients" / "against_gateway.py"
    environment = {
        "PATH": os.environ["PATH"], "CLIENT": client,
        "GATEWAY": world.base, "MODEL": MODEL, "KEY": KEY,
        "NO_PROXY": "127.0.0.1", "LANGSMITH_TRACING": "false",
    }  # fmt: skip
    done = subprocess.run(
        [python, script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said.pop("ids")
    assert set(said.values()) == {True}, said
