"""An erasure from end to end: rows, files, a search for what is left, and the certificate of it.

What comes back later (a spool that had waited, an import, a restored backup) is known again by the
digests that erasures keep, and erased again: `again`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlmodel import select

from collector.erase import INTERACTION, Subject, late
from curation.tables import Erasure
from foundation.database import session_scope
from router.erase import erase, sought_of
from router.erase_proof import certificate, prove

AGAIN: Final = "came after it was erased"


@dataclass(frozen=True)
class Erased:
    """An erasure that is done, and its certificate."""

    account: Erasure
    certificate: dict[str, Any]


def tried(subject: Subject, actor: str) -> Erasure:
    """Return the account of what would go; changes nothing."""
    with session_scope() as session:
        return erase(session, subject, actor=actor, dry_run=True)


def erase_all(
    subject: Subject, *, actor: str, reason: str | None = None, verify: bool = True
) -> Erased:
    """Erase a subject everywhere, commit, remove its files, and search for what is left.

    Args:
        subject: what is named.
        actor: who asked.
        reason: why.
        verify: whether every table is searched afterwards; it reads the whole database.
    """
    with session_scope() as session:
        sought = sought_of(session, subject)
        account = erase(session, subject, actor=actor, reason=reason)
    stored = prove(account, sought, verify=verify)
    with session_scope() as session:
        return Erased(stored, certificate(session, stored))


def again(
    *,
    actor: str = "flywheel",
    certificates: Sequence[dict[str, Any]] = (),
    since: datetime | None = None,
) -> Erased | None:
    """Erase calls once more that came back after their subject was erased; None: there are none.

    A call is known by its name's digest, and by its id as made before that erasure: what a person
    does later is theirs anew.

    Args:
        actor: who asks.
        certificates: of erasures that this database does not know, as one restored from a backup.
        since: look only at what arrived after that; None: at the whole log.
    """
    with session_scope() as session:
        erasures = session.exec(select(Erasure)).all()
        erased = [
            (digest, one.created_at)
            for one in erasures
            for digest in (one.proof or {}).get("digests", [])
        ]
        erased += [
            (digest, datetime.fromisoformat(one["erased_at"]))
            for one in certificates
            for digest in one["name_sha256"]
        ]
        back = late(session, erased, since) if erased else []
    if not back:
        return None
    subject = Subject(INTERACTION, tuple(map(str, back)))
    return erase_all(subject, actor=actor, reason=AGAIN, verify=False)
