"""Evaluate and compare: models of servers, stored evaluations, or recorded answers of a file."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from evaluator.compare import GeneralTasks, compare
from evaluator.judge import judge_stored, require_judges
from evaluator.recorded import RecordedEvaluation, evaluate_recorded
from evaluator.report import evaluations_report, verdict_report
from evaluator.run import get_evaluation
from evaluator.suites import list_suites, load_suite
from evaluator.tables import Evaluation, Suite
from evaluator.tasks import EVALUATE_JOB, EvaluationPlan, start_evaluation
from evaluator.watch import Progress
from foundation.database import explain_row, session_scope
from foundation.errors import BadInput
from foundation.runs import execute, get_run
from foundation.tables import Run
from trainer.registry import EXTERNAL, get_version
from trainer.tables import ModelVersion

Report = dict[str, Any]
"""What `verdict_report` says, both `evaluations` once more, in order, and `notes` on them."""


def grade_recorded(
    suite: str, answers: Path, runs: Sequence[str], progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Grade recorded runs by execution; return their evaluations as JSON.

    Raises:
        NotFound: no such suite, file or run.
        BadInput: a malformed line, or no answer to the suite.
    """
    with session_scope() as session:
        benchmark = load_suite(session, suite)
        graded = evaluate_recorded(session, benchmark, answers, runs, None, progress)
        return [_explain_recorded(run) for run in graded]


def compare_recorded(
    suite: str,
    answers: Path,
    baseline: str,
    candidate: str,
    progress: Progress | None = None,
    *,
    ask_judges: bool = False,
) -> Report:
    """Grade two recorded runs by execution and compare them on the tasks that both answered.

    Raises as `grade_recorded`; BadInput also where they have no task in common, or judges are to be
    asked and none is set.
    """
    if ask_judges:
        require_judges()
    with session_scope() as session:
        benchmark = load_suite(session, suite)
        graded = evaluate_recorded(
            session, benchmark, answers, [baseline, candidate], None, progress
        )
    pair = graded[0].evaluation, graded[1].evaluation
    report = _verdict(pair, ask_judges=ask_judges, progress=progress)
    return {**report, "evaluations": [_explain_recorded(run) for run in graded]}


def _explain_recorded(run: RecordedEvaluation) -> dict[str, Any]:
    return {
        **explain_row(run.evaluation),
        "agreement": run.agreement,
        "n_outside": run.n_outside,
        "disagreements": [vars(found) for found in run.disagreements],
    }


def order_evaluation(suite: str, subjects: Sequence[str], plan: EvaluationPlan) -> UUID:
    """Queue an evaluation and return its run; raises as `start_evaluation`."""
    import flywheel.worker  # noqa: F401  registers the job

    with session_scope() as session:
        return start_evaluation(session, suite, subjects, plan).id


def compare_subjects(
    baseline: str,
    candidate: str,
    suite: str | None,
    plan: EvaluationPlan,
    general: str | None = None,
    *,
    ask_judges: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compare two evaluations, or two models, evaluating what is missing.

    Two ids of evaluations are compared as they are. Two models (versions, or names that a server
    knows) are compared by their newest evaluations side by side under this plan; if there are none
    they are evaluated together, now. With a `general` suite the two models answer that as well, and
    a candidate that has forgotten too much is quarantined. Judges are asked, if at all, about what
    is stored, and `progress` is told of their verdicts.

    Raises:
        NotFound: no such evaluation or suite.
        BadInput: an id beside a name, a model beside itself, several suites to choose from, or
            judges to be asked where none is set.
        Conflict: the evaluations are of different suites, or the suite changed between them.
        ModelServerUnavailable: a model's server does not answer.
    """
    if ask_judges:
        require_judges()
    names = (baseline, candidate)
    ids = [_as_id(name) for name in names]
    if all(ids) and general is None:
        with session_scope() as session:
            pair = [get_evaluation(session, found) for found in ids if found]
        return _verdict((pair[0], pair[1]), ask_judges=ask_judges, progress=progress)
    if any(ids) or baseline == candidate:
        raise BadInput(
            "what to compare",
            f"{baseline} and {candidate}",
            "two different models, or two ids of evaluations (without a general suite)",
            "List evaluations: GET /v1/evaluations",
        )
    with session_scope() as session:
        benchmark = load_suite(session, suite) if suite else _only_suite(session, baseline, general)
        others = load_suite(session, general) if general else None
    first, second, notes = _pair(benchmark, names, plan)
    general_tasks = None
    if others is not None:
        before, after, more = _pair(others, names, plan)
        general_tasks, notes = GeneralTasks(before, after), notes + more
    return _verdict((first, second), notes, general_tasks, ask_judges, progress)


def _pair(
    suite: Suite, names: tuple[str, str], plan: EvaluationPlan
) -> tuple[Evaluation, Evaluation, list[str]]:
    """Return both models' evaluations on a suite, made now if need be, and what to say of them."""
    with session_scope() as session:
        stored = _side_by_side(session, suite, names, plan)
    if stored is not None:
        return *stored, [f"{_ref(suite)}: both were evaluated before, side by side."]
    run = finish(order_evaluation(_ref(suite), names, plan))
    return *_subjects_of(run.result or {}, *names), []


def _ref(suite: Suite) -> str:
    return f"{suite.name}@{suite.version}"


def finish(run_id: UUID) -> Run:
    """Do an ordered evaluation in this process, unless a worker is quicker; return its run.

    Raises what the job raises.
    """
    return execute(run_id, reraise=True) or wait(run_id)


def wait(run_id: UUID) -> Run:
    """Wait until a worker has done an evaluation; return its run.

    Raises:
        JobFailed: it failed or was cancelled.
    """
    from flywheel.cycle import wait_for  # which imports this module

    with session_scope() as session:
        run = get_run(session, run_id)
    return wait_for({EVALUATE_JOB: run}, "evaluating", lambda *_: None)[EVALUATE_JOB]


def evaluations_of(run: Run) -> list[dict[str, Any]]:
    """Return the evaluations of a finished run as JSON, in the order of its subjects."""
    ids = [UUID(found["id"]) for found in (run.result or {}).get("evaluations", [])]
    with session_scope() as session:
        return [explain_row(get_evaluation(session, found)) for found in ids]


def report_of(evaluations: Sequence[dict[str, Any]]) -> Report:
    """Return the report of stored evaluations, given as JSON."""
    with session_scope() as session:
        found = [get_evaluation(session, UUID(one["id"])) for one in evaluations]
        return evaluations_report(session, found)


def verdict_on(
    result: dict[str, Any], baseline: str, candidate: str, general: dict[str, Any] | None = None
) -> Report:
    """Compare two subjects of a finished evaluation run; store and return the verdict.

    With the result of their run on a `general` suite, `evaluator.forgetting` decides as well.
    """
    pair = _subjects_of(result, baseline, candidate)
    return _verdict(
        pair, general=GeneralTasks(*_subjects_of(general, baseline, candidate)) if general else None
    )


def _subjects_of(result: dict[str, Any], *names: str) -> tuple[Evaluation, Evaluation]:
    ids = {found["subject"]: UUID(found["id"]) for found in result["evaluations"]}
    with session_scope() as session:
        first, second = (get_evaluation(session, ids[name]) for name in names)
    return first, second


def _verdict(
    pair: tuple[Evaluation, Evaluation],
    notes: Sequence[str] = (),
    general: GeneralTasks | None = None,
    ask_judges: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compare two stored evaluations, after the judges if they are asked; store the verdict."""
    judge = None
    if ask_judges:
        known = [(general.baseline.id, general.candidate.id)] if general else []
        judge = judge_stored(pair[0].id, pair[1].id, known, progress)
    with session_scope() as session:
        verdict = compare(session, *pair, general=general, judge=judge)
        report = verdict_report(session, verdict)
    return {
        **report,
        "evaluations": [report["baseline"], report["candidate"]],
        "notes": list(notes),
    }


def _as_id(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None


def _only_suite(session: Session, model: str, general: str | None) -> Suite:
    """Return the newest version of the one suite that the model's role has beside the general."""
    role = get_version(session, model).role
    beside = general.partition("@")[0] if general else None
    suites = [one for one in list_suites(session) if one.role == role and one.name != beside]
    newest = {one.name: one for one in suites}
    if len(newest) != 1:
        raise BadInput(
            f"suites of {role}", sorted(newest), "one, or its name", "Name it: --suite NAME"
        )
    return next(iter(newest.values()))


def _side_by_side(
    session: Session, suite: Suite, names: tuple[str, str], plan: EvaluationPlan
) -> tuple[Evaluation, Evaluation] | None:
    """Return the newest evaluations of both by one run of this plan, on the suite as it is."""
    if not plan.use_cache:
        return None
    query = (
        select(Evaluation)
        .join(ModelVersion, col(ModelVersion.id) == Evaluation.model_version_id)
        .where(
            Evaluation.suite_id == suite.id,
            Evaluation.suite_hash == suite.content_hash,
            col(Evaluation.subject).in_(names),
            # What an external model or a server's own name stands for may have changed since.
            ModelVersion.kind != EXTERNAL,
        )
        .order_by(col(Evaluation.id).desc())
    )
    asked = _decoding(asdict(plan))
    by_run: dict[Any, dict[str, Evaluation]] = {}
    for found in session.exec(query):
        if found.run_id is None or _decoding(found.settings) != asked:
            continue
        both = by_run.setdefault(found.run_id, {})
        both[found.subject] = found
        if len(both) == len(names):
            return both[names[0]], both[names[1]]
    return None


def _decoding(settings: dict[str, Any]) -> dict[str, Any]:
    names = ("samples_per_task", "temperature", "max_tokens", "seed", "batch_size")
    return {name: settings.get(name) for name in names}
