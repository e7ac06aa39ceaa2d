"""What is said of an item, what follows from it, and that it all goes when a label is undone."""

import pytest
from review_rows import dataset, example, examples, item, items, likeness, pair
from sqlmodel import select

from curation.review.cards import card_of
from curation.review.export import exported
from curation.review.labels import label, labels_of, overrides_of, skip, statements_of, undo
from curation.review.leases import next_item
from curation.review.said import is_swapped
from curation.review.words import diff
from curation.review.workload import reviewers, verified, waiting
from curation.tables import PreferencePair, ReviewLabel
from foundation.errors import BadInput, Conflict, NotFound
from foundation.ids import new_id


@pytest.fixture
def one(session):
    return example(session, "def f():\n    return 1\n")


@pytest.fixture
def card(session, one):
    return item(session, one.id)


def said_of(session, one):
    return [(s.kind, s.value, s.name, s.text) for s in statements_of_one(session, one)]


def statements_of_one(session, one):
    return statements_of(session, [one.interaction_id]).get(one.interaction_id, [])


def overrides_of_one(session, one):
    return overrides_of(session, [one.interaction_id]).get(one.interaction_id, {})


# What is said


def test_an_acceptance_is_a_trusted_word_and_has_the_example_judged_again(session, one, card):
    next_item(session, "ann")
    said = label(session, card.id, "ann", "accept", {"rating": 5})
    assert said.seconds >= 0
    assert said_of(session, one) == [
        ("review", 1.0, "accepted", None),
        ("rating", 5.0, None, None),
    ]
    (first, _) = statements_of_one(session, one)
    assert (first.source, first.actor, first.direct) == ("human", "ann", True)
    session.refresh(one)
    session.refresh(card)
    assert one.needs_judging
    assert (card.status, card.leased_by) == ("done", None)


def test_every_variant_of_the_interaction_is_judged_again(session, one, card):
    other = example(session, interaction_id=one.interaction_id, variant="unverified")
    label(session, card.id, "ann", "accept")
    session.refresh(other)
    assert other.needs_judging


def test_a_rejection_needs_a_reason(session, one, card):
    with pytest.raises(BadInput, match="reason"):
        label(session, card.id, "ann", "reject")
    said = label(session, card.id, "ann", "reject", reason="  mails bo.li@example.org  ")
    assert said.reason == "mails <EMAIL_1>"
    assert said_of(session, one) == [("review", 0.0, "rejected", None)]


def test_an_edit_is_a_correction_with_its_diff(session, one, card):
    said = label(session, card.id, "ann", "edit", {"answer": "def f():\n    return 2\n"})
    assert said.value["original"] == one.answer
    assert said.value["diff"] == "@@ -1,2 +1,2 @@\n def f():\n-    return 1\n+    return 2"
    assert said_of(session, one) == [("review", 0.0, "edited", "def f():\n    return 2\n")]
    assert overrides_of_one(session, one)["answer"] == "def f():\n    return 2\n"
    assert overrides_of_one(session, one)["original"] == one.answer


def test_an_edit_is_scrubbed_and_numbered_on_from_what_was_removed_before(session):
    before = example(session, "to <EMAIL_1>", prompt="Write to <EMAIL_2>.")
    said = label(
        session, item(session, before.id).id, "ann", "edit", {"answer": "to eva.roth@example.org"}
    )
    assert said.value["answer"] == "to <EMAIL_3>"
    assert "eva" not in str(said.model_dump())


def test_an_edit_must_change_something(session, one, card):
    with pytest.raises(BadInput, match="edited answer"):
        label(session, card.id, "ann", "edit", {"answer": one.answer})
    assert session.exec(select(ReviewLabel)).all() == []


def test_relabelling_is_no_verdict(session, one, card):
    label(session, card.id, "ann", "relabel", {"task_type": "refactor", "difficulty": "hard"})
    assert said_of(session, one) == []
    assert overrides_of_one(session, one) == {"task_type": "refactor", "difficulty": "hard"}


def test_the_latest_word_on_each_thing_holds(session, one):
    two = item(session, one.id, n_wanted=3)
    label(session, two.id, "ann", "relabel", {"task_type": "fix", "difficulty": "easy"})
    label(session, two.id, "bob", "accept", {"difficulty": "medium"})
    assert overrides_of_one(session, one) == {"task_type": "fix", "difficulty": "medium"}


@pytest.mark.parametrize(
    ("action", "value"),
    [
        ("compare", {"choice": "first"}),
        ("accept", {"answer": "x"}),
        ("accept", {"rating": 6}),
        ("rate", {}),
        ("rate", {"rating": 2.5}),
        ("rate", {"rating": True}),
        ("edit", {}),
        ("edit", {"answer": "  "}),
        ("edit", {"answer": "a\0b"}),
        ("edit", {"answer": "x" * 200_001}),
        ("relabel", {"rating": 3}),
        ("relabel", {"difficulty": "trivial"}),
        ("relabel", {"task_type": ""}),
        ("skip", {"rating": 3}),
        ("praise", {}),
    ],
)
def test_what_makes_no_sense_is_refused(session, one, card, action, value):
    with pytest.raises(BadInput):
        label(session, card.id, "ann", action, value)
    assert session.exec(select(ReviewLabel)).all() == []


def test_nobody_labels_an_item_twice(session, one):
    two = item(session, one.id, n_wanted=2)
    label(session, two.id, "ann", "accept")
    assert next_item(session, "ann") is None
    with pytest.raises(Conflict, match="by you already"):
        label(session, two.id, "ann", "reject", reason="no")
    label(session, two.id, "bob", "accept")
    with pytest.raises(Conflict, match="done"):
        label(session, two.id, "cec", "accept")
    with pytest.raises(NotFound, match="review item"):
        label(session, new_id(), "ann", "accept")


# Undo


def test_an_undone_label_stays_without_effect(session, one, card):
    said = label(session, card.id, "ann", "edit", {"answer": "better", "task_type": "fix"})
    one.needs_judging = False
    session.flush()
    assert undo(session, "ann").id == said.id
    session.refresh(one)
    assert one.needs_judging
    assert session.get_one(ReviewLabel, said.id).undone_at is not None
    assert (said_of(session, one), overrides_of_one(session, one)) == ([], {})
    with pytest.raises(NotFound, match="label to undo"):
        undo(session, "ann")


def test_labels_are_undone_from_the_last_or_by_id(session):
    first, second, third = (label(session, i.id, "ann", "accept") for i in items(session, 3))
    with pytest.raises(NotFound):
        undo(session, "bob", first.id)
    assert undo(session, "ann", first.id).id == first.id
    assert undo(session, "ann").id == third.id
    assert undo(session, "ann").id == second.id


# Blindness


def test_a_second_reviewer_sees_what_the_first_one_saw(session, one):
    two = item(session, one.id, n_wanted=2)
    before = card_of(session, two.id, "bob")
    original = one.answer
    label(session, two.id, "ann", "edit", {"answer": "def f():\n    return 3\n"})
    one.answer, one.score, one.reviewed, one.corrected = "def f():\n    return 3\n", 0.95, "e", True
    session.flush()
    after = card_of(session, two.id, "bob")
    assert after == before
    assert after.sides[0].answer == original
    assert after.signals == {}
    assert labels_of(session, two.id, "bob") == []
    assert len(labels_of(session, two.id, "ann")) == 1
    label(session, two.id, "bob", "accept")
    assert len(labels_of(session, two.id, "bob")) == 2


def test_a_card_says_what_is_known(session, one, card):
    one.scores = {"outcome": True, "outcome_source": "test", "n_feedback": 2, "feedback": "x"}
    session.flush()
    next_item(session, "ann")
    shown = card_of(session, card.id, "ann")
    assert (shown.signals["score"], shown.signals["outcome"]) == (0.9, True)
    assert "feedback" not in shown.signals
    assert shown.leased_until is not None
    assert card_of(session, card.id, "bob").leased_until is None
    assert "edit" in shown.actions


# Pairs


def better_first(item_id, reviewer):
    """The choice that means the pair's winner, as this reviewer sees the two."""
    return "second" if is_swapped(item_id, reviewer) else "first"


def worse_first(item_id, reviewer):
    return "first" if is_swapped(item_id, reviewer) else "second"


def humans(session):
    return session.exec(select(PreferencePair).where(PreferencePair.basis == "human")).all()


def test_pairs_are_shown_in_an_order_of_each_reviewers_own(session):
    made, *_ = pair(session)
    compared = item(session, made.id, kind="pair")
    orders = set()
    for name in (f"r{i}" for i in range(20)):
        answers = tuple(side.answer for side in card_of(session, compared.id, name).sides)
        assert answers == (("bad", "good") if is_swapped(compared.id, name) else ("good", "bad"))
        orders.add(answers)
    assert len(orders) == 2


def test_a_comparison_becomes_a_human_preference(session):
    made, better, worse = pair(session)
    compared = item(session, made.id, kind="pair")
    choice = {"choice": better_first(compared.id, "ann")}
    said = label(session, compared.id, "ann", "compare", choice)
    assert said.value == {"winner": str(made.winner_id), "loser": str(made.loser_id)}
    (human,) = humans(session)
    assert (human.winner_id, human.chosen, human.margin) == (made.winner_id, "good", 1.0)
    for one, value in ((better, 1.0), (worse, 0.0)):
        ((kind, said_value, *_),) = said_of(session, one)
        assert (kind, said_value) == ("preference", value)
        session.refresh(one)
        assert one.needs_judging


def test_an_opposite_comparison_turns_the_pair_round_and_undo_turns_it_back(session):
    made, *_ = pair(session)
    compared = item(session, made.id, kind="pair")
    choice = {"choice": worse_first(compared.id, "ann")}
    label(session, compared.id, "ann", "compare", choice)
    (human,) = humans(session)
    assert (human.winner_id, human.chosen, human.rejected) == (made.loser_id, "bad", "good")
    assert (human.norm_hash, human.evidence["opposite"]) == ("q", "p")
    session.refresh(made)
    assert (made.status, made.drop_reason) == ("dropped", "human_disagrees")
    undo(session, "ann")
    session.refresh(made)
    session.refresh(human)
    assert (made.status, made.drop_reason) == ("kept", None)
    assert (human.status, human.drop_reason) == ("dropped", "taken_back")
    label(session, compared.id, "ann", "compare", choice)
    session.refresh(human)
    assert (human.status, humans(session)) == ("kept", [human])


def test_a_tie_and_a_split_vote_prefer_nothing(session):
    made, better, _ = pair(session)
    compared = item(session, made.id, kind="pair", n_wanted=3)
    label(session, compared.id, "ann", "compare", {"choice": "tie"})
    assert humans(session) == []
    label(session, compared.id, "bob", "compare", {"choice": better_first(compared.id, "bob")})
    (human,) = humans(session)
    assert (human.margin, human.evidence["votes"]) == (0.5, {"won": 1, "lost": 0, "tie": 1})
    label(session, compared.id, "cec", "compare", {"choice": worse_first(compared.id, "cec")})
    session.refresh(human)
    assert human.status == "dropped"
    assert said_of(session, better) == []


def test_what_users_preferred_stands_beside_comparisons(session):
    made, *_ = pair(session)
    columns = {"role": "coder", "basis": "human", "task_key": "t", "norm_hash": "h", "prompt": []}
    said = PreferencePair(
        **columns, winner_id=made.winner_id, loser_id=made.loser_id, chosen="good", rejected="bad"
    )
    session.add(said)
    compared = item(session, made.id, kind="pair")
    for choose, reason in ((better_first, None), (worse_first, "human_disagrees")):
        choice = {"choice": choose(compared.id, "ann")}
        label(session, compared.id, "ann", "compare", choice)
        session.refresh(said)
        assert said.drop_reason == reason
        undo(session, "ann")
        session.refresh(said)
        assert (said.status, said.drop_reason, said.evidence) == ("kept", None, {})


# Likenesses


def test_people_settle_a_likeness_and_may_take_it_back(session):
    edge, one, other = likeness(session)
    detail = {"low": edge.low, "high": edge.high, "first": str(one.id), "similarity": 0.96}
    settled = item(
        session, new_id(), kind="likeness", reason="semantic", other_id=other.id, detail=detail
    )
    shown = card_of(session, settled.id, "ann")
    assert [side.answer for side in shown.sides] == ["answer 1", "answer 2"]
    assert shown.similarity == 0.96
    label(session, settled.id, "ann", "accept")
    session.refresh(edge)
    session.refresh(one)
    session.refresh(other)
    assert (edge.disposed, edge.disposed_by) == ("duplicate", "ann")
    assert one.needs_settling
    assert other.needs_settling
    undo(session, "ann")
    session.refresh(edge)
    assert edge.disposed is None
    label(session, settled.id, "ann", "reject")
    session.refresh(edge)
    assert edge.disposed == "distinct"
    assert said_of(session, one) == []


# How it goes


def test_load_and_speed_of_reviewers(session):
    first, second, third = items(session, 3)
    for one, seconds in ((first, 10.0), (second, 30.0)):
        label(session, one.id, "ann", "accept").seconds = seconds
    skip(session, third.id, "bob")
    session.flush()
    next_item(session, "ann")
    ann, bob = reviewers(session, "coder")
    assert (ann.reviewer, ann.n_labels, ann.actions, ann.n_leased) == ("ann", 2, {"accept": 2}, 1)
    assert (ann.median_s, ann.labels_per_hour) == (20.0, 180.0)
    assert (bob.n_labels, bob.n_skipped, bob.labels_per_hour) == (0, 1, None)
    (row,) = waiting(session, "coder")
    assert (row.open, row.done, row.leased, row.reason) == (1, 2, 1, "random")


def test_who_only_holds_an_item_is_listed_too(session):
    items(session, 1)
    next_item(session, "ann")
    (ann,) = reviewers(session)
    assert (ann.n_labels, ann.n_leased) == (0, 1)


def test_the_drawn_sample_speaks_for_the_dataset(session):
    rows = examples(session, 10)
    made = dataset(session, rows)
    for row, action in zip(rows, ["accept"] * 3 + ["reject"] + ["rate"], strict=False):
        value = {"rating": 4} if action == "rate" else {}
        label(session, item(session, row.id).id, "ann", action, value, "no")
    picked = item(session, rows[7].id, reason="uncertainty")
    label(session, picked.id, "ann", "reject", reason="no")
    found = verified(session, made)
    assert (found.n_rows, found.n_drawn, found.n_judged, found.n_good) == (10, 5, 4, 3)
    assert found.share == 0.75
    low, high = found.interval
    assert low == pytest.approx(0.3006, abs=1e-4)
    assert high == pytest.approx(0.9544, abs=1e-4)


def test_labels_are_exported_with_what_they_are_about(session, one, card):
    label(session, card.id, "ann", "edit", {"answer": "better"})
    one.answer = "better"
    session.flush()
    made, *_ = pair(session)
    compared = item(session, made.id, kind="pair")
    label(session, compared.id, "ann", "compare", {"choice": "tie"})
    edited, tied = exported(session, "coder")
    assert (edited["answer"], edited["value"]["answer"]) == ("def f():\n    return 1\n", "better")
    assert (tied["kind"], tied["prompt"]) == ("pair", None)
    undo(session, "ann")
    assert len(list(exported(session))) == 1
    assert len(list(exported(session, undone=True))) == 2


def test_a_long_diff_is_one_hunk():
    before = "\n".join(["head", *map(str, range(6000)), "tail"])
    after = "\n".join(["head", *map(str, range(1, 6001)), "tail"])
    lines = diff(before, after).split("\n")
    assert lines[0] == "@@ -2,6000 +2,6000 @@"
    assert (lines[1], lines[-1]) == ("-0", "+6000")
    assert len(lines) == 12001
