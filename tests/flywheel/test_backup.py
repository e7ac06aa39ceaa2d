"""A filled database is backed up and restored: equal row by row, and what waited comes once."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from fastapi.testclient import TestClient
from marked_person import PERSON, asked, call, fill, send, stored
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from collector.erase import Subject
from collector.spool import Spool
from flywheel import backup as backing_up
from flywheel.app import create_app
from flywheel.backup import KIND, back_up, backups, damage, newest, snapshot
from flywheel.erasing import again, erase_all
from flywheel.restore import different, restore
from flywheel.schema import require_current
from foundation.database import forget_connections, get_engine, session_scope
from foundation.errors import BadInput, Conflict
from foundation.pg_tools import without_password
from foundation.settings import get_settings
from foundation.tables import Run


@pytest.fixture
def service(session: Session) -> Iterator[TestClient]:
    with TestClient(create_app(), "http://127.0.0.1") as client:
        yield client


@pytest.fixture
def elsewhere(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[], None]]:
    """`elsewhere()`: from then on this process works with an empty database and another home."""
    before = os.environ["FLYWHEEL_DATABASE_URL"]

    def move() -> None:
        get_engine().dispose()
        monkeypatch.setenv("FLYWHEEL_DATABASE_URL", empty_database)
        monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path / "new-home"))
        get_settings.cache_clear()
        forget_connections()

    yield move
    get_engine().dispose()
    monkeypatch.setenv("FLYWHEEL_DATABASE_URL", before)
    get_settings.cache_clear()
    forget_connections()


def spooled(folder: Path, records: list[dict]) -> None:
    spool = Spool(folder, source="test")
    for record in records:
        assert spool.append({"kind": "interaction", "record": record})
    spool.close()


def n_of(table: str) -> int:
    with psycopg.connect(os.environ["FLYWHEEL_DATABASE_URL"]) as connection:
        return connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]


def test_what_was_backed_up_comes_back_row_by_row(
    service, session, elsewhere, command, tmp_path, broker_afresh
):
    fill(service, session)
    home = get_settings().home
    waiting = call(20, asked(20), "waited in a spool")
    spooled(home / "spool" / "gateway", [waiting])
    made = back_up(tmp_path / "kept")
    assert damage(made) == []
    said = made.manifest["tables"]
    assert said["interaction"]["rows"] == 8
    assert {name for name in said if said[name]["rows"]} >= {"example", "sample", "shard_row"}
    # After the backup: one more call, which its client still keeps, and an erasure.
    late = call(21, asked(21), "came after the backup")
    assert send(service, [late]) == ["stored"]
    done = erase_all(Subject("unit", (PERSON,)), actor="ann")
    with pytest.raises(Conflict, match="empty"):
        restore(made)

    elsewhere()
    restored = restore(made)
    assert restored.n_rows == made.manifest["n_rows"]
    require_current()
    assert restored.n_artifacts == len(made.manifest["artifacts"]) > 0
    assert len(list(Path(get_settings().artifacts_root, "sha256").iterdir())) > 0
    assert different(made).keys() <= {"schema_compat", "alembic_version"}
    assert n_of("interaction") == 8
    # Clients send again what was never answered for; the spool that was backed up is drained.
    assert send(service, [late]) == ["stored"]
    drained = command("spool", "drain", "--json")
    assert drained.code == 0, drained
    assert drained.json["waiting"] == 0
    assert send(service, [late, waiting]) == ["duplicate", "duplicate"]
    assert n_of("interaction") == 10
    # Nor does the erasure of that day stay undone.
    proof = tmp_path / "certificate.json"
    proof.write_text(json.dumps(done.certificate))
    found = again(certificates=[json.loads(proof.read_text())])
    assert found is not None
    assert found.account.counts["interaction"] == 2
    assert n_of("interaction") == 8


def test_a_backup_shares_artifacts_forgets_old_ones_and_knows_damage(
    service, session, command, tmp_path
):
    assert send(service, [call(1, asked(1), "x")]) == ["stored"]
    stored("weights")
    stored("others")
    root = tmp_path / "kept"
    first = back_up(root)
    shared = {path.name: path.stat().st_ino for path in (root / "artifacts").iterdir()}
    assert sorted(shared) == first.manifest["artifacts"]
    told = command("backup", str(root), "--keep", "1", "--json").json
    assert [str(one.folder) for one in backups(root)] == [told["folder"]]
    again_there = {path.name: path.stat().st_ino for path in (root / "artifacts").iterdir()}
    assert again_there == shared
    with session_scope() as one:
        runs = one.exec(select(Run).where(Run.kind == KIND)).all()
    assert [run.status for run in runs] == ["done", "done"]
    assert command("restore", str(root), "--check").code == 0
    backup = newest(root)
    victim = next(path for path in (backup.artifacts).rglob("*") if path.is_file())
    victim.write_bytes(victim.read_bytes() + b"x")
    with (backup.folder / "database.dump").open("r+b") as dump:
        dump.seek(100)
        dump.write(b"\x00\xff")
    assert len(damage(backup)) == 2
    assert command("restore", str(root), "--check").code == 1
    with pytest.raises(BadInput, match=r"database\.dump"):
        restore(backup)


def test_a_damaged_artifact_costs_itself_and_no_backup(
    service, session, command, tmp_path, monkeypatch
):
    sound, rotten = stored("weights"), stored("others")
    place = Path(get_settings().artifacts_root) / rotten.uri
    file = next(path for path in place.rglob("*") if path.is_file())
    written = bytearray(file.read_bytes())
    written[0] ^= 1
    file.write_bytes(written)
    copy, snapshots = backing_up.copy_artifact, []

    def look_and_copy(uri: str, target: Path) -> None:
        with get_engine().connect() as connection:
            snapshots.extend(connection.execute(text(_HELD)).scalars())
        copy(uri, target)

    monkeypatch.setattr(backing_up, "copy_artifact", look_and_copy)
    root = tmp_path / "kept"
    done = command("backup", str(root), "--json")
    assert done.code == 1
    assert json.loads(done.out)["artifacts_damaged"] == [rotten.content_hash]
    assert rotten.content_hash in done.err
    made = newest(root)
    assert made.manifest["artifacts"] == [sound.content_hash]
    assert damage(made) == []
    assert sorted(path.name for path in (root / "artifacts").iterdir()) == [sound.content_hash]
    assert snapshots == [], "no snapshot is held while files are copied"


def test_one_at_a_time_and_nothing_is_left_of_one_that_failed(
    service, session, tmp_path, monkeypatch
):
    root = tmp_path / "kept"
    cut_off = root / "20260101T000000-0a1b2c"
    cut_off.mkdir(parents=True)
    (root / "mine").mkdir()
    with (root / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="no other backup"):
            back_up(root)

    def cancelled(connection: object) -> None:
        raise OperationalError("SELECT", None, Exception("cancelled by the administrator"))

    with monkeypatch.context() as broken:
        broken.setattr(backing_up, "checksums", cancelled)
        with pytest.raises(OperationalError):
            back_up(root)
    assert {path.name for path in root.iterdir()} == {".lock", "mine", cut_off.name}
    made = back_up(root, keep=1)
    left = {path.name for path in root.iterdir()}
    assert left == {".lock", "mine", "artifacts", made.folder.name}
    with session_scope() as one:
        runs = one.exec(select(Run).where(Run.kind == KIND).order_by(Run.started_at)).all()
    assert [run.status for run in runs] == ["failed", "failed", "done"]
    assert "cancelled by the administrator" in runs[1].error


def test_a_snapshot_outlives_the_server_s_patience_with_idle_ones(session):
    with session_scope() as one:
        name = one.execute(text("SELECT quote_ident(current_database())")).scalar_one()
        limit = "idle_in_transaction_session_timeout"
        one.execute(text(f"ALTER DATABASE {name} SET {limit} = '1h'"))
    get_engine().dispose()
    try:
        with snapshot() as (connection, _):
            assert connection.execute(text(f"SHOW {limit}")).scalar_one() == "0"
    finally:
        with session_scope() as one:
            one.execute(text(f"ALTER DATABASE {name} RESET {limit}"))
        get_engine().dispose()


_HELD = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database()
      AND pid <> pg_backend_pid() AND state = 'idle in transaction' AND backend_xmin IS NOT NULL
    """
"""Sessions that keep a snapshot while they wait."""


def test_no_password_is_shown_to_who_lists_processes():
    shown, secret = without_password("postgresql://me:p%40ss@host:5432/db?sslmode=require")
    assert shown == "postgresql://me@host:5432/db?sslmode=require"
    assert secret == {"PGPASSWORD": "p@ss"}
    assert without_password("postgresql://postgres:@/postgres?host=/tmp/x")[1] == {}


def test_a_password_in_the_query_is_taken_out_and_the_rest_stays_as_it_was_written():
    given = "postgresql:///db?host=%2Ftmp%2Fa&password=p%40s%2Bs&options=-c%20geqo%3Doff"
    shown, secret = without_password(given)
    assert shown == "postgresql:///db?host=%2Ftmp%2Fa&options=-c%20geqo%3Doff"
    assert secret == {"PGPASSWORD": "p@s+s"}
    both = "postgresql://me:one@host/db?password=two"
    assert without_password(both) == ("postgresql://me@host/db", {"PGPASSWORD": "two"})
    options = "postgresql://me:one@host/db?options=-c%20geqo%3Doff"
    assert without_password(options)[0] == options.replace(":one", "")
