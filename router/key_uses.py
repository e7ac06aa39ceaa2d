"""When keys were used last, to the minute: so that one which nobody uses can be found and revoked.

A process notes a use in memory and writes it down at most once a minute for each key, beside other
work on the database: no call waits for it.
"""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, func, update
from sqlmodel import Session, col, select

from router.tables import GatewayKey

EVERY_S: Final = 60.0
"""Seconds between two times that the use of one key is written down."""


@dataclass
class KeyUses:
    """The uses of keys that one process has seen."""

    _written: dict[UUID, float] = field(default_factory=dict)
    _pending: dict[UUID, float] = field(default_factory=dict)

    def note(self, key_id: UUID) -> None:
        """Note that a key is used now."""
        moment = time.time()
        if moment - self._written.get(key_id, 0.0) >= EVERY_S:
            self._pending[key_id] = moment

    @property
    def is_due(self) -> bool:
        """Whether there is something to be written down."""
        return bool(self._pending)

    def write(self, session: Session) -> None:
        """Write down what is due; rows that another transaction holds wait for the next time."""
        pending, self._pending = self._pending, {}
        if not pending:
            return
        self._written |= pending
        free = session.exec(  # one order for all processes, and none waits for another
            _FREE.where(col(GatewayKey.id).in_(list(pending)))
        )
        rows = [{"key": key, "used": datetime.fromtimestamp(pending[key], UTC)} for key in free]
        if rows:
            session.connection().execute(_UPDATE, rows)


_FREE: Final = select(GatewayKey.id).with_for_update(skip_locked=True)
_UPDATE: Final = (
    update(GatewayKey)
    .where(col(GatewayKey.id) == bindparam("key"))
    .values(last_used_at=func.greatest(col(GatewayKey.last_used_at), bindparam("used")))
)
