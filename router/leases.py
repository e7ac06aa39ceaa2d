"""Parts of a budget in the hands of gateway processes: asked for, reported, lapsed; in PostgreSQL.

A window's row says what is `used` and what is `leased` to processes; a lease is given only while
`used + leased` stays within the limit, with the row locked, so no two processes can be given the
same. A process spends from its leases without asking, and reports here about once a second.

What a killed process held lapses: once its spool has had time to be shipped by another, the lease
counts as used as far as recorded calls say. Those are all calls of the scope that ended between its
last report and the end of its lease; other processes' are among them, so that too much may be
counted (up to the lease), never too little of what was recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from foundation.ids import first_id_at
from router.windows import TOKENS_PER_DAY, limit_of, read_limits

LEASE_S: Final = 30.0
"""How long a lease lives after its process last reported."""
GRACE_S: Final = 600.0
"""How much longer it is kept, so that another process may ship the killed one's records."""
SHARE: Final = 16
"""A process gets at most one part in so many of what is left, beyond what calls wait for."""
LONGEST_CALL: Final = timedelta(hours=1)

_WINDOW = "scope, measure, starts_at"
_ASKED = (
    "unnest(CAST(:scope AS text[]), CAST(:measure AS text[]), CAST(:starts_at AS timestamptz[]))"
)


@dataclass
class Report:
    """What a process says of its part of one window, and asks for."""

    scope: str
    measure: str
    starts_at: datetime
    lease_id: UUID
    spent: float
    """By calls that ended, since the last report that is known to have arrived."""
    back: float
    """Given back since then."""
    reserved: float
    """By calls that run: it stays leased, whatever the limit has become."""
    needed: float = 0.0
    """What waiting calls need together."""
    least: float = 0.0
    """What the smallest of them needs; less than that is not worth having."""
    ahead: float = 0.0
    """What it would like to have for calls to come."""
    unsure: dict[datetime, tuple[float, float]] = field(default_factory=dict)
    """Reports that may have arrived, by their stamp: what they said was spent and given back."""
    stamp: datetime | None = None
    """Time of this report by the database, set before it is committed."""


@dataclass(frozen=True)
class Lease:
    """What a process holds of a window after its report, and how the window stands."""

    held: float
    limit: float
    used: float
    leased: float
    """To all processes, this one too."""

    @property
    def room(self) -> float:
        """What is neither used nor leased; below zero where the limit was lowered."""
        return self.limit - self.used - self.leased


@dataclass(frozen=True)
class Exchange:
    """The answer to the reports of a process."""

    leases: list[Lease]
    """One for each report."""
    n_processes: int
    """That hold a living lease."""
    projects: frozenset[str]
    """Those that have a limit."""


def grant(room: float, needed: float, least: float, ahead: float) -> float:
    """Return what a process is given of `room`; pure.

    What waiting calls need comes first; what is asked for calls to come shrinks with what is left,
    so that near the limit nobody holds what another would need.
    """
    if room <= 0 or room < least:
        return 0.0
    return min(room, needed + min(ahead, max(0.0, room - needed) / SHARE))


def exchange(session: Session, process_id: UUID, reports: Sequence[Report]) -> Exchange:
    """Take the reports of a process and give it what it may have; the caller commits.

    Reports are locked in the order of their windows: they must come sorted by it. Each is stamped,
    so that the process can tell later whether a commit arrived that it saw no answer of.
    """
    session.execute(text("SET LOCAL statement_timeout = '5s'"))
    limits = read_limits(session)
    stamp, n_processes = session.execute(
        text(
            "SELECT now(), (SELECT count(DISTINCT process_id) FROM budget_lease"
            " WHERE scope = 'all' AND expires_at > now() AND process_id <> :own)"
        ),
        {"own": process_id},
    ).one()
    leases = _answers(session, process_id, reports, limits, stamp) if reports else []
    projects = frozenset(s.removeprefix("project:") for s, _ in limits if s.startswith("project:"))
    return Exchange(leases, n_processes + 1, projects)


def _answers(
    session: Session,
    process_id: UUID,
    reports: Sequence[Report],
    limits: dict[tuple[str, str], float],
    stamp: datetime,
) -> list[Lease]:
    places: dict[str, list[Any]] = {
        "scope": [report.scope for report in reports],
        "measure": [report.measure for report in reports],
        "starts_at": [report.starts_at for report in reports],
    }
    windows = _locked_windows(session, places)
    held = _held(session, [report.lease_id for report in reports])
    leases = []
    for report in reports:
        used, leased = windows[report.scope, report.measure, report.starts_at]
        limit = limit_of(limits, report.scope, report.measure)
        leases.append(settled(report, held.get(report.lease_id), limit, used, leased))
        report.stamp = stamp
    told = {
        **places,
        "used": [lease.used for lease in leases],
        "leased": [lease.leased for lease in leases],
        "id": [report.lease_id for report in reports],
        "held": [lease.held for lease in leases],
        "process_id": process_id,
        "expires_at": stamp + timedelta(seconds=LEASE_S),
    }
    session.execute(_WRITE_WINDOWS, told)
    session.execute(_WRITE_LEASES, told)
    return leases


def settled(
    report: Report, held: tuple[float, datetime] | None, limit: float, used: float, leased: float
) -> Lease:
    """Return a lease and its window after a report; pure.

    Args:
        report: what the process says and asks for.
        held: amount and stamp of its lease as the database has it; None: it has none, or it lapsed.
        limit: of the window.
        used: in the window so far.
        leased: to all processes so far, `held` among it.
    """
    before, last_stamp = held or (0.0, None)
    spent, back = report.spent, report.back
    if last_stamp in report.unsure:
        counted, returned = report.unsure[last_stamp]
        spent, back = spent - counted, back - returned
    kept = max(before - spent - back, report.reserved)
    used, leased = used + spent, max(0.0, leased - before + kept)
    given = grant(limit - used - leased, report.needed, report.least, report.ahead)
    return Lease(kept + given, limit, used, leased + given)


def lapse(session: Session) -> int:
    """End the leases of processes that have not reported for long; return how many; caller commits.

    Each counts as used as far as the module's first lines say.
    """
    dead = session.execute(_LONG_EXPIRED, {"grace": timedelta(seconds=GRACE_S)}).all()
    if not dead:
        return 0
    places: dict[str, list[Any]] = {
        "scope": [row.scope for row in dead],
        "measure": [row.measure for row in dead],
        "starts_at": [row.starts_at for row in dead],
    }
    _locked_windows(session, places)
    n_lapsed = 0
    for row in dead:
        ended = session.execute(_END_LEASE, {"id": row.id, "expires_at": row.expires_at}).first()
        if ended is None:  # it reported after all, or another process ended it
            continue
        n_lapsed += 1
        told = {"scope": row.scope, "measure": row.measure, "starts_at": row.starts_at}
        lapsed = min(ended.amount, _recorded(session, row)) if ended.amount > 0 else 0.0
        session.execute(_LAPSE, {**told, "lapsed": lapsed, "amount": ended.amount})
    return n_lapsed


def leave(session: Session, process_id: UUID) -> None:
    """Forget a process that gave everything back; the caller commits."""
    session.execute(_FORGET, {"process_id": process_id})


def _recorded(session: Session, lease: Any) -> float:
    """Return what recorded calls of a lease's scope used from its last report until its end."""
    since = lease.expires_at - timedelta(seconds=LEASE_S + 1)
    kind, _, name = lease.scope.partition(":")
    amount = (
        "coalesce(gen_ai_usage_input_tokens, 0) + coalesce(gen_ai_usage_output_tokens, 0)"
        if lease.measure == TOKENS_PER_DAY
        else "coalesce(cost_usd, 0)"
    )
    query = f"SELECT coalesce(sum({amount}), 0) FROM interaction call WHERE {_ENDED_WITHIN}"
    told = {
        "first": first_id_at(since - LONGEST_CALL),
        "last": first_id_at(lease.expires_at),
        "since": since,
        "until": lease.expires_at,
        "name": name,
    }
    found = session.execute(text(query + _OF_SCOPE[kind]), told).scalar_one()
    return float(found)


def _locked_windows(
    session: Session, places: dict[str, list[Any]]
) -> dict[tuple[str, str, datetime], tuple[float, float]]:
    """Lock windows in order, made where missing; return what is used and leased of each."""
    session.execute(_OPEN_WINDOWS, places)
    rows = session.execute(_LOCK_WINDOWS, places)
    return {(row.scope, row.measure, row.starts_at): (row.used, row.leased) for row in rows}


def _held(session: Session, ids: list[UUID]) -> dict[UUID, tuple[float, datetime]]:
    rows = session.execute(text(_OWN_LEASES), {"ids": ids})
    return {row.id: (row.amount, row.expires_at - timedelta(seconds=LEASE_S)) for row in rows}


_OPEN_WINDOWS = text(
    f"INSERT INTO budget_window ({_WINDOW}, used, leased, updated_at)"
    f" SELECT DISTINCT asked.*, 0.0, 0.0, now() FROM {_ASKED} AS asked({_WINDOW})"
    " ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING"
)
_LOCK_WINDOWS = text(
    f"SELECT {_WINDOW}, used, leased FROM budget_window"
    f" WHERE ({_WINDOW}) IN (SELECT * FROM {_ASKED}) ORDER BY 1, 2, 3 FOR UPDATE"
)
# Read after the windows are locked: whoever ends a lease locks its window first.
_OWN_LEASES = "SELECT id, amount, expires_at FROM budget_lease WHERE id = ANY(CAST(:ids AS uuid[]))"
_NUMBERS = "CAST(:used AS float8[]), CAST(:leased AS float8[])"
_WRITE_WINDOWS = text(
    "UPDATE budget_window w SET used = told.used, leased = told.leased, updated_at = now()"
    f" FROM unnest({_ASKED[len('unnest(') : -1]}, {_NUMBERS})"
    f" AS told({_WINDOW}, used, leased)"
    " WHERE (w.scope, w.measure, w.starts_at) = (told.scope, told.measure, told.starts_at)"
)
_WRITE_LEASES = text(
    f"INSERT INTO budget_lease (id, {_WINDOW}, amount, process_id, expires_at)"
    " SELECT told.*, CAST(:process_id AS uuid), CAST(:expires_at AS timestamptz)"
    f" FROM unnest(CAST(:id AS uuid[]), {_ASKED[len('unnest(') : -1]}, CAST(:held AS float8[]))"
    " AS told ON CONFLICT (id) DO UPDATE SET"
    " amount = excluded.amount, expires_at = excluded.expires_at"
)
_LONG_EXPIRED = text(
    f"SELECT id, {_WINDOW}, amount, expires_at FROM budget_lease"
    " WHERE expires_at < now() - CAST(:grace AS interval) ORDER BY 2, 3, 4, 1 LIMIT 1000"
)
_END_LEASE = text(
    "DELETE FROM budget_lease WHERE id = :id AND expires_at = :expires_at RETURNING amount"
)
_FORGET = text("DELETE FROM budget_lease WHERE process_id = :process_id AND amount = 0")
_LAPSE = text(
    "UPDATE budget_window SET used = used + :lapsed, leased = greatest(0, leased - :amount),"
    " updated_at = now() WHERE scope = :scope AND measure = :measure AND starts_at = :starts_at"
)
_ENDED_WITHIN = (
    "call.source = 'gateway' AND call.id BETWEEN :first AND :last"
    " AND call.started_at + coalesce(call.latency_ms, 0) * interval '1 ms'"
    " BETWEEN :since AND :until"
)
_OF_SCOPE = {
    "all": "",
    "role": " AND call.role = :name",
    "project": " AND call.project = :name",
    "key": (
        " AND EXISTS (SELECT FROM interaction_payload said"
        " JOIN gateway_key own ON own.name = said.attributes ->> 'key'"
        " WHERE said.id = call.id AND own.id = CAST(:name AS uuid))"
    ),
}
