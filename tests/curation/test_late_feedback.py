"""What is joined or credited late is judged again, as if it had been there in time."""

from datetime import timedelta

from feedback_records import said, store
from sqlmodel import Session, select

from collector.record import interaction_record
from curation.build import build_dataset
from curation.tables import Example
from foundation.chat import completion, message
from foundation.ids import new_id
from foundation.tables import now


def turn(number: int, role: str = "coder", **columns):
    """A call with its own task and answer, `number` minutes into an hour ago."""
    answer = f"```python\ndef f{number}():\n    return {number}\n```"
    return interaction_record(
        new_id(),
        role,
        {"messages": [message("user", f"write function {number} of the {role}")]},
        completion("r", "m", answer, "stop", 1, 1, 0),
        started_at=now() - timedelta(minutes=60 - number),
        **columns,
    )


def kept(session: Session):
    """The answers that the newest build would learn from, by call."""
    build_dataset("coder")
    session.expire_all()
    found = session.exec(select(Example).where(Example.drop_reason == None))  # noqa: E711
    return {str(example.interaction_id) for example in found}


def test_a_late_join_judges_the_example_again(session: Session):
    record = turn(1, key="call-7")
    store(session, [record], [said(interaction_key="call-8", source="test")])
    assert kept(session) == set()
    store(session, feedback=[said(interaction_key="call-7", source="test")])
    assert kept(session) == {record["id"]}


def test_feedback_before_its_record_is_as_good_as_after(session: Session):
    store(session, [turn(2)], [said(response_id="chatcmpl-1", source="test")])
    assert kept(session) == set()
    record = turn(1, gen_ai_response_id="chatcmpl-1")
    store(session, [record])
    assert kept(session) == {record["id"]}


def test_a_credit_that_moves_is_taken_from_one_turn_and_given_to_the_other(session: Session):
    episode = new_id()
    first, second = turn(1, episode_id=episode), turn(2, episode_id=episode)
    tester = turn(3, "tester", episode_id=episode)
    store(session, [first, tester], [said(interaction_id=tester["id"], source="test")])
    assert kept(session) == {first["id"]}
    store(session, [second])
    assert kept(session) == {second["id"]}


def test_a_tester_is_judged_again_when_its_episode_ends(session: Session, log) -> None:
    episode = new_id()
    suite = "def test_f():\n    assert f(2) == 3"
    log.call("write f", "def f(x):\n    return x + 2", episode_id=episode)
    tester = log.call("test f", suite, role="tester", episode_id=episode)
    log.say(tester, "success", 0, source="test", actor="ci")
    right = log.call("write f", "def f(x):\n    return x + 1", episode_id=episode)
    log.say(tester, "success", 1, source="test", actor="ci again")
    assert build_dataset("tester").card["kept"] == 0
    log.say(right, "success", 1, source="human")
    assert build_dataset("tester").card["kept"] == 1
