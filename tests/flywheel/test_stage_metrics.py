"""What /metrics of the service says, beside the catalogue; and that a database away is told."""

import re
import threading
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlmodel import Session

import flywheel.worker
from curation.tables import Dataset, ReviewItem
from flywheel import stage_metrics
from flywheel.app import create_app
from flywheel.metrics_catalogue import catalogue, series
from flywheel.scheduler import SWEEP, duty_runs, run_scheduler
from foundation import logs, meters, run_meters
from foundation.database import forget_connections, get_engine
from foundation.ids import new_id
from foundation.settings import get_settings
from foundation.tables import DONE, QUEUED, RUNNING, Run, now
from router.tables import RolePolicy
from trainer.tables import ModelVersion, TrainingRun


def told(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_stages_queues_and_database_are_told(session: Session, monkeypatch) -> None:
    old = now() - timedelta(minutes=5)
    waiting = Run(kind="curation.build", status=QUEUED, created_at=old)
    training = Run(
        kind="trainer.train",
        role="coder",
        status=RUNNING,
        heartbeat_at=old,
        progress={"done": 1, "total": 2, "unit": "steps", "tokens_per_s": 50.0, "memory_mb": 10},
    )
    backup = Run(kind="flywheel.backup", status=DONE, finished_at=old)
    session.add_all([waiting, training, backup])
    session.flush()
    card = {"dropped_by_reason": {"duplicate": 3}}
    dataset = {"role": "coder", "content_hash": "x", "n_train": 7}
    session.add(Dataset(**dataset, number=1, card={"dropped_by_reason": {"duplicate": 99}}))
    session.add(Dataset(**dataset, number=2, card=card, n_test=2))
    session.add(ReviewItem(role="coder", subject_id=new_id(), reason="random"))
    session.add(TrainingRun(run_id=training.id, role="coder", base_model="tiny", method="sft"))
    session.add(ModelVersion(role="coder", number=1, name="v", kind="adapter", base_model="tiny"))
    session.add(RolePolicy(role="coder", emergency_since=now()))
    session.commit()
    with TestClient(create_app(), "http://127.0.0.1") as client:
        answer = client.get("/metrics", headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    found = told(answer.text)

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    assert value("flywheel_database_up") == 1
    assert value("flywheel_metrics_queries_failed") == 0
    assert value("flywheel_runs_open", queue="cpu", kind="curation.build", status="queued") == 1
    assert 299 < value("flywheel_queue_oldest_seconds", queue="cpu") < 600
    assert value("flywheel_runs_silent") == 1
    assert value("flywheel_backup_last_success_timestamp_seconds") == pytest.approx(old.timestamp())
    assert value("flywheel_datasets", role="coder", kind="sft") == 2
    assert value("flywheel_examples", role="coder", status="kept", reason="") == 9
    assert value("flywheel_examples", role="coder", status="dropped", reason="duplicate") == 3
    assert value("flywheel_review_open", role="coder") == 1
    assert value("flywheel_trainings", role="coder", status="running") == 1
    assert value("flywheel_training_tokens_per_second", role="coder") == 50
    assert value("flywheel_training_memory_bytes", role="coder") == 10e6
    assert value("flywheel_emergency_stop", role="coder") == 1
    assert value("flywheel_scheduler_leads") == 0
    assert value("flywheel_promotions_total", role="tester", kind="rollback") == 0
    ahead = get_settings().partitions_ahead
    assert value("flywheel_partitions_ahead", table="interaction") >= ahead - 1
    known = series()
    for name, labels in found:
        assert set(dict(labels)) == set(known[name]), name


def test_a_database_that_is_away_is_told_and_not_an_error(database, monkeypatch) -> None:
    monkeypatch.setenv("FLYWHEEL_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    get_settings.cache_clear()
    get_engine().dispose()
    forget_connections()
    try:
        assert [family.samples[0].value for family in stage_metrics.StageMetrics().families()] == [
            0
        ]
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()
        forget_connections()


def test_the_catalogue_is_well_formed() -> None:
    for metric in catalogue():
        assert re.fullmatch(r"(flywheel|process)_[a-z_]+", metric.name)
        assert metric.meaning.endswith("."), metric.name
        assert not metric.name.endswith("_total"), metric.name
        assert metric.told_by, metric.name


def test_a_scheduler_tells_what_did_not_go_wrong_yet() -> None:
    """An alert on an increase sees nothing of a series that begins at 1."""
    forget_counts()
    stop = threading.Event()
    stop.set()
    run_scheduler(stop)
    assert [["curation.build"], 0.0] in run_meters.lost.state()
    assert [[SWEEP, "failed"], 0.0] in duty_runs.state()


def test_a_worker_tells_what_did_not_fail_yet(database: str, monkeypatch) -> None:
    forget_counts()
    told = list[list[object]]()
    monkeypatch.setattr("flywheel.worker._work", lambda *_: told.extend(run_meters.ended.state()))
    monkeypatch.setattr(meters, "share", lambda: None)
    monkeypatch.setattr(logs, "configure", lambda _: None)  # it is for a process of its own
    flywheel.worker.run_worker(["cpu"], metrics_port=0)
    assert [["curation.build", "failed"], 0.0] in told
    assert [["trainer.train", "failed"], 0.0] not in told


def forget_counts() -> None:
    for meter in (run_meters.lost, run_meters.ended, duty_runs):
        meter.forget()
