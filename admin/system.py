"""System: the books, the log's partitions and their retention, database, disk, versions."""

import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse
from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from admin.rendering import Reading, link_to, render
from admin.writing import ByAdmin, Reason, see
from collector.partitions import TABLES, Part, drop_before, start_of, week_start
from collector.reconcile import Books, reconciliation, total
from foundation.errors import BadInput, Conflict
from foundation.queue import broker_url
from foundation.settings import Settings, get_settings
from foundation.tables import now

routes = APIRouter(prefix="/system")

TABLES_SHOWN: Final = 15
OLD_TRANSACTION: Final = timedelta(minutes=10)
"""A transaction that is open for longer holds back curation's mark, and the cleaning of tables."""
DROP: Final = "DROP"
LOCK_MS: Final = 3_000
"""That a drop waits for who reads the log: meanwhile everybody else waits behind it."""
LOW_DISK: Final = 0.1

LIBRARIES: Final = (
    *("agent-flywheel", "fastapi", "sqlalchemy", "psycopg", "celery", "litellm"),
    *("torch", "transformers", "peft", "trl"),
)
"""Whose versions are shown; heavy ones are asked of their metadata, not imported."""


@dataclass(frozen=True)
class Week:
    """One weekly partition of the log: its calls and their payloads."""

    start: datetime | None
    """Monday 00:00 UTC; None: what falls outside every week."""
    n_calls: int
    """As PostgreSQL estimates it."""
    calls_bytes: int
    payload_bytes: int
    has_calls: bool
    has_payloads: bool

    @property
    def name(self) -> str:
        """Its ISO week."""
        if self.start is None:
            return "outside every week"
        year, week, _ = self.start.isocalendar()
        return f"{year}, week {week}"

    @property
    def share_of_payloads(self) -> float:
        """Payloads' part of its bytes, in 0-1."""
        whole = self.calls_bytes + self.payload_bytes
        return self.payload_bytes / whole if whole else 0.0


@dataclass(frozen=True)
class TableSize:
    """One table with its indexes."""

    name: str
    n_rows: int
    n_bytes: int


@dataclass(frozen=True)
class Database:
    """The server that keeps everything."""

    version: str
    is_embedded: bool
    n_bytes: int
    connections: int
    connections_at_most: int
    oldest_transaction: datetime | None
    """When the oldest transaction that is open now began, anybody's."""

    @property
    def has_old_transaction(self) -> bool:
        """Whether some transaction holds back cleaning and curation."""
        oldest = self.oldest_transaction
        return oldest is not None and now() - oldest > OLD_TRANSACTION


@dataclass(frozen=True)
class Disk:
    """Where this machine keeps what it keeps."""

    folder: str
    free_bytes: int
    total_bytes: int

    @property
    def used_share(self) -> float:
        """Of the disk, in 0-1."""
        return 1 - self.free_bytes / self.total_bytes

    @property
    def is_low(self) -> bool:
        """Whether a training or a build may fill it."""
        return self.free_bytes / self.total_bytes < LOW_DISK


@dataclass(frozen=True)
class Page:
    """What the page shows."""

    books: Books
    unaccounted: int
    weeks: Sequence[Week]
    database: Database
    tables: Sequence[TableSize]
    disk: Disk
    artifacts: str
    broker: str
    revision: str
    versions: Sequence[tuple[str, str]]
    retention: Sequence[tuple[str, int | None]]
    """Days that each part is kept by itself; None: for ever."""

    @property
    def ended(self) -> Sequence[Week]:
        """Weeks that are over, the latest first: what retention may end."""
        this = week_start(now())
        return [week for week in self.weeks if week.start is not None and week.start < this]


@routes.get("", name="system")
def show(request: Request, session: Reading) -> HTMLResponse:
    """Show how the machine and its database stand."""
    return render(request, "system/index.html", system(session))


@routes.post("/retention", name="system.retention")
def end_retention(
    request: Request,
    by: ByAdmin,
    part: Annotated[Part, Form()],
    before: Annotated[datetime, Form()],
    sure: Annotated[str, Form()],
    reason: Reason,
) -> Response:
    """Drop whole weeks of calls or payloads; examples keep their own copy of the texts."""
    moment = before.replace(tzinfo=UTC) if before.tzinfo is None else before
    if sure != DROP:
        raise BadInput("confirmation", sure, f"the word {DROP}", "Nothing was dropped.")
    if moment > week_start(now()):
        raise Conflict(
            "week", moment.date().isoformat(), "one that is over", "Nothing was dropped."
        )
    try:
        with by.changing("log.retention", "system", part, reason) as change:
            change.session.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
            dropped = drop_before(change.session.connection(), part, moment)
            change.after({"part": part, "before": moment.isoformat(), "dropped": dropped})
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        raise Conflict(
            "log",
            "read by a transaction that is under way",
            "one that nobody has been reading for long",
            "Nothing was dropped. Try again when that build or query is done.",
        ) from error
    return see(link_to(request, "system"))


def system(session: Session) -> Page:
    """Return the page."""
    sources = reconciliation(session)
    settings = get_settings()
    return Page(
        total(sources),
        sum(books.unaccounted for books in sources),
        weeks(session),
        database(session),
        biggest_tables(session),
        disk(settings.home),
        _without_password(settings.artifacts_root),
        _without_password(broker_url()),
        str(session.scalar(text("SELECT version_num FROM alembic_version"))),
        versions(),
        retention(settings),
    )


def retention(settings: Settings) -> list[tuple[str, int | None]]:
    """Return how many days each part of the data is kept; None: for ever."""
    metadata = settings.retention_metadata_days
    given = [days for days in (settings.retention_payload_days, metadata) if days is not None]
    return [
        ("payloads", min(given, default=None)),
        ("calls, feedback, logs", metadata),
        ("files that nobody needs", settings.retention_artifacts_days),
    ]


def weeks(session: Session) -> list[Week]:
    """Return the partitions of the log by week, the newest first, by the catalogue alone."""
    found: dict[datetime | None, dict[str, Any]] = {}
    for row in session.execute(_PARTITIONS, {"tables": list(TABLES.values())}).mappings():
        part = found.setdefault(start_of(row["name"]), {})
        part[row["parent"]] = row
    return [
        Week(
            start,
            parts[calls]["n_rows"] if (calls := TABLES["interaction"]) in parts else 0,
            parts[calls]["n_bytes"] if calls in parts else 0,
            parts[payloads]["n_bytes"] if (payloads := TABLES["payload"]) in parts else 0,
            calls in parts,
            payloads in parts,
        )
        for start, parts in sorted(found.items(), key=_by_week, reverse=True)
    ]


def _by_week(item: tuple[datetime | None, Any]) -> datetime:
    return item[0] or datetime.min.replace(tzinfo=UTC)


def database(session: Session) -> Database:
    """Return what the server says of itself."""
    row = session.execute(_DATABASE).mappings().one()
    return Database(is_embedded=get_settings().database_url is None, **row)


def biggest_tables(session: Session) -> list[TableSize]:
    """Return the largest tables, partitions as their whole."""
    rows = session.execute(_TABLES, {"n": TABLES_SHOWN}).mappings()
    return [TableSize(**row) for row in rows]


def disk(home: Path) -> Disk:
    """Return the disk of a folder, or of its nearest parent while it does not exist."""
    folder = home.absolute()
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return Disk(str(home.absolute()), usage.free, usage.total)


def versions() -> list[tuple[str, str]]:
    """Return names and versions of what runs; what is not installed here is left out."""
    found = [("Python", sys.version.split()[0]), ("System", platform.platform(terse=True))]
    for name in LIBRARIES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":•••@", 1)


_PARTITIONS = text(
    """
    SELECT child.relname AS name, parent.relname AS parent,
        greatest(child.reltuples, 0)::bigint AS n_rows, pg_total_relation_size(child.oid) AS n_bytes
    FROM pg_inherits
    JOIN pg_class AS child ON child.oid = inhrelid
    JOIN pg_class AS parent ON parent.oid = inhparent
    WHERE parent.relname = ANY(:tables) AND parent.relnamespace = current_schema()::regnamespace
    """
)

_DATABASE = text(
    """
    SELECT current_setting('server_version') AS version,
        pg_database_size(current_database()) AS n_bytes,
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
            AS connections,
        current_setting('max_connections')::int AS connections_at_most,
        (SELECT min(xact_start) FROM pg_stat_activity
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS oldest_transaction
    """
)

_TABLES = text(
    """
    SELECT coalesce(parent.relname, own.relname) AS name,
        sum(greatest(own.reltuples, 0))::bigint AS n_rows,
        sum(pg_total_relation_size(own.oid))::bigint AS n_bytes
    FROM pg_class AS own
    LEFT JOIN pg_inherits ON inhrelid = own.oid
    LEFT JOIN pg_class AS parent ON parent.oid = inhparent
    WHERE own.relkind = 'r' AND own.relnamespace = current_schema()::regnamespace
    GROUP BY 1 ORDER BY n_bytes DESC, name LIMIT :n
    """
)
