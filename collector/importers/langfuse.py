"""Langfuse traces: every GENERATION becomes an interaction, its trace the episode, scores feedback.

Read are `{"trace", "observations"}` documents, traces with their observations, API pages
(`{"data": […]}`), exported rows of traces, observations and scores in camelCase or snake_case, and
batches of ingestion events. Rows may come in any order, so the file is read twice: once for how
they hang together, once for the records. Input, output and metadata may be JSON inside text.

The role is `agent_role` or `role` in the metadata of the observation or its trace, or a tag
`role:<name>`, where that is a role we know; else the import's default.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from collector.importers import chat_shapes
from collector.importers.exchange import one_answer
from collector.importers.lines import Imported, Malformed, NoAnswer, Reject, read_rows
from collector.importers.moments import RECORDED_AT, milliseconds_between, moment_of
from collector.importers.roles import known_role
from collector.importers.source import Defaults, Source
from collector.record import (
    CUT,
    ERROR,
    SUCCESS,
    derived_id,
    feedback_record,
    interaction_record,
)
from foundation.chat import Message
from foundation.ids import keyed_episode_id

Row = dict[str, Any]

_CALL_TYPE = "GENERATION"
_OTHER_TYPES = frozenset(
    {"SPAN", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "EVALUATOR", "EMBEDDING", "GUARDRAIL"}
)
_SCORE_SOURCES = {"ANNOTATION": "human", "EVAL": "judge"}
_TRACE_FIELDS = ("name", "timestamp", "userId", "sessionId", "tags", "release", "version")
_PARAMETERS = {
    "temperature": "temperature",
    "maxTokens": "max_tokens",
    "max_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "topP": "top_p",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
    "stop_sequences": "stop",
    "stream": "stream",
    "n": "n",
    "frequencyPenalty": "frequency_penalty",
    "frequency_penalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
    "presence_penalty": "presence_penalty",
    "toolChoice": "tool_choice",
    "tool_choice": "tool_choice",
    "response_format": "response_format",
}
_KEPT = ("tool_choice", "parallel_tool_calls", "response_format")
"""Of a logged request, beside its messages and tools."""

_MAX_NAME_CHARS = 500
_LINKS = ("traceId", "observationId", "parentObservationId")
_MAX_KEPT_CHARS = 2_000
"""Longer metadata is left out: OpenTelemetry repeats the whole input and output in it."""


_ODD = (Malformed, LookupError, TypeError, ValueError, AttributeError)
"""What a value of an unforeseen kind raises; the row or observation is then rejected."""


@dataclass
class _Index:
    """How the rows of one file hang together."""

    traces: dict[str, Row] = field(default_factory=lambda: defaultdict(dict))
    parents: dict[str, str | None] = field(default_factory=dict)
    calls: dict[str, UUID] = field(default_factory=dict)
    last_calls: dict[str, str] = field(default_factory=dict)
    scores: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    events: dict[str, Row] = field(default_factory=dict)

    def enclosing_call(self, observation: str) -> UUID | None:
        """Return the nearest ancestor that is a call itself, or None; a ring of parents ends."""
        seen, parent = {observation}, self.parents.get(observation)
        while parent is not None and parent not in seen:
            if parent in self.calls:
                return self.calls[parent]
            seen.add(parent)
            parent = self.parents.get(parent)
        return None


@dataclass
class _Found:
    """What one row holds, with the names of the API."""

    traces: list[Row] = field(default_factory=list)
    observations: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    is_event: bool = False


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file; a record's place is that of its row."""
    index = _indexed(replace(source, skip=0))
    yield from read_rows(source, partial(_records, index))


def _indexed(source: Source) -> _Index:
    index = _Index()
    late: list[Row] = []
    for _, _, row in source.rows():
        if isinstance(row, str):
            continue
        try:
            found = _found_in(row)
        except (*_ODD, RecursionError):
            continue  # the second reading rejects it
        for trace in found.traces:
            known = {name: trace.get(name) for name in (*_TRACE_FIELDS, "metadata")}
            index.traces[trace["id"]] |= {k: v for k, v in known.items() if v is not None}
            late += found.scores
        for observation in found.observations:
            if found.is_event:
                observation = _merged(index.events, observation)
            _hang(index, observation, source.defaults)
    for score in late:
        step = score.get("observationId")
        index.scores[str(step if step in index.calls else score.get("traceId"))].append(score)
    return index


def _hang(index: _Index, observation: Row, defaults: Defaults) -> None:
    """Note an observation's parent, and its interaction if it is a call."""
    identifier, trace = observation["id"], str(observation.get("traceId"))
    index.parents[identifier] = observation.get("parentObservationId")
    if _is_call(observation) and not _is_empty(observation):
        index.calls[identifier] = _interaction_id(observation, defaults)
        index.last_calls[trace] = identifier


def _merged(events: dict[str, Row], part: Row) -> Row:
    """Add an event to what is known of its observation; later events say the newer."""
    known = events.setdefault(part["id"], {})
    known |= {name: value for name, value in part.items() if value is not None}
    return known


def _records(index: _Index, row: Row, number: int, source: Source) -> Iterable[Imported | Reject]:
    found = _found_in(row)
    observations = found.observations
    if found.is_event:
        observations = [index.events.pop(o["id"]) for o in observations if o["id"] in index.events]
    for fault in found.faults:
        yield Reject(number, f"malformed: {fault}", "")
    for trace in found.traces:
        if trace["id"] not in index.last_calls:
            reason = "no_generation: no observation of the trace in this file is a call of a model"
            yield Reject(number, reason, f"trace {trace['id']}")
    for score in found.scores:
        if not _is_reachable(index, score):
            yield Reject(number, "no_interaction: what it scores is not in this file", _text(score))
    for observation in filter(_is_call, observations):
        try:
            yield _imported(index, observation, number, source)
        except _ODD as error:
            code = getattr(error, "code", "unexpected")
            yield Reject(number, f"{code}: {error}", f"observation {observation['id']}")


def _is_reachable(index: _Index, score: Row) -> bool:
    trace, observation = score.get("traceId"), score.get("observationId")
    return trace in index.last_calls or (observation is not None and observation in index.calls)


def _found_in(row: Row) -> _Found:
    """Sort what a row holds.

    Raises:
        Malformed: it is none of Langfuse's shapes.
    """
    found = _Found()
    if isinstance(row.get("body"), dict) and isinstance(row.get("type"), str):
        found.is_event = True
        _sort_event(row, found)
    elif isinstance(row.get("batch"), list):
        events: dict[str, Row] = {}
        for event in row["batch"]:
            inner = _event_of(event)
            found.traces += inner.traces
            found.scores += inner.scores
            found.faults += inner.faults
            for observation in inner.observations:
                _merged(events, observation)
        found.observations += events.values()
    elif isinstance(row.get("data"), list):
        _sort_each(row["data"], found)
    elif isinstance(row.get("trace"), dict):
        _sort({**row["trace"], "observations": row.get("observations")}, found)
        _sort_scores(row.get("scores"), found)
    else:
        _sort(row, found)
    return found


def _event_of(event: Any) -> _Found:
    try:
        return _found_in(event if isinstance(event, dict) else {})
    except Malformed as error:
        return _Found(faults=[str(error)])


def _sort_event(event: Row, found: _Found) -> None:
    kind, body = str(event["type"]), {**_camel(event["body"])}
    body.setdefault("id", event.get("id"))
    if kind.startswith("score"):
        found.scores.append({"timestamp": event.get("timestamp"), **body})
    elif kind.startswith("trace"):
        found.traces.append(_identified(body))
    elif not kind.startswith("sdk"):
        kind = kind.partition("-")[0].upper()
        known = {} if kind == "OBSERVATION" else {"type": kind}
        found.observations.append(_identified({**known, **body}))


def _sort(row: Any, found: _Found) -> None:
    if not isinstance(row, dict):
        raise Malformed(f"got {row!r:.80}, expected a trace, an observation or a score")
    row = _camel(row)
    if "startTime" in row or ("type" in row and "traceId" in row):
        found.observations.append(_identified(row))
    elif "dataType" in row or ("value" in row and "name" in row):
        found.scores.append(row)
    elif "observations" in row or "timestamp" in row:
        found.traces.append(_identified(row))
        _sort_scores(row.get("scores"), found)
        _sort_scores(row.get("corrections"), found)
        steps = [item for item in _list(row.get("observations")) if isinstance(item, dict)]
        _sort_each([{"traceId": row["id"], "startTime": None, **_camel(s)} for s in steps], found)
    else:
        raise Malformed(f"got the fields {', '.join(sorted(row))[:200]}, expected a trace")


def _sort_each(rows: list[Any], found: _Found) -> None:
    """Sort items of a row; one that is nothing we know costs only itself."""
    for row in rows:
        try:
            _sort(row, found)
        except Malformed as error:
            found.faults.append(str(error))


def _sort_scores(rows: Any, found: _Found) -> None:
    found.scores += [_camel(row) for row in _list(rows) if isinstance(row, dict)]


def _camel(row: Row) -> Row:
    """Return a row with the API's names, from those of exports to files."""
    named = {re.sub("_([a-z])", lambda m: m[1].upper(), name): v for name, v in row.items()}
    if "providedModelName" in named:
        named.setdefault("model", named["providedModelName"])
    return named | {name: _link(named[name]) for name in _LINKS if name in named}


def _link(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _identified(row: Row) -> Row:
    if not isinstance(row.get("id"), str) or not row["id"]:
        raise Malformed(f"id: got {row.get('id')!r:.80}, expected a text")
    return row


def _is_call(observation: Row) -> bool:
    """Tell a call of a model; an observation of a type not known here is one if it has a model."""
    kind = str(observation.get("type") or "").upper()
    return kind == _CALL_TYPE or (kind not in _OTHER_TYPES and bool(observation.get("model")))


def _is_empty(observation: Row) -> bool:
    said = (chat_shapes.decoded(observation.get(name)) for name in ("input", "output"))
    return all(value in (None, "", [], {}) for value in said)


def _interaction_id(observation: Row, defaults: Defaults) -> UUID:
    """Return the id of a call; its import for another role or project is another record."""
    place = (defaults.role, defaults.project, str(observation.get("traceId")))
    return derived_id(_started(observation), "langfuse", *place, observation["id"])


def _started(observation: Row) -> datetime:
    return (
        moment_of(observation.get("startTime"))
        or moment_of(observation.get("createdAt"))
        or RECORDED_AT
    )


def _imported(index: _Index, observation: Row, number: int, source: Source) -> Imported:
    if _is_empty(observation):
        raise NoAnswer("the generation has neither input nor output")
    trace_id = str(observation.get("traceId"))
    trace = index.traces.get(trace_id, {})
    metadata = _object(observation.get("metadata"))
    identifier = _interaction_id(observation, source.defaults)
    response = _response(observation, metadata)
    failed = str(observation.get("level")).upper() == "ERROR"
    status = ERROR if failed else SUCCESS if response else CUT
    interaction = interaction_record(
        identifier,
        _role(metadata, trace, source),
        _request(observation, metadata),
        response,
        key=_name(observation["id"]),
        project=source.defaults.project,
        task_type=source.defaults.task_type,
        episode_id=_episode(trace_id, source.defaults),
        parent_id=index.enclosing_call(observation["id"]),
        unit_id=_name(trace.get("userId")),
        gen_ai_conversation_id=_name(trace.get("sessionId")),
        gen_ai_prompt_name=_name(observation.get("promptName")),
        gen_ai_prompt_version=_name(observation.get("promptVersion")),
        status=status,
        error_type=_error_type(observation) if failed else None if response else "lost_answer",
        completed=response is not None,
        started_at=_started(observation),
        latency_ms=_latency_ms(observation),
        ttft_ms=_ttft_ms(observation),
        cost_usd=_cost_usd(observation),
        source="import:langfuse",
        attributes=_attributes(observation, trace, metadata),
    )
    feedback = _feedback(index, observation, identifier, source.defaults)
    return Imported(number, interaction, feedback, lost=status == CUT)


def _episode(trace_id: str, defaults: Defaults) -> UUID:
    return keyed_episode_id(defaults.project, f"langfuse:{trace_id}")


def _role(metadata: Row, trace: Row, source: Source) -> str:
    places = (metadata, _object(trace.get("metadata")))
    names = [place.get(name) for place in places for name in ("agent_role", "role")]
    tags = [tag for tag in _list(trace.get("tags")) if isinstance(tag, str)]
    names += [tag.removeprefix("role:") for tag in tags if tag.startswith("role:")]
    return known_role(*names) or source.defaults.role


def _request(observation: Row, metadata: Row) -> Row:
    logged = chat_shapes.decoded(observation.get("input"))
    request: Row = {
        "model": observation.get("model"),
        "messages": chat_shapes.messages_of(logged),
    }
    if tools := _tools(observation, metadata, logged):
        request["tools"] = tools
    asked = logged if isinstance(logged, Mapping) else {}
    kept = {name: asked[name] for name in _KEPT if asked.get(name) is not None}
    return request | kept | _parameters(observation)


def _tools(observation: Row, metadata: Row, logged: Any) -> list[Row]:
    """Return the tools offered, from the first of the places where frameworks log them."""
    asked = logged if isinstance(logged, Mapping) else {}
    config = _object(asked.get("config"))
    attributes = _object(metadata.get("attributes"))
    pydantic_ai = _object(attributes.get("model_request_parameters"))
    places = (
        asked.get("tools") or asked.get("functions"),
        config.get("tools"),
        chat_shapes.tools_in_messages(logged),
        metadata.get("tools"),
        [pydantic_ai.get("function_tools"), pydantic_ai.get("output_tools")],
        attributes.get("gen_ai.tool.definitions"),
        observation.get("toolDefinitions"),
    )
    return next((tools for place in places if (tools := chat_shapes.tools_of(place))), [])


def _parameters(observation: Row) -> Row:
    """Return the sampling parameters under OpenAI's names; texts of numbers and lists decoded."""
    parameters: Row = {}
    for name, value in _object(observation.get("modelParameters")).items():
        known = _PARAMETERS.get(name)
        value = _native(value)
        if known is not None and value not in (None, "", -1) and not isinstance(value, dict):
            parameters[known] = value
    return parameters


def _native(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _response(observation: Row, metadata: Row) -> Row | None:
    """Return the answer as a chat completion; None if none was logged."""
    logged = chat_shapes.decoded(observation.get("output"))
    attributes = _object(metadata.get("attributes"))
    if isinstance(logged, dict) and _is_completion(logged):
        return logged
    messages = chat_shapes.messages_of(logged, "assistant")
    said = [message for message in messages if message["role"] == "assistant"]
    if not said:
        return None
    if len(said) == len(messages) and any(_is_no_words(message) for message in said):
        said = messages = [one_answer(said)]
    response: Row = {
        "id": attributes.get("gen_ai.response.id") or observation["id"],
        "object": "chat.completion",
        "model": attributes.get("gen_ai.response.model") or observation.get("model"),
        "choices": _choices(said if len(said) == len(messages) else said[-1:], logged, attributes),
    }
    if len(said) < len(messages):
        response["output_messages"] = (
            messages  # a whole conversation; its last answer is the choice
        )
    if usage := _usage(observation):
        response["usage"] = usage
    return response


def _is_no_words(message: Message) -> bool:
    """Tell an item of a turn, such as a thought or a call, from one of several answers."""
    return not message.get("content") and not message.get("refusal")


def _is_completion(logged: Row) -> bool:
    choices = logged.get("choices")
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(
            isinstance(choice, dict) and isinstance(choice.get("message"), dict)
            for choice in choices
        )
    )


def _choices(said: list[Message], logged: Any, attributes: Row) -> list[Row]:
    reasons = _finish_reasons(logged, attributes)
    return [
        {
            "index": index,
            "message": message,
            "finish_reason": "tool_calls"
            if message.get("tool_calls")
            else reasons[min(index, len(reasons) - 1)],
        }
        for index, message in enumerate(said)
    ]


def _finish_reasons(logged: Any, attributes: Row) -> list[str]:
    rows = logged if isinstance(logged, list) else [logged]
    names = ("finish_reason", "finishReason", "stop_reason")
    given = [row.get(name) for row in rows if isinstance(row, Mapping) for name in names]
    given += _list(attributes.get("gen_ai.response.finish_reasons"))
    given.append(attributes.get("ai.response.finishReason"))
    return [r for value in given if (r := chat_shapes.finish_reason_of(value))] or ["stop"]


def _usage(observation: Row) -> Row:
    details, legacy = _object(observation.get("usageDetails")), _object(observation.get("usage"))
    asked = _first_count(
        _counted(details, "input", "output"),
        legacy.get("input"),
        legacy.get("promptTokens"),
        observation.get("promptTokens"),
        observation.get("inputUsage"),
    )
    answered = _first_count(
        _counted(details, "output", "input"),
        legacy.get("output"),
        legacy.get("completionTokens"),
        observation.get("completionTokens"),
        observation.get("outputUsage"),
    )
    if not asked and not answered:
        return {}
    usage: Row = {
        "prompt_tokens": asked or 0,
        "completion_tokens": answered or 0,
        "total_tokens": (asked or 0) + (answered or 0),
    }
    if cached := _sum_of(details, lambda name: "cached" in name or "cache_read" in name):
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    if reasoning := _sum_of(details, lambda name: "reasoning" in name):
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return usage


def _counted(details: Row, side: str, other: str) -> int | None:
    """Return the tokens of a side with those that are counted apart from it, such as cached ones.

    Langfuse's own clients count them apart, others as a part of the side; the total tells which.
    """
    alone, total = _first_count(details.get(side)), _first_count(details.get("total"))
    apart = _sum_of(details, lambda name: name != side and side in name)
    if alone is None or not apart:
        return alone
    rest = _first_count(details.get(other)) or 0
    return alone if total is not None and alone + rest >= total else alone + apart


def _sum_of(details: Row, is_meant: Callable[[str], bool]) -> int:
    return sum(_first_count(value) or 0 for name, value in details.items() if is_meant(name))


def _first_count(*values: Any) -> int | None:
    return next((int(n) for value in values if (n := _number(value)) is not None and n >= 0), None)


def _cost_usd(observation: Row) -> float | None:
    """Return the cost; None for Langfuse's zero that means "not known"."""
    details, usage = _object(observation.get("costDetails")), _object(observation.get("usage"))
    given = (
        details.get("total"),
        observation.get("totalCost"),
        observation.get("calculatedTotalCost"),
        usage.get("totalCost"),
        sum(_number(value) or 0 for name, value in details.items() if name != "total"),
    )
    return next((n for value in given if (n := _number(value)) is not None and n > 0), None)


def _latency_ms(observation: Row) -> float | None:
    measured = milliseconds_between(observation.get("startTime"), observation.get("endTime"))
    seconds = _number(observation.get("latency"))
    return measured if measured is not None else seconds * 1000 if seconds else None


def _ttft_ms(observation: Row) -> float | None:
    """Return the time to the first token; None for calls that came as one, which have none."""
    first, end = observation.get("completionStartTime"), observation.get("endTime")
    measured = milliseconds_between(observation.get("startTime"), first)
    seconds = _number(observation.get("timeToFirstToken"))
    if measured is None:
        return seconds * 1000 if seconds else None
    return None if moment_of(first) == moment_of(end) else measured


def _error_type(observation: Row) -> str:
    message = str(observation.get("statusMessage") or "")
    named = re.match(r"[\w.]*(?:Error|Exception|Timeout)\b", message)
    return named[0] if named else "error"


def _attributes(observation: Row, trace: Row, metadata: Row) -> Row:
    kept = ("name", "type", "level", "statusMessage", "environment", "version", "modelParameters")
    attributes = {name: observation[name] for name in kept if observation.get(name) is not None}
    attributes |= {"observation_id": observation["id"], "trace_id": observation.get("traceId")}
    shown = {name: trace[name] for name in ("name", "tags", "release", "version") if name in trace}
    if shown:
        attributes["trace"] = shown
    own = {**metadata, **_object(metadata.get("attributes"))}
    small = {k: v for k, v in own.items() if k != "attributes" and len(_text(v)) < _MAX_KEPT_CHARS}
    if small:
        attributes["metadata"] = small
    return attributes


def _feedback(index: _Index, observation: Row, interaction: UUID, defaults: Defaults) -> list[Row]:
    """Return the scores of a call, and with a trace's last call those of the trace."""
    identifier, trace = observation["id"], str(observation.get("traceId"))
    episode = _episode(trace, defaults)
    found = [_score(score, interaction, episode) for score in index.scores[identifier]]
    if index.last_calls.get(trace) == identifier:
        found += [_score(score, None, episode) for score in index.scores[trace]]
    return [statement for statement in found if statement is not None]


def _score(score: Row, interaction: UUID | None, episode: UUID) -> Row | None:
    """Return a score as feedback; None if it has no value."""
    created = moment_of(score.get("timestamp")) or moment_of(score.get("createdAt")) or RECORDED_AT
    said = _statement(score)
    if said is None:
        return None
    kind, value, text = said
    identifier = str(score.get("id") or _text(score))
    details = {"comment": score.get("comment"), "metadata": _object(score.get("metadata")) or None}
    return feedback_record(
        derived_id(created, "langfuse", "score", str(interaction or episode), identifier),
        kind,
        interaction_id=interaction,
        episode_id=episode,
        name=_name(score.get("name")),
        value=value,
        text=text,
        source=_SCORE_SOURCES.get(str(score.get("source")).upper(), "user"),
        actor=_name(score.get("authorUserId")),
        details={name: item for name, item in details.items() if item} or None,
        created_at=created,
    )


def _statement(score: Row) -> tuple[str, float | None, str | None] | None:
    """Return (kind, value, text) by the score's data type, or by its value if it names none."""
    value, number = score.get("value"), _number(score.get("value"))
    text = score.get("stringValue") or score.get("longStringValue")
    text = text or (value if isinstance(value, str) else None)
    kind = str(score.get("dataType") or "").upper()
    if kind == "CORRECTION":
        return ("correction", None, text) if text else None
    if kind == "BOOLEAN" or isinstance(value, bool):
        right = bool(value) if number is None else number > 0
        return "success", float(right), None
    if kind == "CATEGORICAL" or (not kind and text):
        return ("category", None, text) if text else None
    return ("metric", number, None) if number is not None else None


def _object(value: Any) -> Row:
    value = chat_shapes.decoded(value)
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    value = chat_shapes.decoded(value)
    return value if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    try:
        return float(value) if isinstance(value, int | float | str) and value != "" else None
    except (ValueError, OverflowError):
        return None


def _name(value: Any) -> str | None:
    """Return a name, an id or a version as the columns of the log hold them; None for none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)[:_MAX_NAME_CHARS] or None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def recognises(row: Row) -> bool:
    """Tell a Langfuse export by the first object of a file."""
    if isinstance(row.get("trace"), dict) and isinstance(row.get("observations"), list):
        return True
    if isinstance(row.get("batch"), list) or isinstance(row.get("data"), list):
        rows = row.get("batch") or row["data"]
        first = rows[0] if rows and isinstance(rows[0], dict) else {}
        inner = _object(first.get("body")) or first
        return "traceId" in inner or {"id", "timestamp"} <= inner.keys()
    named = _camel(row)
    return {"id", "traceId"} <= named.keys() or {"id", "timestamp", "observations"} <= named.keys()
