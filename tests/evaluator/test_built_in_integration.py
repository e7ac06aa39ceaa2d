"""The suite `tester-integration`: what it holds, and that wiring is what its tests must test."""

import ast
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from evaluator.graders import GradedTask, grade_many
from evaluator.mutation.score import Trial, measure
from evaluator.sandbox import Cases, Sandbox, SandboxUnavailable
from evaluator.suites import content_hash
from evaluator.suites.built_in import BUILT_IN
from evaluator.suites.built_in.modules import DOMAINS, families, variants
from evaluator.suites.built_in.tester_integration import MIN_KILLS, reference_answer
from foundation.errors import BadInput

PROJECT = Path(__file__).resolve().parents[2]
PARTS_ALONE = Path(__file__).with_name("parts_alone")
NAME = "tester-integration"
HASH = "fcdeae5816da1dc3182e624e5e1f923fac0e3696ecc1ef9735242d65057785b6"
"""Content of the suite. A change makes results incomparable with earlier ones: be sure of it."""

SAMPLED = 2
LEAST_FAULTS = 5
SHOWN_ALONE = ("cached_pages", "orders")
MOST_ALONE = 0.5
"""Share of the faults in the wiring that tests of each part alone may notice."""


@pytest.fixture(scope="module")
def sandbox():
    try:
        with Sandbox(workers=2) as made:
            yield made
    except SandboxUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tasks():
    return BUILT_IN[NAME][1]()


def by_seed(items, count):
    return random.Random(NAME).sample(list(items), count)


def graded(task):
    return GradedTask(task.task_id, task.prompt, task.grader, task.reference)


def accepts(outcome):
    return outcome.tests is not None and set(outcome.tests.values()) == {"passed"}


# --- what the suite holds ---------------------------------------------------------------------


def test_100_tasks_of_25_families_in_five_domains(tasks):
    assert len({task.task_id for task in tasks}) == len(tasks) == 100
    per_family = Counter(task.attributes["family"] for task in tasks)
    assert len(per_family) >= 25
    assert max(per_family.values()) <= 4
    assert {task.attributes["domain"] for task in tasks} == set(DOMAINS)
    difficulties = Counter(task.attributes["difficulty"] for task in tasks)
    assert set(difficulties) == {"easy", "medium", "hard"}
    assert min(difficulties.values()) >= 20


def test_the_suite_is_the_same_on_every_run(tasks):
    assert content_hash(tasks) == HASH
    code = (
        "from evaluator.suites import content_hash\n"
        "from evaluator.suites.built_in import BUILT_IN\n"
        f"print(content_hash(BUILT_IN[{NAME!r}][1]()))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert run.stdout.strip() == HASH


def test_the_page_counts_what_is_there(tasks):
    counts = Counter(task.attributes["domain"] for task in tasks)
    domains = ("web", "data-science", "devops", "mobile", "backend", "general")
    cells = [*(counts[domain] for domain in domains), len(families()), len(tasks)]
    row = f"| `{NAME}` | {' | '.join(map(str, cells))} |"
    assert row in (PROJECT / "docs/suites.md").read_text().splitlines(), row


def test_a_task_shows_its_parts_and_rules_and_no_test_of_the_reference(tasks):
    for task, variant in zip(tasks, variants(), strict=True):
        prompt = task.prompt[0]["content"]
        assert variant.code in prompt
        names = [node.name for node in ast.parse(variant.tests).body if hasattr(node, "name")]
        assert [name for name in names if name.startswith("test") and name in prompt] == []
        for rule, value in variant.choice.items():
            assert variant.family.checks.rules[rule][value] in prompt
            assert rule not in variant.code + variant.tests


def test_a_module_has_two_or_more_parts_and_several_scenarios():
    for variant in variants():
        parts = [
            node
            for node in ast.parse(variant.code).body
            if isinstance(node, ast.ClassDef | ast.FunctionDef)
        ]
        assert len(parts) >= 2
        tests = [name for name in variant.tests.splitlines() if name.startswith("def test_")]
        assert len(tests) >= 3


# --- variants and faults ----------------------------------------------------------------------


def test_every_fault_can_happen_and_is_another_module():
    for family in families():
        found = set()
        for variant in family.variants():
            assert len(variant.wrong) >= LEAST_FAULTS, variant.task_id
            codes = [variant.code, *variant.wrong.values()]
            assert len(set(codes)) == len(codes)
            assert all(ast.parse(code).body for code in codes)
            found |= variant.wrong.keys()
        assert found == {fault.says for fault in family.checks.faults}


@pytest.mark.parametrize(
    "count", [40, pytest.param(300, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_a_variant_fails_the_tests_of_its_siblings(sandbox, count):
    pairs = [
        (one, other)
        for family in families()
        for one in family.variants()
        for other in family.variants()
        if one.number != other.number
    ]
    pairs = by_seed(pairs, count)
    outcomes = sandbox.run_many(Cases(one.code, other.tests) for one, other in pairs)
    alike = [
        (one.task_id, other.task_id)
        for (one, other), outcome in zip(pairs, outcomes, strict=True)
        if outcome.tests is None or accepts(outcome)
    ]
    assert alike == []


@pytest.mark.slow
def test_every_fault_in_the_wiring_is_noticed_by_the_reference(sandbox):
    found = [
        (variant, says, code) for variant in variants() for says, code in variant.wrong.items()
    ]
    outcomes = sandbox.run_many(Cases(code, variant.tests) for variant, _, code in found)
    missed = [
        (variant.task_id, says)
        for (variant, says, _), outcome in zip(found, outcomes, strict=True)
        if accepts(outcome)
    ]
    assert missed == []


# --- answers ----------------------------------------------------------------------------------


def test_references_pass(tasks, sandbox):
    some = by_seed(tasks, SAMPLED)
    grades = grade_many(
        [graded(task) for task in some], [reference_answer(task) for task in some], sandbox
    )
    assert [
        (task.task_id, grade.detail)
        for task, grade in zip(some, grades, strict=True)
        if not grade.passed or grade.metrics["planted_score"] < MIN_KILLS
    ] == []


def alone_and_together(names, sandbox):
    """Shares of planted faults noticed: by tests of each part alone, and by the reference."""
    first = {family.name: family.variants()[0] for family in families() if family.name in names}
    texts = [PARTS_ALONE.joinpath(f"{name}.py").read_text() for name in first]
    tests = [*texts, *(variant.tests for variant in first.values())]
    trials = [
        Trial(variant.code, text, most_mutants=5, wrong=list(variant.wrong.values()))
        for variant, text in zip([*first.values(), *first.values()], tests, strict=True)
    ]
    reports = measure(trials, sandbox)
    assert [report.refusal for report in reports if report.refusal] == []
    scores = [report.planted_score for report in reports]
    return dict(zip(first, zip(scores, scores[len(first) :], strict=False), strict=True))


@pytest.mark.parametrize(
    "names",
    [
        SHOWN_ALONE,
        pytest.param(
            sorted(path.stem for path in PARTS_ALONE.glob("*.py")), marks=pytest.mark.slow
        ),
    ],
    ids=["two", "all"],
)
def test_tests_of_each_part_alone_miss_the_wiring(names, sandbox):
    found = alone_and_together(names, sandbox)
    assert len(found) == len(names)
    for name, (alone, together) in found.items():
        assert alone <= MOST_ALONE < MIN_KILLS <= together, name


# --- the grader's keys ------------------------------------------------------------------------

CODE = """class Store:
    def __init__(self):
        self.kept = []

class Service:
    def __init__(self, store):
        self.store = store

    def save(self, value):
        self.store.kept.append(value + 1)
        return value
"""
WRONG = CODE.replace("kept.append(value + 1)", "kept.extend([])")
STORED = """def test_it():
    service = Service(Store())
    assert service.save(1) == 1
    assert service.store.kept == [2]
"""
RETURNED = """def test_it():
    service = Service(Store())
    assert service.save(1) == 1
"""


def grade(sandbox, tests, **reference):
    task = GradedTask("t", [], "mutation", {"code": CODE, "min_score": 0.1, **reference})
    return grade_many([task], [tests], sandbox)[0]


def test_planted_faults_count_apart_and_the_lower_share_is_the_score(sandbox):
    good = grade(sandbox, STORED, wrong=[WRONG])
    assert good.passed
    assert good.metrics["planted_score"] == 1.0
    poor = grade(sandbox, RETURNED, wrong=[WRONG])
    assert (poor.passed, poor.score) == (False, 0.0)
    assert "0 of 1 planted faults" in poor.detail
    assert poor.metrics["mutation_score"] > 0
    assert grade(sandbox, RETURNED, wrong=[WRONG], min_kills=0).passed
    without = grade(sandbox, RETURNED)
    assert without.metrics["planted_score"] is None
    assert without.score == without.metrics["mutation_score"]


def test_half_of_the_planted_faults(sandbox):
    wrong = [WRONG, CODE.replace("return value", "return -value")]
    found = grade(sandbox, RETURNED, wrong=wrong, min_kills=0.5)
    assert found.passed
    assert found.metrics["planted_score"] == 0.5
    assert found.score == min(0.5, found.metrics["mutation_score"])
    assert not grade(sandbox, RETURNED, wrong=wrong, min_kills=0.6).passed


@pytest.mark.parametrize(
    ("key", "value"), [("wrong", ["def f(:"]), ("min_kills", 2), ("min_kills", "all")]
)
def test_a_suite_with_wrong_planted_faults_is_refused(sandbox, key, value):
    with pytest.raises(BadInput, match=key):
        grade(sandbox, STORED, **{key: value})
