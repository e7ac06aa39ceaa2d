"""A team's own rules: what they may do to a row, and what they may not do to a build."""

import pytest
from attempts import attempt, said

from curation.recipe import CurationRecipe
from curation.score.assess import assess, load_basis
from curation.score.rules import _say_once, load_rules
from foundation.errors import BadInput

RULES = """
def no_swearing(attempt):
    return "swearing" if "damn" in attempt.answer else None

def throws(attempt):
    return 1 / (len(attempt.answer) - 4)

def wordy(attempt):
    return "word " * 100

not_a_function = 3
"""


@pytest.fixture
def house_rules(tmp_path, monkeypatch):
    (tmp_path / "house_rules.py").write_text(RULES)
    (tmp_path / "broken_rules.py").write_text("raise RuntimeError('no')")
    monkeypatch.syspath_prepend(str(tmp_path))


def judged(session, rule, answer, *, variant="default"):
    recipe = CurationRecipe(extra_rules=(f"house_rules:{rule}",), variant=variant)
    basis = load_basis(session, "coder", recipe, [])
    return assess(attempt(answer), [said("success", 1)], recipe, basis)


def test_a_rule_drops_with_its_own_reason(session, house_rules):
    assert judged(session, "no_swearing", "damn it all").drop_reason == "swearing"
    found = judged(session, "no_swearing", "all is well")
    assert (found.drop_reason, found.polarity) == (None, "positive")
    assert judged(session, "no_swearing", "damn it", variant="unverified").drop_reason == "swearing"


def test_a_rule_that_throws_costs_its_row_and_no_other(session, house_rules):
    assert judged(session, "throws", "four").drop_reason == "rule_error:throws"
    assert judged(session, "throws", "and more").drop_reason == "rule_error:throws", "no reason"
    assert len(judged(session, "wordy", "any thing").drop_reason) <= 80


def test_what_a_rule_threw_is_logged_once(session, house_rules, caplog):
    _say_once.cache_clear()
    for _ in range(3):
        judged(session, "throws", "four")
    assert caplog.messages == [
        "the rule house_rules:throws threw ZeroDivisionError: division by zero"
    ]


def test_form_is_looked_at_first(session, house_rules):
    assert judged(session, "throws", "").drop_reason == "empty_answer"


@pytest.mark.parametrize(
    "name",
    [
        *("house_rules:missing", "house_rules:not_a_function", "no_such_module:f"),
        *("broken_rules:f", "house_rules", ":f", "os:_exit"),
    ],
)
def test_a_rule_that_does_not_load_is_said_before_anything_is_judged(house_rules, name):
    with pytest.raises(BadInput, match="extra_rules"):
        load_rules([name])
