import json

import pytest
from sqlmodel import Session, select

from collector.campaign import create
from collector.campaign.spec import spec_of
from collector.dead_letters import UNKEPT
from collector.ingest import store_batch
from collector.record import feedback_record, interaction_record
from collector.schemas import IngestBatch
from collector.scrub import RULES_VERSION, RuleSet, ScrubFailed
from collector.scrub.custom import load
from collector.scrub.rescan import Scope, rescan
from collector.tables import CampaignItem, DeadLetter, Feedback, Interaction, InteractionPayload
from curation.tables import Dataset, DatasetShard, Example, ShardRow
from flywheel.cli.scrub import stale_copies
from foundation.ids import new_id

TICKET = "TCK-49-ab"
OTHER = "TCK-77-cd"


@pytest.fixture
def newer(tmp_path):
    """Rules that find tickets too, which the present ones do not."""
    path = tmp_path / "rules.toml"
    path.write_text("[[rules]]\nid = \"ticket\"\nregex = '''TCK-\\d+-[a-z]+'''\n")
    return RuleSet(load(str(path)))


def interaction(prompt, answer="ok", **columns):
    request = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    message = {"role": "assistant", "content": answer}
    response = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    role = columns.pop("role", "coder")
    return interaction_record(new_id(), role, request, response, **columns)


def store(session, interactions=(), feedback=()):
    store_batch(
        session,
        IngestBatch(source="test", interactions=list(interactions), feedback=list(feedback)),
    )
    session.commit()


def contents(session: Session):
    session.expire_all()
    return [
        payload.request["messages"][0]["content"]
        for payload in session.exec(select(InteractionPayload).order_by(InteractionPayload.id))
    ]


def test_everything_that_older_rules_left_is_removed_everywhere(session, newer):
    record = interaction(f"fix {TICKET}", f"did {TICKET}", attributes={"ticket": [TICKET]})
    clean = interaction("nothing")
    comment = feedback_record(
        new_id(),
        "comment",
        interaction_id=record["id"],
        text=f"see {TICKET}",
        details={"of": TICKET},
    )
    refused = interaction(f"refused {OTHER}", role="nobody")
    store(session, [record, clean, refused], [comment])
    report = rescan(rules=newer)

    stored = "".join(contents(session))
    for table in (Interaction, InteractionPayload, Feedback, DeadLetter):
        for row in session.exec(select(table)):
            stored += row.model_dump_json()
            assert getattr(row, "scrub_version", newer.version) == newer.version
    assert "TCK" not in stored
    assert report.as_dict() == {
        "version": newer.version,
        "seen": {"interaction": 2, "feedback": 1, "dead_letter": 1},
        "changed": {"interaction": 1, "feedback": 1, "dead_letter": 1},
        "removed": {"ticket": 6},
    }
    assert [str(id) for id in report.interactions] == [record["id"]]
    row = session.exec(select(Interaction).where(Interaction.id == report.interactions[0])).one()
    assert row.scrub == {"ticket": 3}
    assert rescan(rules=newer).as_dict()["seen"] == {}


def test_what_changed_counts_as_newly_written(session, newer):
    record, clean = interaction(f"fix {TICKET}"), interaction("nothing")
    comments = [
        feedback_record(new_id(), "comment", interaction_id=record["id"], text=text)
        for text in (f"see {TICKET}", "nothing")
    ]
    store(session, [record, clean], comments)
    written = {row.id: row.written_xid for row in rows_of(session)}
    rescan(rules=newer)
    renewed = {str(row.id) for row in rows_of(session) if row.written_xid > written[row.id]}
    assert renewed == {record["id"], comments[0]["id"]}


def rows_of(session: Session):
    session.expire_all()
    return [*session.exec(select(Interaction)), *session.exec(select(Feedback))]


def test_campaigns_and_their_places_are_scrubbed_again(session, newer):
    values = {"name": "c", "role": "coder", "n": 1, "models": [{"model": "m"}]}
    row = create(session, spec_of({**values, "task": {"template": f"mend {TICKET}"}}))
    place = session.exec(select(CampaignItem)).one()
    place.task, place.detail, row.reason = f"mend {TICKET}", f"{OTHER} is odd", f"at {TICKET}"
    session.commit()
    report = rescan(rules=newer)
    session.expire_all()
    assert "TCK" not in row.model_dump_json() + place.model_dump_json()
    assert spec_of(row.spec).task.template == "mend <TICKET_1>"
    assert (report.seen, report.changed) == ({"campaign": 1}, {"campaign": 1})
    assert report.removed == {"ticket": 4}
    assert rescan(rules=newer).as_dict()["seen"] == {}


def test_a_dry_run_counts_and_writes_nothing(session, newer):
    store(session, [interaction(f"fix {TICKET}"), interaction("nothing")])
    report = rescan(rules=newer, dry_run=True)
    assert (report.seen["interaction"], report.changed["interaction"]) == (2, 1)
    assert contents(session)[0] == f"fix {TICKET}"
    assert {row.scrub_version for row in session.exec(select(Interaction))} == {RULES_VERSION}


def test_an_episode_keeps_one_numbering_that_goes_on_after_the_old(session, newer):
    episode, alone = new_id(), new_id()
    store(
        session,
        [
            interaction(f"{TICKET} and {OTHER}", episode_id=episode),
            interaction(f"again {OTHER}; known is <TICKET_4>", episode_id=episode),
            interaction(f"{OTHER} and <TICKET_1>", episode_id=alone),
        ],
    )
    rescan(rules=newer)
    assert contents(session) == [
        "<TICKET_5> and <TICKET_6>",
        "again <TICKET_6>; known is <TICKET_4>",
        "<TICKET_2> and <TICKET_1>",
    ]


def test_a_rescan_of_one_role_leaves_the_others(session, newer):
    coder, tester = interaction(TICKET), interaction(TICKET, role="tester")
    comments = [
        feedback_record(new_id(), "comment", interaction_id=each["id"], text=TICKET)
        for each in (coder, tester)
    ]
    store(session, [coder, tester], comments)
    report = rescan(Scope(role="tester"), rules=newer)
    assert report.changed == {"interaction": 1, "feedback": 1}
    assert contents(session) == [TICKET, "<TICKET_1>"]


def test_a_rescan_stopped_in_the_middle_goes_on_with_the_rest(session, newer, monkeypatch):
    monkeypatch.setattr("collector.scrub.rescan.BATCH", 2)
    store(session, [interaction(f"{TICKET} {n}") for n in range(5)])

    class Stopped(Exception):
        pass

    def stop(done, total):
        assert total == 5
        if done >= 2:
            raise Stopped

    with pytest.raises(Stopped):
        rescan(rules=newer, progress=stop)
    assert sum("TCK" in text for text in contents(session)) == 3
    assert rescan(rules=newer).seen["interaction"] == 3
    assert not any("TCK" in text for text in contents(session))


def test_a_rule_that_raises_stops_the_rescan_and_changes_nothing(session):
    def broken(text):
        raise ScrubFailed("names", ValueError("lost"))

    store(session, [interaction(TICKET)])
    with pytest.raises(ScrubFailed):
        rescan(rules=RuleSet(find_names=broken))
    assert contents(session) == [TICKET]
    assert session.exec(select(Interaction)).one().scrub_version == RULES_VERSION


def test_letters_without_a_text_or_with_no_object_are_no_obstacle(session, newer):
    for record in (UNKEPT, json.dumps([TICKET])):
        letter = DeadLetter(
            kind="feedback",
            record_id=record,
            source="s",
            code="invalid",
            reason=f"invalid: {TICKET}",
            record=record,
        )
        session.add(letter)
    session.commit()
    rescan(rules=newer)
    session.expire_all()
    letters = session.exec(select(DeadLetter)).all()
    assert sorted(letter.record for letter in letters) == ["", '["<TICKET_1>"]']
    assert {letter.reason for letter in letters} == {"invalid: <TICKET_1>"}


def test_copies_of_changed_interactions_are_counted(session):
    ids = [new_id(), new_id()]
    examples = [
        Example(role="coder", interaction_id=id, prompt=[], answer="x", norm_hash=str(id))
        for id in ids
    ]
    dataset = Dataset(role="coder", number=1, content_hash="x")
    session.add_all([*examples, dataset])
    session.flush()
    session.add(
        DatasetShard(
            dataset_id=dataset.id, split="train", position=0, shard="s", n_rows=2, uri="file:x"
        )
    )
    session.add_all(ShardRow(shard="s", row_id=example.id) for example in examples)
    session.flush()
    assert stale_copies(session, ids[:1]) == {"examples": 1, "datasets": 1}
    assert stale_copies(session, [new_id()]) == {"examples": 0, "datasets": 0}
