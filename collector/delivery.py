"""A batch on its way in: who sent it and its records, each as it came or why it cannot be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from collector.admission import Refusal, require_storable
from collector.schemas import Account, BatchHead, IngestBatch

INTERACTION, FEEDBACK = "interaction", "feedback"


@dataclass(frozen=True)
class Line:
    """One record of a batch.

    Attributes:
        kind: interaction or feedback; of an unreadable line whatever it seemed to be.
        record: any JSON value that PostgreSQL can hold, or what there is if `refusal` is given.
        refusal: why it cannot be stored, if that is known already.
    """

    kind: str
    record: Any
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Delivery:
    """The records of one request in their order, and their writer's books."""

    source: str
    lines: Sequence[Line]
    dropped: Mapping[str, int] = field(default_factory=dict)
    account: Account | None = None


def delivery_of(head: BatchHead, lines: Sequence[Line]) -> Delivery:
    """Return a delivery with what `head` says."""
    return Delivery(head.source, lines, head.dropped, head.account)


def from_batch(batch: IngestBatch, storable: bool = False) -> Delivery:
    """Return a batch as a delivery: interactions, then feedback.

    Args:
        batch: records as Python values.
        storable: they were read by a parser that lets nothing pass that PostgreSQL cannot hold.
    """
    parts = ((INTERACTION, batch.interactions), (FEEDBACK, batch.feedback))
    make = Line if storable else checked_line
    return delivery_of(batch, [make(kind, record) for kind, records in parts for record in records])


def checked_line(kind: str, record: Any) -> Line:
    """Return a line, refused if PostgreSQL cannot hold its record."""
    try:
        require_storable(record)
    except Refusal as refusal:
        return Line(kind, record, refusal)
    return Line(kind, record)
