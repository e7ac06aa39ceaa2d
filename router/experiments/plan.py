"""The plan of an experiment: everything that decides it, fixed when it starts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from foundation import decisions
from foundation.errors import BadInput, NotFound
from router.tables import AGENT, EPISODE, USER, Experiment

SUCCESS, SCORE, PREFERENCE = "success", "score", "preference"
"""Kinds of an outcome: did it work; how good was it, 0-1; which of two did a user choose."""

SEQUENTIAL, PLANNED = "sequential", "planned"
"""Modes: look whenever you like, or at times that were fixed before."""

_CHOICES: Final = {
    "unit_kind": (EPISODE, USER, AGENT),
    "outcome_kind": (SUCCESS, SCORE, PREFERENCE),
    "mode": (SEQUENTIAL, PLANNED),
}
_CLAIMS: Final = ("over_roles", "one_source_decides")
_SHARES: Final = ("treatment_share", "alpha", "alpha_unattended", "error_limit", "slow_share")
_MARGINS: Final = ("error_margin", "slow_margin", "cost_margin", "refusal_margin", "tool_margin")
_NO_RAMP: Final = (
    "none where users or agents are the units (they keep the arm of their first task, and who "
    "comes first, while the share is small, is not like who comes later); give a treatment_share"
)
_AT_LEAST_ZERO: Final = (
    *("min_per_arm", "min_days", "outcome_timeout_s", "slow_limit_ms", "certify_e", "ramp_units"),
    *("ramp_days", "cost_budget_usd", "hold_back_days", "cooldown_h"),
)


@dataclass(frozen=True)
class ExperimentPlan:
    """Everything that decides an experiment, fixed when it starts."""

    treatment_share: float = 0.5
    """Share of units that the treatment serves, 0-1 exclusive; where a ramp is, its last share."""
    alpha: float = 0.05
    """Chance of ever promoting a treatment that is not better."""
    min_per_arm: int = 50
    """Units with a known outcome that each arm needs before a promotion."""
    min_days: float = 7.0
    """Days an experiment lasts at least before a promotion: one weekly cycle."""
    max_per_arm: int = 1400
    """Units with a known outcome per arm at which an undecided experiment ends as `stayed`."""
    outcome_timeout_s: float = 86_400.0
    """Seconds after its assignment at which a unit without outcome counts as a failure."""
    srm_e: float = 1000.0
    """E-value against the planned split that halts."""
    harm_e: float = 20.0
    """E-value for harm, or against a limit below, that rolls back."""
    error_limit: float = 0.02
    """Tolerated share of failed calls, 0-1."""
    slow_limit_ms: float = 3000.0
    """Latency above which a call is slow, in milliseconds."""
    slow_share: float = 0.05
    """Tolerated share of slow calls, 0-1: p95 below the latency limit."""
    alpha_unattended: float = 0.05
    """Takes the place of `alpha` where the role's auto_promote is on: nobody looks before it."""
    ramp: tuple[float, ...] = ()
    """Shares of the treatment, one phase each; 0 is shadow. Empty: `treatment_share` at once."""
    ramp_units: int = 20
    """Units of the treatment (in shadow: of the control) before the next phase."""
    ramp_days: float = 0.0
    """Days before the next phase."""
    unit_kind: str = EPISODE
    """What keeps its arm: an episode; a user or an agent is sticky and analysed per unit."""
    outcome_kind: str = SUCCESS
    """What is compared: success, a score (0-1), or a user's preference between two answers."""
    score_name: str = "score"
    """Name of the metric that is the score; `rating` takes ratings, 1-5 read as 0-1."""
    min_improvement: float = 0.0
    """Improvement of the mean score that a promotion must prove, 0-1."""
    mode: str = SEQUENTIAL
    """`sequential`: valid at every look; `planned`: only at `looks` evenly spaced ones."""
    looks: int = 5
    """Looks of the planned mode (evenly spaced in pairs), and at sticky units (in days)."""
    planned_days: float = 28.0
    """Days until the last look at sticky units."""
    certify_e: float = 20.0
    """E-value by which each guardrail must be proven no worse before a promotion; 0: not asked."""
    error_margin: float = 0.02
    """Tolerated rise of the share of failed calls per unit, 0-1."""
    slow_margin: float = 0.05
    """Tolerated rise of the share of slow calls per unit, 0-1."""
    cost_margin: float = 0.05
    """Tolerated rise of the cost per unit, as a share of `cost_budget_usd`."""
    cost_budget_usd: float = 1.0
    """Dollars at which the cost of a unit is clipped; 0: cost is not guarded."""
    refusal_margin: float = 0.02
    """Tolerated rise of the share of refused calls per unit, 0-1."""
    tool_margin: float = 0.02
    """Tolerated rise of the share of invalid tool calls per unit, 0-1."""
    over_roles: bool = False
    """Whether alpha is shared with the experiments of other roles that run (e-BH)."""
    hold_back_days: float = 0.0
    """Days that a share of units stays with the version before, after a promotion; 0: none."""
    cooldown_h: float = 0.0
    """Hours after a rollback of the role in which nothing is promoted by itself."""
    one_source_decides: bool = False
    """Whether a proof may rest on what one key, or one user, said."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ramp", _as_ramp(self.ramp))
        _check_kinds(self)
        for name in _SHARES:
            _check(self, name, 0 < getattr(self, name) < 1, "a number between 0 and 1")
        for name in _MARGINS:
            _check(self, name, 0 < getattr(self, name) < 1, "a number between 0 and 1")
        for name in _AT_LEAST_ZERO:
            _check(self, name, getattr(self, name) >= 0, "zero or more")
        for name in ("srm_e", "harm_e"):
            _check(self, name, getattr(self, name) > 1, "more than 1, no evidence is E = 1")
        _check(self, "min_improvement", 0 <= self.min_improvement < 1, "0 to below 1")
        _check(self, "planned_days", self.planned_days > 0, "more than 0 days")
        _check(self, "looks", self.looks >= 1, "1 or more")
        _check(self, "ramp", not self.ramp or self.unit_kind == EPISODE, _NO_RAMP)
        enough = self.max_per_arm >= max(1, self.min_per_arm)
        _check(self, "max_per_arm", enough, "at least min_per_arm and 1")

    @property
    def max_units_per_arm(self) -> int:
        """Units per arm at which planned looks end: they count pairs, and some find no partner."""
        return 2 * self.max_per_arm

    @property
    def margins(self) -> dict[str, float]:
        """How much worse the treatment may be in each guardrail, 0-1."""
        return {
            "errors": self.error_margin,
            "slow": self.slow_margin,
            "cost": self.cost_margin,
            "refusals": self.refusal_margin,
            "tool_calls": self.tool_margin,
        }

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of the treatment in each phase."""
        return self.ramp or (self.treatment_share,)


def _check_kinds(plan: ExperimentPlan) -> None:
    for name, value in vars(plan).items():
        if name in _CHOICES:
            _check(plan, name, value in _CHOICES[name], f"one of {', '.join(_CHOICES[name])}")
        elif name in _CLAIMS:
            _check(plan, name, isinstance(value, bool), "true or false")
        elif name == "score_name":
            _check(plan, name, bool(value) and isinstance(value, str), "the name of a metric")
        elif name != "ramp":
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            _check(plan, name, is_number, "a number")


def _check(plan: ExperimentPlan, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise bad_plan(name, getattr(plan, name), expected)


def _as_ramp(given: Any) -> tuple[float, ...]:
    """Return the shares of a ramp, which grow; only the first may be 0, none is 1."""
    expected = "shares from 0 to below 1 that grow, such as 0, 0.05, 0.25, 0.5"
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise bad_plan("ramp", given, expected)
    if any(isinstance(share, bool) or not isinstance(share, int | float) for share in given):
        raise bad_plan("ramp", given, expected)
    shares = tuple(float(share) for share in given)
    grows = all(low < high for low, high in zip(shares, shares[1:], strict=False))
    if shares and not (grows and 0 <= shares[0] and 0 < shares[-1] < 1):
        raise bad_plan("ramp", given, expected)
    return shares


def bad_plan(name: str, value: Any, expected: str) -> BadInput:
    """Return the error of a field that makes no sense."""
    remedy = "See docs/experiments.md for what it means."
    return BadInput(f"experiment plan, {name}", value, expected, remedy)


PLANS = {
    "default": ExperimentPlan(
        alpha_unattended=0.01,
        ramp=(0.0, 0.05, 0.25, 0.5),
        ramp_days=1.0,
        over_roles=True,
        hold_back_days=14.0,
        cooldown_h=24.0,
    ),
    "demo": ExperimentPlan(
        min_per_arm=20,
        min_days=0.0,
        max_per_arm=400,
        outcome_timeout_s=600.0,
        certify_e=0.0,
    ),
}
"""Plans by profile; `demo` has no weekly cycle to wait for, no ramp and no hold-back."""


def plan_from(profile: str, **changes: Any) -> ExperimentPlan:
    """Return the plan of a profile with some of its fields changed.

    Where users or agents are the units, the profile's ramp is left out.

    Raises:
        NotFound: no such profile.
        BadInput: a field does not exist, or its value is not acceptable.
    """
    if profile not in PLANS:
        raise NotFound("experiment profile", profile, f"one of {', '.join(PLANS)}", "Pick one.")
    unknown = sorted(changes.keys() - asdict(PLANS[profile]).keys())
    if unknown:
        raise bad_plan(unknown[0], changes[unknown[0]], "a field of the plan")
    if changes.get("unit_kind") in (USER, AGENT):
        changes = {"ramp": (), **changes}
    return replace(PLANS[profile], **changes)


def plan_of(experiment: Experiment) -> ExperimentPlan:
    """Return the plan that an experiment was started with."""
    return decisions.load(ExperimentPlan, experiment.plan)
