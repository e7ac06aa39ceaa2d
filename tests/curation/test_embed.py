import numpy as np
import pytest
from sqlmodel import Session, func, select

from curation.embed import BUNDLED, compute, embed, embed_chunks, is_available, likeness, novelty
from curation.tables import Embedding
from foundation.errors import BadInput

pytestmark = pytest.mark.skipif(not is_available(), reason="the extra `semantic` is not installed")

PROSE = "The parser reads a line, splits it at commas and returns the fields. " * 40


def test_vectors_have_length_one_and_say_what_is_alike(session: Session) -> None:
    one, same, other = embed(
        session, ["Sort the list of numbers.", "Order the numbers in the list.", "Bake a cake."]
    )
    assert np.allclose([v @ v for v in (one, same, other)], 1.0, atol=1e-3)
    assert one @ same > 0.8 > 0.4 > one @ other


def test_equal_texts_are_embedded_once_and_read_back(session: Session) -> None:
    first = embed(session, ["a", "b", "a"])
    assert session.exec(select(func.count()).select_from(Embedding)).one() == 2
    again = embed(session, ["b", "a"])
    assert np.array_equal(first[[1, 0]], again)


def test_an_end_that_differs_is_seen_behind_a_long_common_beginning() -> None:
    ended = PROSE + "Then it deletes every user of the database without asking anybody. " * 15
    plain = PROSE + "Then it counts the fields and writes the number into the log file. " * 15
    [one], [other] = compute([ended]), compute([plain])
    assert len(one) > 1
    assert likeness(one, other) < 0.8
    assert likeness(one, one) == pytest.approx(1.0, abs=1e-3)


def test_nothing_and_empty_texts(session: Session) -> None:
    assert embed(session, []).shape == (0, 0)
    assert embed_chunks(session, []) == []
    assert embed(session, [""]).shape[0] == 1


def test_novelty_is_none_for_one_text_and_higher_for_unlike_ones(session: Session) -> None:
    assert novelty(session, ["alone"]) is None
    assert novelty(session, ["copy", "copy"]) is None
    alike = novelty(session, ["Sort a list.", "Sort the list.", "Sort lists."])
    unlike = novelty(session, ["Sort a list.", "Bake a cake.", "Paint the wall green."])
    assert alike is not None
    assert unlike is not None
    assert alike < unlike


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match="no/such-folder"):
        compute(["x"], "./no/such-folder")


def test_the_bundled_model_is_there() -> None:
    assert is_available(BUNDLED)
