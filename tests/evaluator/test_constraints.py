"""Answers that must keep rules."""

import pytest

from evaluator.graders import GradedTask
from evaluator.graders.constraints import RULES, broken_rules, grade_many
from evaluator.sandbox import Status
from foundation.errors import BadInput

CASES = [
    ({"kind": "words", "min": 3, "max": 3}, "one two-fold it's", "one two"),
    ({"kind": "sentences", "min": 2, "max": 2}, "One. Two!", "One, two!"),
    ({"kind": "lines", "max": 2}, "a\n\nb", "a\nb\nc"),
    ({"kind": "characters", "max": 3}, "abc", "abcd"),
    ({"kind": "no_letters", "letters": "e"}, "dull day", "Every day"),
    ({"kind": "no_words", "words": ["the"]}, "then", "The end"),
    ({"kind": "has", "words": ["sea"], "times": 2}, "Sea, sea.", "seas sea"),
    ({"kind": "order", "words": ["a", "b"]}, "a or b", "b or a"),
    ({"kind": "order", "words": ["a", "b"]}, "a b a", "a"),
    ({"kind": "count", "text": "!", "times": 1}, "ho!", "ho!!"),
    ({"kind": "case", "case": "upper"}, "HO 3!", "Ho"),
    ({"kind": "case", "case": "lower"}, "ho", "hO"),
    ({"kind": "starts", "text": "Dear"}, " Dear you", "My dear"),
    ({"kind": "ends", "text": "?"}, "why?\n", "why? x"),
    ({"kind": "acrostic", "text": "no"}, "New\n\n old", "old\nnew"),
    ({"kind": "each_line", "pattern": r"- \w+"}, "- a\n- b", "- a\nb"),
    ({"kind": "sorted_lines"}, "apple\nBall", "b\na"),
    ({"kind": "distinct_words"}, "a b", "a b A"),
    ({"kind": "word_length", "max": 3}, "one two", "three"),
]


@pytest.mark.parametrize(("rule", "kept", "broken"), CASES)
def test_a_rule_tells_what_keeps_it_from_what_does_not(rule, kept, broken):
    assert broken_rules([rule], kept) == []
    assert broken_rules([rule], broken) == [rule]


def test_every_kind_of_rule_is_tested():
    assert {rule["kind"] for rule, _, _ in CASES} == set(RULES)


def grade(rules, answer):
    return grade_many([GradedTask("t", [], "constraints", {"rules": rules})], [answer], None)[0]


def test_the_score_is_the_share_of_rules_kept():
    made = grade([CASES[0][0], CASES[4][0]], "a dull day to us")
    assert (made.passed, made.score) == (False, 0.5)
    assert made.detail == "breaks words (min 3, max 3)"


def test_a_fence_is_taken_off_and_a_flood_keeps_nothing():
    assert grade([{"kind": "words", "max": 2}], "```text\ntwo words\n```").passed
    assert grade([{"kind": "words", "min": 2}], "word " * 100_000).score == 0
    assert grade([{"kind": "words", "min": 2}], "").status is Status.LOST


@pytest.mark.parametrize(
    "rules", [None, [], ["words"], [{"kind": "rhyme"}], [{"kind": "has"}], [{"kind": "case"}]]
)
def test_a_task_without_good_rules_is_refused(rules):
    with pytest.raises(BadInput, match="rule"):
        grade(rules, "an answer")
