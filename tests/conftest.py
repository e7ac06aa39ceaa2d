"""Fixtures of every room: a real PostgreSQL, migrated once, emptied before each test that uses it.

`FLYWHEEL_TEST_POSTGRES_URL` names a server to use; without it the embedded one starts.
"""

import asyncio
import gc
import logging
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from brokers import broker, no_queues_left  # noqa: F401  fixtures
from sqlalchemy import text
from sqlmodel import Session, SQLModel
from xdist.remote import Producer
from xdist.scheduler.loadfile import LoadFileScheduling

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests have as many processes as there are cores

PROJECT = Path(__file__).resolve().parent.parent


BROWSER = PROJECT / "tests" / "browser"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is left alone with it at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.parent != BROWSER, item.path not in slow))


class Schedule(LoadFileScheduling):
    """A file of tests for a process, or all that share the seeded service of the browser tests."""

    def _split_scope(self, nodeid: str) -> str:
        return "browser" if nodeid.startswith("tests/browser/") else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Schedule | None:
    """Take ours for `--dist loadfile`."""
    return Schedule(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="module", autouse=True)
def little_to_look_through() -> None:
    """Leave what earlier files imported out of the garbage collector's sight.

    transformers collects after each training: through all that torch and this suite consist of,
    that takes half a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def no_loop_left() -> Iterator[None]:
    """Close the event loop that a library's `get_event_loop` left behind in this thread.

    The next `asyncio.run` would drop it unclosed, and a test of another file would get the blame.
    """
    yield
    with suppress(RuntimeError):  # none is set
        asyncio.get_event_loop_policy().get_event_loop().close()
    asyncio.set_event_loop_policy(None)


@pytest.fixture(scope="module", autouse=True)
def logs_as_found() -> Iterator[None]:
    """Take back what a test did to the logs of the whole process: the next file counts lines."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    yield
    root.setLevel(level)
    root.handlers[:] = [handler for handler in root.handlers if handler in handlers]


@pytest.fixture(scope="session")
def server_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="flywheel-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_url(server_home: Path) -> Iterator[str]:
    """A fresh, migrated database: on the configured server, or on an embedded one."""
    configured = os.environ.get("FLYWHEEL_TEST_POSTGRES_URL")
    if configured is None:
        from foundation.embedded import start_embedded

        yield start_embedded(server_home)
        return
    name = f"flywheel_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(configured, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
    head, _, query = configured.partition("?")
    yield f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    with psycopg.connect(configured, autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def migrated(postgres_url: str) -> Iterator[str]:
    from flywheel.schema import upgrade
    from foundation.database import forget_connections, get_engine
    from foundation.settings import get_settings

    os.environ["FLYWHEEL_DATABASE_URL"] = postgres_url
    get_settings.cache_clear()
    forget_connections()
    upgrade()
    yield postgres_url
    close_broker()
    get_engine().dispose()
    forget_connections()
    del os.environ["FLYWHEEL_DATABASE_URL"]


def close_broker() -> None:
    """Close the connections that kombu's database transport keeps for the whole process."""
    from kombu.transport.sqlalchemy import Channel
    from sqlalchemy.orm import close_all_sessions

    from foundation.queue import get_queue

    get_queue().close()
    close_all_sessions()
    for engine, _ in Channel._engines.values():
        engine.dispose()
    Channel._engines.clear()
    get_queue.cache_clear()


@pytest.fixture
def broker_afresh() -> Iterator[None]:
    """Let the next test connect to the broker anew: this one ends connections."""
    yield
    close_broker()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[object]:
    """Settings of a home of its own; the database is the test one where `database` is used too."""
    from foundation.settings import get_settings

    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


@pytest.fixture
def database(migrated: str, settings: object) -> str:
    """An empty database of the present schema; its URL."""
    from foundation.database import get_engine

    stored = [t.name for t in SQLModel.metadata.sorted_tables if not t.info.get("is_view")]
    # To truncate all of them takes 0.15 s, a third of the whole run; to look takes 0.002 s.
    query = " UNION ALL ".join(
        f"SELECT '{name}' WHERE EXISTS (SELECT FROM \"{name}\")" for name in stored
    )
    with get_engine().begin() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '20s'"))  # a leaked session, not a hang
        filled = ", ".join(f'"{name}"' for name in connection.execute(text(query)).scalars())
        if filled:
            connection.execute(text(f"TRUNCATE {filled} RESTART IDENTITY CASCADE"))
        broker = connection.execute(text("SELECT to_regclass('kombu_message')")).scalar()
        if broker is not None:
            connection.execute(text("DELETE FROM kombu_message"))  # kombu holds locks on both
    return migrated


@pytest.fixture
def session(database: str) -> Iterator[Session]:
    """A session on the empty database; tests commit when another process must see their rows."""
    from foundation.database import get_engine

    with Session(get_engine(), expire_on_commit=False) as open_session:
        yield open_session


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The folder of public data; skips, saying so, where it is absent."""
    default = PROJECT.parent / "shared" / "data"
    folder = Path(os.environ.get("FLYWHEEL_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip("no public data: set FLYWHEEL_TEST_DATA to its folder")
    return folder
