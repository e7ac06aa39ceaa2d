"""Real bug fixes as review tasks: the place before the fix, or after it."""

import json

import pytest

from evaluator.graders import GradedTask, grade_many
from evaluator.suites.readers.bugfixes import place_of, read_bugfixes

HEAD = "diff --git a/m.py b/m.py\n--- a/m.py\n+++ b/m.py\n@@ -10,5 +10,5 @@ def f():\n"
CHANGED = HEAD + " a\n b\n-wrong\n+right\n c\n d\n\n"
ADDED = HEAD + " a\n b\n+missing\n c\n d\n"


def test_the_changed_lines_are_at_fault_before_and_none_after():
    before, after = place_of(CHANGED, after=False), place_of(CHANGED, after=True)
    assert (before.first_line, before.lines, before.faults) == (10, tuple("ab") + ("wrong", "c", "d"), (2,))  # fmt: skip  # noqa: E501
    assert (after.lines[2], after.faults) == ("right", ())


def test_what_is_missing_is_missed_between_two_lines():
    assert place_of(ADDED, after=False).faults == (1, 2)


@pytest.mark.parametrize(
    "patch",
    [
        CHANGED.replace("m.py", "m.txt"),
        CHANGED + "@@ -30,1 +30,1 @@\n-x\n+y\n",
        HEAD + "-x\n" * 9 + "+y\n",
        HEAD + "+x\n a\n+y\n",
        "",
    ],
)
def test_what_is_not_one_short_place_is_left_out(patch):
    assert place_of(patch, after=False) is None


def test_tasks_are_half_clean_and_their_lines_are_shown(tmp_path):
    path = tmp_path / "bugs.jsonl"
    rows = [
        {"id": f"p-{n}", "project": "p", "patch": CHANGED, "upstream_licence": "MIT"}
        for n in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = read_bugfixes(path)
    clean = [task for task in tasks if not task.reference["planted"]]
    assert 20 <= len(clean) <= 40
    for task in tasks:
        text = task.prompt[0]["content"]
        assert ("12 | wrong" in text) is bool(task.reference["planted"])
    answers = [json.dumps(task.reference["planted"]) for task in tasks]
    asked = [GradedTask(t.task_id, t.prompt, t.grader, t.reference) for t in tasks]
    assert all(grade.passed for grade in grade_many(asked, answers, None))


@pytest.mark.data
def test_public_bugs_can_be_read(public_data):
    [path] = (public_data / "bugfix_bugsinpy").glob("*.jsonl*")
    tasks = read_bugfixes(path)
    assert len(tasks) > 80
    share = sum(not task.reference["planted"] for task in tasks) / len(tasks)
    assert 0.35 < share < 0.65
    assert {task.attributes["licence"] for task in tasks}
