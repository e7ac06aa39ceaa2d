"""Erasing calls from the log: what goes, what stays, and what a refused record says."""

import base64
import json

import pytest
from sqlmodel import select

from collector import media
from collector.erase import Subject, erase_log, interactions_of, n_neighbours, speaks_of
from collector.tables import (
    Campaign,
    CampaignItem,
    DeadLetter,
    Feedback,
    Interaction,
    InteractionPayload,
    Media,
)
from foundation.errors import BadInput
from foundation.ids import new_id


def add_call(session, **columns) -> Interaction:
    request = {"messages": [{"role": "user", "content": columns.pop("content", "hello")}]}
    call = Interaction(role="coder", **columns)
    session.add_all([call, InteractionPayload(id=call.id, request=request)])
    session.flush()
    return call


def erased(session, scope: str, *names) -> dict[str, int]:
    subject = Subject(scope, tuple(map(str, names)))
    return dict(erase_log(session, subject, interactions_of(session, subject)).counts)


def test_a_call_goes_with_its_payload_and_what_was_said_of_it(session):
    call, other = add_call(session, key="k", project="p"), add_call(session)
    session.add_all(
        [
            Feedback(interaction_id=call.id, kind="comment", text="my name is"),
            Feedback(interaction_id=other.id, loser_interaction_id=call.id, kind="preference"),
            Feedback(interaction_key="k", project="p", kind="rating", value=1),
            Feedback(interaction_id=other.id, kind="rating", value=5),
        ]
    )
    session.flush()
    counts = erased(session, "interaction", call.id)
    assert counts == {"interaction": 1, "interaction_payload": 1, "feedback": 3}
    assert session.exec(select(Interaction.id)).all() == [other.id]
    assert session.exec(select(InteractionPayload.id)).all() == [other.id]
    assert [said.value for said in session.exec(select(Feedback))] == [5]


def test_feedback_on_an_episode_stays_until_its_last_call_goes(session):
    episode = new_id()
    first, second = (add_call(session, episode_id=episode) for _ in range(2))
    session.add(Feedback(episode_id=episode, kind="success", value=1))
    session.flush()
    assert n_neighbours(session, [first.id]) == 1
    assert "feedback" not in erased(session, "interaction", first.id)
    assert erased(session, "interaction", second.id)["feedback"] == 1


@pytest.mark.parametrize(
    ("scope", "columns"),
    [
        ("episode", {"episode_id": new_id()}),
        ("unit", {"unit_id": "person-7"}),
        ("project", {"project": "secret"}),
    ],
)
def test_a_scope_names_all_of_its_calls(session, scope, columns):
    for _ in range(2):
        add_call(session, **columns)
    stays = add_call(session)
    (name,) = columns.values()
    assert erased(session, scope, name)["interaction"] == 2
    assert session.exec(select(Interaction.id)).all() == [stays.id]


def test_media_go_with_the_last_call_that_shows_them(session):
    blob = media.Blob(base64.b64decode("aGVsbG8="), "image/png")
    media.keep(session, [blob])
    first, second = (add_call(session, content=blob.reference) for _ in range(2))
    assert "media" not in erased(session, "interaction", first.id)
    subject = Subject("interaction", (str(second.id),))
    gone = erase_log(session, subject, [second.id])
    assert gone.counts["media"] == 1
    assert len(gone.artifacts) == 1
    assert session.exec(select(Media)).all() == []


def test_refused_records_and_planned_tasks_lose_their_text(session):
    call = add_call(session)
    letters = [
        DeadLetter(
            kind="interaction", record_id=str(i), source="s", code="c", reason="r", record=record
        )
        for i, record in enumerate(
            (json.dumps({"interaction_id": str(call.id)}), json.dumps({"id": "other"}), "not json")
        )
    ]
    campaign = Campaign(name="c", role="coder", spec={}, spec_hash="h", status="done", n_target=1)
    session.add_all([*letters, campaign])
    session.flush()
    item = CampaignItem(
        campaign_id=campaign.id, number=0, status="done", task="secret", interaction_id=call.id
    )
    session.add(item)
    session.flush()
    counts = erased(session, "interaction", call.id)
    assert (counts["dead_letter"], counts["campaign_item"]) == (1, 1)
    session.refresh(item)
    assert item.task is None


def test_refused_feedback_goes_with_the_call_that_it_names_and_the_person_who_said_it(session):
    call = add_call(session, key="k", project="p", gen_ai_response_id="chatcmpl-1")
    said = (
        {"interaction_key": "k", "project": "p", "text": "about her"},
        {"loser_response_id": "chatcmpl-1"},
        {"source": "user", "actor": "person-7", "text": "by her"},
        {"interaction_key": "k", "project": "q"},
        {"source": "human", "actor": "person-7"},
        {"response_id": None},
    )
    for number, record in enumerate(said):
        session.add(
            DeadLetter(
                kind="feedback", record_id=str(number), source="s", code="c", reason="r",
                record=json.dumps(record),
            )
        )  # fmt: skip
    session.flush()
    assert erased(session, "unit", "person-7")["dead_letter"] == 1
    assert erased(session, "interaction", call.id)["dead_letter"] == 2
    left = session.exec(select(DeadLetter.record_id).order_by(DeadLetter.record_id)).all()
    assert left == ["3", "4", "5"]


def test_a_refused_record_is_known_by_its_scope():
    record = json.dumps({"project": "p", "unit_id": "u"})
    assert speaks_of(record, Subject("project", ("p",)), set())
    assert speaks_of(record, Subject("unit", ("u",)), set())
    assert not speaks_of(record, Subject("project", ("q",)), set())
    assert not speaks_of("[1]", Subject("project", ("p",)), set())


def test_what_is_not_named_is_refused():
    with pytest.raises(BadInput, match="what to erase"):
        Subject("person", ("x",))
    with pytest.raises(BadInput, match="what to erase"):
        Subject("project", ())
    with pytest.raises(BadInput, match="episode"):
        Subject("episode", ("not an id",))
