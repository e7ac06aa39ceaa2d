"""Held-out tasks: fresh, gradable, and read by the evaluator as its own."""

import pytest
from sqlmodel import Session
from stored_rows import store_example, store_version

from collector.tables import InteractionPayload
from curation.eval_sets import calls_in, fresh_ids, grading_of, held_out_tasks, write_suite
from curation.recipe import CurationRecipe
from curation.tables import PreferencePair
from evaluator.graders import GradedTask, grade_many
from evaluator.sandbox import Limits, Sandbox, SandboxUnavailable
from evaluator.suites.jsonl import read_tasks
from foundation.chat import message
from foundation.ids import new_id

RECIPE = CurationRecipe()
ADD = "def add(a, b):\n    return a + b\n"
ASKED = "Write add.\n>>> add(1, 2)\n3\nassert add([1], [2]) == [1, 2]"


@pytest.fixture(scope="module")
def sandbox():
    try:
        with Sandbox(workers=1, limits=Limits(cpu_s=1.0, wall_s=5.0)) as made:
            yield made
    except SandboxUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("f(1, 'a)') == 2 and f(2, [3, (4)])", [[1, "a)"], [2, [3, 4]]]),
        ("f(1)\nf(1)\nf(-2.5)", [[1], [-2.5]]),
        ("call f(x) or g.f(1) or off(1)", []),
        ("f((1, 2)) f({1}) f(k=1) f()", []),
        ("f({'a': None, 'b': True})", [[{"a": None, "b": True}]]),
        ("f(" + "(" * 500, []),
        ("f(1", []),
    ],
)
def test_the_calls_that_a_prompt_shows(asked, expected):
    assert calls_in(asked, "f") == expected


@pytest.mark.parametrize(
    ("asked", "attributes", "answer", "expected"),
    [
        ("x", {"grader": "asserts", "reference": {"a": 1}}, None, ("asserts", {"a": 1})),
        ("x", {"grader": "asserts"}, None, None),
        (ASKED, {}, f"Here:\n```python\n{ADD}```", "calls"),
        ("Write add.\n>>> add(1, 2)", {}, ADD, None),
        ("Write it.", {}, ADD, None),
        (
            "Is it right?",
            {},
            "It returns early.\nNo.",
            ("exact", {"answer": "No.", "last_line": True}),
        ),
        ("Explain it.", {}, "word " * 40, None),
        ("Refuse politely.", {}, "We are sorry, that time is over.", None),
        ("Is it right?", {}, None, None),
        ("Is it right?", {}, " ", None),
    ],
)
def test_what_a_task_is_graded_by(asked, attributes, answer, expected):
    found = grading_of([message("user", asked)], attributes, answer)
    if expected == "calls":
        assert found == (
            "calls",
            {"entry_point": "add", "inputs": [[1, 2], [[1], [2]]], "code": ADD},
        )
    else:
        assert found == expected


def test_code_in_another_language_is_not_compared_word_for_word():
    assert grading_of([message("user", "x")], {}, "fn f() {}", "rust") is None


def held_out(session: Session, prompt: str, answer: str = ADD, **columns):
    return store_example(
        session, prompt, answer, **{"outcome": True, "split": "test", "split_key": prompt} | columns
    )


def test_what_any_train_split_held_is_not_fresh(session):
    episode = new_id()
    fresh = held_out(session, "fresh")
    itself, control, group = (held_out(session, word) for word in ("itself", "control", "group"))
    by_episode = held_out(session, "episode", episode_id=episode)
    paired = held_out(session, "paired")
    twin = held_out(session, "Control", variant="unverified", interaction_id=control.interaction_id)
    taught = [
        store_example(session, "other", "x", split_key=group.split_key, status="dropped"),
        store_example(session, "one more", "x", episode_id=episode),
        itself,
        twin,
    ]
    for row in (itself, twin):
        row.split = "train"
    store_version(session, taught)
    for row in (itself, twin):
        row.split = "test"  # the group has moved since
    pair = PreferencePair(
        role="coder",
        basis="outcome",
        task_key="t",
        winner_id=new_id(),
        loser_id=paired.interaction_id,
        prompt=[],
        chosen="",
        rejected="",
        norm_hash="",
    )
    session.add(pair)
    session.flush()
    store_version(session, [pair], kind="preference", number=2)
    assert fresh_ids(session, "coder", RECIPE) == [fresh.id]
    assert by_episode.id != fresh.id


def test_what_is_not_tested_on_or_not_kept_is_no_task(session):
    held_out(session, "a", split="train")
    held_out(session, "b", split="validation")
    held_out(session, "c", outcome=False)
    held_out(session, "d", role="tester")
    held_out(session, "e", variant="unverified")
    assert fresh_ids(session, "coder", RECIPE) == []


def test_held_out_versions_do_not_spoil_a_task(session):
    row = held_out(session, "a")
    store_version(session, [row])
    assert fresh_ids(session, "coder", RECIPE) == [row.id]


def test_the_evaluator_reads_and_grades_the_file(session, tmp_path, sandbox):
    best = {"task_type": "arithmetic", "difficulty": "easy", "scores": {"rank": [0.9]}}
    held_out(session, ASKED, **best)
    held_out(session, ASKED, "def add(a, b):\n    return b + a\n", scores={"rank": [0.1]})
    held_out(session, "no examples")
    unproven = held_out(session, ASKED + " ", outcome=None, polarity="positive", prompt_text_id=5)
    named = held_out(session, "named", "long " * 50)
    session.add(
        InteractionPayload(
            id=named.interaction_id,
            request={},
            attributes={
                "task_key": "verdict-1",
                "grader": "exact",
                "reference": {"answer": "yes"},
            },
        )
    )
    session.flush()
    path = tmp_path / "suite.jsonl"
    counts = write_suite(session, "coder", RECIPE, path)
    assert counts == {"tasks": 2, "not_gradable": 2, "same_name": 0}
    tasks = {task.grader: task for task in read_tasks(path)}
    assert tasks["exact"].task_id == "verdict-1"
    calls = tasks["calls"]
    assert calls.prompt == [message("user", ASKED)]
    assert calls.attributes == {
        "task_type": "arithmetic",
        "difficulty": "easy",
        "project": "default",
        "origin": "log",
    }
    graded = GradedTask(calls.task_id, calls.prompt, calls.grader, calls.reference)
    answers = ["def add(a, b):\n    return a.__add__(b)\n", ADD.replace("+", "*")]
    right, wrong = grade_many([graded, graded], answers, sandbox)
    assert right.passed
    assert not wrong.passed
    assert [task for i, task in held_out_tasks(session, "coder", RECIPE) if i == unproven.id] == [
        None
    ]


def test_an_empty_role_has_an_empty_suite(session, tmp_path):
    path = tmp_path / "suite.jsonl"
    assert write_suite(session, "reviewer", RECIPE, path)["tasks"] == 0
    assert read_tasks(path) == []
