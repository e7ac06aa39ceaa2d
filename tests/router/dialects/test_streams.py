"""A translated stream says what the chat's stream said, however its bytes are cut up."""

import json
from typing import Any

import pytest
from dialect_chats import ARGUMENTS, DONE, REQUESTS, STREAMS, asked, call_chunks, chunk, usage
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.shapes import sse
from foundation import chat
from router.dialects import DIALECTS, recorded_stream
from router.dialects.chat import as_event

TRANSLATED = ("completions", "responses", "messages")


def translated(dialect: str, pieces: list[bytes], **more: Any) -> bytes:
    one = DIALECTS[dialect].translator(asked(dialect, stream=True, **more), "i")
    return b"".join([*(one.feed(piece) for piece in pieces), one.end()])


def told(dialect: str, body: bytes) -> Any:
    return DIALECTS[dialect].tell(list(sse.events(body)))


def types(body: bytes) -> list[str]:
    return [event.data["type"] for event in sse.events(body)]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("dialect", ["responses", "messages"])
def test_read_back_it_is_the_chat(dialect: str, stream: str) -> None:
    body = b"".join(STREAMS[stream])
    before = recorded_stream(DIALECTS["chat"], REQUESTS["chat"], body, is_native=True)
    own = translated(dialect, [body])
    one = recorded_stream(DIALECTS[dialect], REQUESTS[dialect], own, is_native=True)
    assert before.ended
    assert one.ended
    for response in (before.response, one.response):  # what chats alone tell apart
        response["choices"][0]["message"].setdefault("content", None)
    assert chat.answer_message(one.response) == chat.answer_message(before.response)
    assert chat.finish_reason(one.response) == chat.finish_reason(before.response)
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert one.response["usage"][name] == before.response["usage"][name]
    assert one.response["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    assert one.response["model"] == before.response["model"] == "served"


@pytest.mark.parametrize("dialect", TRANSLATED)
@settings(deadline=None, max_examples=40)
@given(stream=st.sampled_from(sorted(STREAMS)), cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_it_is_the_same_however_it_is_cut_up(dialect: str, stream: str, cuts: list[int]) -> None:
    body = b"".join(STREAMS[stream])
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert translated(dialect, pieces) == translated(dialect, [body])


@pytest.mark.parametrize("dialect", ["responses", "messages"])
def test_arguments_arrive_byte_for_byte_and_part_by_part(dialect: str) -> None:
    body = translated(dialect, STREAMS["one call"])
    parts = [
        event.data["delta"] if dialect == "responses" else event.data["delta"]["partial_json"]
        for event in sse.events(body)
        if event.data["type"] in ("response.function_call_arguments.delta", "content_block_delta")
    ]
    assert "".join(parts) == ARGUMENTS
    assert len(parts) > 5


def test_messages_are_said_in_anthropic_s_order() -> None:
    body = translated("messages", STREAMS["text and two calls"])
    order = [kind for kind in types(body) if kind != "content_block_delta"]
    block = ["content_block_start", "content_block_stop"]
    assert order == ["message_start", "ping", *block * 3, "message_delta", "message_stop"]
    names = [event.name for event in sse.events(body)]
    assert names == types(body), "its clients read the names of events"
    starts = [e.data for e in sse.events(body) if e.name == "content_block_start"]
    assert [start["index"] for start in starts] == [0, 1, 2]
    assert starts[1]["content_block"] == {
        "type": "tool_use", "id": "call_0", "name": "write", "input": {},
    }  # fmt: skip


def test_responses_are_said_in_openai_s_order() -> None:
    body = translated("responses", STREAMS["text"])
    assert [kind.removeprefix("response.") for kind in types(body)] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    events = list(sse.events(body))
    assert [event.data["sequence_number"] for event in events] == list(range(10))
    assert events[0].data["response"]["output"] == []
    assert events[0].data["response"]["status"] == "in_progress"
    assert events[2].data["item"]["content"] == [], "what is to come is not said before"


def test_parts_of_two_calls_that_come_in_turns_keep_their_places() -> None:
    first, second = call_chunks(0, '{"a": 1}'), call_chunks(1, '{"b": 2}')
    mixed = [part for pair in zip(first, second, strict=True) for part in pair]
    stream = [*mixed, chunk("tool_calls"), DONE]
    for dialect in ("responses", "messages"):
        answer = DIALECTS[dialect].chat_response(told(dialect, translated(dialect, stream)).answer)
        calls = [call["function"]["arguments"] for call in chat.tool_calls(answer)]
        assert calls == ['{"a": 1}', '{"b": 2}']


def test_calls_without_an_index_or_an_id_are_told_apart() -> None:
    def whole(identifier: str, name: str) -> bytes:
        function = {"name": name, "arguments": "{}"}
        return chunk(tool_calls=[{"id": identifier, "type": "function", "function": function}])

    stream = [whole("a", "f"), whole("b", "g"), chunk("stop"), DONE]
    nameless = [chunk(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{}"}}]),
                chunk("stop"), DONE]  # fmt: skip
    for dialect in ("responses", "messages"):
        answer = DIALECTS[dialect].chat_response(told(dialect, translated(dialect, stream)).answer)
        named = [(call["id"], call["function"]["name"]) for call in chat.tool_calls(answer)]
        assert named == [("a", "f"), ("b", "g")]
        assert chat.finish_reason(answer) == "tool_calls", "some servers say stop"
        made = DIALECTS[dialect].chat_response(told(dialect, translated(dialect, nameless)).answer)
        assert chat.tool_calls(made)[0]["id"]


def test_a_completion_s_chunks_are_text() -> None:
    body = translated("completions", STREAMS["text"], stream_options={"include_usage": True})
    chunks = [event.data for event in sse.events(body)]
    assert {one["object"] for one in chunks} == {"text_completion"}
    assert "".join(one["choices"][0]["text"] for one in chunks if one["choices"]) == "héllo"
    assert chunks[-1]["usage"]["prompt_tokens"] == 12
    assert body.endswith(DONE)
    assert b"usage" not in translated("completions", STREAMS["text"]), "it was not asked for"


def test_a_completion_has_as_many_choices_as_were_asked_for() -> None:
    def of(index: int, text: str, finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
        return as_event({"choices": [choice]})

    stream = [of(0, "a"), of(1, "b"), of(0, "c", "stop"), of(1, "", "stop"), DONE]
    answer = told("completions", translated("completions", stream, n=2)).answer
    assert [choice["text"] for choice in answer["choices"]] == ["ac", "b"]


ERROR = as_event({"error": {"message": "overloaded", "code": "busy"}})


@pytest.mark.parametrize("dialect", TRANSLATED)
@pytest.mark.parametrize(
    ("stream", "message"),
    [
        pytest.param([chunk(content="ha"), ERROR, chunk(content="lf")], "overloaded", id="said"),
        pytest.param([chunk(content="ha")], "before its answer was complete", id="cut"),
        pytest.param([], "before its answer was complete", id="empty"),
        pytest.param([b"<html>", b"data: 3\n\ndata: {tr\n"], "was complete", id="garbage"),
    ],
)
def test_a_stream_that_breaks_ends_with_an_error(
    dialect: str, stream: list[bytes], message: str
) -> None:
    body = translated(dialect, stream)
    seen = told(dialect, body)
    assert message in seen.error["message"]
    assert not seen.ended
    assert b"lf" not in body, "nothing is said after an error"
    assert not sse.is_done(body)


@pytest.mark.parametrize("dialect", TRANSLATED)
def test_nothing_is_said_after_the_end(dialect: str) -> None:
    one = DIALECTS[dialect].translator(asked(dialect, stream=True), "i")
    assert one.feed(b"".join(STREAMS["text"]))
    assert one.ended
    assert one.feed(chunk(content="more") + ERROR) == b""
    assert one.end() == one.fail("late", "late") == b""


def test_an_endless_line_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr("router.dialects.deltas.LONGEST_LINE", 1000)
    one = DIALECTS["messages"].translator(asked("messages", stream=True), "i")
    said = b"".join(one.feed(b"data: " + b"x" * 100) for _ in range(20))
    assert told("messages", said).error["message"] == "an event without an end"


CHUNK = ["choices", "usage", "error", "model", "created"]
strange = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "delta", "tool_calls", "index", "function", "arguments", "id",
                         "content", "usage", "finish_reason", "name", "prompt_tokens", "model"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize("dialect", TRANSLATED)
@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.dictionaries(st.sampled_from(CHUNK), strange), max_size=4))
def test_no_garbage_breaks_it(dialect: str, values: list[dict[str, Any]]) -> None:
    body = translated(dialect, [as_event(value) for value in values] + [DONE])
    assert all(isinstance(event.data, dict) for event in sse.events(body))
    body.decode("ascii")


def test_half_a_character_passes() -> None:
    first, second = chunk(content="1"), chunk("stop", content="2")
    halves = [first.replace(b'"1"', b'"\\ud83d"'), second.replace(b'"2"', b'"\\ude00"')]
    body = translated("messages", halves)
    text = "".join(
        event.data["delta"]["text"]
        for event in sse.events(body)
        if event.name == "content_block_delta"
    )
    assert json.dumps(text) == '"\\ud83d\\ude00"'


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_the_end_of_a_native_stream_is_seen_when_it_is_complete(dialect: str) -> None:
    endings = {
        "responses": b'event: response.completed\r\ndata: {"type": "response.completed"}\r\n\r\n',
        "messages": b'event: message_stop\ndata: {"type": "message_stop"}\n\n',
    }
    ending = endings.get(dialect, b"data: [DONE]")
    before = as_event({"text": "data: [DONE] event: message_stop event: response.completed\n\n"})
    whole = before + ending
    for width in (1, 2, 7, len(whole)):
        watch = DIALECTS[dialect].watch_end()
        pieces = [whole[i : i + width] for i in range(0, len(whole), width)]
        seen = [watch.feed(piece) for piece in pieces]
        assert seen == [False] * (len(pieces) - 1) + [True], width
    assert DIALECTS[dialect].watch_end().feed(ending), "also as the first bytes"
    assert usage()
