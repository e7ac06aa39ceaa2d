"""Routes of the collector: take batches, show what became of the records."""

from fastapi import APIRouter

from collector.ingest import ingest_counts, store_batch
from collector.schemas import IngestAnswer, IngestBatch, SourceCounts
from foundation.database import session_scope

routes = APIRouter(prefix="/v1/ingest", tags=["collector"])


@routes.post("")
def ingest(batch: IngestBatch) -> IngestAnswer:
    """Store a batch of records in one transaction and answer for each of them."""
    with session_scope() as session:
        results = store_batch(session, batch)
    return IngestAnswer(results=results)


@routes.get("/counts")
def counts() -> list[SourceCounts]:
    """Records of every source by what became of them: stored, duplicate, rejected, dropped."""
    with session_scope() as session:
        return ingest_counts(session)
