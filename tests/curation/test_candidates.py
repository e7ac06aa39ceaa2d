"""What is new is told by transactions: late commits, late words, rewritten rows are not missed."""

from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlmodel import Session, col, select

from collector.tables import WRITER, Feedback, Interaction
from curation.candidates import (
    BYTES_AT_ONCE,
    Mark,
    candidates,
    mark,
    move_watermark,
    seen_xid,
    unseen,
)
from curation.tables import Example
from foundation.ids import new_id

ROLE = {"role": "coder", "variant": "default"}


def found(session: Session, from_xid: int | None = None, *, everything: bool = False) -> set[UUID]:
    """The ids that are to be looked at, of those of which something is news."""
    query = unseen(session, "coder", from_xid, everything=everything)
    ids = list(session.execute(text(query), {**ROLE, "from_xid": from_xid}).scalars())
    pieces = list(candidates(session, "default", ids, everything=everything))
    session.rollback()
    return {one.interaction.id for piece in pieces for one in piece}


def take_in(session: Session, *ids: UUID) -> int:
    """Make an example of each interaction, as a build does; return from where on news is unseen."""
    present = mark(session).xid
    for piece in candidates(session, "default", ids, everything=True):
        for one in piece:
            known = one.stored or Example(
                role="coder", interaction_id=one.interaction.id, norm_hash="h", prompt=[], answer=""
            )
            known.episode_id = one.interaction.episode_id
            known.source_xid = one.interaction.written_xid
            known.scores = {"feedback": one.feedback_hash}
            known.needs_judging = False
            session.add(known)
    session.commit()
    return present


@pytest.fixture
def connection(migrated: str):
    """A second client, whose transaction stays open until it commits."""
    with psycopg.connect(migrated) as opened:
        yield opened


def insert(connection: psycopg.Connection, role: str = "coder") -> UUID:
    identifier = new_id()
    connection.execute(
        "INSERT INTO interaction (id, role, project, gen_ai_operation_name, status, completed,"
        " usage_estimated, source, started_at, ingested_at)"
        " VALUES (%s, %s, 'default', 'chat', 'success', true, false, 'test', now(), now())",
        (identifier, role),
    )
    return identifier


def test_everything_of_the_role_is_new_at_first(session, log) -> None:
    mine, other = log.call("a", "b"), log.call("a", "b", role="tester")
    assert found(session) == found(session, everything=True) == {mine}
    assert other not in found(session)


def test_a_transaction_that_commits_late_is_not_missed(session, log, connection) -> None:
    """Its ids and clocks are older than what was looked at before it committed."""
    late = insert(connection)
    early = [log.call("a", "b") for _ in range(3)]
    assert found(session) == set(early)
    from_xid = take_in(session, *early)
    assert found(session, from_xid) == set(), "still open"
    younger = log.call("c", "d")
    from_xid = take_in(session, younger)
    connection.commit()
    assert late < min(early)
    assert found(session, from_xid) == {late}
    from_xid = take_in(session, late)
    assert found(session, from_xid) == set()


def test_feedback_that_commits_late_is_not_missed(session, log, connection) -> None:
    ids = [log.call("a", "b") for _ in range(2)]
    connection.execute(
        "INSERT INTO feedback (id, interaction_id, kind, value, source, created_at, ingested_at)"
        " VALUES (%s, %s, 'success', 1, 'test', now() - interval '1 day', now())",
        (new_id(), ids[0]),
    )
    take_in(session, *ids)
    from_xid = take_in(session, *ids)
    connection.commit()
    assert found(session, from_xid) == {ids[0]}


def test_what_was_said_since_brings_an_interaction_back(session, log) -> None:
    episode = new_id()
    told, silent, won, lost = (log.call("a", str(n)) for n in range(4))
    part = log.call("a", "5", episode_id=episode)
    everyone = [told, silent, won, lost, part]
    from_xid = take_in(session, *everyone)
    log.say(told, "rating", 5)
    log.say(None, "success", 1, episode_id=episode)
    log.say(won, "preference", loser_interaction_id=lost)
    assert found(session, from_xid) == {told, won, lost, part}
    assert found(session, take_in(session, *everyone)) == set()


def test_a_preference_speaks_well_of_one_and_ill_of_the_other(session, log) -> None:
    won, lost = log.call("a", "1"), log.call("a", "2")
    log.say(won, "preference", loser_interaction_id=lost)
    [pair] = candidates(session, "default", [won, lost], everything=True)
    values = {one.interaction.id: [s.value for s in one.statements] for one in pair}
    assert values == {won: [1.0], lost: [0.0]}
    assert all(s.direct for one in pair for s in one.statements)


def test_a_credit_that_moved_brings_both_turns_back(session, log) -> None:
    first, second = log.call("a", "1"), log.call("a", "2")
    log.say(first, "success", 1, source="role", derived_from=new_id())
    from_xid = take_in(session, first, second)
    said = session.exec(select(Feedback)).one()
    said.interaction_id, said.details = second, {"credited_before": str(first)}
    said.written_xid = WRITER
    session.commit()
    assert found(session, from_xid) == {first, second}


def test_rewritten_rows_are_news(session, log) -> None:
    ids = [log.call("a", str(n), passed=True) for n in range(3)]
    from_xid = take_in(session, *ids)
    session.get(Interaction, ids[0]).written_xid = WRITER
    scrubbed = session.exec(select(Feedback).where(Feedback.interaction_id == ids[1])).one()
    scrubbed.written_xid = WRITER
    session.commit()
    assert found(session, from_xid) == {ids[0], ids[1]}


def test_what_a_person_changed_is_judged_again(session, log) -> None:
    ids = [log.call("a", str(n)) for n in range(2)]
    from_xid = take_in(session, *ids)
    session.exec(select(Example).where(Example.interaction_id == ids[1])).one().needs_judging = True
    session.commit()
    assert found(session, from_xid) == {ids[1]}


def test_a_restored_database_looks_at_all_that_is_unseen(session, log) -> None:
    seen = log.call("a", "1")
    take_in(session, seen)
    present = mark(session)
    move_watermark(session, "coder", "default", present.xid + 10**6, present.at)
    session.commit()
    new = log.call("a", "2")
    present = mark(session)
    assert seen_xid(session, "coder", "default", present, present.database) is None
    assert found(session, None) == {new}
    move_watermark(session, "coder", "default", present.xid, present.at)
    elsewhere = Mark(present.xid, present.at, "another cluster")
    assert seen_xid(session, "coder", "default", elsewhere, present.database) is None
    assert seen_xid(session, "coder", "default", present, present.database) == present.xid
    assert seen_xid(session, "tester", "default", present, present.database) is None


def test_huge_payloads_are_held_a_few_at_a_time(session, log) -> None:
    ids = [log.call("x" * (BYTES_AT_ONCE // 2), "y") for _ in range(3)] + [log.call("a", "b")]
    pieces = [
        [one.interaction.id for one in p]
        for p in candidates(session, "default", ids, everything=True)
    ]
    assert [i for piece in pieces for i in piece] == ids
    assert len(pieces) == 3


def test_an_example_remembers_what_the_log_forgot(session, log) -> None:
    gone, expired = log.call("a", "1"), log.call("a", "2")
    take_in(session, gone, expired)
    for known in session.exec(select(Example)):
        known.prompt, known.answer = [{"role": "user", "content": "a"}], "b"
    session.execute(text("DELETE FROM interaction_payload"))
    session.exec(select(Interaction).where(col(Interaction.id) == gone))
    session.execute(text("DELETE FROM interaction WHERE id = :id"), {"id": gone})
    session.commit()
    session.expire_all()
    [both] = candidates(session, "default", [gone, expired], everything=True)
    for one in both:
        assert one.has_payload
        assert one.request == {"messages": [{"role": "user", "content": "a"}]}
        assert one.response["choices"][0]["message"]["content"] == "b"
    assert found(session, everything=True) == {gone, expired}


def test_the_news_are_found_by_their_indexes(session, log) -> None:
    """The cost goes by what is new: no plan reads the whole log, feedback or examples."""
    session.execute(
        text(
            "INSERT INTO feedback (id, interaction_id, kind, source, created_at, ingested_at)"
            " SELECT gen_random_uuid(), gen_random_uuid(), 'success', 'test', now(), now()"
            " FROM generate_series(1, 20000)"
        )
    )
    session.execute(
        text(
            "INSERT INTO example (id, role, interaction_id, variant, project, prompt, answer,"
            " corrected, polarity, status, scores, norm_hash, row_hash, split, split_key, n_tokens,"
            " protection, needs_judging, needs_settling, created_at)"
            " SELECT gen_random_uuid(), 'coder', gen_random_uuid(), 'default', 'p', '[]', 'a',"
            " false, 'positive', 'kept', '{}', 'h', 'r', 'train', '', 1, '', false, false, now()"
            " FROM generate_series(1, 20000)"
        )
    )
    session.commit()
    newest = text("SELECT (pg_current_xact_id()::text)::bigint")
    from_xid = session.execute(newest).scalar_one()
    log.call("a", "b", passed=True)
    session.execute(text("ANALYZE feedback, example"))
    query = unseen(session, "coder", from_xid, everything=False)
    explained = session.execute(text(f"EXPLAIN {query}"), {**ROLE, "from_xid": from_xid})
    scans = [line for line in explained.scalars() if "Seq Scan on" in line]
    assert [line for line in scans if "feedback" in line or "example" in line] == []
