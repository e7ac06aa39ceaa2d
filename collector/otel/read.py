"""Spans and events of an export request become records: interactions and feedback; pure.

One inference span is one interaction. Its id derives from the trace, the span and its start, so a
span that is exported again is a duplicate; its key is `<trace id>:<span id>`, by which events that
come on their own, and feedback, find it. Messages that come as events make a record, too, which
`store` completes when the span comes, or which completes the span's.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from collector.otel.mapping import (
    ANSWERED,
    ASKED,
    DETAILS_EVENT,
    EMBEDDINGS,
    EVALUATION_EVENT,
    EVENTS,
    INFERENCE,
    LAYOUTS,
    MESSAGE_EVENTS,
    OURS,
    Layout,
    layout_of,
    operation_of,
    ours,
    value_of,
)
from collector.otel.messages import (
    chat_messages,
    choices_of,
    decoded,
    finish_reason,
    tool_definitions,
)
from collector.otel.wire import Event, Span
from collector.record import CUT, ERROR, SUCCESS, derived_id, feedback_record, interaction_record
from foundation.ids import keyed_episode_id

SOURCE = "otlp"


class Unreadable(Exception):
    """A span that makes no record; the text starts with a code that is counted, then a colon."""


@dataclass(frozen=True)
class Defaults:
    """What is taken where a span and its resource do not say it.

    Attributes:
        roles: the roles there are; an agent's name counts as its role only if it is one of them.
        role: of the request's header or the settings.
        project: likewise.
    """

    roles: Collection[str]
    role: str | None = None
    project: str = "default"


@dataclass
class Reading:
    """What a request holds: records to store, faults by reason, and calls that are no records."""

    interactions: list[dict[str, Any]] = field(default_factory=list)
    feedback: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    embeddings: int = 0


def read_spans(spans: Iterable[Span], defaults: Defaults) -> Reading:
    """Return the records of an export request's spans; spans of other work are passed over."""
    reading = Reading()
    known = {(span.trace_id, span.span_id): span for span in spans}
    for span in known.values():
        operation = operation_of(span.attributes)
        for event in span.events:
            if event.name == EVALUATION_EVENT:
                _note_feedback(reading, event, span, defaults)
        if operation == EMBEDDINGS:
            reading.embeddings += 1
        if operation not in INFERENCE:
            continue
        try:
            reading.interactions.append(_interaction(span, operation, known, defaults))
        except Unreadable as fault:
            reading.faults.append(str(fault))
    return reading


def read_events(events: Iterable[Event], defaults: Defaults) -> Reading:
    """Return the records of an export request's events; events of other kinds are passed over."""
    reading = Reading()
    told: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        if event.name == EVALUATION_EVENT:
            _note_feedback(reading, event, None, defaults)
        elif event.name == DETAILS_EVENT or event.name in MESSAGE_EVENTS:
            told.setdefault((event.trace_id, event.span_id), []).append(event)
    for (trace_id, span_id), group in told.items():
        span = _span_of(trace_id, span_id, group)
        try:
            if not trace_id or not span_id:
                raise Unreadable("invalid_id: a message event outside of a span, expected in one")
            reading.interactions.append(_interaction(span, "chat", {}, defaults))
        except Unreadable as fault:
            reading.faults += [str(fault)] * len(group)
    return reading


def _span_of(trace_id: str, span_id: str, events: Sequence[Event]) -> Span:
    """Return the span that events speak of, as far as they tell; it has no name and no end."""
    first = min(events, key=lambda event: event.time_ns)
    attributes: dict[str, Any] = {}
    for event in events:
        attributes |= event.attributes
        if event.name == DETAILS_EVENT and isinstance(event.body, Mapping):
            attributes |= event.body
    messages = [
        {**each.attributes, **_body(each), "event.name": each.name}
        for each in sorted(events, key=lambda event: event.time_ns)
        if each.name in MESSAGE_EVENTS
    ]
    attributes |= {EVENTS: messages} if messages else {}
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id="",
        name="",
        started_ns=first.time_ns,
        ended_ns=0,
        attributes={name: value for name, value in attributes.items() if name != "event.name"},
        events=(),
        failed=bool(attributes.get("error.type")),
        status_message="",
        resource=first.resource,
        scope=first.scope,
    )


def _body(event: Event) -> Mapping[str, Any]:
    body = decoded(event.body)
    if isinstance(body, Mapping):
        return body
    return {} if body is None else {"content": body}


_Known = Mapping[tuple[str, str], Span]


def key_of(trace_id: str, span_id: str) -> str:
    """Return the key of the interaction that a span is."""
    return f"{trace_id}:{span_id}"


def _key(span: Span) -> str:
    return str(ours(span.attributes, "key") or key_of(span.trace_id, span.span_id))


def moment_of(nanoseconds: int) -> datetime:
    """Return a UTC time.

    Raises:
        Unreadable: there is no such time, or none is given.
    """
    try:
        if nanoseconds > 0:
            return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        pass
    raise Unreadable(f"invalid_time: start time {nanoseconds} ns, expected one since 1970")


def interaction_id(span: Span) -> UUID:
    """Return the id of the interaction that a span is; raises Unreadable."""
    given = _uuid(ours(span.attributes, "interaction"))
    if given is not None and given.version == 7:
        return given
    return derived_id(moment_of(span.started_ns), SOURCE, span.trace_id, span.span_id)


def _interaction(span: Span, operation: str, known: _Known, defaults: Defaults) -> dict[str, Any]:
    attributes = _with_events(span)
    layout = layout_of(attributes) or LAYOUTS[0]
    request, asked = _request(attributes, layout)
    response, answered = _response(span, attributes, layout)
    project = str(_said(span, "project") or defaults.project)
    status = _status(span, attributes, response)
    columns: dict[str, Any] = {
        **_columns(attributes, layout),
        "gen_ai_operation_name": operation,
        "project": project,
        "episode_id": _episode(span, attributes, layout, project),
        "parent_id": _parent(span, known),
        "task_type": _said(span, "task_type"),
        "unit_id": _said(span, "unit"),
        "key": _key(span),
        "experiment_id": _uuid(ours(attributes, "experiment")),
        "arm": ours(attributes, "arm"),
        "model_version_id": _uuid(ours(attributes, "model_version")),
        "config_hash": ours(attributes, "config_hash"),
        "semconv_version": layout.version,
        "status": status,
        "completed": status == SUCCESS and ours(attributes, "completed") is not False,
        "error_type": _error_type(span, attributes, layout, status),
        "latency_ms": _milliseconds(span) or None,
        "ttft_ms": _ttft_ms(span, attributes, layout),
        "source": SOURCE,
        "client_version": span.scope or None,
        "attributes": _rest(span, attributes, asked, answered),
    }
    return interaction_record(
        interaction_id(span),
        _role(span, known, defaults),
        request,
        response,
        started_at=moment_of(span.started_ns),
        **columns,
    )


def _with_events(span: Span) -> dict[str, Any]:
    """Return a span's attributes with the messages that its events hold."""
    events = [
        {**event.attributes, "event.name": event.name}
        for event in span.events
        if event.name in MESSAGE_EVENTS
    ]
    return {**span.attributes, EVENTS: events} if events else span.attributes


# Feedback


def _note_feedback(reading: Reading, event: Event, span: Span | None, defaults: Defaults) -> None:
    try:
        reading.feedback.append(_feedback(event, span, defaults))
    except Unreadable as fault:
        reading.faults.append(str(fault))


def _feedback(event: Event, span: Span | None, defaults: Defaults) -> dict[str, Any]:
    """Return the statement of an evaluation event, by the span that it is on or by what it names.

    Raises:
        Unreadable: it has no time or no result, or speaks of nothing.
    """
    attributes = {**event.attributes, **_body(event)}
    resource = span.resource if span is not None else event.resource
    moment = moment_of(event.time_ns or (span.ended_ns if span is not None else 0))
    columns = _result(attributes)
    project = ours(attributes, "project") or resource.get(OURS["project"]) or defaults.project
    subject = _subject(event, span, attributes, str(project))
    said = (f"{name}={value}" for name, value in sorted((columns | subject).items()))
    identifier = _uuid(ours(attributes, "feedback")) or derived_id(moment, SOURCE, *said)
    record = feedback_record(
        identifier,
        source=str(ours(attributes, "feedback_source") or "judge"),
        actor=ours(attributes, "feedback_actor"),
        loser_interaction_id=_uuid(ours(attributes, "loser")),
        **columns,
        **subject,
    )
    return record | {"created_at": moment.isoformat()}


def _result(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return kind, name, value and text of an evaluation; a score makes it a metric."""
    score = attributes.get("gen_ai.evaluation.score.value")
    value = float(score) if isinstance(score, int | float) and math.isfinite(score) else None
    label = attributes.get("gen_ai.evaluation.score.label")
    explanation = attributes.get("gen_ai.evaluation.explanation")
    name = attributes.get("gen_ai.evaluation.name")
    kind = ours(attributes, "feedback_kind")
    name = None if name == kind else name  # so `export` names what has no name
    if not kind:
        kind = "metric" if value is not None else "category" if label else "comment"
    text = label if kind == "category" else explanation
    if value is None and not text and not ours(attributes, "loser"):
        raise Unreadable("no_result: an evaluation without score, label or explanation")
    details = {"label": label, "explanation": explanation}
    return {
        "kind": kind,
        "name": name or ("evaluation" if kind == "metric" else None),
        "value": value,
        "text": text,
        "details": {n: v for n, v in details.items() if v and v != text} or None,
    }


def _subject(
    event: Event, span: Span | None, attributes: Mapping[str, Any], project: str
) -> dict[str, Any]:
    """Return what an evaluation speaks of."""
    interaction, episode = ours(attributes, "interaction"), ours(attributes, "episode")
    if _uuid(interaction):
        return {"interaction_id": interaction}
    if ours(attributes, "key"):
        return {"interaction_key": str(ours(attributes, "key")), "project": project}
    if episode:
        keyed = {"episode_key": str(episode), "project": project}
        return {"episode_id": episode} if _uuid(episode) else keyed
    if span is not None and operation_of(span.attributes) in INFERENCE:
        return {"interaction_key": _key(span), "project": project}
    if span is not None:
        layout = layout_of(span.attributes) or LAYOUTS[0]
        return {"episode_id": _episode(span, span.attributes, layout, project)}
    if event.span_id:
        return {"interaction_key": key_of(event.trace_id, event.span_id), "project": project}
    response = attributes.get("gen_ai.response.id")
    if response:
        return {"response_id": str(response)}
    if event.trace_id:
        return {"episode_id": keyed_episode_id(project, event.trace_id)}
    raise Unreadable("no_subject: an evaluation of no span, no gen_ai.response.id and no trace")


# What was asked and answered


def _request(attributes: Mapping[str, Any], layout: Layout) -> tuple[dict[str, Any], bool]:
    """Return the OpenAI-shaped request, and whether its messages were found."""
    messages = chat_messages(_found(attributes, layout, "input"))
    told = chat_messages(value_of(attributes, layout, "system"), "system")
    messages = [*told, *messages]
    tools = tool_definitions(_found(attributes, layout, "tools"))
    parameters = decoded(value_of(attributes, layout, "parameters"))
    request: dict[str, Any] = dict(parameters) if isinstance(parameters, Mapping) else {}
    request |= {
        name: value
        for name in _PARAMETERS
        if (value := value_of(attributes, layout, name)) is not None
    }
    named = value_of(attributes, layout, "request_model") or request.get("model")
    request |= {"model": _text(named or _found(attributes, layout, "model"))}
    request |= {"messages": messages} | ({"tools": tools} if tools else {})
    return request, bool(messages)


_PARAMETERS = (
    *("temperature", "top_p", "top_k", "max_tokens", "frequency_penalty", "presence_penalty"),
    *("stop", "seed", "n", "stream", "reasoning_effort"),
)


def _response(
    span: Span, attributes: Mapping[str, Any], layout: Layout
) -> tuple[dict[str, Any] | None, bool]:
    """Return the OpenAI-shaped response, and whether its messages were found."""
    whole = _found(attributes, layout, "answer")
    if whole:
        return dict(whole), True
    reasons = decoded(value_of(attributes, layout, "finish_reasons"))
    reasons = reasons if isinstance(reasons, list) else [reasons]
    choices = choices_of(
        _found(attributes, layout, "output"), [finish_reason(reason) for reason in reasons]
    )
    usage = _usage(attributes, layout)
    if not choices and not usage:
        return None, False
    response = {
        "id": _text(value_of(attributes, layout, "response_id")),
        "object": "chat.completion",
        "created": (span.ended_ns or span.started_ns) // 1_000_000_000,
        "model": _text(value_of(attributes, layout, "response_model")),
        "choices": choices,
        "usage": usage or None,
    }
    return {name: value for name, value in response.items() if value is not None}, bool(choices)


def _found(attributes: Mapping[str, Any], layout: Layout, side: str) -> Any:
    """Return what the finders of one kind find, such as `input`, its own layout's first."""
    finders = (find for each in (layout, *LAYOUTS) for find in getattr(each, side))
    return next((found for find in finders if (found := find(attributes))), None)


def _usage(attributes: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    count = {name: _count(value_of(attributes, layout, name)) for name in _TOKENS}
    asked, answered = count["input_tokens"], count["output_tokens"]
    usage: dict[str, Any] = {"prompt_tokens": asked, "completion_tokens": answered}
    if asked is not None and answered is not None:
        usage["total_tokens"] = asked + answered
    if count["cache_read_tokens"]:
        usage["prompt_tokens_details"] = {"cached_tokens": count["cache_read_tokens"]}
    if count["reasoning_tokens"]:
        usage["completion_tokens_details"] = {"reasoning_tokens": count["reasoning_tokens"]}
    return {name: value for name, value in usage.items() if value is not None}


_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")


# Columns


def _columns(attributes: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """Return the columns that are one attribute each; None where a value is not of its kind."""
    columns: dict[str, Any] = {
        column: kind(value_of(attributes, layout, thing))
        for column, (thing, kind) in _COLUMNS.items()
    }
    columns["cost_usd"] = _number(ours(attributes, "cost_usd")) or columns["cost_usd"]
    columns["usage_estimated"] = ours(attributes, "usage_estimated") is True or None
    return columns


def _number(value: Any) -> float | None:
    """Return a finite, non-negative number, also of a text; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number < 2**31 else None


def _text(value: Any) -> str | None:
    return value[:500] if isinstance(value, str) and value else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


_COLUMNS: Mapping[str, tuple[str, Any]] = {
    "gen_ai_provider_name": ("provider", _text),
    "gen_ai_request_stream": ("stream", _flag),
    "gen_ai_conversation_id": ("conversation", _text),
    "gen_ai_prompt_name": ("prompt_name", _text),
    "gen_ai_prompt_version": ("prompt_version", _text),
    "gen_ai_usage_cache_read_input_tokens": ("cache_read_tokens", _count),
    "gen_ai_usage_reasoning_output_tokens": ("reasoning_tokens", _count),
    "cost_usd": ("cost_usd", _number),
}


def _milliseconds(span: Span) -> float:
    """Return how long a span took; 0 if it does not say so."""
    return max(0, span.ended_ns - span.started_ns) / 1e6


def _status(span: Span, attributes: Mapping[str, Any], response: Mapping[str, Any] | None) -> str:
    """Return success, error, or cut: a failed span, or a reason `error`, with part of an answer."""
    given = ours(attributes, "status")
    if given in (SUCCESS, ERROR, CUT):
        return str(given)
    choices = (response or {}).get("choices") or []
    broken = any(choice.get("finish_reason") == "error" for choice in choices)
    if span.failed or broken:
        return CUT if choices else ERROR
    return CUT if ours(attributes, "completed") is False else SUCCESS


def _error_type(
    span: Span, attributes: Mapping[str, Any], layout: Layout, status: str
) -> str | None:
    if status == SUCCESS:
        return None
    thrown = (event.attributes.get("exception.type") for event in span.events)
    said = value_of(attributes, layout, "error_type") or next(filter(None, thrown), None)
    return str(said)[:500] if said else None


def _ttft_ms(span: Span, attributes: Mapping[str, Any], layout: Layout) -> float | None:
    seconds = _number(value_of(attributes, layout, "ttft_s"))
    said = _number(ours(attributes, "ttft_ms")) or _number(value_of(attributes, layout, "ttft_ms"))
    if said is not None or seconds is not None:
        return said if said is not None else 1000 * (seconds or 0.0)
    first = (event.time_ns for event in span.events if event.name == _FIRST_TOKEN)
    after = min(first, default=0) - span.started_ns
    return after / 1e6 if after >= 0 else None


_FIRST_TOKEN = "First Token Stream Event"  # OpenInference's


# Whose call it was


def _said(span: Span, thing: str) -> str | None:
    """Return what a span, else its resource, says of a thing that only we have a name for."""
    value = span.attributes.get(OURS[thing]) or span.resource.get(OURS[thing])
    return str(value) if value else None


def _role(span: Span, known: _Known, defaults: Defaults) -> str:
    """Return the role: said outright, else an agent's name that is one, the span's or one above.

    An agent's name that is no role is what remains: ingest refuses such a record and keeps it among
    the dead letters until the role is added.

    Raises:
        Unreadable: nobody says it, and no agent is named.
    """
    agents = []
    for each in _upwards(span, known):
        outright = each.attributes.get(OURS["role"])
        if outright:
            return str(outright)
        agent = value_of(each.attributes, LAYOUTS[0], "agent")
        if agent in defaults.roles:
            return str(agent)
        agents += [str(agent)] if agent else []
    found = span.resource.get(OURS["role"]) or defaults.role or next(iter(agents), None)
    if not found:
        raise Unreadable(
            f"no_role: set gen_ai.agent.name or {OURS['role']} to one of "
            f"{', '.join(sorted(defaults.roles))}, or send the header x-flywheel-role"
        )
    return str(found)


def _upwards(span: Span, known: _Known) -> Iterable[Span]:
    """Yield a span and those above it, as far as they came in the same request."""
    seen: set[str] = set()
    at: Span | None = span
    while at is not None and at.span_id not in seen:
        seen.add(at.span_id)
        yield at
        at = known.get((at.trace_id, at.parent_span_id))


def _parent(span: Span, known: _Known) -> UUID | None:
    """Return the interaction above a call: the one said, else the nearest span that is one."""
    given = _uuid(ours(span.attributes, "parent"))
    if given is not None:
        return given
    _, *above = _upwards(span, known)
    for each in above:
        if operation_of(each.attributes) in INFERENCE and each.started_ns:
            return interaction_id(each)
    return None


def _episode(
    span: Span, attributes: Mapping[str, Any], layout: Layout, project: str
) -> UUID | None:
    """Return the episode: one said by id or key, else the conversation, else the trace.

    None where our own exporter says whose interaction it is, and of no episode.
    """
    said = _said(span, "episode")
    given = _uuid(said)
    if given is not None or (said is None and ours(attributes, "interaction")):
        return given
    conversation = _text(value_of(attributes, layout, "conversation"))
    return keyed_episode_id(project, said or conversation or span.trace_id)


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _rest(span: Span, attributes: Mapping[str, Any], asked: bool, answered: bool) -> dict[str, Any]:
    """Return what a record has no column for, and where it came from."""
    columns = {
        *OURS.values(),
        *(name for each in LAYOUTS for n in each.names.values() for name in n),
    }
    rest = {
        name: value
        for name, value in attributes.items()
        if name not in columns
        and not (asked and ASKED.match(name))
        and not (answered and ANSWERED.match(name))
    }
    origin = {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "span_name": span.name,
        "service_name": span.resource.get("service.name"),
    }
    error = span.status_message or next(
        (
            str(event.attributes.get("exception.message"))
            for event in span.events
            if event.attributes.get("exception.message")
        ),
        None,
    )
    kept = {"otel": {name: value for name, value in origin.items() if value}, **rest}
    return {**kept, "error": error} if span.failed and error else kept
