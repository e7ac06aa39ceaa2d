"""Try a dead letter's record again, after its cause was mended: a role added, a limit raised."""

import json
from dataclasses import replace

from sqlmodel import Session

from collector.dead_letters import UNKEPT, code_of, require_open, restate, settle
from collector.delivery import Delivery, line_of
from collector.ingest import REJECTED, store
from collector.rights import NOT_ALLOWED
from collector.schemas import RecordResult
from collector.tables import DeadLetter
from foundation.access import came_by
from foundation.errors import Conflict, Forbidden

SOURCE = "dead-letters"
"""Source that replays are counted under: the writer's own books have counted the refusal."""


def replay(session: Session, letter: DeadLetter) -> RecordResult:
    """Store a letter's record and settle the letter; refused again, it says the new reason.

    It goes by the rights of who tries it, and is still said to have come by the letter's key. What
    is refused for want of those rights leaves the letter as it was.

    Raises:
        BadInput: the letter is settled.
        Forbidden: it waits since its key might not write it, and who tries it may write no calls.
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
    if letter.code == NOT_ALLOWED and not came_by().writes_calls:
        raise Forbidden(
            "dead letter",
            f"{letter.id} ({letter.code})",
            "a key that may write calls, or an operator",
            "Try it again with a key of the scope ingest, or: flywheel dead-letters replay ID",
        )
    line = replace(line_of(letter.kind, json.loads(letter.record)), key_id=letter.key_id)
    (result,) = store(session, Delivery(SOURCE, [line]), keep_refused=False)
    if result.status != REJECTED:
        settle(session, letter, result.status)
    elif code_of(str(result.reason)) != NOT_ALLOWED:
        restate(session, letter, str(result.reason))
    return result
