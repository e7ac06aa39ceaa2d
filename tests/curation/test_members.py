"""Rows of a version page after page and by chance: each once, and none of them lost."""

from uuid import UUID

import pytest
from published import add_example, published
from sqlalchemy import delete
from sqlmodel import col, select

from curation.export import lines_of_split, parquet_of_split, read
from curation.members import Place, drawn, members
from curation.publish.card import Tally
from curation.publish.shards import MEAN_ROWS, read_shard
from curation.reasons import REASONS, reason_of
from curation.recipe import CurationRecipe
from curation.tables import DatasetExample, ShardRow
from foundation.errors import BadInput
from foundation.ids import new_id


@pytest.fixture
def version(session):
    for i in range(2 * MEAN_ROWS):
        split = "test" if i % 10 == 0 else "train"
        add_example(session, f"{i}", "a", id=new_id(), split=split)
    session.flush()
    dataset, _ = published(session)
    return dataset


def all_pages(session, dataset, n: int, split: str = "") -> list[UUID]:
    found, after = [], None
    while True:
        rows, after = members(session, dataset.id, n, split, after)
        assert len(rows) <= n
        found += [row.row_id for row in rows]
        if after is None:
            return found
        after = Place.parse(str(after))


@pytest.mark.parametrize("n", [97, 1024, 5000])
def test_pages_have_every_row_once(session, version, n: int):
    stored = session.exec(
        select(DatasetExample.example_id).where(DatasetExample.dataset_id == version.id)
    ).all()
    found = all_pages(session, version, n)
    assert len(found) == len(stored)
    assert set(found) == set(stored)
    train = all_pages(session, version, n, "train")
    assert train == found[: len(train)]
    assert train == sorted(train, reverse=True), "the newest first, within a split"


def test_rows_that_are_erased_meanwhile_break_no_page(session, version):
    first, after = members(session, version.id, 50)
    rest = select(ShardRow.row_id).where(col(ShardRow.row_id) < first[-1].row_id)
    gone = session.exec(rest.limit(600)).all()
    session.execute(delete(ShardRow).where(col(ShardRow.row_id).in_(gone)))
    found = [row.row_id for row in first]
    while after is not None:
        rows, after = members(session, version.id, 50, "", after)
        found += [row.row_id for row in rows]
    assert len(found) == len(set(found)) == 2 * MEAN_ROWS - len(set(gone))


@pytest.mark.parametrize(
    "said", ["", "train", "train:x:y", "other:0:" + str(UUID(int=1)), f"train:-1:{UUID(int=1)}"]
)
def test_a_place_that_is_none_is_refused(said: str):
    with pytest.raises(BadInput):
        Place.parse(said)


def test_a_draw_is_the_same_for_its_seed_and_fair(session, version):
    one, again = (drawn(session, version.id, 20, seed=7) for _ in range(2))
    assert one == again
    assert len({row.row_id for row in one}) == 20
    assert one != drawn(session, version.id, 20, seed=8)
    assert {row.split for row in drawn(session, version.id, 20, 1, "test")} == {"test"}
    tests = sum(row.split == "test" for s in range(40) for row in drawn(session, version.id, 20, s))
    assert 40 < tests < 130, "a tenth of 800, within six standard deviations"
    everything = drawn(session, version.id, 10**6, seed=1)
    assert len({row.row_id for row in everything}) == 2 * MEAN_ROWS


def test_a_version_without_rows_has_no_page(session):
    dataset, _ = published(session)
    assert members(session, dataset.id, 5) == ([], None)
    assert drawn(session, dataset.id, 5, seed=1) == []


def test_a_split_is_read_in_pieces_as_the_whole_is(session, version, tmp_path):
    rows = list(read(session, version.id, "test"))
    lines = "".join(lines_of_split(session, version.id, "test", "chat")).splitlines()
    assert len(lines) == len(rows)
    assert all(line.startswith('{"messages": [{') for line in lines)
    path = tmp_path / "test.parquet"
    assert parquet_of_split(session, version.id, "test", path) == len(rows)
    assert list(read_shard(path)) == rows
    assert parquet_of_split(session, version.id, "validation", tmp_path / "none") == 0
    for split, form in (("dev", "chat"), ("test", "dpo"), ("test", "argilla"), ("test", "parquet")):
        with pytest.raises(BadInput):
            lines_of_split(session, version.id, split, form)


def test_every_reason_has_its_words():
    for name, reason in REASONS.items():
        assert reason.name == name
        assert reason.means.endswith(".")
        assert reason.remedy.endswith(".")
    assert "loud" in reason_of("rule_error:loud").means
    assert reason_of("too_shouty").title == "Too shouty"
    assert reason_of(None).title == "Unknown"


def test_a_card_counts_outcomes(session):
    add_example(session, "1", "a")
    add_example(session, "2", "a", corrected=True)
    add_example(session, "3", "a").polarity = "unjudged"
    session.flush()
    dataset, _ = published(session, CurationRecipe())
    assert dataset.card["outcomes"] == {"corrected": 1, "positive": 1, "unjudged": 1}
    assert Tally().outcomes == {}
