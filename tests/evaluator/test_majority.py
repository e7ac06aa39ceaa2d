"""Which of several answers most agree on, by what they say and by what their code does."""

from collections.abc import Iterator

import pytest

from evaluator.majority import by_execution, by_text, elect, examples_of, meaning
from evaluator.sandbox import Sandbox

QUESTION = """Write `mid(values)`: the middle one of sorted values, the lower of two.

    >>> mid([3, 1, 2])
    2
    >>> mid([4, 1, 3, 2])
    2
"""

SORTED = "```python\ndef mid(values):\n    return sorted(values)[(len(values) - 1) // 2]\n```"
ALSO_SORTED = "def mid(xs):\n    xs = list(xs)\n    xs.sort()\n    return xs[(len(xs) - 1) // 2]"
UPPER = "```python\ndef mid(v):\n    return sorted(v)[len(v) // 2]\n```"
HANGS = "def mid(v):\n    while True:\n        pass"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=1) as running:
        yield running


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a": 1, "b": [2]}', '{ "b":[2],"a":1 }', True),
        ("```python\nx = 1  # one\n```", "x   =   1", True),
        ("Yes.", "  yes. ", True),
        ("Yes.", "No.", False),
        ("```python\nx = 1\n```", "```python\nx = 2\n```", False),
        ("(" * 5000, "(" * 5001, False),
        ("", "", True),
    ],
)
def test_answers_that_mean_the_same_are_equal(one, other, same):
    assert (meaning(one) == meaning(other)) is same


def test_the_most_votes_win_and_of_equals_the_earlier():
    won = by_text(["4", "5", " 5 ", None])
    assert won is not None
    assert (won.index, won.votes, won.n) == (1, 2, 3)
    won = by_text(["4", "5"])
    assert won is not None
    assert won.index == 0
    assert by_text([None, None]) is None
    assert by_text([]) is None
    ranked = elect(["a", "a", "b"], [0, 0, 1])
    assert ranked is not None
    assert (ranked.index, ranked.votes) == (2, 1)


def test_examples_are_read_off_doctests_and_asserts():
    found = examples_of(QUESTION + "\nassert mid([7]) == 7\nassert mid(values) == 1\n")
    assert found.entry_point == "mid"
    assert found.inputs == (([3, 1, 2],), ([4, 1, 3, 2],), ([7],))
    assert found.expected == {0: 2, 1: 2, 2: 7}
    assert examples_of("Say hello.").entry_point == ""
    assert examples_of(">>> f(open('x'))\n1\n>>> f(a=1)\n").entry_point == ""
    assert examples_of(">>>not a doctest\nassert (").entry_point == ""


def test_code_that_behaves_alike_is_one_vote_however_it_is_written(sandbox):
    won = by_execution(QUESTION, [UPPER, SORTED, None, ALSO_SORTED], sandbox)
    assert won is not None
    assert (won.index, won.votes, won.n) == (1, 2, 3)
    assert "2 of 2 examples" in won.reason


def test_what_the_question_expects_comes_before_agreement(sandbox):
    won = by_execution(QUESTION, [UPPER, UPPER, SORTED], sandbox)
    assert won is not None
    assert (won.index, won.votes) == (2, 1)


def test_code_that_hangs_or_is_none_does_not_count(sandbox):
    won = by_execution(QUESTION, [HANGS, "I cannot.", SORTED], sandbox)
    assert won is not None
    assert (won.index, won.n) == (2, 1)


def test_a_question_without_examples_is_voted_on_by_text(sandbox):
    won = by_execution("Is it so?", ["no", "yes", "Yes"], sandbox)
    assert won is not None
    assert won.index == 1
    won = by_execution(QUESTION, ["I cannot.", "i  cannot."], sandbox)
    assert won is not None
    assert won.votes == 2
