"""How often one may try to sign in: counted in the database, over the last quarter of an hour.

An attempt is counted before it is looked at, under a lock of its name and its address, so that many
at the same time are as many as one after the other. Refused ones are not counted: a lock ends a
quarter of an hour after the failures, whoever keeps trying. Sessions that are open stay open.
"""

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from admin.access.users import user_name
from admin.tables import SignInAttempt
from foundation.errors import BadInput, FlywheelError
from foundation.tables import now

WINDOW: Final = timedelta(minutes=15)
PER_NAME: Final = 5
PER_ADDRESS: Final = 20
_OLD_AT_ONCE: Final = 200


class TooManyAttempts(FlywheelError):
    """A name or an address has failed too often."""

    http_status = 429

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        minutes = -(-retry_after_s // 60)
        wait = "a minute" if minutes == 1 else f"{minutes} minutes"
        super().__init__(
            f"Too many attempts to sign in. Try again in {wait}. "
            "A one-time link from the terminal works now: flywheel login NAME"
        )


def subject_of_name(name: str) -> str:
    """Return what a name is counted as: people type passwords there, too, so it is not kept.

    A user whose name is kept as a hash is counted alike by either.
    """
    try:
        kept = user_name(name)
    except BadInput:  # nobody's
        kept = name.strip()
    digest = sha256(kept.encode("utf-8", "surrogatepass")).hexdigest()
    return f"name:{digest[:32]}"


def subject_of_address(address: str) -> str:
    """Return what an address is counted as; one household has 2^64 addresses of IPv6."""
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return f"address:{address[:64]}"
    if isinstance(read, ipaddress.IPv6Address):
        return f"address:{ipaddress.ip_network((read, 64), strict=False)}"
    return f"address:{read}"


def count(session: Session, name: str, address: str) -> None:
    """Count an attempt as one that fails, which `forgive` takes back.

    Raises:
        TooManyAttempts: the name or the address has had its number; nothing is counted.
    """
    _reserve(
        session,
        [(subject_of_name(name), PER_NAME), (subject_of_address(address), PER_ADDRESS)],
    )


def count_address(session: Session, address: str) -> None:
    """Count a failure of an address alone; raises as `count`."""
    _reserve(session, [(subject_of_address(address), PER_ADDRESS)])


def forgive(session: Session, name: str, address: str) -> None:
    """Let a name begin anew after a success, and take back what was counted of its address."""
    session.execute(
        delete(SignInAttempt).where(col(SignInAttempt.subject) == subject_of_name(name))
    )
    _take_back(session, subject_of_address(address))


def take_back(session: Session, name: str, address: str) -> None:
    """Take back an attempt that was counted and could not be looked at."""
    _take_back(session, subject_of_name(name))
    _take_back(session, subject_of_address(address))


def _take_back(session: Session, subject: str) -> None:
    session.execute(
        text(
            "UPDATE admin_sign_in_attempt SET n_failed = greatest(n_failed - 1, 0) "
            "WHERE subject = :subject AND starts_at = "
            "(SELECT max(starts_at) FROM admin_sign_in_attempt WHERE subject = :subject)"
        ),
        {"subject": subject},
    )


def _reserve(session: Session, limits: Sequence[tuple[str, int]]) -> None:
    """Count one for each subject; in one order everywhere, so that no two wait for each other."""
    for subject, _ in limits:
        session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:subject, 0))"),
            {"subject": f"sign-in {subject}"},
        )
    moment = now()
    waits = [_wait(session, subject, most, moment) for subject, most in limits]
    if longest := max(waits):
        raise TooManyAttempts(longest)
    for subject, _ in limits:
        _count_one(session, subject, moment)
    _forget_old(session, moment)


def _wait(session: Session, subject: str, most: int, moment: datetime) -> int:
    """Return the seconds until one more attempt may be made; 0: now."""
    rows = session.execute(
        select(col(SignInAttempt.starts_at), col(SignInAttempt.n_failed))
        .where(
            col(SignInAttempt.subject) == subject, col(SignInAttempt.starts_at) > moment - WINDOW
        )
        .order_by(col(SignInAttempt.starts_at))
    ).all()
    left = sum(n for _, n in rows) - most
    for starts_at, n in rows:
        if left < 0:
            break
        left -= n
        if left < 0:
            return int((starts_at + WINDOW - moment).total_seconds()) + 1
    return 0


def _count_one(session: Session, subject: str, moment: datetime) -> None:
    """Count an attempt by its own time: there are never more than the limits allow."""
    statement = insert(SignInAttempt).values(subject=subject, starts_at=moment, n_failed=1)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["subject", "starts_at"],
            set_={"n_failed": SignInAttempt.n_failed + 1},
        )
    )


def _forget_old(session: Session, moment: datetime) -> None:
    """Delete some of what no window reaches; rows that another deletes are left to it."""
    old = (
        select(col(SignInAttempt.subject), col(SignInAttempt.starts_at))
        .where(col(SignInAttempt.starts_at) <= moment - WINDOW)
        .limit(_OLD_AT_ONCE)
        .with_for_update(skip_locked=True)
        .cte("old")
    )
    session.execute(
        delete(SignInAttempt).where(
            col(SignInAttempt.subject) == old.c.subject,
            col(SignInAttempt.starts_at) == old.c.starts_at,
        )
    )
