import json

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from collector import dead_letters, ingest
from collector.dead_letters import discard, get_letter, letters, open_by_code, open_ids
from collector.delivery import Delivery, Line
from collector.ingest import ingest_counts, store, store_batch
from collector.record import feedback_record, interaction_record
from collector.replay import replay
from collector.schemas import IngestBatch
from collector.scrub import RULES_VERSION
from collector.tables import DeadLetter, Interaction
from foundation.errors import BadInput, Conflict, NotFound
from foundation.ids import new_id
from foundation.settings import get_settings

CANARY = "canary@secret.example.org"


def interaction(role="coder", **columns):
    request = {"messages": [{"role": "user", "content": f"I am {CANARY}"}]}
    return interaction_record(new_id(), role, request, None, **columns)


def send(session, *records, feedback=()):
    batch = IngestBatch(source="test", interactions=list(records), feedback=list(feedback))
    results = store_batch(session, batch)
    session.commit()
    return results


def everything(session: Session) -> str:
    """All text of the database."""
    tables = ("interaction", "interaction_payload", "feedback", "dead_letter", "ingest_count")
    rows = [session.execute(text(f"SELECT CAST(t AS text) FROM {t} t")).scalars() for t in tables]
    return "\n".join(str(row) for found in rows for row in found)


def test_a_refused_record_is_kept_scrubbed_once(session: Session):
    record = interaction(role="wizard")
    send(session, record)
    send(session, record, {"id": "x", "of": CANARY}, f"mail {CANARY}")
    found = {letter.code: letter for letter in letters(session)}
    assert open_by_code(session) == {"invalid": 2, "unknown_role": 1}
    letter = found["unknown_role"]
    assert (letter.kind, letter.record_id, letter.source) == ("interaction", record["id"], "test")
    kept = json.loads(letter.record)
    assert kept["request"]["messages"][0]["content"] == "I am <EMAIL_1>"
    assert kept["scrub_version"] == RULES_VERSION
    assert CANARY not in everything(session)


def test_what_postgresql_cannot_hold_is_kept_as_it_was(session: Session):
    broken = interaction(attributes={}) | {"arm": "a\x00b", "unit_id": "\ud800"}
    broken["attributes"] = {"n": float("nan")}
    send(session, broken)
    (letter,) = letters(session)
    kept = json.loads(letter.record)
    assert (kept["arm"], kept["unit_id"]) == ("a\x00b", "\ud800")
    assert kept["attributes"]["n"] != kept["attributes"]["n"]


def test_an_unreadable_line_is_kept_by_its_text(session: Session):
    line = Line("interaction", f'{{"to": "{CANARY}'.encode(), ingest.Refusal("malformed", "cut"))
    store(session, Delivery("test", [line, line]))
    (letter,) = letters(session)
    assert json.loads(letter.record) == '{"to": "<EMAIL_1>'
    assert len(letter.record_id) == 64


def test_nothing_is_kept_of_a_record_that_cannot_be_scrubbed(
    session: Session, monkeypatch: pytest.MonkeyPatch
):
    def broken(record, scrubber):
        raise ZeroDivisionError(CANARY)

    monkeypatch.setattr("collector.admission.scrub_record", broken)
    (result,) = send(session, interaction())
    assert result.reason == "scrub_failed: ZeroDivisionError"
    assert letters(session) == []
    assert CANARY not in everything(session)


def test_replay_stores_what_was_mended_and_leaves_the_rest(
    session: Session, monkeypatch: pytest.MonkeyPatch
):
    wizard = interaction(role="wizard")
    opinion = feedback_record(new_id(), "success", interaction_id=wizard["id"], value=3)
    send(session, wizard, feedback=[opinion])
    monkeypatch.setenv("FLYWHEEL_ROLES", '["coder", "wizard"]')
    get_settings.cache_clear()
    outcomes = []
    for identifier in open_ids(session):
        outcomes.append(replay(session, get_letter(session, identifier)).status)
    assert sorted(outcomes) == ["rejected", "stored"]
    assert str(session.exec(select(Interaction.id)).one()) == wizard["id"]
    assert open_by_code(session) == {"invalid": 1}
    (settled,) = [letter for letter in letters(session, settled=True) if letter.settled_at]
    assert (settled.code, settled.outcome) == ("unknown_role", "stored")
    with pytest.raises(BadInput, match="stored"):
        replay(session, settled)
    counts = {found.source: found.counts for found in ingest_counts(session)}
    assert counts["test"] == {"rejected:unknown_role": 1, "rejected:invalid": 1}
    assert len(session.exec(select(DeadLetter)).all()) == 2


def test_a_replay_that_is_refused_otherwise_says_the_new_reason(
    session: Session, monkeypatch: pytest.MonkeyPatch
):
    send(session, interaction(role="wizard") | {"started_at": "2999-01-01T00:00:00Z"})
    monkeypatch.setenv("FLYWHEEL_ROLES", '["wizard"]')
    get_settings.cache_clear()
    (identifier,) = open_ids(session)
    replay(session, get_letter(session, identifier))
    (letter,) = letters(session)
    assert letter.code == "clock_skew"
    assert letter.reason.startswith("clock_skew: started_at")


def test_a_letter_without_its_record_says_so(session: Session):
    refusal = ingest.Refusal("too_large", "9 bytes")
    store(session, Delivery("test", [Line("interaction", b"x" * 100, refusal)]))
    (letter,) = letters(session)
    assert letter.record == dead_letters.UNKEPT
    with pytest.raises(Conflict, match="from where it came"):
        replay(session, letter)


def test_discarded_letters_stay_listed(session: Session):
    send(session, interaction(role="wizard"))
    (identifier,) = open_ids(session, "unknown_role")
    assert open_ids(session, "invalid") == []
    assert discard(session, get_letter(session, identifier)).outcome == "discarded"
    assert letters(session) == []
    assert [letter.outcome for letter in letters(session, settled=True)] == ["discarded"]
    with pytest.raises(NotFound):
        get_letter(session, new_id())
