"""PostgreSQL: one engine per process, sessions that commit at the edge, the schema's revision.

One dialect everywhere. Without `FLYWHEEL_DATABASE_URL` the embedded server starts; with it, any
PostgreSQL 14 or newer serves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, SQLModel

from foundation.embedded import start_embedded
from foundation.errors import DatabaseTooOld, DatabaseUnavailable
from foundation.settings import get_settings

MINIMUM_SERVER_VERSION = 14
MINIMUM_VERSION_NUMBER = MINIMUM_SERVER_VERSION * 10_000

NOTICES_SILENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""libpq's: a server that vanished without a word is given up within a minute, not after hours.

What the URL says goes first.
"""

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

JSON = JSONB(none_as_null=True)


@lru_cache(maxsize=1)
def database_url() -> str:
    """Return this process's `postgresql://` URL, starting the embedded server if none is set."""
    settings = get_settings()
    url = settings.database_url or start_embedded(settings.home)
    return url.replace("postgres://", "postgresql://", 1)


def sqlalchemy_url(url: str) -> str:
    """Return `url` with the psycopg 3 driver named, as SQLAlchemy expects it."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def safe_url(url: str) -> str:
    """Return `url` without its password, for messages."""
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@") if password else url


@lru_cache(maxsize=1)
def get_engine() -> Engine:
    """Return the process-wide engine, checked to answer and to be recent enough.

    Raises:
        DatabaseUnavailable: no connection.
        DatabaseTooOld: the server is older than `MINIMUM_SERVER_VERSION`.
    """
    return connect(database_url())


def connect(url: str) -> Engine:
    """Return a checked engine for `url`; raises as `get_engine`."""
    engine = create_engine(
        sqlalchemy_url(url),
        pool_pre_ping=True,
        hide_parameters=True,  # prompts and answers: an error's text is logged and kept with a run
        pool_size=5,
        max_overflow=15,
        # PgBouncer in transaction mode cannot keep server-side prepared statements.
        connect_args={
            "prepare_threshold": None,
            **{name: value for name, value in NOTICES_SILENCE.items() if f"{name}=" not in url},
        },
    )
    try:
        with engine.connect() as connection:
            number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    except OperationalError as error:
        raise DatabaseUnavailable(safe_url(url), str(error.orig).strip()) from error
    require_recent_server(number)
    return engine


def require_recent_server(version_number: int) -> None:
    """Check PostgreSQL's `server_version_num` (150004 is 15.4).

    Raises:
        DatabaseTooOld: the major version is below `MINIMUM_SERVER_VERSION`.
    """
    if version_number < MINIMUM_VERSION_NUMBER:
        major, minor = divmod(version_number, 10_000)
        raise DatabaseTooOld(f"{major}.{minor}", MINIMUM_SERVER_VERSION)


@contextmanager
def session_scope(engine: Engine | None = None) -> Iterator[Session]:
    """Open a session that commits when the block ends well and rolls back when it does not.

    Only the edges (a request, a task, a command) open one; functions below take the session.
    Rows stay readable after the commit.
    """
    with Session(engine or get_engine(), expire_on_commit=False) as session:
        try:
            yield session
            session.commit()
        except BaseException:
            session.rollback()
            raise


def forget_connections() -> None:
    """Drop the cached engine and URL, after a fork or when a test changes the settings."""
    if get_engine.cache_info().currsize:
        get_engine().dispose(close=False)
    get_engine.cache_clear()
    database_url.cache_clear()


def explain_row(row: SQLModel) -> dict[str, Any]:
    """Return a row as plain JSON values in the order of its columns, for `--json` and cards."""
    said = row.model_dump(mode="json")
    return {name: said[name] for name in type(row).model_fields if name in said}
