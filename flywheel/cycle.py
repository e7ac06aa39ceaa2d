"""One turn of the wheel on one page: curate, decide, train, benchmark, experiment.

The only file that knows the order of the stages. Each stage hands its jobs to the workers for all
roles at once and waits; a role leaves the turn where a decision says so, and its reason is kept.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from uuid import UUID

from sqlmodel import Session

import flywheel.worker  # noqa: F401  registers every room's jobs and rules
from curation.export import get_dataset
from curation.recipe import UNVERIFIED, CurationRecipe
from evaluator.decide import AB_TEST, DEPLOY
from evaluator.forgetting import QUARANTINE
from evaluator.suites import list_suites, load_suite
from evaluator.tasks import EvaluationPlan, start_evaluation
from flywheel.benchmark import verdict_on
from flywheel.observe import (
    observed_success,
    since_training,
    success_then_and_now,
    tasks_per_day,
)
from foundation.database import session_scope
from foundation.decisions import decide
from foundation.errors import Conflict, FlywheelError
from foundation.runs import enqueue, get_run, works_anybody
from foundation.tables import CANCELLED, DONE, FAILED, QUEUED, Decision, Run
from router.experiment import PLANS, ExperimentPlan
from router.experiment import start as start_experiment
from router.promote import serving_version
from trainer import plan as training_plan
from trainer.hardware import probe
from trainer.recipe import SFT_FULL, SFT_LORA, SFT_QLORA, Recipe
from trainer.recipe.by_role import recipe_of
from trainer.registry import get_version
from trainer.tables import ModelVersion
from trainer.tasks import start_training

log = logging.getLogger(__name__)

NOBODY_AFTER_S = 15.0
"""A worker that is there and free takes a job up within a second."""

Tell = Callable[[str, float, float], None]
"""`tell(stage, done, total)` is called while a stage waits for its jobs."""


@dataclass(frozen=True)
class TurnRecipe:
    """How to turn: the recipe of each stage, and the profile of the decision thresholds."""

    suites: Mapping[str, str]
    """Benchmark of each role: a role without one is curated and trained, not promoted."""
    general: str | None = None
    """Suite to see what was forgotten by; by default `general`, where that is stored."""
    curation: Mapping[str, CurationRecipe] = field(default_factory=dict)
    """By role; other roles take the default recipe."""
    training: Mapping[str, Recipe] = field(default_factory=dict)
    """By role; other roles take their own recipe, or the default one."""
    evaluation: EvaluationPlan = field(default_factory=EvaluationPlan)
    experiment: ExperimentPlan = PLANS["default"]
    profile: str = training_plan.STANDARD
    base_models: Mapping[str, str] = field(default_factory=dict)
    """By role, instead of what `trainer.choose_base` says."""
    budget_usd: float | None = None
    timeline_weeks: float | None = None
    time_budget_h: float | None = None
    """Hours that a training on a CPU may take; only a GPU trains without it."""
    controls: tuple[str, ...] = ()
    """Roles that also train a control: the same attempts without verification."""
    is_asked_for: bool = False
    """A person asked for this turn, so `trainer.should_retrain` is recorded but not obeyed."""


@dataclass
class RoleTurn:
    """What one role went through in a turn; what was not reached is None."""

    role: str
    baseline: ModelVersion
    dataset_id: UUID | None = None
    control_dataset_id: UUID | None = None
    decisions: list[Decision] = field(default_factory=list)
    candidate: str | None = None
    control: str | None = None
    verdict: dict[str, Any] | None = None
    control_verdict: dict[str, Any] | None = None
    experiment_id: UUID | None = None
    ended_because: str | None = None

    def end(self, reason: str) -> None:
        """Leave the turn here."""
        self.ended_because = reason


class JobFailed(FlywheelError):
    """A job of the turn failed or was cancelled; its row keeps the whole error."""

    exit_code = 1

    def __init__(self, run: Run) -> None:
        self.run = run
        last = (run.error or run.status).strip().splitlines()[-1]
        super().__init__(f"{run.kind} of {run.role}: {last} (run {run.id})")


def turn(roles: Sequence[str], recipe: TurnRecipe, tell: Tell) -> dict[str, RoleTurn]:
    """Turn the wheel once for `roles`; each must have a serving version and a logged past.

    Raises:
        NotFound: the recipe names a suite that does not exist.
        BadInput: the recipe names an unknown profile.
        JobFailed: a job of some role failed; the other roles' results stand in the database.
    """
    require_known(recipe)
    turns = [_begin(role) for role in roles]
    curate(turns, recipe, tell)
    plan(turns, recipe)
    train(turns, recipe, tell)
    benchmark(turns, recipe, tell)
    experiment(turns, recipe)
    return {done.role: done for done in turns}


def require_known(recipe: TurnRecipe) -> None:
    """Check what the late stages need before the first one starts; raises as `turn`."""
    training_plan.profile(training_plan.SHOULD_TRAIN_PROFILES, recipe.profile)
    with session_scope() as session:
        for suite in (*recipe.suites.values(), *([recipe.general] if recipe.general else [])):
            load_suite(session, suite)


def curate(turns: list[RoleTurn], recipe: TurnRecipe, tell: Tell) -> None:
    """Make a dataset version of each role's log, and of each control's."""
    orders = {t.role: (t, recipe.curation.get(t.role, CurationRecipe())) for t in turns}
    for turn, chosen in list(orders.values()):
        if turn.role in recipe.controls:
            orders[f"{turn.role} control"] = (turn, replace(chosen, variant=UNVERIFIED))
    with session_scope() as session:
        runs = {
            name: enqueue(
                session,
                "curation.build",
                {"role": turn.role, "recipe": chosen.as_json()},
                role=turn.role,
            )
            for name, (turn, chosen) in orders.items()
        }
    for name, done in wait_for(runs, "curate", tell).items():
        turn, chosen = orders[name]
        dataset_id = UUID((done.result or {})["dataset_id"])
        if chosen.variant == UNVERIFIED:
            turn.control_dataset_id = dataset_id
        else:
            turn.dataset_id = dataset_id


def plan(turns: list[RoleTurn], recipe: TurnRecipe) -> None:
    """Decide for each role whether to train, when, and how; a no ends the role's turn."""
    for turn in turns:
        with session_scope() as session:
            _plan_role(session, turn, recipe)


def _plan_role(session: Session, turn: RoleTurn, recipe: TurnRecipe) -> None:
    role = turn.role
    dataset = get_dataset(session, _known(turn.dataset_id))
    success = observed_success(session, role, turn.baseline.id)
    worth = decide(
        session,
        training_plan.SHOULD_TRAIN,
        training_plan.ShouldTrainInputs(
            baseline_success=success,
            tasks_per_day=tasks_per_day(session, role),
            budget_usd=recipe.budget_usd,
            timeline_weeks=recipe.timeline_weeks,
        ),
        training_plan.profile(training_plan.SHOULD_TRAIN_PROFILES, recipe.profile),
        role=role,
    )
    since = since_training(session, role, dataset)
    machine = probe()
    how = decide(
        session,
        training_plan.CHOOSE_METHOD,
        training_plan.ChooseMethodInputs(
            n_examples=dataset.n_train,
            has_gpu=machine.has_gpu,
            memory_gb=machine.memory_gb,
            time_budget_h=recipe.time_budget_h,
        ),
        training_plan.profile(training_plan.CHOOSE_METHOD_PROFILES, recipe.profile),
        role=role,
    )
    turn.decisions += [worth, how]
    if worth.outcome != training_plan.YES:
        turn.end(f"not trained: {' '.join(worth.reasons)}")
    elif how.outcome in (training_plan.WAIT, training_plan.UNKNOWN):
        turn.end(f"not trained: {' '.join(how.reasons)}")
    if since.version is None:
        return
    then, lately = success_then_and_now(session, role, turn.baseline.id)
    due = decide(
        session,
        training_plan.SHOULD_RETRAIN,
        training_plan.ShouldRetrainInputs(
            success_at_training=then,
            success_now=lately,
            n_new_examples=since.n_new_examples,
            months_since_training=since.months,
        ),
        training_plan.ShouldRetrainThresholds(),
        role=role,
    )
    turn.decisions.append(due)
    if not recipe.is_asked_for and due.outcome not in (training_plan.NOW, training_plan.YES):
        turn.end(f"not retrained: {' '.join(due.reasons)}")


def train(turns: list[RoleTurn], recipe: TurnRecipe, tell: Tell) -> None:
    """Train an adapter for each role still in the turn, and its control."""
    orders: dict[str, tuple[RoleTurn, bool]] = {}
    runs: dict[str, Run] = {}
    with session_scope() as session:
        for turn in (t for t in turns if t.ended_because is None):
            base = recipe.base_models.get(turn.role) or _chosen_base(session, turn)
            chosen = recipe.training.get(turn.role) or recipe_of(turn.role)
            if chosen.method in _DECIDED:
                method = next((d.outcome for d in turn.decisions if d.kind == _METHOD), SFT_LORA)
                chosen = replace(chosen, method=method)
            for dataset_id in (turn.dataset_id, turn.control_dataset_id):
                if dataset_id is None or base is None:
                    continue
                is_control = dataset_id == turn.control_dataset_id
                training = start_training(
                    session,
                    turn.role,
                    dataset_id,
                    base,
                    chosen,
                    is_control=is_control,
                    ordered_by="turn",
                )
                name = f"{turn.role} control" if is_control else turn.role
                orders[name] = (turn, is_control)
                runs[name] = get_run(session, training.run_id)
    for name, done in wait_for(runs, "train", tell).items():
        turn, is_control = orders[name]
        if is_control:
            turn.control = (done.result or {})["name"]
        else:
            turn.candidate = (done.result or {})["name"]


_METHOD = training_plan.CHOOSE_METHOD
_DECIDED = (SFT_LORA, SFT_QLORA, SFT_FULL)
"""Methods that `trainer.choose_method` chooses among; a recipe that names another one keeps it."""


def _chosen_base(session: Session, turn: RoleTurn) -> str | None:
    chosen = decide(
        session,
        training_plan.CHOOSE_BASE,
        training_plan.ChooseBaseInputs(turn.role),
        training_plan.ChooseBaseThresholds(),
        role=turn.role,
    )
    turn.decisions.append(chosen)
    if chosen.outcome in (training_plan.KEEP_BASELINE, training_plan.UNKNOWN):
        turn.end(f"not trained: {' '.join(chosen.reasons)}")
        return None
    return chosen.outcome


def benchmark(turns: list[RoleTurn], recipe: TurnRecipe, tell: Tell) -> None:
    """Let baseline, candidate and control answer the role's suite side by side, and compare.

    In the same round baseline and candidate answer the general suite, if there is one.
    """
    ready = [t for t in turns if t.candidate and t.role in recipe.suites]
    with session_scope() as session:
        general = _general_suite(session, recipe)
        runs = {
            name: start_evaluation(session, suite, subjects, recipe.evaluation)
            for turn in ready
            for name, suite, subjects in _questions(turn, recipe.suites[turn.role], general)
        }
    finished = wait_for(runs, "benchmark", tell)
    for turn in ready:
        result, candidate = finished[turn.role].result or {}, _known(turn.candidate)
        beside = finished.get(_beside(turn.role))
        if turn.control:
            turn.control_verdict = verdict_on(result, turn.control, candidate)
        turn.verdict = verdict_on(
            result, turn.baseline.name, candidate, beside.result if beside else None
        )


GENERAL = "general"
"""Name of the suite that is asked beside the role's own, unless the recipe names another."""


def _general_suite(session: Session, recipe: TurnRecipe) -> str | None:
    if recipe.general is not None:
        return recipe.general
    return GENERAL if any(suite.name == GENERAL for suite in list_suites(session)) else None


def _questions(
    turn: RoleTurn, suite: str, general: str | None
) -> Iterator[tuple[str, str, list[str]]]:
    """Yield name, suite and subjects of each run; a control has nothing to do with the general."""
    pair = [turn.baseline.name, _known(turn.candidate)]
    yield turn.role, suite, [*pair, *([turn.control] if turn.control else [])]
    if general not in (None, suite):
        yield _beside(turn.role), _known(general), pair


def _beside(role: str) -> str:
    return f"{role} on general tasks"


def experiment(turns: list[RoleTurn], recipe: TurnRecipe) -> None:
    """Give each candidate that cleared the thresholds its share of the live traffic."""
    for turn in (t for t in turns if t.ended_because is None):
        if turn.verdict is None:
            turn.end("not promoted: the role has no benchmark suite")
        elif (turn.verdict.get("forgetting") or {}).get("outcome") == QUARANTINE:
            turn.end(f"quarantined: {' '.join(turn.verdict['forgetting']['reasons'])}")
        elif turn.verdict["verdict"]["outcome"] not in (DEPLOY, AB_TEST):
            turn.end(f"baseline stays: {' '.join(turn.verdict['reasons'])}")
        else:
            _start_experiment(turn, recipe)


def _start_experiment(turn: RoleTurn, recipe: TurnRecipe) -> None:
    """Start one role's experiment; what stands in its way costs the other roles nothing."""
    try:
        with session_scope() as session:
            candidate = get_version(session, _known(turn.candidate))
            turn.experiment_id = start_experiment(
                session, turn.role, candidate, recipe.experiment, "flywheel"
            ).id
    except Conflict as error:  # another one runs, or an emergency has stopped the role
        turn.end(f"no experiment: {error}")


def wait_for(runs: Mapping[str, Run], stage: str, tell: Tell) -> dict[str, Run]:
    """Wait until every run has ended and return the finished rows.

    Says so in the log, once, where nobody seems to be there who could take them up.

    Raises:
        JobFailed: one of them failed or was cancelled.
    """
    finished: dict[str, Run] = {}
    ask_at = time.monotonic() + NOBODY_AFTER_S
    while len(finished) < len(runs):
        with session_scope() as session:
            now_at = {name: get_run(session, run.id) for name, run in runs.items()}
        finished = {name: run for name, run in now_at.items() if run.status == DONE}
        for run in now_at.values():
            if run.status in (FAILED, CANCELLED):
                raise JobFailed(run)
        if time.monotonic() >= ask_at and all(r.status == QUEUED for r in now_at.values()):
            ask_at = math.inf
            _say_if_nobody_works(stage)
        tell(stage, sum(_share_done(run) for run in now_at.values()), len(runs))
        time.sleep(0.2)
    return finished


def _say_if_nobody_works(stage: str) -> None:
    with session_scope() as session:
        if works_anybody(session):
            return
    log.warning(
        "%s: nobody has taken the job up for %.0f s, and no worker is at work. It stays queued: "
        "start a worker with `flywheel worker`, or everything with `flywheel up`.",
        stage,
        NOBODY_AFTER_S,
    )


def _share_done(run: Run) -> float:
    if run.status == DONE:
        return 1.0
    progress = run.progress or {}
    total = float(progress.get("total") or 0)
    return min(0.99, float(progress["done"]) / total) if total else 0.0


def _begin(role: str) -> RoleTurn:
    with session_scope() as session:
        serving = serving_version(session, role)
    if serving is None:
        raise FlywheelError(
            f"role {role!r}: nobody serves it, expected a serving version to compare with. "
            "Let one serve: flywheel promote VERSION --reason …"
        )
    return RoleTurn(role, serving)


def _known(value: Any) -> Any:
    """Return a value that an earlier stage of this turn has set."""
    if value is None:
        raise FlywheelError("a stage of the turn was left out, expected all in their order.")
    return value


def explain(turn: RoleTurn) -> dict[str, Any]:
    """Return a role's turn as plain JSON values."""
    values = asdict(replace(turn, decisions=[]))
    values["baseline"] = turn.baseline.name
    values["decisions"] = [d.model_dump(mode="json") for d in turn.decisions]
    return values
