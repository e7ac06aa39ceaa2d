"""Whole answers, errors and records: in each dialect's own shape, which its client reads."""

from typing import Any

import anthropic.types
import openai.types
import openai.types.responses
import pytest
from dialect_chats import ARGUMENTS, REQUESTS, STREAMS, answer, asked, call

from collector.shapes import messages, responses
from foundation import chat
from router.dialects import DIALECTS, read_error, recorded_answer, recorded_stream

SAID: dict[str, dict[str, Any]] = {
    "text": {"content": "héllo"},
    "reasoned": {"content": "x", "reasoning_content": "hm"},
    "calls": {"content": "I", "tool_calls": [call(0), call(1, "read", "{}")]},
    "nothing": {},
}


def translated(dialect: str, one: dict[str, Any], **more: Any) -> dict[str, Any]:
    return DIALECTS[dialect].answer(one, asked(dialect, **more), "i")


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize(("dialect", "shape"), [("responses", responses), ("messages", messages)])
def test_read_back_it_is_the_chat(dialect: str, shape: Any, said: str) -> None:
    finish = "tool_calls" if said == "calls" else "stop"
    one = answer(finish, **SAID[said])
    back = shape.chat_response(translated(dialect, one))
    told, expected = chat.answer_message(back), chat.answer_message(one)
    for message in (told, expected):
        for one_call in message.get("tool_calls") or []:  # messages hold values, and no text
            text = one_call["function"]["arguments"].replace("1e-3", "0.001")
            one_call["function"]["arguments"] = text
    assert told == expected
    assert chat.finish_reason(back) == finish
    assert back["usage"]["prompt_tokens"] == 12
    assert back["usage"]["prompt_tokens_details"]["cached_tokens"] == 4


@pytest.mark.parametrize("said", SAID)
def test_clients_know_their_shapes(said: str) -> None:
    one = answer("stop", **SAID[said])
    openai.types.Completion.model_validate(translated("completions", one), strict=True)
    openai.types.responses.Response.model_validate(translated("responses", one))
    anthropic.types.Message.model_validate(translated("messages", one), strict=True)


def test_an_id_leads_back_to_the_call() -> None:
    one = answer(content="x")
    ids = [translated(d, one)["id"] for d in ("completions", "responses", "messages")]
    assert ids == ["cmpl-i", "resp_i", "msg_i"]


@pytest.mark.parametrize(
    ("finish", "message", "more", "expected"),
    [
        ("stop", {}, {}, ("end_turn", None)),
        ("length", {}, {}, ("max_tokens", None)),
        ("content_filter", {}, {}, ("refusal", None)),
        ("tool_calls", {"tool_calls": [call(0)]}, {}, ("tool_use", None)),
        ("stop", {"tool_calls": [call(0)]}, {}, ("tool_use", None)),
        ("stop", {}, {"stop_sequences": ["END"]}, ("stop_sequence", "END")),
        ("something", {}, {}, ("end_turn", None)),
        (None, {}, {}, (None, None)),
    ],
    ids=["end", "limit", "filter", "tools", "tools-said-stop", "sequence", "unknown", "unsaid"],
)
def test_why_a_message_stopped(
    finish: str | None, message: dict[str, Any], more: dict[str, Any], expected: Any
) -> None:
    one = answer(finish, **message)
    one["choices"][0]["stop_reason"] = "END"  # as vLLM names the sequence
    made = translated("messages", one, **more)
    assert (made["stop_reason"], made["stop_sequence"]) == expected


def test_what_is_no_json_stays_text() -> None:
    one = answer("tool_calls", tool_calls=[call(0, arguments='{"a": 1'), call(1, arguments="")])
    broken, empty = translated("messages", one)["content"]
    assert broken["input"] == {"unreadable_arguments": '{"a": 1'}
    assert empty["input"] == {}
    item = translated("responses", one)["output"][0]
    assert item["arguments"] == '{"a": 1', "responses hold text as it came"


def test_an_answer_that_was_cut_says_so() -> None:
    made = translated("responses", answer("length", content="so lo"))
    assert (made["status"], made["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )


def test_a_response_repeats_what_was_asked() -> None:
    tools = [{"type": "function", "name": "f", "parameters": {}}]
    made = translated("responses", answer(content="x"), tools=tools, temperature=0.5)
    assert (made["tools"], made["temperature"], made["store"]) == (tools, 0.5, False)


def test_tokens_that_nobody_counted_are_estimated() -> None:
    one = answer(content="four char") | {"usage": None}
    assert translated("messages", one)["usage"] == {
        "input_tokens": 1, "output_tokens": 3,
        "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
    }  # fmt: skip
    assert translated("responses", one)["usage"] is None


@pytest.mark.parametrize("dialect", ["completions", "responses", "messages"])
@pytest.mark.parametrize(
    "garbage",
    [{"choices": []}, {"choices": [{}]}, {"choices": [{"message": {"content": [3]}}]}],
    ids=["no-choice", "no-message", "strange-content"],
)
def test_a_poor_answer_is_an_answer(dialect: str, garbage: dict[str, Any]) -> None:
    assert DIALECTS[dialect].is_answer(translated(dialect, garbage))


def test_whole_answers_are_known_by_what_they_hold() -> None:
    bodies = {
        "chat": b'{"choices": []}',
        "completions": b'{"choices": []}',
        "embeddings": b'{"data": []}',
        "responses": b'{"output": []}',
        "messages": b'{"content": []}',
    }
    for name, body in bodies.items():
        assert DIALECTS[name].read_answer(body) is not None
        for garbage in (b"", b"{", b"[]", b"{}", body.replace(b"[]", b"[3]"), b"[" * 99_999):
            assert DIALECTS[name].read_answer(garbage) is None, (name, garbage[:20])


# Errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (409, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_anthropic_s_errors_have_their_own_kinds(status: int, kind: str) -> None:
    body = DIALECTS["messages"].error("told", "whatever", "budget_exceeded", status)
    error = {"type": kind, "message": "told", "code": "budget_exceeded"}
    assert body == {"type": "error", "error": error}


def test_the_others_err_as_openai_does() -> None:
    expected = {"error": {"message": "m", "type": "t", "param": None, "code": "c"}}
    for name in ("chat", "completions", "embeddings", "responses"):
        assert DIALECTS[name].error("m", "t", "c", 400) == expected


@pytest.mark.parametrize(
    ("body", "message", "kind"),
    [
        (b'{"error": {"message": "m", "type": "t", "code": "c"}}', "m", "c"),
        (b'{"type": "error", "error": {"type": "overloaded_error", "message": "m"}}', "m",
         "overloaded_error"),
        (b'{"error": {"code": 7}}', "the upstream answered 502: 7", "7"),
        (b'{"error": "gone"}', "gone", "http_502"),
        (b"<h1>bad</h1>", "<h1>bad</h1>", "http_502"),
        (b"", "the upstream answered 502 without a word", "http_502"),
    ],
    ids=["openai", "anthropic", "no-words", "text", "html", "nothing"],
)  # fmt: skip
def test_what_upstreams_say_went_wrong(body: bytes, message: str, kind: str) -> None:
    found = read_error(502, body)
    assert (found.message, found.kind) == (message, kind)


# Records


def test_a_translated_call_is_recorded_as_the_chat_that_was_asked() -> None:
    values = {**REQUESTS["messages"], "system": "be brief"}
    one = recorded_answer(DIALECTS["messages"], values, answer(content="x"), is_native=False)
    assert one.request["messages"][0] == {"role": "system", "content": "be brief"}
    assert one.request["model"] == "m"
    assert one.response == answer(content="x")
    assert one.exact == {"api": "anthropic.messages", "request": values}
    assert one.ended


def test_a_native_call_is_recorded_as_a_chat_beside_itself() -> None:
    values = REQUESTS["responses"]
    given = DIALECTS["responses"].answer(answer(content="x"), asked("responses"), "i")
    one = recorded_answer(DIALECTS["responses"], values, given, is_native=True)
    assert one.request == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert chat.answer_text(one.response) == "x"
    assert one.exact == {"api": "openai.responses", "request": values, "response": given}


def test_a_chat_is_its_own_record() -> None:
    body = b"".join(STREAMS["one call"])
    one = recorded_stream(DIALECTS["chat"], REQUESTS["chat"], body, is_native=True)
    assert (one.request, one.exact, one.ended) == (REQUESTS["chat"], None, True)
    assert chat.tool_calls(one.response)[0]["function"]["arguments"] == ARGUMENTS


def test_a_stream_that_was_cut_is_recorded_as_far_as_it_came() -> None:
    body = b"".join(STREAMS["text"][:2])
    one = recorded_stream(DIALECTS["messages"], REQUESTS["messages"], body, is_native=False)
    assert (chat.answer_text(one.response), one.ended) == ("hé", False)


def test_a_call_that_was_refused_is_recorded_all_the_same() -> None:
    values = {**REQUESTS["responses"], "store": True}
    one = recorded_answer(DIALECTS["responses"], values, None, is_native=False)
    assert one.request["messages"] == [{"role": "user", "content": "hi"}]
    assert (one.response, one.ended) == (None, False)


def test_a_text_completion_is_recorded_as_a_chat() -> None:
    given = {"model": "m", "choices": [{"index": 0, "text": "4", "finish_reason": "stop"}]}
    values = {"model": "m", "prompt": "2+2=", "max_tokens": 1}
    one = recorded_answer(DIALECTS["completions"], values, given, is_native=True)
    assert one.request == {
        "model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "2+2="}],
    }  # fmt: skip
    assert chat.answer_message(one.response) == {"role": "assistant", "content": "4"}
    assert one.exact["request"] == values
    assert chat.finish_reason(one.response) == "stop"


@pytest.mark.parametrize(
    ("vector", "dimensions"),
    [([0.5, -0.25, 1.0], 3), ("AAAAPwAAgL4AAIA/", 3), ("AAAAPw==", 1), (None, 0)],
    ids=["numbers", "base64", "padded", "none"],
)
def test_embeddings_are_recorded_without_their_vectors(vector: Any, dimensions: int) -> None:
    data = [{"embedding": vector}] * 2
    given = {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 2}}
    values = {"model": "m", "input": ["one", "two"], "dimensions": 3}
    one = recorded_answer(DIALECTS["embeddings"], values, given, is_native=True)
    assert [message["content"] for message in one.request["messages"]] == ["one", "two"]
    assert one.response == {
        "object": "list", "model": "m", "usage": {"prompt_tokens": 2},
        "embeddings": {"count": 2, "dimensions": dimensions},
    }  # fmt: skip
    assert one.exact is None


def test_a_native_upstream_is_told_its_key_as_it_expects() -> None:
    given = {"anthropic-version": "2024-01-01", "anthropic-beta": "x", "cookie": "no"}
    assert DIALECTS["messages"].headers("k", given) == {
        "x-api-key": "k", "anthropic-version": "2024-01-01", "anthropic-beta": "x",
    }  # fmt: skip
    assert DIALECTS["messages"].headers(None, {}) == {"anthropic-version": "2023-06-01"}
    assert DIALECTS["responses"].headers("k", given) == {"authorization": "Bearer k"}
