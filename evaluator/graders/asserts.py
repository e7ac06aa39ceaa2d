"""Benchmarks whose tests are asserts: HumanEval (`check(candidate)`) and MBPP (assert lines).

Reference keys:
    entry_point: name of the function.
    prompt: the text that the model was to continue; where it is valid Python by itself, its helper
        functions and imports are given to answer and test.
    test or assertion: HumanEval's text that defines `check`, or MBPP's assert lines.
    imports: optional text or list of lines, put before both.

The asserts run in a process of their own and call the answer through plain values, so that the
answer sees neither expected values nor the verdict. Only where a test needs more than plain values
(it uses a class of the answer, or passes a function) both share one process: such a verdict can be
forged by an object that equals everything (see `Script`), and its detail says "shared process".
"""

import ast
import builtins
import re
from collections.abc import Sequence
from dataclasses import replace

from evaluator.graders.answers import bound_names, defines, extract_code, loaded_names
from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.sandbox import Outcome, Sandbox, Script, Status
from foundation.errors import BadInput

# What the usual harnesses give to every answer.
COMMON_IMPORTS = """\
import collections, copy, functools, heapq, itertools, math, operator, random, re, string, sys
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple, Union
"""
_KNOWN = set(dir(builtins)) | {"__name__", "__file__"}


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades answers; the score is 1 or 0.

    Raises:
        BadInput: a task lacks a key or its test is not valid Python.
    """
    scripts = [_script(task, answer) for task, answer in zip(tasks, answers, strict=True)]
    outcomes = sandbox.run_many(script or Script("") for script in scripts)
    again = [index for index, outcome in enumerate(outcomes) if outcome.not_plain]
    shared = [_shared(script) for script in map(scripts.__getitem__, again) if script]
    for index, outcome in zip(again, sandbox.run_many(shared), strict=True):
        outcomes[index], scripts[index] = outcome, Script("")
    return [_grade(*pair) for pair in zip(scripts, outcomes, strict=True)]


def _grade(script: Script | None, outcome: Outcome) -> Grade:
    if script is None or outcome.status is Status.LOST:
        return LOST
    note = "" if script.test is not None else "shared process"
    if outcome.status is Status.PASS:
        return Grade.of(Status.PASS, note, 1.0)
    return Grade.of(outcome.status, f"{outcome.detail} {note}".strip())


def _script(task: GradedTask, answer: str) -> Script | None:
    """The run for one answer, None for an empty one."""
    reference = task.reference
    entry_point, prompt = reference.get("entry_point") or "", reference.get("prompt") or ""
    test = reference.get("test") or reference.get("assertion") or ""
    for name, value in (("entry_point", entry_point), ("test", test)):
        if not value:
            raise BadInput(
                f"task {task.task_id}: reference[{name!r}]",
                value,
                "a value that is not empty",
                "Give it in the suite.",
            )
    code = extract_code(answer, entry_point)
    if not code.strip():
        return None
    imports = reference.get("imports") or ""
    setup = COMMON_IMPORTS + (imports if isinstance(imports, str) else "\n".join(imports)) + "\n"
    if _parses(prompt):
        setup += prompt + "\n"
    if not defines(code, entry_point):
        code = prompt + "\n" + code  # a body that continues the prompt
    if "check" in bound_names(_tree(task, test)):
        test += f"\ncheck({entry_point})\n"
    script = Script(_joined(setup, code), test, entry_point, setup)
    known = bound_names(ast.parse(setup)) | bound_names(_tree(task, test)) | _KNOWN
    missing = loaded_names(_tree(task, test)) - known - {entry_point}
    return _shared(script) if missing else script


def _shared(script: Script) -> Script:
    """The same test and code in one process, for tests that need more than plain values."""
    return replace(script, code=f"{script.code}\n\n{script.test}\n", test=None, setup="")


def _joined(setup: str, code: str) -> str:
    """Setup before code, with the code's `from __future__` lines first, as Python wants them."""
    future = "\n".join(re.findall(r"^from __future__ import .*$", code, re.M))
    return f"{future}\n{setup}\n{re.sub(r'^from __future__ import .*$', '', code, flags=re.M)}"


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return True


def _tree(task: GradedTask, test: str) -> ast.Module:
    try:
        return ast.parse(test)
    except SyntaxError as error:
        raise BadInput(
            f"task {task.task_id}: its test", str(error), "valid Python", "Correct the suite."
        ) from None
