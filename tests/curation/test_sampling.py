"""Which examples a person should look at: the small model, its fallback, and what is unlike."""

import random

import numpy as np
import pytest
from review_rows import dataset, example, item
from sqlmodel import select

from curation.review.labels import label
from curation.review.plan import ReviewPlan
from curation.review.queue import fill_queue
from curation.review.sampling import (
    Candidate,
    by_disagreement,
    by_uncertainty,
    chances_of_good,
    farthest_first,
    text_vectors,
    unlike,
)
from curation.tables import ReviewItem
from foundation.ids import new_id

WORDS = [f"{a}{b}" for a in ("read", "write", "sort", "join", "parse") for b in ("er", "ing", "s")]


def candidate(text: str, is_good: bool | None = None, **columns) -> Candidate:
    known = {"score": 0.5, "disagreement": None, "n_tokens": 20, "outcome": None, **columns}
    return Candidate(id=new_id(), text=text, is_good=is_good, **known)


def judged(n: int, seed: int = 0) -> list[Candidate]:
    """Answers that people call bad if they swallow exceptions."""
    chance = random.Random(seed)
    found = []
    for number in range(n):
        bad = number % 3 == 0
        words = chance.choices(WORDS, k=12)
        text = " ".join([*words, "except pass" if bad else "raise ValueError"])
        found.append(candidate(text, is_good=not bad))
    return found


def test_the_model_learns_what_people_call_good():
    chances = chances_of_good(judged(120), judged(60, seed=1), 50)
    good = np.array([one.is_good for one in judged(60, seed=1)])
    assert ((chances > 0.5) == good).mean() > 0.9


def test_the_same_labels_give_the_same_chances():
    first = chances_of_good(judged(80), judged(20, seed=1), 50)
    assert first.tolist() == chances_of_good(judged(80), judged(20, seed=1), 50).tolist()


@pytest.mark.parametrize("labels", [judged(49), [candidate("a", True)] * 60, []])
def test_without_enough_verdicts_of_both_signs_there_is_no_model(labels):
    assert chances_of_good(labels, judged(5), 50) is None


def test_without_a_pool_there_is_nothing_to_guess():
    assert chances_of_good(judged(60), [], 50) is None
    assert text_vectors([]).shape == (0, 256)


def test_uncertainty_goes_by_the_model_or_else_by_the_score():
    pool = [candidate("a", score=0.9), candidate("b", score=None), candidate("c", score=0.55)]
    assert by_uncertainty(pool, None, 0.5) == [2, 0]
    assert by_uncertainty(pool, np.array([0.4, 0.99, 0.1]), 0.5) == [0, 2, 1]


def test_disagreement_leaves_out_what_agrees():
    pool = [candidate("a", disagreement=d) for d in (0.1, None, 0.7, 0.0)]
    assert by_disagreement(pool) == [2, 0]


def test_near_repeats_are_taken_once():
    """Uncertainty sampling on near-identical texts would be no better than chance."""
    pool = [candidate("open the file and read it")] * 5 + [candidate("sort the numbers quickly")]
    assert unlike(range(6), text_vectors(pool), 3) == [0, 5]
    assert unlike([], text_vectors(pool), 3) == []


def test_farthest_first_covers_the_clusters():
    texts = [f"{word} {word} {word} {n}" for word in ("alpha", "beta", "gamma") for n in range(5)]
    vectors = text_vectors([candidate(text) for text in texts])
    assert {place // 5 for place in farthest_first(vectors, vectors[:0], 3)} == {0, 1, 2}
    assert {place // 5 for place in farthest_first(vectors, vectors[:5], 2)} == {1, 2}
    assert farthest_first(vectors[:0], vectors, 3) == []


def test_repeats_of_what_was_looked_at_are_never_farthest():
    vectors = text_vectors([candidate("one and the same")] * 4)
    assert len(farthest_first(vectors, vectors[:0], 4)) == 1
    assert farthest_first(vectors, vectors[:1], 4) == []


def test_the_queue_is_filled_by_the_model_once_there_are_verdicts(session):
    for one in judged(60):
        subject = example(session, one.text, status="dropped", drop_reason="near_duplicate")
        action = "accept" if one.is_good else "reject"
        label(session, item(session, subject.id).id, "ann", action, reason="why")
    torn = example(session, "raise ValueError except pass " + " ".join(WORDS[:6]))
    sure = [example(session, one.text) for one in judged(40, seed=2)]
    dataset(session, [torn, *sure])
    counts = fill_queue(session, "coder", ReviewPlan(random_share=0.0, uncertainty_share=0.05))
    assert (counts["by_model"], counts["verdicts"]) == (True, 60)
    picked = session.exec(select(ReviewItem).where(ReviewItem.reason == "uncertainty")).all()
    assert len(picked) == 3
    assert all("chance" in one.detail for one in picked)
    chances = [abs(one.detail["chance"] - 0.5) for one in sorted(picked, key=lambda i: -i.priority)]
    assert chances == sorted(chances)
    assert torn.id in {one.subject_id for one in picked}
