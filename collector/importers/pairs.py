"""Requests with their responses: `{"request", "response"}`, OpenPipe's exports, OpenAI's batches.

The names may be `request`/`response`, `reqPayload`/`respPayload`, `req`/`resp`, `body`/`response`
or `prompt`/`completion`; either may be an object, JSON text or a bare text. A line of a batch's
output names its request by `custom_id` only: the request is read from the batch's input, looked for
in the files of the same folder. A response with an error is kept as a failed call.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from collector.importers.exchange import request_of, response_of, says_something
from collector.importers.lines import Imported, Malformed, NoAnswer, Reject, parsed, read_rows
from collector.importers.messages import asked_with
from collector.importers.moments import milliseconds_between, moment_of
from collector.importers.row import Row
from collector.importers.source import Source
from collector.record import ERROR, SUCCESS

FORMAT = "pairs"

_NAMES = (
    ("request", "response"),
    ("reqPayload", "respPayload"),
    ("req", "resp"),
    ("request_body", "response_body"),
    ("requestBody", "responseBody"),
    ("body", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("input", "output"),
)
_STARTED = ("timestamp", "requestedAt", "started_at", "start_time", "created_at", "createdAt")
_ENDED = ("receivedAt", "ended_at", "end_time", "completed_at")
_KEPT = ("tags", "metadata", "custom_id", "name", "description", "user", "client_id", "statusCode")


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file."""
    batch: dict[str, Any] | None = None

    def translate(raw: dict[str, Any], place: int, source: Source) -> list[Imported]:
        nonlocal batch
        if _is_batch_output(raw):
            batch = batch_requests(source.path) if batch is None else batch
            raw = _joined(raw, batch)
        return [imported(FORMAT, raw, place, source)]

    return read_rows(source, translate)


def recognises(row: dict[str, Any]) -> bool:
    """Tell a pair, or a line of a batch's input or output."""
    return _is_batch_output(row) or any(a in row and b in row for a, b in _NAMES)


def imported(
    format: str,
    raw: dict[str, Any],
    place: int,
    source: Source,
    role: str | None = None,
    **columns: Any,
) -> Imported:
    """Return the interaction of one pair.

    Raises:
        Malformed: it has no request, or one that asks nothing.
        NoAnswer: it has no response, or an empty one without an error.
    """
    asked_by, answered_by = _names_in(raw)
    started = next((m for n in _STARTED if (m := moment_of(raw.get(n)))), None)
    row = Row.of(format, raw, place, source, role=role, moment=started)
    request = asked_with(raw.get("model")) | request_of(raw[asked_by], asked_by)
    answer = parsed(raw[answered_by])
    fault = _fault(raw, answer)
    response = None if fault else response_of(answer, row, 0, request.get("model"))
    if not fault and not says_something(response):
        raise NoAnswer(f"{answered_by}: got {raw[answered_by]!r:.80}, expected an answer")
    episodes = (_text(raw, name) for name in ("episode_id", "session_id", "trace_id"))
    row = row.in_episode(next(filter(None, episodes), None))
    duration = next((d for n in _ENDED if (d := milliseconds_between(started, raw.get(n)))), None)
    return row.interaction(
        0,
        request,
        response,
        status=ERROR if fault else SUCCESS,
        error_type=fault,
        completed=not fault,
        latency_ms=duration if duration is not None else _number(raw, "latency_ms"),
        cost_usd=_number(raw, "cost"),
        attributes={n: raw[n] for n in _KEPT if raw.get(n) not in (None, "", {}, [])} or None,
        **columns,
    )


def batch_requests(path: Path) -> dict[str, Any]:
    """Return the request bodies of the batch inputs beside a batch's output, by `custom_id`."""
    bodies: dict[str, Any] = {}
    for file in sorted(path.absolute().parent.glob("*.jsonl*")):
        for _, _, row in Source(file).rows():
            if not isinstance(row, dict) or "method" not in row:
                break  # no batch input
            bodies[str(row.get("custom_id"))] = row.get("body")
    return bodies


def _is_batch_output(raw: Mapping[str, Any]) -> bool:
    response = raw.get("response")
    inner = isinstance(response, dict) and "body" in response
    return "custom_id" in raw and (inner or bool(raw.get("error"))) and "request" not in raw


def _joined(raw: dict[str, Any], requests: Mapping[str, Any]) -> dict[str, Any]:
    request = raw.get("body") or requests.get(str(raw["custom_id"]))
    if request is None:
        raise Malformed(
            f"custom_id: got {raw['custom_id']!r:.80}, expected that of a request in a batch input "
            "in the same folder"
        )
    body = (raw.get("response") or {}).get("body")
    return {**raw, "request": request, "response": body}


def _names_in(raw: Mapping[str, Any]) -> tuple[str, str]:
    for asked, answered in _NAMES:
        if asked in raw and answered in raw:
            return asked, answered
    if "method" in raw and "body" in raw:
        raise NoAnswer("a request of a batch; its answer is in the batch's output file")
    raise Malformed(
        f"got the fields {', '.join(sorted(raw))[:200]}, expected a request and a response under "
        "names such as " + ", ".join(f"{a}/{b}" for a, b in _NAMES[:3])
    )


def _fault(raw: Mapping[str, Any], answer: Any) -> str | None:
    """Return the name of the error that a call ended with, or None."""
    error = raw.get("error") or raw.get("errorMessage") or raw.get("error_type")
    if not error and isinstance(answer, Mapping) and "choices" not in answer:
        error = answer.get("error")
    if not error:
        code = raw.get("statusCode") or raw.get("status_code")
        return f"http_{code}" if isinstance(code, int) and code >= 400 else None
    if isinstance(error, Mapping):
        error = error.get("type") or error.get("code") or error.get("message") or "error"
    return str(error)[:200]


def _text(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    return value if isinstance(value, str) and value else None


def _number(raw: Mapping[str, Any], name: str) -> float | None:
    value = raw.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        return None
    return float(value)
