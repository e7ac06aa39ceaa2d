"""What judges said of two models, as a table: every number beside what its judge gives away."""

from collections.abc import Mapping
from typing import Any

from flywheel.cli.output import console, percent, print_table, printable

_SHOWN = {
    "win rate": ("win_rate",),
    "at equal length": ("length_controlled",),
    "flips with the order": ("flips",),
    "for the first answer": ("first_position",),
    "the longer wins": ("length_only",),
    "for its own family": ("self_preference",),
    "right by execution": ("calibration", "judge"),
    "as people say": ("people",),
}
"""What a row shows -> where it stands in a judge's part of the report."""


def print_judges(judge: Mapping[str, Any]) -> None:
    """Print a verdict's section `judge`: a column for each judge, the panel, and why it may not."""
    judges = judge["judges"]
    console.print()
    print_table(
        ("judges", *(one["model"] for one in judges)),
        [(title, *(_cell(one, path) for one in judges)) for title, path in _SHOWN.items()],
        "",
    )
    panel = judge["panel"]
    console.out(
        f"Panel of {printable(', '.join(panel['voters']))}: win rate {_rate(panel['win_rate'])}; "
        + ("it may hold a deployment back." if judge["may_gate"] else "it decides nothing."),
        highlight=False,
    )
    for said in (*judge["why"], *judge["notes"]):
        console.out(f"  {printable(said)}", highlight=False)


def _cell(judge: Mapping[str, Any], path: tuple[str, ...]) -> str:
    found: Any = judge
    for name in path:
        found = found[name]
    return _rate(found)


def _rate(rate: Mapping[str, Any]) -> str:
    """Return a rate as `57.0 % (47.2 % to 66.3 %, n 100)`; why not, where there is none."""
    if "not_computable" in rate:
        return f"not computable: {rate['not_computable']}"
    if rate["rate"] is None:
        return "none"
    n = f", n {rate['n']}" if "n" in rate else ""
    interval = f"{percent(rate['low'])} to {percent(rate['high'])}"
    return f"{percent(rate['rate'])} ({interval}{n})"
