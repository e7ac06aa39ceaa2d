import json
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, select

from collector.direct import DirectTransport
from collector.importers import get, run_import
from collector.importers.lines import Imported, Reject
from collector.importers.source import Source
from collector.ingest import rejection_of
from collector.tables import Feedback, Interaction, InteractionPayload
from foundation.chat import text_of

TRACE = {
    "id": "t1",
    "timestamp": "2025-03-01T10:00:00Z",
    "name": "fix the build",
    "userId": "u-7",
    "sessionId": "s-1",
    "tags": ["role:tester"],
}
CALL = {
    "id": "g1",
    "traceId": "t1",
    "type": "GENERATION",
    "name": "chat",
    "startTime": "2025-03-01T10:00:01.000Z",
    "endTime": "2025-03-01T10:00:03.500Z",
    "completionStartTime": "2025-03-01T10:00:01.250Z",
    "model": "gpt-4o",
    "modelParameters": {"temperature": "0.2", "max_tokens": 64, "top_p": "null", "odd": 1},
    "input": json.dumps(json.dumps([{"role": "user", "content": "Hi"}])),
    "output": '{"role": "assistant", "content": "Hello"}',
    "usageDetails": {"input": 3, "output": 2, "total": 5},
    "costDetails": {"total": 0.0005},
    "promptName": "greeting",
    "promptVersion": 4,
}
SPAN = {"id": "o0", "traceId": "t1", "type": "SPAN", "startTime": "2025-03-01T10:00:00Z"}


def write(path: Path, value: Any, lines: bool = False) -> Path:
    rows = value if lines else [value]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> tuple[list[Imported], list[Reject]]:
    found = list(get("langfuse")(Source(path)))
    return (
        [item for item in found if isinstance(item, Imported)],
        [item for item in found if isinstance(item, Reject)],
    )


def read_one(path: Path) -> dict[str, Any]:
    (imported,), rejects = read(path)
    assert rejects == []
    return imported.interaction


def asked_and_answered(tmp_path: Path, **fields: Any) -> tuple[list[Any], Any]:
    record = read_one(write(tmp_path / "t.json", {"trace": TRACE, "observations": [CALL | fields]}))
    choices = (record["response"] or {"choices": []})["choices"]
    return record["request"]["messages"], [choice["message"] for choice in choices]


def test_a_generation_becomes_an_interaction_of_its_trace(tmp_path: Path) -> None:
    document = {"trace": TRACE, "observations": [SPAN, CALL]}
    record = read_one(write(tmp_path / "t.json", document))
    assert record["request"] == {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.2,
        "max_tokens": 64,
    }
    (choice,) = record["response"]["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello"}
    assert record["role"] == "tester"
    assert (record["latency_ms"], record["ttft_ms"], record["cost_usd"]) == (2500, 250, 0.0005)
    assert (record["gen_ai_usage_input_tokens"], record["gen_ai_usage_output_tokens"]) == (3, 2)
    assert (record["gen_ai_prompt_name"], record["gen_ai_prompt_version"]) == ("greeting", "4")
    assert (record["unit_id"], record["gen_ai_conversation_id"]) == ("u-7", "s-1")
    assert record["key"] == "g1"
    assert record["started_at"] == "2025-03-01T10:00:01+00:00"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda trace, rows: {"trace": trace, "observations": rows},
        lambda trace, rows: {**trace, "observations": rows},
        lambda trace, rows: {"data": [{**trace, "observations": rows}], "meta": {"page": 1}},
        lambda trace, rows: [{**trace, "observations": rows}],
        lambda trace, rows: {
            "batch": [
                {"id": "e1", "type": "trace-create", "body": trace},
                *({"id": "e", "type": f"{r['type'].lower()}-create", "body": r} for r in rows),
            ]
        },
    ],
    ids=["document", "trace", "page", "list", "batch"],
)
def test_every_shape_of_the_api_gives_the_same_record(tmp_path: Path, wrap) -> None:
    plain = read_one(write(tmp_path / "a.json", {"trace": TRACE, "observations": [SPAN, CALL]}))
    assert read_one(write(tmp_path / "b.json", wrap(TRACE, [SPAN, CALL]))) == plain


def test_rows_of_an_export_are_joined_in_any_order_and_any_spelling(tmp_path: Path) -> None:
    snake = {"id": "g1", "trace_id": "t1", "type": "GENERATION", "start_time": CALL["startTime"]}
    snake |= {"provided_model_name": "gpt-4o", "input": "Hi", "output": "Hello"}
    score = {"id": "s1", "trace_id": "t1", "name": "good", "value": 1, "data_type": "BOOLEAN"}
    record = read_one(write(tmp_path / "r.jsonl", [score, snake, TRACE], lines=True))
    assert record["gen_ai_request_model"] == "gpt-4o"
    assert record["unit_id"] == "u-7"
    assert record["request"]["messages"] == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("as_lines", [True, False])
def test_an_update_event_completes_its_generation(tmp_path: Path, as_lines: bool) -> None:
    begun = {k: v for k, v in CALL.items() if k not in ("output", "endTime", "type")}
    events = [
        {"id": "e1", "type": "generation-create", "body": begun},
        {"id": "e2", "type": "generation-update", "body": {"id": "g1", "output": "Done"}},
    ]
    path = tmp_path / "e.jsonl"
    record = read_one(write(path, events if as_lines else {"batch": events}, lines=as_lines))
    assert record["response"]["choices"][0]["message"]["content"] == "Done"


def test_calls_inside_calls_are_linked_over_the_steps_between(tmp_path: Path) -> None:
    inner = CALL | {"id": "g2", "parentObservationId": "o0"}
    rows = [inner, SPAN | {"parentObservationId": "g1"}, CALL | {"parentObservationId": "gone"}]
    found, _ = read(write(tmp_path / "t.json", {"trace": TRACE, "observations": rows}))
    assert found[0].interaction["parent_id"] == found[1].interaction["id"]
    assert "parent_id" not in found[1].interaction


def test_a_role_that_is_none_of_ours_does_not_cost_the_record(tmp_path: Path) -> None:
    rows = [CALL | {"metadata": {"role": "admin"}}, CALL | {"metadata": {"agent_role": "reviewer"}}]
    for row, role in zip(rows, ("tester", "reviewer"), strict=True):
        document = {"trace": TRACE, "observations": [row]}
        assert read_one(write(tmp_path / "t.json", document))["role"] == role


def test_a_ring_of_parents_ends(tmp_path: Path) -> None:
    rows = [
        CALL | {"parentObservationId": "o0"},
        SPAN | {"parentObservationId": "o1"},
        SPAN | {"id": "o1", "parentObservationId": "o0"},
    ]
    record = read_one(write(tmp_path / "t.json", {"trace": TRACE, "observations": rows}))
    assert "parent_id" not in record


def test_a_failed_call_keeps_its_error_and_a_lost_answer_is_no_success(tmp_path: Path) -> None:
    failed = CALL | {"level": "ERROR", "statusMessage": "RateLimitError: slow", "output": None}
    record = read_one(write(tmp_path / "t.json", {"trace": TRACE, "observations": [failed]}))
    assert (record["status"], record["error_type"]) == ("error", "RateLimitError")
    assert record["completed"] is False
    (lost,), _ = read(
        write(tmp_path / "u.json", {"trace": TRACE, "observations": [CALL | {"output": None}]})
    )
    assert lost.lost
    assert (lost.interaction["status"], lost.interaction["response"]) == ("cut", None)


@pytest.mark.parametrize(
    ("score", "said"),
    [
        ({"dataType": "NUMERIC", "value": 0.3, "source": "EVAL"}, ("metric", 0.3, None, "judge")),
        ({"dataType": "BOOLEAN", "value": 0}, ("success", 0.0, None, "user")),
        (
            {"dataType": "CATEGORICAL", "value": 2, "stringValue": "rude", "source": "ANNOTATION"},
            ("category", None, "rude", "human"),
        ),
        (
            {"dataType": "CORRECTION", "value": 0, "longStringValue": "Hullo"},
            ("correction", None, "Hullo", "user"),
        ),
        ({"value": True}, ("success", 1.0, None, "user")),
        ({"value": "fine"}, ("category", None, "fine", "user")),
    ],
)
def test_scores_become_feedback(tmp_path: Path, score, said) -> None:
    row = {"id": "s1", "name": "q", "traceId": "t1", "timestamp": TRACE["timestamp"], **score}
    document = {"trace": TRACE | {"scores": [row]}, "observations": [CALL]}
    (imported,), _ = read(write(tmp_path / "t.json", document))
    (feedback,) = imported.feedback
    kept = (feedback["kind"], feedback.get("value"), feedback.get("text"), feedback["source"])
    assert kept == said
    assert feedback["episode_id"] == imported.interaction["episode_id"]
    assert "interaction_id" not in feedback
    document["trace"]["scores"] = [row | {"observationId": "g1"}]
    (imported,), _ = read(write(tmp_path / "t.json", document))
    assert imported.feedback[0]["interaction_id"] == imported.interaction["id"]


CALLED = {"name": "look", "arguments": '{"path":"a.py"}'}


@pytest.mark.parametrize(
    "output",
    [
        {
            "choices": [
                {
                    "message": {
                        "role": "assistant",
                        "tool_calls": [{"id": "c1", "type": "function", "function": CALLED}],
                    }
                }
            ]
        },  # fmt: skip
        {"role": "assistant", "tool_calls": [{"id": "c1", **CALLED}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c1", "name": "look", "input": {"path": "a.py"}}
            ],
        },  # fmt: skip
        [{"type": "tool_use", "id": "c1", "name": "look", "input": {"path": "a.py"}}],
        {
            "candidates": [
                {
                    "content": {
                        "role": "model",
                        "parts": [
                            {"functionCall": {"id": "c1", "name": "look", "args": {"path": "a.py"}}}
                        ],
                    }
                }
            ]
        },  # fmt: skip
        [{"toolCallId": "c1", "toolName": "look", "args": {"path": "a.py"}}],
        {
            "text": "",
            "toolCalls": '[{"toolCallId": "c1", "toolName": "look", "input": {"path": "a.py"}}]',
        },  # fmt: skip
        [
            {
                "role": "assistant",
                "parts": [
                    {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"path": "a.py"}}
                ],
            }
        ],  # fmt: skip
        {"output": [{"type": "function_call", "call_id": "c1", "id": "fc_1", **CALLED}]},
        {
            "type": "ai",
            "content": "",
            "tool_calls": [{"id": "c1", "name": "look", "args": {"path": "a.py"}}],
        },  # fmt: skip
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "AIMessage"],
            "kwargs": {
                "content": "",
                "additional_kwargs": {"tool_calls": [{"id": "c1", "function": CALLED}]},
            },
        },  # fmt: skip
    ],
    ids=[
        "openai",
        "flat",
        "anthropic",
        "anthropic_blocks",
        "gemini",
        "vercel",
        "vercel_wrapped",
        "otel",
        "responses",
        "langchain",
        "langchain_serialised",
    ],
)
def test_tool_calls_of_every_shape_are_openai_s(tmp_path: Path, output: Any) -> None:
    _, (answer,) = asked_and_answered(tmp_path, output=output)
    (call,) = answer["tool_calls"]
    assert call == {"id": "c1", "type": "function", "function": CALLED}
    assert text_of(answer.get("content")) == ""


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "found"}],
        },  # fmt: skip
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c1",
                    "content": [{"type": "text", "text": "found"}],
                }
            ],
        },  # fmt: skip
        {
            "role": "tool",
            "content": [
                {
                    "type": "tool-result",
                    "toolCallId": "c1",
                    "toolName": "look",
                    "output": {"type": "text", "value": "found"},
                }
            ],
        },  # fmt: skip
        {
            "role": "user",
            "parts": [
                {"type": "tool_call_response", "id": "c1", "name": "look", "result": "found"}
            ],
        },  # fmt: skip
        {
            "role": "tool",
            "parts": [
                {
                    "type": "tool_call_response",
                    "id": ["run_1", "call_x", "c1"][2:],
                    "response": "found",
                }
            ],
        },  # fmt: skip
        {"type": "function_call_output", "call_id": "c1", "output": "found"},
        {"type": "tool", "tool_call_id": "c1", "content": "found"},
    ],
)
def test_tool_results_of_every_shape_are_openai_s(tmp_path: Path, message: Any) -> None:
    asked, _ = asked_and_answered(tmp_path, input=[message])
    assert asked == [{"role": "tool", "tool_call_id": "c1", "content": "found"}]


def test_words_beside_a_tool_result_stay(tmp_path: Path) -> None:
    parts = [{"type": "tool_result", "tool_use_id": "c1", "content": "found"}]
    parts.append({"type": "text", "text": "Go on."})
    asked, _ = asked_and_answered(tmp_path, input=[{"role": "user", "content": parts}])
    assert [message["role"] for message in asked] == ["tool", "user"]
    assert text_of(asked[1]["content"]) == "Go on."


@pytest.mark.parametrize(
    "request_",
    [
        {"system": "Be kind.", "messages": [{"role": "user", "content": "Hi"}]},
        {
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
            "config": {"system_instruction": "Be kind."},
        },  # fmt: skip
        {"contents": "Hi", "systemInstruction": {"parts": [{"text": "Be kind."}]}},
        {"instructions": "Be kind.", "input": "Hi"},
        {
            "instructions": "Be kind.",
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        },  # fmt: skip
        {"system": "Be kind.", "prompt": "Hi"},
        [["system", "Be kind."], ["human", "Hi"]],
        [{"type": "system", "content": "Be kind."}, {"type": "human", "content": "Hi"}],
        [
            {"role": "system", "parts": [{"type": "text", "content": "Be kind."}]},
            {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
        ],  # fmt: skip
        {"messages": ["role='system' content='Be kind.' name=None", "role='user' content='Hi'"]},
    ],
    ids=[
        "anthropic",
        "gemini",
        "vertex",
        "responses_text",
        "responses",
        "vercel",
        "tuples",
        "langchain",
        "otel",
        "repr",
    ],
)
def test_requests_of_every_shape_have_their_system_prompt_first(tmp_path: Path, request_) -> None:
    asked, _ = asked_and_answered(tmp_path, input=request_)
    assert [(m["role"], text_of(m["content"])) for m in asked] == [
        ("system", "Be kind."),
        ("user", "Hi"),
    ]


@pytest.mark.parametrize("metadata", [None, "plain words", "[1, 2]", {"tools": [None, 7]}, '{"a"'])
@pytest.mark.parametrize("value", [None, 7, "x", [], {}, [[]], [None, 1, {}], {"messages": [3]}])
def test_odd_values_are_kept_or_rejected_and_never_raise(tmp_path, value, metadata) -> None:
    odd = CALL | {"input": value, "output": value, "metadata": metadata, "usageDetails": value}
    odd |= {"modelParameters": value, "startTime": value, "level": value, "costDetails": value}
    found, rejects = read(write(tmp_path / "t.json", {"trace": TRACE, "observations": [odd, CALL]}))
    assert len(found) + len(rejects) == 2
    assert found[-1].interaction["request"]["messages"] == [{"role": "user", "content": "Hi"}]


def test_what_holds_no_call_is_rejected_with_its_reason(tmp_path: Path) -> None:
    rows = [TRACE, {"name": "q", "value": 1, "traceId": "gone"}, {"odd": 1}, {"id": "", **SPAN}]
    rows += [CALL | {"id": "g9", "input": None, "output": "", "traceId": "t2"}]
    found, rejects = read(write(tmp_path / "r.jsonl", rows, lines=True))
    assert found == []
    codes = [reject.reason.partition(":")[0] for reject in rejects]
    assert codes == ["no_generation", "no_interaction", "malformed", "no_answer"]


def test_one_damaged_observation_costs_only_itself(tmp_path: Path) -> None:
    odd: list[Any] = [CALL | {"id": None}, CALL | {"id": "g2", "parentObservationId": [1]}]
    odd += [CALL | {"id": "g3", "promptName": {}, "traceId": 5}]
    trace = TRACE | {"userId": [], "sessionId": "", "scores": 7, "corrections": [None]}
    found, rejects = read(
        write(tmp_path / "t.json", {"trace": trace, "observations": [*odd, CALL]})
    )
    assert [item.interaction["key"] for item in found] == ["g2", "g3", "g1"]
    assert [rejection_of(item.interaction) for item in found] == [None] * 3
    assert [reject.reason for reject in rejects] == ["malformed: id: got None, expected a text"]


@pytest.mark.parametrize(
    ("details", "counts"),
    [
        ({"input": 3, "output": 2, "input_cached_tokens": 9}, (12, 2, 9)),
        ({"input": 12, "output": 2, "total": 14, "input_cache_read": 9}, (12, 2, 9)),
        ({"input": 3, "output": 2, "total": 14, "input_cached_tokens": 9}, (12, 2, 9)),
        ({"input": 3, "output": 2, "prompt_details.cache_read": 1}, (3, 2, 1)),
        ({"input": None, "output": "2", "input_cached_tokens": "x"}, (0, 2, None)),
    ],
)
def test_cached_tokens_are_counted_once(tmp_path: Path, details, counts) -> None:
    row = CALL | {"usageDetails": details, "costDetails": {"input": 0.25, "output": 0.5}}
    record = read_one(write(tmp_path / "t.json", {"trace": TRACE, "observations": [row]}))
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens")
    assert tuple(record.get(f"gen_ai_usage_{name}") for name in names) == counts
    assert record["cost_usd"] == 0.75


def test_how_tools_were_to_be_used_is_kept(tmp_path: Path) -> None:
    asked = {"messages": [{"role": "user", "content": "q"}], "tool_choice": "auto"}
    row = CALL | {"input": asked}
    record = read_one(write(tmp_path / "t.json", {"trace": TRACE, "observations": [row]}))
    assert record["request"]["tool_choice"] == "auto"


def test_the_items_of_one_answer_are_one_choice(tmp_path: Path) -> None:
    items: list[Any] = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": "{}"},
    ]
    _, (answer,) = asked_and_answered(tmp_path, output={"output": items})
    assert (answer["reasoning_content"], answer["content"]) == ("hm", None)
    assert [call["id"] for call in answer["tool_calls"]] == ["a", "b"]
    _, several = asked_and_answered(tmp_path, output=[{"role": "ai", "content": c} for c in "xy"])
    assert [answer["content"] for answer in several] == ["x", "y"]


def test_an_unknown_observation_type_with_a_model_is_a_call(tmp_path: Path) -> None:
    odd = CALL | {"type": "SOMETHING_NEW"}
    assert read_one(write(tmp_path / "t.json", {"trace": TRACE, "observations": [odd]}))


def test_importing_twice_stores_nothing_new(session: Session, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    score = {"id": "s1", "name": "q", "traceId": "t1", "value": 1, "dataType": "BOOLEAN"}
    document = {"trace": TRACE | {"scores": [score]}, "observations": [SPAN, CALL]}
    path = write(tmp_path / "t.json", document)
    first = run_import("langfuse", [path], DirectTransport())
    again = run_import("langfuse", [path], DirectTransport())
    assert (first.stored, first.feedback_stored, first.rejected) == (1, 1, 0)
    assert (again.stored, again.duplicates, again.feedback_stored) == (0, 1, 0)
    (row,) = session.exec(select(Interaction)).all()
    (payload,) = session.exec(select(InteractionPayload)).all()
    (feedback,) = session.exec(select(Feedback)).all()
    assert row.gen_ai_prompt_name == "greeting"
    assert payload.request["messages"] == [{"role": "user", "content": "Hi"}]
    assert feedback.episode_id == row.episode_id


FRAMEWORKS = """agno-2025-06-11 beeai-2025-08-01 crewai-2025-07-11 google-adk-2025-08-28
koog-2025-08-26 langgraph-python-2025-08-22 microsoft-agent-2025-12-17 pydantic-ai-2025-06-06
pydantic-ai-tools-2025-12-04 vercel-aisdk-2025-11-17""".split()


def shown(message: dict[str, Any]) -> tuple[Any, ...]:
    """A message as (role, text, calls), in the expectations' notation or in OpenAI's."""
    calls = []
    for call in message.get("tool_calls") or []:
        inner = call.get("function", call)
        calls.append((call.get("id") or "", inner["name"], inner["arguments"]))
    content = message.get("content")
    role = "assistant" if message["role"] == "model" else message["role"]
    return role, text_of(content), tuple(calls)


def expected_messages(side: Any) -> list[Any] | None:
    """What Langfuse's converter made of a side; None where it failed or understood no message."""
    if not side or not side["success"] or not all("role" in row for row in side["data"]):
        return None
    return [shown(row) for row in side["data"]]


@pytest.mark.data
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_messages_are_those_that_langfuse_makes_of_each_framework(
    public_data: Path, framework: str
) -> None:
    folder = public_data / "traces_langfuse"
    expected = json.loads((folder / f"{framework}.chatml.json").read_text(encoding="utf-8"))
    trace = json.loads((folder / f"{framework}.trace.json").read_text(encoding="utf-8"))
    found, rejects = read(folder / f"{framework}.trace.json")
    records = {item.interaction["key"]: item.interaction for item in found}
    generations = {o["id"] for o in trace["observations"] if o["type"] == "GENERATION"}
    silent = {reject.text.removeprefix("observation ") for reject in rejects}
    assert records.keys() | silent == generations
    assert not silent & expected.keys(), "only a generation without any message may be rejected"
    n_compared = 0
    for key, record in records.items():
        asked = expected_messages(expected.get(key, {}).get("input"))
        answered = expected_messages(expected.get(key, {}).get("output"))
        rows = expected.get(key, {}).get("input", {}).get("data", [])
        tools = {tool["name"] for row in rows for tool in row.get("tools", [])}
        assert tools <= {tool["function"]["name"] for tool in record["request"].get("tools", [])}
        if asked is not None:
            n_compared += 1
            assert [as_gemini_s(m, asked) for m in record["request"]["messages"]] == asked
        if answered is not None:
            n_compared += 1
            choices = record["response"]["choices"]
            assert [shown(choice["message"]) for choice in choices] == answered
    assert n_compared > 0


def as_gemini_s(message: dict[str, Any], asked: list[Any]) -> tuple[Any, ...]:
    """Our tool result as Langfuse leaves Gemini's, which come as words of the user."""
    role, text, calls = shown(message)
    as_words = ("user", text, calls)
    return as_words if role == "tool" and as_words in asked else (role, text, calls)
