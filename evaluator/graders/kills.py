"""Tester: the answer is test code that must accept the reference and kill planted wrong functions.

Reference keys:
    entry_point: name of the function under test.
    inputs: list of argument lists, one per case; each `test_*` function of the answer is called
        with each (a test without parameters is called without).
    code: the reference function, which every case must accept.
    wrong: list of codes of planted wrong functions.
    min_kills: optional share of `wrong` that must be killed, 1.0 where absent.

A wrong function is killed when at least one case ends in an AssertionError. A test that errors in
another way (a NameError, a time-out) kills nothing, and an answer without tests is not accepted.
The runs are shuffled and alike, so that the test cannot tell which of them is the reference.
"""

import random
from collections.abc import Sequence

from evaluator.graders.answers import extract_code
from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.sandbox import Call, Outcome, Sandbox, Status
from foundation.errors import BadInput

_CASE = "__flywheel_case__"
_DRIVER = f"""

def {_CASE}(*arguments):
    import inspect
    tests = [item for name, item in list(globals().items())
             if name.startswith("test") and inspect.isfunction(item)]
    if not tests:
        raise LookupError("the answer defines no test_* function")
    for test in tests:
        if inspect.signature(test).parameters:
            test(*arguments)
        else:
            test()
    return len(tests)
"""


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades tests; the score is the share of wrong functions killed, 0 where the reference fails.

    Raises:
        BadInput: a task lacks a key.
    """
    runs: list[tuple[int, int, Call]] = []
    for number, (task, answer) in enumerate(zip(tasks, answers, strict=True)):
        code = extract_code(answer)
        if code.strip():
            runs += [(number, *run) for run in _runs(task, code)]
    outcomes = sandbox.run_many(call for _, _, call in runs)
    found: dict[int, dict[int, Outcome]] = {number: {} for number in range(len(tasks))}
    for (number, variant, _), outcome in zip(runs, outcomes, strict=True):
        found[number][variant] = outcome
    return [
        judge(found[number], float(task.reference.get("min_kills", 1.0)))
        for number, task in enumerate(tasks)
    ]


def judge(outcomes: dict[int, Outcome], min_kills: float) -> Grade:
    """Decides from the run against the reference (variant 0) and the wrong functions (1, 2, ...).

    No outcome at all means that there was no answer.
    """
    if not outcomes:
        return LOST
    first = outcomes[0]
    failures = [name for name in first.errors if name is not None]
    if first.status is not Status.PASS or first.values is None:
        return Grade.of(first.status, first.detail)
    if failures:
        status = Status.WRONG if set(failures) == {"AssertionError"} else Status.CRASH
        what = f"{len(failures)} of {len(first.errors)} cases"
        return Grade.of(status, f"rejects the reference: {failures[0]} in {what}")
    wrong = [outcome for variant, outcome in outcomes.items() if variant > 0]
    killed = sum("AssertionError" in outcome.errors for outcome in wrong)
    score = killed / len(wrong)
    if killed < min_kills * len(wrong):
        return Grade.of(Status.WRONG, f"kills {killed} of {len(wrong)} wrong functions", score)
    return Grade.of(Status.PASS, "", score)


def _runs(task: GradedTask, test: str) -> list[tuple[int, Call]]:
    """One run per function, in shuffled order; number 0 is the reference."""
    reference = task.reference
    for name in ("inputs", "code", "wrong"):
        if not reference.get(name):
            raise BadInput(
                f"task {task.task_id}: reference[{name!r}]",
                reference.get(name),
                "a value that is not empty",
                "Give it in the suite.",
            )
    functions = [reference["code"], *reference["wrong"]]
    calls = [
        (variant, Call(f"{code}\n\n{test}\n{_DRIVER}", _CASE, reference["inputs"]))
        for variant, code in enumerate(functions)
    ]
    random.Random(f"{task.task_id}\0{test}").shuffle(calls)
    return calls
