"""What a tester or reviewer found out is credited to the coder's turn, in any order of arrival."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from feedback_records import call, said, store
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session, col, select

from collector.feedback.credit import Turn, credited_turn
from collector.feedback.credit_rules import DEFAULT_RULES, CreditRule, get_rules
from collector.feedback.joining import join_waiting
from collector.ingest import store_batch
from collector.schemas import IngestBatch
from collector.tables import Feedback
from foundation.database import get_engine
from foundation.errors import BadSetting
from foundation.ids import new_id
from foundation.settings import get_settings
from foundation.tables import now

START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def at(minute, role, episode, **columns):
    return call(role, episode_id=episode, started_at=START + timedelta(minutes=minute), **columns)


def derived(session: Session):
    session.rollback()
    session.expire_all()
    query = select(Feedback).where(col(Feedback.derived_from).is_not(None))
    return list(session.exec(query.order_by(col(Feedback.created_at))).all())


def summary(session: Session):
    return [
        (str(one.interaction_id), one.kind, one.value, one.source, one.actor)
        for one in derived(session)
    ]


def test_the_testers_outcome_is_the_coders(session: Session):
    episode = new_id()
    coder, tester = at(0, "coder", episode), at(1, "tester", episode)
    statement = said(interaction_id=tester["id"], value=0.0, source="test")
    store(session, [coder, tester], [statement])
    (one,) = derived(session)
    assert summary(session) == [(coder["id"], "success", 0.0, "role", "tester")]
    assert str(one.derived_from) == statement["id"]
    assert one.episode_id == episode
    assert one.details == {"judged": tester["id"]}
    assert one.created_at.isoformat() == statement["created_at"]


def test_every_order_of_arrival_ends_alike(session: Session):
    """Two coder turns, the tester's turn and the word on it: the second coder turn is credited."""
    ends = []
    for order in itertools.permutations(range(4)):
        episode = new_id()
        first, second = at(0, "coder", episode), at(1, "coder", episode)
        tester = at(2, "tester", episode, key=str(episode))
        word = said(interaction_key=str(episode))
        rows = [([first], []), ([second], []), ([tester], []), ([], [word])]
        for place in order:
            store(session, *rows[place])
        query = select(Feedback).where(
            Feedback.derived_from == word["id"]  # type: ignore[arg-type]
        )
        session.expire_all()
        (one,) = session.exec(query).all()
        ends.append(str(one.interaction_id) == second["id"])
        session.rollback()
    assert ends == [True] * 24


def test_a_moved_credit_names_who_lost_it_and_is_new_again(session: Session):
    episode = new_id()
    first, second = at(0, "coder", episode), at(1, "coder", episode)
    tester = at(2, "tester", episode)
    store(session, [first, tester], [said(interaction_id=tester["id"])])
    came_at = derived(session)[0].ingested_at
    store(session, [second])
    (after,) = derived(session)
    assert str(after.interaction_id) == second["id"]
    assert after.details["credited_before"] == first["id"]
    assert after.ingested_at > came_at


def test_a_changed_mind_is_a_second_statement_and_repeating_one_is_not(session: Session):
    episode = new_id()
    coder, tester = at(0, "coder", episode), at(1, "tester", episode)
    bad = said(interaction_id=tester["id"], value=0.0)
    good = said(interaction_id=tester["id"], value=1.0)
    store(session, [coder, tester], [bad])
    store(session, feedback=[bad])
    store(session, feedback=[good])
    assert [value for _, _, value, _, _ in summary(session)] == [0.0, 1.0]


def test_a_reviewers_verdict_and_stars(session: Session):
    episode = new_id()
    coder, reviewer = at(0, "coder", episode), at(1, "reviewer", episode)
    about = {"interaction_id": reviewer["id"], "name": "review", "value": None}
    store(session, [coder, reviewer])
    store(
        session,
        feedback=[
            said("category", text=" Approve ", **about),
            said("category", text="request_changes", **about),
            said("category", text="thanks", **about),
            said("rating", interaction_id=reviewer["id"], value=2, source="role"),
            said("rating", interaction_id=reviewer["id"], value=5, source="human"),
            said("comment", interaction_id=reviewer["id"], value=None, text="fine"),
        ],
    )
    given = sorted((kind, value) for _, kind, value, _, _ in summary(session))
    assert given == [("rating", 2.0), ("success", 0.0), ("success", 1.0)]


def test_who_is_not_credited(session: Session):
    episode, other = new_id(), new_id()
    failed = at(2, "coder", episode, status="error")
    later = at(9, "coder", episode)
    elsewhere = at(3, "coder", other)
    tester = at(5, "tester", episode)
    store(session, [failed, later, elsewhere, tester], [said(interaction_id=tester["id"])])
    assert summary(session) == []
    store(session, feedback=[said(interaction_id=later["id"]), said(episode_id=episode)])
    assert summary(session) == []  # about the coder itself, and about the whole episode


def test_the_cause_of_a_turn_wins_over_its_neighbour(session: Session):
    episode = new_id()
    meant, neighbour = at(0, "coder", episode), at(1, "coder", episode)
    between = at(2, "coordinator", episode, parent_id=meant["id"])
    tester = at(3, "tester", episode, parent_id=between["id"])
    store(session, [meant, neighbour, between, tester], [said(interaction_id=tester["id"])])
    assert [target for target, *_ in summary(session)] == [meant["id"]]


def test_transactions_that_do_not_see_each_other_are_settled_by_the_sweep(session: Session):
    episode = new_id()
    coder, tester = at(0, "coder", episode), at(1, "tester", episode)
    store(session, feedback=[said(interaction_id=tester["id"])])
    with Session(get_engine()) as one, Session(get_engine()) as other:
        store_batch(one, IngestBatch(source="one", interactions=[coder]))
        store_batch(other, IngestBatch(source="other", interactions=[tester]))
        one.commit()
        other.commit()
    assert summary(session) == []
    join_waiting(session, now() - timedelta(hours=1))
    session.commit()
    assert summary(session) == [(coder["id"], "success", 1.0, "role", "tester")]
    join_waiting(session, now() - timedelta(hours=1))
    session.commit()
    assert len(summary(session)) == 1


def test_rules_of_a_file(session: Session, monkeypatch, tmp_path):
    file = tmp_path / "credit.yaml"
    file.write_text(
        """
        rules:
          - {judge: coder, credits: tester, kind: success}
          - {judge: tester, credits: coder, kind: success, values: {1: 0, 0: 1}}
          - {judge: tester, credits: coordinator, kind: metric, name: coverage}
          - {judge: tester, credits: researcher, kind: success, gives: category,
             values: {1: useful}, sources: [judge]}
        """
    )
    monkeypatch.setenv("FLYWHEEL_CREDIT_RULES", str(file))
    get_settings.cache_clear()
    episode = new_id()
    roles = ("coordinator", "researcher", "coder", "tester")
    turns = {role: at(minute, role, episode) for minute, role in enumerate(roles)}
    about = {"interaction_id": turns["tester"]["id"]}
    store(session, list(turns.values()), [said(**about, source="judge")])
    store(
        session,
        feedback=[said("metric", name=n, value=0.7, **about) for n in ("coverage", "lines")],
    )
    roles_of = {turn["id"]: role for role, turn in turns.items()}
    given = {
        (roles_of[str(one.interaction_id)], one.kind, one.name, one.value, one.text)
        for one in derived(session)
    }
    # What the second rule gives to the coder is not passed back to the tester by the first.
    assert given == {
        ("coder", "success", None, 0.0, None),
        ("coordinator", "metric", "coverage", 0.7, None),
        ("researcher", "category", None, None, "useful"),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [", "YAML"),
        ("[]", "a list 'rules'"),
        ("rules: {}", "a list 'rules'"),
        ("rules: [tester]", "rule 1"),
        ("rules: [{judge: tester, credits: coder}]", "rule 1, kind"),
        ("rules: [{judge: tester, credits: coder, kind: applause}]", "rule 1, kind"),
        ("rules: [{judge: wizard, credits: coder, kind: success}]", "one of the roles coder"),
        ("rules: [{judge: coder, credits: coder, kind: success}]", "cannot credit itself"),
        ("rules: [{judge: tester, credits: coder, kind: category, gives: success}]", "values"),
        ("rules: [{judge: tester, credits: coder, kind: success, colour: red}]", "colour"),
        ("rules: [{judge: tester, credits: coder, kind: success, sources: [me]}]", "sources"),
        (
            "rules: [{judge: tester, credits: coder, kind: category, gives: success, "
            "values: {good: 2}}]",
            "no success",
        ),
    ],
)
def test_a_rule_that_makes_no_sense_is_named(settings, monkeypatch, tmp_path, text, said):
    file = tmp_path / "credit.yaml"
    file.write_text(text)
    monkeypatch.setenv("FLYWHEEL_CREDIT_RULES", str(file))
    get_settings.cache_clear()
    with pytest.raises(BadSetting, match="FLYWHEEL_CREDIT_RULES") as found:
        get_rules()
    assert said in str(found.value)
    assert str(file) in str(found.value)


def test_a_missing_file_of_rules_is_named(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("FLYWHEEL_CREDIT_RULES", str(tmp_path / "none.yaml"))
    get_settings.cache_clear()
    with pytest.raises(BadSetting, match=r"none\.yaml"):
        get_rules()


def test_an_empty_list_turns_credit_off(session: Session, monkeypatch, tmp_path):
    file = tmp_path / "credit.yaml"
    file.write_text("rules: []")
    monkeypatch.setenv("FLYWHEEL_CREDIT_RULES", str(file))
    get_settings.cache_clear()
    episode = new_id()
    tester = at(1, "tester", episode)
    store(session, [at(0, "coder", episode), tester], [said(interaction_id=tester["id"])])
    assert summary(session) == []


def test_default_rules_are_data():
    assert {rule.credits for rule in DEFAULT_RULES} == {"coder"}
    again = CreditRule.model_validate(DEFAULT_RULES[2].model_dump())
    assert again == DEFAULT_RULES[2]


TURNS = st.lists(
    st.tuples(st.sampled_from(["coder", "tester", "x"]), st.integers(0, 5), st.integers(0, 7)),
    max_size=8,
)


@given(TURNS, st.randoms())
def test_the_credited_turn_does_not_depend_on_the_order_of_turns(drawn, random):
    """Parents may form cycles and point to turns that are missing."""
    episode, ids = new_id(), [new_id() for _ in range(8)]
    turns = [
        Turn(ids[n], role, episode, ids[parent], START + timedelta(minutes=minute), "success")
        for n, (role, minute, parent) in enumerate(drawn)
    ]
    judged = Turn(new_id(), "tester", episode, ids[0], START + timedelta(minutes=3), "success")
    found = credited_turn(judged, turns, "coder")
    shuffled = list(turns)
    random.shuffle(shuffled)
    assert credited_turn(judged, shuffled, "coder") == found
    earlier = [t for t in turns if t.role == "coder" and t.started_at < judged.started_at]
    assert found is not None or not earlier
    assert found is None or found.role == "coder"
