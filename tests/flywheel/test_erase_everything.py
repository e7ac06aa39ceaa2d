"""One person's words come in by every way, are copied everywhere, and are erased: none is left.

The search is this test's own: every text of every table of the catalogue, and every artifact.
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from marked_person import (
    CODE,
    MARK,
    PERSON,
    SAYS,
    asked,
    call,
    fill,
    left_in_files,
    left_in_tables,
    send,
)
from sqlmodel import Session, select

from collector.erase import Subject
from collector.partitions import PARTITION_NAME
from collector.record import interaction_record
from collector.tables import Interaction
from curation.export import load_rows
from curation.tables import Erasure
from evaluator.run import intact_tasks
from evaluator.tables import Evaluation, Suite
from flywheel.app import create_app
from flywheel.erasing import again, erase_all
from foundation.ids import new_id
from foundation.quotes import Sought
from foundation.tables import Decision, now
from router.erase import MOST_SEARCHED, searched, sought_of
from router.tables import Assignment


@pytest.fixture
def service(session: Session) -> Iterator[TestClient]:
    with TestClient(create_app(), "http://127.0.0.1") as client:
        yield client


def test_of_a_person_nothing_is_left_anywhere_and_it_is_proven(service, session, database):
    ids, version = fill(service, session)
    before = left_in_tables(database)
    assert before.keys() >= {
        *("interaction", "interaction_payload", "feedback", "dead_letter", "example", "run"),
        *("preference_pair", "suite_task", "sample", "cached_answer", "judgement", "assignment"),
        *("decision", "training_run", "review_item", "review_label", "review_draft", "run_log"),
        *("judge_call", "constitution_revision", "campaign_item", "template_text"),
        *("protected_text", "model_version"),
    }
    assert len(left_in_files()) >= 2

    done = erase_all(Subject("unit", (PERSON,)), actor="ann", reason="she asked")

    assert left_in_tables(database) == {}
    assert left_in_files() == []
    told = done.certificate
    assert told["model_versions"] == [
        {
            "name": "coder-v1",
            "stage": "candidate",
            "to_do": "train it again on the dataset as it is now, retire this one",
        }
    ]
    assert (told["suites"], len(told["datasets"])) == (["own@1"], 1)
    assert told["verified"]["remaining"] == {}
    assert told["verified"]["searched_for"] > 5
    assert told["artifacts_removed"] >= 2
    assert told["name_sha256"] == Subject("unit", (PERSON,)).digests
    assert MARK not in json.dumps(told)
    what_others_keep(session, told["datasets"][0])


def what_others_keep(session: Session, dataset: str) -> None:
    session.expire_all()
    assert len(session.exec(select(Interaction.id)).all()) == 6
    splits = ("train", "validation", "test")
    assert sum(len(load_rows(session, UUID(dataset), split)) for split in splits) >= 2
    decision = session.exec(select(Decision).where(Decision.kind == "router.note")).one()
    assert (decision.inputs["unit"], decision.inputs["n"]) == ("[erased]", 3)
    (unit,) = session.exec(select(Assignment)).all()
    assert unit.outcome is True
    (evaluation,) = session.exec(select(Evaluation)).all()
    suite = session.get_one(Suite, evaluation.suite_id)
    assert evaluation.suite_hash == suite.content_hash
    assert suite.n_tasks == len(intact_tasks(session, suite))


def test_the_certificate_counts_what_was_really_searched_for(service, session, database):
    """A person of many calls and words: of the words a part is looked for, and it says so."""
    own = {"unit_id": PERSON, "project": "home"}
    calls = [
        call(n, asked(n, f"the word number {n} of a long and plain story"), CODE, **own)
        for n in range(90)
    ]
    assert set(send(service, calls)) == {"stored"}
    sought = sought_of(session, Subject("unit", (PERSON,)))
    session.rollback()
    assert len(sought.fragments) > MOST_SEARCHED
    told = erase_all(Subject("unit", (PERSON,)), actor="ann").certificate["verified"]
    assert told["searched_for"] == MOST_SEARCHED + len(sought.names)
    assert told["known_by"] == len(sought.fragments) + len(sought.names)
    assert searched(Sought((), tuple(f"name-{n}" for n in range(90)))).names[-1] == "name-89"


def test_a_project_and_an_episode_are_erased_as_wholly(service, session, database):
    """Of an episode what its person said elsewhere stays: it is not what was named."""
    ids, _ = fill(service, session)
    episode = str(session.get_one(Interaction, ids[0]).episode_id)
    session.rollback()
    first = erase_all(Subject("episode", (episode,)), actor="ann")
    assert first.certificate["other_calls_of_the_episodes"] == 0
    left = {name for name in left_in_tables(database) if not PARTITION_NAME.match(name)}
    assert left <= {
        *("interaction", "interaction_payload", "feedback", "dead_letter", "assignment"),
        "decision",  # which names the person, not the text
        *("suite_task", "sample", "cached_answer", "protected_text"),
    }
    assert first.certificate["verified"]["remaining"].keys() <= left
    second = erase_all(Subject("project", ("home",)), actor="ann")
    assert second.account.counts["interaction"] == 1
    # The person is not erased: what they said of other projects' calls, and their name.
    left = left_in_tables(database).keys()
    assert left <= {"feedback", "assignment", "dead_letter", "decision"}
    assert left_in_files() == []


def test_what_comes_back_is_erased_again_and_what_is_new_stays(service, session, database):
    own = {"unit_id": PERSON, "project": "home"}
    old = call(1, asked(1, SAYS), CODE, **own)
    assert send(service, [old]) == ["stored"]
    erase_all(Subject("unit", (PERSON,)), actor="ann")
    waited = call(2, asked(2, SAYS), CODE, **own)
    assert send(service, [waited]) == ["stored"]
    fresh = interaction_record(new_id(), "coder", {"messages": []}, None, **own)
    assert send(service, [fresh]) == ["stored"]
    assert again(since=now() + timedelta(minutes=1)) is None
    found = again(since=now() - timedelta(minutes=10))
    assert found is not None
    assert found.account.counts["interaction"] == 1
    left = [str(identifier) for identifier in session.exec(select(Interaction.id)).all()]
    assert left == [str(fresh["id"])]
    assert again() is None
    assert len(session.exec(select(Erasure)).all()) == 2
