"""Routes of the collector: take batches, show what became of the records, settle the refused."""

from mimetypes import guess_extension
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from collector.bodies import NDJSON, inflated, read_body, too_large
from collector.dead_letters import get_letter, letters
from collector.ingest import DATABASE_AWAY, ingest_counts, store
from collector.media import find
from collector.reconcile import reconciliation
from collector.replay import replay
from collector.schemas import (
    Account,
    IngestAnswer,
    IngestBatch,
    Label,
    RecordResult,
    SourceCounts,
)
from collector.tables import DeadLetter
from foundation.database import session_scope
from foundation.errors import DatabaseUnavailable
from foundation.settings import get_settings

routes = APIRouter(tags=["collector"])


def _batch_schema() -> dict[str, Any]:
    """Return the JSON schema of a batch without references, which point nowhere in this place."""
    schema = IngestBatch.model_json_schema()
    schema["properties"]["account"] = Account.model_json_schema()
    return {name: value for name, value in schema.items() if name != "$defs"}


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _batch_schema()},
            NDJSON: {"schema": {"type": "string"}},
        },
    }
}


@routes.post("/v1/ingest", response_model=IngestAnswer, openapi_extra=_BODY)
async def ingest(request: Request) -> Response:
    """Store a batch of records in one transaction and answer for each of them.

    A JSON object, or NDJSON: a line with the source, then one `{"kind", "record"}` per line.
    """
    body = await read_limited(request, get_settings().max_batch_bytes)
    headers = request.headers
    answer = await run_in_threadpool(
        _ingest, body, headers.get("content-type", ""), headers.get("content-encoding", "")
    )
    return Response(answer, media_type="application/json")


async def read_limited(request: Request, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        TooLarge: its stated length, or what came so far, is beyond `limit` bytes.
    """
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > limit:
        raise too_large(f"{stated} bytes", limit)
    pieces, size = list[bytes](), 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise too_large(f"more than {limit} bytes", limit)
        pieces.append(piece)
    return b"".join(pieces)


def _ingest(body: bytes, content_type: str, encoding: str) -> bytes:
    settings = get_settings()
    plain = inflated(body, encoding.strip().lower(), settings.max_batch_bytes)
    delivery = read_body(plain, content_type, settings.max_record_bytes)
    try:
        with session_scope() as session:
            results = store(session, delivery)
    except DATABASE_AWAY as error:
        raise DatabaseUnavailable("of the log", str(error).splitlines()[0]) from error
    return orjson.dumps({"results": [result.__dict__ for result in results]})


@routes.get("/v1/ingest/counts")
def counts() -> list[SourceCounts]:
    """Records of every source by what became of them: stored, duplicate, rejected, dropped."""
    with session_scope() as session:
        return ingest_counts(session)


@routes.get("/v1/ingest/reconciliation")
def reconciled() -> list[dict[str, Any]]:
    """The books of every source: what its writers saw beside what arrived, and what is missing."""
    with session_scope() as session:
        return [books.as_dict() for books in reconciliation(session)]


@routes.get("/v1/dead-letters")
def list_dead_letters(
    code: Label | None = None,
    settled: bool = False,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> list[DeadLetter]:
    """Refused records, newest first: those that wait, or with `settled` all."""
    with session_scope() as session:
        return letters(session, code, settled, limit)


@routes.post("/v1/dead-letters/{letter_id}/replay")
def replay_dead_letter(letter_id: UUID) -> RecordResult:
    """Try a refused record again, now that its cause may be mended."""
    with session_scope() as session:
        return replay(session, get_letter(session, letter_id))


@routes.get("/v1/media/{content_hash}", response_class=FileResponse)
def media_content(content_hash: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> FileResponse:
    """A content that a record refers to, for download: it came from outside, so none opens it."""
    with session_scope() as session:
        media, path = find(session, content_hash)
    return FileResponse(
        path,
        media_type=media.media_type,
        filename=f"{content_hash[:16]}{guess_extension(media.media_type) or '.bin'}",
        headers={
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox; default-src 'none'",
        },
    )
