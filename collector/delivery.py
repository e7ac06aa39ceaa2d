"""A batch on its way in: who sent it and its records, each as it came or why it cannot be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

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
        media: whether it may hold contents that do not belong in a row.
        key_id: the key by which it came, where that is not who asks now: the gateway hands over
            what others asked for, and a dead letter is tried again. Never what a record says.
        is_id_ours: whether its id was made here, and not stated by who sent it.
    """

    kind: str
    record: Any
    refusal: Refusal | None = None
    media: bool = True
    key_id: UUID | None = None
    is_id_ours: bool = False


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


def from_batch(batch: IngestBatch, storable: bool = False, media: bool = True) -> Delivery:
    """Return a batch as a delivery: interactions, then feedback.

    Args:
        batch: records as Python values.
        storable: they were read by a parser that lets nothing pass that PostgreSQL cannot hold.
        media: whether they may hold contents.
    """
    parts = ((INTERACTION, batch.interactions), (FEEDBACK, batch.feedback))
    return delivery_of(
        batch,
        [line_of(kind, record, storable, media) for kind, records in parts for record in records],
    )


def line_of(kind: str, record: Any, storable: bool = False, media: bool = True) -> Line:
    """Return a line, refused if PostgreSQL cannot hold its record; `storable` is known to fit."""
    if not storable:
        try:
            require_storable(record)
        except Refusal as refusal:
            return Line(kind, record, refusal, media)
    return Line(kind, record, None, media)
