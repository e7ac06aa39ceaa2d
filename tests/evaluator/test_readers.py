"""Other people's benchmarks: each line becomes a task that its reference passes, or is refused."""

import json

import pytest

from evaluator.graders import GradedTask, grade_many
from evaluator.sandbox import Sandbox
from evaluator.suites import READERS
from foundation.errors import BadInput

LINKED = {
    "name": "length",
    "spec": "Length of a list.",
    "buggy": "def length(node):\n    return 0\n",
    "correct": "def length(node):\n    return 1 + length(node.next) if node else 0\n",
    "testcases": None,
    "node_source": "class Node:\n    def __init__(self, next=None):\n        self.next = next\n",
    "pytest_source": "import pytest\nfrom node import Node\n\nif pytest.use_correct:\n"
    "    from a import length\nelse:\n    from b import length\n\n\n"
    "def test1():\n    assert length(Node(Node())) == 2\n",
}
YIELDING = {
    "name": "double",
    "spec": "Doubles.",
    "buggy": "def double(xs):\n    for x in xs:\n        yield x\n",
    "correct": "def double(xs):\n    for x in xs:\n        yield 2 * x\n",
    "testcases": [[[[1, 2]], [2, 4]], [[[]], []]],
}
LOGGED = {
    "doc_id": 4,
    "doc": {"question": "2 + 2?", "answer": "2 and 2 make 4 #### 4"},
    "target": "2 and 2 make 4 #### 4",
    "arguments": {"gen_args_0": {"arg_0": "Q: 1+1?\nA: 2\n\nQ: 2 + 2?\nA:", "arg_1": {"n": 1}}},
}
CHOSEN = {
    "doc_id": 5,
    "doc": {"question": "sky?"},
    "target": 1,
    "arguments": [["Q: sky?\nA:", " red"], ["Q: sky?\nA:", " blue"]],
}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2) as shared:
        yield shared


def read(tmp_path, format, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return READERS[format](path)


def passes(task, answer, sandbox):
    graded = GradedTask(task.task_id, task.prompt, task.grader, task.reference)
    return grade_many([graded], [answer], sandbox)[0].passed


@pytest.mark.parametrize("row", [LINKED, YIELDING], ids=["own tests", "generator"])
def test_quixbugs_tells_the_buggy_from_the_correct(tmp_path, sandbox, row):
    [task] = read(tmp_path, "quixbugs", row, {**row, "slow": True})
    assert row["buggy"] in task.prompt[0]["content"]
    assert row["correct"] not in task.prompt[0]["content"]
    assert passes(task, row["correct"], sandbox)
    assert not passes(task, row["buggy"], sandbox)


@pytest.mark.parametrize(
    ("format", "row", "right", "wrong"),
    [
        ("lm_eval", LOGGED, "It is\n4", "4 of them\n5"),
        ("lm_eval", CHOSEN, "Thinking of it\nB", "A"),
        ("lm_eval", CHOSEN, "blue", "red"),
        ("lm_eval", {"question": "x?", "choices": ["a1", "b1"], "answer": "B"}, "b1", "a1"),
        (
            "lm_eval",
            {"question": "x?", "choices": {"text": ["p", "q"], "label": ["1", "2"]}, "answer": "2"},
            "(B)",
            "A",
        ),
        ("lm_eval", {"question": "x?", "answer": 7}, "7", "8"),
        ("inspect", {"input": "x?", "target": ["seven", "7"], "id": 3}, "7.", "8"),
        ("inspect", {"input": "x?", "target": "A", "choices": ["p", "q"]}, "A. p", "B"),
        ("inspect", {"input": "x?", "target": ["C", "A"], "choices": list("pqr")}, "A, C", "A"),
        (
            "inspect",
            {"input": [{"role": "system", "content": "s"}, {"role": "user", "content": "x?"}],
             "target": "Yes", "metadata": {"difficulty": "hard", "other": 1}},
            "yes",
            "no",
        ),
    ],
)  # fmt: skip
def test_questions_are_graded_by_their_last_line(tmp_path, sandbox, format, row, right, wrong):
    [task] = read(tmp_path, format, row)
    assert passes(task, right, sandbox)
    assert not passes(task, wrong, sandbox)
    assert task.prompt[-1]["role"] == "user"
    assert "last line" in task.prompt[-1]["content"]


def test_what_is_known_of_a_sample_comes_along(tmp_path):
    metadata = {"difficulty": "hard", "domain": "web", "secret": "x"}
    row = {"id": "q1", "input": "x?", "target": "y", "metadata": metadata}
    [task] = read(tmp_path, "inspect", row)
    assert task.task_id == "q1"
    assert task.attributes == {
        "task_type": "question",
        "origin": "inspect",
        "difficulty": "hard",
        "domain": "web",
    }


def test_the_lines_of_several_filters_are_one_task(tmp_path):
    assert len(read(tmp_path, "lm_eval", LOGGED, {**LOGGED, "filter": "strict"}, CHOSEN)) == 2


@pytest.mark.parametrize(
    ("format", "row", "words"),
    [
        ("quixbugs", {**YIELDING, "testcases": [[1]]}, "line 2, field 'testcases'"),
        ("quixbugs", {**YIELDING, "correct": "def ("}, "line 2, field 'code'"),
        ("quixbugs", {**LINKED, "pytest_source": None}, "line 2, field 'pytest_source'"),
        ("lm_eval", {**CHOSEN, "target": 7}, "line 2, field 'target'.*one of the 2 choices"),
        ("lm_eval", {**LOGGED, "arguments": None}, "line 2, field 'arguments'.*log_samples"),
        ("lm_eval", {**LOGGED, "arguments": [[7]]}, "line 2, field 'arguments'"),
        ("lm_eval", {"question": "x?"}, "line 2, field 'answer'"),
        ("lm_eval", {"question": "x?", "choices": ["a"], "answer": "z"}, "line 2, field 'answer'"),
        ("inspect", {"target": "x"}, "line 2, field 'input'"),
        ("inspect", {"input": "x"}, "line 2, field 'target'"),
        ("inspect", {"input": "x", "target": []}, "line 2, field 'target'"),
        ("inspect", {"input": "x", "target": "Z", "choices": ["a"]}, "line 2, field 'target'"),
        ("mbpp", {"task_id": 3}, "line 2, field 'task_id'"),
        ("humaneval", {}, "line 2, field 'task_id'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, format, row, words):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(BadInput, match=words):
        READERS[format](path)


MBPP = {
    "task_id": "Mbpp/1",
    "prompt": "Add one.",
    "entry_point": "inc",
    "assertion": "assert inc(1) == 2",
    "canonical_solution": "def inc(x):\n    return x + 1\n",
    "base_input": [[1]],
    "plus_input": [[5], [-3]],
}


def test_mbpp_plus_calls_the_further_inputs(tmp_path, sandbox):
    tupled = {**MBPP, "task_id": "Mbpp/2", "assertion": "assert inc((1,)) == 2"}
    odd = {**MBPP, "task_id": "Mbpp/3", "canonical_solution": "def inc(x):\n    return object()\n"}
    dropped = {**MBPP, "task_id": "Mbpp/4", "plus_input": None}
    tasks = read(tmp_path, "mbpp_plus", MBPP, tupled, odd, dropped)
    assert [task.grader for task in tasks] == ["calls", "asserts", "asserts", "asserts"]
    assert passes(tasks[0], MBPP["canonical_solution"], sandbox)
    assert not passes(tasks[0], "def inc(x):\n    return abs(x) + 1\n", sandbox)


def test_mbpp_plus_leaves_out_inputs_that_no_database_keeps(tmp_path, sandbox):
    echo = "def echo(x):\n    return x\n"
    row = {
        **{**MBPP, "entry_point": "echo", "canonical_solution": echo},
        **{"assertion": "assert echo('a') == 'a'", "base_input": [["a"]]},
        "plus_input": [["b\0"], ["c"], ["\ud800"]],
    }
    [task] = read(tmp_path, "mbpp_plus", row)
    assert task.reference["inputs"] == [["a"], ["c"]]


@pytest.mark.data
def test_public_quixbugs(public_data, sandbox):
    [path] = (public_data / "quixbugs").glob("*.jsonl")
    rows = {row["name"]: row for row in map(json.loads, path.read_text().splitlines())}
    tasks = READERS["quixbugs"](path)
    graded = [GradedTask(t.task_id, t.prompt, t.grader, t.reference) for t in tasks]
    programs = [rows[task.attributes["family"]] for task in tasks]
    correct = grade_many(graded, [row["correct"] for row in programs], sandbox)
    buggy = grade_many(graded, [row["buggy"] for row in programs], sandbox)
    assert all(grade.passed for grade in correct)
    assert not any(grade.passed for grade in buggy)
