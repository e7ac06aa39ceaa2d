"""What was written since the last look: told by transactions, since no clock can.

A row whose transaction commits late has an older time than what was read already. So a reader
remembers the snapshot of its last look: what that did not show is new, however late it commits, and
what it showed is not. Rows carry the transaction that wrote them in `written_xid`.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

NOW = "CAST(pg_current_snapshot() AS text), clock_timestamp()"
"""SQL of the snapshot that a statement reads in, and of the time: the next look begins there."""

_REWRITTEN_AFTER = timedelta(days=1)
"""A row that came this long before the last look was counted then; a later transaction that wrote
it (a rescan of secrets) made it no new one."""

_NEXT_XID = text("SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)")

_SEEN = """pg_visible_in_snapshot(
    CAST(CAST({xid} AS text) AS xid8), CAST(:snapshot AS pg_snapshot))"""


@dataclass(frozen=True)
class LastLook:
    """Where the last look ended; `clause` and its opposite for a query, and their parameters."""

    new: str
    """SQL that holds for new rows; `{row}` stands for the alias of the table, with its dot."""
    before: str
    """SQL that holds for rows that the last look showed."""
    values: dict[str, Any] = field(default_factory=dict)

    def is_new(self, alias: str = "") -> str:
        """Return SQL that holds for the rows of a table that are new."""
        return self.new.format(row=f"{alias}." if alias else "")

    def was_seen(self, alias: str = "") -> str:
        """Return SQL that holds for the rows of a table that the last look showed."""
        return self.before.format(row=f"{alias}." if alias else "")


def last_look(session: Session, watermark: dict[str, Any]) -> LastLook:
    """Return how to tell what is new since `watermark`; an empty one was never looked from.

    In a database restored from a dump transactions are numbered anew, so that time must do there.
    """
    if "snapshot" not in watermark:
        return LastLook("true", "false")
    seen_until = datetime.fromisoformat(watermark["at"])
    _, seen_xmax, _ = watermark["snapshot"].split(":")
    if int(seen_xmax) > session.execute(_NEXT_XID).scalar_one():
        return LastLook(
            "{row}ingested_at > :seen_until",
            "{row}ingested_at <= :seen_until",
            {"seen_until": seen_until},
        )
    seen = _SEEN.format(xid="{row}written_xid")
    oldest = "CAST(CAST(pg_snapshot_xmin(CAST(:snapshot AS pg_snapshot)) AS text) AS bigint)"
    return LastLook(
        f"{{row}}written_xid >= {oldest} AND NOT {seen} AND {{row}}ingested_at >= :not_before",
        f"({{row}}written_xid IS NULL OR {seen})",
        {"snapshot": watermark["snapshot"], "not_before": seen_until - _REWRITTEN_AFTER},
    )


def watermark(snapshot: str, at: datetime) -> dict[str, Any]:
    """Return what `NOW` gave as the watermark that the next `last_look` begins from."""
    return {"snapshot": snapshot, "at": at.isoformat()}
