"""The OTLP/HTTP door: `OTEL_EXPORTER_OTLP_ENDPOINT=http://host:8710/otlp` and no further setting.

Answers as the OTLP specification asks: a partial success where single spans are refused, 400 for a
body that cannot be read, 413, 415, and 503, which exporters try again, while the database is away.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.concurrency import run_in_threadpool

from collector.otel import wire
from collector.otel.read import Defaults, Reading, read_events, read_spans
from collector.otel.store import store_reading
from foundation.database import session_scope
from foundation.errors import DatabaseUnavailable
from foundation.settings import get_settings

routes = APIRouter(prefix="/otlp/v1", tags=["opentelemetry"])

MOST_REASONS = 5
"""Reasons told in one answer; the rest are counted there and found among the dead letters."""


@routes.post("/traces")
async def take_traces(request: Request) -> Response:
    """Store the inference spans of an OTLP trace export as interactions."""

    def store(body: bytes, encoding: str, defaults: Defaults) -> bytes:
        found = wire.read_traces(body, encoding)
        reading = read_spans(found.spans, defaults)
        rejected, message = _store(reading, found.faults, defaults)
        return wire.traces_answer(rejected, message, encoding)

    return await _answer(request, store)


@routes.post("/logs")
async def take_logs(request: Request) -> Response:
    """Store the messages and evaluations among the events of an OTLP log export."""

    def store(body: bytes, encoding: str, defaults: Defaults) -> bytes:
        found = wire.read_logs(body, encoding)
        reading = read_events(found.events, defaults)
        rejected, message = _store(reading, found.faults, defaults)
        return wire.logs_answer(rejected, message, encoding)

    return await _answer(request, store)


async def _answer(request: Request, store: Callable[[bytes, str, Defaults], bytes]) -> Response:
    """Read a request's body within the limit, store it in a thread, answer in its encoding."""
    encoding = wire.PROTOBUF
    try:
        encoding = wire.encoding_of(request.headers.get("content-type"))
        body = await _body(request, get_settings().max_batch_bytes)
        answer = await run_in_threadpool(store, body, encoding, _defaults(request))
    except wire.Refused as error:
        return _refusal(error.status, error.message, encoding)
    except (OperationalError, InterfaceError, DatabaseUnavailable) as error:
        return _refusal(503, str(error).splitlines()[0], encoding)
    return Response(answer, media_type=encoding)


def _refusal(status: int, message: str, encoding: str) -> Response:
    return Response(wire.error_answer(message, encoding), status, media_type=encoding)


async def _body(request: Request, limit: int) -> bytes:
    """Return a request's body, inflated; raises Refused with 413 beyond `limit` bytes."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise wire.Refused(413, f"the body is larger than the limit of {limit} bytes")
        pieces.append(piece)
    return wire.inflated(b"".join(pieces), request.headers.get("content-encoding"), limit)


def _defaults(request: Request) -> Defaults:
    settings = get_settings()
    return Defaults(
        roles=frozenset(settings.roles),
        role=request.headers.get("x-flywheel-role") or settings.otlp_role,
        project=request.headers.get("x-flywheel-project") or settings.project,
    )


def _store(reading: Reading, faults: Sequence[str], defaults: Defaults) -> tuple[int, str]:
    """Store what was read; return how many were rejected and why, in one line."""
    with session_scope() as session:
        reasons = store_reading(session, reading, faults, defaults.roles)
    return len(reasons), _in_words(reasons)


def _in_words(reasons: Iterable[str]) -> str:
    counts = Counter(reasons)
    told = [f"{n} × {reason}" for reason, n in counts.most_common(MOST_REASONS)]
    more = len(counts) - len(told)
    return "; ".join(told) + (f"; and {more} further reasons" if more > 0 else "")
