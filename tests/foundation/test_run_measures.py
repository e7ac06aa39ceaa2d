"""What a run measures: points of its curves, once each, few however long it is."""

import math
from typing import Any

import pytest
from sqlmodel import Session, col, select

from foundation import run_measures
from foundation.runs import RunHandle, enqueue, execute, get_run, job
from foundation.tables import FAILED, QUEUED, Run, RunMeasure


@job("test.measure")
def measure(run: RunHandle, points: list[list[float]], fails: bool = False) -> dict[str, Any]:
    for done, loss in points:
        run.progress(done, 10, "steps", loss=loss, lr=0.5)
    if fails:
        raise ValueError("enough")
    return {}


@job("test.measure_twice")
def measure_twice(run: RunHandle) -> None:
    run.progress(1, 2, "steps", loss=2.0)
    run.progress(1, 2, "steps", loss=2.0, validation_loss=3.0)
    run.progress(2, 2, "steps", loss=math.nan, validation_loss=3.0)


def rows(session: Session, run: Run) -> list[RunMeasure]:
    session.expire_all()
    query = select(RunMeasure).where(RunMeasure.run_id == run.id).order_by(col(RunMeasure.done))
    return list(session.exec(query))


def do(session: Session, kind: str, **params: Any) -> Run:
    run = enqueue(session, kind, params)
    session.commit()
    execute(run.id)
    return run


@pytest.fixture(autouse=True)
def queue(database: str) -> None:
    from foundation.queue import declare_queues

    declare_queues()


def test_each_report_is_a_point_and_the_last_one_is_written(session: Session) -> None:
    run = do(session, "test.measure", points=[[1, 4.0], [2, 2.0], [3, 1.0]])
    found = [(row.done, row.measures, row.attempt) for row in rows(session, run)]
    assert found == [
        (1, {"loss": 4.0, "lr": 0.5}, 1),
        (2, {"loss": 2.0}, 1),
        (3, {"loss": 1.0}, 1),
    ]


def test_a_point_holds_what_is_new_and_never_what_is_no_number(session: Session) -> None:
    run = do(session, "test.measure_twice")
    found = [(row.done, row.measures) for row in rows(session, run)]
    assert found == [(1, {"loss": 2.0, "validation_loss": 3.0}), (2, {"loss": None})]
    assert get_run(session, run.id).progress["loss"] is None  # type: ignore[index]


def test_a_failed_run_keeps_what_it_measured(session: Session) -> None:
    run = do(session, "test.measure", points=[[1, 4.0], [2, 9.0]], fails=True)
    assert get_run(session, run.id).status == FAILED
    assert [row.done for row in rows(session, run)] == [1, 2]


def test_another_start_replaces_what_it_repeats(session: Session) -> None:
    run = do(session, "test.measure", points=[[1, 4.0], [2, 2.0], [3, 1.0]])
    again = get_run(session, run.id)
    again.status, again.params = QUEUED, {"points": [[2, 1.5]]}
    session.add(again)
    session.commit()
    execute(run.id)
    found = [(row.done, row.measures["loss"], row.attempt) for row in rows(session, run)]
    assert found == [(1, 4.0, 1), (2, 1.5, 2)]


def test_a_storm_of_reports_is_few_points_that_span_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_measures, "WRITE_EVERY_S", 1000.0)  # within one period, on any machine
    run = do(session, "test.measure", points=[[n, float(-n)] for n in range(1, 301)])
    found = rows(session, run)
    assert len(found) <= 2 * run_measures.AT_ONCE
    assert (found[0].done, found[-1].done) == (1, 300)
    assert found[-1].measures["loss"] == -300.0


def test_a_long_run_is_thinned_and_loses_no_rare_measure(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_measures, "MOST_ROWS", 80)
    monkeypatch.setattr(run_measures, "WRITE_EVERY_S", 0.0)
    run = Run(kind="test.measure")
    session.add(run)
    session.flush()
    measures = run_measures.RunMeasures(run.id, 1)
    for step in range(1, 401):
        rare = {"validation_loss": float(step)} if step % 100 == 0 else {}
        measures.add(step, {"loss": float(-step), **rare})
        measures.write(session)
    found = rows(session, run)
    assert 40 <= len(found) <= 80
    assert (found[0].done, found[-1].done) == (1, 400)
    looked = [row.measures.get("validation_loss") for row in found]
    assert [value for value in looked if value is not None] == [100.0, 200.0, 300.0, 400.0]
