"""Feedback finds the call it names by key or response id, whichever comes first."""

import threading
from datetime import timedelta

import pytest
from feedback_records import call, said, store, targets
from sqlalchemy import text
from sqlmodel import Session, col, select

from collector.feedback import Subject, said_about
from collector.feedback.joining import join_waiting
from collector.ingest import store_batch
from collector.schemas import IngestBatch
from collector.tables import Feedback, Interaction
from foundation.database import get_engine
from foundation.ids import keyed_episode_id, new_id
from foundation.settings import get_settings
from foundation.tables import now

NAMED = [
    ({"key": "call-7"}, {"interaction_key": "call-7"}),
    ({"gen_ai_response_id": "chatcmpl-9"}, {"response_id": "chatcmpl-9"}),
]


@pytest.mark.parametrize(("column", "name"), NAMED)
def test_feedback_before_and_after_its_call_is_joined(session: Session, column, name):
    record = call(**column)
    store(session, feedback=[said(**name)])
    assert targets(session) == [None]
    store(session, [record])
    store(session, feedback=[said(**name)])
    assert targets(session) == [record["id"]] * 2


@pytest.mark.parametrize(("column", "name"), [(*column, *name) for column, name in NAMED])
@pytest.mark.parametrize("value", ["jo@x.org", "ghp_" + "a1B2" * 9])
def test_a_name_that_looks_personal_or_secret_joins_and_is_not_kept(session, column, name, value):
    store(session, feedback=[said("comment", text="mo@x.org", **{name: value})])
    record = call(**{column: value})
    store(session, [record])
    assert targets(session) == [record["id"]]
    about = {"interaction_key": value} if name == "interaction_key" else {"response_id": value}
    assert len(said_about(session, Subject(**about), 10)) == 1
    dump = session.execute(text("SELECT concat((SELECT string_agg(i::text, '') FROM interaction i),"
                                " (SELECT string_agg(f::text, '') FROM feedback f))"))  # fmt: skip
    assert value not in dump.scalar_one()


def test_a_personal_key_of_an_episode_names_the_same_episode_everywhere(session: Session):
    store(session, feedback=[said(episode_key="jo@x.org", project="p")])
    (stored,) = session.exec(select(Feedback)).all()
    assert stored.episode_id == keyed_episode_id("p", "jo@x.org")
    assert len(said_about(session, Subject(episode_key="jo@x.org", project="p"), 10)) == 1


def test_keys_are_looked_up_in_the_settings_project(session: Session, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_PROJECT", "web")
    get_settings.cache_clear()
    record = call(key="k")
    store(session, [record], [said(interaction_key="k"), said(episode_key="e")])
    assert targets(session) == [record["id"], None]
    assert session.exec(select(Interaction.project)).all() == ["web"]
    episode = session.exec(select(Feedback.episode_id).order_by(col(Feedback.id).desc())).first()
    assert episode == keyed_episode_id("web", "e")


def test_both_in_one_batch_are_joined(session: Session):
    record = call(key="k")
    store(session, [record], [said(interaction_key="k")])
    assert targets(session) == [record["id"]]


def test_a_join_makes_the_statement_new_again(session: Session):
    store(session, feedback=[said(interaction_key="k")])
    before = session.exec(select(Feedback)).one().ingested_at
    store(session, [call(key="k")])
    session.expire_all()
    after = session.exec(select(Feedback)).one()
    assert after.ingested_at > before
    assert after.created_at < before


def test_the_newest_call_of_that_name_is_meant(session: Session):
    older, newer = call(key="k"), call(key="k")
    store(session, [newer])
    store(session, [older])
    store(session, feedback=[said(interaction_key="k")])
    assert targets(session) == [newer["id"]]


def test_a_joined_statement_stays_with_its_call(session: Session):
    first = call(key="k")
    store(session, [first], [said(interaction_key="k")])
    store(session, [call(key="k")])
    assert targets(session) == [first["id"]]


def test_a_key_belongs_to_its_project_and_a_response_id_to_all(session: Session):
    ours, theirs = call(key="k", project="a"), call(key="k", project="b", gen_ai_response_id="r")
    store(session, [ours, theirs])
    store(
        session,
        feedback=[
            said(interaction_key="k", project="a"),
            said(interaction_key="k", project="b"),
            said(interaction_key="k"),  # the project `default` has no such call
            said(response_id="r"),
            said(response_id="r", project="a"),
        ],
    )
    assert targets(session) == [ours["id"], theirs["id"], None, theirs["id"], None]


def test_our_own_id_wins_over_names(session: Session):
    named, meant = call(key="k"), call()
    store(session, [named, meant], [said(interaction_id=meant["id"], interaction_key="k")])
    assert targets(session) == [meant["id"]]


def test_an_episodes_key_is_its_id_at_once(session: Session):
    store(session, feedback=[said(episode_key="PR-12"), said(episode_key="PR-12", project="p")])
    found = {one.episode_id for one in session.exec(select(Feedback))}
    assert found == {keyed_episode_id("default", "PR-12"), keyed_episode_id("p", "PR-12")}


def test_waiting_for_a_call_is_no_word_on_the_whole_episode(session: Session):
    store(session, feedback=[said(interaction_key="k", episode_id=str(new_id()))])
    assert session.exec(select(Feedback)).one().episode_id is None


@pytest.mark.parametrize("losers_first", [True, False])
def test_both_sides_of_a_preference_are_joined(session: Session, losers_first):
    winner, loser = call(key="w"), call(gen_ai_response_id="l")
    statement = said("preference", interaction_key="w", loser_response_id="l", value=None)
    batches = [([loser], []), ([], [statement]), ([winner], [])]
    for interactions, feedback in batches if losers_first else reversed(batches):
        store(session, interactions, feedback)
    session.rollback()
    one = session.exec(select(Feedback)).one()
    assert (str(one.interaction_id), str(one.loser_interaction_id)) == (winner["id"], loser["id"])


def test_nobody_named_is_refused(session: Session):
    nobody = said("preference", interaction_key="w", value=None)
    batch = IngestBatch(source="test", feedback=[said(), nobody, said(source="nobody")])
    reasons = [result.reason for result in store_batch(session, batch)]
    assert all(reason.startswith("invalid") for reason in reasons)
    assert "episode_key" in reasons[0]
    assert "loser_interaction_id" in reasons[1]


def test_two_transactions_that_do_not_see_each_other_are_joined_later(session: Session):
    record = call(key="k")
    with Session(get_engine()) as one, Session(get_engine()) as other:
        store_batch(one, IngestBatch(source="one", interactions=[record]))
        store_batch(other, IngestBatch(source="other", feedback=[said(interaction_key="k")]))
        one.commit()
        other.commit()
    assert targets(session) == [None]
    assert join_waiting(session, now() - timedelta(hours=1)) == 1
    session.commit()
    assert targets(session) == [record["id"]]
    assert join_waiting(session, now() - timedelta(hours=1)) == 0


def test_the_sweep_leaves_alone_what_waits_for_long(session: Session):
    store(session, feedback=[said(interaction_key="k")])
    with Session(get_engine()) as other:  # as a concurrent transaction would leave it
        other.execute(text("UPDATE feedback SET ingested_at = now() - interval '2 hours'"))
        other.commit()
    record = call(key="k")
    with Session(get_engine()) as one:
        one.execute(text("SELECT id FROM feedback FOR UPDATE"))
        store(session, [record])  # does not wait for whoever joins it now
    assert targets(session) == [None]
    assert join_waiting(session, now() - timedelta(hours=1)) == 0
    assert join_waiting(session, now() - timedelta(hours=3)) == 1


def test_many_writers_at_once_lose_no_join_and_do_not_deadlock(session: Session):
    keys = [f"k{n}" for n in range(40)]
    faults = list[Exception]()

    def write(batches):
        try:
            with Session(get_engine()) as mine:
                for batch in batches:
                    store_batch(mine, batch)
                    mine.commit()
        except Exception as error:
            faults.append(error)

    calls = [IngestBatch(source="a", interactions=[call(key=k) for k in keys]) for _ in range(3)]
    words = [
        IngestBatch(source="b", feedback=[said(interaction_key=k) for k in order])
        for order in (keys, keys[::-1], keys)
    ]
    threads = [threading.Thread(target=write, args=([batch],)) for batch in [*calls, *words]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    join_waiting(session, now() - timedelta(hours=1))
    session.commit()
    assert None not in targets(session)
