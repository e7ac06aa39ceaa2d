"""Calls and statements for the tests of feedback, and the door by which they are stored."""

from sqlmodel import Session, col, select

from collector.ingest import store_batch
from collector.record import feedback_record, interaction_record
from collector.schemas import IngestBatch
from collector.tables import Feedback
from foundation.ids import new_id

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "write f"}]}


def call(role="coder", **columns):
    return interaction_record(columns.pop("id", new_id()), role, REQUEST, None, **columns)


def said(kind="success", **columns):
    return feedback_record(columns.pop("id", new_id()), kind, **{"value": 1.0, **columns})


def store(session: Session, interactions=(), feedback=()):
    """Store in one transaction; none may be rejected."""
    batch = IngestBatch(source="test", interactions=list(interactions), feedback=list(feedback))
    results = store_batch(session, batch)
    session.commit()
    assert [result.reason for result in results if result.status == "rejected"] == []
    return results


def targets(session: Session):
    """The call that each statement speaks of, in the order of the statements."""
    session.rollback()
    found = session.exec(select(Feedback.interaction_id).order_by(col(Feedback.id)))
    return [None if target is None else str(target) for target in found]
