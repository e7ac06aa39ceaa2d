"""The database schema: upgrade it, and check that it is the one of this code."""

from importlib.util import find_spec
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlmodel import SQLModel

import admin.tables  # noqa: F401  imports the tables of every lower room
from collector.partitions import ensure_partitions
from foundation.database import get_engine
from foundation.errors import SchemaMismatch
from foundation.queue import declare_queues
from foundation.settings import get_settings
from foundation.tables import now

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

    Safe to call from several processes at once: an advisory lock lets one through at a time.
    """
    with (engine or get_engine()).begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})")
        command.upgrade(alembic_config(connection), "head")
        ensure_partitions(connection, now(), get_settings().partitions_ahead)
        declare_queues()
    return expected_revision()


def expected_revision() -> str:
    """Return the revision this code was written for."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    return head or ""


def found_revision(engine: Engine | None = None) -> str | None:
    """Return the revision the database is at; None for an empty one."""
    with (engine or get_engine()).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def require_current(engine: Engine | None = None) -> None:
    """Check the schema's revision.

    Raises:
        SchemaMismatch: the database is at another revision.
    """
    found, expected = found_revision(engine), expected_revision()
    if found != expected:
        raise SchemaMismatch(found, expected)


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
