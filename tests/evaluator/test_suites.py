import gzip
from dataclasses import replace

import pytest

from evaluator.suites import (
    Task,
    add_suite,
    content_hash,
    list_suites,
    load_suite,
    read_tasks,
    tasks_of,
    write_tasks,
)
from foundation.errors import BadInput, NotFound

TASKS = [
    Task(
        f"t{i}",
        [{"role": "user", "content": f"Add {i} – please"}],
        "exact",
        {"answer": i},
        {"difficulty": "easy"},
    )
    for i in range(3)
]


def test_the_hash_ignores_order_and_sees_every_field():
    assert content_hash(TASKS) == content_hash(reversed(TASKS))
    changes = [
        replace(TASKS[0], task_id="other"),
        replace(TASKS[0], prompt=[]),
        replace(TASKS[0], grader="other"),
        replace(TASKS[0], reference={"answer": 0.5}),
        replace(TASKS[0], attributes={}),
    ]
    hashes = {content_hash([changed, *TASKS[1:]]) for changed in changes}
    assert len(hashes | {content_hash(TASKS)}) == 6


def test_a_new_version_only_when_the_content_differs(session):
    first = add_suite(session, "sums", "coder", TASKS, "made here")
    assert (first.version, first.n_tasks) == (1, 3)
    assert add_suite(session, "sums", "coder", reversed(TASKS)).id == first.id
    second = add_suite(session, "sums", "coder", TASKS[:2])
    assert second.version == 2
    assert load_suite(session, "sums").id == second.id
    assert load_suite(session, "sums@1").id == first.id
    assert [(s.name, s.version) for s in list_suites(session)] == [("sums", 1), ("sums", 2)]


def test_stored_tasks_are_the_given_ones_in_order(session):
    suite = add_suite(session, "sums", "coder", TASKS)
    session.commit()
    session.expire_all()
    stored = tasks_of(session, suite)
    assert [task.task_id for task in stored] == ["t0", "t1", "t2"]
    assert content_hash(stored) == content_hash(TASKS) == suite.content_hash


@pytest.mark.parametrize("ref", ["nothing", "sums@9", "sums@x", "sums@"])
def test_an_unknown_suite_names_those_that_exist(session, ref):
    add_suite(session, "sums", "coder", TASKS)
    if ref == "sums@":
        assert load_suite(session, ref).version == 1
        return
    with pytest.raises(NotFound, match=r"sums@1.*Add one"):
        load_suite(session, ref)


def test_bad_suites_are_refused(session):
    with pytest.raises(BadInput, match="at least one task"):
        add_suite(session, "empty", "coder", [])
    with pytest.raises(BadInput, match="distinct task ids"):
        add_suite(session, "twice", "coder", [TASKS[0], TASKS[0]])
    with pytest.raises(BadInput, match="without '@'"):
        add_suite(session, "a@1", "coder", TASKS)
    with pytest.raises(BadInput, match="plain JSON"):
        add_suite(session, "nan", "coder", [replace(TASKS[0], reference={"x": float("nan")})])
    assert list_suites(session) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_id": " "}, "task id: got ' '"),
        ({"prompt": []}, "task t0: prompt: .*at least one message"),
        ({"prompt": ["hi"]}, "task t0: prompt: .*at least one message"),
        ({"grader": "magic"}, "task t0: grader: got 'magic', expected one of .*'exact'"),
        ({"prompt": [{"role": "user", "content": "a\0b"}]}, "task t0: .*without NUL"),
        ({"reference": {"answer": ["\ud800"]}}, "task t0: .*halves of surrogate pairs"),
        ({"attributes": {"a\0b": 1}}, "task t0: .*without NUL"),
    ],
)
def test_a_task_that_cannot_be_asked_graded_or_stored_is_refused(session, changes, message):
    with pytest.raises(BadInput, match=message):
        add_suite(session, "odd", "coder", [replace(TASKS[0], **changes), *TASKS[1:]])
    assert list_suites(session) == []


def test_jsonl_round_trip_plain_and_gzipped(tmp_path):
    path = tmp_path / "suite.jsonl"
    assert write_tasks(path, TASKS) == 3
    assert read_tasks(path) == TASKS
    zipped = tmp_path / "suite.jsonl.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert read_tasks(zipped) == TASKS


def test_a_text_prompt_becomes_a_user_message(tmp_path):
    path = tmp_path / "suite.jsonl"
    path.write_text('\n{"task_id": "a", "prompt": "hi", "grader": "exact", "reference": {}}\n')
    assert read_tasks(path) == [Task("a", [{"role": "user", "content": "hi"}], "exact", {}, {})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"task_id": "a", ', "line 2: got .*expected one JSON object"),
        (b"[1, 2]", "line 2: .*one JSON object"),
        (b"\xff\xfe", "line 2: .*one JSON object in UTF-8"),
        (b"[" * 200_000, "line 2: .*one JSON object"),
        (b'{"a": ' + b"1" * 5000 + b"}", "line 2: .*one JSON object"),
        (
            b'{"task_id": 7, "prompt": "x", "grader": "g", "reference": {}}',
            "line 2, field 'task_id'",
        ),
        (b'{"task_id": "b", "prompt": "x", "grader": "g"}', "line 2, field 'reference'"),
    ],
)
def test_a_malformed_line_is_named_by_its_number(tmp_path, line, message):
    path = tmp_path / "suite.jsonl"
    good = b'{"task_id": "a", "prompt": "x", "grader": "g", "reference": {}}\n'
    path.write_bytes(good + line + b"\n")
    with pytest.raises(BadInput, match=message):
        read_tasks(path)


def test_missing_and_cut_files_are_clear(tmp_path):
    with pytest.raises(NotFound, match="Check the path"):
        read_tasks(tmp_path / "none.jsonl")
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(b'{"task_id": "a"}\n' * 1000)[:-12])
    with pytest.raises(BadInput):
        read_tasks(cut)
