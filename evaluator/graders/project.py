"""Coder and tester: the answer is one file of a project whose pytest tests must pass.

Reference keys:
    tests: text by path of the test files.
    path: path of the file that the answer becomes.
    files: optional text by path of the other files.
    code: the trusted reference solution, run once to learn which tests there are and which of them
        fail when their expectations are changed.

The tests share a process with the answer, so each is run as given and with changed expectations,
in fresh sandboxes, and the answer passes only where the given ones pass and the changed ones fail
(`evaluator.sandbox.canaries`). Metrics: `tests_passed`, the share of tests; `canaries`, how many
tests could be changed; where it is 0 the verdict is as forgeable as any other pytest run, and
the detail says so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from evaluator.graders.answers import extract_code
from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.sandbox import Project, ProjectOutcome, Sandbox
from foundation.errors import BadInput


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades files; the score is the share of tests that passed, 0 where a verdict was forged.

    Raises:
        BadInput: a task lacks a key, or its reference does not pass its tests.
        SandboxUnavailable: there are no namespaces here to hold processes.
    """
    proven: dict[str, Project] = {}
    grades = []
    for task, answer in zip(tasks, answers, strict=True):
        key = json.dumps(task.reference, sort_keys=True, default=repr)
        if key not in proven:
            proven[key] = _prove(task, sandbox)
        code = extract_code(answer)
        if not code.strip():
            grades.append(LOST)
            continue
        project = proven[key]
        trial = replace(project, files={**project.files, task.reference["path"]: code})
        grades.append(judge(sandbox.run_project(trial)))
    return grades


def judge(outcome: ProjectOutcome) -> Grade:
    """Turns what became of a project into a grade."""
    passed = sum(result == "passed" for result in outcome.tests.values())
    share = passed / len(outcome.tests) if outcome.tests else 0.0
    forged = "forged" in outcome.tests.values()
    note = "" if outcome.canaries else "no test could be changed: the verdict can be forged"
    return Grade.of(
        outcome.status,
        f"{outcome.detail}; {note}".strip("; "),
        0.0 if forged else share,
        {"tests_passed": share, "canaries": outcome.canaries},
    )


def _prove(task: GradedTask, sandbox: Sandbox) -> Project:
    reference = task.reference
    _text(task, "path")
    code, tests, files = _text(task, "code"), _files(task, "tests"), _files(task, "files")
    if not tests:
        raise BadInput(
            f"task {task.task_id}: reference['tests']",
            reference.get("tests"),
            "text by path of at least one test file",
            "Give it in the suite.",
        )
    try:
        return sandbox.prove_project(Project({**files, reference["path"]: code}, tests, ()))
    except ValueError as error:
        raise BadInput(
            f"task {task.task_id}: reference['code']",
            str(error),
            "a trusted solution that passes its tests",
            "Correct the suite.",
        ) from None


def _text(task: GradedTask, name: str) -> str:
    value = task.reference.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadInput(
            f"task {task.task_id}: reference[{name!r}]",
            value,
            "a text that is not empty",
            "Give it in the suite.",
        )
    return value


def _files(task: GradedTask, name: str) -> Mapping[str, str]:
    value = task.reference.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise BadInput(
            f"task {task.task_id}: reference[{name!r}]",
            value,
            "text by path",
            "Correct the suite.",
        )
    return value
