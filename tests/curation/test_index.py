"""The index in SQL: who meets whom, by which plan, and what is left when texts go."""

import threading
from typing import Any

import pytest
from indexed import Shelf, words
from sqlalchemy import text
from sqlmodel import Session

from curation.boilerplate import NO_TEMPLATES
from curation.dedupe.compare import EXAMPLE, PROMPT
from curation.dedupe.index import (
    compare_texts,
    comparison_version,
    index_texts,
    remove_texts,
    text_id_of,
)
from curation.normalize import Normalized
from curation.recipe import CurationRecipe
from foundation.database import session_scope

TASK = " ".join(words(30, "task"))
BASE = words(120, "base")


def count(session: Session, table: str) -> int:
    return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def edges(session: Session) -> list[tuple[Any, ...]]:
    rows = session.execute(
        text("SELECT low, high, kind, similarity FROM text_edge ORDER BY low, high")
    )
    return [tuple(row) for row in rows]


@pytest.fixture
def shelf(session: Session) -> Shelf:
    return Shelf(session)


def test_ids_are_for_ever():
    assert text_id_of("coder", "default", EXAMPLE, "a\0b") == GOLDEN
    others = {
        text_id_of("tester", "default", EXAMPLE, "a\0b"),
        text_id_of("coder", "unverified", EXAMPLE, "a\0b"),
        text_id_of("coder", "default", PROMPT, "a\0b"),
        text_id_of("coder", "default", EXAMPLE, "a\0c"),
    }
    assert len(others | {GOLDEN}) == 5
    assert all(-(2**63) <= i < 2**63 for i in others)
    assert text_id_of("coder", "default", EXAMPLE, "\ud800") != GOLDEN


GOLDEN = -5502263812045711837


def test_a_text_is_put_in_once(session):
    recipe = CurationRecipe()
    texts = [Normalized(TASK, f"{' '.join(BASE)} {n % 2}") for n in range(4)]
    ids = index_texts(session, "coder", recipe, texts)
    assert ids[0] == ids[2] != ids[1] == ids[3]
    assert len({prompt for _, prompt in ids}) == 1
    kinds = session.execute(text("SELECT kind, count(*) FROM indexed_text GROUP BY kind")).all()
    assert sorted(map(tuple, kinds)) == [("example", 2), ("prompt", 1)]
    n_keys = count(session, "text_band")
    assert n_keys >= 3 * recipe.bands
    assert index_texts(session, "coder", recipe, texts) == ids
    assert count(session, "text_band") == n_keys
    assert index_texts(session, "coder", recipe, []) == []


def test_what_is_empty_has_an_id_and_no_keys(session):
    ((whole, prompt),) = index_texts(session, "coder", CurationRecipe(), [Normalized("", "?")])
    assert whole != prompt
    assert count(session, "text_band") == 0


def test_likeness_is_found_once_and_kept_as_evidence(shelf):
    texts = [(TASK, BASE), (TASK + " please", [*BASE[:-1], "other"]), ("Another task", BASE)]
    ids = [shelf.put(prompt, " ".join(answer)) for prompt, answer in texts]
    (done,) = shelf.compare()
    one, other, _ = shelf.examples(ids)
    found = edges(shelf.session)
    assert {kind: (low, high) for low, high, kind, _ in found} == {
        "near": tuple(sorted((one.text_id, other.text_id))),
        "prompt": tuple(sorted((one.prompt_text_id, other.prompt_text_id))),
    }
    assert all(0.8 <= similarity < 1 for *_, similarity in found)
    assert done.n_edges == 2
    assert done.n_probed == 6
    assert done.hot == []
    shelf.compare()
    assert edges(shelf.session) == found


@pytest.mark.parametrize("n_words", [9, 11, 13, 58, 62, 70, 76, 150])
def test_a_pair_is_found_whichever_came_first(session, n_words):
    """Also where lengths stand on two sides of a boundary between shingle sizes."""
    found = []
    for first in (0, 1):
        shelf = Shelf(session, role=f"role{first}")
        prompt = words(n_words, n_words)
        texts = [" ".join(prompt), " ".join([*prompt, "please", "now"][: n_words + n_words // 8])]
        for which in (first, 1 - first):
            shelf.put(texts[which], " ".join(BASE))
            shelf.work()
        rows = session.execute(
            text(
                "SELECT e.kind, e.similarity FROM text_edge e JOIN indexed_text t ON t.id = e.low "
                "WHERE t.role = :role ORDER BY e.kind"
            ),
            {"role": shelf.role},
        )
        found.append([tuple(row) for row in rows])
    assert found[0] == found[1]


def test_worlds_do_not_meet(session):
    texts = [Normalized(TASK, " ".join(BASE)), Normalized(TASK, " ".join(BASE[1:]))]
    shelves = [
        Shelf(session, "coder"),
        Shelf(session, "tester"),
        Shelf(session, "coder", CurationRecipe(variant="unverified")),
    ]
    for number, shelf in enumerate(shelves):
        shelf.put(TASK, texts[number % 2].answer)
    assert [shelf.compare()[0].n_pairs for shelf in shelves] == [0, 0, 0]
    assert edges(session) == []


def test_texts_without_an_example_are_passed_over(session):
    recipe = CurationRecipe()
    texts = [Normalized(TASK, " ".join(BASE)), Normalized(TASK, " ".join(BASE[1:]))]
    ids = [whole for whole, _ in index_texts(session, "coder", recipe, texts)]
    done = compare_texts(session, "coder", recipe, NO_TEMPLATES, ids)
    assert (done.n_probed, done.n_edges) == (0, 0)
    assert compare_texts(session, "coder", recipe, NO_TEMPLATES, []).n_probed == 0


def test_a_hot_bucket_is_capped_named_and_the_same_for_everybody(session):
    recipe = CurationRecipe(hot_bucket_cap=5)
    shelf = Shelf(session, recipe=recipe)
    answer = words(300, "long")
    for number in range(12):
        shelf.put(TASK, " ".join([*answer, f"end{number}"]))
    done = shelf.compare(chunk=4)
    hot = [one for part in done for one in part.hot]
    assert {one["kind"] for one in hot} == {"example"}
    assert max(one["n_texts"] for one in hot) == 12
    assert all(one["sample"].startswith(answer[0]) for one in hot)
    found = edges(session)
    n_near = sum(kind == "near" for *_, kind, _ in found)
    assert 5 * 4 / 2 + 5 * 7 <= n_near < 12 * 11 / 2
    session.execute(text("DELETE FROM text_edge"))
    shelf.compare(chunk=1)
    assert edges(session) == found


def test_another_recipe_indexes_anew(session):
    shelf = Shelf(session)
    ids = [shelf.put(TASK, " ".join(BASE)), shelf.put(TASK, " ".join(BASE[1:]))]
    n_keys = count(session, "text_band")
    recipe = CurationRecipe(profile="high-recall")
    assert comparison_version(recipe) != comparison_version(shelf.recipe)
    assert comparison_version(CurationRecipe(seed=7, min_score=0.1)) == comparison_version(
        shelf.recipe
    )
    texts = [Normalized(TASK, " ".join(BASE)), Normalized(TASK, " ".join(BASE[1:]))]
    again = index_texts(session, "coder", recipe, texts)
    assert [whole for whole, _ in again] == [e.text_id for e in shelf.examples(ids)]
    assert count(session, "text_band") > 2 * n_keys
    whole = [i for i, _ in again]
    assert compare_texts(session, "coder", recipe, NO_TEMPLATES, whole).n_edges == 1


def test_removed_texts_leave_nothing(session):
    shelf = Shelf(session)
    ids = [shelf.put(TASK, " ".join(BASE[n:])) for n in range(3)]
    shelf.work()
    gone, kept, _ = shelf.examples(ids)
    texts = [gone.text_id, gone.prompt_text_id, kept.text_id]
    assert remove_texts(session, texts) == 0, "all of them still have examples"
    session.execute(text("DELETE FROM example WHERE id = :id"), {"id": gone.id})
    assert remove_texts(session, texts) == 1, "the prompt is that of the others too"
    for table, column in (("text_band", "text_id"), ("indexed_text", "id")):
        left = session.execute(text(f"SELECT DISTINCT {column} FROM {table}")).scalars().all()
        assert gone.text_id not in left
        assert kept.text_id in left
        assert gone.prompt_text_id in left
    assert all(gone.text_id not in edge[:2] for edge in edges(session))
    assert edges(session), "the others keep theirs"
    assert remove_texts(session, []) == 0
    assert remove_texts(session, [123]) == 1


def test_two_workers_miss_nothing_that_one_would_find(database):
    """Each commits before it compares: whoever compares last sees what the other put in."""
    texts = [[" ".join([*BASE, f"{worker}", f"{n}"]) for n in range(8)] for worker in "ab"]
    barrier = threading.Barrier(2)
    failed: list[BaseException] = []

    def work(some: list[str]) -> None:
        try:
            with session_scope() as session:
                shelf = Shelf(session)
                for answer in some:
                    shelf.put(TASK, answer)
                session.commit()
                barrier.wait(timeout=30)
                shelf.compare(chunk=3)
        except BaseException as error:
            failed.append(error)
            raise

    workers = [threading.Thread(target=work, args=(some,)) for some in texts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failed == []
    with session_scope() as session:
        together = [edge[3] for edge in edges(session)]
        alone = Shelf(session, "tester")
        for answer in (answer for some in texts for answer in some):
            alone.put(TASK, answer)
        alone.compare()
        n_alone = len(edges(session)) - len(together)
    assert len(together) == n_alone == 16 * 15 / 2
