"""Evidence against time: the looks at an experiment and its ramp as pictures. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from admin import charts, formats
from admin.charts import Plot
from router.tables import ExperimentLook, ExperimentPhase

LEAST, MOST = 1e-3, 1e9
"""Ends of what is drawn of an e-value; beyond them nothing more is decided."""
FEWEST_LOOKS: Final = 2
"""Looks that make a line."""


def evidence_plot(looks: Sequence[ExperimentLook], needed: float, deed: str) -> Plot | None:
    """Draw the e-value of each look against what is needed, on a logarithmic axis.

    Args:
        looks: oldest first; those of rules without an e-value are left out.
        needed: what decides now. Where other roles' experiments share alpha it was another
            before: then it is a line of its own.
        deed: what happens there, such as `promotes`.

    Returns:
        The picture; None for fewer than two looks.
    """
    known = [(look.looked_at, look.e_value, look.needed_e) for look in looks if look.e_value]
    if len(known) < FEWEST_LOOKS:
        return None
    series = {"e-value": [(at, _within(e)) for at, e, _ in known]}
    if len({round(asked, 6) for *_, asked in known if asked}) > 1:
        series["needed"] = [(at, asked) for at, _, asked in known if asked]
    return charts.plot(
        series,
        label="E-value against time",
        levels={f"{deed} at": needed},
        tones={"needed": "c3"},
        log=True,
        y_format=formats.evidence,
    )


def estimate_plot(looks: Sequence[ExperimentLook], confidence: float) -> Plot | None:
    """Draw the estimated difference, in percentage points, inside its confidence sequence.

    None for fewer than two looks with an estimate.
    """
    known = [
        (look.looked_at, 100 * look.estimate, 100 * look.low, 100 * look.high)
        for look in looks
        if look.estimate is not None and look.low is not None and look.high is not None
    ]
    if len(known) < FEWEST_LOOKS:
        return None
    band = f"{confidence:.0%} confidence sequence"
    return charts.plot(
        {"difference": [(at, middle) for at, middle, *_ in known]},
        bands={band: [(at, low, high) for at, _, low, high in known]},
        label="Treatment minus control against time",
        levels={"no difference": 0.0},
        tones={"difference": "c1", band: "c1"},
        within=(-100.0, 100.0),
        y_title="points",
        y_format=formats.points,
    )


def share_plot(phases: Sequence[ExperimentPhase], until: datetime) -> Plot | None:
    """Draw the treatment's share of the units as steps, from its start `until` now or its end.

    None without a phase.
    """
    if not phases:
        return None
    ends = [*(phase.started_at for phase in phases[1:]), until]
    steps = [
        (at, 100 * phase.share)
        for phase, end in zip(phases, ends, strict=True)
        for at in (phase.started_at, max(phase.started_at, end))
    ]
    return charts.plot(
        {"share of the treatment": steps},
        label="Share of the treatment against time",
        tones={"share of the treatment": "c0"},
        within=(0.0, 100.0),
        y_format=lambda share: f"{share:.0f} %",
        height=150,
    )


def _within(e_value: float) -> float:
    return min(max(e_value, LEAST), MOST)
