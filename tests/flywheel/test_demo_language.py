"""The demo's task family: truth against execution, leakage, planted bugs, determinism."""

import random
from itertools import pairwise

import pytest

from flywheel.demo.language import (
    INPUTS,
    PARTS,
    ROLES,
    DemoTask,
    Meaning,
    agree,
    draw_meaning,
    expert_answer,
    function_code,
    is_held_out,
    make_task,
    misreadings,
    near_duplicate,
    paraphrase,
    random_inputs,
    right_answer,
    sloppy_answer,
    tasks,
    verdict_of,
)
from flywheel.demo.pretraining_data import PretrainingMix, documents, source_pieces


def _values(code: str, name: str) -> list[object]:
    """What a function of ours returns for each fixed list."""
    names: dict[str, object] = {}
    exec(code, names)
    function = names[name]
    assert callable(function)
    return [function(list(items)) for items in INPUTS]


def _passes(test: str, task: DemoTask, function: str) -> bool:
    names: dict[str, object] = {}
    exec(f"{function}\n{test}", names)
    check = names[task.test_name]
    assert callable(check)
    try:
        for items in task.inputs:
            check(list(items))
    except AssertionError:
        return False
    return True


def _is_right(task: DemoTask, answer: str) -> bool:
    if task.role == "coder":
        return _values(answer, task.entry_point) == _values(task.subject, task.entry_point)
    if task.role == "tester":
        return _passes(answer, task, task.subject) and not any(
            _passes(answer, task, wrong.code) for wrong in task.wrong
        )
    return verdict_of(answer) == task.verdict


def test_rendered_code_computes_the_meaning() -> None:
    for task in tasks("coder", "train", 300, seed=0):
        assert _values(task.reference, task.entry_point) == [task.meaning.value(i) for i in INPUTS]


def test_rendered_code_computes_the_meaning_on_fresh_lists() -> None:
    lists = random_inputs(random.Random(0))
    for task in tasks("coder", "held_out", 50, seed=1):
        names: dict[str, object] = {}
        exec(task.reference, names)
        function = names[task.entry_point]
        assert callable(function)
        assert [function(list(i)) for i in lists] == [task.meaning.value(i) for i in lists]


@pytest.mark.parametrize("role", ROLES)
def test_right_answers_are_right_and_sloppy_ones_wrong(role: str) -> None:
    rng = random.Random(0)
    for task in tasks(role, "held_out", 100, seed=0):
        assert _is_right(task, task.reference)
        assert _is_right(task, right_answer(task, rng))
        assert not _is_right(task, sloppy_answer(task, rng)), task


@pytest.mark.parametrize("role", ["coder", "tester"])
def test_planted_functions_are_wrong_and_cover_a_part_or_more(role: str) -> None:
    for task in tasks(role, "train", 100, seed=3):
        assert len(task.wrong) >= 3
        assert {wrong.part for wrong in task.wrong} <= set(PARTS)
        right = _values(task.subject, task.entry_point)
        for wrong in task.wrong:
            assert _values(wrong.code, task.entry_point) != right or wrong.part == "aggregate"


def test_reviews_name_the_planted_part_and_are_balanced() -> None:
    drawn = tasks("reviewer", "held_out", 400, seed=0)
    verdicts = [task.verdict for task in drawn]
    for verdict in ("correct", *(f"wrong: {part}" for part in PARTS)):
        assert verdicts.count(verdict) > 40, verdict
    for task in drawn:
        assert (task.verdict == "correct") == (not task.wrong)
        assert (task.verdict == "correct") == agree(task.shown, task.meaning)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Meaning("sum", "same", 0, "above", 4), Meaning("sum", "same", 0, "at_least", 5)),
        (Meaning("sum", "same", 0, "below", 4), Meaning("sum", "same", 0, "at_most", 3)),
        (Meaning("sum", "same", 0, "even", 0), Meaning("sum", "same", 0, "multiple", 2)),
    ],
)
def test_equal_filters_share_a_key(one: Meaning, other: Meaning) -> None:
    assert one.key == other.key
    assert agree(one, other)


def test_splits_share_no_key_and_no_prompt() -> None:
    train = {task.key for role in ROLES for task in tasks(role, "train", 500, seed=0)}
    held_out = {task.key for role in ROLES for task in tasks(role, "held_out", 500, seed=0)}
    assert not train & held_out
    read = {chat[0]["content"] for chat in documents(PretrainingMix(), 3000)}
    asked = {t.prompt for role in ROLES for t in tasks(role, "held_out", 500, seed=0)}
    assert not read & asked


def test_about_a_tenth_is_held_out() -> None:
    rng = random.Random(0)
    share = sum(is_held_out(draw_meaning(rng).key) for _ in range(4000)) / 4000
    assert 0.08 < share < 0.12


def test_tasks_are_deterministic_distinct_and_grow_by_appending() -> None:
    few, many = tasks("tester", "train", 50, seed=5), tasks("tester", "train", 80, seed=5)
    assert many[:50] == few
    assert len({task.key for task in many}) == 80
    assert tasks("tester", "train", 50, seed=6) != few
    assert tasks("coder", "train", 0, seed=0) == []


def test_unknown_role_and_split_are_refused() -> None:
    with pytest.raises(ValueError, match="'plumber'"):
        tasks("plumber", "train", 1, seed=0)
    with pytest.raises(ValueError, match="'test'"):
        tasks("coder", "test", 1, seed=0)


@pytest.mark.parametrize("role", ROLES)
def test_paraphrases_and_near_duplicates_keep_the_meaning(role: str) -> None:
    rng = random.Random(1)
    for task in tasks(role, "train", 20, seed=0):
        again, nearly = paraphrase(task, rng), near_duplicate(task, rng)
        assert again.key == task.key == nearly.key
        assert nearly.prompt != task.prompt
        assert _is_right(nearly, task.reference)


def test_expert_is_right_at_its_accuracy() -> None:
    rng = random.Random(0)
    drawn = tasks("coder", "train", 300, seed=0)
    right = sum(_is_right(task, expert_answer(task, rng, accuracy=0.8)) for task in drawn) / 300
    assert 0.73 < right < 0.87


def test_every_meaning_can_be_misread() -> None:
    rng = random.Random(2)
    for _ in range(300):
        meaning = draw_meaning(rng)
        assert any(misreadings(meaning, part) for part in PARTS), meaning


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("map: x | x | same\ncorrect", "correct"),
        ("wrong: filter\n", "wrong: filter"),
        ("wrong: everything", None),
        ("it is correct", None),
        ("", None),
    ],
)
def test_verdict_is_the_last_line(answer: str, verdict: str | None) -> None:
    assert verdict_of(answer) == verdict


def test_base_data_is_deterministic_and_as_sloppy_as_stated() -> None:
    mix = PretrainingMix(role_shares={"coder": 1.0}, source_share=0.0)
    chats = list(documents(mix, 300))
    assert chats == list(documents(mix, 300))
    assert all([m["role"] for m in chat] == ["user", "assistant"] for chat in chats)
    with pytest.raises(ValueError, match="sum to 1"):
        PretrainingMix(role_shares={"coder": 0.5})


def test_source_pieces_are_ordered_and_short() -> None:
    pieces = source_pieces()
    assert len(pieces) > 10
    assert all(0 < len(piece) <= 300 for piece in pieces)
    assert pieces == source_pieces()


def test_role_is_checked_when_a_task_is_made() -> None:
    task = tasks("coder", "train", 1, seed=0)[0]
    with pytest.raises(ValueError, match="no demo tasks"):
        make_task("judge", task.meaning, task.style, random.Random(0))
    assert function_code(task.meaning, task.style) == task.reference
    assert all(small != large for small, large in pairwise(INPUTS))
