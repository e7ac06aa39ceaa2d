"""What is stored of each API can be read by what comes after: streams, shapes, lines as sent."""

import json

from collector.record import AsSent, snapshot
from collector.shapes import messages, responses, sse
from collector.streams import assemble
from foundation import chat


def test_events_are_read_whatever_the_line_ends_and_wherever_it_is_cut():
    body = b'event: a\r\ndata: {"x":\r\ndata: 1}\r\n\r\n: comment\n\ndata: {"y": 2}\n\ndata: {"z'
    first, second = sse.events(body)
    assert (first.name, first.data) == ("a", {"x": 1})
    assert (second.name, second.data) == (None, {"y": 2})
    assert body[: second.end].endswith(b'{"y": 2}\n\n')
    assert sse.is_done(b"data: [DONE]\n\n")
    assert not sse.is_done(body)


def test_events_that_no_blank_line_parts_are_read_all_the_same():
    body = b'data: {]\ndata: {"x": 1}\ndata: 3\ndata: {"y": 2}\ndata: [DONE]\n\n'
    assert [event.data for event in sse.events(body)] == [{"x": 1}, {"y": 2}]


def test_json_as_sent_becomes_one_line_of_the_same_meaning():
    pretty = AsSent(json.dumps({"b": [1.50, None], "a": "x\ny"}, indent=2).encode())
    line = snapshot({"kind": "interaction", "request": pretty, "at": 1.5, "response": None})
    assert b"\n" not in line
    assert json.loads(line) == {
        "kind": "interaction", "at": 1.5, "response": None, "request": json.loads(pretty),
    }  # fmt: skip
    assert list(json.loads(line)["request"]) == ["b", "a"]


def delta(**given):
    return {"choices": [{"index": 0, "delta": given, "finish_reason": None}]}


def test_tool_calls_without_an_index_stay_apart():
    def call(name):
        return {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}

    answer = assemble([delta(tool_calls=[call("a")]), delta(tool_calls=[call("b")])])
    assert [one["id"] for one in answer["choices"][0]["message"]["tool_calls"]] == ["a", "b"]


def test_custom_tools_reasoning_and_repeated_roles_are_joined():
    custom = {"index": 0, "id": "c", "type": "custom", "custom": {"name": "sh", "input": "l"}}
    answer = assemble(
        [
            delta(role="assistant", reasoning_content="h"),
            delta(role="assistant", reasoning_content="m"),
            delta(tool_calls=[custom]),
            delta(tool_calls=[{"index": 0, "custom": {"input": "s"}}]),
        ]
    )
    message = answer["choices"][0]["message"]
    assert (message["role"], message["reasoning_content"]) == ("assistant", "hm")
    assert message["tool_calls"][0]["custom"] == {"name": "sh", "input": "ls"}


def test_what_curation_reads_of_a_message_is_there():
    blocks = [
        {"type": "text", "text": "I write"},
        {"type": "tool_use", "id": "t", "name": "write", "input": {"a": 1}},
    ]
    answer = messages.chat_response({"content": blocks, "stop_reason": "tool_use"})
    assert chat.answer_text(answer) == "I write"
    assert len(chat.tool_calls(answer)) == 1
    assert chat.finish_reason(answer) == "tool_calls"
    asked = messages.chat_request(
        {"system": [{"type": "text", "text": "s"}], "messages": [{"role": "user", "content": "u"}]}
    )
    assert [m["role"] for m in chat.prompt_messages(asked)] == ["system", "user"]
    assert chat.joined(chat.prompt_messages(asked)) == "u"


def test_what_curation_reads_of_a_response_is_there():
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "done"}]},
    ]
    details = {"reason": "max_output_tokens"}
    answer = responses.chat_response(
        {"output": output, "status": "incomplete", "incomplete_details": details}
    )
    assert chat.answer_text(answer) == "done"
    assert answer["choices"][0]["message"]["reasoning_content"] == "hm"
    assert chat.finish_reason(answer) == "length"
    asked = responses.chat_request({"input": "u", "text": {"format": {"type": "json_object"}}})
    assert chat.prompt_messages(asked) == [{"role": "user", "content": "u"}]
    assert asked["response_format"] == {"type": "json_object"}
