"""Dead letters: records that were refused, kept with the reason until somebody settles them.

A letter holds its record scrubbed. Nothing is kept of a record whose scrubbing failed, and not the
text of one too large or too deep to be scrubbed. The same refusal of the same record is one letter.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, func, select

from collector.admission import Refusal, known_id
from collector.scrub import Scrubber, scrub_record, server_rules
from collector.staging import cursor_of, destination, insert_new
from collector.tables import DeadLetter
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id
from foundation.tables import now

DISCARDED = "discarded"
UNKEPT = ""
"""Record of a letter whose text could not be kept."""

_KEPT_NOWHERE = "scrub_failed"
_TOO_LARGE = "too_large"
_DESTINATION = destination(DeadLetter)


@dataclass(frozen=True)
class Letter:
    """A refused record before it is stored: scrubbed JSON text, or `UNKEPT`."""

    kind: str
    record_id: str
    code: str
    reason: str
    record: str
    key_id: UUID | None = None


def letter_of(
    kind: str,
    raw: Any,
    refusal: Refusal,
    scrubbed: dict[str, Any] | None = None,
    key_id: UUID | None = None,
) -> Letter | None:
    """Return the letter of a refused record, or None where nothing of it may be kept; pure.

    Args:
        kind: interaction or feedback.
        raw: the record as it came: any JSON value, or the bytes that could not be read.
        refusal: why.
        scrubbed: the record without secrets, if it was refused only after that.
        key_id: by which it came.
    """
    if refusal.code == _KEPT_NOWHERE:
        return None
    if refusal.code == _TOO_LARGE:
        text = UNKEPT
    else:
        try:
            text = json.dumps(_clean(raw) if scrubbed is None else scrubbed)
        except RecursionError:
            text = UNKEPT
        except Exception:  # unscrubbed text must not rest, whatever went wrong
            return None
    identifier = known_id(raw) or _hash_of(raw, text)
    return Letter(kind, identifier, refusal.code, str(refusal), text, key_id)


def _clean(raw: Any) -> Any:
    scrubber = Scrubber(server_rules())
    if isinstance(raw, dict):
        return scrub_record(raw, scrubber)
    return scrubber.json(raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw)[0]


def _hash_of(raw: Any, text: str) -> str:
    return sha256(raw if isinstance(raw, bytes) else text.encode()).hexdigest()


def keep(session: Session, source: str, letters: Sequence[Letter]) -> None:
    """Store letters that are not there yet."""
    if not letters:
        return
    unique = {(letter.kind, letter.record_id, letter.code): letter for letter in letters}
    rows = [
        DeadLetter(id=new_id(), source=source, received_at=now(), **unique[key].__dict__)
        for key in sorted(unique)  # ids rise with the unique key: one order for all, no deadlock
    ]
    values = [_DESTINATION.values(row.model_dump()) for row in rows]
    insert_new(cursor_of(session), _DESTINATION, values)


def letters(
    session: Session, code: str | None = None, settled: bool = False, limit: int = 100
) -> list[DeadLetter]:
    """Return letters, newest first: the open ones, or with `settled` all."""
    query = select(DeadLetter).order_by(col(DeadLetter.id).desc()).limit(limit)
    if code is not None:
        query = query.where(DeadLetter.code == code)
    if not settled:
        query = query.where(col(DeadLetter.settled_at).is_(None))
    return list(session.exec(query))


def open_ids(session: Session, code: str | None = None) -> list[UUID]:
    """Return the ids of the letters that wait, oldest first."""
    query = select(DeadLetter.id).where(col(DeadLetter.settled_at).is_(None))
    if code is not None:
        query = query.where(DeadLetter.code == code)
    return list(session.exec(query.order_by(col(DeadLetter.id))))


def open_by_code(session: Session) -> dict[str, int]:
    """Return how many letters wait, by code, the most frequent first."""
    rows = session.exec(
        select(DeadLetter.code, func.count())
        .where(col(DeadLetter.settled_at).is_(None))
        .group_by(DeadLetter.code)
        .order_by(func.count().desc(), DeadLetter.code)
    )
    return {code: n for code, n in rows}


def get_letter(session: Session, identifier: UUID) -> DeadLetter:
    """Return one letter, locked until the transaction ends; raises NotFound."""
    letter = session.get(DeadLetter, identifier, with_for_update=True)
    if letter is None:
        raise NotFound(
            "dead letter",
            str(identifier),
            "the id of a dead letter",
            "List them with: flywheel dead-letters list",
        )
    return letter


def require_open(letter: DeadLetter) -> DeadLetter:
    """Return a letter that nobody has settled; raises BadInput."""
    if letter.settled_at is not None:
        raise BadInput(
            "dead letter",
            str(letter.id),
            "a letter that is still open",
            f"It was settled as {letter.outcome} at {letter.settled_at.isoformat()}.",
        )
    return letter


def settle(session: Session, letter: DeadLetter, outcome: str) -> DeadLetter:
    """Note what became of a letter."""
    letter.settled_at, letter.outcome = now(), outcome
    session.add(letter)
    session.flush()
    return letter


def restate(session: Session, letter: DeadLetter, reason: str) -> DeadLetter:
    """Note why a letter's record was refused again; where that is a letter already, settle this."""
    code = code_of(reason)
    twin = select(DeadLetter.id).where(
        DeadLetter.kind == letter.kind,
        DeadLetter.record_id == letter.record_id,
        DeadLetter.code == code,
        DeadLetter.id != letter.id,
    )
    if session.exec(twin).first() is not None:
        return settle(session, letter, f"rejected: {code}")
    letter.code, letter.reason = code, reason
    session.add(letter)
    session.flush()
    return letter


def code_of(reason: str) -> str:
    """Return the code that a reason starts with."""
    return reason.partition(":")[0]


def discard(session: Session, letter: DeadLetter) -> DeadLetter:
    """Settle an open letter without its record; raises BadInput."""
    return settle(session, require_open(letter), DISCARDED)
