"""Evidence against time: what each look at an experiment saw, kept for its page; decides nothing.

A look costs one row. Of a long experiment a few hundred are kept, about evenly over its time: more
than that nobody can tell apart in a picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from foundation.tables import now
from router import stats
from router.experiments.evidence import Evidence
from router.experiments.plan import PLANNED, ExperimentPlan, plan_of
from router.experiments.rule import attended, needed_e, splits_of
from router.tables import AB, CONTROL, HOLD_BACK, TREATMENT, Experiment, ExperimentLook

KEPT: Final = 400
"""Looks of one experiment at most."""
FINEST: Final = 200
"""Parts of an experiment's time; of looks that are closer than one only the newer stays."""

_NEWS: Final = ("phase", "n_treatment", "n_control", "e_value")


def note_look(
    session: Session,
    experiment: Experiment,
    seen: Evidence,
    gain: stats.Difference | None,
    *,
    is_last: bool = False,
) -> None:
    """Write down what a look saw, if that is news; the last look always is.

    Call it with the role locked: two looks at one experiment never write at once.
    """
    found = _told(experiment, seen, gain)
    before = session.exec(
        select(ExperimentLook)
        .where(ExperimentLook.experiment_id == experiment.id)
        .order_by(col(ExperimentLook.looked_at).desc())
        .limit(1)
    ).first()
    if before is not None and not is_last:
        if all(getattr(before, name) == found[name] for name in _NEWS):
            return
    moment = now()
    _thin(session, experiment, moment)
    key = {"experiment_id": experiment.id, "looked_at": moment}
    session.execute(insert(ExperimentLook).values(**key, **found).on_conflict_do_nothing())


def read_looks(session: Session, experiment: Experiment) -> Sequence[ExperimentLook]:
    """Return the looks that are kept of an experiment, oldest first; at most a few hundred."""
    return session.exec(
        select(ExperimentLook)
        .where(ExperimentLook.experiment_id == experiment.id)
        .order_by(col(ExperimentLook.looked_at))
    ).all()


def superfluous(times: Sequence[datetime], moment: datetime) -> list[datetime]:
    """Return which of the times of looks, in order, a picture up to `moment` can do without.

    The first stays, as does the newest unless it is too close to the one before it.
    """
    if len(times) < 2:
        return []
    finest = (moment - times[0]) / FINEST
    close = [times[-1]] if times[-1] - times[-2] < finest else []
    return [*(times[1:-1:2] if len(times) >= KEPT else []), *close]


def estimate_of(seen: Evidence, found: stats.Difference | None) -> Mapping[str, Any]:
    """Return estimate, low and high: per unit where units are sticky, else stratified."""
    if seen.sticky is not None and "refused" not in seen.sticky:
        return {**seen.sticky, "estimate": seen.sticky["difference"]}
    return asdict(found) if found else dict.fromkeys(("estimate", "low", "high"))


def _thin(session: Session, experiment: Experiment, moment: datetime) -> None:
    mine = col(ExperimentLook.experiment_id) == experiment.id
    times = session.exec(
        select(ExperimentLook.looked_at).where(mine).order_by(col(ExperimentLook.looked_at))
    ).all()
    if spared := superfluous(times, moment):
        where = mine & col(ExperimentLook.looked_at).in_(spared)
        session.execute(delete(ExperimentLook).where(where))


def _told(experiment: Experiment, seen: Evidence, gain: stats.Difference | None) -> dict[str, Any]:
    plan = plan_of(experiment)
    estimate = estimate_of(seen, gain)
    splits = splits_of(seen, plan).values()
    by_looks = _goes_by_planned_looks(experiment, seen, plan)
    return {
        "phase": experiment.phase,
        "n_treatment": seen.analysed[TREATMENT],
        "n_control": seen.analysed[CONTROL],
        "e_value": None if by_looks else stats.e_value(seen.log_e),
        "needed_e": None if by_looks else _needed(experiment, seen, plan),
        **{name: estimate[name] for name in ("estimate", "low", "high")},
        "split_e": max((stats.e_value(stats.log_e_split(one)) for one in splits), default=None),
    }


def _goes_by_planned_looks(experiment: Experiment, seen: Evidence, plan: ExperimentPlan) -> bool:
    return seen.sticky is not None or (experiment.kind == AB and plan.mode == PLANNED)


def _needed(experiment: Experiment, seen: Evidence, plan: ExperimentPlan) -> float:
    if experiment.kind == HOLD_BACK:
        return plan.harm_e
    return needed_e(seen, attended(plan, seen))
