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
The runs are shuffled and alike, so that the test cannot tell which of them is the reference: each
function is run several times, so that guessing by dice does not pay, and each time written in
another way, so that its bytecode says nothing.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from evaluator.graders.answers import extract_code
from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.mutation.rewrite import rewritten
from evaluator.sandbox import Call, Limits, Outcome, Sandbox, Status
from foundation.errors import BadInput

_RUNS = 4
"""Of each function; a test that fails by dice has less than one chance in 2,000."""
_SPARE_CPU_S, _SLOWER = 0.1, 4.0
"""CPU time of a run: this, and so many times what the first took."""
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
    firsts = {
        number: _first_run(task, code)
        for number, (task, answer) in enumerate(zip(tasks, answers, strict=True))
        if (code := extract_code(answer)).strip()
    }
    outcomes = sandbox.run_many(firsts.values())
    found: dict[int, dict[int, list[Outcome]]] = {number: {} for number in range(len(tasks))}
    runs: list[tuple[int, int, Call]] = []
    for number, outcome in zip(firsts, outcomes, strict=True):
        found[number][0] = [outcome]
        if _refusal(outcome) is None:
            limits = sandbox.limits
            cpu_s = min(limits.cpu_s, _SPARE_CPU_S + _SLOWER * outcome.cpu_s)
            code = extract_code(answers[number])
            runs += [
                (number, *run) for run in _runs(tasks[number], code, replace(limits, cpu_s=cpu_s))
            ]
    outcomes = sandbox.run_many(call for _, _, call in runs)
    for (number, variant, _), outcome in zip(runs, outcomes, strict=True):
        found[number].setdefault(variant, []).append(outcome)
    return [
        judge(found[number], float(task.reference.get("min_kills", 1.0)))
        for number, task in enumerate(tasks)
    ]


def judge(outcomes: Mapping[int, Sequence[Outcome]], min_kills: float) -> Grade:
    """Decides from the runs against the reference (variant 0) and the wrong functions (1, 2, ...).

    Every run must accept the reference, and every run must reject what is killed. No outcome at all
    means that there was no answer.
    """
    if not outcomes:
        return LOST
    refusals = (_refusal(run) for run in outcomes[0])
    if refusal := next(filter(None, refusals), None):
        return refusal
    wrong = [runs for variant, runs in outcomes.items() if variant > 0]
    killed = sum(all("AssertionError" in run.errors for run in runs) for runs in wrong)
    score = killed / len(wrong)
    if killed < min_kills * len(wrong):
        return Grade.of(Status.WRONG, f"kills {killed} of {len(wrong)} wrong functions", score)
    return Grade.of(Status.PASS, "", score)


def _refusal(run: Outcome) -> Grade | None:
    """The grade of a test that does not accept the reference in this run, else None."""
    if run.status is not Status.PASS or run.values is None:
        return Grade.of(run.status, run.detail)
    failures = [name for name in run.errors if name is not None]
    if not failures:
        return None
    status = Status.WRONG if set(failures) == {"AssertionError"} else Status.CRASH
    what = f"{len(failures)} of {len(run.errors)} cases"
    return Grade.of(status, f"rejects the reference: {failures[0]} in {what}")


def _first_run(task: GradedTask, test: str) -> Call:
    """A run of the reference, which says whether more are worth while, and how long they take."""
    for name in ("inputs", "code", "wrong"):
        if not task.reference.get(name):
            raise BadInput(
                f"task {task.task_id}: reference[{name!r}]",
                task.reference.get(name),
                "a value that is not empty",
                "Give it in the suite.",
            )
    return _call(task, task.reference["code"], test, random.SystemRandom())


def _runs(task: GradedTask, test: str, limits: Limits) -> list[tuple[int, Call]]:
    """Several runs of each function, in shuffled order; number 0 is the reference."""
    dice = random.SystemRandom()  # not to be foreseen by the test
    calls = [
        (variant, replace(_call(task, code, test, dice), limits=limits))
        for variant, code in enumerate([task.reference["code"], *task.reference["wrong"]])
        for _ in range(_RUNS)
    ]
    dice.shuffle(calls)
    return calls


def _call(task: GradedTask, code: str, test: str, dice: random.Random) -> Call:
    """The test after a function of the task, written in a way of its own."""
    try:
        written = rewritten(code, dice.getrandbits(32))
    except (SyntaxError, ValueError) as error:
        raise BadInput(
            f"task {task.task_id}: its functions", str(error), "valid Python", "Correct the suite."
        ) from None
    return Call(f"{written}\n\n{test}\n{_DRIVER}", _CASE, task.reference["inputs"])
