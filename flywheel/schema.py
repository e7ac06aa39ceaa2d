"""The database schema: upgrade it, and check that it is the one of this code."""

import logging
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel

import admin.tables  # noqa: F401  imports the tables of every lower room
from collector.partitions import ensure_partitions
from foundation.database import get_engine
from foundation.errors import BadInput, Conflict, SchemaMismatch
from foundation.queue import declare_queues
from foundation.settings import get_settings
from foundation.tables import now

log = logging.getLogger(__name__)

LOCK_MS: Final = 500
"""That a step waits for a table: everybody else who wants it waits behind."""
TRIES: Final = 60
PAUSE_S: Final = 1.0
UPGRADE_LOCK = 0x666C7977  # "flyw": one upgrade at a time, whoever starts it


def migrations_folder() -> Path:
    """Return the folder of the Alembic scripts: of the checkout, or of the installed package."""
    checkout = Path(__file__).resolve().parent.parent / "migrations"
    if (checkout / "env.py").exists():
        return checkout
    spec = find_spec("flywheel_migrations")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package flywheel_migrations is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def alembic_config(connection: Connection | None = None) -> Config:
    """Return the Alembic configuration, bound to one connection if given."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.attributes["connection"] = connection
    return config


def upgrade(engine: Engine | None = None) -> str:
    """Bring the schema to this code's revision, make partitions ahead, and return the revision.

    Each revision is a transaction of its own, which waits `LOCK_MS` for a table at most and then
    lets everybody pass who has queued behind: who reads long delays the upgrade, and nobody else.
    Safe to call from several processes at once: an advisory lock lets one through at a time.

    Raises:
        Conflict: somebody reads a table for longer than all tries took.
    """
    engine = engine or get_engine()
    for revision in _missing(found_revision(engine)):
        _patiently(engine, partial(_bring_to, revision=revision))
    _patiently(engine, _make_ready)
    return expected_revision()


def downgrade(revision: str, engine: Engine | None = None) -> str:
    """Take revisions back, newest first, down to `revision`; what they added is lost.

    Raises:
        BadInput: the database is not at a newer revision of this code's.
        Conflict: as `upgrade`.
    """
    engine, found = engine or get_engine(), found_revision(engine)
    known = _missing(None)
    if revision not in known or found not in known or known.index(revision) >= known.index(found):
        expected = f"a revision of this code before {found}"
        raise BadInput("revision", revision, expected, "See: flywheel db check")
    for older in known[known.index(revision) : known.index(found)][::-1]:
        _patiently(engine, partial(_take_back_to, revision=older))
    return revision


def _take_back_to(connection: Connection, revision: str) -> None:
    command.downgrade(alembic_config(connection), revision)


def _missing(found: str | None) -> list[str]:
    """Return the revisions that a database lacks, in their order."""
    script = ScriptDirectory.from_config(alembic_config())
    return [one.revision for one in script.iterate_revisions("head", found or "base")][::-1]


def _bring_to(connection: Connection, revision: str) -> None:
    found = MigrationContext.configure(connection).get_current_revision()
    if revision in _missing(found):  # another process may have been quicker
        command.upgrade(alembic_config(connection), revision)


def _make_ready(connection: Connection) -> None:
    ensure_partitions(connection, now(), get_settings().partitions_ahead)
    declare_queues()


def _patiently(engine: Engine, step: Callable[[Connection], None]) -> None:
    for number in range(TRIES):
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})")
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_MS}")
                step(connection)
                return
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            log.info("upgrade: a table is in use, try %d of %d", number + 1, TRIES)
        time.sleep(PAUSE_S)
    raise Conflict(
        "upgrade of the schema",
        "a table that a long transaction holds",
        f"it free for a moment, within {TRIES} tries",
        "Nothing of this step was changed. End that transaction (SELECT * FROM pg_stat_activity "
        "ORDER BY xact_start) and try again.",
    )


def expected_revision() -> str:
    """Return the revision this code was written for."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    return head or ""


def found_revision(engine: Engine | None = None) -> str | None:
    """Return the revision the database is at; None for an empty one."""
    with (engine or get_engine()).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def require_current(engine: Engine | None = None) -> None:
    """Check that this code can work with the schema: its own, or a newer one that says so.

    While a deployment is rolled over, the schema is newer than the processes that still run.

    Raises:
        SchemaMismatch: the database is at another revision, which this code does not know.
    """
    found, expected = found_revision(engine), expected_revision()
    if found != expected and not (found and _serves_older(engine or get_engine(), found, expected)):
        raise SchemaMismatch(found, expected)


def _serves_older(engine: Engine, found: str, expected: str) -> bool:
    """Return whether a schema of a newer revision says that this code may go on with it."""
    if found < expected:
        return False
    with engine.connect() as connection:
        if connection.execute(text("SELECT to_regclass('schema_compat')")).scalar() is None:
            return False
        query = text("SELECT oldest_code FROM schema_compat WHERE revision = :found")
        oldest = connection.execute(query, {"found": found}).scalar()
    return oldest is not None and oldest <= expected


def differences(engine: Engine | None = None) -> list[str]:
    """Return what differs between the tables in code and in the database; empty when they agree."""
    with (engine or get_engine()).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_object": include_object}
        )
        return [str(difference) for difference in compare_metadata(context, SQLModel.metadata)]


def include_object(
    thing: object, name: str | None, kind: str, reflected: bool, compare_to: object | None
) -> bool:
    """Leave out what is not ours to compare: partitions, views, the embedded broker's tables."""
    if kind != "table":
        return True
    known = SQLModel.metadata.tables.get(name or "")
    return known is not None and not known.info.get("is_view")
