"""The migrated schema is the one of the tables in code, and migrations can be walked both ways."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from by_hand import python
from fastapi.testclient import TestClient
from sqlalchemy import inspect, text

from flywheel.app import create_app
from flywheel.schema import alembic_config, differences, expected_revision, found_revision, upgrade
from foundation.database import get_engine
from foundation.errors import DatabaseTooOld, SchemaMismatch


def test_models_and_migrated_schema_agree(database: str) -> None:
    assert differences() == []
    assert found_revision() == expected_revision()


def test_upgrade_twice_changes_nothing(database: str) -> None:
    before = sorted(inspect(get_engine()).get_table_names())
    assert upgrade() == expected_revision()
    assert sorted(inspect(get_engine()).get_table_names()) == before


def test_the_log_is_partitioned_by_id(database: str) -> None:
    with get_engine().connect() as connection:
        rows = connection.execute(
            text(
                "SELECT inhparent::regclass::text, count(*) FROM pg_inherits "
                "WHERE inhparent IN ('interaction'::regclass, 'interaction_payload'::regclass) "
                "GROUP BY 1"
            )
        ).all()
    partitions = {parent: n for parent, n in rows}
    assert partitions.keys() == {"interaction", "interaction_payload"}
    assert min(partitions.values()) >= 3


def test_downgrade_removes_everything_and_upgrade_restores_it(database: str) -> None:
    engine = get_engine()
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA walk"))
        connection.execute(text("SET LOCAL search_path TO walk"))
        command.upgrade(alembic_config(connection), "head")
        assert "interaction" in inspect(connection).get_table_names(schema="walk")
        command.downgrade(alembic_config(connection), "base")
        assert set(inspect(connection).get_table_names(schema="walk")) == {"alembic_version"}
        command.upgrade(alembic_config(connection), "head")
        assert "role_serving" in inspect(connection).get_table_names(schema="walk")
        connection.execute(text("DROP SCHEMA walk CASCADE"))


@pytest.fixture
def older(database: str) -> Iterator[None]:
    """The database says that its schema is one of long ago."""
    head = expected_revision()
    _say("0003")
    yield
    _say(head)


def _say(revision: str) -> None:
    with get_engine().begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})


def test_on_another_schema_the_service_is_not_ready(older: None) -> None:
    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        answer = client.get("/readyz")
        assert client.get("/healthz").status_code == 200
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "SchemaMismatch")
    assert (SchemaMismatch.exit_code, DatabaseTooOld.http_status) == (2, 503)


@pytest.mark.parametrize("name", ["serve", "gateway", "worker", "scheduler"])
def test_on_another_schema_nothing_starts(older: None, tmp_path: Path, name: str) -> None:
    said = python("-m", "flywheel", name, folder=tmp_path)
    assert (said.code, "revision 0003, expected" in said.err) == (2, True), said
