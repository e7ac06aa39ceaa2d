"""Messages and evaluations that come as log events, before, after or without their span."""

import threading
from typing import Any

import pytest
from sqlmodel import Session, select

from collector.ingest import ingest_counts
from collector.otel.read import Defaults, read_events, read_spans
from collector.otel.store import store_reading
from collector.otel.wire import Event, Span
from collector.tables import Feedback, Interaction
from foundation.database import session_scope
from foundation.ids import keyed_episode_id

ROLES = frozenset({"coder"})
DEFAULTS = Defaults(ROLES, role="coder")
START_NS = 1_760_000_000_000_000_000
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 5,
}
ASKED = [{"role": "user", "parts": [{"type": "text", "content": "add 2 and 3"}]}]
ANSWERED = [
    {"role": "assistant", "parts": [{"type": "text", "content": "5"}], "finish_reason": "stop"}
]
DETAILS = {**CALL, "gen_ai.input.messages": ASKED, "gen_ai.output.messages": ANSWERED}


def span(**over: Any) -> Span:
    values: dict[str, Any] = {
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "parent_span_id": "",
        "name": "chat m",
        "started_ns": START_NS,
        "ended_ns": START_NS + 1_500_000_000,
        "attributes": CALL,
        "events": (),
        "failed": False,
        "status_message": "",
        "resource": {},
        "scope": "",
    }
    return Span(**values | over)


def event(name: str, attributes: dict[str, Any], body: Any = None, after_ns: int = 1) -> Event:
    return Event(name, START_NS + after_ns, attributes, body, "a" * 32, "b" * 16)


MESSAGES = [
    event("gen_ai.system.message", {}, {"content": "be exact"}, 1_000),
    event("gen_ai.user.message", {}, {"content": "add 2 and 3"}, 2_000),
    event(
        "gen_ai.choice",
        {"gen_ai.system": "openai"},
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "5"}},
        3_000,
    ),
]
DETAIL = [event("gen_ai.client.inference.operation.details", DETAILS, after_ns=9_000_000)]


def put_spans(*spans: Span) -> list[str]:
    with session_scope() as session:
        return store_reading(session, read_spans(spans, DEFAULTS), [], ROLES)


def put_events(*events: Event) -> list[str]:
    with session_scope() as session:
        return store_reading(session, read_events(events, DEFAULTS), [], ROLES)


@pytest.mark.parametrize("events", [MESSAGES, DETAIL], ids=["per message", "details"])
@pytest.mark.parametrize("span_first", [True, False], ids=["span first", "events first"])
def test_span_and_events_make_one_record_in_any_order(
    session, calls, events: list[Event], span_first: bool
) -> None:
    deliveries = [lambda: put_spans(span()), lambda: put_events(*events)]
    for deliver in deliveries if span_first else reversed(deliveries):
        assert deliver() == []
    ((row, payload),) = calls()
    asked = [m for m in payload.request["messages"] if m["role"] != "system"]
    assert asked == [{"role": "user", "content": "add 2 and 3"}]
    (choice,) = payload.response["choices"]
    assert choice["message"]["content"] == "5"
    assert payload.request["model"] == "m"
    assert payload.response["usage"]["prompt_tokens"] == 12
    assert (row.latency_ms, row.started_at.timestamp()) == (1500, START_NS / 1e9)
    assert (row.gen_ai_usage_input_tokens, row.usage_estimated) == (12, False)
    assert row.gen_ai_response_finish_reasons == ["stop"]
    before = (row.model_dump(), payload.model_dump())
    put_spans(span())
    put_events(*events)
    ((row, payload),) = calls()
    assert (row.model_dump(), payload.model_dump()) == before
    (source,) = ingest_counts(session)
    assert source.counts == {"stored": 1, "duplicate": 3}


def test_a_completed_call_counts_as_newly_written(session: Session, database: str) -> None:
    put_spans(span())
    written = session.exec(select(Interaction.written_xid)).one()
    put_events(*DETAIL)
    completed = session.exec(select(Interaction.written_xid)).one()
    assert completed > written
    put_events(*DETAIL)
    assert session.exec(select(Interaction.written_xid)).one() == completed, "nothing was new"


def test_messages_spread_over_requests_are_put_together(calls, database) -> None:
    for each in MESSAGES:
        put_events(each)
    put_spans(span())
    ((row, payload),) = calls()
    assert [m["content"] for m in payload.request["messages"]] == ["be exact", "add 2 and 3"]
    assert payload.response["choices"][0]["message"]["content"] == "5"
    assert row.latency_ms == 1500


def test_counted_tokens_win_over_estimated_ones(calls, database) -> None:
    uncounted = {n: v for n, v in CALL.items() if "usage" not in n}
    put_events(*MESSAGES)
    put_spans(span(attributes=uncounted))
    ((row, _),) = calls()
    assert row.usage_estimated is True
    assert row.gen_ai_usage_input_tokens is not None
    put_spans(span())
    ((row, _),) = calls()
    assert (row.gen_ai_usage_input_tokens, row.usage_estimated) == (12, False)


def test_late_content_is_scrubbed(calls, database) -> None:
    put_spans(span())
    secret = "sk-proj-" + "a1B2c3D4e5F6g7H8i9J0" * 2
    put_events(event("gen_ai.user.message", {}, {"content": f"my key is {secret}"}))
    ((_, payload),) = calls()
    assert "my key is" in payload.request["messages"][0]["content"]
    assert secret not in str(payload.model_dump())


def test_two_halves_that_come_at_once_make_one_record(calls, database) -> None:
    for number in range(8):
        span_id = f"{number:016x}"
        halves = [
            lambda span_id=span_id: put_spans(span(span_id=span_id)),
            lambda span_id=span_id: put_events(
                Event(DETAIL[0].name, START_NS + 5, DETAILS, None, "a" * 32, span_id)
            ),
        ]
        threads = [threading.Thread(target=half) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = calls()
    assert len(found) == 8
    assert all(row.latency_ms == 1500 and payload.response["choices"] for row, payload in found)


def test_an_event_of_no_span_or_no_role_is_refused() -> None:
    loose = Event("gen_ai.user.message", START_NS, {}, {"content": "hi"})
    assert read_events([loose], DEFAULTS).faults[0].startswith("invalid_id")
    nobody = read_events(MESSAGES, Defaults(ROLES))
    assert [fault.partition(":")[0] for fault in nobody.faults] == ["no_role"] * len(MESSAGES)
    assert read_events([Event("exception", START_NS, {})], DEFAULTS).faults == []


# Evaluations


def statements(session: Session) -> list[Feedback]:
    session.rollback()
    session.expire_all()
    return list(session.exec(select(Feedback).order_by(Feedback.created_at)))


def test_an_evaluation_of_a_span_speaks_of_its_interaction(session, calls, database) -> None:
    judged = event(
        "gen_ai.evaluation.result",
        {
            "gen_ai.evaluation.name": "relevance",
            "gen_ai.evaluation.score.value": 0.75,
            "gen_ai.evaluation.score.label": "good",
            "gen_ai.evaluation.explanation": "to the point",
        },
    )
    put_events(judged)
    put_spans(span())
    put_events(judged)
    ((row, _),) = calls()
    (said,) = statements(session)
    assert said.interaction_id == row.id
    assert (said.kind, said.name, said.value) == ("metric", "relevance", 0.75)
    assert (said.source, said.text, said.details) == ("judge", "to the point", {"label": "good"})


def test_evaluations_inside_spans_speak_of_call_or_episode(session, calls, database) -> None:
    inside = Event(
        "gen_ai.evaluation.result",
        START_NS + 10,
        {"gen_ai.evaluation.name": "tone", "gen_ai.evaluation.score.label": "rude"},
    )
    agent = span(span_id="c" * 16, attributes={"gen_ai.operation.name": "invoke_agent"})
    put_spans(span(events=(inside,)), Span(**{**agent.__dict__, "events": (inside,)}))
    ((row, _),) = calls()
    by_call = {said.interaction_id: said for said in statements(session)}
    assert by_call.keys() == {row.id, None}
    assert by_call[None].episode_id == keyed_episode_id("default", "a" * 32) == row.episode_id
    assert (by_call[row.id].kind, by_call[row.id].text) == ("category", "rude")


def test_an_evaluation_may_name_the_response_only(session, calls, database) -> None:
    put_spans(span(attributes={**CALL, "gen_ai.response.id": "resp-1"}))
    said = {"gen_ai.response.id": "resp-1", "gen_ai.evaluation.score.value": 1}
    put_events(Event("gen_ai.evaluation.result", START_NS, said))
    ((row, _),) = calls()
    (stored,) = statements(session)
    assert stored.interaction_id == row.id


@pytest.mark.parametrize(
    ("attributes", "ids", "code"),
    [
        ({"gen_ai.evaluation.name": "x"}, ("a" * 32, "b" * 16), "no_result"),
        ({"gen_ai.evaluation.score.value": float("nan")}, ("a" * 32, "b" * 16), "no_result"),
        ({"gen_ai.evaluation.score.value": 1}, ("", ""), "no_subject"),
    ],
)
def test_evaluations_that_say_nothing_are_refused(attributes, ids, code) -> None:
    result = Event("gen_ai.evaluation.result", START_NS, attributes, None, *ids)
    (fault,) = read_events([result], DEFAULTS).faults
    assert fault.startswith(code)


def test_the_sdks_logs_arrive(sdk, session, calls) -> None:
    with sdk.tracer.start_as_current_span("chat m", attributes=CALL):
        sdk.emit("gen_ai.client.inference.operation.details", DETAILS)
        sdk.emit("gen_ai.evaluation.result", {"gen_ai.evaluation.score.value": 0.5})
        sdk.emit("something.else", {"a": 1})
    ((row, payload),) = calls()
    assert (row.role, row.latency_ms > 0) == ("coder", True)
    assert payload.request["messages"] == [{"role": "user", "content": "add 2 and 3"}]
    (said,) = statements(session)
    assert said.interaction_id == row.id
    assert session.exec(select(Interaction)).one().id == row.id
