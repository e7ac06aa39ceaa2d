"""Deliver batches straight into the database: for importers, the gateway and single processes."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine

from collector.bodies import read_lines
from collector.delivery import Delivery, from_batch
from collector.ingest import DATABASE_AWAY, store
from collector.schemas import IngestBatch
from collector.transport import Batch, Result, Unreachable
from foundation.database import session_scope
from foundation.errors import DatabaseUnavailable
from foundation.settings import get_settings


class DirectTransport:
    """A transport whose other end is `store_batch` in this process, one transaction per batch.

    Args:
        engine: the database; that of the settings by default.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine

    def send(self, batch: Batch) -> list[Result]:
        """Store a batch; raises Unreachable when the database does not answer."""
        return self._store(from_batch(IngestBatch.model_validate(batch)))

    def send_lines(self, head: Mapping[str, Any], lines: Sequence[bytes]) -> list[Result]:
        """Store `{"kind", "record"}` lines as they are spooled; raises as `send`."""
        return self._store(read_lines(dict(head), lines, get_settings().max_record_bytes))

    def _store(self, delivery: Delivery) -> list[Result]:
        try:
            with session_scope(self._engine) as session:
                results = store(session, delivery)
        except (*DATABASE_AWAY, DatabaseUnavailable) as error:
            raise Unreachable(str(error).splitlines()[0]) from error
        return [result.model_dump() for result in results]

    def close(self) -> None:
        """Nothing to release: the engine is its owner's."""
