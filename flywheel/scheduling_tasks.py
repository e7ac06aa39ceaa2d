"""The job behind a schedule: curate, train on what is new, benchmark, and swap if nothing was lost.

It goes on from who serves, learns the rows that this one has not learned, and replays the others.
Each step is a run of its own that this job does itself unless another worker has it; started again
after a loss it finds them by the notes in the schedule's row.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session

from curation.export import get_dataset
from curation.publish.increment import publish_increment
from curation.recipe import CurationRecipe
from curation.tasks import ask_for_build
from evaluator.decide import AB_TEST, DEPLOY
from evaluator.suites import list_suites
from evaluator.tables import Verdict
from evaluator.tasks import EvaluationPlan, start_evaluation
from flywheel.swap import RULE, SWAP, SwapInputs, SwapThresholds
from foundation.database import session_scope
from foundation.decisions import decide, get_decision
from foundation.errors import Conflict, FlywheelError
from foundation.runs import RunHandle, execute, get_run, job
from foundation.tables import CANCELLED, DONE, FAILED, Run
from router.experiment import plan_from
from router.experiment import start as start_experiment
from router.promote import promote, serving_version
from serving.deploy import DeployFailed, prepare
from trainer.lineage import ancestors
from trainer.registry import ADAPTER, get_version
from trainer.schedule import GUARDED, OFF, Orders, get_schedule, orders_of, with_recipe_of
from trainer.tables import ModelVersion
from trainer.tasks import start_training

SCHEDULED_TURN: Final = "flywheel.scheduled_turn"

NOTHING_NEW, CANDIDATE_MADE, STARTED = "nothing_new", "candidate", "experiment"
SWAPPED, HELD = "swapped", "held"
"""How an iteration can end, beside failing."""

GENERAL: Final = "general"
_POLL_S: Final = 0.2


class StepFailed(FlywheelError):
    """A step of a scheduled turn failed or was cancelled; its row keeps the whole error."""

    exit_code = 1

    def __init__(self, run: Run) -> None:
        self.run = run
        last = (run.error or run.status).strip().splitlines()[-1]
        super().__init__(f"{run.kind} of {run.role}: {last} (run {run.id})")


@dataclass
class _Turn:
    """A scheduled turn under way: what it knows, and the notes by which it is taken up again."""

    run: RunHandle
    role: str
    trigger: str
    orders: Orders
    notes: dict[str, Any]

    def note(self, **values: Any) -> None:
        """Keep what was done, for whoever goes on; in a transaction of its own."""
        with session_scope() as session:
            self.note_in(session, **values)

    def note_in(self, session: Session, **values: Any) -> None:
        """Keep what was done, with the transaction that does it."""
        row = get_schedule(session, self.role)
        self.notes = {**row.seen.get("iteration", {}), **values, "run_id": str(self.run.id)}
        row.seen = {**row.seen, "iteration": self.notes}
        session.add(row)


@job(SCHEDULED_TURN, queue="gpu")
def scheduled_turn(run: RunHandle, *, role: str, trigger: str) -> dict[str, Any]:
    """Do one iteration of a role's schedule; taken up again, it goes on where it was."""
    turn = _begin(run, role, trigger)
    serving = _goes_on_with(turn)
    with _timed(turn, "curate"):
        dataset_id = _curate(turn, serving)
    if dataset_id is None:
        return _ended(turn, NOTHING_NEW, [f"{serving.name} has learned all that there is."])
    with _timed(turn, "train"):
        candidate = _train(turn, serving, dataset_id)
    with _timed(turn, "benchmark"):
        verdict_id = _benchmark(turn, serving, candidate)
    with _timed(turn, "deploy"):
        outcome, reasons = _act(turn, serving, candidate, verdict_id)
    return _ended(turn, outcome, reasons, candidate)


def _begin(run: RunHandle, role: str, trigger: str) -> _Turn:
    with session_scope() as session:
        row = get_schedule(session, role)
        notes = row.seen.get("iteration", {})
        if notes.get("run_id") != str(run.id):
            notes = {}
            row.seen = {**row.seen, "iteration": notes}
            session.add(row)
        return _Turn(run, role, trigger, with_recipe_of(role, orders_of(row)), notes)


def _goes_on_with(turn: _Turn) -> ModelVersion:
    """Return who served when the iteration began: by now it may be what was trained then.

    Raises:
        FlywheelError: nobody does.
    """
    with session_scope() as session:
        if "serving" in turn.notes:
            return get_version(session, turn.notes["serving"])
        serving = serving_version(session, turn.role)
        if serving is None:
            raise FlywheelError(
                f"role {turn.role!r}: nobody serves it, expected a version to go on from. "
                "Let one serve: flywheel promote VERSION --reason …"
            )
        turn.note_in(session, serving=str(serving.id))
        return serving


@contextmanager
def _timed(turn: _Turn, stage: str) -> Iterator[None]:
    started = time.monotonic()
    turn.run.lines.say("INFO", stage)
    yield
    parts = turn.notes.get("parts_s", {})
    took = parts.get(stage, 0.0) + time.monotonic() - started
    turn.note(parts_s={**parts, stage: round(took, 2)})
    turn.run.progress(len(turn.notes["parts_s"]), 4, "stages")


def _curate(turn: _Turn, serving: ModelVersion) -> UUID | None:
    """Make a dataset of the log, and of it one of what is new to who serves."""
    if "curate" not in turn.notes:
        with session_scope() as session:
            run = ask_for_build(session, turn.role, CurationRecipe())
            turn.note_in(session, curate=str(run.id))
    done = _finished(turn, "curate")
    with session_scope() as session:
        line = ancestors(session, serving)
        learned = [version.dataset_id for version in line if version.dataset_id is not None]
        whole = UUID((done.result or {})["dataset_id"])
        increment = publish_increment(session, whole, learned)
        return increment.id if increment else None


def _train(turn: _Turn, serving: ModelVersion, dataset_id: UUID) -> str:
    """Train on from who serves, or from its base where that is no adapter; return the name."""
    if "train" not in turn.notes:
        with session_scope() as session:
            earlier = _goes_on_from(serving, turn.orders)
            n_rows = get_dataset(session, dataset_id).n_train
            training = start_training(
                session,
                turn.role,
                dataset_id,
                turn.orders.base_model or serving.base_model,
                turn.orders.recipe_for(turn.trigger, goes_on=earlier is not None, n_rows=n_rows),
                earlier=earlier,
                ordered_by=turn.trigger,
            )
            turn.note_in(session, train=str(training.run_id))
    done = _finished(turn, "train")
    return str((done.result or {})["name"])


def _goes_on_from(serving: ModelVersion, orders: Orders) -> ModelVersion | None:
    same_base = orders.base_model in (None, serving.base_model)
    return serving if serving.kind == ADAPTER and same_base else None


def _benchmark(turn: _Turn, serving: ModelVersion, candidate: str) -> UUID | None:
    """Let both answer the role's suite and the general one; return the verdict, None without."""
    from flywheel.benchmark import verdict_on

    if turn.orders.suite is None:
        return None
    if "verdict" in turn.notes:
        return UUID(turn.notes["verdict"])
    if "benchmark" not in turn.notes:
        with session_scope() as session:
            noted = {}
            for name, suite in _suites(session, turn.orders).items():
                run = start_evaluation(
                    session, suite, [serving.name, candidate], _plan(turn.orders)
                )
                noted[name] = str(run.id)
            turn.note_in(session, **noted)
    result = _finished(turn, "benchmark").result or {}
    beside = _finished(turn, "general").result if "general" in turn.notes else None
    report = verdict_on(result, serving.name, candidate, beside)
    verdict_id = UUID(str(report["verdict"]["id"]))
    turn.note(verdict=str(verdict_id))
    return verdict_id


def _suites(session: Session, orders: Orders) -> dict[str, str]:
    assert orders.suite is not None
    general = orders.general
    if general is None and any(suite.name == GENERAL for suite in list_suites(session)):
        general = GENERAL
    asked = {"benchmark": orders.suite}
    return asked | ({"general": general} if general not in (None, orders.suite) else {})


def _plan(orders: Orders) -> EvaluationPlan:
    return EvaluationPlan(
        samples_per_task=orders.samples_per_task,
        temperature=orders.temperature,
        max_tokens=orders.max_tokens,
    )


def _act(
    turn: _Turn, serving: ModelVersion, candidate: str, verdict_id: UUID | None
) -> tuple[str, list[str]]:
    """Do with the candidate what the schedule says; what stands in its way is a reason."""
    if turn.orders.promote == OFF:
        return CANDIDATE_MADE, [f"{candidate} waits: flywheel promote {candidate} --reason …"]
    try:
        with session_scope() as session:
            version = get_version(session, candidate)
            if turn.orders.promote == GUARDED:
                return _swap(session, turn, serving, version, verdict_id)
            return _compare(session, turn, version, verdict_id)
    except Conflict as error:  # an emergency, or an experiment that runs
        return HELD, [str(error)]
    except DeployFailed as error:
        if error.is_server_down:  # which may be up when this is tried again
            raise
        return HELD, [str(error)]


def _swap(
    session: Session,
    turn: _Turn,
    serving: ModelVersion,
    candidate: ModelVersion,
    verdict_id: UUID | None,
) -> tuple[str, list[str]]:
    now_serving = serving_version(session, turn.role)
    if now_serving is not None and now_serving.id == candidate.id:
        return SWAPPED, [f"{candidate.name} serves already."]  # killed after it was switched
    if now_serving is None or now_serving.id != serving.id:
        return HELD, [f"{serving.name}, which it was compared with, serves no more."]
    decision = decide(
        session,
        RULE,
        _swap_inputs(session, serving, candidate, verdict_id),
        SwapThresholds(turn.orders.margin_points, turn.orders.without_suite),
        role=turn.role,
        subject_id=candidate.id,
    )
    if decision.outcome != SWAP:
        return HELD, decision.reasons
    promote(
        session,
        turn.role,
        candidate,
        reason=" ".join(decision.reasons),
        actor="flywheel",
        decision=decision,
        prepare=prepare,
    )
    return SWAPPED, decision.reasons


def _swap_inputs(
    session: Session, serving: ModelVersion, candidate: ModelVersion, verdict_id: UUID | None
) -> SwapInputs:
    inputs = SwapInputs(candidate.name, serving.name)
    if verdict_id is None:
        return inputs
    verdict = session.get_one(Verdict, verdict_id)
    assert verdict.decision_id is not None
    read = get_decision(session, verdict.decision_id).inputs
    return replace(
        inputs,
        suite=read["evidence"]["suite"],
        improvement_points=read["improvement_points"],
        bound_low=read["bound_low"],
        n_tasks=verdict.n_tasks,
        forgetting=read["forgetting"],
    )


def _compare(
    session: Session, turn: _Turn, candidate: ModelVersion, verdict_id: UUID | None
) -> tuple[str, list[str]]:
    verdict = session.get(Verdict, verdict_id) if verdict_id else None
    if verdict is None:
        return HELD, ["The role has no benchmark suite, so nothing tells whether it is better."]
    if verdict.outcome not in (DEPLOY, AB_TEST):
        return HELD, [f"The benchmark says {verdict.outcome} of {candidate.name}."]
    started = start_experiment(
        session, turn.role, candidate, plan_from(turn.orders.experiment), "flywheel"
    )
    return STARTED, [f"Experiment {started.id} compares {candidate.name} with who serves."]


def _ended(
    turn: _Turn, outcome: str, reasons: list[str], candidate: str | None = None
) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "reasons": reasons,
        "candidate": candidate,
        "parts_s": turn.notes.get("parts_s", {}),
    }


def _finished(turn: _Turn, step: str) -> Run:
    """Do a step here unless a worker has it, and return its finished run.

    Raises:
        StepFailed: it failed or was cancelled.
        RunCancelled: this turn was.
    """
    run_id = UUID(turn.notes[step])
    while True:
        turn.run.check()
        with session_scope() as session:
            run = get_run(session, run_id)
        if run.status == DONE:
            return run
        if run.status in (FAILED, CANCELLED):
            raise StepFailed(run)
        if execute(run_id) is None:
            time.sleep(_POLL_S)
