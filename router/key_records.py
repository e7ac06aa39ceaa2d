"""What came by a key: calls, feedback, refused records, by role, project, sender; since when."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from foundation.ids import first_id_at
from foundation.tables import now
from router.keys import get_key

_QUERY: Final = text(
    """
    SELECT 'calls' AS what, role, project, source, count(*) AS n,
           min(ingested_at) AS first_at, max(ingested_at) AS last_at
    FROM interaction
    WHERE key_id = :key AND ingested_at >= :since AND id >= :oldest
    GROUP BY role, project, source
    UNION ALL
    SELECT 'feedback', NULL, project, source, count(*), min(ingested_at), max(ingested_at)
    FROM feedback
    WHERE key_id = :key AND ingested_at >= :since
    GROUP BY project, source
    UNION ALL
    SELECT 'refused', NULL, NULL, source, count(*), min(received_at), max(received_at)
    FROM dead_letter
    WHERE key_id = :key AND received_at >= :since
    GROUP BY source
    ORDER BY what, n DESC
    """
)
_LATE: Final = timedelta(days=30)
"""A record may come so long after its call: a spool waits out a server's absence."""


@dataclass(frozen=True)
class CameBy:
    """A group of records that came by one key."""

    what: str
    """calls, feedback or refused."""
    role: str | None
    """None: of feedback, which has none, and of what was refused unread."""
    project: str | None
    source: str
    n: int
    first_at: datetime
    last_at: datetime


def records_of(session: Session, name: str, days: int = 30) -> list[CameBy]:
    """Return what came by a key in the last `days` days, the most first; raises NotFound."""
    since = now() - timedelta(days=days)
    asked: Mapping[str, Any] = {
        "key": get_key(session, name).id,
        "since": since,
        "oldest": first_id_at(since - _LATE),  # leaves out older partitions
    }
    return [CameBy(**row._mapping) for row in session.execute(_QUERY, asked)]
