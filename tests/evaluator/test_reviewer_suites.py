"""The reviewer suites: faults that are proven, modules that differ, clean ones that look alike."""

import ast
import json
import re
import subprocess
from collections import Counter

import pytest

from evaluator.graders import GradedTask, grade_many
from evaluator.metrics.lint import _ruff, lint
from evaluator.metrics.security import security_findings
from evaluator.suites import content_hash
from evaluator.suites.built_in import BUILT_IN, reviewer
from evaluator.suites.built_in.reviewer_plants import alone, compose, read_plants

SUITES = {name: make for name, (role, make) in BUILT_IN.items() if role == "reviewer"}
FOCUSES = reviewer.focuses()
PLANTS = [(name, plant) for name, focus in FOCUSES.items() for plant in focus.plants]
NAMES = [f"{name}-{plant.kind}-{plant.difficulty}-{plant.domain}" for name, plant in PLANTS]


def ruff(code, rule):
    """Line ranges of a rule's findings, of any rule of ruff."""
    command = [_ruff(), "check", "--isolated", "--no-cache", "--select", rule]
    done = subprocess.run(
        [*command, "--output-format", "json", "-"], input=code.encode(), capture_output=True
    )
    return [(row["location"]["row"], row["end_location"]["row"]) for row in json.loads(done.stdout)]


def leaves_ok(version, probe):
    space = {"__name__": "module"}
    try:
        exec(compile(alone(version) + probe, "module", "exec"), space)
    except Exception:
        return False
    return bool(space["ok"])


@pytest.mark.parametrize(("area", "plant"), PLANTS, ids=NAMES)
def test_every_fault_is_proven(area, plant):
    module = compose("A module.", [plant.flawed])
    [fault] = module.faults
    assert fault.last_line - fault.line <= 8
    assert plant.clean.body != plant.flawed.body
    assert plant.rule or plant.probe
    if plant.rule:
        assert ruff(alone(plant.clean), plant.rule) == []
        found = ruff(module.code, plant.rule)
        assert any(first <= fault.last_line and fault.line <= last for first, last in found)
    if plant.probe:
        assert leaves_ok(plant.clean, plant.probe)
        assert not leaves_ok(plant.flawed, plant.probe)


def test_bugs_are_proven_by_running_them():
    assert all(plant.probe for plant in FOCUSES["bugs"].plants)


def test_clean_versions_have_no_weakness_that_the_lint_sees():
    codes = [alone(plant.clean) for _, plant in PLANTS]
    for code, findings in zip(codes, lint(codes), strict=True):
        assert findings is not None, code
        assert security_findings(findings) == [], code


def test_what_stands_around_habits_has_no_habit_that_a_rule_sees():
    habits = FOCUSES["maintainability"]
    rules = ",".join(sorted({plant.rule for plant in habits.plants if plant.rule}))
    for plant in habits.around:
        assert ruff(alone(plant.clean), rules) == []


@pytest.mark.parametrize(
    ("name", "n_tasks", "n_kinds"),
    [
        ("reviewer-security", 100, 25),
        ("reviewer-performance", 100, 20),
        ("reviewer-maintainability", 60, 15),
        ("reviewer-bugs", 60, 15),
        ("reviewer-thorough", 40, 30),
    ],
)
def test_suites_are_wide_and_partly_clean(name, n_tasks, n_kinds):
    tasks = SUITES[name]()
    clean = [task for task in tasks if not task.reference["planted"]]
    planted = Counter(fault["kind"] for task in tasks for fault in task.reference["planted"])
    assert len(tasks) >= n_tasks
    assert len({task.task_id for task in tasks}) == len(tasks)
    assert len({task.prompt[0]["content"] for task in tasks}) == len(tasks)
    assert 0.2 <= len(clean) / len(tasks) <= 0.3
    assert len(planted) >= n_kinds
    assert max(planted.values()) <= 6
    for attribute, values in (("difficulty", 3), ("domain", 5)):
        assert len({task.attributes[attribute] for task in tasks}) == values
    assert content_hash(SUITES[name]()) == content_hash(tasks)


def test_security_kinds_are_different_weaknesses():
    kinds = FOCUSES["security"].kinds.values()
    assert len({kind.cwe for kind in kinds}) == len(kinds) >= 25


@pytest.mark.parametrize("name", SUITES)
def test_the_reference_passes_and_the_lazy_do_not(name):
    tasks = SUITES[name]()

    def passed(answer):
        asked = [GradedTask(t.task_id, t.prompt, t.grader, t.reference) for t in tasks]
        grades = grade_many(asked, [answer(task) for task in tasks], None)
        return sum(grade.passed for grade in grades) / len(grades)

    assert passed(reviewer.reference_answer) == 1.0
    assert passed(lambda task: "[]") <= 0.3
    assert passed(every_line) == 0.0
    assert passed(lambda task: "This is bad code.") == 0.0


def every_line(task):
    kinds = [fault["kind"] for fault in task.reference["planted"]] or ["open-redirect"]
    lines = code_of(task).splitlines()
    return json.dumps([{"line": n, "kind": kinds[0]} for n in range(1, len(lines) + 1)])


def code_of(task):
    numbered = task.prompt[0]["content"].split("```")[1]
    return "\n".join(re.sub(r"^ *\d+ \| ?", "", line) for line in numbered.strip("\n").split("\n"))


@pytest.mark.parametrize("name", SUITES)
def test_modules_are_valid_and_hard_ones_longer(name):
    lengths = {"easy": [], "medium": [], "hard": []}
    for task in SUITES[name]():
        code = code_of(task)
        ast.parse(code)
        lengths[task.attributes["difficulty"]].append(len(code.splitlines()))
        for fault in task.reference["planted"]:
            assert code.splitlines()[fault["line"] - 1].strip()
    means = [sum(some) / len(some) for some in lengths.values()]
    assert means == sorted(means)
    assert means[2] > 1.5 * means[0]


def test_the_prompt_does_not_tell_whether_there_is_a_fault():
    tasks = SUITES["reviewer-security"]()
    around = {task.prompt[0]["content"].split("```")[0] for task in tasks}
    after = {task.prompt[0]["content"].split("```")[2] for task in tasks}
    assert (len(around), len(after)) == (1, 1)


def test_a_plant_is_read_in_both_versions():
    [plant] = read_plants(
        "@ kind web easy -\n import re\n+import os\n\n\n X = 1\n"
        "-good(\n+bad(\n~    more,\n!)\n? ok = True\n"
    )
    assert plant.clean.body == ("X = 1", "good(", ")")
    assert plant.flawed.body == ("X = 1", "bad(", "    more,", ")")
    assert (plant.flawed.imports, plant.flawed.at_fault) == (("import re", "import os"), (1, 3))
    assert (plant.clean.at_fault, plant.clean.names, plant.probe) == ((), {"X"}, "ok = True\n")
