"""A turn of the wheel: where a role leaves it, why, and what production says about a role.

Jobs are done by a thread of this process, in their order; all else is as in production.
"""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from by_hand import Said, write_log
from chat_app import Chat, chat
from sqlalchemy import text, update
from sqlmodel import Session, col, select
from tiny_base import QUICK

from collector.direct import DirectTransport
from collector.importers.run import run_import
from collector.record import feedback_record
from collector.tables import Feedback, Interaction, SourceTrust
from evaluator.suites import Task, add_suite
from evaluator.tables import DriftWatch, Evaluation
from evaluator.tasks import EvaluationPlan
from flywheel import observe
from flywheel.cycle import (
    JobFailed,
    RoleTurn,
    TurnRecipe,
    benchmark,
    experiment,
    explain,
    require_known,
    turn,
)
from flywheel.observe import (
    observed_success,
    since_training,
    success_then_and_now,
    tasks_per_day,
)
from foundation import runs
from foundation.database import session_scope
from foundation.decisions import record
from foundation.errors import FlywheelError, NotFound
from foundation.ids import new_id
from foundation.queue import declare_queues
from foundation.tables import QUEUED, Decision, Run
from router.promote import initial
from router.tables import Experiment
from trainer import plan
from trainer.registry import ensure_base_version
from trainer.tables import QUARANTINED, ModelVersion, TrainingRun


@pytest.fixture
def worker(database: str) -> Iterator[None]:
    """A thread that does what is queued, oldest first."""
    declare_queues()
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            with session_scope() as session:
                queued = select(Run.id).where(Run.status == QUEUED).order_by(col(Run.id))
                found = session.exec(queued).all()
            for run_id in found:
                runs.execute(run_id)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def serving_base(base: str = "a-base", role: str = "coder") -> ModelVersion:
    """Let an untrained base serve the role."""
    with session_scope() as session:
        version = ensure_base_version(session, role, base)
        initial(session, role, version, reason="the first", actor="test")
    return version


def logged(folder: Path, version: ModelVersion, n: int, failed: int) -> None:
    """Log answers of the version, with the outcome of each."""
    log = write_log(folder / "log.jsonl", n, failed)
    run_import("coder_outputs", [log], DirectTransport())
    with session_scope() as session:
        session.execute(update(Interaction).values(model_version_id=version.id))


def turned(recipe: TurnRecipe) -> RoleTurn:
    return turn(["coder"], recipe, lambda stage, done, total: None)["coder"]


def demo_recipe(base: Path | None = None, *, is_asked_for: bool = True) -> TurnRecipe:
    return TurnRecipe(
        suites={},
        training={"coder": QUICK},
        profile=plan.DEMO,
        base_models={"coder": str(base)} if base else {},
        is_asked_for=is_asked_for,
    )


def outcomes(done: RoleTurn) -> dict[str, str]:
    return {decision.kind: decision.outcome for decision in done.decisions}


def test_an_excellent_role_is_not_trained(worker: None, session: Session, tmp_path: Path) -> None:
    baseline = serving_base()
    logged(tmp_path, baseline, n=100, failed=5)
    done = turned(demo_recipe())
    assert outcomes(done)[plan.SHOULD_TRAIN] == plan.NO
    assert done.ended_because.startswith("not trained: ")
    assert "95" in done.ended_because
    assert done.dataset_id is not None
    assert (done.candidate, done.verdict, done.experiment_id) == (None, None, None)
    assert session.exec(select(TrainingRun)).all() == []
    stored = session.exec(select(Decision).where(Decision.kind == plan.SHOULD_TRAIN)).one()
    assert stored.inputs["baseline_success"] == pytest.approx(0.95)
    shown = json.loads(json.dumps(explain(done), default=str))
    assert shown["baseline"] == baseline.name
    assert shown["ended_because"] == done.ended_because
    assert [d["kind"] for d in shown["decisions"]] == list(outcomes(done))


def test_a_turn_from_the_command_line(
    worker: None, command: Callable[..., Said], tmp_path: Path
) -> None:
    logged(tmp_path, serving_base(), n=100, failed=5)
    found = command("turn", "coder", "--profile", "demo", "--json").json["coder"]
    assert found["baseline"] == "coder-base"
    assert found["decisions"][0]["outcome"] == plan.NO
    said = command("turn", "coder", "--profile", "demo")
    assert said.code == 0, said
    assert " ".join(said.out.split()) == f"coder: {found['ended_because']}"


def test_one_failure_more_and_the_role_is_worth_it(
    worker: None, session: Session, tmp_path: Path
) -> None:
    logged(tmp_path, serving_base(), n=50, failed=3)
    done = turned(demo_recipe())
    assert outcomes(done) == {plan.SHOULD_TRAIN: plan.YES, plan.CHOOSE_METHOD: plan.WAIT}
    assert "50" in done.ended_because, "47 examples, of which 80 % train, are too few"
    assert session.exec(select(TrainingRun)).all() == []


def test_what_nobody_measured_is_unknown_and_trains_nothing(
    worker: None, session: Session, tmp_path: Path
) -> None:
    baseline = serving_base()
    logged(tmp_path, baseline, n=80, failed=10)
    with session_scope() as other:
        other.execute(update(Interaction).values(model_version_id=None))
    done = turned(demo_recipe())
    assert outcomes(done)[plan.SHOULD_TRAIN] not in (plan.YES, plan.NO)
    assert "not trained" in done.ended_because
    stored = session.exec(select(Decision).where(Decision.kind == plan.SHOULD_TRAIN)).one()
    assert stored.inputs["baseline_success"] is None


def test_the_standard_profile_asks_for_budget_and_time(
    worker: None, session: Session, tmp_path: Path
) -> None:
    logged(tmp_path, serving_base(), n=80, failed=10)
    recipe = TurnRecipe(suites={}, budget_usd=9_999, timeline_weeks=10)
    done = turned(recipe)
    assert outcomes(done)[plan.SHOULD_TRAIN] == plan.NO
    assert "9,999" in done.ended_because


def test_a_role_that_nobody_serves_has_no_turn(database: str) -> None:
    with pytest.raises(FlywheelError, match=r"role 'coder': nobody serves it.*flywheel promote"):
        turned(demo_recipe())


def test_a_failed_job_ends_the_turn_and_is_named(worker: None, session: Session) -> None:
    serving_base()
    with pytest.raises(JobFailed, match=r"curation\.build of coder: .*at least one logged") as left:
        turned(demo_recipe())
    assert left.value.exit_code == 1
    assert str(left.value.run.id) in str(left.value)


@pytest.mark.slow
def test_a_role_without_a_suite_is_trained_but_not_promoted(
    worker: None, session: Session, tmp_path: Path, tiny_base: Path
) -> None:
    baseline = serving_base(str(tiny_base))
    logged(tmp_path, baseline, n=130, failed=40)
    told: set[str] = set()
    recipe = demo_recipe(tiny_base, is_asked_for=False)
    done = turn(["coder"], recipe, lambda stage, *_: told.add(stage))["coder"]
    assert told == {"curate", "train"}
    assert done.candidate == "coder-v1"
    assert done.ended_because == "not promoted: the role has no benchmark suite"
    assert session.exec(select(Experiment)).all() == []

    again = turned(recipe)
    assert again.dataset_id == done.dataset_id, "nothing new was logged"
    assert outcomes(again)[plan.SHOULD_RETRAIN] not in (plan.NOW, plan.YES)
    assert again.ended_because.startswith("not retrained: ")
    assert len(session.exec(select(TrainingRun)).all()) == 1
    with session_scope() as other:
        since = since_training(other, "coder", dataset_of(other, again.dataset_id))
    assert since.version.name == "coder-v1"
    assert since.n_new_examples == 0
    assert 0 <= since.months < 1


# The benchmark


def sums(first: int, last: int) -> list[Task]:
    return [
        Task(
            f"t{n}",
            [{"role": "user", "content": f"What is {n} + 1?"}],
            "exact",
            {"answer": str(n + 1)},
        )
        for n in range(first, last)
    ]


@pytest.fixture
def model_server() -> Iterator[Chat]:
    """Knows every sum, but as `old` none of the first forty."""
    with chat() as running:
        running.special = {("old", number): "no" for number in range(40)}
        yield running


def trained() -> RoleTurn:
    """A turn in which `new` is the candidate against `old`, who serves."""
    with session_scope() as session:
        old, new = (ensure_base_version(session, "coder", name, name) for name in ("old", "new"))
        initial(session, "coder", old, reason="the first", actor="test")
    return RoleTurn("coder", old, candidate=new.name)


def benchmarked(server: Chat, suites: dict[str, str], general: str | None = None) -> RoleTurn:
    """Benchmark a trained role and go on from there."""
    plan = EvaluationPlan(1, base_url=server.url)
    recipe = TurnRecipe(suites=suites, general=general, evaluation=plan)
    require_known(recipe)
    turns = [trained()]
    benchmark(turns, recipe, lambda *_: None)
    experiment(turns, recipe)
    return turns[0]


@pytest.mark.parametrize("named", [None, "general@1", "another"])
def test_what_has_forgotten_is_quarantined_and_leaves_the_turn(
    worker: None, session: Session, model_server: Chat, named: str | None
) -> None:
    add_suite(session, "sums", "coder", sums(0, 40))
    add_suite(session, (named or "general").partition("@")[0], "general", sums(40, 80))
    session.commit()
    model_server.special |= {("new", number): "no" for number in range(40, 60)}
    done = benchmarked(model_server, {"coder": "sums"}, named)
    assert done.ended_because.startswith("quarantined: General success 50.0% against 100.0%")
    assert done.verdict["verdict"]["outcome"] == "stay"
    assert done.verdict["verdict"]["improvement_points"] == 100
    version = session.exec(select(ModelVersion).where(ModelVersion.name == "new")).one()
    assert version.stage == QUARANTINED
    assert session.exec(select(Experiment)).all() == []
    asked = session.exec(select(Evaluation.subject)).all()
    assert sorted(asked) == ["new", "new", "old", "old"]
    json.dumps(explain(done), default=str)


def test_what_has_forgotten_nothing_goes_on(
    worker: None, session: Session, model_server: Chat
) -> None:
    add_suite(session, "sums", "coder", sums(0, 40))
    add_suite(session, "general", "general", sums(40, 80))
    session.commit()
    done = benchmarked(model_server, {"coder": "sums"})
    assert done.ended_because is None
    assert done.verdict["forgetting"]["outcome"] == "ok"
    assert done.experiment_id is not None


def test_without_a_general_suite_none_is_asked(
    worker: None, session: Session, model_server: Chat
) -> None:
    add_suite(session, "sums", "coder", sums(0, 40))
    session.commit()
    with pytest.raises(NotFound, match="another"):
        benchmarked(model_server, {"coder": "sums"}, "another")
    done = benchmarked(model_server, {"coder": "sums"})
    assert done.verdict["forgetting"] is None
    assert done.experiment_id is not None


def test_a_role_that_is_measured_by_general_tasks_is_not_asked_twice(
    worker: None, session: Session, model_server: Chat
) -> None:
    add_suite(session, "general", "coder", sums(0, 40))
    session.commit()
    done = benchmarked(model_server, {"coder": "general"})
    assert done.verdict["forgetting"] is None
    assert len(session.exec(select(Evaluation)).all()) == 2


def dataset_of(session: Session, dataset_id: UUID):
    from curation.export import get_dataset

    return get_dataset(session, dataset_id)


def test_success_is_that_of_the_version_and_no_judge_has_a_say(
    database: str, session: Session, tmp_path: Path
) -> None:
    baseline = serving_base()
    assert observed_success(session, "coder", baseline.id) is None
    assert tasks_per_day(session, "coder") is None
    logged(tmp_path, baseline, n=20, failed=5)
    assert observed_success(session, "coder", baseline.id) == pytest.approx(0.75)
    assert observed_success(session, "coder", new_id()) is None
    assert observed_success(session, "tester", baseline.id) is None
    assert tasks_per_day(session, "coder") == pytest.approx(20, rel=0.01)
    for interaction in session.exec(select(Interaction.id)).all():
        verdict = feedback_record(
            new_id(), "success", interaction_id=interaction, value=0.0, source="judge"
        )
        DirectTransport().send({"source": "client", "interactions": [], "feedback": [verdict]})
    session.rollback()
    assert session.execute(text("SELECT count(*) FROM feedback")).scalar_one() == 40
    assert observed_success(session, "coder", baseline.id) == pytest.approx(0.75)
    session.execute(
        text(
            "UPDATE feedback SET source = 'user', actor = 'mallory' "
            "WHERE value = 0 AND source <> 'judge'"
        )
    )
    session.add(SourceTrust(source="user:mallory", trust="distrusted", reason="r", actor="ada"))
    session.flush()
    assert observed_success(session, "coder", baseline.id) == 1
    session.execute(text("UPDATE interaction SET ingested_at = now() - interval '31 days'"))
    assert observed_success(session, "coder", baseline.id) is None
    session.rollback()


def test_drift_is_read_from_both_ends_of_a_versions_service(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "DRIFT_OUTCOMES", 5)
    version = serving_base()

    def answered(value: float, times: int) -> None:
        for _ in range(times):
            call = Interaction(role="coder", model_version_id=version.id)
            session.add(call)
            session.add(Feedback(interaction_id=call.id, kind="success", value=value))
            session.flush()

    answered(1.0, 9)
    assert success_then_and_now(session, "coder", version.id) == (None, None)
    answered(0.0, 5)
    assert success_then_and_now(session, "coder", version.id) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("n", "n_failed", "since", "has_alarm", "expected"),
    [
        (400, 40, (50, 20), False, (0.95, 0.9)),
        (400, 40, (50, 20), True, (0.95, 0.6)),
        (400, 40, (0, 0), True, (0.95, 0.9)),
        (199, 100, (50, 20), False, (None, None)),
        (199, 100, (50, 20), True, (0.95, 0.6)),
    ],
)
def test_the_watch_over_drift_says_what_success_was_and_is(
    session: Session,
    n: int,
    n_failed: int,
    since: tuple[int, int],
    has_alarm: bool,
    expected: tuple[float | None, float | None],
) -> None:
    version = serving_base()
    watch = DriftWatch(role="coder", model_version_id=version.id, reference_rate=0.95)
    watch.n_reference, watch.n, watch.n_failed = 300, n, n_failed
    watch.watermark = {
        **{"limit": 0.08, "growth": [0.0] * 4},
        **{"n_since": since[0], "n_failed_since": since[1]},
    }
    if has_alarm:
        watch.alarm_decision_id = record(session, "evaluator.drift", "alarm", []).id
    session.add(watch)
    session.commit()
    assert success_then_and_now(session, "coder", version.id) == pytest.approx(expected)
    assert success_then_and_now(session, "tester", version.id) == (None, None)
