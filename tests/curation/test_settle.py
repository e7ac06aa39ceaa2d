"""Verdicts follow from examples and evidence: in any order, in any pieces, without reading much."""

import itertools
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from indexed import Shelf, words
from sqlalchemy import event, text
from sqlmodel import Session

from curation.recipe import CurationRecipe
from curation.tables import KEPT, TextEdge

TASK = " ".join(words(30, "task"))
BASE = words(100, "base")
"""Of 100 words, texts that differ in at most two places are near duplicates (0.81)."""


def variant(*places: int) -> str:
    """Return the base text with the words at some places exchanged."""
    return " ".join(f"x{n}" if n in places else word for n, word in enumerate(BASE))


def verdict(shelf: Shelf, names: dict[UUID, Any]) -> list[tuple[Any, ...]]:
    """Return status, reason, representative and similarity of each example, by its name."""
    found = [
        (names[e.id], e.status, e.drop_reason, names.get(e.duplicate_of), e.similarity)
        for e in shelf.examples()
    ]
    return sorted(found, key=str)


@pytest.fixture
def shelf(session: Session) -> Shelf:
    return Shelf(session)


def test_the_best_of_equal_texts_stands_and_the_older_of_equal_ranks(shelf):
    ids = [shelf.put(TASK, variant(), rank) for rank in ((0.5,), (0.9,), (0.9,))]
    done = shelf.work()
    found = shelf.examples(ids)
    assert [(e.status, e.drop_reason, e.duplicate_of) for e in found] == [
        ("dropped", "exact_duplicate", ids[1]),
        ("kept", None, None),
        ("dropped", "exact_duplicate", ids[1]),
    ]
    assert [e.similarity for e in found] == [1.0, None, 1.0]
    assert {e.cluster_id for e in found} == {ids[1]}
    assert not any(e.needs_settling for e in found)
    assert (done.n_unsettled, done.n_texts, done.n_kept, done.n_exact) == (3, 1, 1, 2)


def test_near_duplicates_join_a_star_and_never_a_chain(shelf):
    best, middle, last = (
        shelf.put(TASK, variant(*places), (rank,))
        for places, rank in (((10, 20), 3), ((), 2), ((50, 60), 1))
    )
    done = shelf.work()
    found = shelf.examples([best, middle, last])
    assert [e.status for e in found] == ["kept", "dropped", "kept"]
    assert found[1].drop_reason == "near_duplicate"
    assert found[1].duplicate_of == found[1].cluster_id == best
    assert 0.8 <= found[1].similarity < 0.83
    assert (done.n_kept, done.n_near) == (2, 1)
    edges = shelf.session.execute(text("SELECT kind, similarity FROM text_edge")).all()
    assert sorted(kind for kind, _ in edges) == ["near", "near"]


def test_one_prompt_with_two_answers_is_two_examples(shelf):
    ids = [shelf.put(TASK, " ".join(words(80, n))) for n in range(2)]
    shelf.work()
    assert [e.status for e in shelf.examples(ids)] == ["kept", "kept"]


def test_a_better_newcomer_takes_over_and_frees_what_it_is_not_like(shelf):
    middle = shelf.put(TASK, variant(), (2,))
    sides = [shelf.put(TASK, variant(*places), (1,)) for places in ((10, 20), (50, 60))]
    shelf.work()
    assert [e.duplicate_of for e in shelf.examples(sides)] == [middle, middle]
    better = shelf.put(TASK, variant(10, 30), (3,))
    shelf.work()
    found = shelf.examples([better, middle, *sides])
    assert [e.status for e in found] == ["kept", "dropped", "dropped", "kept"]
    assert [e.duplicate_of for e in found] == [None, better, better, None]


def test_when_the_standing_example_falls_the_next_takes_its_place(shelf):
    first = shelf.put(TASK, variant(), (3,))
    copy = shelf.put(TASK, variant(), (2,))
    near = shelf.put(TASK, variant(5), (1,))
    shelf.work()
    assert [e.duplicate_of for e in shelf.examples([copy, near])] == [first, first]
    shelf.change(first, drop_reason="failed_outcome", status="dropped")
    shelf.work()
    found = shelf.examples([first, copy, near])
    assert [e.status for e in found] == ["dropped", "kept", "dropped"]
    assert found[0].drop_reason == "failed_outcome"
    assert found[0].cluster_id is None
    assert [e.duplicate_of for e in found] == [None, None, copy]
    assert not any(e.needs_settling for e in found)


def test_what_a_quota_left_out_still_stands_for_its_repeats(shelf):
    out = shelf.put(TASK, variant(), (3,))
    shelf.work()
    shelf.session.execute(text("UPDATE example SET status = 'dropped', drop_reason = 'over_quota'"))
    shelf.session.commit()
    copy, near = shelf.put(TASK, variant(), (2,)), shelf.put(TASK, variant(5), (1,))
    shelf.work()
    found = shelf.examples([out, copy, near])
    assert [e.drop_reason for e in found] == ["over_quota", "exact_duplicate", "near_duplicate"]


def test_a_proposal_counts_once_it_is_disposed_as_a_duplicate(shelf):
    ids = [shelf.put(TASK, " ".join(words(80, n)), (n,)) for n in range(2)]
    texts = sorted(e.text_id for e in shelf.examples(ids))
    edge = TextEdge(low=texts[0], high=texts[1], kind="semantic", similarity=0.97)
    shelf.session.add(edge)
    shelf.work()
    assert [e.status for e in shelf.examples(ids)] == ["kept", "kept"]
    edge.disposed = "duplicate"
    shelf.change(ids[0])
    shelf.settle()
    assert [e.duplicate_of for e in shelf.examples(ids)] == [ids[1], None]


def test_edges_of_another_threshold_do_not_count(shelf):
    ids = [shelf.put(TASK, variant(*places)) for places in ((), (10, 20))]
    shelf.work()
    assert [e.status for e in shelf.examples(ids)] == ["kept", "dropped"]
    strict = Shelf(shelf.session, recipe=CurationRecipe(near_duplicate_threshold=0.9))
    for identifier in ids:
        strict.change(identifier)
    strict.work()
    assert [e.status for e in strict.examples(ids)] == ["kept", "kept"]


def test_settling_again_changes_nothing(shelf):
    for number in range(20):
        shelf.put(TASK, variant(number % 7, number % 3), (number % 4,))
    shelf.work()
    before = [e.model_dump() for e in shelf.examples()]
    assert shelf.work().n_unsettled == 0
    for row in shelf.examples():
        shelf.change(row.id)
    shelf.work()
    assert [e.model_dump() for e in shelf.examples()] == before


POPULATION = st.lists(
    st.tuples(
        st.sets(st.sampled_from([1, 20, 40, 60, 80]), max_size=5),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=14,
)
COUNTER = itertools.count()


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(population=POPULATION, data=st.data())
def test_any_order_any_chunks_and_any_number_of_passes_give_the_verdicts_of_one(
    session, population, data
):
    number = next(COUNTER)
    whole, pieces = (Shelf(session, role=f"{name}{number}") for name in ("whole", "pieces"))
    ids = [UUID(int=(0x7000 << 64) + 1000 * number + n) for n in range(len(population))]
    shift = 1 << 90
    names: dict[UUID, int] = {}
    for place, (identifier, (places, rank)) in enumerate(zip(ids, population, strict=True)):
        whole.put(TASK, variant(*places), (rank,), id=identifier)
        names[identifier] = names[UUID(int=identifier.int + shift)] = place
    whole.work()

    first_ranks = data.draw(st.lists(st.integers(0, 3), min_size=len(ids), max_size=len(ids)))
    doomed = data.draw(st.sets(st.integers(0, len(ids) - 1), max_size=3))
    for place in data.draw(st.permutations(range(len(ids)))):
        places, rank = population[place]
        identifier = UUID(int=ids[place].int + shift)
        pieces.put(TASK, variant(*places), (first_ranks[place],), id=identifier)
        if data.draw(st.booleans()):
            pieces.work(chunk=data.draw(st.integers(1, 5)))
        if first_ranks[place] != rank:
            pieces.change(identifier, scores={"rank": [rank]})
    pieces.work()
    assert verdict(pieces, names) == verdict(whole, names)

    for shelf, offset in ((whole, 0), (pieces, shift)):
        for place in sorted(doomed, reverse=bool(offset)):
            gone = UUID(int=ids[place].int + offset)
            shelf.change(gone, status="dropped", drop_reason="failed_outcome")
            if offset:
                shelf.work()
        shelf.work()
    assert verdict(pieces, names) == verdict(whole, names) == greedy(whole, names)


def greedy(shelf: Shelf, names: dict[UUID, Any]) -> list[tuple[Any, ...]]:
    """Return the verdicts by the rule's own words, from all examples and all edges."""
    open_ones: dict[int, list[Any]] = {}
    expected = []
    for row in shelf.examples():
        if row.drop_reason == "failed_outcome":
            expected.append((names[row.id], row.status, row.drop_reason, None, None))
        else:
            open_ones.setdefault(row.text_id, []).append(row)
    for rows in open_ones.values():
        rows.sort(key=lambda e: (*e.scores["rank"], -e.id.int), reverse=True)
    edges = {}
    for low, high, similarity in shelf.session.execute(
        text("SELECT low, high, similarity FROM text_edge WHERE kind = 'near'")
    ):
        edges[low, high] = edges[high, low] = similarity
    kept: list[int] = []
    best = {i: rows[0] for i, rows in open_ones.items()}
    order = sorted(best, key=lambda i: (*best[i].scores["rank"], -best[i].id.int), reverse=True)
    for text_id in order:
        over = next((k for k in kept if (k, text_id) in edges), None)
        for row in open_ones[text_id]:
            if over is not None:
                expected.append(dropped(row, "near_duplicate", best[over], edges[over, text_id]))
            elif row is best[text_id]:
                expected.append((row.id, KEPT, None, None, None))
            else:
                expected.append(dropped(row, "exact_duplicate", best[text_id], 1.0))
        if over is None:
            kept.append(text_id)
    named = [(names.get(e[0], e[0]), *e[1:3], names.get(e[3]), e[4]) for e in expected]
    return sorted(named, key=str)


def dropped(row: Any, reason: str, by: Any, similarity: float) -> tuple[Any, ...]:
    return (row.id, "dropped", reason, by.id, similarity)


def test_thousands_of_copies_of_one_text_are_not_read(shelf):
    first = shelf.put(TASK, variant(), (2,))
    near = shelf.put(TASK, variant(7), (1,))
    shelf.work()
    multiply(shelf, first, 3000)
    with RowsRead(shelf.session) as read:
        done = shelf.work()
    assert done.n_exact == 3000
    assert sum(read) < 100, "one row for each text, not for each example"
    shelf.put(TASK, variant(), (0,))
    with RowsRead(shelf.session) as read:
        done = shelf.work()
    assert (done.n_unsettled, done.n_exact) == (1, 1)
    assert sum(read) < 100
    shelf.change(first, status="dropped", drop_reason="failed_outcome")
    with RowsRead(shelf.session) as read:
        shelf.settle()
    assert sum(read) < 100
    standing = shelf.example(near).duplicate_of
    assert shelf.example(standing).status == "kept"
    kept = [e for e in shelf.examples() if e.status == "kept"]
    assert [e.id for e in kept] == [standing]


def multiply(shelf: Shelf, id: UUID, n: int) -> None:
    """Write `n` further examples of one example's text, unsettled, of lower rank."""
    columns = [c for c in shelf.example(id).model_dump() if c not in ("id", "interaction_id")]
    changed = {"needs_settling": "true", "scores": "'{\"rank\": [1.0]}'", "split_key": "''"}
    changed |= {"cluster_id": "NULL"}
    shelf.session.execute(
        text(
            f"INSERT INTO example (id, interaction_id, {', '.join(columns)}) "
            f"SELECT gen_random_uuid(), gen_random_uuid(), "
            f"{', '.join(changed.get(c, c) for c in columns)} "
            "FROM example, generate_series(1, :n) WHERE id = :id"
        ),
        {"n": n, "id": id},
    )
    shelf.session.commit()


class RowsRead:
    """Collects how many rows each query of a block gave back to this process."""

    def __init__(self, session: Session) -> None:
        self.engine = session.get_bind()
        self.counts: list[int] = []

    def __enter__(self) -> Sequence[int]:
        event.listen(self.engine, "after_cursor_execute", self._count)
        return self.counts

    def __exit__(self, *_: object) -> None:
        event.remove(self.engine, "after_cursor_execute", self._count)

    def _count(self, _connection: Any, cursor: Any, *_: Any) -> None:
        if cursor.description is not None:
            self.counts.append(cursor.rowcount)
