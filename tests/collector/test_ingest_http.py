"""The ingest API as writers meet it: encodings, limits, malformed lines, a database away."""

import gzip
import json
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlmodel import Session, select

from collector.record import derived_id, feedback_record, interaction_record
from collector.tables import Interaction, InteractionPayload
from flywheel.app import create_app
from foundation.database import get_engine
from foundation.ids import new_id
from foundation.settings import get_settings

KILL_WAITING = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
NDJSON = {"content-type": "application/x-ndjson"}


def interaction(**columns):
    request = {"model": "m", "messages": [{"role": "user", "content": "write f"}]}
    return interaction_record(columns.pop("id", new_id()), "coder", request, None, **columns)


def line(record, kind="interaction") -> bytes:
    return orjson.dumps({"kind": kind, "record": record})


def lines(*records: bytes, head=None) -> bytes:
    return b"\n".join([orjson.dumps(head or {"source": "test"}), *records])


@pytest.fixture
def client(session: Session) -> Iterator[TestClient]:
    with TestClient(create_app(), "http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, body: bytes, **headers: str):
    answer = client.post("/v1/ingest", content=body, headers=NDJSON | headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def codes(results) -> list[str]:
    """What became of each: stored, duplicate, or the code of its refusal."""
    return [
        result["status"] if result["reason"] is None else result["reason"].partition(":")[0]
        for result in results
    ]


def test_lines_and_one_object_are_answered_alike(client: TestClient):
    first, second = interaction(), interaction()
    opinion = feedback_record(new_id(), "rating", interaction_id=first["id"], value=4)
    results = post(client, lines(line(opinion, "feedback"), line(first), b"", line(first)))
    assert codes(results) == ["stored", "stored", "duplicate"]
    assert [result["id"] for result in results] == [opinion["id"], first["id"], first["id"]]
    whole = {"source": "test", "interactions": [second, first], "feedback": [opinion]}
    answer = client.post("/v1/ingest", json=whole)
    assert codes(answer.json()["results"]) == ["stored", "duplicate", "duplicate"]


def test_each_fault_costs_its_own_line_only(client: TestClient):
    good = interaction()
    deep = '{"a":' * 3000 + "1" + "}" * 3000
    bad = {
        "malformed": b'{"kind": "interaction", "record": {',
        "malformed ": b'"not an object"',
        "malformed  ": line(good, "applause"),
        "invalid_text": line(interaction()).replace(b"write f", b"write \xff"),
        "invalid_text ": line(interaction()).replace(b"write f", b"write \\ud800"),
        "invalid_text  ": line(interaction()).replace(b"write f", b"write \\u0000"),
        "invalid_number": line(interaction(latency_ms=1.0)).replace(b"1.0", b"NaN"),
        "invalid_number ": line(interaction(latency_ms=1.0)).replace(b"1.0", b"1e999"),
        "too_deep": line(interaction()).replace(b'"write f"', deep.encode()),
        "invalid": line(7),
        "invalid ": line(interaction() | {"role": ["coder"]}),
        "unknown_role": line(interaction() | {"role": "wizard"}),
        "clock_skew": line(interaction() | {"started_at": "2999-01-01T00:00:00Z"}),
    }
    results = post(client, lines(*bad.values(), line(good)))
    assert codes(results) == [*(code.strip() for code in bad), "stored"]
    whole = {"source": "t", "interactions": [interaction(), 7, None, "x", interaction()]}
    answer = client.post("/v1/ingest", json=whole).json()["results"]
    assert codes(answer) == ["stored", "invalid", "invalid", "invalid", "stored"]


def test_the_same_faults_inside_one_json_object(client: TestClient):
    good = orjson.dumps(interaction())
    bad = {
        "invalid_text": orjson.dumps(interaction()).replace(b"write f", b"write \xff"),
        "invalid_number": orjson.dumps(interaction(latency_ms=1.0)).replace(b"1.0", b"NaN"),
        "too_deep": orjson.dumps(interaction()).replace(b'"write f"', b"[" * 2000 + b"]" * 2000),
    }
    body = b'{"source":"t","interactions":[%s]}' % b",".join([*bad.values(), good])
    answer = client.post("/v1/ingest", content=body)
    assert answer.status_code == 200, answer.text
    assert codes(answer.json()["results"]) == [*bad, "stored"]


@pytest.mark.parametrize(
    ("moment", "status"),
    [
        (timedelta(hours=23), "stored"),
        (timedelta(hours=25), "clock_skew"),
        (datetime(2000, 1, 2, tzinfo=UTC), "stored"),
        (datetime(1999, 12, 31, tzinfo=UTC), "clock_skew"),
    ],
)
def test_clocks_may_be_a_day_ahead_and_must_have_been_set(client: TestClient, moment, status):
    if isinstance(moment, timedelta):
        moment += datetime.now(UTC)
    by_id = interaction(id=derived_id(moment, "x"))
    by_start = interaction(started_at=moment)
    assert codes(post(client, lines(line(by_id), line(by_start)))) == [status, status]


def test_what_a_prompt_was_is_kept_in_its_order_and_with_its_numbers(
    client: TestClient, session: Session
):
    record = interaction()
    record["request"] = {"z": 1, "a": {"y": 2.50, "b": 3}, "big": 2**70, "text": "ü\u2028\\u0041"}
    post(client, lines(line_of_any(record)))
    statement = text("SELECT CAST(request AS text) FROM interaction_payload")
    stored = session.execute(statement).scalar_one()
    assert json.loads(stored) == record["request"]
    assert list(json.loads(stored)) == ["z", "a", "big", "text"]
    assert str(2**70) in stored


def line_of_any(record) -> bytes:
    return json.dumps({"kind": "interaction", "record": record}).encode()


def test_too_many_bytes_are_413_with_the_limit_named(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FLYWHEEL_MAX_BATCH_BYTES", "4000")
    monkeypatch.setenv("FLYWHEEL_MAX_RECORD_BYTES", "2000")
    get_settings.cache_clear()
    body = lines(*[line(interaction()) for _ in range(20)])

    def pieces() -> Iterator[bytes]:
        yield body  # no length is stated

    for content, headers in (
        (body, {}),
        (pieces(), {}),
        (gzip.compress(body), {"content-encoding": "gzip"}),
        (gzip.compress(b"x" * 10_000_000), {"content-encoding": "gzip"}),
    ):
        answer = client.post("/v1/ingest", content=content, headers=NDJSON | headers)
        assert answer.status_code == 413
        assert "FLYWHEEL_MAX_BATCH_BYTES" in answer.json()["error"]["message"]
        assert "4000" in answer.json()["error"]["message"]
    large = interaction(attributes={"k": "x" * 2500})
    assert codes(post(client, lines(line(large), line(interaction())))) == ["too_large", "stored"]
    whole = {"source": "t", "interactions": [large, interaction()]}
    answer = client.post("/v1/ingest", json=whole)
    assert codes(answer.json()["results"]) == ["too_large", "stored"]


def test_compressed_bodies(client: TestClient):
    for encoding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        body = lines(line(interaction()))
        assert codes(post(client, pack(body), **{"content-encoding": encoding})) == ["stored"]
    cut = gzip.compress(lines(line(interaction())))[:-9]
    for encoding, broken in (("br", b"x"), ("gzip", b"x"), ("gzip", cut)):
        headers = NDJSON | {"content-encoding": encoding}
        assert client.post("/v1/ingest", content=broken, headers=headers).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"not json",
        b"{}",
        b'{"source": ""}',
        b'{"source": 1}',
        b'{"source": "a\x00b"}',
        b'{"source": "t", "account": {"writer": "w"}}',
        b'{"source": "t", "dropped": {"x": -1}}',
        b"\xff\xfe",
        b"[" * 5000,
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_a_batch_without_a_readable_head_is_400(client: TestClient, body, content_type):
    answer = client.post("/v1/ingest", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400
    assert "expected" in answer.json()["error"]["message"]


def test_too_many_records_are_413(client: TestClient):
    body = lines(*[b"1"] * 5001)
    assert client.post("/v1/ingest", content=body, headers=NDJSON).status_code == 413


def test_a_database_that_goes_away_is_503_and_the_batch_may_be_sent_again(
    client: TestClient, session: Session
):
    record = interaction()
    assert codes(post(client, lines(line(interaction())))) == ["stored"]
    answers = []
    body = lines(line(record))
    send = threading.Thread(
        target=lambda: answers.append(client.post("/v1/ingest", content=body, headers=NDJSON))
    )
    with get_engine().connect() as holder, get_engine().connect() as watcher:
        holder.execute(text("LOCK TABLE interaction IN ACCESS EXCLUSIVE MODE"))
        send.start()
        while not watcher.execute(KILL_WAITING).all():
            watcher.rollback()  # what it sees is kept for its transaction
            time.sleep(0.01)
        holder.rollback()
        send.join()
    assert answers[0].status_code == 503
    assert codes(post(client, lines(line(record)))) == ["stored"]
    rows = session.exec(select(Interaction.id)).all()
    payloads = session.exec(select(InteractionPayload.id)).all()
    assert len(rows) == len(payloads) == 2
