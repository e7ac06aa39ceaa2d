"""Agreement and workload as a page: measures in words, disagreements, bounded, sorted, exported."""

import json
from typing import Any

import pytest
from published import add_example, published
from sqlmodel import Session

from admin import agreement
from admin.listing import Asked
from curation.review.workload import judged_lately, verified
from curation.tables import Dataset, Example, ReviewItem, ReviewLabel
from foundation.errors import BadInput

NEWEST = Asked("", "", "")


def label(session: Session, example: Example, said: dict[str, str], **columns: Any) -> ReviewItem:
    item = ReviewItem(
        role="coder", subject_id=example.id, reason="random", n_wanted=len(said), status="done"
    )
    session.add(item)
    session.flush()
    session.add_all(
        ReviewLabel(
            item_id=item.id,
            interaction_id=example.interaction_id,
            reviewer=who,
            action=action,
            seconds=10.0,
            reason=f"{who}: <script>alert(1)</script>",
            **columns,
        )
        for who, action in said.items()
    )
    return item


@pytest.fixture
def labelled(session: Session) -> Dataset:
    """Six examples that ann and bob labelled; they differ on one. Bob skipped another."""
    made = [add_example(session, f"ask {n}", "a") for n in range(7)]
    session.flush()
    for n, example in enumerate(made[:6]):
        both = "reject" if n > 3 else "accept"
        label(session, example, {"ann": both, "bob": "reject" if n == 0 else both})
    label(session, made[6], {"bob": "skip"})
    session.flush()
    dataset, _ = published(session)
    session.commit()
    return dataset


def test_the_page_says_how_far_people_agree(session: Session, labelled: Dataset) -> None:
    page = agreement.page(session, agreement.Filters(), NEWEST)
    assert page.found.n_items == 6
    assert page.found.percent == 5 / 6
    (pair,) = page.pairs.rows
    assert pair.reviewers == ("ann", "bob")
    # Ann accepts 4 of 6, bob 3: expected agreement 1/2, observed 5/6.
    assert pair.kappa == pytest.approx(2 / 3)
    assert page.said_of(pair) == "substantial, but of few items"
    (one,) = page.disagreements.rows
    assert one.verdicts == {"ann": "accepted", "bob": "rejected"}
    ann, bob = page.workload.rows
    assert (ann.n_labels, bob.n_labels, bob.n_skipped) == (6, 6, 1)
    assert page.share(bob, bob.n_skipped) == 1 / 7
    assert ann.labels_per_hour == 360
    assert not page.is_cut


def test_the_newest_dataset_has_its_verified_share(session: Session, labelled: Dataset) -> None:
    found = judged_lately(session, labelled)
    whole = verified(session, labelled)
    assert (found.n, found.n_good) == (whole.n_judged, whole.n_good) == (6, 3)
    assert found.interval == whole.interval
    page = agreement.page(session, agreement.Filters(role="coder"), NEWEST)
    assert [one.dataset.id for one in page.verified] == [labelled.id]
    assert page.shares is not None
    assert page.shares.rows[0].dots[0].said == "50.0 %"
    assert agreement.page(session, agreement.Filters(role="tester"), NEWEST).verified == []


def test_what_is_looked_at_is_bounded(
    session: Session, labelled: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "WORK", 5)
    monkeypatch.setattr(agreement, "LABELS", 4)
    page = agreement.page(session, agreement.Filters(), NEWEST)
    assert sum(one.n_labels + one.n_skipped for one in page.workload.rows) == 5
    assert page.is_cut
    assert page.found.n_items <= 2
    assert judged_lately(session, labelled, at_most=2).n <= 2


@pytest.mark.parametrize(
    "name", sorted(n for one in agreement.LISTS.values() for n in one.sortable)
)
def test_every_column_sorts_its_own_table(session: Session, labelled: Dataset, name: str) -> None:
    for sort in (name, f"-{name}"):
        page = agreement.page(session, agreement.Filters(), Asked(sort, "", ""))
        assert {row.reviewer for row in page.workload.rows} == {"ann", "bob"}
    if name == "reviewer":
        assert [row.reviewer for row in page.workload.rows] == ["bob", "ann"]


def test_an_unknown_column_is_refused(session: Session) -> None:
    with pytest.raises(BadInput):
        agreement.page(session, agreement.Filters(), Asked("-nothing", "", ""))


def test_the_tables_are_exported(get: Any, labelled: Dataset) -> None:
    address = "/admin/review/agreement?format=jsonl&of="
    (pair,) = [json.loads(line) for line in get(f"{address}agreement").text.splitlines()]
    assert pair["reviewers"] == "ann and bob"
    (one,) = [json.loads(line) for line in get(f"{address}disagreements").text.splitlines()]
    assert one["verdicts"] == {"ann": "accepted", "bob": "rejected"}
    people = [json.loads(line) for line in get(f"{address}reviewers").text.splitlines()]
    assert [person["labels"] for person in people] == [6, 6]
    assert get("/admin/review/agreement?format=csv&of=reviewers").text.startswith("reviewer,labels")


def test_the_page_is_there_without_labels_and_escapes_those_there_are(
    get: Any, labelled: Dataset, session: Session
) -> None:
    text = get("/admin/review/agreement?days=all").text
    assert "&lt;script&gt;" in text
    assert "<script>alert" not in text
    empty = get("/admin/review/agreement?role=tester&days=7")
    assert empty.status_code == 200
    assert "Nobody has labelled the same items yet" in empty.text
    assert get("/admin/review/agreement?days=3").status_code == 422


@pytest.mark.parametrize(
    ("value", "n", "means"),
    [
        (None, 9, "not defined: nobody, or all with one verdict, labelled the same items"),
        (-0.1, 99, "worse than by chance"),
        (0.0, 99, "hardly better than by chance"),
        (0.5, 99, "moderate"),
        (0.8, 99, "almost perfect"),
        (1.0, 3, "almost perfect, but of few items"),
    ],
)
def test_measures_in_words(value: float | None, n: int, means: str) -> None:
    assert agreement.spoken(value, n).means == means
