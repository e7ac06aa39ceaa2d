"""Tester: the answer is a file of tests, graded by the mutants of a reference that it kills.

Reference keys:
    code: the reference, which every test must accept.
    module: optional name under which the tests import it, `solution` where absent.
    entry_point: optional name of the function or class that is mutated; all of `code` where absent.
    min_score: optional mutation score to pass, 0.8 where absent.
    inputs: optional list of argument lists of the function `entry_point`, at least 20 that reach
        all it does: survivors that agree with the reference on all of them are suspected
        equivalents and stand apart.
    max_mutants: optional, 300 where absent; of more a sample is run.
    wrong: optional list of codes with a fault planted by hand, say in how the parts of a module
        are wired. The score is then the lower one of both shares.
    min_kills: optional share of `wrong` that must be noticed, 1.0 where absent.

Tests are refused, with score 0, when they do not load, reject the reference or a rewriting of it,
depend on their order, read the code, or accept functions that do nothing. See docs/mutation.md.
"""

import ast
from collections.abc import Sequence

from evaluator.graders.answers import extract_code
from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.metrics.assertions import assertion_quality, edge_cases
from evaluator.mutation.score import Report, Trial, measure
from evaluator.sandbox import Sandbox, Status
from foundation.errors import BadInput

MIN_SCORE, MIN_KILLS = 0.8, 1.0


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades tests; the score is their mutation score.

    Raises:
        BadInput: a task has no code, no mutants, wrong codes that are not Python, or a `min_score`
            or `min_kills` outside 0 to 1.
    """
    trials = [_trial(task, answer) for task, answer in zip(tasks, answers, strict=True)]
    wanted = [index for index, trial in enumerate(trials) if trial.tests.strip()]
    reports = dict(zip(wanted, measure([trials[index] for index in wanted], sandbox), strict=True))
    return [
        _grade(task, trials[index], reports[index]) if index in reports else LOST
        for index, task in enumerate(tasks)
    ]


def _grade(task: GradedTask, trial: Trial, report: Report) -> Grade:
    quality = assertion_quality(trial.tests)
    kinds = edge_cases(trial.tests, trial.within, trial.code)
    metrics = {
        **(quality.as_metrics() if quality is not None else {}),
        **report.as_metrics(),
        "edge_cases": kinds,
        "n_edge_cases": len(kinds),
    }
    if report.refusal is not None:
        return Grade.of(report.refusal.status, f"the tests {report.refusal.why}", 0.0, metrics)
    score = report.score
    if score is None:
        return Grade.of(Status.TIMEOUT, "no mutant ended within its limits", 0.0, metrics)
    planted = report.planted_score
    lower = score if planted is None else min(score, planted)
    if score < _share(task, "min_score", MIN_SCORE):
        n_killed, n_decided = len(report.killed), len(report.killed) + len(report.survived)
        missed = "; ".join(mutant.diff for mutant in report.survived[:2])
        why = f"kills {n_killed} of {n_decided} mutants, not {missed}"
        return Grade.of(Status.WRONG, why, lower, metrics)
    if planted is not None and planted < _share(task, "min_kills", MIN_KILLS):
        n_killed, n_decided = sum(report.planted.values()), len(report.planted)
        why = f"notices {n_killed} of {n_decided} planted faults"
        return Grade.of(Status.WRONG, why, lower, metrics)
    return Grade.of(Status.PASS, "", lower, metrics)


def _trial(task: GradedTask, answer: str) -> Trial:
    reference = task.reference
    if not reference.get("code"):
        raise BadInput(
            f"task {task.task_id}: reference['code']",
            reference.get("code"),
            "the function that the tests are for",
            "Give it in the suite.",
        )
    _share(task, "min_score", MIN_SCORE)
    _share(task, "min_kills", MIN_KILLS)
    return Trial(
        code=reference["code"],
        tests=extract_code(answer),
        module=reference.get("module") or "solution",
        within=reference.get("entry_point") or None,
        inputs=reference.get("inputs") or (),
        most_mutants=int(reference.get("max_mutants") or Trial.most_mutants),
        wrong=_wrong(task),
    )


def _wrong(task: GradedTask) -> list[str]:
    """The modules planted by hand."""
    found = task.reference.get("wrong") or []
    for code in found:
        try:
            ast.parse(code)
        except (SyntaxError, ValueError, TypeError) as error:
            raise BadInput(
                f"task {task.task_id}: reference['wrong']",
                str(error),
                "codes in valid Python",
                "Correct the suite.",
            ) from None
    return list(found)


def _share(task: GradedTask, key: str, otherwise: float) -> float:
    value = task.reference.get(key, otherwise)
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BadInput(
            f"task {task.task_id}: reference[{key!r}]", value, "0 to 1", "Correct the suite."
        )
    return float(value)
