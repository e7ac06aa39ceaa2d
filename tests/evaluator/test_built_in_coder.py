"""The built-in suites of coders and testers: what makes them worth trusting."""

import ast
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from evaluator.graders import GradedTask, grade_many
from evaluator.mutation.mutants import read_program
from evaluator.mutation.rewrite import Presentation
from evaluator.sandbox import Limits, Sandbox, SandboxUnavailable
from evaluator.suites import content_hash
from evaluator.suites.built_in import BUILT_IN, reference_answer
from evaluator.suites.built_in.functions import DOMAINS, TIERS, families, variants
from evaluator.suites.built_in.functions.family import N_INPUTS
from evaluator.suites.built_in.functions.source import specialise

PROJECT = Path(__file__).resolve().parents[2]
CODER = {"coder-easy": "easy", "coder-medium": "medium", "coder-hard": "hard"}
SUITES = {**CODER, "tester-unit": "tested"}
HASHES = {
    "coder-easy": "1e4910ff3826cd7fbe16f0acbec6b90d99109484a66d588442407d0fedb6444c",
    "coder-medium": "c291c8993db68263e4ed2244f2b9410cee2fa1a23688d4486871fd6900a74bae",
    "coder-hard": "fe8b1752b156ba6360ab133fd8505c1b640f7f166c466d4071a19195785f142c",
    "tester-unit": "eed502b980675a3c9bfb3d112efeb48376d8b0d78162460ebd2d96d7de60bb67",
}
"""Content of each suite. A change makes results incomparable with earlier ones: be sure of it."""

SLIPS = {"arithmetic", "boolean", "comparison", "conditional", "constant", "slice", "unary"}
"""Kinds of small faults that people make; texts of errors and the like are not among them."""
MUTANTS_PER_TASK = 1
CAUGHT = 0.9


@pytest.fixture(scope="module")
def sandbox():
    try:
        with Sandbox(workers=2, limits=Limits(cpu_s=0.4, wall_s=10.0)) as made:
            yield made
    except SandboxUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tasks():
    return {name: BUILT_IN[name][1]() for name in SUITES}


def graded(task):
    return GradedTask(task.task_id, task.prompt, task.grader, task.reference)


def every_variant():
    return [variant for tier in TIERS for variant in variants(tier)]


# --- what the suites hold ---------------------------------------------------------------------


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_100_tasks_of_25_families_in_all_domains(tasks, name):
    suite = tasks[name]
    assert len({task.task_id for task in suite}) == len(suite) == 100
    per_family = Counter(task.attributes["family"] for task in suite)
    assert len(per_family) >= 25
    assert max(per_family.values()) <= 4
    assert {task.attributes["domain"] for task in suite} == set(DOMAINS)
    for task in suite:
        assert task.attributes["licence"] == "Apache-2.0"
        assert task.attributes["difficulty"] in ("easy", "medium", "hard")


def test_no_family_is_in_two_tiers():
    names = Counter(family.name for tier in TIERS for family in families(tier))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("tier", TIERS)
def test_variants_of_a_family_differ_in_behaviour(tier):
    alike = []
    for family in families(tier):
        results = [
            (variant.task_id, [repr(variant.result(given)) for given in variant.inputs])
            for variant in family.variants()
        ]
        alike += [
            (one, other)
            for place, (one, found) in enumerate(results)
            for other, other_found in results[:place]
            if found == other_found
        ]
    assert alike == []


def test_inputs_are_many_distinct_and_not_all_alike():
    for variant in every_variant():
        assert len(variant.inputs) == N_INPUTS
        assert len(variant.decoys) == 4
        results = [repr(variant.result(given)) for given in variant.inputs]
        assert len(set(results)) > 1, variant.task_id


def test_suites_are_the_same_on_every_run(tasks):
    found = {name: content_hash(suite) for name, suite in tasks.items()}
    assert found == HASHES
    code = (
        "from evaluator.suites import content_hash\n"
        "from evaluator.suites.built_in import BUILT_IN\n"
        f"print({{name: content_hash(BUILT_IN[name][1]()) for name in {list(SUITES)}}})"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
        env=environment,
    )
    assert ast.literal_eval(run.stdout) == HASHES


def test_the_page_counts_what_is_there(tasks):
    lines = [f"| Suite | {' | '.join(DOMAINS)} | families | tasks |"]
    lines.append("|" + "---|" * (len(DOMAINS) + 3))
    for name, suite in tasks.items():
        counts = Counter(task.attributes["domain"] for task in suite)
        n_families = len({task.attributes["family"] for task in suite})
        cells = [*(counts[domain] for domain in DOMAINS), n_families, len(suite)]
        lines.append(f"| `{name}` | {' | '.join(map(str, cells))} |")
    table = "\n".join(lines)
    assert table in (PROJECT / "docs/suites.md").read_text(), table


# --- prompts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CODER)
def test_the_examples_of_a_prompt_are_true(tasks, name):
    for task in tasks[name]:
        names = {}
        exec(task.reference["code"], names)
        examples = task.prompt[0]["content"].partition("Examples:")[2]
        lines = re.findall(rf"^{task.reference['entry_point']}\(.*$", examples, re.MULTILINE)
        assert 1 <= len(lines) <= 3, task.task_id
        for line in lines:
            call, hash_mark, error = line.partition(")  # ")
            if not hash_mark:
                assert eval(line, names), line
                continue
            with pytest.raises(Exception) as raised:  # noqa: PT011 - compared below
                eval(f"{call})", names)
            assert type(raised.value).__name__ == error, line


@pytest.mark.parametrize("name", CODER)
def test_no_prompt_shows_the_solution_or_an_unstated_rule(tasks, name):
    for task, variant in zip(tasks[name], variants(SUITES[name]), strict=True):
        prompt = task.prompt[0]["content"]
        body = task.reference["code"].partition(f"def {variant.family.name}(")[2].split("\n")[1:]
        assert [line for line in body if len(line.strip()) > 30 and line.strip() in prompt] == []
        assert variant.signature in prompt
        for rule, value in variant.choice.items():
            assert variant.family.rules[rule][value] in prompt


# --- references -------------------------------------------------------------------------------


def test_the_code_of_a_variant_does_what_its_function_does():
    for variant in every_variant():
        names = {}
        exec(variant.code, names)
        for given in variant.inputs + variant.decoys:
            wanted = variant.result(given)
            found = outcome(names[variant.family.name], given)
            assert found == (wanted.error or repr(wanted.value)), variant.task_id


def outcome(function, given):
    """The text of what a call gives, or the name of what it raises."""
    try:
        return repr(function(*given))
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("name", CODER)
def test_every_reference_passes_and_wrong_answers_fail(tasks, sandbox, name):
    suite = tasks[name]
    siblings = {}
    for task in suite:
        siblings.setdefault(task.attributes["family"], []).append(task)
    answers = {
        "reference": [reference_answer(name, task) for task in suite],
        "empty": ["" for _ in suite],
        "stub": [
            f"def {task.reference['entry_point']}(*given):\n    return None" for task in suite
        ],
        "sibling": [reference_answer(name, sibling_of(task, siblings)) for task in suite],
    }
    grades = grade_many(
        [graded(task) for _ in answers for task in suite],
        [answer for given in answers.values() for answer in given],
        sandbox,
    )
    asked = [(kind, task) for kind in answers for task in suite]
    odd = [
        (kind, task.task_id, grade.detail)
        for (kind, task), grade in zip(asked, grades, strict=True)
        if grade.passed is not (kind == "reference")
    ]
    assert odd == []


def sibling_of(task, siblings):
    """The next variant of the same family: right in most things, wrong in one rule."""
    own = siblings[task.attributes["family"]]
    return own[(own.index(task) + 1) % len(own)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CODER)
def test_small_faults_are_caught_by_the_inputs(tasks, sandbox, name):
    faulty = []
    for task in tasks[name]:
        program = read_program(task.reference["code"])
        dice = random.Random(task.task_id)
        presented = Presentation(program, None)
        slips = [mutant for mutant in program.mutants if mutant.operator in SLIPS]
        for mutant in dice.sample(slips, min(MUTANTS_PER_TASK, len(slips))):
            faulty.append((task, presented.text(mutant)))
    grades = grade_many([graded(task) for task, _ in faulty], [code for _, code in faulty], sandbox)
    n_caught = sum(not grade.passed for grade in grades)
    assert n_caught >= CAUGHT * len(faulty)


# --- cutting a variant out --------------------------------------------------------------------

LIMITS = (1, 9)


def helper(number: int) -> int:
    """Kept, since it is used."""
    return min(max(number, LIMITS[0]), LIMITS[1])


def sample(values: list[int], *, mode: str, strict: bool) -> list[int]:
    """Not kept."""
    found = []
    for value in values:
        if mode == "even" and value % 2:
            continue
        elif strict or value < 0:
            value = helper(value)
        elif mode == "text":
            value = len(re.escape(str(value)))
        found.append(value + (1 if strict else 2))
    return found if mode != "last" else found[-1:]


def test_a_variant_keeps_only_what_its_rules_leave():
    assert specialise(sample, {"mode": "even", "strict": True}) == (
        "LIMITS = (1, 9)\n\n\n"
        "def helper(number: int) -> int:\n"
        "    return min(max(number, LIMITS[0]), LIMITS[1])\n\n\n"
        "def sample(values: list[int]) -> list[int]:\n"
        "    found = []\n"
        "    for value in values:\n"
        "        if value % 2:\n"
        "            continue\n"
        "        else:\n"
        "            value = helper(value)\n"
        "        found.append(value + 1)\n"
        "    return found\n"
    )
    other = specialise(sample, {"mode": "text", "strict": False})
    assert other.startswith("import re\n")
    assert "if value < 0:" in other
    assert "elif" not in other.replace("else:", "")
    assert "mode" not in other
