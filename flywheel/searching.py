"""A search for better knobs: each trial a training with its own run, the whole a run of its own.

Started again after a loss it finds its trials in the database, in their order, and goes on; what
decides is `trainer.search`, and the same results lead it the same way.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session, col, select

from curation.export import get_dataset
from evaluator.suites import load_suite
from evaluator.tables import Evaluation
from evaluator.tasks import EvaluationPlan, start_evaluation
from foundation.database import session_scope
from foundation.errors import BadInput, Conflict, FlywheelError
from foundation.runs import RunHandle, enqueue, execute, get_run, job
from foundation.tables import DONE, FAILED, Run
from trainer.methods import METHODS, TASKS
from trainer.recipe import Recipe
from trainer.registry import set_stage
from trainer.search import (
    Proposals,
    SearchPlan,
    Trial,
    for_round,
    require_comparable,
    survivors,
)
from trainer.tables import CANDIDATE, RETIRED, ModelVersion, TrainingRun
from trainer.tasks import require_trainable, start_training

SEARCH_JOB: Final = "flywheel.search"


class NothingLearned(FlywheelError):
    """Every trial of a search failed."""

    def __init__(self, n: int, reason: str) -> None:
        super().__init__(f"search: all {n} trials failed, expected one that trains. Last: {reason}")


def start_search(
    session: Session,
    role: str,
    dataset_id: UUID | None,
    base_model: str | None,
    recipe: Recipe,
    plan: SearchPlan,
) -> Run:
    """Queue a search; what cannot be trained is refused now, as `start_training` would.

    Raises:
        NotFound: no such dataset or suite.
        BadInput: as `start_training`; without a suite, a dataset without validation rows or a knob
            that changes what the validation loss is, too.
    """
    if METHODS[recipe.method].reads == TASKS:
        raise BadInput(
            "recipe.method", recipe.method, "one that reads datasets", "Search with another."
        )
    base_model = require_trainable(session, role, dataset_id, base_model, recipe)
    assert dataset_id is not None, "required of a method that reads datasets"
    if plan.suite is not None:
        known = load_suite(session, plan.suite)
        plan = replace(plan, suite=f"{known.name}@{known.version}")  # of all trials the same
    else:
        require_comparable(plan.space)
        _require_validation(session, dataset_id)
    params = {
        "role": role,
        "dataset_id": str(dataset_id),
        "base_model": base_model,
        "recipe": recipe.to_dict(),
        "plan": plan.as_json(),
    }
    return enqueue(session, SEARCH_JOB, params, role=role)


def _require_validation(session: Session, dataset_id: UUID) -> None:
    if get_dataset(session, dataset_id).n_validation == 0:
        raise BadInput(
            "dataset",
            "no validation rows",
            "some, to compare trials by",
            "Curate more, or compare by tasks: --suite NAME",
        )


@job(SEARCH_JOB, queue="gpu")
def search(
    run: RunHandle,
    *,
    role: str,
    dataset_id: str,
    base_model: str | None,
    recipe: dict[str, Any],
    plan: dict[str, Any],
) -> dict[str, Any]:
    """Try candidates in rounds, each longer and with fewer; return the best and all trials."""
    wanted, known = SearchPlan(**plan), Recipe.from_dict(recipe)
    trials = _Trials(run, role, UUID(dataset_id), base_model, known, wanted)
    rounds = list(_rounds(trials, known, wanted))
    last = next((tried for tried in reversed(rounds) if survivors(tried, 1)), None)
    if last is None:
        raise NothingLearned(len(trials.done), trials.last_error)
    best = survivors(last, 1)[0]
    winner = trials.version_of(best)
    trials.retire_all_but(winner)
    return {
        "recipe": for_round(known, best.knobs, best.steps).to_dict(),
        "knobs": dict(best.knobs),
        "score": best.score,
        "scored_by": wanted.suite or "validation loss, negative",
        "model_version": winner,
        "rounds": [[asdict(trial) for trial in tried] for tried in rounds],
    }


def _rounds(trials: "_Trials", recipe: Recipe, plan: SearchPlan) -> Iterator[list[Trial]]:
    """Yield the trials of each round; a round that the time ran out in is not gone on from."""
    proposals = Proposals(recipe, plan)
    sizes = plan.sizes
    trials.total = proposals.n + sum(n for n, _ in sizes[1:])
    tried: list[Trial] = []
    for _ in range(proposals.n):
        if trials.is_late:
            break
        found = trials.do(proposals.ask(), plan.steps)
        proposals.tell(found.score)
        tried.append(found)
    yield tried
    for n, steps in sizes[1:]:
        if trials.is_late:
            return
        tried = [trials.do(one.knobs, steps) for one in survivors(tried, n)]
        yield tried


@dataclass
class _Trials:
    """The trials of one search: found in the database, or done now."""

    run: RunHandle
    role: str
    dataset_id: UUID
    base_model: str | None
    recipe: Recipe
    plan: SearchPlan
    total: int = 0
    last_error: str = "no trial was begun"

    def __post_init__(self) -> None:
        self.done: list[tuple[Trial, UUID]] = []
        self._began = time.monotonic()
        with session_scope() as session:
            query = select(TrainingRun).where(TrainingRun.search_run_id == self.run.id)
            self._stored = list(session.exec(query.order_by(col(TrainingRun.id))))
        self._spent_s = sum(float(one.manifest.get("wall_s", 0.0)) for one in self._stored)

    @property
    def is_late(self) -> bool:
        """Whether the plan's minutes are over, those of a start before this one included.

        What was tried before is looked up again in any case.
        """
        if self.plan.minutes is None or len(self.done) < len(self._stored):
            return False
        return self._spent_s + time.monotonic() - self._began >= 60 * self.plan.minutes

    def do(self, knobs: Any, steps: int) -> Trial:
        """Return one trial, trained and scored."""
        self.run.progress(len(self.done), self.total, "trials")
        training_id, run_id = self._training(for_round(self.recipe, knobs, steps))
        score = self._score(training_id) if self._finish(run_id) else None
        trial = Trial(dict(knobs), steps, score)
        self.done.append((trial, training_id))
        self.run.lines.say("INFO", f"{steps} steps with {dict(knobs)}: {score}")
        return trial

    def _training(self, recipe: Recipe) -> tuple[UUID, UUID]:
        place = len(self.done)
        if place < len(self._stored):
            known = self._stored[place]
            if known.recipe != recipe.to_dict():
                raise Conflict(
                    f"trial {place}",
                    known.recipe,
                    "the one that this search proposes now",
                    "Another version of the product began it: order a new search.",
                )
            return known.id, known.run_id
        with session_scope() as session:
            training = start_training(
                session,
                self.role,
                self.dataset_id,
                self.base_model,
                recipe,
                ordered_by="search",
                search_run_id=self.run.id,
            )
            return training.id, training.run_id

    def _finish(self, run_id: UUID) -> bool:
        """Do a run here unless another worker is at it; return whether it came to its end."""
        execute(run_id)
        while True:
            with session_scope() as session:
                found = get_run(session, run_id)
            if found.status == DONE:
                return True
            if found.status not in ("queued", "running"):
                self.last_error = (found.error or found.status).strip().splitlines()[-1]
                if found.status == FAILED:
                    return False
                raise Conflict("trial", found.status, "one that trains", "Order a new search.")
            self.run.check()
            time.sleep(0.5)
            execute(run_id)

    def _score(self, training_id: UUID) -> float | None:
        with session_scope() as session:
            training = session.get_one(TrainingRun, training_id)
            name = _version(session, training_id).name
            loss = training.metrics.get("best_validation_loss")
        if self.plan.suite is not None:
            return self._success(name)
        return None if loss is None else -float(loss)

    def _success(self, name: str) -> float | None:
        """Return a version's success on the suite, asked for once."""
        with session_scope() as session:
            suite = load_suite(session, str(self.plan.suite))
            known = session.exec(
                select(Evaluation)
                .where(Evaluation.subject == name, Evaluation.suite_id == suite.id)
                .order_by(col(Evaluation.id).desc())
            ).first()
            if known is not None:
                return known.success_rate
            asked = EvaluationPlan(seed=self.plan.seed)
            run = start_evaluation(session, str(self.plan.suite), [name], asked)
        if not self._finish(run.id):
            return None
        with session_scope() as session:
            return session.exec(
                select(Evaluation.success_rate).where(Evaluation.run_id == run.id)
            ).one()

    def version_of(self, trial: Trial) -> str:
        """Return the name of the version that a trial made."""
        training_id = next(identifier for one, identifier in self.done if one is trial)
        with session_scope() as session:
            return _version(session, training_id).name

    def retire_all_but(self, winner: str) -> None:
        """Retire the versions that lost: their files may go with the next collection.

        Candidates only: somebody may have taken one of them into use meanwhile.
        """
        with session_scope() as session:
            for _, training_id in self.done:
                made = session.exec(
                    select(ModelVersion).where(ModelVersion.training_run_id == training_id)
                ).first()
                if made is not None and made.name != winner and made.stage == CANDIDATE:
                    set_stage(session, made, RETIRED)


def _version(session: Session, training_id: UUID) -> ModelVersion:
    return session.exec(
        select(ModelVersion).where(ModelVersion.training_run_id == training_id)
    ).one()
