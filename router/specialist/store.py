"""The fits that are kept: the newest of a role, and those in use."""

from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import Session, col, select

from router.specialist.classifier import Fit
from router.tables import SpecialistFit

USE, STAY = "use", "stay"
"""Outcomes of the Decision about a fit."""


def newest(session: Session, role: str) -> SpecialistFit | None:
    """Return the newest fit of a role, in use or not; None before the first."""
    return session.exec(
        select(SpecialistFit)
        .where(SpecialistFit.role == role)
        .order_by(col(SpecialistFit.id).desc())
        .limit(1)
    ).first()


def in_use(session: Session) -> dict[str, Fit]:
    """Return the newest fit of each role whose Decision was to use it."""
    rows = session.exec(
        select(SpecialistFit)
        .ext(distinct_on(col(SpecialistFit.role)))
        .order_by(col(SpecialistFit.role), col(SpecialistFit.id).desc())
    ).all()
    return {row.role: Fit.from_json(row.fitted) for row in rows if row.report["outcome"] == USE}
