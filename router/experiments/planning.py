"""The plan before the start: what an experiment could show at the role's traffic, and how soon."""

import math
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text
from sqlmodel import Session

from collector.feedback.sources import is_heard
from foundation.errors import BadInput
from foundation.ids import first_id_at
from foundation.tables import now
from router import stats
from router.experiments.plan import ExperimentPlan
from router.policy import policy_of
from router.promote import require_role, serving_version
from router.stats.size import FEWEST_PER_DAY
from router.tables import EPISODE, ON

LOOK_BACK_DAYS = 28
_EFFECTS = (0.02, 0.05, 0.10)


@dataclass(frozen=True)
class Outlook:
    """What an experiment of a role could show; rates are 0-1.

    Attributes:
        role: the agent role.
        serving: name of who serves now.
        tasks_per_day: of the role, over the last four weeks.
        units_per_day: users or agents a day, where those are the units; else the tasks.
        baseline: success rate of who serves; None if nobody said.
        alpha: chance of promoting what is not better, by the role's auto_promote.
        smallest_gain: that the plan shows with a chance of 80 % before its planned end.
        ramp_days: days until the last phase of the ramp.
        sizes: units and days for a gain of 2, 5 and 10 points.
        advice: what to do, in sentences.
    """

    role: str
    serving: str | None
    tasks_per_day: float
    units_per_day: float
    baseline: float | None
    alpha: float
    smallest_gain: float | None
    ramp_days: float | None
    sizes: tuple[stats.Size, ...]
    advice: tuple[str, ...]


_TRAFFIC = text(
    f"""
    WITH calls AS (
        SELECT id, episode_id, unit_id, model_version_id FROM interaction
        WHERE role = :role AND id >= :since AND source IN ('gateway', 'client')
    ), told AS (
        SELECT DISTINCT ON (task) task, value FROM (
            SELECT c.episode_id AS task, f.value, f.created_at, f.id
            FROM feedback f JOIN calls c ON c.episode_id = f.episode_id
            WHERE f.kind = 'success' AND f.interaction_id IS NULL
              AND c.model_version_id = :version AND {is_heard("f")}
            UNION ALL
            SELECT coalesce(c.episode_id, c.id), f.value, f.created_at, f.id
            FROM feedback f JOIN calls c ON c.id = f.interaction_id
            WHERE f.kind = 'success' AND c.model_version_id = :version AND {is_heard("f")}
        ) said ORDER BY task, created_at, id
    )
    SELECT (SELECT count(DISTINCT coalesce(episode_id, id)) FROM calls) AS tasks,
           (SELECT count(DISTINCT unit_id) FROM calls) AS units,
           (SELECT count(*) FROM told) AS outcomes,
           (SELECT count(*) FROM told WHERE value >= 0.5) AS successes
    """
)


def outlook(
    session: Session, role: str, plan: ExperimentPlan, baseline: float | None = None
) -> Outlook:
    """Return what an experiment of `role` by `plan` could show, and what to do.

    Args:
        session: The transaction, only read.
        role: The agent role.
        plan: As it would be started.
        baseline: Success rate (0-1) to reckon with; by default what who serves has had lately.

    Raises:
        NotFound: the role is not configured.
        BadInput: the baseline is not between 0 and 1.
    """
    require_role(role)
    if baseline is not None and not 0 < baseline < 1:
        raise BadInput("baseline", baseline, "a success rate between 0 and 1", "Give 0.85, say.")
    serving = serving_version(session, role)
    seen = session.execute(
        _TRAFFIC,
        {
            "role": role,
            "since": first_id_at(now() - timedelta(days=LOOK_BACK_DAYS)),
            "version": serving.id if serving else None,
        },
    ).one()
    per_day = seen.tasks / LOOK_BACK_DAYS
    if baseline is None and seen.outcomes and 0 < seen.successes < seen.outcomes:
        baseline = seen.successes / seen.outcomes
    alpha = plan.alpha
    if policy_of(session, role).auto_promote == ON:
        alpha = min(alpha, plan.alpha_unattended)
    sizes = _sizes(baseline, per_day, alpha, plan.shares[-1])
    ramp_days = _ramp_days(plan, per_day)
    smallest = stats.detectable_effect(baseline, plan.max_per_arm, alpha) if baseline else None
    return Outlook(
        role=role,
        serving=serving.name if serving else None,
        tasks_per_day=per_day,
        units_per_day=seen.units / LOOK_BACK_DAYS if plan.unit_kind != EPISODE else per_day,
        baseline=baseline,
        alpha=alpha,
        smallest_gain=smallest,
        ramp_days=ramp_days,
        sizes=sizes,
        advice=tuple(_advice(plan, per_day, seen.units, baseline, smallest, ramp_days, sizes)),
    )


def _sizes(
    baseline: float | None, per_day: float, alpha: float, share: float
) -> tuple[stats.Size, ...]:
    if baseline is None:
        return ()
    return tuple(
        stats.plan_size(baseline, effect, per_day, alpha, share)
        for effect in _EFFECTS
        if effect <= 1 - baseline
    )


def _ramp_days(plan: ExperimentPlan, per_day: float) -> float | None:
    """Return the days of all phases but the last; None without traffic."""
    if len(plan.shares) == 1:
        return 0.0
    if per_day <= 0:
        return None
    return sum(
        max(plan.ramp_days, plan.ramp_units / (per_day * (share or 1.0)))
        for share in plan.shares[:-1]
    )


def _advice(
    plan: ExperimentPlan,
    per_day: float,
    n_units: int,
    baseline: float | None,
    smallest: float | None,
    ramp_days: float | None,
    sizes: tuple[stats.Size, ...],
) -> list[str]:
    is_small = per_day < FEWEST_PER_DAY
    said = [size.advice for size in (sizes[1:2] if is_small else sizes)]
    if baseline is None:
        said.append(
            "No success rate is known: send success feedback on tasks, or give the rate to expect."
        )
    if baseline is None and is_small:
        said.append(
            f"{per_day:.1f} tasks a day: below ~{FEWEST_PER_DAY} tasks a day use offline "
            "replay, and live traffic only to detect harm."
        )
    if is_small:
        said.append(
            "Offline replay: flywheel evaluate SUITE CANDIDATE BASELINE, then flywheel compare "
            "BASELINE CANDIDATE pairs their answers to the same tasks."
        )
    if smallest is not None:
        said.append(
            f"The plan's {plan.max_per_arm} units per arm show a gain of {100 * smallest:.1f} "
            "points or more, with a chance of 80 %; at that end 'stayed' means no more than that."
        )
    if ramp_days is not None and ramp_days > 0:
        said.append(f"The ramp takes about {math.ceil(ramp_days)} days before its last share.")
    if plan.unit_kind != EPISODE:
        few = stats.too_few_units(n_units // 2, n_units - n_units // 2)
        said.append(few or f"{n_units} units in four weeks: enough to be analysed per unit.")
    return said
