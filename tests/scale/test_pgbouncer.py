"""Everything that speaks to PostgreSQL does so through PgBouncer in transaction mode, too.

There each transaction may have another connection of the server: prepared statements, settings and
locks of a session stay behind with a connection that others use next.
"""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import httpx
import psycopg
import pytest
from by_hand import environment_with, wait_until
from conftest import close_broker
from pooler import pgbouncer
from sqlalchemy import text
from upstream_app import Server, create_upstream_app

import flywheel.scheduler
import flywheel.worker
import trainer.garbage
from collector.ingest import STORED, store_batch
from collector.record import interaction_record
from collector.schemas import IngestBatch
from flywheel.processes import Processes
from flywheel.schema import found_revision, upgrade
from foundation.database import forget_connections, get_engine, session_scope
from foundation.ids import new_id
from foundation.runs import enqueue, get_run
from foundation.settings import get_settings
from foundation.tables import DONE, FAILED, now
from router.gateway import create_gateway_app
from router.keys import create_key
from router.promote import initial
from router.windows import TOKENS_PER_DAY, set_limit
from trainer.registry import ensure_base_version

pytestmark = pytest.mark.slow


@pytest.fixture
def pooled(migrated: str, settings: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new, empty database behind PgBouncer with five connections; no schema yet."""
    name = f"flywheel_pooled_{uuid.uuid4().hex[:8]}"
    head, _, query = migrated.partition("?")
    url = f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    with psycopg.connect(migrated, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
    with pgbouncer(url) as through:
        _connect(monkeypatch, through)
        yield through
        _connect(monkeypatch, migrated)
    with psycopg.connect(migrated, autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _connect(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    close_broker()
    get_engine().dispose()
    monkeypatch.setenv("FLYWHEEL_DATABASE_URL", url)
    get_settings.cache_clear()
    forget_connections()


def batch(n: int, episode: uuid.UUID) -> list[dict]:
    return [
        interaction_record(
            new_id(),
            role="coder",
            request={"model": "m", "messages": [{"role": "user", "content": f"add {i} to {i}"}]},
            response={"choices": [{"message": {"role": "assistant", "content": f"{i + i}"}}]},
            episode_id=episode,
        )
        for i in range(n)
    ]


def ingested() -> int:
    """Send forty batches from eight threads, each of them twice; return what was stored."""

    def send(records: list[dict]) -> int:
        stored = 0
        for _ in range(2):
            with session_scope() as session:
                results = store_batch(
                    session, IngestBatch.model_validate({"source": "test", "interactions": records})
                )
            stored += sum(result.status == STORED for result in results)
        return stored

    batches = [batch(5, uuid.uuid4()) for _ in range(40)]
    with ThreadPoolExecutor(8) as threads:
        return sum(threads.map(send, batches))


def test_the_wheel_turns_through_a_pooler(pooled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert upgrade() == found_revision() == upgrade()
    assert ingested() == 200
    _calls_keep_to_their_budget(monkeypatch)
    _one_scheduler_leads()
    _garbage_is_collected_alone(monkeypatch)
    _a_worker_works()


def _calls_keep_to_their_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(create_upstream_app()) as upstream:
        monkeypatch.setenv("FLYWHEEL_ENGINE_URL", f"{upstream.url}/v1")
        get_settings.cache_clear()
        with session_scope() as session:
            initial(session, "coder", ensure_base_version(session, "coder", "m"))
            _, secret = create_key(session, "agent")
            set_limit(session, "role:coder", TOKENS_PER_DAY, 20_000)
        with Server(create_gateway_app()) as gateway, httpx.Client(timeout=60) as client:

            def call(number: int) -> int:
                answer = client.post(
                    f"{gateway.url}/v1/chat/completions",
                    headers={"authorization": f"Bearer {secret}"},
                    json={
                        "model": "role:coder",
                        "max_tokens": 900,
                        "messages": [{"role": "user", "content": f"say {number}"}],
                    },
                )
                return answer.status_code

            with ThreadPoolExecutor(8) as threads:
                codes = list(threads.map(call, range(60)))
    assert set(codes) <= {200, 429}
    assert codes.count(200) >= 15
    with get_engine().connect() as connection:
        used = connection.execute(
            text("SELECT sum(used) FROM budget_window WHERE scope = 'role:coder'")
        ).scalar_one()
    assert 0 < used <= 20_000


def _one_scheduler_leads() -> None:
    """Whoever leads lets go when it ends, though its connection lives on in the pool."""
    for _ in range(2):
        stops = [threading.Event() for _ in range(2)]
        threads = [threading.Thread(target=_schedule, args=(stop,)) for stop in stops]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: held(LEADER) == 1, "a leader")
            assert max(held(LEADER) for _ in range(20)) == 1
        finally:
            for stop in stops:
                stop.set()
            for thread in threads:
                thread.join(60)
        assert held(LEADER) == 0


def _schedule(stop: threading.Event) -> None:
    flywheel.scheduler.run_scheduler(stop, 0.1)


LEADER = f"objid::bigint = {flywheel.scheduler.LEADER_LOCK} AND classid = 0"


def held(which: str = "true") -> int:
    """Return how many advisory locks somebody holds."""
    query = text(
        f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND {which} "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with get_engine().connect() as connection:
        return connection.execute(query).scalar_one()


def _garbage_is_collected_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock is let go, though others take the connections that are free meanwhile."""
    (get_settings().home / "work" / "training" / str(new_id())).mkdir(parents=True)
    others = [get_engine().connect() for _ in range(2)]
    honest = trainer.garbage._remove

    def remove(piece: trainer.garbage.Piece, moment: datetime) -> bool:
        for other in others:
            other.execute(text("SELECT 1"))
        return honest(piece, moment)

    monkeypatch.setattr(trainer.garbage, "_remove", remove)
    later = now() + timedelta(days=2)
    assert len(trainer.garbage.collect({}, remove=True, moment=later).pieces) == 1
    for other in others:
        other.close()
    assert held() == 0


def _a_worker_works() -> None:
    """The broker's own tables go through the pooler, too; a build has temporary ones and locks."""
    with session_scope() as session:
        build = enqueue(session, "curation.build", {"role": "coder"}, role="coder")
        rest = [enqueue(session, "collector.maintain") for _ in range(8)]
    with Processes(get_settings().home, environment_with()) as processes:
        processes.start("worker", "worker", "--concurrency", "2")

        def ended() -> bool:
            processes.check()
            with session_scope() as session:
                runs = [get_run(session, run.id) for run in (build, *rest)]
            return all(run.status in (DONE, FAILED) for run in runs)

        wait_until(ended, "the jobs")
        with session_scope() as session:
            runs = [get_run(session, run.id) for run in (build, *rest)]
        assert [run.status for run in runs] == [DONE] * 9, runs
        assert "prepared statement" not in processes.log_path("worker").read_text()
