"""Deliver batches straight into the database: for importers, the gateway and single processes."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from collector.bodies import read_lines
from collector.delivery import Delivery, from_batch
from collector.ingest import DATABASE_AWAY, STORED, store
from collector.schemas import IngestBatch
from collector.transport import Batch, Result, Unreachable
from foundation.database import session_scope
from foundation.errors import DatabaseUnavailable
from foundation.settings import get_settings


class DirectTransport:
    """A transport whose other end is `store_batch` in this process, one transaction per batch.

    Args:
        engine: the database; that of the settings by default.
        max_record_bytes: of one spooled line; as the settings say by default.
    """

    def __init__(self, engine: Engine | None = None, max_record_bytes: int | None = None) -> None:
        self._engine, self._max_record_bytes = engine, max_record_bytes

    def send(self, batch: Batch) -> list[Result]:
        """Store a batch; raises Unreachable when the database does not answer."""
        return self._store(from_batch(IngestBatch.model_validate(batch)))

    def send_lines(self, head: Mapping[str, Any], lines: Sequence[bytes]) -> list[Result]:
        """Store `{"kind", "record"}` lines as they are spooled; raises as `send`."""
        return self._store(self.read(head, lines))

    def read(self, head: Mapping[str, Any], lines: Sequence[bytes]) -> Delivery:
        """Return spooled lines as a delivery."""
        limit = self._max_record_bytes or get_settings().max_record_bytes
        return read_lines(dict(head), lines, limit)

    def note(self, session: Session, records: Sequence[dict[str, Any]]) -> None:
        """Do what else the new records call for, in the transaction that stores them: nothing."""

    def _store(self, delivery: Delivery) -> list[Result]:
        try:
            with session_scope(self._engine) as session:
                results = store(session, delivery)
                pairs = zip(delivery.lines, results, strict=True)
                self.note(session, [line.record for line, one in pairs if one.status == STORED])
        except (*DATABASE_AWAY, DatabaseUnavailable) as error:
            raise Unreachable(str(error).splitlines()[0]) from error
        return [result.model_dump() for result in results]

    def close(self) -> None:
        """Nothing to release: the engine is its owner's."""
