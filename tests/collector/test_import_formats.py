"""Each format's own shapes, and the shapes that people write instead, as OpenAI conversations."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.importers.lines import Imported, Reject
from collector.importers.moments import RECORDED_AT
from collector.importers.registry import all_formats, find, guess
from collector.importers.source import Source
from foundation.chat import answer_text, prompt_messages, tool_calls
from foundation.ids import keyed_episode_id, time_of

HUMAN, GPT = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


@pytest.fixture
def read(tmp_path):
    """Read rows through a format: its records and its rejects."""

    def read(format: str, *rows: Any) -> list[Imported | Reject]:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return list(find(format).read(Source(path)))

    return read


def asked(item):
    """The conversation that an answer was given to, as (role, text) pairs."""
    return [(m["role"], m.get("content")) for m in prompt_messages(item.interaction["request"])]


def said(item):
    return answer_text(item.interaction["response"])


def calls(item):
    found = tool_calls(item.interaction["response"])
    return [(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in found]


def test_sharegpt_calls_and_observations_are_tool_calls_and_results(read):
    turns = [
        {"from": "system", "value": "s"},
        HUMAN,
        {"from": "gpt", "value": "Let me see."},
        {"from": "function_call", "value": '[{"name": "f", "arguments": {"a": 1}}, {"name": "g"}]'},
        {"from": "observation", "value": "1"},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "done"},
    ]
    tools = json.dumps([{"name": "f", "parameters": {}}])
    first, second = read("sharegpt", {"conversations": turns, "tools": tools})
    assert asked(first) == [("system", "s"), ("user", "q")]
    assert said(first) == "Let me see."
    assert calls(first) == [("call_0", "f", {"a": 1}), ("call_1", "g", {})]
    request = second.interaction["request"]
    assert request["tools"] == [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    results = [(m["tool_call_id"], m["content"]) for m in request["messages"][3:]]
    assert results == [("call_0", "1"), ("call_1", "2")]
    assert said(second) == "done"
    assert second.interaction["parent_id"] == first.interaction["id"] < second.interaction["id"]
    assert second.interaction["episode_id"] == first.interaction["episode_id"]


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [HUMAN, GPT]},
        {"conversations": json.dumps([HUMAN, GPT])},
        {"conversation": [{"role": "human", "text": "q"}, {"role": "bot", "text": "a"}]},
        {"messages": [USER, ASSISTANT]},
        {"dialog": [{"speaker": "USER", "value": "q"}, {"speaker": "model", "value": "a"}]},
    ],
)
def test_sharegpt_goes_by_many_names(read, row):
    (item,) = read("sharegpt", row)
    assert (asked(item), said(item)) == ([("user", "q")], "a")


def test_content_of_typed_parts_is_words_reasoning_and_calls(read):
    turns = [
        {"role": "system", "content": [{"type": "text", "value": "s"}]},
        {"role": "user", "content": [{"type": "text", "value": "q"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "reasoning", "value": "hm"},
                {"type": "tool_call", "value": '{"name": "f", "arguments": {"a": 1}}'},
            ],
        },
        {"role": "tool", "content": [{"type": "text", "value": "r"}]},
        {"role": "assistant", "content": [{"type": "text", "value": "done"}], "loss_weight": 0.0},
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url"}]},
        {"role": "assistant", "content": [{"type": "text", "text": t} for t in "xy"]},
    ]  # fmt: skip
    for format in ("chat_jsonl", "sharegpt"):
        first, second = read(format, {"messages": turns})
        assert asked(first) == [("system", "s"), ("user", "q")]
        assert calls(first) == [("call_0", "f", {"a": 1})]
        answer = first.interaction["response"]["choices"][0]["message"]
        assert (answer["content"], answer["reasoning_content"]) == (None, "hm")
        assert asked(second)[3:] == [
            ("tool", "r"),
            ("assistant", "done"),
            ("user", turns[5]["content"]),
        ]
        assert said(second) == "xy"


def test_anthropic_blocks_in_messages_are_calls_and_results(read):
    turns = [
        USER,
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "r"}]},
        ASSISTANT,
    ]  # fmt: skip
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    first, second = read("chat_jsonl", {"messages": turns, "tools": tools})
    assert (said(first), calls(first)) == ("I look.", [("t1", "f", {"a": 1})])
    assert asked(second)[-1] == ("tool", "r")
    function = second.interaction["request"]["tools"][0]["function"]
    assert function == {"name": "f", "parameters": {"type": "object"}}


def test_chat_jsonl_reads_old_function_calls_and_what_was_asked_with(read):
    turns = [
        USER,
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        ASSISTANT,
    ]
    row = {"messages": turns, "functions": [{"name": "f"}], "parallel_tool_calls": False}
    first, second = read("chat_jsonl", row)
    assert calls(first) == [("call_0", "f", {})]
    request = second.interaction["request"]
    assert request["parallel_tool_calls"] is False
    assert request["tools"] == [{"type": "function", "function": {"name": "f"}}]
    assert request["messages"][-1] == {
        "role": "tool", "name": "f", "content": "1", "tool_call_id": "call_0",
    }  # fmt: skip


def test_an_openai_message_stays_as_it_is(read):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"b":1,"a":2}'}}
    turns = [
        {"role": "developer", "content": "d", "name": "n"},
        {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "file", "file": {}}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]
    (item,) = read("pairs", {"request": {"messages": turns}, "response": "x"})
    assert item.interaction["request"]["messages"] == turns


def assert_is_a_pair(items):
    winner, loser = items
    assert (asked(winner), said(winner)) == ([("user", "q")], "good")
    assert (asked(loser), said(loser)) == ([("user", "q")], "bad")
    statement = winner.feedback[0]
    assert statement["kind"] == "preference"
    assert statement["interaction_id"] == winner.interaction["id"]
    assert statement["loser_interaction_id"] == loser.interaction["id"]
    assert winner.interaction["episode_id"] == loser.interaction["episode_id"]


GOOD, BAD = ({"role": "assistant", "content": text} for text in ("good", "bad"))


@pytest.mark.parametrize(
    ("format", "row"),
    [
        ("dpo", {"prompt": "q", "chosen": "good", "rejected": "bad"}),
        ("dpo", {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"}),
        ("dpo", {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}),
        ("dpo", {"prompt": "q", "chosen": [USER, GOOD], "rejected": [USER, BAD]}),
        ("dpo", {"chosen": [USER, GOOD], "rejected": [USER, BAD]}),
        ("dpo", {"question": "q", "chosen": json.dumps([GOOD]), "rejected": BAD}),
        (
            "dpo",
            {
                "conversations": [HUMAN],
                "chosen": {"from": "gpt", "value": "good"},
                "rejected": {"from": "gpt", "value": "bad"},
            },
        ),
        (
            "dpo",
            {
                "chosen": "\n\nHuman: q\n\nAssistant: good",
                "rejected": "\n\nHuman: q\n\nAssistant: bad",
            },
        ),
        (
            "chat_jsonl",
            {
                "input": {"messages": [USER], "tools": []},
                "preferred_output": [GOOD],
                "non_preferred_output": [BAD],
            },
        ),
    ],
)
def test_pairs_become_two_interactions_and_a_preference(read, format, row):
    assert_is_a_pair(read(format, row))


def test_scores_of_a_pair_become_metrics_and_earlier_answers_stay_context(read):
    row = {
        "system": "s",
        "messages": [USER, ASSISTANT, {"role": "user", "content": "more"}],
        "chosen": "x",
        "rejected": "y",
        "score_chosen": 8.5,
        "score_rejected": 2,
    }
    winner, loser = read("dpo", row)
    assert [turn for turn, _ in asked(winner)] == ["system", "user", "assistant", "user"]
    assert [f["value"] for f in (winner.feedback[1], loser.feedback[0])] == [8.5, 2.0]


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ({"messages": [USER, ASSISTANT], "label": True}, 1.0),
        ({"conversations": [HUMAN, GPT], "kto_tag": "false"}, 0.0),
        ({"prompt": "q", "completion": "a", "label": 0}, 0.0),
        ({"prompt": [USER], "completion": [ASSISTANT], "label": True}, 1.0),
        ({"instruction": "q", "input": "", "output": "a", "kto_tag": True}, 1.0),
    ],
)
def test_labels_become_successes(read, row, value):
    (item,) = read("kto", row)
    assert (asked(item), said(item)) == ([("user", "q")], "a")
    (statement,) = item.feedback
    assert (statement["kind"], statement["value"], statement["source"]) == (
        "success",
        value,
        "human",
    )
    assert statement["interaction_id"] == item.interaction["id"]


def test_alpaca_joins_instruction_and_input_and_learns_from_history(read):
    row = {"instruction": "i", "input": "n", "output": "o", "history": [["a", "b"]], "system": "s"}
    first, second = read("alpaca", row)
    assert (asked(first), said(first)) == ([("system", "s"), ("user", "a")], "b")
    assert asked(second) == [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "i\nn")]
    assert said(second) == "o"
    (dolly,) = read("alpaca", {"instruction": "i", "context": "n", "response": "o", "input": None})
    assert (asked(dolly), said(dolly)) == ([("user", "i\nn")], "o")


REQUEST = {"model": "m", "messages": [USER], "temperature": 0.5}
RESPONSE = {"id": "r", "model": "m-1", "choices": [{"message": ASSISTANT, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    "row",
    [
        {"request": REQUEST, "response": RESPONSE},
        {"request": json.dumps(REQUEST), "response": json.dumps(RESPONSE)},
        {"reqPayload": REQUEST, "respPayload": RESPONSE, "tags": {"a": "b"}},
        {"request": "q", "response": "a"},
        {"request": [USER], "response": ASSISTANT},
        {"prompt": "q", "completion": "a"},
        {"request": {"prompt": "q"}, "response": {"choices": [{"text": "a"}]}},
        {
            "request": {"model": "m", "input": "q"},
            "response": {"output": [{"type": "message", "role": "assistant", "content": [
                {"type": "output_text", "text": "a"}]}]},
        },
        {
            "request": {"contents": [{"role": "user", "parts": [{"text": "q"}]}]},
            "response": {"candidates": [{"content": {"role": "model", "parts": [{"text": "a"}]}}]},
        },
    ],
)  # fmt: skip
def test_pairs_of_any_provider_are_chat_completions(read, row):
    (item,) = read("pairs", row)
    assert (asked(item), said(item)) == ([("user", "q")], "a")


def test_a_pair_keeps_times_usage_and_errors(read):
    times = {"requestedAt": "2024-05-05T10:00:00Z", "receivedAt": "2024-05-05T10:00:02Z"}
    message = {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    body = {"model": "c", "system": "s", "max_tokens": 5, "messages": [USER]}
    good, failed = read(
        "pairs",
        {"reqPayload": body, "respPayload": message, **times},
        {"reqPayload": body, "respPayload": {"error": {"type": "overloaded"}}, "statusCode": 529},
    )
    assert asked(good) == [("system", "s"), ("user", "q")]
    assert calls(good) == [("t", "f", {})]
    record = good.interaction
    assert (record["latency_ms"], record["gen_ai_usage_output_tokens"]) == (2000.0, 4)
    assert record["gen_ai_request_max_tokens"] == 5
    assert record["started_at"] == "2024-05-05T10:00:00+00:00"
    failure = failed.interaction
    assert (failure["status"], failure["error_type"]) == ("error", "overloaded")
    assert failure["completed"] is False


def test_a_batchs_output_finds_its_requests_beside(tmp_path):
    bodies = [{"model": "m", "messages": [{"role": "user", "content": f"q{n}"}]} for n in (1, 2)]
    (tmp_path / "in.jsonl").write_text(
        "".join(
            json.dumps({"custom_id": f"c{n}", "method": "POST", "url": "/v1/x", "body": body})
            + "\n"
            for n, body in enumerate(bodies)
        )
    )
    output = tmp_path / "out.jsonl"
    rows = [
        {"custom_id": "c1", "response": {"status_code": 200, "body": RESPONSE}, "error": None},
        {"custom_id": "c0", "response": None, "error": {"code": "expired"}},
        {"custom_id": "gone", "response": {"body": RESPONSE}},
    ]
    output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    good, failed, orphan = find("pairs").read(Source(output))
    assert (asked(good), said(good)) == ([("user", "q2")], "a")
    assert failed.interaction["error_type"] == "expired"
    assert "custom_id: got 'gone'" in orphan.reason
    requests = list(find("pairs").read(Source(tmp_path / "in.jsonl")))
    assert [r.reason.partition(":")[0] for r in requests] == ["no_answer"] * 2


def test_tools_in_a_message_are_the_request_s(read):
    offered = json.dumps([{"name": "f", "description": "d"}])
    turns = [
        {"role": "system", "content": [{"type": "tools", "value": offered}]},
        USER,
        {"role": "assistant", "content": "a", "thinking": "hm"},
    ]
    (item,) = read("chat_jsonl", {"messages": turns})
    assert asked(item) == [("user", "q")]
    assert item.interaction["request"]["tools"][0]["function"]["name"] == "f"
    message = item.interaction["response"]["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "a", "reasoning_content": "hm"}


def test_a_search_s_answer_is_read_hit_by_hit(read):
    good = {"workload_id": "coder", "request": REQUEST, "response": RESPONSE, "timestamp": 1.7e9}
    hits = [{"_source": good}, {"_source": good | {"request": {"messages": []}}}, None]
    first, second, third = read("nvidia_flywheel", {"hits": {"total": 3, "hits": hits}})
    assert (said(first), first.interaction["role"]) == ("a", "coder")
    assert [second.reason.partition(":")[0], third.reason.partition(":")[0]] == ["malformed"] * 2


def test_nvidia_workloads_are_roles_or_task_types(read):
    called = {"function": {"name": "f", "arguments": {"a": 1}}, "type": "function"}
    response = {"choices": [{"message": {"content": "", "tool_calls": [called]}}]}
    row = {
        "timestamp": 1746138417,
        "workload_id": "aiva_1",
        "client_id": "dev",
        "request": REQUEST,
        "response": response,
    }
    plain, hit = read(
        "nvidia_flywheel", row, {"_id": 1, "_source": row | {"workload_id": "tester"}}
    )
    record = plain.interaction
    assert (record["role"], record["task_type"], record["unit_id"]) == ("coder", "aiva_1", "dev")
    assert record["started_at"] == "2025-05-01T22:26:57+00:00"
    assert calls(plain) == [("call_0", "f", {"a": 1})]
    assert (hit.interaction["role"], hit.interaction.get("task_type")) == ("tester", None)


SPEND_LOG = {
    "request_id": "chatcmpl-1",
    "call_type": "acompletion",
    "spend": 2e-5,
    "prompt_tokens": 10,
    "completion_tokens": 20,
    "startTime": "2025-03-24T22:51:06.247671Z",
    "endTime": "2025-03-24T22:51:07.247671Z",
    "model": "gpt-x",
    "custom_llm_provider": "openai",
    "metadata": json.dumps({"spend_logs_metadata": {"agent_role": "tester", "task_type": "t"}}),
    "messages": json.dumps([USER]),
    "response": json.dumps(RESPONSE),
    "proxy_server_request": "{}",
    "session_id": "s1",
    "status": "success",
}


def test_litellm_spend_logs_hold_json_in_texts(read):
    (item,) = read("litellm", SPEND_LOG)
    assert (asked(item), said(item)) == ([("user", "q")], "a")
    record = item.interaction
    assert (record["role"], record["task_type"], record["cost_usd"]) == ("tester", "t", 2e-5)
    assert (record["latency_ms"], record["gen_ai_provider_name"]) == (1000.0, "openai")
    assert record["gen_ai_usage_input_tokens"] == 10
    assert record["episode_id"] == str(keyed_episode_id("default", "s1"))
    whole = {"body": {"model": "alias", "messages": [USER], "tools": [{"name": "f"}]}}
    row = SPEND_LOG | {"messages": "{}", "proxy_server_request": json.dumps(whole)}
    (item,) = read("litellm", row)
    assert item.interaction["request"]["tools"][0]["function"]["name"] == "f"


def test_litellm_payloads_keep_parameters_streams_and_failures(read):
    payload = {
        "id": "x",
        "call_type": "completion",
        "stream": True,
        "startTime": 1737706846.0,
        "completionStartTime": 1737706846.5,
        "endTime": 1737706848.0,
        "model": "gpt-x",
        "model_group": "alias",
        "messages": [USER],
        "response": RESPONSE,
        "model_parameters": {"temperature": 0.1, "tools": [{"type": "function"}]},
        "response_cost": 0.5,
        "status": "success",
        "metadata": {"requester_metadata": {"role": "reviewer"}},
    }
    failed = payload | {
        "status": "failure",
        "response": None,
        "error_information": {"error_class": "RateLimitError"},
        "metadata": {"requester_metadata": {"role": "internal_user"}},
    }
    good, bad = read("litellm", payload, failed)
    record = good.interaction
    assert (record["ttft_ms"], record["latency_ms"], record["cost_usd"]) == (500.0, 2000.0, 0.5)
    assert record["gen_ai_request_temperature"] == 0.1
    assert (record["gen_ai_request_model"], record["role"]) == ("alias", "reviewer")
    assert (bad.interaction["status"], bad.interaction["error_type"]) == ("error", "RateLimitError")
    assert bad.interaction["role"] == "coder"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"messages": "{}", "response": "{}"}, "no_messages"),
        ({"response": "{}"}, "no_answer"),
        ({"call_type": "aembedding"}, "not_a_chat"),
        ({"messages": [{"role": "user", "content": "redacted-by-litellm"}]}, "redacted"),
    ],
)
def test_litellm_rows_that_teach_nothing_are_rejected(read, changed, code):
    (reject,) = read("litellm", SPEND_LOG | changed)
    assert reject.reason.startswith(f"{code}: ")


DATAPOINT = {
    "function_name": "extract",
    "id": "0196374b-0d7d-7422-b6dc-e94c572cc79b",
    "episode_id": "0196374b-0d7d-7422-b6dc-e94c572cc79c",
    "input": json.dumps(
        {
            "system": {"name": "A"},
            "messages": [{"role": "user", "content": [{"type": "text", "value": "hi"}]}],
        }
    ),
    "output": json.dumps({"raw": '{"a":1}', "parsed": {"a": 1}}),
    "output_schema": '{"type": "object"}',
    "is_deleted": False,
}


def test_tensorzero_json_datapoints(read):
    (item,) = read("tensorzero", DATAPOINT)
    assert asked(item) == [("system", '{"name": "A"}'), ("user", "hi")]
    assert said(item) == '{"a":1}'
    record = item.interaction
    assert (record["role"], record["task_type"]) == ("coder", "extract")
    assert record["episode_id"] == DATAPOINT["episode_id"]
    assert record["started_at"].startswith("2025-04-15T02:33:07.709")
    assert record["request"]["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_tensorzero_chat_datapoints(read):
    row = DATAPOINT | {
        "function_name": "tester",
        "input": {
            "messages": [
                {"role": "user", "content": [{"type": "template", "arguments": {"topic": "x"}}]},
                {"role": "assistant", "content": [
                    {"type": "tool_call", "id": "c1", "name": "f", "arguments": '{"a": 1}'}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "id": "c1", "name": "f", "result": "42"},
                    {"type": "image", "image": {"url": "https://x.org/a.png"}}]},
            ]
        },
        "output": [
            {"type": "thought", "text": "mm"},
            {"type": "text", "text": "so"},
            {"type": "tool_call", "id": "c2", "raw_name": "f", "raw_arguments": '{"b": 2}'},
        ],
        "tool_params": json.dumps({"tools_available": [{"name": "f"}], "tool_choice": "auto"}),
    }  # fmt: skip
    (item,) = read("tensorzero", row)
    image = {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}
    assert asked(item) == [
        ("user", '{"topic": "x"}'), ("assistant", None), ("tool", "42"), ("user", [image]),
    ]  # fmt: skip
    assert (said(item), calls(item)) == ("so", [("c2", "f", {"b": 2})])
    assert item.interaction["response"]["choices"][0]["message"]["reasoning_content"] == "mm"
    assert item.interaction["request"]["tool_choice"] == "auto"
    assert item.interaction["role"] == "tester"
    empty, deleted = read("tensorzero", row | {"output": None}, row | {"is_deleted": True})
    assert empty.reason.startswith("no_answer: ")
    assert deleted.reason.startswith("deleted: ")


@pytest.mark.parametrize(
    ("format", "row", "reason"),
    [
        ("chat_jsonl", {"messages": []}, "malformed: messages: got []"),
        ("chat_jsonl", {"messages": [USER]}, "no_answer: "),
        ("chat_jsonl", {"messages": [USER, {**ASSISTANT, "content": " "}]}, "no_answer: "),
        ("sharegpt", {"conversations": [{"from": "alien", "value": "q"}, GPT]}, "malformed: conv"),
        ("sharegpt", {"text": "x"}, "malformed: got the fields text"),
        ("alpaca", {"instruction": "i", "output": ""}, "no_answer: output"),
        ("alpaca", {"instruction": "", "output": "o"}, "malformed: instruction"),
        ("alpaca", {"instruction": "i", "output": "o", "history": [1]}, "malformed: history.0"),
        ("dpo", {"prompt": "q", "chosen": "x", "rejected": ""}, "no_answer: "),
        ("dpo", {"prompt": "q", "chosen": "x", "rejected": "x"}, "malformed: chosen, rejected"),
        ("dpo", {"chosen": "x", "rejected": "y"}, "malformed: got the fields"),
        ("kto", {"messages": [USER], "label": True}, "no_answer: "),
        ("kto", {"prompt": "q", "completion": "a", "label": "maybe"}, "malformed: label: got"),
        ("pairs", {"request": {"messages": []}, "response": "x"}, "malformed: request"),
        ("pairs", {"request": REQUEST, "response": {"choices": []}}, "no_answer: response"),
        ("pairs", {"a": 1}, "malformed: got the fields a"),
        ("tensorzero", {"input": 3, "output": "x"}, "malformed: input: got 3"),
    ],
)
def test_what_is_wrong_with_a_row_is_named(read, format, row, reason):
    (reject,) = read(format, row)
    assert isinstance(reject, Reject)
    assert reject.reason.startswith(reason)


def test_undated_rows_get_the_fixed_date_and_dated_ones_their_own(read):
    undated, dated = read(
        "chat_jsonl",
        {"messages": [USER, ASSISTANT]},
        {"messages": [USER, ASSISTANT], "created_at": "2023-02-03 04:05:06"},
    )
    assert undated.interaction["started_at"] == RECORDED_AT.isoformat()
    moment = datetime(2023, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert dated.interaction["started_at"] == moment.isoformat()
    assert time_of(UUID(dated.interaction["id"])) == moment
    (odd,) = read("chat_jsonl", {"messages": [USER, ASSISTANT], "date": 20240101, "time": 3})
    assert odd.interaction["started_at"] == RECORDED_AT.isoformat()


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("chat_jsonl", {"messages": [USER, ASSISTANT]}),
        ("sharegpt", {"conversations": [HUMAN, GPT]}),
        ("alpaca", {"instruction": "i", "input": "", "output": "o"}),
        ("dpo", {"prompt": "q", "chosen": "x", "rejected": "y"}),
        ("kto", {"messages": [USER, ASSISTANT], "label": True}),
        ("pairs", {"request": REQUEST, "response": RESPONSE}),
        ("nvidia_flywheel", {"workload_id": "w", "request": {}, "response": {}}),
        ("litellm", SPEND_LOG),
        ("tensorzero", DATAPOINT),
    ],
)
def test_a_format_is_told_by_its_first_row(tmp_path, name, row):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([row], indent=1))
    assert guess(path).name == name


TEXTS = ("", "q", "[]", "{}", "user", "assistant", "gpt", "tool", "text", "tool_call")
NAMES = ("role", "content", "from", "value", "type", "name", "function", "messages", "arguments")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(NAMES),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
ROWS = {
    "chat_jsonl": {"messages": [USER, ASSISTANT], "tools": []},
    "sharegpt": {"conversations": [HUMAN, GPT], "tools": "[]", "system": ""},
    "alpaca": {"instruction": "i", "input": "", "output": "o", "history": []},
    "dpo": {"prompt": "q", "chosen": "x", "rejected": "y"},
    "kto": {"messages": [USER, ASSISTANT], "label": True},
    "pairs": {"request": REQUEST, "response": RESPONSE, "error": None, "timestamp": 1},
    "nvidia_flywheel": {"request": REQUEST, "response": RESPONSE, "workload_id": "w"},
    "litellm": SPEND_LOG,
    "tensorzero": DATAPOINT,
}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("format", sorted(ROWS))
def test_no_row_ends_an_import(tmp_path_factory, format, data):
    """Whatever stands in a field, the row is understood or rejected by its own fault."""
    row = dict(ROWS[format])
    for name in data.draw(st.sets(st.sampled_from(sorted(row)), min_size=1, max_size=3)):
        row[name] = data.draw(json_values)
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(ROWS[format]) + "\n")
    items = list(find(format).read(Source(path)))
    assert {item.line for item in items} == {1, 2}
    assert all(isinstance(item, Imported) for item in items if item.line == 2)
    rejects = [item.reason for item in items if isinstance(item, Reject)]
    assert not [reason for reason in rejects if reason.startswith("unexpected")]


def test_every_format_says_what_it_maps():
    assert all("→" in format.maps or format.name == "mapped" for format in all_formats())
