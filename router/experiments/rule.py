"""What follows from the evidence: pure rules of the ledger, each replayable from what it stored.

`router.experiment` decides an A/B experiment, `router.hold_back` what goes on after a promotion,
`router.ramp` whether the treatment gets more of the traffic.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from foundation import decisions
from foundation.decisions import Ruling
from router import stats
from router.experiments.evidence import Evidence
from router.experiments.plan import PLANNED, ExperimentPlan
from router.tables import (
    ASSISTED,
    CONTROL,
    HALTED,
    OFF,
    ON,
    PROMOTED,
    ROLLED_BACK,
    RUNNING,
    STAYED,
    TREATMENT,
)

PROPOSED = "proposed"
"""Outcome of a proof that a person must act on, by the role's auto_promote."""
ADVANCED = "advanced"
"""Outcome of `router.ramp`: the next phase begins."""

GUARDRAILS: Final = {
    "errors": "failed calls",
    "slow": "slow calls",
    "cost": "the cost of a task",
    "refusals": "refused calls",
    "tool_calls": "invalid tool calls",
}
"""The guardrails, as a person would call them."""

ME = "this experiment"


@decisions.rule("router.experiment")
def rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say how an experiment stands: halted, rolled_back, promoted, proposed, stayed or running.

    Args:
        inputs: the fields of `Evidence`.
        thresholds: the fields of `ExperimentPlan`.
    """
    seen, plan = decisions.load(Evidence, inputs), decisions.load(ExperimentPlan, thresholds)
    if uneven := _uneven_split(seen, plan):
        return Ruling(HALTED, uneven)
    if harm := _harm(seen, plan):
        return Ruling(ROLLED_BACK, (*harm, *_told_by_one(seen, plan)))
    plan = attended(plan, seen)
    proof, words = _proof(seen, plan)
    ended = _has_ended(seen, plan)
    if proof or (seen.was_proposed and seen.auto_promote != ON):
        return _proven(seen, plan, words, bool(ended))
    if ended:
        return Ruling(STAYED, (f"{ended} without proof that the treatment is better", words))
    return Ruling(RUNNING, (words,))


def attended(plan: ExperimentPlan, seen: Evidence) -> ExperimentPlan:
    """Return the plan with the alpha of unattended promotion where nobody looks before it.

    The policy may have been changed since the start: what a person would have been asked about, at
    his alpha, is not promoted alone for that.
    """
    if seen.auto_promote != ON:
        return plan
    return replace(plan, alpha=min(plan.alpha, plan.alpha_unattended))


@decisions.rule("router.hold_back")
def hold_back_rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say how what was promoted does beside the version before it: any of `rule` but promoted.

    Args:
        inputs: the fields of `Evidence`; the control is what was promoted.
        thresholds: the fields of `ExperimentPlan`.
    """
    seen, plan = decisions.load(Evidence, inputs), decisions.load(ExperimentPlan, thresholds)
    if uneven := _uneven_split(seen, plan):
        return Ruling(HALTED, uneven)
    if harm := _harm(seen, plan, watched=CONTROL):
        return Ruling(ROLLED_BACK, (*harm, *_told_by_one(seen, plan, watched=CONTROL)))
    words = f"{seen.score}, for the version before: no proof that what was promoted is worse"
    if seen.days >= plan.hold_back_days:
        return Ruling(STAYED, (f"{seen.days:.1f} days held back, the planned end", words))
    return Ruling(RUNNING, (words,))


@decisions.rule("router.ramp")
def ramp_rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say whether the next phase of a ramp begins: advanced or running.

    Args:
        inputs: the fields of `Evidence`; the last of its phases is the present one.
        thresholds: the fields of `ExperimentPlan`.
    """
    seen, plan = decisions.load(Evidence, inputs), decisions.load(ExperimentPlan, thresholds)
    present = seen.phases[-1]
    if present["number"] + 1 >= len(plan.shares):
        return Ruling(RUNNING, (f"{present['share']:.0%} is the last phase",))
    is_shadow = present["share"] == 0
    arm = CONTROL if is_shadow else TREATMENT
    n, days = present["assigned"][arm], present["days"]
    words = f"phase {present['number']}, {n} units of the {arm} in {days:.1f} days"
    if n < plan.ramp_units or days < plan.ramp_days:
        needed = f"at least {plan.ramp_units:g} and {plan.ramp_days:g} days are needed"
        return Ruling(RUNNING, (f"{words}, {needed}",))
    step = f"{present['share']:.0%} → {plan.shares[present['number'] + 1]:.0%}: no harm in {words}"
    mirrored = (present.get("shadow") or {}).get("calls", 0)
    shadow = (f"{mirrored} calls were mirrored to the treatment",) if is_shadow else ()
    return Ruling(ADVANCED, (step, *shadow))


def _uneven_split(seen: Evidence, plan: ExperimentPlan) -> tuple[str, ...]:
    reasons = []
    for name, splits in splits_of(seen, plan).items():
        e_value = stats.e_value(stats.log_e_split(splits))
        if e_value >= plan.srm_e:
            planned = ", ".join(
                f"{split.treated} of {split.n} at {split.share:.0%}" for split in splits
            )
            reasons.append(
                f"{name} units are not split as planned, in treatment are {planned}: "
                f"E = {e_value:.3g}, at least {plan.srm_e:g}; nothing can be concluded"
            )
    return tuple(reasons)


def splits_of(seen: Evidence, plan: ExperimentPlan) -> dict[str, list[stats.PhaseSplit]]:
    """Return the split of each phase, of assigned and of analysed units; empty: none was planned.

    Users who choose between two answers do so by themselves.
    """
    if not sum(seen.assigned.values()):
        return {}
    whole: dict[str, Any] = {
        "share": plan.treatment_share,
        "assigned": seen.assigned,
        "analysed": seen.analysed,
    }
    return {
        name: [
            stats.PhaseSplit(phase["share"], counts[TREATMENT], sum(counts.values()))
            for phase in seen.phases or [whole]
            for counts in [_told(phase, name)]
        ]
        for name in ("assigned", "analysed")
    }


def _told(phase: Mapping[str, Any], name: str) -> Mapping[str, int]:
    """Return the units of a phase per arm; of the analysed ones those that everybody could tell of.

    A phase that was recorded before that was counted has all analysed units.
    """
    counts: Mapping[str, int] = phase[name]
    return phase.get("settled", counts) if name == "analysed" else counts


def _harm(seen: Evidence, plan: ExperimentPlan, watched: str = TREATMENT) -> tuple[str, ...]:
    """Return what proves that the `watched` arm does harm."""
    checks = [
        *_outcome_checks(seen, watched),
        *_limit_checks(seen, plan, watched),
        *_shadow_checks(seen, plan),
        *_guardrail_checks(seen),
    ]
    reasons = [
        f"{words}: E = {stats.e_value(float(log_e)):.3g}, at least {plan.harm_e:g}"
        for log_e, words in checks
        if stats.e_value(float(log_e)) >= plan.harm_e
    ]
    worse = 1 if watched == CONTROL else -1
    reasons += [
        f"{seen.score}: look {look['number']} shows that the {watched} is worse"
        for look in seen.looks
        if worse * look["z"] >= look["bound"]
    ]
    return tuple(reasons)


Check = tuple[float, str]
"""Log E of a harm, and the harm in words."""


def _outcome_checks(seen: Evidence, watched: str) -> list[Check]:
    if seen.sticky is not None:
        return []
    log_e = seen.log_e if watched == CONTROL else seen.log_e_harm
    return [(log_e, f"{seen.score}: the {watched} is worse")]


def _limit_checks(seen: Evidence, plan: ExperimentPlan, watched: str) -> list[Check]:
    """Return the breaches of limits that the other arm does not share: they are this one's.

    Under one load both arms are slow, and in one outage both fail.
    """
    other = TREATMENT if watched == CONTROL else CONTROL
    checks = []
    for words, bad, limit in (
        ("calls failed", seen.errors, plan.error_limit),
        (f"calls took over {plan.slow_limit_ms:g} ms", seen.slow, plan.slow_share),
    ):
        n, theirs = seen.calls[watched], seen.calls[other]
        if stats.is_shared(bad[watched], n, bad[other], theirs):
            continue
        log_e = float(stats.log_e_rate(bad[watched], n, limit))
        checks.append((log_e, f"{bad[watched]} of {n} {words}, the limit is {limit:.1%}"))
    return checks


def _shadow_checks(seen: Evidence, plan: ExperimentPlan) -> list[Check]:
    shadow = seen.phases[-1].get("shadow") if seen.phases else None
    if not shadow:
        return []
    return [
        (
            float(stats.log_e_rate(shadow[name], shadow["calls"], limit)),
            f"{shadow[name]} of {shadow['calls']} mirrored {words}, the limit is {limit:.1%}",
        )
        for name, words, limit, beside in (
            ("errors", "calls failed", plan.error_limit, seen.errors[CONTROL]),
            ("slow", "calls were slow", plan.slow_share, seen.slow[CONTROL]),
        )
        if not stats.is_shared(shadow[name], shadow["calls"], beside, seen.calls[CONTROL])
    ]


def _guardrail_checks(seen: Evidence) -> list[Check]:
    return [
        (
            guard["max_log_e_worse"],
            f"{GUARDRAILS[name]}: {_beside(guard)} in {guard['n']} pairs, "
            f"worse by more than {guard['margin']:.1%}",
        )
        for name, guard in seen.guardrails.items()
    ]


def _beside(guard: Mapping[str, Any]) -> str:
    return f"{guard['treatment']:.1%} against {guard['control']:.1%}"


def _proof(seen: Evidence, plan: ExperimentPlan) -> tuple[bool, str]:
    """Return whether the treatment is proven better, and the evidence in words."""
    if plan.mode == PLANNED or seen.sticky is not None:
        return _proof_at_looks(seen, plan)
    e_value, needed = stats.e_value(seen.log_e), needed_e(seen, plan)
    if e_value >= needed:
        return (
            True,
            f"{seen.score}: E = {e_value:.3g}, at least {needed:g}: the treatment is better",
        )
    return False, f"{seen.score}: E = {e_value:.3g}, below {needed:g}: undecided"


def _proof_at_looks(seen: Evidence, plan: ExperimentPlan) -> tuple[bool, str]:
    for look in seen.looks:
        if look["z"] >= look["bound"]:
            shown = f"look {look['number']} of {plan.looks}: z = {look['z']:.2f}"
            return True, f"{seen.score}: {shown}, at least {look['bound']:.2f}: better"
    if not seen.looks:
        return False, f"{seen.score}: none of the {plan.looks} looks was due: undecided"
    last = seen.looks[-1]
    shown = f"look {last['number']} of {plan.looks}: z = {last['z']:.2f}"
    return False, f"{seen.score}: {shown}, below {last['bound']:.2f}: undecided"


def needed_e(seen: Evidence, plan: ExperimentPlan) -> float:
    """Return the E-value that proves 'better': 1/alpha, or what e-BH asks beside other roles.

    Of n experiments that run, the k-th best needs n / (k alpha).
    """
    n = 1 + len(seen.rivals)
    if n == 1:
        return 1 / plan.alpha
    proven = stats.e_bh({**seen.rivals, ME: seen.log_e}, plan.alpha)
    ahead = sum(log_e >= seen.log_e for log_e in seen.rivals.values())
    return n / ((len(proven) if ME in proven else 1 + ahead) * plan.alpha)


def _proven(seen: Evidence, plan: ExperimentPlan, words: str, ended: bool) -> Ruling:
    """Say what becomes of a proof: by the minimums, the guardrails and the role's policy."""
    missing = unmet(seen, plan)
    if missing:
        if ended and _uncertified(seen, plan):
            end = f"{min(seen.analysed.values())} units per arm, the planned end"
            return Ruling(STAYED, (f"{end}, and not all guardrails are proven", words, *missing))
        return Ruling(RUNNING, (words, *missing))
    alone = resting_on_one(seen, plan)
    if seen.auto_promote == ON and not alone:
        return Ruling(PROMOTED, (words,))
    if seen.auto_promote == OFF and ended:
        return Ruling(STAYED, ("the planned end: auto_promote is off for the role", words, *alone))
    if seen.auto_promote == ON:
        return Ruling(PROPOSED, (words, *alone, "it waits for a person, or for other sources"))
    waits = "auto_promote is assisted: it waits for a person to accept it"
    if seen.auto_promote != ASSISTED:
        waits = "auto_promote is off: it is only proposed"
    return Ruling(PROPOSED, (words, *alone, waits))


def resting_on_one(seen: Evidence, plan: ExperimentPlan) -> tuple[str, ...]:
    """Return without which sources a proof does not stand, in words; empty: nobody decides alone.

    A proof must stand without each of them in turn, with the units that then are left.
    """
    needed = needed_e(seen, plan)
    by_looks = plan.mode == PLANNED or seen.sticky is not None
    reasons = []
    for one in seen.left_out:
        e_value, left = stats.e_value(one["log_e"]), min(one["control"], one["treatment"])
        shown = f"E = {e_value:.3g}, below {needed:g}"
        stands = e_value >= needed
        if by_looks:
            stands = one["z"] is not None and one["z"] >= one["bound"]
            shown = "no look proves it"
        if one["split_e"] >= plan.srm_e:
            stands, shown = False, "what it alone spoke of is not split between the arms as planned"
        elif stands and left < plan.min_per_arm:
            stands, shown = False, f"{left} units in the smaller arm, below {plan.min_per_arm}"
        if not stands:
            reasons.append(
                f"the proof rests on {one['name']}, which told {one['share']:.0%} of the outcomes "
                f"first: without it {shown}"
            )
    return tuple(reasons)


def _told_by_one(seen: Evidence, plan: ExperimentPlan, watched: str = TREATMENT) -> tuple[str, ...]:
    """Return without which sources harm by outcomes would not be proven.

    It rolls back all the same: the safe side is who served before, and a person who has looked may
    set it to retired and promote it again.
    """
    name = "log_e" if watched == CONTROL else "log_e_harm"
    if stats.e_value(getattr(seen, name)) < plan.harm_e or seen.sticky is not None:
        return ()
    return tuple(
        f"look at {one['name']} before you believe it: it told {one['share']:.0%} of the outcomes "
        f"first, and without it E = {stats.e_value(one[name]):.3g}"
        for one in seen.left_out
        if stats.e_value(one[name]) < plan.harm_e
    )


def unmet(seen: Evidence, plan: ExperimentPlan) -> tuple[str, ...]:
    """Return what a proven treatment still lacks for its promotion."""
    missing = []
    if min(seen.analysed.values()) < plan.min_per_arm:
        missing.append(
            f"{min(seen.analysed.values())} units in the smaller arm, "
            f"at least {plan.min_per_arm} are needed"
        )
    if seen.days < plan.min_days:
        missing.append(f"{seen.days:.1f} days, at least {plan.min_days:g} are needed")
    since = seen.hours_since_rollback
    if since is not None and since < plan.cooldown_h and seen.auto_promote == ON:
        missing.append(
            f"{since:.1f} hours since the role was rolled back, "
            f"at least {plan.cooldown_h:g} are needed"
        )
    return (*missing, *_uncertified(seen, plan))


def _uncertified(seen: Evidence, plan: ExperimentPlan) -> tuple[str, ...]:
    return tuple(
        f"{GUARDRAILS[name]}: {_beside(guard)}, not yet proven to be worse by less than "
        f"{guard['margin']:.1%} (E = {stats.e_value(guard['max_log_e_fine']):.3g}, "
        f"at least {plan.certify_e:g} is needed)"
        for name, guard in seen.guardrails.items()
        if guard["n"] and stats.e_value(guard["max_log_e_fine"]) < plan.certify_e
    )


def _has_ended(seen: Evidence, plan: ExperimentPlan) -> str | None:
    """Return in words why an undecided experiment ends now, or None."""
    if seen.sticky is not None:
        if seen.days < plan.planned_days:
            return None
        return f"{seen.days:.1f} days and {len(seen.looks)} looks, the planned end"
    per_arm = min(seen.analysed.values())
    most = plan.max_per_arm
    if plan.mode == PLANNED and len(seen.looks) < plan.looks:
        most = plan.max_units_per_arm
    return f"{per_arm} units per arm, the planned end" if per_arm >= most else None
