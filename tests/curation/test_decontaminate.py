import json
import random
from uuid import UUID

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from curation.boilerplate import Templates
from curation.build import build_dataset
from curation.columns import EXAMPLES
from curation.decontaminate import (
    CONTAMINATED,
    Guard,
    Protected,
    ProtectedItem,
    Suspect,
    decontaminate,
    list_sources,
    protect,
    protected_items,
    protection_digest,
    unprotect,
)
from curation.decontaminate.reading import read
from curation.recipe import CurationRecipe
from curation.tables import Contamination, Example
from evaluator.suites import Task, add_suite, protect_suites
from flywheel.demo.language import ROLES, right_answer, sloppy_answer, tasks
from flywheel.demo.traffic import graded_task
from foundation.chat import message
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id

RECIPE = CurationRecipe()

CAR_RACE = '''
def car_race_collision(n: int):
    """
    Imagine a road that's a perfectly straight infinitely long line.
    n cars are driving left to right;  simultaneously, a different set of n cars
    are driving right to left.   The two sets of cars start out being very far from
    each other.  All cars move in the same speed.
    This function outputs the number of such collisions.
    """
'''
DECAGONAL = """Write a function to find the nth decagonal number.

assert is_num_decagonal(3) == 27
assert is_num_decagonal(7) == 175"""
BRACKETS = """def parse_groups(groups_text):
    found = []
    depth = 0
    current = []
    for sign in groups_text:
        if sign == "(":
            depth += 1
            current.append(sign)
        elif sign == ")":
            depth -= 1
            current.append(sign)
            if depth == 0:
                found.append("".join(current))
                current.clear()
    return found"""


def item(number, prompt, solution="", keys=(), source="list"):
    return ProtectedItem(UUID(int=number), source, str(number), prompt, solution, tuple(keys))


def hits(suspect, *items):
    guard = Guard([item(n, *one) for n, one in enumerate(items, start=1)])
    (found,) = guard.check([suspect if isinstance(suspect, Suspect) else Suspect(suspect)])
    return [(hit.protected_id.int, hit.method) for hit in found]


def test_a_task_is_read_apart_from_its_wrapping():
    rust = '/// Return length of given string\n/// >>> f("abc")\n/// 3\nfn f(s: String) -> u8 {'
    python = 'def f(s: str) -> int:\n    """ Return length of given string\n    >>> f("abc")\n'
    assert read(rust).statement == read(python).statement
    assert read(rust).names & read(python).names == {"f"}


def test_the_same_prompt_is_exact_and_nearly_the_same_is_near():
    assert hits(CAR_RACE.upper(), (CAR_RACE,)) == [(1, "exact")]
    assert hits(CAR_RACE.replace("outputs", "gives"), (CAR_RACE,)) == [(1, "near")]


def test_a_quoted_statement_is_found_in_a_long_text():
    filler = "Some other talk about roads. " * 300
    quoted = " ".join(CAR_RACE.split()[4:40])
    assert hits(Suspect(filler, f"{filler}{quoted} {filler}"), (CAR_RACE,)) == [(1, "ngram")]


def test_a_task_moved_to_another_language_is_found():
    rust = (
        "/// Write a rust function to find the nth decagonal number.\nfn is_num_decagonal(n: u8) {"
    )
    assert hits(rust, (DECAGONAL,)) == [(1, "ngram")]


@pytest.mark.parametrize(
    "other",
    [
        "Write a function to find the nth octagonal number.",
        "Write a function to find a number.",
        "def is_num_octagonal(n): ...",
        "",
        "\0\ud800",
    ],
)
def test_a_sibling_task_is_another_task(other):
    assert hits(other, (DECAGONAL,)) == []


def test_one_other_number_or_word_is_another_short_task():
    asked = "Return the sum of the first 12 odd natural numbers that divide the given total."
    for other in (
        asked.replace("12", "13"),
        asked.replace("odd", "even"),
        asked.replace("sum", "product"),
    ):
        assert hits(other, (asked,)) == []
    assert hits(f"Please do as this says: {asked} And be quick about it.", (asked,)) == [
        (1, "ngram")
    ]


def test_a_reworded_task_needs_a_second_witness():
    asked = (
        "Write a function rotate_matrix(m) to rotate a square matrix clockwise by a quarter turn."
    )
    other = "Turn the square matrix clockwise, a quarter each time, in rotate_matrix(m)."
    assert hits(other, (asked,)) == [(1, "rephrased")]
    assert hits(other.replace("rotate_matrix", "spin"), (asked,)) == []
    with_example = (
        asked.replace("rotate_matrix(m)", "it") + "\nassert f([[1,2],[3,4]])==[[3,1],[4,2]]"
    )
    with_example += "\nassert f([[5,6],[7,8]])==[[7,5],[8,6]]"
    tested = other.replace("rotate_matrix(m)", "it") + "\n" + with_example.partition("\n")[2]
    assert hits(tested, (with_example,)) == [(1, "rephrased")]


def test_a_solution_is_found_under_other_names():
    renamed = BRACKETS
    for old, new in (
        ("parse_groups", "f"),
        ("groups_text", "s"),
        ("found", "out"),
        ("depth", "k"),
        ("current", "buf"),
        ("sign", "c"),
    ):
        renamed = renamed.replace(old, new)
    renamed = "# mine\n" + renamed.replace("    ", "  ").replace('"(" :', '"(":')
    task = ("Split it.", BRACKETS)
    assert hits(Suspect("Do it.", renamed), task) == [(1, "identifier")]
    assert (
        hits(Suspect("Do it.", renamed.replace("+= 1", "*= 2").replace("append", "add")), task)
        == []
    )
    assert hits(Suspect("", "def f(a):\n    return a"), ("Add.", "def g(b):\n    return b")) == []


def test_what_every_task_of_a_list_says_is_no_evidence():
    ask = "Complete this function and answer with the whole function in one code block, please."
    suite = [(f"{ask}\n\n{' '.join(f'topic{n}{k}' for k in range(9))}",) for n in range(40)]
    assert hits(f"{ask}\n\nSomething else entirely that nobody asked before.", *suite) == []
    assert hits("topic70 topic71 topic72 topic73 topic74 topic75 topic76 topic77 topic78", *suite)


def test_a_roles_template_is_no_evidence():
    shared = " ".join(f"rule{n} says" for n in range(60))
    task = item(1, f"{shared} own words of the task stand here at its end alone")
    honest = Suspect(f"{shared} another thing is asked for")
    assert Guard([task]).check([honest]) != [[]]
    assert Guard([task], Templates((shared,))).check([honest]) == [[]]


@pytest.mark.parametrize(
    ("suspect", "is_found"),
    [
        (Suspect("a", "b", frozenset({"django__django-11099"})), True),
        (Suspect("Mend django__django-11099 now."), True),
        (Suspect("Clone github.com/Django/Django first."), True),
        (Suspect("Mend xdjango__django-110992 now."), False),
        (Suspect("a", "b", frozenset({"k7"})), True),
        (Suspect("k7 is short"), False),
        (Suspect("django is a word"), False),
    ],
)
def test_keys_block_by_name(suspect, is_found):
    found = hits(suspect, ("", "", ("django__django-11099", "django/django", "k7", " ")))
    assert found == ([(1, "key")] if is_found else [])


def test_scripts_without_blanks_are_compared():
    asked = (
        "请写一个函数，找出列表中所有素数并按照从大到小的顺序返回它们的平方和，注意负数要忽略不计。"
    )
    assert hits(f"题目：{asked}谢谢", (asked,)) == [(1, "near")]
    assert hits("请写一个函数，返回列表的长度。", (asked,)) == []


def test_nothing_repeats_nothing():
    assert Guard([]).check([Suspect("a"), Suspect("")]) == [[], []]
    assert Guard([item(1, "")]).check([Suspect("")]) == [[]]
    assert Guard([item(1, DECAGONAL)]).check([]) == []


@pytest.mark.parametrize(
    "piece",
    [
        '"',
        "'''",
        "/*",
        "def def ",
        "fn  ",
        "a",
        "((",
        "`",
        "from ",
        "#",
        "not ",
        "find nth ",
        "\n>>> f(",
    ],
)
def test_hostile_and_huge_texts_are_read_in_one_pass(piece):
    huge = piece * (300_000 // len(piece))
    assert hits(Suspect(huge, huge), (DECAGONAL, BRACKETS), (CAR_RACE,)) == []


def test_a_task_is_found_in_ten_megabytes():
    huge = "lorem ipsum dolor sit amet " * 185_000
    assert hits(Suspect(huge + DECAGONAL + huge), (DECAGONAL,)) == [(1, "ngram")]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("n_held_out", [5, 150])
def test_the_demos_tasks_do_not_repeat_its_held_out_ones(role, n_held_out):
    held_out, rng = tasks(role, "held_out", n_held_out, 7), random.Random(1)
    guard = Guard(
        [
            item(n, task.prompt, json.dumps(graded_task(task).reference), source="suite:demo@1")
            for n, task in enumerate(held_out, start=1)
        ]
    )
    train = tasks(role, "train", 400, 3)
    answered = [Suspect(task.prompt, right_answer(task, rng)) for task in train]
    answered += [Suspect(task.prompt, sloppy_answer(task, rng)) for task in train]
    assert [found for found in guard.check(answered) if found] == []
    asked_again = guard.check([Suspect(task.prompt) for task in held_out])
    assert all(asked_again)


@pytest.fixture
def example(session):
    def make(asked=DECAGONAL, answer="ok", text_id=None, **columns):
        row = Example(
            **{
                "role": "coder",
                "interaction_id": new_id(),
                "prompt": [message("user", asked)],
                "answer": answer,
                "norm_hash": "",
                "text_id": text_id,
                "cluster_id": None,
                **columns,
            }
        )
        row.cluster_id = row.cluster_id or row.id
        session.add(row)
        session.flush()
        return row.id

    return make


def status(session, example_id):
    session.expire_all()
    row = session.get(Example, example_id)
    return row.status, row.drop_reason


def test_a_repeat_is_dropped_with_its_evidence(session, example):
    protect(session, "list", [Protected("d", DECAGONAL), Protected("c", CAR_RACE)])
    bad, good = example(), example("Write a haiku about the sea.")
    done = decontaminate(session, "coder", RECIPE)
    assert (done.n_checked, done.n_blocked, done.by_method) == (2, 1, {"exact": 1})
    assert status(session, bad) == ("dropped", CONTAMINATED)
    assert status(session, good) == ("kept", None)
    (row,) = session.execute(select(Contamination)).scalars()
    assert (row.example_id, row.method, row.similarity) == (bad, "exact", 1.0)
    assert session.get(Example, bad).needs_settling
    assert list_sources(session)[0].n_blocked == 1


def test_what_a_quota_left_out_is_checked_too_for_a_wider_one_takes_it_back(session, example):
    left_out = example(status="dropped", drop_reason="over_quota")
    protect(session, "list", [Protected("1", DECAGONAL)])
    assert decontaminate(session, "coder", RECIPE).n_blocked == 1
    assert status(session, left_out) == ("dropped", CONTAMINATED)


def test_an_example_is_checked_once_and_later_lists_alone_after(session, example):
    protect(session, "one", [Protected("c", CAR_RACE)])
    first = example()
    assert decontaminate(session, "coder", RECIPE).n_checked == 1
    assert decontaminate(session, "coder", RECIPE).n_checked == 0
    before = protection_digest(session)
    second = example("Another prompt.")
    assert decontaminate(session, "coder", RECIPE).n_checked == 1
    assert protect(session, "two", [Protected("d", DECAGONAL)]) == 1
    assert protection_digest(session) != before
    done = decontaminate(session, "coder", RECIPE)
    assert (done.n_checked, done.n_blocked) == (2, 1)
    assert status(session, first) == ("dropped", CONTAMINATED)
    assert status(session, second) == ("kept", None)
    assert decontaminate(session, "coder", RECIPE).n_checked == 0


def test_copies_and_near_copies_go_with_it(session, example):
    protect(session, "list", [Protected("d", DECAGONAL)])
    kept = example(text_id=1)
    copies = [
        example(text_id=1, status="dropped", drop_reason="exact_duplicate", cluster_id=kept)
        for _ in range(3)
    ]
    near = example(
        f"{DECAGONAL} Thanks!",
        text_id=2,
        status="dropped",
        drop_reason="near_duplicate",
        cluster_id=kept,
    )
    other = example(
        "Honest.", text_id=3, status="dropped", drop_reason="near_duplicate", cluster_id=kept
    )
    failed = example(text_id=1, status="dropped", drop_reason="failed")
    assert decontaminate(session, "coder", RECIPE).n_blocked == 5
    for blocked in (kept, *copies, near):
        assert status(session, blocked) == ("dropped", CONTAMINATED)
    assert status(session, other) == ("dropped", "near_duplicate")
    assert status(session, failed) == ("dropped", "failed")
    assert len(session.execute(select(Contamination)).all()) == 5


def test_what_only_a_removed_list_blocked_is_open_again(session, example):
    protect(session, "one", [Protected("d", DECAGONAL)])
    blocked = example()
    decontaminate(session, "coder", RECIPE)
    assert unprotect(session, "one") == 1
    assert status(session, blocked) == ("dropped", None)
    assert session.get(Example, blocked).needs_settling
    assert session.execute(select(Contamination)).all() == []
    with pytest.raises(NotFound, match="none yet"):
        unprotect(session, "one")


def test_an_example_brought_back_by_a_judgement_is_checked_again(session, example):
    protect(session, "list", [Protected("d", DECAGONAL)])
    blocked = example()
    decontaminate(session, "coder", RECIPE)
    stamp = protection_digest(session)
    session.execute(
        update(EXAMPLES).where(EXAMPLES.c.id == blocked)
        .values(status="kept", drop_reason=None, protection=stamp)
    )  # fmt: skip
    assert decontaminate(session, "coder", RECIPE).n_blocked == 1
    assert status(session, blocked) == ("dropped", CONTAMINATED)


def test_answers_histories_and_tool_calls_are_read(session, example):
    protect(session, "list", [Protected("d", "Split it.", BRACKETS, ("k-77/a",))])
    call = {"function": {"name": "write", "arguments": json.dumps({"code": BRACKETS})}}
    blocked = [
        example("Do it.", BRACKETS),
        example("Do it.", "", answer_message={"role": "assistant", "tool_calls": [call]}),
        example("Go on.", prompt=[message("tool", BRACKETS), message("user", "Go on.")]),
        example("Go on.", split_key="task:k-77/a"),
    ]
    kept = example("Do it.", prompt=[message("system", BRACKETS), message("user", "Do it.")])
    done = decontaminate(session, "coder", RECIPE)
    assert done.by_method == {"identifier": 3, "key": 1}
    for one in blocked:
        assert status(session, one) == ("dropped", CONTAMINATED)
    assert status(session, kept) == ("kept", None)


def test_other_roles_and_recipes_without_it_are_left_alone(session, example):
    protect(session, "list", [Protected("d", DECAGONAL)])
    tester = example(role="tester")
    assert decontaminate(session, "coder", RECIPE).n_checked == 0
    without = CurationRecipe(decontaminate=False)
    assert decontaminate(session, "tester", without).n_checked == 0
    assert status(session, tester) == ("kept", None)


def test_protecting_the_same_again_changes_nothing(session):
    items = [Protected("a", "Text\0 one", "x", ("k",)), Protected("b", "Text two")]
    assert protect(session, "list", items) == 2
    before = protection_digest(session)
    assert protect(session, "list", reversed(items)) == 0
    assert protection_digest(session) == before
    assert protect(session, "list", items[:1]) == 0
    assert [one.item_id for one in protected_items(session)] == ["a"]
    assert protection_digest(session) != before
    with pytest.raises(BadInput, match="twice"):
        protect(session, "list", [items[0], items[0]])
    with pytest.raises(BadInput, match="name"):
        protect(session, " ", items)


def test_a_suite_is_protected_when_it_is_stored(session, example):
    task = Task(
        "HumanEval/900",
        [message("user", DECAGONAL)],
        "asserts",
        {"entry_point": "f", "test": "assert f(1) == 2"},
        {"repo": "own/name", "difficulty": "easy"},
    )
    add_suite(session, "nums", "coder", [task])
    add_suite(session, "nums", "coder", [task])
    (source,) = list_sources(session)
    assert (source.name, source.n_items) == ("suite:nums@1", 1)
    (stored,) = protected_items(session)
    assert stored.keys == ("HumanEval/900", "own/name")
    assert "assert f(1) == 2" in stored.solution
    blocked = example()
    assert decontaminate(session, "coder", RECIPE).n_blocked == 1
    unprotect(session, "suite:nums@1")
    assert protect_suites(session) == 1
    assert protect_suites(session) == 0
    session.execute(update(EXAMPLES).where(col(Example.id) == blocked).values(status="kept"))
    assert decontaminate(session, "coder", RECIPE).n_blocked == 1


def test_a_build_leaves_out_what_a_suite_asks_and_takes_it_back(session, log):
    add_suite(session, "nums", "coder", [Task("n/1", [message("user", DECAGONAL)], "asserts", {})])
    session.commit()
    rng = random.Random(2)
    for task in tasks("coder", "train", 12, 3):
        log.call(task.prompt, right_answer(task, rng), passed=True, task_key=task.key)
    answer = "def is_num_decagonal(n):\n    return 4 * n * n - 3 * n"
    leaked = [log.call(DECAGONAL, answer, passed=True) for _ in range(3)]
    leaked.append(log.call(f"{DECAGONAL}\nassert is_num_decagonal(10) == 370", answer, passed=True))
    first = build_dataset("coder")
    assert first.n_train + first.n_validation + first.n_test == 12
    rows = session.execute(
        select(Example.drop_reason).where(col(Example.interaction_id).in_(leaked))
    )
    assert rows.scalars().all() == [CONTAMINATED] * 4
    unprotect(session, "suite:nums@1")
    session.commit()
    log.call("Write a haiku about the sea, and one about the hills.", "Waves\nHills", passed=True)
    second = build_dataset("coder")
    assert second.n_train + second.n_validation + second.n_test >= 14
