"""Preference pairs: from real outcomes, bounded, spread, settled, and in their task's split."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import col, delete, select
from stored_rows import store_example
from upstream_app import Server, create_upstream_app

from collector.feedback.sources import set_trust
from collector.tables import Feedback, InteractionPayload, SourceTrust
from curation.decontaminate import Protected, protect, unprotect
from curation.dedupe.index import index_texts
from curation.normalize import normalize
from curation.preferences.mine import mine_pairs
from curation.preferences.pairs import Answer, is_learnable, pair_of, pairs_of, preference, spread
from curation.preferences.people import votes_of
from curation.preferences.rank import (
    Ranked,
    generated_by,
    open_prompts,
    ranked,
    ranked_by_judge,
    store_ranked,
)
from curation.preferences.sources import pairs_by_source
from curation.recipe import CurationRecipe
from curation.score import judge
from curation.score.outcome import Attempt
from curation.split import split_of
from curation.tables import Example, JudgeCall, PreferencePair
from foundation.chat import completion, message
from foundation.ids import new_id
from foundation.tables import now
from router.tables import GatewayKey

RECIPE = CurationRecipe()


def answer(text, outcome=None, rating=None, prompt_length=1, **values):
    asked = [message("user", "sort a list")] * prompt_length
    values = {"outcome_source": "test"} | values
    return Answer(new_id(), asked, text, text.lower(), outcome=outcome, rating=rating, **values)


def texts(pairs):
    return {(pair.winner.text, pair.loser.text) for pair in pairs}


class TestPairs:
    def test_the_passing_answer_wins_over_the_failing_one(self):
        (pair,) = pairs_of([answer("good", True), answer("bad", False)], RECIPE)
        assert (pair.basis, pair.winner.text, pair.loser.text) == ("outcome", "good", "bad")
        assert pair.margin == 1.0
        assert pair.evidence["loser"] == {"outcome": False, "outcome_source": "test"}

    def test_the_less_trusted_of_the_two_outcomes_says_how_sure_the_pair_is(self):
        found = [answer("good", True), answer("bad", False, outcome_source="role")]
        assert pairs_of(found, RECIPE)[0].margin == 0.6

    @pytest.mark.parametrize(
        "found",
        [
            [],
            [answer("good", True)],
            [answer("good", True), answer("other", True)],
            [answer("bad", False), answer("worse", False)],
            [answer("good", True), answer("unknown")],
            [answer("good", True), answer(" \n ", False)],
            [answer("good", True, may_win=False), answer("bad", False)],
        ],
    )
    def test_without_two_different_outcomes_there_is_no_pair(self, found):
        assert pairs_of(found, RECIPE) == []

    def test_what_both_passed_and_failed_is_in_no_pair(self):
        flaky = [answer("Flaky", True), answer("flaky", False)]
        found = [*flaky, answer("good", True), answer("bad", False)]
        assert texts(pairs_of(found, RECIPE)) == {("good", "bad")}

    def test_pairs_are_bounded_and_spread_over_the_answers(self):
        found = [answer(f"good {i}", True) for i in range(3)]
        found += [answer(f"bad {i}", False) for i in range(30)]
        pairs = pairs_of(found, replace(RECIPE, pairs_per_task=9))
        assert len(texts(pairs)) == 9
        assert set(Counter(pair.winner.text for pair in pairs).values()) == {3}
        assert set(Counter(pair.loser.text for pair in pairs).values()) == {1}
        few = pairs_of([*found[:1], *found[3:5]], RECIPE)
        assert len(few) == 2, "no more than there are"

    def test_answers_that_say_the_same_are_one_and_the_order_does_not_matter(self):
        found = [answer("good", True), answer("GOOD", True), answer("bad", False)]
        assert len(pairs_of(found, RECIPE)) == 1
        found += [answer(f"bad {i}", False) for i in range(20)]
        assert pairs_of(found, RECIPE) == pairs_of(found[::-1], RECIPE)

    def test_ratings_far_apart_make_a_pair(self):
        liked, disliked = answer("liked", rating=5.0), answer("disliked", rating=2.5)
        (pair,) = pairs_of([liked, disliked], RECIPE)
        assert (pair.basis, pair.margin) == ("rating", 0.625)
        assert pairs_of([liked, disliked], replace(RECIPE, min_rating_gap=3.0)) == []
        assert pairs_of([replace(liked, rating=3.9), replace(disliked, rating=1.0)], RECIPE) == []

    def test_a_rating_never_speaks_against_an_outcome(self):
        liked = answer("liked but wrong", False, rating=5.0)
        disliked = answer("right but disliked", True, rating=1.0)
        (pair,) = pairs_of([liked, disliked], RECIPE)
        assert (pair.basis, pair.winner.text) == ("outcome", "right but disliked")
        unknown = replace(disliked, outcome=None)
        assert pairs_of([liked, unknown], RECIPE) == [], "the liked one is known to be wrong"
        both_right = pairs_of([replace(liked, outcome=True), disliked], RECIPE)
        assert [pair.basis for pair in both_right] == ["rating"]

    def test_the_shorter_prompt_is_the_pairs(self):
        """A later turn's prompt quotes the failed attempt that the pair is to teach against."""
        later = answer("good", True, prompt_length=3)
        assert len(pairs_of([later, answer("bad", False)], RECIPE)[0].prompt) == 1

    def test_a_correction_that_changes_nothing_is_no_pair(self):
        same = pair_of("correction", answer("x"), answer("X"), 1.0)
        assert not is_learnable(same)
        assert not is_learnable(pair_of("correction", answer("x"), answer(""), 1.0))

    @pytest.mark.parametrize(
        ("votes", "expected"),
        [([True], ("a", 1.0)), ([True, True, False], ("a", 0.3333)), ([False], ("b", 1.0))],
    )
    def test_the_majority_prefers(self, votes, expected):
        pair = preference(answer("a"), answer("b"), votes)
        assert (pair.winner.text, pair.margin) == expected

    def test_no_preference_where_people_or_outcomes_say_the_opposite(self):
        assert preference(answer("a"), answer("b"), [True, False]) is None
        assert preference(answer("a", False), answer("b", True), [True]) is None
        assert preference(answer("a", False), answer("b", False), [True]) is not None

    @given(st.integers(0, 12), st.integers(0, 12))
    def test_spreading_meets_each_combination_once_and_in_turn(self, n_winners, n_losers):
        winners = [answer(f"w{i}") for i in range(n_winners)]
        losers = [answer(f"l{i}") for i in range(n_losers)]
        met = [(one.text, other.text) for one, other in spread(winners, losers)]
        assert len(set(met)) == len(met) == n_winners * n_losers
        for count in range(1, len(met)):
            uses = Counter(w for w, _ in met[:count])
            assert max(uses.values()) - min((uses[w.text] for w in winners), default=0) <= 1


def mined(session, role="coder", recipe=RECIPE):
    return mine_pairs(session, role, recipe)


def stored_pairs(session, **conditions):
    session.expire_all()
    query = select(PreferencePair).order_by(col(PreferencePair.id))
    for name, value in conditions.items():
        query = query.where(getattr(PreferencePair, name) == value)
    return session.exec(query).all()


def judged(session, prompt, good, bad, **columns):
    return [
        *(store_example(session, prompt, text, outcome=True, **columns) for text in good),
        *(store_example(session, prompt, text, outcome=False, **columns) for text in bad),
    ]


def keyed(key):
    return {"scores": {"task_key": key}}


def log_payload(session, example, answer, **attributes):
    session.add(
        InteractionPayload(
            id=example.interaction_id,
            request={"messages": example.prompt},
            response=completion("x", "m", answer, "stop", 1, 1, 0),
            attributes=attributes or None,
        )
    )
    session.flush()


def prefer(session, winner, loser, source="human", actor=None, key_id=None):
    session.add(
        Feedback(
            key_id=key_id,
            kind="preference",
            interaction_id=winner.interaction_id,
            loser_interaction_id=loser.interaction_id,
            source=source,
            actor=actor,
        )
    )
    session.flush()


def made_key(session, name):
    key = GatewayKey(name=name, prefix=name, key_hash=name)
    session.add(key)
    session.flush()
    return key


def trust(session, key):
    session.add(SourceTrust(source=f"key:{key.id}", trust="trusted", reason="known"))
    session.flush()


def cut(session, recipe):
    """Return the counts of a mining by a recipe that caps sources."""
    counts = mine_pairs(session, "coder", recipe)
    session.expire_all()
    return counts


class TestMining:
    def test_the_same_prompt_with_two_outcomes_is_a_pair(self, session):
        good, bad = judged(session, "Sort  a LIST", ["def f(): ..."], ["def f(): 1"])
        other = judged(session, "reverse a list", [], ["def g(): ..."])
        assert mined(session) == {"tasks": 1, "outcome": 1}
        (pair,) = stored_pairs(session)
        assert (pair.winner_id, pair.loser_id) == (good.interaction_id, bad.interaction_id)
        assert (pair.chosen, pair.rejected) == ("def f(): ...", "def f(): 1")
        assert (pair.basis, pair.status, pair.margin) == ("outcome", "kept", 1.0)
        assert pair.prompt == good.prompt
        assert pair.row_hash
        assert other[0].interaction_id not in (pair.winner_id, pair.loser_id)

    def test_mining_again_changes_nothing_and_reads_no_task_again(self, session):
        judged(session, "sort", ["a", "b"], ["c", "d"])
        mined(session)
        before = [pair.model_dump() for pair in stored_pairs(session)]
        assert mined(session) == {"tasks": 0, "outcome": 4}
        assert [pair.model_dump() for pair in stored_pairs(session)] == before

    def test_another_database_gives_the_same_rows(self, session):
        rows = judged(session, "sort", ["a", "b"], ["c"])
        mined(session)
        before = [(pair.id, pair.row_hash) for pair in stored_pairs(session)]
        for pair in stored_pairs(session):
            session.delete(pair)
        session.flush()
        assert mined(session)["tasks"] == 1
        assert [(pair.id, pair.row_hash) for pair in stored_pairs(session)] == before
        assert len(rows) == 3

    def test_a_callers_task_key_joins_prompts_and_parts_equal_ones(self, session):
        store_example(session, "sort it", "a", outcome=True, **keyed("sort"))
        store_example(session, "please sort it", "b", outcome=False, **keyed("sort"))
        store_example(session, "do it", "c", outcome=True, **keyed("one"))
        store_example(session, "do it", "d", outcome=False, **keyed("two"))
        store_example(session, "sort it", "e", outcome=False, project="shop", **keyed("sort"))
        assert mined(session) == {"tasks": 1, "outcome": 1}
        (pair,) = stored_pairs(session)
        assert (pair.task_key, pair.chosen, pair.rejected) == ("task:sort", "a", "b")

    def test_what_judging_did_not_name_is_named_from_the_log(self, session):
        rows = [
            store_example(session, "one way", "a", outcome=True, prompt_text_id=None),
            store_example(session, "another way", "b", outcome=False, prompt_text_id=None),
            store_example(session, "Reverse  it", "c", outcome=True, prompt_text_id=None),
            store_example(session, "reverse it", "d", outcome=False, prompt_text_id=None),
        ]
        for row in rows[:2]:
            log_payload(session, row, row.answer, task_key="sort")
        assert mined(session)["outcome"] == 2
        assert {pair.task_key.split(":")[0] for pair in stored_pairs(session)} == {"task", "prompt"}
        session.expire_all()
        assert rows[0].scores["task_key"] == "sort"
        assert rows[2].prompt_text_id == rows[3].prompt_text_id is not None

    def test_prompts_that_ask_nothing_are_no_task(self, session):
        judged(session, "", ["a"], ["b"], prompt_text_id=None)
        assert mined(session) == {"tasks": 0}

    def test_duplicates_still_pair_and_lost_answers_never_do(self, session):
        store_example(
            session, "p", "good", outcome=True, status="dropped", drop_reason="near_duplicate"
        )
        store_example(session, "p", "", outcome=False, polarity="lost", drop_reason="empty_answer")
        store_example(session, "p", "def f(", outcome=False, drop_reason="truncated")
        store_example(session, "p", "said nothing", outcome=None)
        assert mined(session) == {"tasks": 0}
        store_example(session, "p", "bad", outcome=False)
        assert mined(session) == {"tasks": 1, "outcome": 1}
        (pair,) = stored_pairs(session)
        assert (pair.chosen, pair.rejected) == ("good", "bad")

    def test_what_a_rule_or_a_benchmark_ruled_out_does_not_win(self, session):
        rule = store_example(session, "p", "licensed", outcome=True)
        rule.status, rule.drop_reason = "dropped", "rule_error:licence"
        judged(session, "p", [], ["bad"])
        assert "outcome" not in mined(session)
        good, _ = judged(session, "q", ["taught"], ["bad"])
        assert mined(session)["outcome"] == 1
        good.status, good.drop_reason = "dropped", "contaminated"
        session.flush()
        counts = mined(session)
        assert "outcome" not in counts
        assert stored_pairs(session, status="kept") == []

    def test_late_feedback_brings_takes_and_gives_back_pairs(self, session):
        good, bad = judged(session, "p", ["a"], ["b"])
        mined(session)
        bad.scores, bad.polarity = {**bad.scores, "outcome": True}, "positive"
        session.flush()
        assert mined(session) == {"tasks": 1, "superseded": 1}
        bad.scores, bad.polarity = {**bad.scores, "outcome": False}, "negative"
        session.flush()
        assert mined(session) == {"tasks": 1, "outcome": 1}
        assert good.interaction_id == stored_pairs(session)[0].winner_id

    def test_a_changed_bound_mines_all_tasks_again(self, session):
        judged(session, "p", ["a", "b", "c"], ["d", "e", "f"])
        assert mined(session)["outcome"] == 8
        fewer = mined(session, recipe=replace(RECIPE, pairs_per_task=2))
        assert (fewer["outcome"], fewer["superseded"]) == (2, 6)

    def test_many_copies_of_one_answer_are_one(self, session):
        judged(session, "p", ["same"] * 150, ["bad"])
        assert mined(session)["outcome"] == 1

    def test_roles_and_variants_are_apart(self, session):
        store_example(session, "p", "a", outcome=True)
        store_example(session, "p", "b", outcome=False, role="tester")
        store_example(session, "p", "c", outcome=False, variant="unverified")
        assert mined(session) == {"tasks": 0}

    def test_an_empty_role_has_no_pairs(self, session):
        assert mined(session, role="reviewer") == {"tasks": 0}


class TestCorrections:
    def corrected(self, session, **columns):
        row = store_example(
            session,
            "p",
            "as it should be",
            corrected=True,
            polarity="positive",
            row_hash="1",
            scores={"outcome": False},
            **columns,
        )
        log_payload(session, row, "as it was")
        return row

    def test_a_correction_wins_over_what_it_corrected(self, session):
        row = self.corrected(session)
        assert mined(session) == {"tasks": 0, "correction": 1}
        (pair,) = stored_pairs(session)
        assert (pair.winner_id, pair.loser_id) == (row.interaction_id, row.interaction_id)
        assert (pair.chosen, pair.rejected) == ("as it should be", "as it was")
        assert mined(session) == {"tasks": 0, "correction": 1}

    def test_the_pair_outlives_the_payload_and_follows_the_correction(self, session):
        row = self.corrected(session)
        mined(session)
        payload = session.get(InteractionPayload, row.interaction_id)
        row.answer, row.row_hash = "better still", "2"
        session.flush()
        mined(session)
        assert [pair.chosen for pair in stored_pairs(session)] == ["better still"]
        session.delete(payload)
        session.flush()
        assert mined(session)["correction"] == 1
        row.corrected = False
        session.flush()
        assert mined(session)["superseded"] == 1

    def test_a_correction_of_nothing_is_no_pair(self, session):
        row = store_example(
            session, "p", "written by a person", corrected=True, polarity="positive"
        )
        log_payload(session, row, "")
        assert mined(session) == {"tasks": 0}


class TestPreferences:
    def two(self, session, **columns):
        columns = {"outcome": None, "status": "dropped", "drop_reason": "no_outcome"} | columns
        return [store_example(session, "which?", text, **columns) for text in ("x", "y")]

    def test_what_a_person_preferred_is_a_pair(self, session):
        one, other = self.two(session)
        prefer(session, other, one)
        assert mined(session) == {"tasks": 0, "human": 1}
        (pair,) = stored_pairs(session)
        assert (pair.chosen, pair.rejected, pair.evidence["votes"]) == ("y", "x", [1, 0])
        assert mined(session) == {"tasks": 0, "human": 1}

    def test_last_words_and_majorities_count(self, session):
        one, other = self.two(session)
        prefer(session, one, other, actor="ada")
        prefer(session, other, one, actor="ada")
        prefer(session, one, other, actor="bob")
        assert mined(session) == {"tasks": 0}, "one each"
        prefer(session, one, other, actor="cleo")
        assert mined(session) == {"tasks": 0, "human": 1}
        prefer(session, other, one, source="user", actor="dan")
        prefer(session, other, one, source="user", actor="eve")
        assert mined(session) == {"tasks": 0, "human": 1, "superseded": 1}
        (pair,) = stored_pairs(session, status="kept")
        assert (pair.chosen, pair.margin) == ("y", 0.2)

    def test_one_key_is_one_voice_beside_others_whatever_it_calls_itself(self, session):
        one, other = self.two(session)
        key = made_key(session, "eve")
        for number in range(5):
            prefer(session, one, other, actor=f"eve{number}", key_id=key.id)
        assert mined(session)["human"] == 1
        assert stored_pairs(session)[0].evidence["votes"] == [5, 0], "nobody else spoke"
        prefer(session, other, one, actor="ada")
        assert mined(session) == {"tasks": 0, "superseded": 1}, "one each"
        prefer(session, other, one, actor="bob")
        assert mined(session) == {"tasks": 0, "human": 1, "superseded": 1}
        (pair,) = stored_pairs(session, status="kept")
        assert (pair.chosen, pair.evidence["votes"]) == ("y", [2, 1])
        trust(session, key)
        prefer(session, other, one, actor="cleo")
        assert mined(session)["human"] == 1
        (pair,) = stored_pairs(session, status="kept")
        assert (pair.chosen, pair.evidence["votes"]) == ("x", [5, 3]), "a trusted key's people"

    def test_a_key_whose_speakers_are_split_has_no_vote(self):
        said = [("key:a", "1", True), ("key:a", "2", False), ("", "ada", True)]
        votes = [{"by": by, "who": who, "for_one": one} for by, who, one in said]
        assert votes_of(votes, ()) == [True]
        assert votes_of(votes, ("key:a",)) == [True, False, True]
        assert votes_of([*votes, {"by": "", "who": "ada", "for_one": False}], ()) == [False]
        assert votes_of([], ()) == []

    def test_a_judges_word_is_not_a_persons(self, session):
        one, other = self.two(session)
        prefer(session, one, other, source="judge")
        assert mined(session) == {"tasks": 0}

    @pytest.mark.parametrize(
        "changed",
        [
            {"prompt_text_id": 7},
            {"answer": "X"},
            {"polarity": "lost"},
            {"drop_reason": "incomplete"},
            {"corrected": True},
            {"role": "tester"},
        ],
    )
    def test_answers_that_cannot_be_compared_are_no_pair(self, session, changed):
        one, other = self.two(session)
        for name, value in changed.items():
            setattr(other, name, value)
        prefer(session, one, other)
        counts = mined(session)
        assert "human" not in counts

    def test_the_same_pair_twice_is_one_and_the_opposite_of_an_outcome_falls(self, session):
        first, second = self.two(session), self.two(session)
        prefer(session, first[0], first[1])
        prefer(session, second[0], second[1])
        assert mined(session) == {"tasks": 0, "exact_duplicate": 1, "human": 1}
        judged(session, "which?", ["y"], ["x"])
        assert mined(session) == {"tasks": 1, "contradicted": 2, "outcome": 1}

    def test_what_reviewers_compared_is_theirs(self, session):
        judged(session, "p", ["a"], ["b"])
        mined(session)
        (pair,) = stored_pairs(session)
        pair.status, pair.drop_reason = "dropped", "human_disagrees"
        session.flush()
        store_example(session, "p", "c", outcome=False)
        counts = mined(session)
        assert (counts["human_disagrees"], counts["outcome"]) == (1, 1)


HALF = replace(RECIPE, max_source_share=0.5)


class TestSources:
    """How many pairs may rest on the word of one key alone."""

    def say(self, session, example, value, key=None, kind="success", source="test"):
        session.add(
            Feedback(
                kind=kind,
                value=value,
                source=source,
                interaction_id=example.interaction_id,
                key_id=key and key.id,
            )
        )
        session.flush()

    def tasks(self, session, n, name, good_by=None, bad_by=None):
        for number in range(n):
            good, bad = judged(session, f"{name} {number}", ["a"], ["b"])
            self.say(session, good, 1.0, good_by)
            self.say(session, bad, 0.0, bad_by)

    def test_a_key_has_no_more_than_its_share_by_either_side(self, session):
        eve, bob = made_key(session, "eve"), made_key(session, "bob")
        self.tasks(session, 3, "praised", good_by=eve)
        self.tasks(session, 3, "condemned", bad_by=eve)
        self.tasks(session, 2, "machine")
        self.tasks(session, 1, "others", good_by=bob, bad_by=bob)
        capped = replace(RECIPE, max_source_share=0.4)
        assert mined(session) == {"tasks": 9, "outcome": 9}
        assert cut(session, capped) == {"tasks": 0, "outcome": 5, "source_cap": 4}
        kept = [pair.id for pair in stored_pairs(session, status="kept")]
        shown = pairs_by_source(session, kept, capped)
        assert shown == {"key:eve": 2, "machine": 2, "key:bob": 1}
        before = [pair.model_dump() for pair in stored_pairs(session)]
        assert cut(session, capped) == {"tasks": 0, "outcome": 5, "source_cap": 4}
        assert [pair.model_dump() for pair in stored_pairs(session)] == before
        assert mined(session) == {"tasks": 0, "outcome": 9}, "without a cap they come back"
        trust(session, eve)
        assert cut(session, capped) == {"tasks": 0, "outcome": 9}

    def test_what_a_second_key_says_too_rests_on_nobody_alone(self, session):
        eve, bob = made_key(session, "eve"), made_key(session, "bob")
        good, bad = judged(session, "p", ["a"], ["b"])
        self.say(session, good, 1.0, eve)
        self.say(session, bad, 0.0, eve)
        assert cut(session, HALF) == {"tasks": 1, "source_cap": 1}
        self.say(session, good, 1.0, bob)
        assert "source_cap" in cut(session, HALF), "the worse side"
        self.say(session, bad, 0.0, bob)
        assert cut(session, HALF)["outcome"] == 1

    def test_a_preference_rests_on_who_voted_whatever_tests_say_of_the_answers(self, session):
        eve = made_key(session, "eve")
        one, other = TestPreferences().two(session)
        self.say(session, one, 1.0)
        prefer(session, one, other, key_id=eve.id)
        capped = HALF
        assert cut(session, capped) == {"tasks": 0, "source_cap": 1}
        prefer(session, one, other, actor="ada")
        assert cut(session, capped) == {"tasks": 0, "human": 1}

    def test_the_weakest_pairs_of_a_key_go_first(self, session):
        eve = made_key(session, "eve")
        self.tasks(session, 1, "tested", good_by=eve)
        one, other = TestPreferences().two(session)
        prefer(session, one, other, key_id=eve.id)
        self.tasks(session, 1, "machine")
        counts = cut(session, HALF)
        assert counts == {"tasks": 2, "outcome": 2, "source_cap": 1}

    def test_where_no_key_was_made_nothing_is_asked(self, session):
        self.tasks(session, 2, "machine")
        assert cut(session, replace(RECIPE, max_source_share=0.1)) == {"tasks": 2, "outcome": 2}
        assert pairs_by_source(session, [new_id()], RECIPE) == {}

    def test_what_says_otherwise_or_something_else_frees_no_pair_of_a_key(self, session):
        eve = made_key(session, "eve")
        good, bad = judged(session, "p", ["a"], ["b"])
        self.say(session, good, 1.0, eve)
        self.say(session, bad, 0.0, eve)
        self.say(session, good, 1.0, kind="rating", source="user")
        self.say(session, good, 0.0)
        assert cut(session, HALF) == {"tasks": 1, "source_cap": 1}

    @pytest.mark.parametrize("reviewed", ["rejected", "accepted", "edited"])
    def test_what_a_reviewer_said_of_an_answer_rests_on_no_key(self, session, reviewed):
        eve = made_key(session, "eve")
        good, bad = judged(session, "p", ["a"], ["b"])
        self.say(session, good, 1.0)
        self.say(session, bad, 0.0, eve)
        assert "source_cap" in cut(session, HALF)
        bad.reviewed = reviewed
        session.flush()
        assert cut(session, HALF) == {"tasks": 0, "outcome": 1}

    def test_of_two_keys_the_one_with_more_pairs_is_charged(self, session):
        eve, keys = made_key(session, "eve"), [made_key(session, f"k{n}") for n in range(6)]
        for number, key in enumerate(keys):
            self.tasks(session, 1, f"t{number}", good_by=key, bad_by=eve)
        assert cut(session, replace(RECIPE, max_source_share=0.2)) == {"tasks": 6, "source_cap": 6}

    def test_a_judges_preference_frees_no_vote_of_a_key(self, session):
        eve = made_key(session, "eve")
        one, other = TestPreferences().two(session)
        prefer(session, one, other, key_id=eve.id)
        prefer(session, one, other, source="judge")
        assert cut(session, HALF) == {"tasks": 0, "source_cap": 1}

    def test_a_repeat_by_others_word_frees_a_pair(self, session):
        eve = made_key(session, "eve")
        good, bad = judged(session, "which?", ["x"], ["y"])
        self.say(session, good, 1.0, eve)
        self.say(session, bad, 0.0, eve)
        one, other = TestPreferences().two(session)
        prefer(session, one, other, key_id=eve.id)
        found = cut(session, HALF)
        assert (found["source_cap"], found["exact_duplicate"]) == (1, 1), "her own word again"
        prefer(session, one, other, actor="ada")
        found = cut(session, HALF)
        assert (found["outcome"], found["exact_duplicate"]) == (1, 1)

    def test_what_was_capped_stays_so_when_its_feedback_has_aged_out(self, session):
        eve = made_key(session, "eve")
        self.tasks(session, 1, "praised", good_by=eve, bad_by=eve)
        assert "source_cap" in cut(session, HALF)
        session.execute(delete(Feedback))
        assert "source_cap" in cut(session, HALF)
        assert mined(session)["outcome"] == 1

    def test_distrusting_who_alone_preferred_takes_the_pair_away(self, session):
        eve = made_key(session, "eve")
        one, other = TestPreferences().two(session)
        prefer(session, one, other, key_id=eve.id)
        assert mined(session)["human"] == 1
        for trust, counts in (("distrusted", {"superseded": 1}), (None, {"human": 1})):
            set_trust(session, f"key:{eve.id}", trust, reason="it praises itself", actor="ada")
            assert mined(session) == {"tasks": 0, **counts}

    def test_a_correction_rests_on_who_wrote_it_last(self, session):
        eve = made_key(session, "eve")
        example = store_example(session, "p", "fixed", outcome=None, corrected=True)
        log_payload(session, example, "wrong")
        self.correct(session, example)
        assert cut(session, HALF)["correction"] == 1
        self.correct(session, example, eve)
        assert cut(session, HALF)["source_cap"] == 1
        example.reviewed = "edited"
        session.flush()
        assert cut(session, HALF)["correction"] == 1

    def correct(self, session, example, key=None):
        said = {"kind": "correction", "text": "fixed", "source": "human"}
        about = {"interaction_id": example.interaction_id, "key_id": key and key.id}
        session.add(Feedback(**said, **about, created_at=now()))
        session.flush()


class TestSplits:
    def test_a_pair_stands_where_its_tasks_examples_stand(self, session):
        judged(session, "p", ["a"], ["b"], split="test", split_key="group:1")
        assert mined(session)["outcome"] == 1
        (pair,) = stored_pairs(session)
        assert (pair.split, pair.split_key) == ("test", "group:1")

    def test_a_third_answer_to_the_prompt_tells_the_split_too(self, session):
        judged(session, "p", ["a"], ["b"])
        store_example(session, "p", "c", split="validation", split_key="group:1")
        mined(session)
        assert [pair.split for pair in stored_pairs(session)] == ["validation"]

    def test_a_task_has_one_split_the_strictest_and_moves_with_its_group(self, session):
        rows = judged(session, "p", ["a", "b"], ["c"], **keyed("k"))
        for row, split in zip(rows, ("train", "validation", "train"), strict=True):
            row.split, row.split_key = split, f"group:{split}"
        session.flush()
        mined(session)
        assert {pair.split for pair in stored_pairs(session)} == {"validation"}
        for row in rows:
            row.split, row.split_key = "test", "group:merged"
        session.flush()
        assert mined(session)["tasks"] == 0
        found = {(pair.split, pair.split_key) for pair in stored_pairs(session)}
        assert found == {("test", "group:merged")}

    def test_tasks_without_a_group_are_spread_by_their_own_key(self, session):
        for i in range(60):
            judged(session, f"task number {i}", ["a"], ["b"])
        mined(session)
        found = stored_pairs(session)
        counts = Counter(pair.split for pair in found)
        assert counts["train"] > 30
        assert set(counts) == {"train", "validation", "test"}
        assert len({pair.split_key for pair in found}) == 60


@pytest.mark.data
def test_imported_pairs_are_mined(session, public_data, tmp_path, monkeypatch):
    """Every pair of the public file, through the importer, as examples nobody gave an outcome."""
    from collector.direct import DirectTransport
    from collector.importers.run import run_import

    monkeypatch.chdir(tmp_path)
    path = public_data / "feedback_sharegpt" / "dpo_en_demo_a.jsonl.gz"
    report = run_import("dpo", [path], DirectTransport())
    assert report.rejected == 0
    payloads = session.exec(select(InteractionPayload).order_by(col(InteractionPayload.id))).all()
    for payload in payloads:
        request, response = payload.request, payload.response
        session.add(
            Example(
                role="researcher",
                interaction_id=payload.id,
                prompt=request["messages"],
                answer=response["choices"][0]["message"]["content"],
                norm_hash=str(payload.id),
                status="dropped",
                drop_reason="no_outcome",
            )
        )
    session.flush()
    counts = mined(session, role="researcher")
    n_preferences = len(session.exec(select(Feedback).where(Feedback.kind == "preference")).all())
    assert counts["human"] + counts.get("exact_duplicate", 0) == n_preferences >= 145


class TestBenchmarks:
    TASK = "Return the list of all prefixes from shortest to longest of the input string tomorrow."

    def test_a_pair_that_teaches_a_benchmark_is_dropped_and_comes_back_without_it(self, session):
        source = "suite:prefixes@1"
        one, other = TestPreferences().two(session, prompt_text_id=None)
        for row in (one, other):
            row.prompt = [message("user", self.TASK)]
        prefer(session, one, other)
        assert mined(session) == {"tasks": 0, "human": 1}
        protect(session, source, [Protected("1", self.TASK)])
        assert mined(session) == {"tasks": 0, "contaminated": 1}
        (pair,) = stored_pairs(session)
        assert pair.evidence["contamination"]["method"] == "exact"
        free = mined(session, recipe=replace(RECIPE, decontaminate=False))
        assert free == {"tasks": 0, "human": 1}
        assert mined(session) == {"tasks": 0, "contaminated": 1}
        unprotect(session, source)
        assert mined(session) == {"tasks": 0, "human": 1}


class TestGenerated:
    def asked(self, session, **columns):
        row = store_example(session, "sort it", "sorted", outcome=True, **columns)
        (one,) = open_prompts(session, "coder", RECIPE, 10)
        assert (one.prompt, one.interaction_id) == (row.prompt, row.interaction_id)
        return one

    def test_recorded_answers_are_ranked_the_best_against_the_worst(self, session):
        one = self.asked(session, split="train", split_key="group:1")
        recorded = ["fine", "wrong", "FINE", "worse", " ", "cannot tell"]
        scores = {"FINE": 1.0, "fine": 1.0, "wrong": 0.5, "worse": 0.1, "cannot tell": None}
        found = list(
            ranked(
                [one],
                lambda _: recorded,
                lambda _, answers: [scores[said] for said in answers],
                "recorded",
            )
        )
        assert len(found[0].answers) == 4
        counts = store_ranked(session, "coder", RECIPE, found)
        assert counts == {"generated": 2}
        made = stored_pairs(session)
        assert {(pair.chosen.lower(), pair.rejected) for pair in made} == {
            ("fine", "worse"),
            ("wrong", "worse"),
        }
        assert {(pair.split, pair.split_key) for pair in made} == {("train", "group:1")}
        assert store_ranked(session, "coder", RECIPE, found) == counts, "the same rows again"
        assert open_prompts(session, "coder", RECIPE, 10) == []
        assert mined(session) == {"tasks": 0, "generated": 2}

    def test_answers_as_good_as_each_other_are_no_pair(self, session):
        one = self.asked(session)
        close = Ranked(one, [("a", 0.8), ("b", 0.7)], "recorded")
        assert store_ranked(session, "coder", RECIPE, [close]) == {}
        alone = Ranked(one, [("a", 0.8)], "recorded")
        assert store_ranked(session, "coder", RECIPE, [alone]) == {}

    def test_only_what_is_trained_on_is_asked_one_prompt_a_task(self, session):
        store_example(session, "p", "a", outcome=True)
        store_example(session, "p", "b", outcome=True)
        store_example(session, "held out", "a", outcome=True, split="test")
        store_example(session, "failed", "a", outcome=False)
        assert len(open_prompts(session, "coder", RECIPE, 10)) == 1
        assert open_prompts(session, "coder", RECIPE, 0) == []

    def test_answers_come_from_a_model_scrubbed(self, session):
        said = "def f(): ...  # by ada.lovelace@example.org"
        store_example(session, f"say {said}", "sorted", outcome=True)
        asked = open_prompts(session, "coder", RECIPE, 10)
        with Server(create_upstream_app()) as upstream:
            generate = generated_by("openai/some", 2, api_base=f"{upstream.url}/v1", api_key="none")
            (found,) = ranked(asked, generate, lambda _, answers: [0.5] * len(answers), "some")
        ((text, _),) = found.answers
        assert text.startswith("def f(): ...")
        assert "ada.lovelace" not in text

    def test_the_judges_verdicts_rank_and_a_flip_is_none(self, session):
        recipe = replace(RECIPE, judge_model="somebody", judge_calls=0)
        one = self.asked(session)
        rank = ranked_by_judge(session, recipe, now())
        for text, plain, swapped in (("a", 0.9, 0.7), ("b", 0.9, 0.1), ("c", 0.2, 0.2)):
            attempt = Attempt("sort it", text, "success", True, "stop")
            for rubric, score in ((judge.PLAIN, plain), (judge.SWAPPED, swapped)):
                key = judge.Question(attempt, "somebody", rubric).key
                session.add(JudgeCall(key=key, model="somebody", rubric=rubric, score=score))
        session.flush()
        assert rank(one, ["a", "b", "c", "d"]) == [pytest.approx(0.8), None, 0.2, None]


class TestNearPrompts:
    """People preferred one of two answers that nobody executed: no example has a group."""

    WORDS = " ".join(f"word{i}" for i in range(60))

    def preferred(self, session, prompt):
        rows = [
            store_example(
                session,
                prompt,
                text,
                outcome=None,
                status="dropped",
                drop_reason="no_outcome",
                prompt_text_id=None,
            )
            for text in ("x", "y")
        ]
        prefer(session, *rows)
        return rows

    def places(self, session):
        return {(pair.split, pair.split_key) for pair in stored_pairs(session)}

    def test_reworded_prompts_stand_in_one_split_whenever_they_come(self, session):
        self.preferred(session, self.WORDS)
        self.preferred(session, f"{self.WORDS} please")
        mined(session)
        assert len(self.places(session)) == 1
        before = self.places(session)
        self.preferred(session, f"well, {self.WORDS}")
        mined(session)
        assert len(stored_pairs(session)) == 3
        assert self.places(session) == before

    def test_prompts_near_an_examples_follow_it(self, session):
        key = next(k for i in range(99) if split_of(k := f"group:{i}", RECIPE) == "test")
        kept = store_example(session, self.WORDS, "a", split="test", split_key=key)
        told = normalize(kept.prompt, "")
        _, kept.prompt_text_id = index_texts(session, "coder", RECIPE, [told])[0]
        session.flush()
        self.preferred(session, f"{self.WORDS} please")
        mined(session)
        assert self.places(session) == {("test", key)}

    def test_unlike_prompts_are_spread(self, session):
        for i in range(40):
            self.preferred(session, " ".join(f"w{i}x{j}" for j in range(30)))
        assert mined(session)["human"] == 40
        assert len(self.places(session)) == 40
