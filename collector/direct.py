"""Deliver batches straight into the database: for importers, the gateway and single processes."""

from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError

from collector.ingest import store_batch
from collector.schemas import IngestBatch
from collector.transport import Batch, Result, Unreachable
from foundation.database import session_scope
from foundation.errors import DatabaseUnavailable


class DirectTransport:
    """A transport whose other end is `store_batch` in this process, one transaction per batch.

    Args:
        engine: the database; that of the settings by default.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine

    def send(self, batch: Batch) -> list[Result]:
        """Store a batch; raises Unreachable when the database does not answer."""
        checked = IngestBatch.model_validate(batch)
        try:
            with session_scope(self._engine) as session:
                results = store_batch(session, checked)
        except (OperationalError, InterfaceError, DatabaseUnavailable) as error:
            raise Unreachable(str(error).splitlines()[0]) from error
        return [result.model_dump() for result in results]

    def close(self) -> None:
        """Nothing to release: the engine is its owner's."""
