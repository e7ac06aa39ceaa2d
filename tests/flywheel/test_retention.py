"""Each part of the data ends after its own days; nobody waits for it, and the rest still works."""

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from by_hand import wait_until
from fastapi.testclient import TestClient
from sqlalchemy import text, update
from sqlmodel import Session, select

from admin.access import sessions, users
from collector import media, partitions
from collector.ingest import store_batch
from collector.media import Blob, keep
from collector.partitions import drop_week, ensure_partitions, partition_name, week_start
from collector.record import derived_id, feedback_record, interaction_record
from collector.schemas import IngestBatch
from collector.tables import DeadLetter, Feedback, Interaction, InteractionPayload, Media
from curation.build import build_dataset
from curation.export import load_rows
from curation.tables import Dataset
from evaluator.suites.grown import grow_suite
from evaluator.tables import CachedAnswer
from flywheel.app import create_app
from flywheel.retention import KIND, Policy, apply, show
from flywheel.retention_tasks import order_retention
from foundation import artifacts
from foundation.chat import completion
from foundation.database import get_engine
from foundation.errors import NotFound
from foundation.runs import execute
from foundation.settings import get_settings
from foundation.tables import Decision, Run, RunLog, now

OLD = datetime(2010, 1, 6, tzinfo=UTC)
"""A week nobody else uses, whose partition is removed afterwards."""


@pytest.fixture
def weeks(session: Session) -> Iterator[None]:
    ensure_partitions(session.connection(), OLD, 0)
    ensure_partitions(session.connection(), now(), 1)
    session.commit()
    yield
    session.rollback()
    for table in partitions.TABLES.values():
        for name in partitions.partitions_of(session.connection(), table):
            start = partitions.start_of(name)
            if start is not None and start.year <= 2011:
                session.execute(text(f"DROP TABLE {name}"))
    session.commit()


def stored(session: Session, moment: datetime, n: int = 3) -> list[UUID]:
    """Calls of a moment that passed their tests, with a correction on the first."""
    calls, said = [], []
    for number in range(n):
        code = f"def f{number}(n):\n    return {'abcd'[number % 4] * 9} + n * {number}\n"
        request = {"messages": [{"role": "user", "content": f"Write {'xyz'[number] * 9} {moment}"}]}
        identifier = str(derived_id(moment, f"{number}"))
        reply = completion(identifier, "m", code, "stop", 1, 1, 0)
        calls.append(interaction_record(identifier, "coder", request, reply))
        about = {"interaction_id": identifier, "created_at": moment.isoformat()}
        said.append(
            feedback_record(derived_id(moment, f"s{number}"), "success", value=1.0, **about)
        )
    store_batch(session, IngestBatch(source="test", interactions=calls, feedback=said))
    session.commit()
    return [UUID(call["id"]) for call in calls]


def test_the_policy_says_when_each_part_ends():
    assert Policy().days_of("payload") is None
    # A payload without its call would be of nobody.
    assert Policy(metadata_days=90).days_of("payload") == 90
    assert Policy(payload_days=30, metadata_days=90).days_of("payload") == 30
    assert Policy(payload_days=120, metadata_days=90).days_of("payload") == 90
    assert Policy(payload_days=120).end_of("metadata", now()) is None
    moment = datetime(2026, 3, 31, tzinfo=UTC)
    assert Policy(payload_days=30).end_of("payload", moment) == datetime(2026, 3, 1, tzinfo=UTC)


def test_payloads_end_first_and_pages_and_curation_go_on(session, weeks, command, monkeypatch):
    old, young = stored(session, OLD), stored(session, now() - timedelta(minutes=5))
    dataset = build_dataset("coder")
    rows = sum(len(load_rows(session, dataset.id, part)) for part in ("train", "test"))
    session.commit()
    monkeypatch.setenv("FLYWHEEL_RETENTION_PAYLOAD_DAYS", "30")
    get_settings.cache_clear()
    week = partition_name("interaction_payload", week_start(OLD))

    told = command("retention", "show", "--json").json
    assert told["policy"]["payload_days"] == 30
    assert week in [one["what"] for one in told["past"]]
    tried = command("retention", "apply", "--dry-run", "--json").json
    assert all(one["is_done"] is False for one in tried)
    assert session.get(InteractionPayload, old[0]) is not None
    session.rollback()
    done = {one["what"]: one for one in command("retention", "apply", "--json").json}
    assert done[week]["is_done"] is True
    assert done[week]["n_bytes"] > 0
    assert command("retention", "apply", "--json").json == []
    decision = session.exec(
        select(Decision).where(Decision.kind == KIND, Decision.inputs["what"].astext == week)
    ).one()
    assert decision.rule["payload_days"] == 30

    assert session.get(InteractionPayload, old[0]) is None
    assert session.get(Interaction, old[0]) is not None
    assert session.get(InteractionPayload, young[0]) is not None
    session.rollback()
    assert sum(len(load_rows(session, dataset.id, part)) for part in ("train", "test")) == rows
    session.commit()
    what_is_left_works(session, old[0], dataset)


def test_pictures_go_with_the_last_payload_that_came_with_them(
    session, database, command, monkeypatch
):
    pictures = [Blob(bytes([n]) * 2000, "image/png") for n in range(3)]
    moment = now() - timedelta(days=100)
    keep(session, pictures)
    session.execute(update(Media).values(created_at=moment))
    session.commit()
    uris = {one.content_hash: one.uri for one in session.exec(select(Media))}
    for uri in uris.values():
        for path in (Path(get_settings().artifacts_root) / uri, *artifact_files(uri)):
            os.utime(path, (moment.timestamp(),) * 2)
    again, raced, gone = (one.content_hash for one in pictures)
    keep(session, pictures[:1])
    session.commit()
    monkeypatch.setenv("FLYWHEEL_RETENTION_PAYLOAD_DAYS", "30")
    get_settings.cache_clear()

    (shown,) = command("retention", "show", "--json").json["past"]
    assert (shown["part"], shown["what"], shown["n_rows"]) == ("payload", "media", 2)
    assert shown["n_bytes"] == 4000
    looked = media.unseen

    def look_and_come_again(since: datetime) -> list[Media]:
        found = list(looked(since))
        artifacts.put(artifact_files(uris[raced])[0])
        return found

    monkeypatch.setattr(media, "unseen", look_and_come_again)
    (done,) = command("retention", "apply", "--json").json
    assert (done["what"], done["n_rows"], done["is_done"]) == ("media", 1, True)
    session.expire_all()
    assert {one.content_hash for one in session.exec(select(Media))} == {again, raced}
    assert {name for name, uri in uris.items() if artifacts.exists(uri)} == {again, raced}
    assert gone not in {again, raced}


def artifact_files(uri: str) -> list[Path]:
    return [path for path in (Path(get_settings().artifacts_root) / uri).rglob("*")]


def what_is_left_works(session: Session, old: UUID, dataset: Dataset) -> None:
    """A word on a call whose payload is gone, a build over it, a suite, and its pages."""
    late = feedback_record(derived_id(now(), "late"), "rating", interaction_id=str(old), value=5)
    wrong = feedback_record(
        derived_id(now(), "wrong"), "correction", interaction_id=str(old), text="better"
    )
    store_batch(session, IngestBatch(source="test", interactions=[], feedback=[late, wrong]))
    session.commit()
    again = build_dataset("coder")
    assert again.number >= dataset.number
    with pytest.raises(NotFound):  # nothing of these can be graded; it looks, and says so
        grow_suite(session, "own", "coder")
    session.rollback()
    user = users.create(session, "ada", "admin", actor="test")
    token = sessions.open_session(session, user, "code")
    session.commit()
    with TestClient(create_app(), "http://127.0.0.1", cookies={sessions.COOKIE: token}) as client:
        of_this = (f"interactions/{old}", f"datasets/{again.id}")
        for page in ("interactions", "system", "datasets", *of_this):
            assert client.get(f"/admin/{page}").status_code == 200, page
        assert "payloads after 30 days" in client.get("/admin/system").text


def test_metadata_ends_with_feedback_and_logs_and_artifacts_with_kept_answers(session, weeks):
    old, young = stored(session, OLD), stored(session, now() - timedelta(minutes=5))
    session.execute(text("UPDATE feedback SET ingested_at = created_at"))
    past = now() - timedelta(days=200)
    ended = Run(kind="x", status="done", finished_at=past)
    going = Run(kind="x", status="running")
    session.add_all([ended, going])
    session.flush()
    session.add_all(
        [
            *(RunLog(run_id=run.id, level="INFO", message="m") for run in (ended, going)),
            *(
                DeadLetter(
                    kind="interaction",
                    record_id=str(settled),
                    source="s",
                    code="c",
                    reason="r",
                    record="{}",
                    settled_at=settled,
                )
                for settled in (past, None)
            ),
            CachedAnswer(key="old", model_hash="h", text="t", created_at=past),
            CachedAnswer(key="new", model_hash="h", text="t"),
        ]
    )
    session.commit()
    policy = Policy(metadata_days=100, artifacts_days=100)
    told = {(one.part, one.what): one.n_rows for one in show(policy)}
    assert told[("metadata", "feedback")] == 3
    gone = {one.what: one.n_rows for one in apply(policy) if one.is_done}
    assert {
        "feedback": 3,
        "run_log": 1,
        "dead_letter": 1,
        "cached_answer": 1,
    }.items() <= gone.items()
    assert partition_name("interaction", week_start(OLD)) in gone
    assert partition_name("interaction_payload", week_start(OLD)) in gone
    session.expire_all()
    assert set(session.exec(select(Interaction.id)).all()) == set(young)
    assert {said.interaction_id for said in session.exec(select(Feedback))} == set(young)
    assert [answer.key for answer in session.exec(select(CachedAnswer))] == ["new"]
    assert not set(old) & set(young)


def test_a_long_reader_is_waited_for_and_holds_nobody_up(session, weeks, database):
    stored(session, OLD)
    name = partition_name("interaction_payload", week_start(OLD))
    stop, slowest = threading.Event(), [0.0]

    def read_on() -> None:
        with psycopg.connect(database, autocommit=True) as other:
            while not stop.is_set():
                other.execute("SET statement_timeout = '5s'")
                other.execute("SELECT count(*) FROM interaction_payload WHERE id IS NULL")
                slowest[0] += 1

    reading = threading.Thread(target=read_on)
    with psycopg.connect(database) as long:
        long.execute("SELECT count(*) FROM interaction_payload")  # and the transaction stays open
        reading.start()
        wait_until(lambda: slowest[0] > 0, "the first reader")
        before = slowest[0]
        assert not drop_week(get_engine(), name, tries=3, pause_s=0.05)
        stop.set()
        reading.join()
        assert slowest[0] > before  # readers got through between the tries; none was cut off
        long.rollback()
        assert drop_week(get_engine(), name, tries=3, pause_s=0.05)


def test_the_job_is_ordered_once_a_day(session, database):
    ordered = order_retention()
    assert ordered is not None
    assert order_retention() is None
    done: Any = execute(ordered.id, reraise=True)
    assert done.result == {"ended": [], "erased_again": None}
    assert order_retention() is None
    session.execute(text("UPDATE run SET created_at = created_at - interval '1 day'"))
    session.commit()
    assert order_retention() is not None
