from hashlib import sha256
from uuid import uuid4

import numpy as np
import pytest
from sqlmodel import Session, select

from curation.embed import is_available
from curation.recipe import CurationRecipe
from curation.semantic import (
    DUPLICATE,
    SAME_PROGRAM,
    forget,
    hashed_vectors,
    propose_repeats,
    same_program,
)
from curation.tables import TEXT_BAND, Example, TextEdge

RECIPE = CurationRecipe(embedding_model="all-MiniLM-L6-v2", semantic_threshold=0.85)
needs_model = pytest.mark.skipif(not is_available(), reason="the extra `semantic` is not installed")

MEAN = '''def mean(values):
    """Return the mean."""
    total = 0
    for value in values:
        total += value
    return total / len(values)
'''
MEAN_RENAMED = """def average(numbers):
    result = 0
    for n in numbers:  # add them up
        result += n
    return result / len(numbers)
"""
MEDIAN = """def median(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
"""


def prompt_id(prompt: str) -> int:
    return int.from_bytes(sha256(prompt.encode()).digest()[:8], signed=True)


def kept(session: Session, text_id: int, prompt: str, answer: str) -> Example:
    example = Example(
        role="coder",
        interaction_id=uuid4(),
        prompt=[{"role": "user", "content": prompt}],
        answer=answer,
        norm_hash="",
        text_id=text_id,
        prompt_text_id=prompt_id(prompt),
    )
    session.add(example)
    session.flush()
    return example


@needs_model
def test_the_same_program_under_other_names_is_disposed_of_by_rule(session: Session) -> None:
    prompt = "Write a function that returns the mean of a list of numbers."
    one, other = kept(session, 1, prompt, MEAN), kept(session, 2, prompt, MEAN_RENAMED)
    third = kept(session, 3, "Write a function for the median of some values.", MEDIAN)
    done = propose_repeats(session, "coder", RECIPE)
    edge = session.exec(select(TextEdge)).one()
    assert (edge.low, edge.high, edge.kind) == (1, 2, "semantic")
    assert (edge.disposed, edge.disposed_by) == (DUPLICATE, SAME_PROGRAM)
    session.expire_all()
    assert (one.needs_settling, other.needs_settling, third.needs_settling) == (True, True, False)
    assert (done.n_examples, done.n_proposed, done.n_disposed) == (3, 1, 1)


@needs_model
def test_a_paraphrase_is_proposed_and_stays(session: Session) -> None:
    answer = "Restart the worker, then look at the queue: the stuck job holds the lock."
    kept(session, 1, "Why does the queue of our worker not move any more?", answer)
    other = kept(session, 2, "Why does our worker's queue not move any more?", answer)
    propose_repeats(session, "coder", RECIPE)
    edge = session.exec(select(TextEdge)).one()
    assert edge.disposed is None
    session.refresh(other)
    assert (other.status, other.needs_settling) == ("kept", False)


@needs_model
def test_each_example_is_looked_at_once(session: Session) -> None:
    kept(session, 1, "Sort this list of numbers", MEAN)
    assert propose_repeats(session, "coder", RECIPE).n_examples == 1
    assert propose_repeats(session, "coder", RECIPE).n_examples == 0
    kept(session, 2, "Reverse this list of numbers", MEDIAN)
    assert propose_repeats(session, "coder", RECIPE).n_examples == 1


@needs_model
def test_forgotten_texts_leave_no_key(session: Session) -> None:
    kept(session, 1, "Sort this list", MEAN)
    propose_repeats(session, "coder", RECIPE)
    assert session.execute(select(TEXT_BAND)).all() != []
    forget(session, "coder", "default", [1])
    assert session.execute(select(TEXT_BAND)).all() == []
    assert propose_repeats(session, "coder", RECIPE).n_examples == 1, "it came back"


def test_without_a_model_nothing_is_looked_at(session: Session) -> None:
    kept(session, 1, "Sort this list", MEAN)
    assert propose_repeats(session, "coder", CurationRecipe()).n_examples == 0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (MEAN, MEAN_RENAMED, True),
        (MEAN, MEDIAN, False),
        ("def f(x): return x + 1", "def g(y): return y + 2", False),
        ("def f(a, b): return a - b", "def f(a, b): return b - a", False),
        ("def f(x): return math.sin(x)", "def f(x): return math.cos(x)", False),
        ("def f(x): return len(x)", "def f(x): return sum(x)", False),
        ("not python at all", "not python at all", False),
        ("", "def f(): pass", False),
    ],
)
def test_same_program(one: str, other: str, expected: bool) -> None:
    assert same_program(one, other) is expected


def test_hashed_vectors_are_alike_for_alike_words_only() -> None:
    words = "the quick brown fox jumps over a lazy dog near the old river bank"
    one, near, far, none = hashed_vectors([words, words + " today", MEDIAN, ""])
    assert one @ near > 0.8
    assert abs(one @ far) < 0.4
    assert not np.any(none)
