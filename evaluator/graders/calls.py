"""Coder: the function is called on inputs, and its values are compared outside with exact types.

Reference keys:
    entry_point: name of the function.
    inputs: list of argument lists.
    code: the trusted reference; computes what is expected, in a run of its own.
    expected: optional list, one value per input, instead of running the reference on them.
    decoys: optional list of further argument lists inside the function's domain; need `code`.
    tolerance: optional float tolerance, relative and absolute.

The code under test sees real and decoy inputs, some twice, in shuffled order, and never an expected
value. Where the reference raises, the answer must raise the same exception type.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from evaluator.graders.answers import extract_code
from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.sandbox import Call, Limits, Outcome, Sandbox, Status, same
from evaluator.sandbox.wire import show
from foundation.errors import BadInput

_REPEATED = 2


@dataclass(frozen=True)
class Expected:
    """What the reference says: one value or exception name per input."""

    inputs: tuple[Sequence[Any], ...]
    values: tuple[Any, ...]
    errors: tuple[str | None, ...]
    cpu_s: float


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades answers; the score is the share of inputs with the right result.

    Raises:
        BadInput: a task lacks a key, or its reference does not run.
    """
    known = _expectations(tasks, sandbox)
    plans = [
        _plan(task, answer, known[_key(task)], sandbox.limits)
        for task, answer in zip(tasks, answers, strict=True)
    ]
    outcomes = sandbox.run_many(call for call, _ in plans)
    return [
        judge(outcome, known[_key(task)], order, task.reference.get("tolerance"))
        for task, outcome, (_, order) in zip(tasks, outcomes, plans, strict=True)
    ]


def judge(
    outcome: Outcome, expected: Expected, order: Sequence[int], tolerance: float | None
) -> Grade:
    """Compares what came back with what was expected.

    Args:
        outcome: of the answer, over the inputs in `order`.
        expected: what the reference says, in its own order.
        order: for each executed input, its index in `expected`.
        tolerance: of floats, None for exact.
    """
    if outcome.status is Status.LOST:
        return LOST
    if outcome.values is None:
        return Grade.of(outcome.status, outcome.detail)
    wrong: list[str] = []
    for position, index in enumerate(order):
        got, error = outcome.values[position], outcome.errors[position]
        want, want_error = expected.values[index], expected.errors[index]
        if error != want_error or (error is None and not same(want, got, tolerance)):
            shown = [error or show(got), want_error or show(want)]
            shown = [text if len(text) < 100 else text[:100] + "…" for text in shown]
            given = ", ".join(map(show, expected.inputs[index]))[:100]
            wrong.append(f"({given}): got {shown[0]}, expected {shown[1]}")
    score = 1 - len(wrong) / len(order)
    if outcome.status is not Status.PASS:
        return Grade.of(outcome.status, outcome.detail, score)
    if wrong:
        return Grade.of(Status.WRONG, wrong[0], score)
    return Grade.of(Status.PASS, "", 1.0)


def _key(task: GradedTask) -> str:
    return json.dumps(task.reference, sort_keys=True, default=repr)


def _plan(
    task: GradedTask, answer: str, expected: Expected, limits: Limits
) -> tuple[Call, list[int]]:
    """The call for an answer, with the shuffled order of its inputs."""
    entry_point = task.reference["entry_point"]
    code = extract_code(answer, entry_point)
    dice = random.Random(f"{task.task_id}\0{code}")
    order = list(range(len(expected.inputs)))
    order += dice.sample(order, min(_REPEATED, len(order)))
    dice.shuffle(order)
    inputs = [expected.inputs[index] for index in order]
    return Call(code, entry_point, inputs, limits.calibrated(expected.cpu_s)), order


def _expectations(tasks: Sequence[GradedTask], sandbox: Sandbox) -> dict[str, Expected]:
    """Runs each distinct reference once."""
    distinct = {_key(task): task for task in tasks}
    calls = {key: _reference_call(task, sandbox.limits) for key, task in distinct.items()}
    runs = {key: call for key, call in calls.items() if call is not None}
    outcomes = dict(zip(runs, sandbox.run_many(runs.values(), trusted=True), strict=True))
    return {key: _expected(task, outcomes.get(key)) for key, task in distinct.items()}


def _reference_call(task: GradedTask, limits: Limits) -> Call | None:
    """The run of the reference, None where everything expected is given."""
    reference = task.reference
    for name in ("entry_point", "inputs"):
        if not reference.get(name):
            raise BadInput(
                f"task {task.task_id}: reference[{name!r}]",
                reference.get(name),
                "a value that is not empty",
                "Give it in the suite.",
            )
    decoys = reference.get("decoys") or []
    if reference.get("expected") is not None and not decoys:
        return None
    inputs = [*reference["inputs"], *decoys]
    roomy = replace(limits, cpu_s=5 * limits.cpu_s, wall_s=5 * limits.wall_s)
    return Call(reference.get("code") or "", reference["entry_point"], inputs, roomy)


def _expected(task: GradedTask, outcome: Outcome | None) -> Expected:
    reference = task.reference
    inputs = [*reference["inputs"], *(reference.get("decoys") or [])]
    given = reference.get("expected")
    if given is not None and len(given) != len(reference["inputs"]):
        raise BadInput(
            f"task {task.task_id}: reference['expected']",
            len(given),
            f"{len(reference['inputs'])} values, one per input",
            "Correct the suite.",
        )
    if outcome is None:
        return Expected(tuple(inputs), tuple(given or ()), (None,) * len(inputs), 0.0)
    if outcome.status is not Status.PASS or outcome.values is None:
        raise BadInput(
            f"task {task.task_id}: reference['code']",
            f"{outcome.status} {outcome.detail}",
            "a trusted solution that runs on every input",
            "Correct the suite.",
        )
    values, errors = list(outcome.values), list(outcome.errors)
    if given is not None:
        values[: len(given)], errors[: len(given)] = given, [None] * len(given)
    return Expected(tuple(inputs), tuple(values), tuple(errors), outcome.cpu_s)
