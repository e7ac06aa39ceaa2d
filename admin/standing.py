"""How an experiment stands, as its page shows it: phases of the ramp, the split, guardrails. Pure.

The numbers are those that its rule goes by (`router.experiment`); nothing is decided here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from admin.charts import Gauge, evidence_gauge
from router import stats
from router.experiment import Evidence, ExperimentPlan, ExperimentStatus, splits_of
from router.tables import (
    CONTROL,
    HALTED,
    HOLD_BACK,
    PROMOTED,
    ROLLED_BACK,
    RUNNING,
    STAYED,
    STOPPED,
    TREATMENT,
)

GUARDED = {
    "errors": "Failed calls",
    "slow": "Slow calls",
    "cost": "Cost, of the budget",
    "refusals": "Refused calls",
    "tool_calls": "Invalid tool calls",
}
"""The guardrails in words."""

DONE, NOW, TO_COME = "done", "now", "to come"
FINE, WORSE, OPEN, UNASKED = "no worse", "worse", "not proven yet", "not asked"
AS_PLANNED, BROKEN = "as planned", "broken"


@dataclass(frozen=True)
class Phase:
    """One step of the ramp; counts are of units, 0 for one that has not begun."""

    number: int
    share: float
    state: str
    """done, now or to come."""
    treatment: int
    control: int
    analysed: int
    days: float | None
    """Since it began."""
    split_e: float | None
    """E-value against 'split as planned'; None in a phase that has not begun."""
    mirrored: int | None
    """Calls that were copied to the treatment in shadow; None outside of it."""


@dataclass(frozen=True)
class Split:
    """Whether units fell into the arms as planned, over all phases."""

    name: str
    e_value: float
    halts_at: float

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be concluded."""
        return self.e_value >= self.halts_at

    @property
    def state(self) -> str:
        """What is proven of it, if anything."""
        return BROKEN if self.is_broken else AS_PLANNED


@dataclass(frozen=True)
class Guard:
    """One guardrail: the version that is watched beside the other, as mean bad shares of a unit."""

    name: str
    watched: float
    other: float
    margin: float
    n: int
    fine_e: float
    """E-value of 'worse by less than the margin'."""
    needed_e: float
    """What proves it, before a promotion; 0: it is not asked."""
    worse_e: float
    """E-value of 'worse by more than the margin'."""
    harm_e: float
    """What rolls back."""

    @property
    def state(self) -> str:
        """What is proven of it, if anything."""
        if self.worse_e >= self.harm_e:
            return WORSE
        if self.n and not self.needed_e:
            return UNASKED
        return FINE if self.n and self.fine_e >= self.needed_e else OPEN

    @property
    def gauge(self) -> Gauge | None:
        """Its evidence of being no worse against what is needed; None where it is not asked."""
        return evidence_gauge(self.fine_e, self.needed_e) if self.n else None


@dataclass(frozen=True)
class Aftermath:
    """What became of an experiment that has ended, and how to undo it."""

    title: str
    happened: str
    undo: str


def aftermath_of(status: ExperimentStatus) -> Aftermath | None:
    """Return what the end of an experiment did, in words; None while it runs."""
    control, treatment, role = status.control, status.treatment, status.role
    if status.kind == HOLD_BACK:
        return _after_hold_back(control, treatment, role).get(status.status)
    return _after_ab(control, treatment, role).get(status.status)


def _after_ab(control: str, treatment: str, role: str) -> dict[str, Aftermath]:
    again = "An experiment that has ended is not taken up again; a new one counts from the start."
    return {
        PROMOTED: Aftermath(
            "Promoted",
            f"{treatment} serves {role}; {control} is retired and stays loaded.",
            f"Roll {role} back on its page: {control} serves again at once, and {treatment} is "
            "quarantined.",
        ),
        ROLLED_BACK: Aftermath(
            "Rolled back",
            f"{control} serves {role} alone; {treatment} did harm and is quarantined.",
            "A quarantined version never serves again by itself: train its repair, which is "
            "compared with it. If it did no harm, a person may set it to retired and promote it.",
        ),
        STAYED: Aftermath(
            "Stayed",
            f"{control} serves {role} alone; no gain large enough was proven and {treatment} is "
            "retired.",
            f"{again} By hand {treatment} can still be promoted on the page of the role.",
        ),
        HALTED: Aftermath(
            "Halted",
            f"{control} serves {role} alone. The split was broken, so nothing was concluded; "
            f"{treatment} is a candidate again.",
            f"Find what lost units of one arm, then start again. {again}",
        ),
        STOPPED: Aftermath(
            "Stopped",
            f"{control} serves {role} alone; {treatment} is a candidate again.",
            again,
        ),
    }


def _after_hold_back(control: str, treatment: str, role: str) -> dict[str, Aftermath]:
    return {
        ROLLED_BACK: Aftermath(
            "Put back",
            f"{treatment}, the version before, serves {role} again; {control} is quarantined.",
            "A quarantined version never serves again by itself: train its repair. If it did no "
            "harm, a person may set it to retired and promote it.",
        ),
        STAYED: Aftermath(
            "Kept",
            f"{control} serves {role} alone: nothing showed that it is worse than {treatment}.",
            f"Roll {role} back on its page, if it should be {treatment} after all.",
        ),
        HALTED: Aftermath(
            "Halted",
            f"{control} serves {role} alone. The split was broken, so nothing was concluded.",
            "The guard goes on watching it.",
        ),
        STOPPED: Aftermath(
            "Stopped",
            f"{control} serves {role} alone; nobody is held back any more.",
            "The guard goes on watching it; a hold-back is not taken up again.",
        ),
    }


@dataclass(frozen=True)
class Standing:
    """What the page of an experiment shows of its evidence."""

    status: ExperimentStatus
    plan: ExperimentPlan
    phases: Sequence[Phase]
    splits: Sequence[Split]
    guards: Sequence[Guard]

    @property
    def is_hold_back(self) -> bool:
        """Whether it watches what was promoted, its control."""
        return self.status.kind == HOLD_BACK

    @property
    def is_running(self) -> bool:
        """Whether it goes on."""
        return self.status.status == RUNNING

    @property
    def gauge(self) -> Gauge | None:
        """The evidence of 'better' against what is needed; None where other rules decide."""
        if self.status.evidence.sticky is not None:
            return None
        return evidence_gauge(self.status.e_value, self.needed)

    @property
    def needed(self) -> float:
        """The e-value that decides: for a promotion, or that the version before is put back."""
        return self.plan.harm_e if self.is_hold_back else self.status.needed_e

    @property
    def ties(self) -> int:
        """Pairs that neither arm won."""
        seen = self.status.evidence
        return seen.pairs - seen.wins - seen.losses

    @property
    def more(self) -> str:
        """How many units are still needed, in words; empty where that makes no sense."""
        if not self.is_running or self.is_hold_back:
            return ""
        more = self.status.more_per_arm
        if more is None:
            so_far = min(self.status.evidence.analysed.values())
            return (
                f"No proof in sight: at this trend not within the plan's {self.plan.max_per_arm:,} "
                f"units per arm, {so_far:,} are known."
            )
        if more == 0:
            return "As many units as are needed."
        return f"About {more:,} more units per arm at this trend."

    @property
    def days(self) -> float:
        """How long it runs, or ran."""
        return self.status.evidence.days

    @property
    def days_left(self) -> float | None:
        """How many more days it takes at this pace and trend; None: nobody can tell."""
        seen, plan = self.status.evidence, self.plan
        if self.is_hold_back:
            return max(0.0, plan.hold_back_days - seen.days)
        if seen.sticky is not None:
            return max(0.0, plan.planned_days - seen.days)
        so_far = min(seen.analysed.values())
        more = self.status.more_per_arm
        if more is None:
            more = plan.max_per_arm - so_far
        if more > 0 and not (so_far and seen.days > 0):
            return None
        by_units = more / (so_far / seen.days) if more > 0 else 0.0
        return max(by_units, plan.min_days - seen.days, 0.0)

    @property
    def days_in_words(self) -> str:
        """How long it runs and how much longer it may."""
        so_far = f"{self.days:.1f} days so far"
        if not self.is_running:
            return f"It ran for {self.days:.1f} days."
        left = self.days_left
        if left is None:
            return f"{so_far}; how many more cannot be told before both arms have outcomes."
        end = "its end" if self.is_hold_back or self.status.more_per_arm is None else "a decision"
        if left < 0.05:
            return f"{so_far}: long enough."
        return f"{so_far}, about {left:.1f} more until {end} at this pace."


def standing_of(status: ExperimentStatus, plan: ExperimentPlan) -> Standing:
    """Return how an experiment stands."""
    seen = status.evidence
    return Standing(
        status,
        plan,
        _phases(status, plan),
        _splits(seen, plan),
        [_guard(name, guard, plan) for name, guard in seen.guardrails.items()],
    )


def _phases(status: ExperimentStatus, plan: ExperimentPlan) -> list[Phase]:
    begun = {int(phase["number"]): phase for phase in status.evidence.phases}
    found = []
    for number, share in enumerate(plan.shares):
        phase = begun.get(number)
        if phase is None:
            state = DONE if number < status.phase else TO_COME
            found.append(Phase(number, share, state, 0, 0, 0, None, None, None))
            continue
        is_now = number == status.phase and status.status == RUNNING
        assigned = phase["assigned"]
        shadow = phase.get("shadow")
        found.append(
            Phase(
                number,
                phase["share"],
                NOW if is_now else DONE,
                assigned[TREATMENT],
                assigned[CONTROL],
                sum(phase["analysed"].values()),
                phase["days"],
                stats.e_value(stats.log_e_split([_split(phase, "assigned")])),
                shadow["calls"] if shadow else None,
            )
        )
    return found


def _splits(seen: Evidence, plan: ExperimentPlan) -> list[Split]:
    return [
        Split(name, stats.e_value(stats.log_e_split(phases)), plan.srm_e)
        for name, phases in splits_of(seen, plan).items()
    ]


def _split(phase: Mapping[str, Any], name: str) -> stats.PhaseSplit:
    units = phase[name]
    return stats.PhaseSplit(phase["share"], units[TREATMENT], sum(units.values()))


def _guard(name: str, guard: Mapping[str, Any], plan: ExperimentPlan) -> Guard:
    return Guard(
        GUARDED.get(name, name),
        guard["treatment"],
        guard["control"],
        guard["margin"],
        int(guard["n"]),
        stats.e_value(guard["max_log_e_fine"]),
        plan.certify_e,
        stats.e_value(guard["max_log_e_worse"]),
        plan.harm_e,
    )
