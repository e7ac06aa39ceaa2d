"""Logs of Inspect (`.json`, and `.eval`, a zip of JSON): a sample's calls, its scores as feedback.

Every model event of a sample becomes an interaction, with the provider's own request and response
where the log kept them; a sample without events is read from its messages. The sample is the
episode. Calls of a named model role that we know have that role, those of a scorer or a grader the
role `reviewer`: they judge, and the agent must not learn from them as its own.
"""

import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from collector.importers import chat_shapes
from collector.importers.lines import Imported, Malformed, NoAnswer, Reject, read_rows
from collector.importers.moments import RECORDED_AT, milliseconds_between, moment_of
from collector.importers.roles import known_role
from collector.importers.row import Row
from collector.importers.source import MAX_ROW_BYTES, Source
from collector.importers.source import Row as SourceRow
from collector.record import CUT, ERROR, SUCCESS, feedback_record, plain
from foundation.chat import Message

FORMAT = "inspect"
SUFFIXES = (".eval", ".json", ".json.gz")
MAX_LOG_BYTES = 16 * 1024**3
"""Of one unpacked `.eval` file; what lies beyond is rejected, be it a zip bomb or a huge log."""

_MAX_DEPTH = 60
_ATTACHMENT = "attachment://"
_GRADES = {"C": 1.0, "I": 0.0, "N": 0.0}
"""Inspect's letters: correct, incorrect, no answer. P, partial, is worth a half."""

_PARAMETERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "stop_seqs": "stop",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "num_choices": "n",
    "reasoning_effort": "reasoning_effort",
}
_NO_PART_OF_A_REQUEST = ("extra_headers", "extra_body", "timeout", "system")


_CONVERT = (
    "the zip is compressed in a way that Python cannot read; "
    "write it anew: inspect log convert --to json"
)
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one log; a record's place is its sample's number, from 1."""
    yield from read_rows(source, _of_sample, _samples(source))


def recognises(row: dict[str, Any]) -> bool:
    """Tell a log by the first object of a file."""
    return isinstance(row.get("eval"), dict) and "status" in row and "version" in row


def _samples(source: Source) -> Iterator[SourceRow]:
    """Yield each sample with its log, `{"log", "sample"}`, or the reason why it cannot be read."""
    try:
        with source.open() as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            if is_zip:
                with zipfile.ZipFile(file) as archive:
                    yield from _of_zip(archive, source.skip)
                return
    except NotImplementedError:
        yield 1, "", f"unreadable: {_CONVERT}"
        return
    except _UNREADABLE as error:
        yield 1, "", f"unreadable: {type(error).__name__}: {error}"
        return
    for place, text, log in source.rows():
        if isinstance(log, str):
            yield place, text, log
        else:
            yield from _of_document(log)


def _of_document(log: dict[str, Any]) -> Iterator[SourceRow]:
    samples = log.pop("samples", None)
    rows = samples if isinstance(samples, list) else []
    for number, sample in enumerate(rows, start=1):
        yield number, _name(sample), {"log": log, "sample": sample}
    if not rows:
        yield 1, "", _no_samples(log)


def _of_zip(archive: zipfile.ZipFile, skip: int) -> Iterator[SourceRow]:
    """Read one sample after the other; a damaged one is rejected, the others are read."""
    log = _header(archive)
    names = sorted(name for name in archive.namelist() if name.startswith("samples/"))
    n_left = MAX_LOG_BYTES
    for number, name in enumerate(names, start=1):
        if number <= skip:
            continue
        try:
            text = _member(archive, name, n_left)
            n_left -= len(text)
            yield number, name, {"log": log, "sample": json.loads(text)}
        except NotImplementedError:  # Zstandard, which Inspect writes if told to
            yield number, name, f"unreadable: {_CONVERT}"
        except RecursionError:
            yield number, name, "too_deep: nested too deeply"
        except _UNREADABLE as error:
            yield number, name, f"unreadable: {type(error).__name__}: {error}"
    if not names:
        yield 1, "", _no_samples(log)


def _header(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return the log without its samples; that of an unfinished log is what was noted at its start.

    Raises:
        KeyError: the zip holds neither.
    """
    names = archive.namelist()
    name = "header.json" if "header.json" in names else "_journal/start.json"
    log = json.loads(_member(archive, name, MAX_LOG_BYTES))
    if not isinstance(log, dict):
        raise ValueError(f"{name}: a JSON {type(log).__name__}, expected an object")
    return {"status": "started", **log}


def _member(archive: zipfile.ZipFile, name: str, n_left: int) -> bytes:
    """Return one file of the zip, reading no more than is allowed whatever its size claims to be.

    Raises:
        ValueError: it is larger.
    """
    limit = min(MAX_ROW_BYTES, n_left)
    with archive.open(name) as member:
        text = member.read(limit + 1)
    if len(text) > limit:
        raise ValueError(f"more than {limit} bytes unpacked")
    return text


def _no_samples(log: dict[str, Any]) -> str:
    return f"no_answer: the log has no samples, its status is {log.get('status')!r}"


def _name(sample: Any) -> str:
    return f"sample {sample.get('id')}" if isinstance(sample, dict) else ""


def _of_sample(raw: dict[str, Any], place: int, source: Source) -> Iterable[Imported]:
    log, sample = raw["log"], raw["sample"]
    if not isinstance(sample, dict):
        raise Malformed(f"sample: got {sample!r:.80}, expected an object")
    sample = _attached(sample, _object(sample.pop("attachments", None)), _MAX_DEPTH)
    calls = _calls(sample, log)
    if not calls:
        raise NoAnswer("no model was called for the sample")
    row = _row(sample, log, place, source, calls[0])
    shared = _attributes(sample, log)
    found: list[Imported] = []
    for number, call in enumerate(calls):
        found.append(_imported(row, number, call, shared, found))
    found[-1].interaction["attributes"] |= _ending(sample)
    found[-1].feedback.extend(_scores(sample, row, found))
    return found


def _attached(value: Any, attachments: dict[str, Any], depth: int) -> Any:
    """Put the long texts back that the log keeps once, beside the sample."""
    if isinstance(value, str) and value.startswith(_ATTACHMENT):
        return attachments.get(value.removeprefix(_ATTACHMENT), value)
    if depth == 0 or not attachments:
        return value
    if isinstance(value, list):
        return [_attached(item, attachments, depth - 1) for item in value]
    if isinstance(value, dict):
        return {name: _attached(item, attachments, depth - 1) for name, item in value.items()}
    return value


@dataclass(frozen=True)
class _Call:
    """One call of a model."""

    request: dict[str, Any]
    response: dict[str, Any] | None
    role: str | None = None
    started_at: datetime | None = None
    error: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)


def _calls(sample: dict[str, Any], log: dict[str, Any]) -> list[_Call]:
    events = [event for event in _list(sample.get("events")) if isinstance(event, dict)]
    spans = {e.get("id"): e for e in events if e.get("event") == "span_begin"}
    pool = _list(_object(sample.get("events_data")).get("messages"))
    calls = [_of_event(e, spans, pool) for e in events if e.get("event") == "model"]
    return calls or _of_messages(sample, log)


def _of_event(event: dict[str, Any], spans: dict[Any, dict[str, Any]], pool: list[Any]) -> _Call:
    output, sent = _object(event.get("output")), _object(event.get("call"))
    started = moment_of(event.get("timestamp"))
    error = event.get("error") or output.get("error")
    seconds = output.get("time") or event.get("working_time")
    latency = milliseconds_between(event.get("timestamp"), event.get("completed"))
    if latency is None and isinstance(seconds, int | float):
        latency = seconds * 1000
    return _Call(
        _request(event, _object(sent.get("request")), pool),
        _response(output, _object(sent.get("response"))),
        known_role(*_roles(event, spans)),
        started,
        str(error) if error else None,
        {"latency_ms": latency},
    )


def _roles(event: dict[str, Any], spans: dict[Any, dict[str, Any]]) -> list[Any]:
    judges = event.get("role") == "grader" or _in_scorer(event, spans)
    return [event.get("role"), "reviewer" if judges else None]


def _request(event: dict[str, Any], sent: dict[str, Any], pool: list[Any]) -> dict[str, Any]:
    """Return the request as the provider got it, if in OpenAI's shape, else as Inspect made it."""
    if isinstance(sent.get("messages"), list) and isinstance(sent.get("model"), str):
        asked = {k: v for k, v in sent.items() if v is not None and k not in _NO_PART_OF_A_REQUEST}
        return {**asked, "messages": chat_shapes.messages_of(sent)} | _tools(sent.get("tools"))
    messages = _list(event.get("input"))
    for start, end in _list(event.get("input_refs")):
        messages += pool[start:end]
    config = _object(event.get("config"))
    return {
        "model": event.get("model"),
        "messages": _messages(messages),
        **_tools(event.get("tools")),
        **_parameters(config),
    }


def _tools(value: Any) -> dict[str, Any]:
    tools = chat_shapes.tools_of(value)
    return {"tools": tools} if tools else {}


def _parameters(config: dict[str, Any]) -> dict[str, Any]:
    return {
        ours: config[theirs]
        for theirs, ours in _PARAMETERS.items()
        if config.get(theirs) is not None
    }


def _response(output: dict[str, Any], got: dict[str, Any]) -> dict[str, Any] | None:
    """Return the provider's own completion if the log kept it, else Inspect's; None for neither."""
    if isinstance(got.get("choices"), list) and got["choices"]:
        return got
    choices = [choice for choice in _list(output.get("choices")) if isinstance(choice, dict)]
    if not choices:
        return None
    response: dict[str, Any] = {
        "id": output.get("completion_id") or _object(choices[0].get("message")).get("id"),
        "object": "chat.completion",
        "model": output.get("model"),
        "choices": [_choice(index, choice) for index, choice in enumerate(choices)],
    }
    if usage := _usage(_object(output.get("usage"))):
        response["usage"] = usage
    return response


def _choice(index: int, choice: dict[str, Any]) -> dict[str, Any]:
    (message,) = _messages([choice.get("message")])[-1:] or [{"role": "assistant", "content": ""}]
    reason = choice.get("stop_reason")
    finish = "length" if reason == "model_length" else chat_shapes.finish_reason_of(reason)
    return {"index": index, "message": message, "finish_reason": finish}


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    asked, answered = usage.get("input_tokens"), usage.get("output_tokens")
    if not isinstance(asked, int) or not isinstance(answered, int):
        return {}
    counts: dict[str, Any] = {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": usage.get("total_tokens") or asked + answered,
    }
    if usage.get("input_tokens_cache_read"):
        counts["prompt_tokens_details"] = {"cached_tokens": usage["input_tokens_cache_read"]}
    if usage.get("reasoning_tokens"):
        details = {"reasoning_tokens": usage["reasoning_tokens"]}
        counts["completion_tokens_details"] = details
    return counts


def _of_messages(sample: dict[str, Any], log: dict[str, Any]) -> list[_Call]:
    """Return the answers of a sample whose log kept no events, each asked with what came before."""
    logged = _object(log.get("eval"))
    config = _parameters(_object(logged.get("model_generate_config")))
    messages = _messages(_list(sample.get("messages")))
    output = _object(sample.get("output"))
    final = _response(output, {})
    if not messages and final is not None:
        messages = [*_messages(sample.get("input")), final["choices"][0]["message"]]
    calls = []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            is_last = not any(later["role"] == "assistant" for later in messages[index + 1 :])
            request = {"model": logged.get("model"), "messages": messages[:index], **config}
            calls.append(_Call(request, (final if is_last else None) or _plain_response(message)))
    return calls


def _plain_response(message: Message) -> dict[str, Any]:
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"object": "chat.completion", "choices": [choice]}


def _messages(rows: Any) -> list[Message]:
    """Return Inspect's messages as OpenAI's; a failed tool call says what went wrong."""
    rows = rows if isinstance(rows, list) else [rows]
    return chat_shapes.messages_of([_told(row) for row in rows])


def _told(row: Any) -> Any:
    error = _object(row.get("error")) if isinstance(row, dict) else {}
    if not error or row.get("content"):
        return row
    return {**row, "content": str(error.get("message"))}


def _in_scorer(event: dict[str, Any], spans: dict[Any, dict[str, Any]]) -> bool:
    """Tell whether an event lies in a scorer's span; a ring of spans ends."""
    identifier, seen = event.get("span_id"), set()
    while identifier in spans and identifier not in seen:
        if spans[identifier].get("type") in ("scorer", "scorers"):
            return True
        seen.add(identifier)
        identifier = spans[identifier].get("parent_id")
    return False


def _row(
    sample: dict[str, Any], log: dict[str, Any], place: int, source: Source, first: _Call
) -> Row:
    logged = _object(log.get("eval"))
    stats = _object(log.get("stats"))
    times = (logged.get("created"), stats.get("started_at"))
    moments = (first.started_at, *map(moment_of, times), RECORDED_AT)
    text = json.dumps([logged.get("run_id"), logged.get("eval_id"), sample], sort_keys=True)
    return Row(
        FORMAT,
        place,
        sha256(text.encode("utf-8", "replace")).hexdigest(),
        source.defaults.role,
        source.defaults.project,
        source.defaults.task_type,
        next(moment for moment in moments if moment),
    )


def _imported(
    row: Row, number: int, call: _Call, attributes: dict[str, Any], before: Sequence[Imported]
) -> Imported:
    lost = call.response is None
    status = ERROR if call.error else CUT if lost else SUCCESS
    imported = row.interaction(
        number,
        call.request,
        call.response,
        parent_id=before[-1].interaction["id"] if before else None,
        status=status,
        error_type=call.error if call.error else "lost_answer" if lost else None,
        completed=not lost,
        attributes=dict(attributes),
        **call.columns,
    )
    if call.started_at:
        imported.interaction["started_at"] = call.started_at.isoformat()
    if call.role:
        imported.interaction["role"] = call.role
    return replace(imported, lost=status == CUT)


def _attributes(sample: dict[str, Any], log: dict[str, Any]) -> dict[str, Any]:
    logged = _object(log.get("eval"))
    names = ("task", "run_id", "eval_id")
    attributes = {name: logged[name] for name in names if logged.get(name)}
    attributes |= {"sample_id": sample.get("id"), "epoch": sample.get("epoch")}
    return attributes | {"log_status": log.get("status")}


def _ending(sample: dict[str, Any]) -> dict[str, Any]:
    """Return what is worth knowing of a sample's end: its target, its error, its limit."""
    error, limit = _object(sample.get("error")), _object(sample.get("limit"))
    ending = {
        "target": sample.get("target"),
        "error": error.get("message"),
        "limit": limit.get("type"),
    }
    return {name: plain(value) for name, value in ending.items() if value is not None}


def _scores(sample: dict[str, Any], row: Row, found: Sequence[Imported]) -> list[dict[str, Any]]:
    scores = _object(sample.get("scores"))
    if not scores and isinstance(sample.get("score"), dict):
        scores = {"score": sample["score"]}
    only = found[0].interaction["id"] if len(found) == 1 else None
    statements = []
    for scorer, score in scores.items():
        score = score if isinstance(score, dict) else {"value": score}
        for name, kind, value, text in _statements(scorer, score.get("value")):
            statements.append(
                feedback_record(
                    row.id("score", name),
                    kind,
                    interaction_id=only,
                    episode_id=row.episode,
                    name=name,
                    value=value,
                    text=text,
                    source="judge" if _is_judged(scorer, score) else "test",
                    actor=f"inspect:{scorer}",
                    details=_details(score),
                    created_at=row.moment,
                )
            )
    return statements


def _statements(name: str, value: Any) -> Iterator[tuple[str, str, float | None, str | None]]:
    """Yield (name, kind, value, text) of a score; a score of several values gives several."""
    if isinstance(value, dict):
        for part, inner in value.items():
            yield from _statements(f"{name}.{part}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _statements(f"{name}.{index}", inner)
    elif isinstance(value, bool):
        yield name, "success", float(value), None
    elif isinstance(value, int | float):
        yield name, "metric", float(value), None
    elif value in _GRADES:
        yield name, "success", _GRADES[value], None
    elif value == "P":
        yield name, "metric", 0.5, None
    elif isinstance(value, str) and value:
        yield name, "category", None, value


def _is_judged(scorer: str, score: dict[str, Any]) -> bool:
    return "model_graded" in scorer or "grading" in _object(score.get("metadata"))


def _details(score: dict[str, Any]) -> dict[str, Any] | None:
    details = {name: score[name] for name in ("answer", "explanation") if score.get(name)}
    return details or None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []
