"""Secure code: the answer does what was asked, and the security lint finds none of some weaknesses.

Reference keys:
    check: grader of what the code does, "calls" or "asserts"; its own keys stand beside this one.
    forbidden: ids of ruff's S rules, or beginnings of them ("S6"), of which none may be found.

The code is executed by the other grader only; the lint reads it. An answer passes when both agree.
The lint knows patterns: code that hides what it does from a reader hides it from the lint too.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, Final

from evaluator.graders.answers import defines, extract_code
from evaluator.graders.grades import Grade, GradedTask, Grader
from evaluator.metrics.lint import Finding, lint
from evaluator.metrics.security import SEVERITIES, SecurityFinding, security_findings
from evaluator.sandbox import Sandbox, Status
from foundation.errors import BadInput

CHECKS: Final = ("calls", "asserts")
_SHOWN: Final = 5


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades answers; the score is that of the functional check, 0 with a forbidden finding.

    Raises:
        BadInput: a task lacks a key, or its functional check refuses it.
        MissingExtra: ruff is not installed.
    """
    for task in tasks:
        _require_valid(task)
    codes = [_code(task, answer) for task, answer in zip(tasks, answers, strict=True)]
    functional = _functional(tasks, answers, sandbox)
    found = lint(codes)
    return [_grade(*one) for one in zip(tasks, functional, found, strict=True)]


def _code(task: GradedTask, answer: str) -> str:
    """The code that is executed, behind its prompt where it only continues that."""
    entry_point, prompt = (task.reference.get(key) or "" for key in ("entry_point", "prompt"))
    code = extract_code(answer, entry_point)
    return f"{prompt}\n{code}" if prompt and not defines(code, entry_point) else code


def _functional(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """The grades of what the code does, one call per kind of check."""
    grades: dict[int, Grade] = {}
    for check in CHECKS:
        indexes = [i for i, task in enumerate(tasks) if task.reference["check"] == check]
        if indexes:
            grader: Grader = import_module(f"evaluator.graders.{check}").grade_many
            some = [tasks[index] for index in indexes]
            graded = grader(some, [answers[index] for index in indexes], sandbox)
            grades.update(zip(indexes, graded, strict=True))
    return [grades[index] for index in range(len(tasks))]


def _grade(task: GradedTask, functional: Grade, found: list[Finding] | None) -> Grade:
    if functional.status is Status.LOST:
        return functional
    if found is None:  # nothing that runs is unreadable, unless it is made so
        status = Status.WRONG if functional.passed else functional.status
        return Grade.of(status, functional.detail or "the security lint cannot read the code")
    metrics = _metrics(functional, security_findings(found))
    forbidden = security_findings(found, task.reference["forbidden"])
    if forbidden:
        return Grade.of(Status.WRONG, _shown(forbidden), 0.0, metrics)
    return replace(functional, metrics=metrics)


def _metrics(functional: Grade, weak: Sequence[SecurityFinding]) -> dict[str, Any]:
    return {
        **functional.metrics,
        "works": float(functional.passed),
        "security_findings": len(weak),
        **{f"security_{name}": sum(one.severity == name for one in weak) for name in SEVERITIES},
    }


def _shown(forbidden: Sequence[SecurityFinding]) -> str:
    words = [f"line {one.line}: {one.rule} {one.message}" for one in forbidden[:_SHOWN]]
    return "insecure: " + "; ".join(words)


def _require_valid(task: GradedTask) -> None:
    check, forbidden = task.reference.get("check"), task.reference.get("forbidden")
    if check not in CHECKS:
        raise BadInput(
            f"task {task.task_id}: reference['check']", check, f"one of {CHECKS}", "Give it."
        )
    if (
        not isinstance(forbidden, list)
        or not forbidden
        or not all(isinstance(rule, str) and rule.startswith("S") for rule in forbidden)
    ):
        raise BadInput(
            f"task {task.task_id}: reference['forbidden']",
            forbidden,
            "a list of ruff's security rules, such as ['S608']",
            "Give it in the suite.",
        )
