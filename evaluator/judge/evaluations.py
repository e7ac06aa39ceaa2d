"""Two stored evaluations before the judges of the settings: what a verdict stores of them."""

from collections.abc import Iterable
from uuid import UUID

from sqlmodel import Session, col, select

from evaluator.judge.ask import Progress
from evaluator.judge.compare import compare_answers
from evaluator.judge.judges import judges_of_settings, names_a_family
from evaluator.judge.pairs import JUDGING_GRADERS, Pair, pairs_of
from evaluator.judge.report import JudgeReport
from evaluator.tables import Evaluation, Suite, SuiteTask
from foundation.database import get_engine
from foundation.errors import BadInput
from trainer.tables import ModelVersion


def judge_evaluations(
    session: Session,
    baseline: Evaluation,
    candidate: Evaluation,
    *,
    calibration: Iterable[tuple[Evaluation, Evaluation]] = (),
    role: str | None = None,
    at_most: int | None = None,
    progress: Progress | None = None,
) -> JudgeReport | None:
    """Return what the judges say of two evaluations of one suite; None: no judge is set.

    Args:
        session: as of `compare_answers`.
        baseline: what is compared with.
        candidate: of the same suite.
        calibration: further pairs of evaluations, of executed suites, to hold the judges against.
        role: whose review queue a tenth of the pairs goes into; None: people are not asked.
        at_most: pairs to be judged, drawn by hash; None: all.
        progress: told of each judge's answers.

    Raises:
        BadInput: the evaluations are of different suites, or no task was answered by both.
    """
    judges = judges_of_settings()
    if not judges:
        return None
    known: list[Pair] = []
    for before, after in calibration:
        known += [pair for pair in pairs_of(session, before, after) if pair.truth is not None]
    return compare_answers(
        session,
        judges,
        pairs_of(session, baseline, candidate),
        baseline_base=base_of(session, baseline),
        candidate_base=base_of(session, candidate),
        calibration=known,
        role=role,
        at_most=at_most,
        progress=progress,
    )


def base_of(session: Session, evaluation: Evaluation) -> str | None:
    """Return the base model of what was evaluated, or its name if that tells; None: not known."""
    if evaluation.model_version_id is not None:
        return session.get_one(ModelVersion, evaluation.model_version_id).base_model
    return evaluation.subject if names_a_family(evaluation.subject) else None


def judge_stored(
    baseline_id: UUID,
    candidate_id: UUID,
    calibration: Iterable[tuple[UUID, UUID]] = (),
    progress: Progress | None = None,
) -> JudgeReport:
    """Return what the judges say of two stored evaluations; no transaction is open meanwhile.

    A tenth of the pairs goes into the review queue of the suite's role.

    Args:
        baseline_id: the evaluation that is compared with.
        candidate_id: the other one.
        calibration: further pairs of evaluations, as of `judge_evaluations`.
        progress: told of each judge's answers.

    Raises:
        BadInput: no judge is set, or as `judge_evaluations`.
    """
    by_statement = get_engine().connect().execution_options(isolation_level="AUTOCOMMIT")
    with by_statement, Session(by_statement) as session:
        baseline, candidate = (session.get_one(Evaluation, i) for i in (baseline_id, candidate_id))
        report = judge_evaluations(
            session,
            baseline,
            candidate,
            calibration=[
                (session.get_one(Evaluation, one), session.get_one(Evaluation, other))
                for one, other in calibration
            ],
            role=session.get_one(Suite, baseline.suite_id).role,
            progress=progress,
        )
        session.commit()
    if report is None:
        raise _no_judge()
    return report


def require_judges() -> None:
    """Refuse to go on without a judge; raises BadInput, or BadSetting for a malformed one."""
    if not judges_of_settings():
        raise _no_judge()


def _no_judge() -> BadInput:
    remedy = "Name one, as in docs/judging.md."
    return BadInput("FLYWHEEL_JUDGE_MODELS", [], "at least one judge", remedy)


def is_graded_by_rubric(session: Session, evaluation: Evaluation) -> bool:
    """Return whether judges graded any task of an evaluation's suite."""
    query = select(SuiteTask.id).where(
        SuiteTask.suite_id == evaluation.suite_id, col(SuiteTask.grader).in_(JUDGING_GRADERS)
    )
    return session.exec(query.limit(1)).first() is not None


def rubric_flips(*evaluations: Evaluation) -> float | None:
    """Return the greatest share of rubric grades that turned with the wording, 0-1.

    None if in any of the evaluations nothing was asked in both wordings.
    """
    rates = [(one.metrics.get("graded") or {}).get("judge_flipped") for one in evaluations]
    known = [float(rate) for rate in rates if rate is not None]
    return max(known) if known and len(known) == len(rates) else None
