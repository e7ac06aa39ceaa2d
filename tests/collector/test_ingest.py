import threading
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from collector.ingest import ingest_counts, last_ingested_at, store_batch
from collector.partitions import (
    PARTITION_NAME,
    bounds,
    drop_before,
    ensure_partitions,
    partition_name,
    partitions_of,
    start_of,
    week_start,
)
from collector.record import derived_id, feedback_record, interaction_record
from collector.schemas import IngestBatch
from collector.tables import Feedback, Interaction, InteractionPayload
from foundation.database import get_engine
from foundation.ids import new_id

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "write f"}]}
RESPONSE = {
    "id": "r1",
    "model": "m-1",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def interaction(**columns):
    role = columns.pop("role", "coder")
    return interaction_record(columns.pop("id", new_id()), role, REQUEST, RESPONSE, **columns)


def store(session, interactions=(), feedback=(), source="test", **rest):
    batch = IngestBatch(
        source=source, interactions=list(interactions), feedback=list(feedback), **rest
    )
    results = store_batch(session, batch)
    session.commit()
    return results


def test_record_becomes_two_rows(session: Session):
    episode = new_id()
    record = interaction(episode_id=episode, latency_ms=12.5, attributes={"k": [1, None]})
    (result,) = store(session, [record])
    assert (result.id, result.status, result.reason) == (record["id"], "stored", None)
    row, payload = (
        session.exec(select(Interaction)).one(),
        session.exec(select(InteractionPayload)).one(),
    )
    assert str(row.id) == record["id"]
    assert row.episode_id == episode
    assert row.gen_ai_response_finish_reasons == ["stop"]
    assert (row.gen_ai_usage_input_tokens, row.gen_ai_usage_output_tokens) == (3, 2)
    assert row.latency_ms == 12.5
    assert row.scrub is None
    assert payload.request == REQUEST
    assert payload.response == RESPONSE
    assert payload.attributes == {"k": [1, None]}
    assert last_ingested_at(session) == row.ingested_at


def test_sending_again_is_a_duplicate_and_changes_nothing(session: Session):
    first, second = interaction(), interaction()
    opinion = feedback_record(new_id(), "rating", interaction_id=first["id"], value=4)
    assert [r.status for r in store(session, [first], [opinion])] == ["stored", "stored"]
    changed = first | {"role": "tester"}
    results = store(session, [second, changed, second], [opinion])
    assert [r.status for r in results] == ["stored", "duplicate", "duplicate", "duplicate"]
    assert session.get(Interaction, first["id"]).role == "coder"
    assert len(session.exec(select(Interaction)).all()) == 2
    (counts,) = ingest_counts(session)
    assert counts.counts == {"stored": 3, "duplicate": 3}


def test_one_bad_record_never_costs_the_others(session: Session):
    deep: object = "x"
    for _ in range(5000):
        deep = [deep]
    good = interaction()
    bad = {
        "unknown_role": interaction(role="wizard"),
        "invalid": interaction() | {"id": str(uuid4())},
        "invalid_text": interaction(attributes={"k": ""}) | {"arm": "a\x00b"},
        "invalid_number": interaction() | {"latency_ms": float("nan")},
        "too_deep": interaction() | {"attributes": {"k": deep}},
    }
    extra = interaction() | {"no_such_column": 1}
    missing = {"id": str(new_id())}
    surrogate = interaction() | {"arm": "\ud800"}
    batch = [*bad.values(), good, extra, missing, surrogate]
    opinions = [
        feedback_record(new_id(), "applause", interaction_id=good["id"]),
        feedback_record(new_id(), "rating", interaction_id=good["id"], value=6),
        feedback_record(new_id(), "success", value=1),
        feedback_record(new_id(), "success", interaction_id=good["id"], value=1),
    ]
    results = store(session, batch, opinions)
    statuses = [r.status for r in results]
    assert statuses == ["rejected"] * 5 + ["stored"] + ["rejected"] * 6 + ["stored"]
    assert [r.reason.partition(":")[0] for r in results[:5]] == list(bad)
    assert "wizard" in results[0].reason
    assert "FLYWHEEL_ROLES" in results[0].reason
    (counts,) = ingest_counts(session)
    assert counts.counts["stored"] == 2
    assert sum(counts.counts.values()) == len(results)


def test_what_only_the_database_refuses_is_found_alone(
    session: Session, monkeypatch: pytest.MonkeyPatch
):
    # No record is known that passes our checks and not the database's: one check is left out.
    monkeypatch.setattr("collector.delivery.require_storable", lambda raw: None)
    records = [interaction() for _ in range(5)]
    records[2]["arm"] = "a\x00b"
    results = store(session, records)
    assert [result.status for result in results] == [
        "stored", "stored", "rejected", "stored", "stored",
    ]  # fmt: skip
    assert results[2].reason.startswith("refused_by_database: ")


def test_scrubbed_again_on_every_path(session: Session):
    canary = "canary@secret.example.org"
    record = interaction(attributes={canary: [canary]}, error_type=canary, unit_id=canary) | {
        "request": {"messages": [{"role": "user", "content": f"I am {canary}"}]},
        "response": {"choices": [{"message": {"content": canary}}]},
        "scrub": {"phone": 1},
    }
    opinions = [
        feedback_record(new_id(), "comment", interaction_id=record["id"], text=canary),
        feedback_record(
            new_id(), "correction", interaction_id=record["id"], text=canary, details={"k": canary}
        ),
        feedback_record(new_id(), "rating", interaction_id=record["id"], value=9, actor=canary),
    ]
    results = store(session, [record], opinions)
    assert [r.status for r in results] == ["stored", "stored", "stored", "rejected"]
    for table in ("interaction", "interaction_payload", "feedback", "ingest_count"):
        rows = session.execute(text(f"SELECT CAST(t AS text) FROM {table} t")).scalars().all()
        assert rows
        assert not [row for row in rows if canary in row]
    assert session.exec(select(Interaction)).one().scrub == {"email": 6, "phone": 1}


def test_feedback_may_come_before_its_record(session: Session):
    later = interaction()
    opinion = feedback_record(new_id(), "success", interaction_id=later["id"], value=1)
    assert store(session, feedback=[opinion])[0].status == "stored"
    assert store(session, [later])[0].status == "stored"
    assert str(session.exec(select(Feedback)).one().interaction_id) == later["id"]


def test_concurrent_batches_with_the_same_records_do_not_deadlock(session: Session):
    records = [interaction() for _ in range(200)]
    statuses: list[str] = []

    def send(batch):
        with Session(get_engine()) as own:
            statuses.extend(r.status for r in store(own, batch))

    threads = [
        threading.Thread(target=send, args=(batch,))
        for batch in (records, records[::-1], records, records[::-1])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count("stored") == 200
    assert statuses.count("duplicate") == 600
    assert ingest_counts(session)[0].counts == {"stored": 200, "duplicate": 600}


def test_payloads_that_outlived_their_interactions_are_left_as_they_are(session: Session):
    records = [interaction() for _ in range(3)]
    store(session, records)
    session.execute(text("DELETE FROM interaction WHERE id = :id"), {"id": records[1]["id"]})
    session.commit()
    changed = records[1] | {"request": {"messages": []}}
    new = interaction()
    assert [r.status for r in store(session, [changed, new])] == ["stored", "stored"]
    assert session.get(InteractionPayload, records[1]["id"]).request == REQUEST
    assert session.get(InteractionPayload, new["id"]) is not None


def test_one_batch_may_span_weeks(session: Session):
    moments = [
        datetime(2009, 5, 1, tzinfo=UTC),
        datetime.now(UTC),
        datetime(2020, 2, 29, tzinfo=UTC),
    ]
    records = [interaction(id=derived_id(moment, "x")) for moment in moments]
    assert [r.status for r in store(session, records)] == ["stored"] * 3
    assert [r.status for r in store(session, records[::-1])] == ["duplicate"] * 3
    parts = {part_of(session, record["id"]) for record in records}
    assert len(parts) == 2  # this week's, and the default one
    assert len(session.exec(select(InteractionPayload)).all()) == 3


def test_two_batches_of_one_transaction(session: Session):
    first, second = interaction(), interaction()
    for records in ([first], [second, first]):
        store_batch(session, IngestBatch(source="test", interactions=records))
    session.commit()
    assert len(session.exec(select(Interaction)).all()) == 2


def test_a_call_is_priced_where_its_writer_did_not(session: Session):
    listed = interaction(gen_ai_response_model="gpt-4o-mini")
    told = interaction(gen_ai_response_model="gpt-4o-mini", cost_usd=0.5)
    store(session, [listed, told, interaction()])
    costs = [session.get(Interaction, record["id"]).cost_usd for record in (listed, told)]
    assert costs == [pytest.approx(3 * 1.5e-7 + 2 * 6e-7), 0.5]
    assert {row.cost_usd for row in session.exec(select(Interaction))} == {*costs, None}


def test_drops_told_by_the_client_are_counted(session: Session):
    store(session, source="c", dropped={"disk_full": 3})
    store(session, source="c", dropped={"disk_full": 2})
    assert ingest_counts(session)[0].counts == {"dropped:disk_full": 5}


def test_weeks_start_on_monday_and_are_named_by_iso():
    new_year = datetime(2027, 1, 1, 12, tzinfo=UTC)
    start = week_start(new_year)
    assert start == datetime(2026, 12, 28, tzinfo=UTC)
    assert partition_name("interaction", start) == "interaction_p2026w53"
    assert start_of("interaction_p2026w53") == start
    assert start_of("interaction_default") is None
    assert not PARTITION_NAME.match("interaction_other")


def test_ids_at_the_bounds_of_a_week():
    start = week_start(datetime(2026, 11, 20, tzinfo=UTC))
    low, high = bounds(start)
    assert low <= derived_id(start, "x") < high
    assert derived_id(start - timedelta(milliseconds=1), "x") < low
    assert derived_id(start + timedelta(days=7), "x") >= high


def part_of(session: Session, identifier: str) -> str:
    statement = text("SELECT CAST(tableoid AS regclass)::text FROM interaction WHERE id = :id")
    return session.execute(statement, {"id": identifier}).scalar_one()


@pytest.fixture
def far_past(session: Session):
    """Weeks nobody else uses, whose partitions are removed afterwards."""
    moment = datetime(2010, 1, 6, tzinfo=UTC)
    yield moment
    session.rollback()
    for table in ("interaction", "interaction_payload"):
        for name in partitions_of(session.connection(), table):
            start = start_of(name)
            if start is not None and start.year <= 2011:
                session.execute(text(f"DROP TABLE {name}"))
    session.commit()


def test_partitions_are_made_once_and_take_over_waiting_rows(session: Session, far_past):
    record = interaction(id=derived_id(far_past, "early"))
    store(session, [record])
    assert part_of(session, record["id"]) == "interaction_default"
    made = ensure_partitions(session.connection(), far_past, ahead=1)
    assert len(made) == 6
    assert all(PARTITION_NAME.match(name) for name in made)
    assert ensure_partitions(session.connection(), far_past, ahead=1) == []
    session.commit()
    week = partition_name("interaction", week_start(far_past))
    assert part_of(session, record["id"]) == week
    assert store(session, [record])[0].status == "duplicate"


def test_retention_drops_whole_weeks_of_one_part(session: Session, far_past):
    ensure_partitions(session.connection(), far_past, ahead=0)
    old = interaction(id=derived_id(far_past, "old"))
    store(session, [old])
    later = far_past + timedelta(days=14)
    ensure_partitions(session.connection(), later, ahead=0)
    kept = interaction(id=derived_id(later, "kept"))
    store(session, [kept])
    dropped = drop_before(session.connection(), "payload", later)
    session.commit()
    assert partition_name("interaction_payload", week_start(far_past)) in dropped
    assert session.get(InteractionPayload, kept["id"]) is not None
    assert session.get(InteractionPayload, old["id"]) is None
    assert session.get(Interaction, old["id"]) is not None
    ensure_partitions(session.connection(), datetime.now(UTC), ahead=4)
    session.commit()
