"""Everything leaves in files that any program reads, but for what opens doors."""

import gzip
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from marked_person import MARK, asked, call, said, send, stored
from sqlmodel import Session

from admin.access import sessions, users
from flywheel import export_all as exporting
from flywheel.app import create_app
from foundation.settings import get_settings
from router.tables import GatewayKey


def lines(folder: Path, table: str) -> list[dict[str, Any]]:
    found = []
    for path in sorted((folder / "rows" / table).glob("*.jsonl.gz")):
        with gzip.open(path, "rt") as file:
            found += [json.loads(line) for line in file]
    return found


def test_every_row_and_file_is_there_and_no_door_opens(
    session: Session, database: str, command, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    with TestClient(create_app(), "http://127.0.0.1") as service:
        calls = [call(n, asked(n, MARK if n < 2 else ""), "x") for n in range(8)]
        said_of = [said(one["id"], "comment", text="good") for one in calls]
        assert set(send(service, calls, said_of)) == {"stored"}
    stored("weights")
    rotten = stored("others")
    file = next((Path(get_settings().artifacts_root) / rotten.uri).rglob("adapter.bin"))
    file.write_text("changed")
    user = users.create(session, "ada", "admin", actor="test")
    sessions.open_session(session, user, "code")
    session.add(GatewayKey(name="k", prefix="fw-1", key_hash="0123456789abcdef-key"))
    session.commit()
    monkeypatch.setattr(exporting, "ROWS_PER_FILE", 3)
    out = tmp_path / "out"
    assert command("export-all", str(out), "--check").code == 2
    done = command("export-all", str(out), "--json")
    told = json.loads(done.out)
    assert (done.code, told["artifacts_damaged"]) == (1, [rotten.content_hash])

    manifest = json.loads((out / "manifest.json").read_text())
    with psycopg.connect(database) as connection:
        for name, table in manifest["tables"].items():
            (n,) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()
            assert (name, table["rows"], len(lines(out, name))) == (name, n, n)
    assert told["rows"] == sum(table["rows"] for table in manifest["tables"].values())
    assert len(manifest["tables"]["interaction"]["files"]) == 3
    payloads = lines(out, "interaction_payload")
    assert sum(MARK in json.dumps(row) for row in payloads) == 2
    (key,) = lines(out, "gateway_key")
    assert (key["name"], "key_hash" in key) == ("k", False)
    assert "password_hash" not in lines(out, "admin_user")[0]
    assert not (out / "rows" / "admin_session").exists()
    assert len(manifest["artifacts"]) > 0
    assert command("export-all", str(out), "--check").code == 0
    it_goes_on_where_it_was_cut_off(out, manifest, command)


def it_goes_on_where_it_was_cut_off(out: Path, manifest: dict[str, Any], command) -> None:
    cut = {**manifest, "tables": {k: v for k, v in manifest["tables"].items() if k < "f"}}
    del cut["finished_at"]
    (out / "manifest.json").write_text(json.dumps(cut))
    assert command("export-all", str(out), "--check").code == 1
    said = json.loads(command("export-all", str(out), "--json").out)
    assert (said["tables"], said["moments"]) == (len(manifest["tables"]), 2)
    again = json.loads((out / "manifest.json").read_text())
    assert again["tables"]["feedback"]["files"] == manifest["tables"]["feedback"]["files"]
    victim = next((out / "rows" / "interaction").iterdir())
    victim.write_bytes(b"")
    assert command("export-all", str(out), "--check").code == 1
