"""Suites that grow: held-out examples and corrected failures, fresh, gradable, never taught."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from stored_rows import store_example, store_version

from collector.tables import Feedback, Interaction, InteractionPayload
from curation.decontaminate import list_sources
from evaluator.suites import add_suite, freeze, load_suite, tasks_of
from evaluator.suites.grown import grow_suite
from evaluator.suites.task import Task
from foundation.chat import message
from foundation.database import session_scope
from foundation.errors import Conflict, NotFound
from foundation.ids import new_id

ADD = "def add(a, b):\n    return a + b\n"


def failed(session, asked, correction, *, outcome=0.0, attributes=None, kind="success", **columns):
    """Store a call that went wrong, and what a person says it should have been."""
    call = Interaction(id=new_id(), role="coder", **columns)
    request = {"messages": [message("user", asked)]}
    session.add_all(
        [
            call,
            InteractionPayload(id=call.id, request=request, attributes=attributes),
            Feedback(interaction_id=call.id, kind="correction", text=correction, source="human"),
        ]
    )
    if outcome is not None:
        session.add(Feedback(interaction_id=call.id, kind=kind, value=outcome, source="test"))
    session.flush()
    return call


def grown(session):
    growth = grow_suite(session, "own", "coder")
    return growth, {task.task_id: task for task in tasks_of(session, growth.suite)}


def test_corrected_failures_are_asked_ever_after(session):
    code = failed(session, "Write add.\nadd(1, 2) is 3\nadd(2, 2) is 4", f"```python\n{ADD}```")
    short = failed(session, "Is it right?", "No.")
    prose = failed(session, "Explain the cache.", "It keeps the newest entries. " * 5)
    tests = {"entry_point": "f", "test": "assert f(1) == 2"}
    tested = failed(session, "Write f.", "def f(x):\n    return 2", attributes=tests)
    rated = failed(session, "Name it.", "Queue", outcome=1.0, kind="rating")
    said = failed(session, "Refuse politely.", "We are sorry, that time is over.")
    failed(session, "Write g.", "def g(x):\n    return x")
    failed(session, "Was it good?", "Yes.", outcome=1.0)
    failed(session, "Unjudged?", "Yes.", outcome=None)
    growth, tasks = grown(session)
    graders = {task_id.removeprefix("coder-corrected-"): t.grader for task_id, t in tasks.items()}
    assert graders == {
        str(code.id): "calls",
        str(short.id): "exact",
        str(prose.id): "similar",
        str(said.id): "similar",
        str(tested.id): "asserts",
        str(rated.id): "exact",
    }
    assert (growth.n_corrected, growth.n_left_out) == (6, {"not_gradable": 1})
    assert {task.attributes["origin"] for task in tasks.values()} == {"corrected_failure"}
    assert [source.name for source in list_sources(session)] == ["suite:own@1"]


def test_what_was_trained_on_is_no_fresh_task(session):
    seen = failed(session, "Is it right?", "No.")
    like = failed(session, "Is that right?", "No.")
    failed(session, "Is this right?", "No.")
    trained = store_example(
        session, "Is it right?", "No.", interaction_id=seen.id, split="train", split_key="k"
    )
    store_example(session, "Is that right?", "No.", interaction_id=like.id, split_key="k")
    store_version(session, [trained])
    growth, tasks = grown(session)
    assert [task.prompt[0]["content"] for task in tasks.values()] == ["Is this right?"]
    assert growth.n_left_out == {"trained_on": 2}


def test_held_out_examples_come_along_once(session):
    store_example(session, "Is 7 odd?", "Yes.", outcome=True, split="test")
    failed(session, "Is 7 odd?", "Yes.")
    growth, tasks = grown(session)
    assert (growth.n_held_out, growth.n_corrected) == (1, 0)
    assert growth.n_left_out == {"asked_already": 1}
    assert [task.attributes["origin"] for task in tasks.values()] == ["held_out"]


def test_a_draft_takes_in_more_until_it_is_frozen(session):
    failed(session, "Is it right?", "No.")
    first = grow_suite(session, "own", "coder").suite
    assert first.frozen_at is None
    failed(session, "Is it wrong?", "Yes.")
    again = grow_suite(session, "own", "coder").suite
    assert (again.id, again.version, again.n_tasks) == (first.id, 1, 2)
    [source] = list_sources(session)
    assert source.n_items == 2
    freeze(session, "own")
    failed(session, "Is it old?", "Yes.")
    assert grow_suite(session, "own", "coder").suite.version == 2
    assert load_suite(session, "own@1").n_tasks == 2


def test_nothing_to_grow_from_is_said(session):
    with pytest.raises(NotFound, match="fresh tasks of coder.*corrected failures"):
        grow_suite(session, "own", "coder")


def test_a_draft_is_frozen_before_something_else_begins(session):
    task = Task("t", [message("user", "x")], "exact", {"answer": "y"})
    other = Task("u", [message("user", "z")], "exact", {"answer": "y"})
    add_suite(session, "own", "coder", [task], is_draft=True)
    for role, is_draft in (("coder", False), ("tester", True)):
        with pytest.raises(Conflict, match="flywheel suite freeze own"):
            add_suite(session, "own", role, [other], is_draft=is_draft)
    changed = Task("t", task.prompt, "exact", {"answer": "w"})
    add_suite(session, "own", "coder", [changed], is_draft=True)
    [stored] = tasks_of(session, load_suite(session, "own"))
    assert stored.reference == {"answer": "w"}
    assert freeze(session, "own").frozen_at == freeze(session, "own").frozen_at is not None


def test_a_draft_is_not_frozen_while_it_grows(database):
    first, second = (
        Task(name, [message("user", name)], "exact", {"answer": "yes"}) for name in ("a", "b")
    )
    with session_scope() as session:
        add_suite(session, "s", "coder", [first], is_draft=True)
    with session_scope() as grows:
        add_suite(grows, "s", "coder", [second], is_draft=True)
        with session_scope() as freezes:
            freezes.execute(text("SET LOCAL lock_timeout = '50ms'"))
            with pytest.raises(OperationalError, match="lock timeout"):
                freeze(freezes, "s")
            freezes.rollback()
    with session_scope() as session:
        assert freeze(session, "s").n_tasks == 2
