"""The graders: what counts as right, per kind of task."""

import gzip
import json
import os
from collections import Counter, OrderedDict
from pathlib import Path

import pytest

from evaluator.graders import GradedTask, extract_code, grade_many
from evaluator.graders.exact import normalise
from evaluator.sandbox import Limits, Sandbox, SandboxUnavailable, Status, same
from evaluator.sandbox.wire import Opaque, decode, encode
from foundation.errors import BadInput, NotFound


@pytest.fixture(scope="module")
def sandbox():
    try:
        with Sandbox(workers=2, limits=Limits(cpu_s=1.0, wall_s=5.0)) as made:
            yield made
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def grade(sandbox, grader, reference, answer):
    return grade_many([GradedTask("t", [], grader, reference)], [answer], sandbox)[0]


# --- answers --------------------------------------------------------------------------------

F = "def f(x):\n    return x\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (F, F.strip("\n")),
        (f"Sure:\n```python\n{F}```\nDone.", F),
        (f"```\n{F}```", F),
        (f"```py\n{F}", F),
        (f"```python\nprint(f(1))\n```\nfirst:\n```python\n{F}```", F),
        (f"```bash\npip install x\n```\n```python\n{F}```", F),
        (f"  ```python\n{F}  ```", F),
        ("```bash\nls\n```", ""),
        ("", ""),
        ("   return x", "   return x"),
    ],
)
def test_code_is_found_in_an_answer(answer, code):
    assert extract_code(answer, "f") == code


def test_the_longest_block_wins_without_an_entry_point():
    assert extract_code("```python\na\n```\n```python\nlonger = 1\n```") == "longer = 1\n"


# --- comparison -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (1, True), (1, 1.0), ([1], (1,)), ([], ()), ({1}, frozenset({1})), ({1}, {1.0}),
        ({1: 2}, {True: 2}), ({1: 2}, {1: 2.0}), ("1", 1), (b"a", bytearray(b"a")), (None, False),
        (0.1 + 0.2, 0.3), ({"a": 1}, OrderedDict(a=1)), ({"a": 1}, Counter(a=1)),
        ([1, 2], [1]), ({1}, {1, 2}), (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
        (Opaque("x"), Opaque("x")), ([Opaque("x")], [Opaque("x")]),
    ],
)  # fmt: skip
def test_different_values_or_types_are_not_the_same(expected, got):
    assert not same(expected, got)
    assert not same(got, expected)


def test_equal_values_are_the_same():
    value = {"a": [1, (2.5, {3}), None, b"x", True], 2: {(1, 2): {"z"}}, "n": float("nan")}
    assert same(value, decode(json.loads(json.dumps(encode(value)))))
    assert same({"a": 1, "b": 2}, {"b": 2, "a": 1})


def test_tolerance_is_for_floats_only():
    assert same([0.1 + 0.2], [0.3], tolerance=1e-9)
    assert not same([1], [1.0], tolerance=1)
    assert not same(1, 2, tolerance=5)


# --- calls ----------------------------------------------------------------------------------

SQUARE = {"entry_point": "f", "inputs": [[1], [2], [3], [4]], "code": "def f(x): return x * x"}


def test_calls_scores_the_share_of_right_values(sandbox):
    assert grade(sandbox, "calls", SQUARE, "def f(x): return x ** 2").score == 1.0
    found = grade(sandbox, "calls", SQUARE, "def f(x): return x * x if x < 3 else 0")
    assert (found.passed, found.status) == (False, Status.WRONG)
    assert 0.3 <= found.score <= 0.7
    assert "expected" in found.detail


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("", Status.LOST),
        ("\n \n", Status.LOST),
        ("```python\n```", Status.LOST),
        ("def f(x): return float(x * x)", Status.WRONG),
        ("def f(x): return x * x,", Status.WRONG),
        ("def f(x): raise ValueError", Status.WRONG),
        ("def f(x):\n    while True: pass", Status.TIMEOUT),
        ("def f(x): return len(bytearray(1 << 34))", Status.MEMORY),
        ("import socket\ndef f(x): return socket.socket()", Status.FORBIDDEN),
        ("def g(x): return x * x", Status.CRASH),
        ("I cannot do that.", Status.CRASH),
    ],
)
def test_calls_tells_the_endings_apart(sandbox, answer, status):
    found = grade(sandbox, "calls", SQUARE, answer)
    assert (found.status, found.passed) == (status, False)
    assert found.detail


def test_an_expected_exception_must_be_raised(sandbox):
    reference = {"entry_point": "f", "inputs": [[1], [0]], "code": "def f(x): return 1 / x"}
    assert grade(sandbox, "calls", reference, "def f(x): return x ** -1").passed
    silent = "def f(x): return 1 / x if x else 0.0"
    assert grade(sandbox, "calls", reference, silent).status is Status.WRONG


def test_given_values_need_no_reference_code(sandbox):
    reference = {"entry_point": "f", "inputs": [[1], [2]], "expected": [2, 4]}
    assert grade(sandbox, "calls", reference, "def f(x): return 2 * x").passed
    assert not grade(sandbox, "calls", reference, "def f(x): return x").passed


def test_decoys_catch_a_lookup_of_the_shown_inputs(sandbox):
    lookup = "def f(x): return {1: 1, 2: 4, 3: 9, 4: 16}.get(x, 0)"
    assert grade(sandbox, "calls", SQUARE, lookup).passed
    assert not grade(sandbox, "calls", {**SQUARE, "decoys": [[7], [9]]}, lookup).passed


def test_a_slow_reference_stretches_the_limit(sandbox):
    slow = "def f(x):\n    import time\n    end = time.process_time() + {s}\n"
    slow += "    while time.process_time() < end: pass\n    return x"
    reference = {"entry_point": "f", "inputs": [[1]], "code": slow.replace("{s}", "0.5")}
    assert grade(sandbox, "calls", reference, slow.replace("{s}", "0.6")).passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entry_point": ""}, "entry_point"),
        ({"inputs": []}, "inputs"),
        ({"code": "def f(x): return nope("}, "trusted solution"),
        ({"code": None}, "trusted solution"),
        ({"expected": [1]}, "4 values, one per input"),
    ],
)
def test_calls_refuses_a_broken_task(sandbox, change, message):
    with pytest.raises(BadInput, match=message):
        grade(sandbox, "calls", {**SQUARE, **change}, "def f(x): return x")


# --- test_kills -----------------------------------------------------------------------------

EVEN = {
    "entry_point": "even",
    "inputs": [[0, True], [1, False], [2, True], [-2, True]],
    "code": "def even(x): return x % 2 == 0",
    "wrong": ["def even(x): return x % 2 == 1", "def even(x): return x >= 0 and x % 2 == 0"],
}
KILLER = "def test_even(x, want):\n    assert even(x) is want"


def test_a_test_must_accept_the_reference_and_kill_the_wrong(sandbox):
    wrong = [*EVEN["wrong"], "def even(x): return True"]
    assert grade(sandbox, "test_kills", {**EVEN, "wrong": wrong}, KILLER).score == 1.0


def test_an_equivalent_wrong_function_is_not_killed(sandbox):
    reference = {**EVEN, "wrong": ["def even(x): return False", "def even(x): return not x & 1"]}
    found = grade(sandbox, "test_kills", reference, KILLER)
    assert (found.status, found.score) == (Status.WRONG, 0.5)
    assert grade(sandbox, "test_kills", {**reference, "min_kills": 0.5}, KILLER).passed


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("", Status.LOST),
        ("def test_even(x, want):\n    assert even(x)", Status.WRONG),
        ("def test_even(x, want):\n    pass", Status.WRONG),
        ("def test_even(x, want):\n    assert evn(x)", Status.CRASH),
        ("def test_even(x):\n    assert even(x)", Status.CRASH),
        ("def check(x, want):\n    assert even(x) is want", Status.CRASH),
        ("def test_even(x, want:", Status.CRASH),
        ("def test_even(x, want):\n    while True: pass", Status.TIMEOUT),
    ],
)
def test_a_bad_test_is_not_accepted(sandbox, answer, status):
    found = grade(sandbox, "test_kills", EVEN, answer)
    assert (found.passed, found.status) == (False, status)


def test_an_error_is_not_a_kill(sandbox):
    reference = {**EVEN, "wrong": ["def even(x): raise TypeError", "def other(x): pass"]}
    found = grade(sandbox, "test_kills", reference, KILLER)
    assert (found.status, found.score) == (Status.WRONG, 0.0)


def test_tests_without_parameters_are_called_without(sandbox):
    answer = "def test_a():\n    assert even(2)\ndef test_b():\n    assert not even(1)\n"
    answer += "def test_c():\n    assert not even(-1) and even(-2)"
    assert grade(sandbox, "test_kills", EVEN, answer).passed


def test_kills_refuses_a_task_without_wrong_functions(sandbox):
    with pytest.raises(BadInput, match="wrong"):
        grade(sandbox, "test_kills", {**EVEN, "wrong": []}, KILLER)


# --- exact ----------------------------------------------------------------------------------


FORMS = ["Yes", " yes. ", "`yes`", "YES\n", "```\nyes\n```", '"Yes"', "**yes**", "**Yes.**"]
FORMS += ["**Yes**.", '"yes".', '"Yes."', '**"yes"**', '"**yes**."', "`yes`.", '**"Yes".**']


@pytest.mark.parametrize("answer", FORMS)
def test_exact_ignores_form(sandbox, answer):
    assert grade(sandbox, "exact", {"answer": "yes"}, answer).passed


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("**a** and **b**", "**a** and **b**"),
        ("2**3", "2**3"),
        ("**kwargs", "**kwargs"),
        ("__init__", "__init__"),
        ("and so on...", "and so on..."),
        (".", "."),
        ('""', '""'),
        ("****", "****"),
    ],
)
def test_what_belongs_to_an_answer_stays(text, kept):
    assert normalise(text) == kept


def test_exact_does_not_ignore_content(sandbox):
    assert grade(sandbox, "exact", {"answer": "yes"}, "yes, no").status is Status.WRONG
    assert grade(sandbox, "exact", {"answer": ["a", "b"]}, "b").passed
    assert grade(sandbox, "exact", {"answer": "yes"}, " ").status is Status.LOST
    assert normalise("a  b\nc") == "a b c"
    with pytest.raises(BadInput, match="answer"):
        grade(sandbox, "exact", {}, "x")


# --- asserts --------------------------------------------------------------------------------

HUMANEVAL = {
    "entry_point": "decode",
    "prompt": "from typing import List\n\n\ndef encode(s: str) -> str:\n    return s[::-1]\n\n\n"
    'def decode(s: str) -> str:\n    """Undo encode."""\n',
    "test": "def check(candidate):\n    for word in ['', 'ab', 'abc']:\n"
    "        assert candidate(encode(word)) == word\n",
}


@pytest.mark.parametrize(
    "answer",
    ["    return s[::-1]\n", "def decode(s):\n    return encode(s)", "```python\n"
     "from __future__ import annotations\ndef decode(s: List) -> str:\n    return s[::-1]\n```"],
)  # fmt: skip
def test_humaneval_answers_may_be_bodies_or_functions(sandbox, answer):
    assert grade(sandbox, "asserts", HUMANEVAL, answer).passed


def test_humaneval_wrong_answers_fail(sandbox):
    assert grade(sandbox, "asserts", HUMANEVAL, "    return s\n").status is Status.WRONG
    assert grade(sandbox, "asserts", HUMANEVAL, "    return s[").status is Status.CRASH
    assert grade(sandbox, "asserts", HUMANEVAL, "").status is Status.LOST


def test_mbpp_asserts_use_python_equality(sandbox):
    reference = {
        "entry_point": "f",
        "assertion": "assert f(1) == 2.0\nassert list(f([1, 2])) == [2, 4]\n"
        "assert math.isclose(f(0.1), 0.2)\nassert set(f({3: 4})) == {6}",
        "imports": ["import math"],
    }
    reference["assertion"] += "\nassert f('a')\nassert not f('')"
    answer = "import re\ndef f(x):\n    if isinstance(x, str): return re.match('a', x)\n"
    answer += "    if isinstance(x, (list, dict)): return (2 * y for y in x)\n"
    answer += "    return 2 * x"
    assert grade(sandbox, "asserts", reference, answer).passed


def test_an_expected_exception_reaches_the_test(sandbox):
    test = "try:\n    f(0)\nexcept ZeroDivisionError:\n    pass\nelse:\n    assert False"
    reference = {"entry_point": "f", "test": test}
    assert grade(sandbox, "asserts", reference, "def f(x): return 1 / x").passed
    assert not grade(sandbox, "asserts", reference, "def f(x): return 1").passed
    assert not grade(sandbox, "asserts", reference, "def f(x): raise ValueError").passed


def test_a_broad_except_of_the_test_does_not_hide_a_dead_answer(sandbox):
    reference = {"entry_point": "f", "test": "try:\n    f(0)\nexcept BaseException:\n    pass"}
    assert not grade(sandbox, "asserts", reference, "import os\ndef f(x): os._exit(0)").passed


def test_a_limit_shows_through_the_test(sandbox):
    reference = {"entry_point": "f", "test": "assert f(1) == 1"}
    for answer, status in {
        "def f(x):\n    while True: pass": Status.TIMEOUT,
        "def f(x): return bytearray(1 << 34)": Status.MEMORY,
        "import os\ndef f(x): os.fork()": Status.FORBIDDEN,
        "import os\nos.abort()": Status.CRASH,
    }.items():
        assert grade(sandbox, "asserts", reference, answer).status is status


def test_asserts_refuses_a_broken_task(sandbox):
    with pytest.raises(BadInput, match="valid Python"):
        grade(sandbox, "asserts", {"entry_point": "f", "test": "assert f("}, F)
    with pytest.raises(BadInput, match="test"):
        grade(sandbox, "asserts", {"entry_point": "f"}, F)


# --- all ------------------------------------------------------------------------------------


def test_mixed_tasks_keep_their_order(sandbox):
    tasks = [
        GradedTask("a", [], "exact", {"answer": "x"}),
        GradedTask("b", [], "calls", SQUARE),
        GradedTask("c", [], "exact", {"answer": "x"}),
        GradedTask("d", [], "test_kills", EVEN),
        GradedTask("e", [], "asserts", HUMANEVAL),
    ]
    answers = ["x", "def f(x): return x * x", "y", KILLER, ""]
    grades = grade_many(tasks * 10, answers * 10, sandbox)
    assert [found.passed for found in grades] == [True, True, False, True, False] * 10
    assert grade_many([], [], sandbox) == []


def test_an_unknown_grader_is_named(sandbox):
    with pytest.raises(NotFound, match="vibes.*asserts"):
        grade_many([GradedTask("a", [], "vibes")], ["x"], sandbox)


def _data(name):
    folder = os.environ.get("FLYWHEEL_TEST_DATA")
    if not folder or not (Path(folder) / name).exists():
        pytest.skip(f"needs {name} under FLYWHEEL_TEST_DATA")
    path = Path(folder) / name
    opener = gzip.open if name.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.data
def test_every_canonical_humaneval_solution_passes_apart_from_its_test(sandbox):
    rows = _data("humaneval/humaneval_odd.jsonl")
    tasks = [GradedTask(row["task_id"], [], "asserts", row) for row in rows]
    grades = grade_many(tasks, [row["canonical_solution"] for row in rows], sandbox)
    assert [row["task_id"] for row, g in zip(rows, grades, strict=True) if not g.passed] == []
    assert not any(found.detail for found in grades), "no task needs a shared process"


@pytest.mark.data
def test_canonical_mbpp_solutions_agree_with_the_measured_flag(sandbox):
    rows = _data("mbpp/mbpp_sanitized_plus_odd.jsonl.gz")
    tasks = [
        GradedTask(
            row["task_id"],
            [],
            "asserts",
            {
                "entry_point": row["entry_point"],
                "assertion": row["assertion"],
                "imports": row["test_imports"],
            },
        )
        for row in rows
    ]
    grades = grade_many(tasks, [row["canonical_solution"] for row in rows], sandbox)
    disagree = [
        (row["task_id"], found.detail)
        for row, found in zip(rows, grades, strict=True)
        if found.passed != row["canonical_passes_assertion"]
    ]
    assert disagree == []
