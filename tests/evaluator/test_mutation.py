"""Mutants, their disguise, and the score: what tests can kill, and what they get away with."""

import ast
import copy
import math
import re

import pytest

from evaluator.graders import GradedTask, grade_many
from evaluator.mutation.coverage import branch_coverage
from evaluator.mutation.mutants import read_program
from evaluator.mutation.rewrite import Presentation, stub
from evaluator.mutation.score import (
    Report,
    Trial,
    _Plan,
    calibrated,
    checks_among,
    judge,
    measure,
    refusal_of,
)
from evaluator.sandbox import Limits, Outcome, Sandbox, SandboxUnavailable, Status
from foundation.errors import BadInput


@pytest.fixture(scope="module")
def sandbox():
    try:
        with Sandbox(workers=2, limits=Limits(cpu_s=0.5, wall_s=20.0)) as made:
            yield made
    except SandboxUnavailable as error:
        pytest.skip(str(error))


# --- operators ------------------------------------------------------------------------------


def mutations(body, header="def f(a, b, c):"):
    program = read_program(f"{header}\n    {body}\n")
    return [(mutant.operator, mutant.after) for mutant in program.mutants]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return a + b", {("arithmetic", "return a - b"), ("return", "return None")}),
        ("a //= b", {("arithmetic", "a /= b"), ("assignment", "a = b")}),
        ("return a < b", {("comparison", "return a <= b"), ("return", "return None")}),
        ("a < b < c", {("comparison", "a <= b < c"), ("comparison", "a < b <= c")}),
        ("a not in b", {("comparison", "a in b")}),
        ("a and b and c", {("boolean", "(a or b) and c"), ("boolean", "a and b or c")}),
        ("a(True)", {("argument", "a(None)"), ("boolean", "a(False)")}),
        ("a(1.5)", {("argument", "a(None)"), ("constant", "a(2.5)")}),
        (
            "a('bC')",
            {
                ("argument", "a(None)"),
                ("string", "a('XXbCXX')"),
                ("string", "a('bc')"),
                ("string", "a('BC')"),
            },
        ),
        ("a(b'c')", {("argument", "a(None)"), ("string", "a(b'XXcXX')"), ("string", "a(b'C')")}),
        ("not a", {("unary", "a")}),
        ("-a", {("unary", "+a")}),
        (
            "a(b, key=c)",
            {
                ("argument", "a(None, key=c)"),
                ("argument", "a(b, key=None)"),
                ("argument", "a(key=c)"),
                ("argument", "a(b)"),
            },
        ),
        (
            "dict(a=b)",
            {("argument", "dict(a=None)"), ("keyword", "dict(aXX=b)")},
        ),
        ("a.lower()", {("method", "a.upper()")}),
        ("a.split()", set()),
        ("a.split(b, 1)", None),
        ("a[1:b]", {("slice", "a[:b]"), ("slice", "a[1:]"), ("constant", "a[2:b]")}),
        ("raise a", {("exception", "pass")}),
        ("lambda: a", {("lambda", "lambda: None")}),
        ("a = None", {("assignment", "a = ''")}),
        ("a: int = b", {("assignment", "a: int = None")}),
        (
            "a if b else c",
            {("conditional", "a if b and False else c"), ("conditional", "a if b or True else c")},
        ),
        ("yield a", {("return", "yield None")}),
    ],
)
def test_operators(body, expected):
    if not expected:
        body += "; a = b"
    found = set(mutations(body)) - ({("assignment", "a = None")} if not expected else set())
    if expected is None:
        assert ("method", "a.rsplit(b, 1)") in found
    else:
        assert found == expected


def test_statements_with_bodies():
    code = """\
def f(a):
    for b in a:
        if b:
            continue
        try:
            break
        except ValueError:
            a = 1
    match a:
        case 1: return
        case 2: pass
"""
    found = {(one.operator, one.line, one.before, one.after) for one in read_program(code).mutants}
    assert {
        ("conditional", 3, "if b:", "if not b:"),
        ("loop", 4, "continue", "break"),
        ("loop", 6, "break", "return"),
        ("exception", 7, "except ValueError: a = 1", "except ValueError: raise"),
        ("match", 9, "match a: (2 cases)", "match a: (1 cases)"),
    } <= found


def test_a_test_that_another_operator_changes_is_not_negated_too():
    assert not any(name == "conditional" for name, _ in mutations("if a < b: return a"))


def test_defaults_and_constants_at_the_top_are_mutated_and_the_rest_of_loading_is_not():
    code = '''\
"""Docstring."""
import os
LIMIT: int = 3
__version__ = "1"
def f(a: "Text" = 1, *, b=None, c=g(2)) -> "Text":
    """Docstring."""
    return a
class C(Base, metaclass=Meta):
    """Docstring."""
    size = 4
    @decorated("x")
    def m(self): return len(self)
if __name__ == "__main__":
    print(1 + 1)
'''
    found = [(one.operator, one.after) for one in read_program(code).mutants]
    assert found == [
        ("constant", "LIMIT: int = 4"),
        ("default", "def f(a: 'Text'=2, *, b=None, c=g(2)) -> 'Text':"),
        ("return", "return None"),
        ("constant", "size = 5"),
        ("return", "return None"),
    ]


def test_only_the_named_function_is_mutated_and_lines_can_be_left_alone():
    code = "def f(a):\n    return a + 1\ndef g(a):\n    return a * 2\n"
    assert {one.line for one in read_program(code, "g").mutants} == {4}
    left_alone = code.replace("a * 2", "a * 2  # pragma: no mutate")
    assert {one.line for one in read_program(left_alone).mutants} == {2}
    with pytest.raises(BadInput, match="function or class 'h'"):
        read_program(code, "h")
    with pytest.raises(BadInput, match="valid Python"):
        read_program("def f(:")


def test_changes_with_the_same_bytecode_are_proven_equivalents():
    program = read_program("def f(a):\n    return a * -0\n")
    assert [one.after for one in program.equivalents] == ["return a * +0"]
    assert "return a / -0" in [one.after for one in program.mutants]


def test_a_warning_about_the_code_is_not_an_error_of_it():
    assert read_program("def f(a):\n    return a is 1\n").mutants


def test_the_tree_is_as_it_was_after_all_mutants_were_made():
    code = "def f(a, b=1):\n    while a > b and not b:\n        a -= int(a[1:], base=2)\n"
    program = read_program(code)
    assert ast.dump(program.tree) == ast.dump(ast.parse(code))
    shown = Presentation(program, 5)
    before = shown.text()
    texts = {shown.text(one) for one in program.mutants}
    assert len(texts) == len(program.mutants)
    assert before not in texts
    assert shown.text() == before


# --- rewriting ------------------------------------------------------------------------------

TRICKY = '''\
import functools

SEEN = 0

def count(values, *, start=0, **options):
    """Docstring."""
    global SEEN
    total = start
    try:
        for index, value in enumerate(values):
            if value is None:
                continue
            elif isinstance(value, str):
                total += len([total for total in value])
            else:
                def add(extra, held=value):
                    nonlocal total
                    total = total + extra + held
                add(index)
        else:
            total += 100
        if options: total -= sum(options.values())
    except TypeError as error:
        error_name = type(error).__name__
        SEEN += 1
        return f"{error_name=} {total}"
    finally:
        SEEN += 1
    picked = (doubled for doubled in [total * 2])
    return next(picked), f"{total:>{6}}", locals is not None

def kinds(thing):
    match thing:
        case [first, *rest]: found = (first, rest)
        case {"a": inner, **others}: found = (inner, others)
        case _: found = thing
    with_walrus = [last := item for item in (1, 2)]
    del with_walrus
    return found, last

class Stack:
    def __init__(self, *items): self.items = list(items)
    def push(self, item):
        items = self.items
        if not items: items.append("first")
        items.append(item)
        return self
    @property
    def top(self):
        found = self.items[-1] if self.items else None
        return found

@functools.lru_cache(maxsize=None)
def fib(n):
    if n < 2:
        result = n
    else:
        result = fib(n - 1) + fib(n - 2)
    return result

def generate(n):
    current = 0
    while True:
        if current >= n: return
        sent = yield current
        if sent: current = sent
        current += 1

def looks(a):
    b = a
    return sorted(locals())
'''


def behaviour(code):
    space = {}
    exec(compile(code, "<code>", "exec"), space)
    count, kinds, stack = space["count"], space["kinds"], space["Stack"]
    return (
        count([1, None, "abc", 4]),
        count([2], start=3, minus=1),
        count([[]]),
        space["SEEN"],
        count.__doc__,
        [kinds(thing) for thing in ([1, 2, 3], {"a": 1, "b": 2}, 7)],
        stack(1).push(2).items,
        stack().push(2).top,
        [space["fib"](n) for n in range(12)],
        list(space["generate"](4)),
        space["looks"](1),
    )


@pytest.mark.parametrize("seed", [None, *range(12)])
def test_a_rewriting_behaves_like_the_reference(seed):
    program = read_program(TRICKY)
    assert behaviour(Presentation(program, seed).text()) == behaviour(TRICKY)


def test_rewritings_differ_in_all_that_reading_the_code_could_count():
    def traits(text):
        space = {}
        exec(text, space)
        code = space["generate"].__code__
        return code.co_code, code.co_consts, code.co_varnames, len(code.co_code)

    program = read_program(TRICKY)
    found = [traits(Presentation(program, seed).text()) for seed in range(6)]
    for trait in zip(*found, strict=True):
        assert len(set(map(repr, trait))) > 3


def test_a_mutant_is_written_into_a_rewriting_as_into_the_plain_text():
    program = read_program(
        "def f(a, b):\n    total = a\n    if a > b: total = b\n    return total\n"
    )
    for mutant in program.mutants:
        results = []
        for seed in (None, 1, 2, 3):
            space = {}
            exec(Presentation(program, seed).text(mutant), space)
            results.append([space["f"](a, b) for a in (0, 1, 2) for b in (0, 1, 2)])
        assert all(result == results[0] for result in results), mutant.diff


def test_the_stub_has_every_name_and_does_nothing():
    space = {}
    exec(stub(read_program(TRICKY)), space)
    assert space["count"]([1]) is None
    assert space["Stack"]().push(1) is None


# --- coverage -------------------------------------------------------------------------------


def test_branch_coverage_counts_both_ways_of_every_branch():
    tree = ast.parse(
        "def f(a):\n    if a:\n        b = 1\n    for c in a:\n        b = 2\n    return b"
    )
    assert branch_coverage(tree, [(0, 2), (2, 3), (3, 4), (4, 6), (6, -1)]) == 0.5
    assert branch_coverage(tree, [(2, 3), (2, 4), (4, 5), (5, 4), (4, 6)]) == 1.0
    assert branch_coverage(tree, []) == 0.0
    straight = ast.parse("def f(a):\n    'Docstring.'\n    return a")
    assert branch_coverage(straight, [(0, 3)]) == 1.0
    assert branch_coverage(straight, [(0, 1)]) == 0.0
    assert branch_coverage(ast.parse("x = 1"), [(0, 1)]) is None
    assert branch_coverage(tree, [], within="g") is None


# --- deciding -------------------------------------------------------------------------------


def ran(**tests):
    return Outcome(Status.PASS, tests=tests, cpu_s=0.5)


FIRST = {"reference": ran(a="passed"), "other order": ran(a="passed"), "stub": ran(a="failed")}


def test_the_first_runs_decide_whether_tests_count():
    assert refusal_of(FIRST) is None
    assert refusal_of({"reference": ran(a="passed")}) is None

    def why(**changed):
        return refusal_of({**FIRST, **changed}).why

    assert "2 of 3: b (failed), c (error:KeyError)" in why(
        reference=ran(a="passed", b="failed", c="error:KeyError")
    )
    assert "no test_* function" in why(reference=ran())
    assert "every test is skipped" in why(reference=ran(a="skipped"))
    assert "do nothing" in why(stub=ran(a="passed"))
    assert "in another order: a (missing)" in why(**{"other order": ran(b="passed")})
    assert "rewriting" in why(rewriting=ran(a="failed"))
    assert "TIMEOUT long" in why(rewriting=Outcome(Status.TIMEOUT, detail="long"))
    assert refusal_of({"reference": Outcome(Status.TIMEOUT)}).status is Status.TIMEOUT


def test_timeouts_and_crashes_of_mutants_are_told_apart():
    program = read_program("def f(a):\n    return a + 1 - 2\n")
    mutants = program.mutants[:5]
    report = judge(
        measured_first(),
        [
            (mutants[0], ran(a="failed")),
            (mutants[1], ran(a="passed")),
            (mutants[2], Outcome(Status.TIMEOUT)),
            (mutants[3], Outcome(Status.CRASH, detail="exited with 1 before it answered")),
            (mutants[4], Outcome(Status.CRASH, detail="sandbox: the worker is gone, 2 times")),
            (None, ran(a="passed")),
        ],
        set(),
    )
    assert set(report.killed) == {mutants[0], mutants[3]}
    assert set(report.survived) == {mutants[1]}
    assert set(report.timeouts) == {mutants[2], mutants[4]}
    assert report.score == pytest.approx(2 / 3)


def measured_first():
    return Report(None, {"a": "passed"}, repeatable=True, fails_stub=True)


def test_tests_that_reject_the_reference_among_the_mutants_are_refused():
    mutant = read_program("def f(a):\n    return a + 1\n").mutants[0]
    report = judge(measured_first(), [(mutant, ran(a="failed")), (None, ran(a="failed"))], set())
    assert report.score == 0.0
    assert report.repeatable is False
    assert "alike each time" in report.refusal.why


@pytest.mark.parametrize("n_mutants", [2, 3, 5, 7, 8, 10, 11, 12, 30, 100])
def test_failing_by_dice_does_not_pay(n_mutants):
    """The best coin for one run must pass all checks, and fail on four mutants of five."""
    needed = math.ceil(0.8 * n_mutants)

    def chance(fail):
        kills = sum(
            math.comb(n_mutants, found) * fail**found * (1 - fail) ** (n_mutants - found)
            for found in range(needed, n_mutants + 1)
        )
        return kills * (1 - fail) ** checks_among(n_mutants)

    assert max(chance(step / 100) for step in range(1, 100)) < 1 / 500
    assert checks_among(0) == 0


def test_the_tests_cannot_foresee_which_run_is_the_reference():
    trials = [_Plan(Trial(CODE, GOOD)) for _ in range(8)]
    assert len({str(plan.seeds) for plan in trials}) > 1
    plan = trials[0]
    orders = {
        tuple(mutant is None for mutant, _ in plan.mutant_runs(set(), Limits())) for _ in range(8)
    }
    assert len(orders) > 1


def test_limits_follow_the_reference():
    limits = calibrated(FIRST, Limits(cpu_s=1.0, wall_s=2.0))
    assert limits.cpu_s == pytest.approx(2.1)
    assert limits.wall_s == pytest.approx(4.2)


# --- the whole ------------------------------------------------------------------------------

CODE = """\
def grade(points, limit=50):
    if points < 0:
        raise ValueError("negative")
    if points >= limit:
        return "pass"
    return "fail"
"""
GOOD = """\
import pytest
from solution import grade

@pytest.mark.parametrize("points, want", [(0, "fail"), (49, "fail"), (50, "pass"), (51, "pass")])
def test_limit(points, want):
    assert grade(points) == want

def test_other_limit():
    assert grade(9, limit=10) == "fail"

def test_negative():
    with pytest.raises(ValueError, match="^negative$"):
        grade(-1)
"""


def graded(sandbox, tests, **reference):
    task = GradedTask("t", [], "mutation", {"code": CODE, "entry_point": "grade", **reference})
    return grade_many([task], [tests], sandbox)[0]


def test_good_tests_kill_every_mutant(sandbox):
    grade = graded(sandbox, f"Here:\n```python\n{GOOD}```")
    assert grade.passed, grade
    assert grade.metrics["mutation_score"] == grade.score == 1.0
    assert grade.metrics["branch_coverage"] == 1.0
    assert grade.metrics["n_tests"] == 6
    assert grade.metrics["repeatable"] is grade.metrics["fails_stub"] is True
    assert grade.metrics["edge_cases"] == ["boundary", "negative", "raises", "zero"]


WEAK = "assert grade(80) == 'pass'\nassert grade(10) == 'fail'"


def test_weak_tests_are_told_what_they_missed(sandbox):
    grade = graded(sandbox, WEAK)
    assert grade.status is Status.WRONG
    assert 0 < grade.score < 0.8
    assert re.match(r"kills \d+ of \d+ mutants, not line", grade.detail)
    assert any("points >= limit" in survivor for survivor in grade.metrics["survivors"])
    assert grade.metrics["unreached"] > 0
    assert graded(
        sandbox, "assert grade(80) == 'pass'\nassert grade(10) == 'fail'", min_score=0.1
    ).passed


def test_suspected_equivalents_stand_apart_only_by_the_inputs_of_the_task(sandbox):
    tests = "\n".join(
        line for line in GOOD.split("\n") if "negative" not in line and "(-1)" not in line
    )
    tests = tests.split("def test_negative")[0]
    without = graded(sandbox, tests)
    inputs = [[points] for points in range(30, 60)]
    apart = graded(sandbox, tests, inputs=inputs)
    assert without.metrics["suspected_equivalents"] == 0
    assert apart.metrics["suspected_equivalents"] > 0
    assert apart.score > without.score
    assert graded(sandbox, tests, inputs=inputs[:5]).score == without.score


def test_time_outs_are_neither_killed_nor_survived(sandbox):
    code = "def down(n):\n    while n > 0:\n        n -= 1\n    return n\n"
    (report,) = measure([Trial(code, "assert down(3) == 0\nassert down(0) == 0")], sandbox)
    assert "n += 1" in [mutant.after for mutant in report.timeouts]
    assert not set(report.timeouts) & {*report.killed, *report.survived}


class SlowToTrace:
    """A sandbox in which a traced run never ends, and every mutant and stub is noticed."""

    limits = Limits()

    def run_many(self, calls, *, trusted=False):
        return [
            Outcome(Status.TIMEOUT)
            if call.coverage
            else ran(a="passed" if "a + b" in call.code else "failed")
            for call in calls
        ]


def test_tests_that_tracing_makes_too_slow_are_measured_without():
    (report,) = measure([Trial("def f(a, b): return a + b", "")], SlowToTrace())
    assert report.refusal is None
    assert report.score == 1.0
    assert report.branch_coverage is None
    assert report.unreached == 0


def test_doctest_examples_are_graded_too(sandbox):
    (report,) = measure([Trial(CODE, ">>> grade(50)\n'pass'\n>>> grade(49)\n'fail'\n")], sandbox)
    assert report.refusal is None
    assert report.verdicts == {"example 1": "passed", "example 2": "passed"}
    assert 0.4 < report.score < 1.0


PROBE = GOOD + "\ndef test_probe():\n    import sys, os, types, inspect, traceback\n"
CHEATS = {
    "bytecode": "assert grade.__code__.co_code",
    "locals of the frame": (
        "    try: grade('x')\n    except TypeError as error:\n"
        "        shown = traceback.TracebackException.from_exception(error, capture_locals=True)\n"
        "        assert sorted(shown.stack[-1].locals) == ['limit', 'points']"
    ),
    "lines of the traceback": (
        "    try: grade(-1)\n    except ValueError as error:\n"
        "        assert error.__traceback__.tb_next.tb_lineno == 3"
    ),
    "source": "assert 'points >= limit' in inspect.getsource(grade)",
    "chance": "assert os.urandom(1)[0] < 128",
    "exits": "os._exit(0)",
    "profile": "import cProfile; cProfile.Profile().runcall(grade, 60)",
    "walk to the harness": "next(traceback.walk_stack(None))",
}


@pytest.mark.parametrize("body", CHEATS.values(), ids=CHEATS.keys())
def test_tests_that_look_at_the_code_instead_of_using_it_are_refused(sandbox, body):
    body = body if body.startswith("    ") else f"    {body}"
    grade = graded(sandbox, PROBE + body)
    assert not grade.passed
    assert grade.score == 0.0
    assert grade.detail.startswith("the tests ")


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ("x = 1", "no test_* function"),
        (
            "def test_a(): assert grade(1) == 'pass'",
            "reject the reference: 1 of 1: test_a (failed)",
        ),
        ("def test_a(): grade(1)", "accept functions that do nothing"),
        (
            "def grade(points, limit=50): return 'pass'\ndef test_a(): assert grade(1) == 'pass'",
            "accept functions that do nothing",
        ),
        ("from wrong import grade\ndef test_a(): pass", "ModuleNotFoundError"),
        ("def test_a(): assert grade(", "SyntaxError"),
        ("import pytest\n@pytest.mark.skip\ndef test_a(): pass", "every test is skipped"),
        (
            "seen = []\ndef test_a(): seen.append(grade(1))\ndef test_b(): assert seen == ['fail']",
            "in another order: test_b (failed)",
        ),
    ],
)
def test_a_refusal_says_why(sandbox, tests, why):
    grade = graded(sandbox, tests)
    assert not grade.passed
    assert grade.score == 0.0
    assert why in grade.detail


def test_tests_without_end_are_refused(sandbox):
    (report,) = measure([Trial("def f(a): return a", "while True: pass")], sandbox)
    assert report.refusal.status is Status.TIMEOUT
    assert "CPU time" in report.refusal.why


@pytest.mark.parametrize("tests", ["\ud800", "\0", "assert " + "(" * 500, "🂡", ">>> f(\n>>>x"])
def test_text_that_no_one_can_run_is_graded(sandbox, tests):
    grade = graded(sandbox, tests)
    assert grade.score == 0.0
    assert grade.detail.startswith("the tests ")


def test_an_empty_answer_is_lost(sandbox):
    assert graded(sandbox, "  ").status is Status.LOST


@pytest.mark.parametrize(
    "reference", [{"code": ""}, {"min_score": 80}, {"entry_point": "missing"}, {"code": "x = y"}]
)
def test_a_task_that_cannot_be_graded_is_named(sandbox, reference):
    with pytest.raises(BadInput):
        graded(sandbox, GOOD, **reference)


def test_answers_to_the_same_task_are_graded_together_and_alike(sandbox):
    task = GradedTask("t", [], "mutation", {"code": CODE})
    answers = [GOOD, "assert grade(80) == 'pass'", GOOD]
    grades = grade_many([task] * 3, copy.copy(answers), sandbox)
    assert [grade.passed for grade in grades] == [True, False, True]
    assert grades[0] == grades[2]
