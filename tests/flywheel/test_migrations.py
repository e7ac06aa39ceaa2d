"""Migrations do not hold a database up that is in use, and lose nothing of one that is filled."""

import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from by_hand import environment_with, wait_until
from migration_lint import BIG, faults, sql_of, warnings
from sqlalchemy import Engine, MetaData, Table, create_engine, insert, text
from sqlmodel import SQLModel

from collector.partitions import PARTITION_NAME
from collector.record import interaction_record
from flywheel import schema
from flywheel.checksums import checksums
from flywheel.processes import free_port
from flywheel.schema import alembic_config, differences, upgrade
from foundation.database import session_scope, sqlalchemy_url
from foundation.errors import BadInput, Conflict, SchemaMismatch
from foundation.ids import new_id
from router.keys import create_key, list_keys
from router.scopes import ADMIN, FEEDBACK, GATEWAY, READ

RELEASED = "0007"
"""The last revision that was released before there was a lint: history, which is left as it is."""


def revisions() -> list[str]:
    """All revisions, the first one first."""
    script = ScriptDirectory.from_config(alembic_config())
    return [one.revision for one in script.walk_revisions()][::-1]


@pytest.fixture
def engine(empty_database: str) -> Iterator[Engine]:
    made = create_engine(sqlalchemy_url(empty_database), pool_size=5, max_overflow=20)
    yield made
    made.dispose()


# The lint


def test_no_new_migration_holds_anybody_up(tmp_path: Path) -> None:
    new = [one for one in revisions() if one > RELEASED]
    for revision, before in zip(new, [RELEASED, *new], strict=False):
        sql = sql_of(f"{before}:{revision}")
        assert faults(sql) == [], revision
        assert warnings(sql, tmp_path) == [], revision


def test_each_new_migration_says_which_code_goes_on_with_it() -> None:
    for revision, before in zip(revisions()[1:], revisions(), strict=False):
        if revision > RELEASED:
            assert f"schema_compat VALUES ('{revision}', '" in sql_of(f"{before}:{revision}")


def test_every_big_table_is_one() -> None:
    assert set(BIG) <= set(SQLModel.metadata.tables)


@pytest.mark.parametrize(
    "bad",
    [
        "ALTER TABLE interaction RENAME COLUMN role TO who",
        "ALTER TABLE run DROP COLUMN worker",
        "DROP TABLE metric",
        "CREATE INDEX ix_interaction_arm ON interaction (arm)",
        "CREATE UNIQUE INDEX ix_sample_x ON sample (answer)",
        "ALTER TABLE run ADD COLUMN owner VARCHAR NOT NULL",
        "ALTER TABLE feedback ADD COLUMN tag UUID DEFAULT gen_random_uuid()",
        "ALTER TABLE feedback ALTER COLUMN value TYPE NUMERIC",
        "ALTER TABLE example ALTER COLUMN score SET NOT NULL",
        "ALTER TABLE sample ADD CONSTRAINT fk_x FOREIGN KEY(run_id) REFERENCES run (id)",
        "ALTER TABLE example ADD CONSTRAINT ck_x CHECK (score >= 0)",
        "ALTER TABLE shard_row ADD CONSTRAINT uq_x UNIQUE (row_id)",
        "UPDATE interaction SET arm = 'control'",
        "LOCK TABLE interaction",
    ],
)
def test_a_bad_migration_is_found(bad: str) -> None:
    assert len(faults(f"BEGIN;\n-- as alembic writes it\n{bad};\nCOMMIT;")) == 1


def test_a_good_migration_passes(tmp_path: Path) -> None:
    good = """
        CREATE TABLE note (id UUID NOT NULL, CONSTRAINT pk_note PRIMARY KEY (id));
        CREATE INDEX ix_note_id ON note (id);
        ALTER TABLE interaction ADD COLUMN note VARCHAR;
        ALTER TABLE run ADD COLUMN weight INTEGER DEFAULT 1 NOT NULL;
        ALTER TABLE example ADD CONSTRAINT ck_x CHECK (score >= 0) NOT VALID;
    """
    assert faults(good) == []
    assert any("concurrent" in one for one in warnings("CREATE INDEX i ON t (a);", tmp_path))


# A filled database


def seed(engine: Engine, n: int = 3) -> dict[str, list[str]]:
    """Fill every table that the database has by its catalogue; return the columns of each."""
    found = MetaData()
    found.reflect(engine)
    filled: dict[str, list[dict[str, Any]]] = {}
    with engine.begin() as connection:
        for table in found.sorted_tables:
            if PARTITION_NAME.match(table.name) or table.name in ("alembic_version",):
                continue
            rows = [_row(table, number, filled) for number in range(n)]
            connection.execute(insert(table), rows)
            filled[table.name] = rows
    return {name: [column.name for column in found.tables[name].columns] for name in filled}


def _row(table: Table, number: int, filled: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    row = {}
    for column in table.columns:
        if column.identity is not None or column.computed is not None:
            continue
        points_to = next(iter(column.foreign_keys), None)
        if points_to is not None:
            named = points_to.column
            parents = filled.get(named.table.name, [])
            row[column.name] = parents[number][named.name] if parents else None
        else:
            row[column.name] = _value(str(column.type), f"{table.name}.{column.name}", number)
    return row


def _value(kind: str, name: str, number: int) -> Any:
    if kind == "UUID":
        return new_id()
    if kind in ("JSONB", "JSON"):
        return {"of": name, "number": number, "text": f'ä "{number}"\n'}
    if kind.startswith(("BIGINT", "INTEGER", "SMALLINT")):
        return number + 1
    if kind.startswith(("DOUBLE", "FLOAT", "REAL", "NUMERIC")):
        return number + 0.1
    values = {"BOOLEAN": number % 2 == 0, "BYTEA": b"\x00" + bytes([number])}
    if kind.startswith("TIMESTAMP"):
        return datetime(2026, 1, 1 + number, tzinfo=UTC)
    if kind == "DATE":
        return date(2026, 1, 1 + number)
    return values.get(kind, f"{name} {number}")


def sums(engine: Engine, columns: dict[str, list[str]]) -> dict[str, Any]:
    """Checksums of these columns; tables that came later are left out."""
    with engine.connect() as connection:
        found = checksums(connection, columns=columns)
        connection.rollback()
    return {name: one for name, one in found.items() if name in columns}


def test_a_filled_database_goes_up_and_down_and_up_and_keeps_every_value(engine: Engine) -> None:
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), RELEASED)
    columns = seed(engine)
    assert len(columns) > 50
    before = sums(engine, columns)
    assert {one["rows"] for one in before.values()} == {3}

    upgrade(engine)
    assert sums(engine, columns) == before
    later = {**columns, **_added(engine, columns)}
    at_head = sums(engine, later)
    assert all(one["rows"] == 3 for name, one in at_head.items() if name in columns)
    for revision in [one for one in revisions() if one >= RELEASED][-2::-1]:
        assert schema.downgrade(revision, engine) == revision
        assert sums(engine, columns) == before
    with pytest.raises(BadInput, match="revision"):
        schema.downgrade("0099", engine)
    upgrade(engine)
    assert sums(engine, columns) == before
    assert differences(engine) == []


def _added(engine: Engine, columns: dict[str, list[str]]) -> dict[str, list[str]]:
    found = MetaData()
    found.reflect(engine)
    return {
        name: [column.name for column in table.columns]
        for name, table in found.tables.items()
        if name in columns
    }


# Without a moment of standstill


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`serve(database)`: the service as a process of its own; its URL."""
    running = []

    def start(database: str) -> str:
        port = free_port()
        home = str(tmp_path / "home")
        log = (tmp_path / "serve.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "flywheel", "serve", "--port", str(port)],
            cwd=tmp_path,
            env=environment_with(FLYWHEEL_DATABASE_URL=database, FLYWHEEL_HOME=home),
            stdout=log,
            stderr=log,
        )
        running.append((process, log))
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url, process), "the service")
        return url

    yield start
    for process, log in running:
        process.terminate()
        process.wait(60)
        log.close()


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the service has ended"
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


NEXT = '''
"""A revision to come, for a test."""
import sqlalchemy as sa
from alembic import op
revision = "9999"
down_revision = "{before}"
branch_labels = None
depends_on = None

def upgrade():
    op.add_column("interaction", sa.Column("of_tomorrow", sa.String(), nullable=True))
    op.add_column("feedback", sa.Column("of_tomorrow", sa.String(), nullable=True))
    op.create_table("tomorrow", sa.Column("id", sa.Uuid(), primary_key=True))
    {compat}

def downgrade():
    op.drop_table("tomorrow")
'''


def tomorrow(folder: Path, oldest: str | None) -> Path:
    """Migrations with one more, which says that code of `oldest` goes on with it."""
    shutil.copytree(schema.migrations_folder(), folder)
    compat = f"op.execute(\"INSERT INTO schema_compat VALUES ('9999', '{oldest}', now())\")"
    revision = NEXT.format(before=revisions()[-1], compat=compat if oldest else "pass")
    (folder / "versions" / "9999_tomorrow.py").write_text(revision)
    return folder


def test_a_key_to_something_else_opens_no_gateway_after_a_downgrade(engine: Engine) -> None:
    upgrade(engine)
    with session_scope(engine) as session:
        for scope in (GATEWAY, FEEDBACK, READ, ADMIN):
            create_key(session, scope, scopes=[scope])
        create_key(session, "default")
    schema.downgrade(RELEASED, engine)
    upgrade(engine)
    with session_scope(engine) as session:
        open_still = {row.name for row in list_keys(session) if row.revoked_at is None}
    assert open_still == {GATEWAY, ADMIN, "default"}


def test_a_service_works_on_while_the_schema_gets_newer(
    engine: Engine,
    empty_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    serve: Callable[..., str],
) -> None:
    upgrade(engine)
    client = Client(serve(empty_database))
    client.start()
    wait_until(lambda: client.n_done > 2, "the first batches")
    head = revisions()[-1]
    with engine.connect() as reader:  # as a long build of curation
        reader.execute(text("SELECT count(*) FROM interaction"))
        with monkeypatch.context() as patch:
            folder = tomorrow(tmp_path / "next", head)
            patch.setattr(schema, "migrations_folder", lambda: folder)
            upgrading = threading.Thread(target=upgrade, args=(engine,))
            upgrading.start()
            before = client.n_done
            # It waits for the reader, and lets writers pass between its tries.
            wait_until(lambda: client.n_done > before + 3, "batches while the upgrade waits")
            assert upgrading.is_alive()
            reader.rollback()
            upgrading.join(60)
            assert not upgrading.is_alive()
            assert schema.found_revision(engine) == "9999"
    before = client.n_done
    wait_until(lambda: client.n_done > before + 2, "batches on the new schema")
    client.stop()
    assert client.failures == []
    with engine.connect() as connection:
        n_stored = connection.execute(text("SELECT count(*) FROM interaction")).scalar_one()
    assert n_stored == client.n_done


def test_older_code_is_refused_where_the_schema_does_not_say_that_it_works(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(engine)
    head = revisions()[-1]
    with monkeypatch.context() as patch:
        folder = tomorrow(tmp_path / "next", oldest=None)
        patch.setattr(schema, "migrations_folder", lambda: folder)
        upgrade(engine)
        schema.require_current(engine)
    with pytest.raises(SchemaMismatch):
        schema.require_current(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO schema_compat VALUES ('9999', '9000', now())"))
    with pytest.raises(SchemaMismatch):
        schema.require_current(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE schema_compat SET oldest_code = :head"), {"head": head})
    schema.require_current(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0003'"))
    with pytest.raises(SchemaMismatch):
        schema.require_current(engine)


def test_an_upgrade_gives_up_on_a_table_that_is_never_free(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), RELEASED)
    monkeypatch.setattr(schema, "TRIES", 2)
    monkeypatch.setattr(schema, "LOCK_MS", 50)
    monkeypatch.setattr(schema, "PAUSE_S", 0.05)
    with engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM interaction"))
        with pytest.raises(Conflict, match="long transaction"):
            upgrade(engine)
    assert schema.found_revision(engine) == RELEASED
    upgrade(engine)


class Client(threading.Thread):
    """Stores one call after the other, reads, and asks whether the service is ready."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.n_done, self.failures = url, 0, list[str]()
        self._stop_it = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as http:
            while not self._stop_it.is_set():
                self._turn(http)

    def _turn(self, http: httpx.Client) -> None:
        request = {"model": "m", "messages": [{"role": "user", "content": str(uuid.uuid4())}]}
        record = interaction_record(new_id(), "coder", request, None)
        batch = {"source": "test", "interactions": [record], "feedback": []}
        answers = [
            http.post("/v1/ingest", json=batch),
            http.get("/v1/ingest/counts"),
            http.get("/readyz"),
        ]
        self.failures += [f"{one.url}: {one.text}" for one in answers if one.status_code != 200]
        results = answers[0].json().get("results", [])
        self.failures += [str(one) for one in results if one["status"] != "stored"]
        self.n_done += 1

    def stop(self) -> None:
        self._stop_it.set()
        self.join(60)
        assert not self.is_alive()
