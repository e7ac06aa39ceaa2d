"""What an episode's end says of its tester and reviewer; nothing is judged by its own word."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import text
from sqlmodel import select

from collector.feedback.credit import settle
from collector.tables import Feedback, Interaction
from curation.derive import (
    FOUND_BUG,
    SUITE_HELD,
    TOUCHED,
    Episode,
    Said,
    Turn,
    judged,
    merged,
    named_fix,
    statements_of,
)
from curation.score.outcome import Statement
from foundation.ids import new_id

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
WRONG = "def total(items):\n    return items[0] + items[1]\n"
RIGHT = "def total(items):\n    return sum(items)\n"
SUITE = "def test_total():\n    assert total([1, 2, 3]) == 6\n"
REVIEW = "It adds the first two alone; use sum over all of them."


class Story:
    """An episode that is told turn by turn; each is a minute later."""

    def __init__(self):
        self.clock = count()
        self.turns, self.said = [], []

    def moment(self):
        return START + timedelta(minutes=next(self.clock))

    def turn(self, role, answer="", parent=None, status="success"):
        made = Turn(new_id(), role, parent and parent.id, self.moment(), status, answer)
        self.turns.append(made)
        return made

    def say(self, turn, value, source="test", actor="ci", **more):
        about = None if turn is None else turn.id
        self.said.append(Said(about, "success", value, source, actor, self.moment(), **more))

    def verdict(self, turn):
        statement = judged(Episode(self.turns, self.said), turn.id)
        return None if statement is None else statement.name


def test_a_suite_that_failed_on_wrong_code_and_passed_on_the_accepted_one_held():
    story = Story()
    story.turn("coder", WRONG)
    tester = story.turn("tester", SUITE)
    story.say(tester, 0)
    last = story.turn("coder", RIGHT)
    story.say(tester, 1)
    assert story.verdict(tester) is None, "nobody but the suite itself accepted the code"
    story.say(last, 1, source="human", actor="ada")
    assert story.verdict(tester) == SUITE_HELD


def test_the_suite_may_be_run_again_by_another_turn():
    story = Story()
    first = story.turn("coder", WRONG)
    tester = story.turn("tester", SUITE, parent=first)
    second = story.turn("coder", RIGHT)
    story.say(tester, 0)  # it came late, but was given the first code
    again = story.turn("tester", f"{SUITE}\n", parent=second)
    story.say(again, 1)
    story.say(None, 1, source="user", actor="bob")
    assert story.verdict(tester) == story.verdict(again) == SUITE_HELD


def test_a_statement_may_name_the_code_it_was_run_against():
    story = Story()
    first, second = story.turn("coder", WRONG), story.turn("coder", RIGHT)
    tester = story.turn("tester", SUITE)
    story.say(tester, 0, actor="one", against=first.id)
    story.say(tester, 1, actor="two", against=second.id)
    story.say(None, 1, source="user", actor="bob")
    assert story.verdict(tester) == SUITE_HELD


@pytest.mark.parametrize(
    "spoiled", ["always passes", "always fails", "same code", "was right", "not last", "failed"]
)
def test_what_a_suite_is_not_praised_for(spoiled):
    story = Story()
    first = story.turn("coder", RIGHT if spoiled == "same code" else WRONG)
    tester = story.turn("tester", "" if spoiled == "failed" else SUITE)
    if spoiled != "always passes":
        story.say(tester, 0)
    last = story.turn("coder", RIGHT)
    if spoiled != "always fails":
        story.say(tester, 1)
    story.say(last, 1, source="human", actor="ada")
    if spoiled == "was right":
        story.say(first, 1, source="human", actor="ada")
    if spoiled == "not last":
        story.turn("coder", RIGHT + "# more\n")
    assert story.verdict(tester) is None


def test_a_suite_that_in_the_end_rejects_the_accepted_code_did_not_hold():
    story = Story()
    story.turn("coder", WRONG)
    tester = story.turn("tester", SUITE)
    story.say(tester, 0)
    last = story.turn("coder", RIGHT)
    story.say(tester, 0)
    story.say(tester, 1)
    story.say(last, 1, source="human", actor="ada")
    assert story.verdict(tester) == SUITE_HELD, "the first of the two runs was repeated"
    story.say(tester, 0)
    assert story.verdict(tester) is None


def a_review(text=REVIEW, objects=0.0, wrong_by=0.0, accepted=1.0):
    story = Story()
    first = story.turn("coder", WRONG)
    reviewer = story.turn("reviewer", text)
    story.say(first, objects, source="role", actor="reviewer", judged=reviewer.id)
    if wrong_by is not None:
        story.say(first, wrong_by)
    last = story.turn("coder", RIGHT)
    story.say(last, accepted)
    return story, reviewer


def test_a_review_that_named_the_bug_that_was_fixed_found_it():
    story, reviewer = a_review()
    assert story.verdict(reviewer) == FOUND_BUG


@pytest.mark.parametrize(
    "changed",
    [
        {"text": "Looks odd to me."},
        {"objects": 1.0},
        {"wrong_by": 1.0},
        {"wrong_by": None},
        {"accepted": 0.0},
    ],
)
def test_what_a_review_is_not_praised_for(changed):
    story, reviewer = a_review(**changed)
    assert story.verdict(reviewer) is None


def test_a_tester_may_be_who_knows_that_the_code_was_wrong():
    story, reviewer = a_review(wrong_by=None)
    tester = story.turn("tester", SUITE)
    story.say(tester, 0, against=story.turns[0].id)
    assert story.verdict(reviewer) == FOUND_BUG


def test_other_turns_are_not_judged():
    story, _ = a_review()
    assert story.verdict(story.turns[0]) is None
    assert judged(Episode(story.turns, story.said), new_id()) is None
    alone = Story()
    assert alone.verdict(alone.turn("tester", SUITE)) is None


@pytest.mark.parametrize(
    ("review", "found"),
    [
        ("`return items[0] + items[1]` is wrong", "return items[0] + items[1]"),
        ("Better: return  sum(items)", "return sum(items)"),
        ("use sum", "sum"),
        ("Line 2 ignores the rest.", "Line 2"),
        ("lines 1-2 are wrong", "lines 1-2"),
        ("line 1 is wrong", None),
        ("items and total are bad names", None),
        ("no", None),
        ("", None),
    ],
)
def test_naming_what_was_changed(review, found):
    assert named_fix(review, WRONG, RIGHT) == found


def test_a_change_of_white_space_is_no_fix():
    assert named_fix("line 1, line 2, sum", RIGHT, RIGHT.replace("    ", "  ")) is None


def statement(value, source="test", kind="success", direct=True):
    return Statement(kind, value, None, source, "ci", None, direct, START)


def test_runs_do_not_count_beside_what_they_led_to():
    run, of_person = statement(0.0), statement(0.0, "human")
    whole, rating = statement(1.0, direct=False), statement(4.0, "role", "rating")
    good = statement(1.0, "role")
    said = [run, of_person, whole, rating]
    assert merged(said, []) == said
    assert merged(said, [good]) == [of_person, whole, rating, good]


@pytest.fixture
def told(log, session):
    """Wrong code, a suite that fails, a review that objects, right code, all through credit."""
    episode = new_id()
    turns = {}
    for name, role, answer in (
        ("wrong", "coder", WRONG),
        ("suite", "tester", SUITE),
        ("review", "reviewer", REVIEW),
        ("right", "coder", RIGHT),
        ("again", "tester", SUITE),
    ):
        turns[name] = log.call("write total", answer, role=role, episode_id=episode)
    log.say(turns["suite"], "success", 0.0, source="test", actor="ci")
    log.say(turns["again"], "success", 1.0, source="test", actor="ci")
    log.say(turns["review"], "category", text="request_changes", source="role", actor="reviewer")
    log.say(turns["right"], "success", 1.0, source="human", actor="ada")
    rows = session.exec(select(Interaction)).all()
    columns = [{"id": i.id, "role": i.role, "episode_id": i.episode_id} for i in rows]
    assert settle(session, columns, session.exec(select(Feedback.id)).all()) == 3
    return turns


def test_the_log_tells_who_did_well(session, told):
    rows = session.exec(select(Interaction)).all()
    found = statements_of(session, rows)
    named = {name: found[i][0].name for name, i in told.items() if i in found}
    assert named == {"suite": SUITE_HELD, "review": FOUND_BUG, "again": SUITE_HELD}
    (said,) = found[told["review"]]
    assert (said.kind, said.value, said.source, said.direct) == ("success", 1.0, "role", True)
    assert statements_of(session, []) == {}


def test_judging_turns_of_an_episode_that_went_on_are_found(session, told):
    from stored_rows import store_example

    rows = session.exec(select(Interaction)).all()
    for row in rows:
        store_example(
            session, "p", "a", role=row.role, interaction_id=row.id, episode_id=row.episode_id
        )
    present = session.execute(text("SELECT (pg_current_xact_id()::text)::bigint")).scalar_one()
    for from_xid, expected in ((present, {told["suite"], told["again"]}), (present + 1, set())):
        given = {"from_xid": from_xid, "role": "tester", "variant": "default"}
        assert set(session.execute(text(TOUCHED), given).scalars()) == expected
