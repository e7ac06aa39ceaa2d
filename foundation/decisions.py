"""The decision ledger: every rule's inputs, thresholds, outcome and reasons, replayable.

A rule is a pure function `(inputs, thresholds) -> Ruling` registered under its name; recording
calls it, and replaying calls it again on what was stored.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlmodel import Session, col, select

from foundation.errors import Conflict, NotFound
from foundation.tables import Decision


@dataclass(frozen=True)
class Ruling:
    """What a rule says: one word, and the reasons in full sentences."""

    outcome: str
    reasons: tuple[str, ...]


Rule = Callable[[dict[str, Any], dict[str, Any]], Ruling]
_rules: dict[str, Rule] = {}
T = TypeVar("T")


def rule(name: str) -> Callable[[Rule], Rule]:
    """Register a pure rule under `name`; its inputs and thresholds are plain JSON values."""

    def register(function: Rule) -> Rule:
        _rules[name] = function
        return function

    return register


def rule_names() -> list[str]:
    """Return the names of the rules known in this process, sorted."""
    return sorted(_rules)


def as_json(value: Any) -> dict[str, Any]:
    """Return a dataclass or mapping as the plain dictionary that the ledger stores."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return dict(value)


def decide(
    session: Session,
    name: str,
    inputs: Any,
    thresholds: Any,
    *,
    role: str | None = None,
    subject_id: UUID | None = None,
    actor: str = "flywheel",
) -> Decision:
    """Apply the rule `name` and add the Decision to the session.

    Raises:
        NotFound: no rule of that name is registered.
    """
    stored_inputs, stored_thresholds = as_json(inputs), as_json(thresholds)
    ruling = _rule(name)(stored_inputs, stored_thresholds)
    return record(
        session,
        name,
        ruling.outcome,
        list(ruling.reasons),
        inputs=stored_inputs,
        thresholds=stored_thresholds,
        role=role,
        subject_id=subject_id,
        actor=actor,
    )


def record(
    session: Session,
    name: str,
    outcome: str,
    reasons: list[str],
    *,
    inputs: dict[str, Any] | None = None,
    thresholds: dict[str, Any] | None = None,
    role: str | None = None,
    subject_id: UUID | None = None,
    actor: str = "flywheel",
) -> Decision:
    """Add a Decision that a person (or a rule already applied) took."""
    decision = Decision(
        kind=name,
        role=role,
        inputs=inputs or {},
        rule=thresholds or {},
        outcome=outcome,
        reasons=reasons,
        actor=actor,
        subject_id=subject_id,
    )
    session.add(decision)
    session.flush()
    return decision


@dataclass(frozen=True)
class Replay:
    """A stored decision beside what its rule says today."""

    decision: Decision
    ruling: Ruling

    @property
    def agrees(self) -> bool:
        """Whether the rule still gives the stored outcome."""
        return self.decision.outcome == self.ruling.outcome


def newest(session: Session, role: str | None, limit: int) -> list[Decision]:
    """Return the decisions taken last, of one role if named."""
    query = select(Decision).order_by(col(Decision.id).desc()).limit(limit)
    return list(session.exec(query.where(Decision.role == role) if role else query).all())


def get_decision(session: Session, decision_id: UUID) -> Decision:
    """Return a decision by id; raises NotFound."""
    decision = session.get(Decision, decision_id)
    if decision is None:
        raise NotFound(
            "decision",
            str(decision_id),
            "the id of a stored decision",
            "List them with: flywheel decide list",
        )
    return decision


def replay(session: Session, decision_id: UUID) -> Replay:
    """Recompute a stored decision from its inputs and thresholds.

    Raises:
        NotFound: no such decision, or it was taken by a person and has no rule.
        Conflict: its inputs are of another version of the rule, which this one cannot read.
    """
    decision = get_decision(session, decision_id)
    function = _rule(decision.kind)
    try:
        ruling = function(decision.inputs, decision.rule)
    except (TypeError, KeyError, AttributeError) as error:
        raise Conflict(
            f"inputs of the decision {decision.id}",
            str(error),
            f"what the rule {decision.kind} of this version reads",
            "It was taken by another version of the product: replay it with that one.",
        ) from error
    return Replay(decision, ruling)


def _rule(name: str) -> Rule:
    try:
        return _rules[name]
    except KeyError:
        raise NotFound(
            "decision rule",
            name,
            f"one of {', '.join(rule_names())}",
            "Decisions of people have no rule to replay.",
        ) from None


def load(kind: type[T], stored: dict[str, Any]) -> T:
    """Rebuild a thresholds or inputs dataclass from what the ledger stored."""
    return kind(**stored)
