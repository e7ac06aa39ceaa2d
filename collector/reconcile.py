"""The books closed: what writers say became of their records beside what arrived here.

Two equations per source, in records:

- of its writers: seen = delivered + waiting + held + damaged + dropped (by reason);
- of the hand-over: delivered ≤ stored + duplicate + rejected. More than was delivered may have
  arrived: a batch is on its way, or was sent again because its answer was lost.

What either leaves over is `unaccounted`, and must be 0. A source without writers that keep
accounts (an importer, an old client) has the right-hand side only.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text
from sqlmodel import Session, col, select

from collector.schemas import Account
from collector.tables import IngestCount, SpoolAccount
from foundation.database import JSON
from foundation.tables import now

_REJECTED, _DROPPED = "rejected:", "dropped:"


@dataclass(frozen=True)
class Books:
    """What is known of the records of one source, or of all; counts are records.

    Attributes:
        source: its name; empty for the sum of all.
        writers: spool writers that reported; 0 if the source keeps no account.
        seen: offered to the writers.
        delivered: answered for by this collector, as the writers say.
        waiting: in their spools.
        held: kept aside in their spools, because they could not be scrubbed or sent.
        damaged: lost on their disks.
        dropped: given up by the writers, by reason.
        stored, duplicate: what this collector made of what arrived.
        rejected: refused here, by code; kept as dead letters.
        reported_at: when a writer last reported.
    """

    source: str
    writers: int = 0
    seen: int = 0
    delivered: int = 0
    waiting: int = 0
    held: int = 0
    damaged: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    stored: int = 0
    duplicate: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    reported_at: datetime | None = None

    @property
    def n_dropped(self) -> int:
        """Records dropped for any reason."""
        return sum(self.dropped.values())

    @property
    def n_rejected(self) -> int:
        """Records rejected for any reason."""
        return sum(self.rejected.values())

    @property
    def arrived(self) -> int:
        """Records that this collector answered for."""
        return self.stored + self.duplicate + self.n_rejected

    @property
    def unaccounted(self) -> int:
        """Records that nobody accounts for; 0 when the books close."""
        if not self.writers:
            return 0
        kept = self.delivered + self.waiting + self.held + self.damaged + self.n_dropped
        return abs(self.seen - kept) + max(0, self.delivered - self.arrived)

    def as_dict(self) -> dict[str, Any]:
        """Return the books as JSON values, with what follows from them."""
        return {
            **self.__dict__,
            "dropped": dict(self.dropped),
            "rejected": dict(self.rejected),
            "reported_at": self.reported_at.isoformat() if self.reported_at else None,
            "arrived": self.arrived,
            "unaccounted": self.unaccounted,
        }


def note_account(session: Session, source: str, account: Account) -> None:
    """Keep a writer's books; a report that saw fewer records came late and changes nothing."""
    session.execute(
        _UPSERT,
        {"source": source, "reported_at": now(), **account.model_dump()},
    )


_UPSERT = text(
    """
    INSERT INTO spool_account
        (writer, source, seen, delivered, waiting, held, damaged, dropped, reported_at)
    VALUES
        (:writer, :source, :seen, :delivered, :waiting, :held, :damaged, :dropped, :reported_at)
    ON CONFLICT (writer) DO UPDATE SET
        source = excluded.source, seen = excluded.seen, delivered = excluded.delivered,
        waiting = excluded.waiting, held = excluded.held, damaged = excluded.damaged,
        dropped = excluded.dropped, reported_at = excluded.reported_at
    WHERE excluded.seen >= spool_account.seen
    """
).bindparams(bindparam("dropped", type_=JSON))


def reconciliation(session: Session) -> list[Books]:
    """Return the books of every source, by name."""
    accounts = session.exec(select(SpoolAccount).order_by(col(SpoolAccount.writer))).all()
    counts = session.exec(select(IngestCount)).all()
    return books_of(accounts, counts)


def books_of(accounts: Iterable[SpoolAccount], counts: Iterable[IngestCount]) -> list[Books]:
    """Return the books of every source from its writers' accounts and our counts; pure."""
    by_source = defaultdict[str, list[SpoolAccount]](list)
    for account in accounts:
        by_source[account.source].append(account)
    outcomes = defaultdict[str, dict[str, int]](dict)
    for count in counts:
        outcomes[count.source][count.outcome] = count.n
    return [
        _books(source, by_source[source], outcomes[source])
        for source in sorted(by_source.keys() | outcomes.keys())
    ]


def _books(source: str, accounts: list[SpoolAccount], outcomes: Mapping[str, int]) -> Books:
    dropped = _reasons(outcomes, _DROPPED)
    for account in accounts:
        dropped.update(account.dropped)
    return Books(
        source,
        writers=len(accounts),
        seen=sum(account.seen for account in accounts),
        delivered=sum(account.delivered for account in accounts),
        waiting=sum(account.waiting for account in accounts),
        held=sum(account.held for account in accounts),
        damaged=sum(account.damaged for account in accounts),
        dropped=dropped,
        stored=outcomes.get("stored", 0),
        duplicate=outcomes.get("duplicate", 0),
        rejected=_reasons(outcomes, _REJECTED),
        reported_at=max((account.reported_at for account in accounts), default=None),
    )


def _reasons(outcomes: Mapping[str, int], prefix: str) -> Counter[str]:
    """Return the counts whose names begin with `prefix`, without it."""
    return Counter(
        {name.removeprefix(prefix): n for name, n in outcomes.items() if name.startswith(prefix)}
    )


def total(books: Iterable[Books]) -> Books:
    """Return the sum over sources; of the unaccounted it may hide some, so sum those apart."""
    rows = list(books)
    return Books(
        "",
        writers=sum(row.writers for row in rows),
        seen=sum(row.seen for row in rows),
        delivered=sum(row.delivered for row in rows),
        waiting=sum(row.waiting for row in rows),
        held=sum(row.held for row in rows),
        damaged=sum(row.damaged for row in rows),
        dropped=sum((Counter(row.dropped) for row in rows), Counter()),
        stored=sum(row.stored for row in rows),
        duplicate=sum(row.duplicate for row in rows),
        rejected=sum((Counter(row.rejected) for row in rows), Counter()),
        reported_at=max((row.reported_at for row in rows if row.reported_at), default=None),
    )
