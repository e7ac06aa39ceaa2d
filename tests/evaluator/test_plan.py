"""Plans checked as partial orders."""

import json

import pytest

from evaluator.graders import GradedTask
from evaluator.graders.plan import grade_many, longest_chain
from evaluator.sandbox import Status
from foundation.errors import BadInput

REFERENCE = {
    "work": {
        "survey": {"hours": 2, "roles": ["researcher"]},
        "build": {"hours": 3, "roles": ["coder", "tester"]},
        "page": {"hours": 4, "roles": ["coder"]},
        "trial": {"hours": 1, "roles": ["tester"]},
    },
    "before": [["survey", "build"], ["build", "trial"], ["page", "trial"]],
    "deadline_hours": 7,
    "prices": {"coder": 100, "tester": 60, "researcher": 50},
    "budget": 800,
    "max_steps": {"coder": 2, "tester": 2},
}
STEPS = [
    {"id": 1, "role": "researcher", "task": "survey", "after": []},
    {"id": 2, "role": "tester", "task": "build", "after": [1]},
    {"id": 3, "role": "coder", "task": "page", "after": []},
    {"id": 4, "role": "tester", "task": "trial", "after": [2, 3]},
]


def grade(steps, **changed):
    text = steps if isinstance(steps, str) else json.dumps({"steps": steps})
    return grade_many([GradedTask("t", [], "plan", {**REFERENCE, **changed})], [text], None)[0]


def with_step(number, **fields):
    return [{**step, **(fields if step["id"] == number else {})} for step in STEPS]


def test_a_right_plan_passes():
    made = grade(STEPS)
    assert (made.passed, made.score, made.detail) == (True, 1.0, "")
    assert made.metrics == {
        "coverage": 1, "invented": 0, "order": 1, "parallelism": 1, "roles": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "steps",
    [
        list(reversed(STEPS)),
        with_step(3, after=[1]),
        with_step(4, after=["build", "page"]),
        with_step(1, after=None),
        [{**step, "id": f"s{step['id']}", "after": [f"s{n}" for n in step["after"]]}
         for step in STEPS],
        with_step(4, after=[2, 3, 1]),
    ],
)  # fmt: skip
def test_other_right_plans_pass_too(steps):
    assert grade(steps).detail == ""


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        (STEPS[:3], "not planned: trial"),
        ([*STEPS, {"id": 5, "role": "coder", "task": "party", "after": []}],
         "nobody asked for: party"),
        ([*STEPS, {"id": 5, "role": "coder", "task": "page", "after": []}],
         "planned 2 times: page"),
        (with_step(4, after=[2]), "trial does not wait for page"),
        (with_step(1, after=[4]), "ring"),
        (with_step(1, after=[1]), "ring"),
        (with_step(2, role="reviewer"), "reviewer may not do build"),
        (with_step(2, role=""), "nobody may not do build"),
        (with_step(3, after=[2]), "takes 10 hours, 7 allowed"),
        (with_step(2, role="coder"), "costs 860, 800 allowed"),
        (with_step(2, after=[9]), "9, which is no step"),
        (with_step(2, id=1), "same id"),
        ("no plan", "no JSON object"),
        ('{"steps": []}', "no JSON object"),
        ('{"steps": [1]}', "not an object"),
    ],
)  # fmt: skip
def test_each_broken_rule_is_named(steps, fault):
    made = grade(steps)
    assert made.status is Status.WRONG
    assert fault in made.detail


def test_a_role_has_no_more_steps_than_it_can_take():
    made = grade(STEPS, max_steps={"tester": 1})
    assert made.detail == "tester has 2 steps, 1 allowed"


def test_a_serial_plan_is_in_order_but_not_parallel():
    serial = [{**step, "after": [step["id"] - 1] if step["id"] > 1 else []} for step in STEPS]
    made = grade(serial, deadline_hours=None)
    assert made.passed
    assert made.metrics["parallelism"] == pytest.approx(6 / 10)


def test_part_of_the_work_is_part_of_the_score():
    assert 0 < grade(STEPS[:2]).score < grade(STEPS[:3]).score < 1


def test_the_longest_chain_is_in_hours():
    assert longest_chain([2, 3, 4, 1], [[], [0], [], [1, 2]]) == 6
    assert longest_chain([], []) == 0


def test_an_empty_answer_is_lost():
    assert grade(" ").status is Status.LOST


@pytest.mark.parametrize("reference", [{}, {"work": {}}, {**REFERENCE, "before": [["x", "build"]]}])
def test_a_task_without_work_is_refused(reference):
    with pytest.raises(BadInput, match="work"):
        grade_many([GradedTask("t", [], "plan", reference)], ["{}"], None)
