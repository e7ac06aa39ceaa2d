"""Try a dead letter's record again, after its cause was mended: a role added, a limit raised."""

import json

from sqlmodel import Session

from collector.dead_letters import UNKEPT, require_open, restate, settle
from collector.delivery import Delivery, line_of
from collector.ingest import REJECTED, store
from collector.schemas import RecordResult
from collector.tables import DeadLetter
from foundation.errors import Conflict

SOURCE = "dead-letters"
"""Source that replays are counted under: the writer's own books have counted the refusal."""


def replay(session: Session, letter: DeadLetter) -> RecordResult:
    """Store a letter's record and settle the letter; refused again, it says the new reason.

    Raises:
        BadInput: the letter is settled.
        Conflict: the letter could not keep its record.
    """
    require_open(letter)
    if letter.record == UNKEPT:
        raise Conflict(
            "dead letter",
            f"{letter.id} ({letter.code})",
            "a letter that kept its record",
            "Send the record again from where it came.",
        )
    line = line_of(letter.kind, json.loads(letter.record))
    (result,) = store(session, Delivery(SOURCE, [line]), keep_refused=False)
    if result.status != REJECTED:
        settle(session, letter, result.status)
    else:
        restate(session, letter, str(result.reason))
    return result
