"""A search on a real database: each trial a run, resumed where it was, the best one kept."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from adapters_on_disk import adapter, halves
from sqlmodel import col, select
from stored_datasets import add_dataset, order
from stored_versions import add_adapter
from tiny_base import QUICK, build_tiny_base, make_rows

from evaluator.tables import Evaluation, Suite
from flywheel.searching import _Trials, start_search
from foundation import runs
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id
from foundation.settings import get_settings
from foundation.tables import DONE, QUEUED, RUNNING, Run
from trainer.registry import list_versions, set_stage
from trainer.search import SearchPlan
from trainer.tables import CANDIDATE, PRODUCTION, RETIRED, TrainingRun

PLAN = SearchPlan(space={"lr": [1e-5, 2e-2]}, trials=2, steps=3, eta=2, rounds=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def dataset(session, tmp_path):
    rows = make_rows(64)
    return add_dataset(session, tmp_path / "dataset", rows[:48], rows[48:])


def trials(session):
    session.expire_all()
    return session.exec(select(TrainingRun).order_by(col(TrainingRun.id))).all()


@pytest.mark.slow
def test_the_better_rate_goes_on_and_the_others_retire(session, dataset, base):
    run = start_search(session, "coder", dataset.id, str(base), QUICK, PLAN)
    session.commit()
    done = runs.execute(run.id)
    assert done.status == DONE, done.error
    found = trials(session)
    assert [t.recipe["max_steps"] for t in found] == [3, 3, 6]
    assert {t.search_run_id for t in found} == {run.id}
    assert {t.ordered_by for t in found} == {"search"}
    assert done.result["knobs"] == {"lr": 2e-2}
    best = max(t.score for t in _trials_of(done.result, 1))
    assert done.result["score"] == best
    kept = [v for v in list_versions(session) if v.stage != RETIRED]
    assert [v.name for v in kept] == [done.result["model_version"]]


@pytest.mark.slow
def test_a_search_that_lost_its_worker_does_no_trial_twice(session, dataset, base, monkeypatch):
    run = start_search(session, "coder", dataset.id, str(base), QUICK, PLAN)
    session.commit()
    honest = runs.RunHandle.progress

    def die_after_one(self, done, total, unit, **measures):
        honest(self, done, total, unit, **measures)
        if unit == "trials" and done == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(runs.RunHandle, "progress", die_after_one)
        with pytest.raises(KeyboardInterrupt):
            runs.execute(run.id)
    session.expire_all()
    assert session.get(Run, run.id).status == RUNNING
    before = [t.id for t in trials(session)]
    assert len(before) == 1
    monkeypatch.setenv("FLYWHEEL_LOST_AFTER_S", "0.000001")
    get_settings.cache_clear()
    assert run.id in runs.sweep().requeued
    done = runs.execute(run.id)
    assert done.status == DONE, done.error
    assert [t.id for t in trials(session)][:1] == before
    assert len(trials(session)) == 3


def test_what_cannot_be_searched_is_refused_before_it_is_queued(session, tmp_path, base):
    without = add_dataset(session, tmp_path / "without", make_rows(8))
    with pytest.raises(BadInput, match="validation"):
        start_search(session, "coder", without.id, str(base), QUICK, PLAN)
    with pytest.raises(NotFound):
        start_search(session, "coder", new_id(), str(base), QUICK, PLAN)
    longer = replace(PLAN, space={"max_length": [16, 64]})
    with pytest.raises(BadInput, match="validation loss"):
        start_search(session, "coder", without.id, str(base), QUICK, longer)
    with pytest.raises(BadInput, match="reads datasets"):
        start_search(session, "coder", None, str(base), replace(QUICK, method="rloo"), PLAN)
    assert session.exec(select(Run).where(Run.status == QUEUED)).all() == []


def trials_of(run_id, plan):
    return _Trials(SimpleNamespace(id=run_id), "coder", new_id(), None, QUICK, plan)


def test_trials_are_scored_by_the_suite_that_the_search_began_with(session, dataset, base):
    suites = [
        Suite(name=name, version=version, role="coder", content_hash=f"{name}{version}", n_tasks=1)
        for name, version in (("sums", 1), ("poems", 1), ("sums", 2))
    ]
    session.add_all(suites)
    session.flush()
    run = start_search(session, "coder", dataset.id, str(base), QUICK, replace(PLAN, suite="sums"))
    assert run.params["plan"]["suite"] == "sums@2"
    for suite, rate in zip(suites, (0.25, 0.75, 0.5), strict=True):
        session.add(Evaluation(suite_id=suite.id, subject="coder-v1", success_rate=rate))
        session.flush()
    session.commit()
    for name, rate in (("sums@1", 0.25), ("sums@2", 0.5)):
        assert trials_of(run.id, replace(PLAN, suite=name))._success("coder-v1") == rate


def test_the_minutes_of_a_search_go_on_where_a_lost_worker_left_them(session, dataset):
    run = start_search(session, "coder", dataset.id, "/base", QUICK, PLAN)
    training = order(session, dataset, "/base", search_run_id=run.id)
    training.manifest = {"wall_s": 61.0}
    session.commit()
    trials = trials_of(run.id, replace(PLAN, minutes=1.0))
    assert not trials.is_late, "what was tried is looked up"
    trials.done.append((None, training.id))
    assert trials.is_late
    assert not trials_of(new_id(), replace(PLAN, minutes=1.0)).is_late


def test_a_loser_that_serves_meanwhile_goes_on_serving(session, dataset, tmp_path):
    run = start_search(session, "coder", dataset.id, "/base", QUICK, PLAN)
    session.commit()
    versions = [
        add_adapter(session, dataset, "/base", adapter(tmp_path / name, {"q": halves(2, seed)}))
        for seed, name in enumerate(("winner", "loser", "serves"))
    ]
    set_stage(session, versions[2], PRODUCTION)
    session.commit()
    trials = trials_of(run.id, PLAN)
    trials.done += [(None, version.training_run_id) for version in versions]
    trials.retire_all_but(versions[0].name)
    session.expire_all()
    assert [version.stage for version in versions] == [CANDIDATE, RETIRED, PRODUCTION]


def _trials_of(result, place):
    from trainer.search import Trial

    return [Trial(**one) for one in result["rounds"][place]]
