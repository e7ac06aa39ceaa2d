"""Agreement beyond chance, against published examples and scikit-learn; the page's data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_rows import item as add_item
from review_rows import items, pair
from sklearn.metrics import cohen_kappa_score

from curation.review.agreement import (
    INTERVAL,
    NOMINAL,
    ORDINAL,
    agreement,
    cohens_kappa,
    krippendorffs_alpha,
)
from curation.review.labels import label
from curation.review.said import is_swapped

NONE = None
FOUR_OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
    [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
]
"""Krippendorff (2011), section C: twelve units, some values missing."""

UNITS = [[v for v in unit if v is not NONE] for unit in zip(*FOUR_OBSERVERS, strict=True)]


@pytest.mark.parametrize(
    ("level", "alpha"), [(NOMINAL, 0.743), (ORDINAL, 0.815), (INTERVAL, 0.849)]
)
def test_alpha_of_the_published_example(level, alpha):
    assert krippendorffs_alpha(UNITS, level) == pytest.approx(alpha, abs=0.0005)


def test_alpha_of_the_published_binary_example():
    """Krippendorff (2011), section A."""
    one = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    other = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert krippendorffs_alpha(zip(one, other, strict=True)) == pytest.approx(0.095, abs=0.0005)


def test_alpha_of_the_published_nominal_example():
    """Krippendorff (2011), section B."""
    ben, gerry = "aabbdcccedda", "babbbccceddd"
    assert krippendorffs_alpha(zip(ben, gerry, strict=True)) == pytest.approx(0.692, abs=0.0005)


def test_kappa_of_the_textbook_example():
    """Fifty proposals read by two people: 20 both yes, 15 both no, 5 and 10 apart; kappa 0.4."""
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohens_kappa(one, other) == pytest.approx(0.4)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=40))
def test_kappa_is_scikit_learns(said):
    one, other = [a for a, _ in said], [b for _, b in said]
    own = cohens_kappa(one, other)
    if own is None:
        assert set(one) == set(other) == {one[0]}
    else:
        assert own == pytest.approx(float(cohen_kappa_score(one, other)), abs=1e-12)


@pytest.mark.parametrize("units", [[], [[1]], [[1, 1], [1, 1]], [[1], [2]]])
def test_alpha_is_not_defined_without_pairs_or_difference(units):
    assert krippendorffs_alpha(units) is None


def test_perfect_agreement_is_one():
    assert krippendorffs_alpha([[1, 1], [2, 2], [3, 3]], ORDINAL) == 1
    assert cohens_kappa("ab", "ab") == 1
    assert cohens_kappa([], []) is None


def test_the_pages_data_are_of_settled_items_only(session):
    both, apart, waiting, alone = items(session, 4, n_wanted=2)
    alone.n_wanted = 1
    label(session, both.id, "ann", "accept", {"rating": 5})
    label(session, both.id, "bob", "accept", {"rating": 4})
    label(session, apart.id, "ann", "accept", {"rating": 4})
    label(session, apart.id, "bob", "reject", {"rating": 1}, reason="does not compile")
    label(session, waiting.id, "ann", "accept")
    label(session, alone.id, "ann", "reject", reason="wrong")
    found = agreement(session, "coder")
    assert (found.n_items, found.percent) == (2, 0.5)
    (named,) = found.pairs
    assert (named.reviewers, named.n, named.percent, named.kappa) == (("ann", "bob"), 2, 0.5, 0.0)
    (case,) = found.disagreements
    assert case.item_id == apart.id
    assert case.verdicts == {"ann": "accepted", "bob": "rejected"}
    assert case.reasons == {"bob": "does not compile"}
    assert found.rating_alpha is not None
    assert agreement(session, "tester").alpha is None


def test_comparisons_agree_on_the_answer_not_on_its_place(session):
    made, *_ = pair(session)
    compared = add_item(session, made.id, kind="pair", n_wanted=2)
    for name in ("ann", "bob"):
        choice = "second" if is_swapped(compared.id, name) else "first"
        label(session, compared.id, name, "compare", {"choice": choice})
    assert agreement(session).percent == 1
