"""The card as a page of its own: plots as inline SVG, no script, nothing fetched, light and dark.

The geometry is here, the drawing in `card.html`. All of it is escaped: names of task types and
projects come from callers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Template

from foundation.lone_page import environment

BARS_AT_MOST: Final = 12
"""Bars of one plot; the smaller ones are added up in the last."""
BAR_WIDTH: Final = 320.0
PLOT_WIDTH, PLOT_HEIGHT = 560.0, 150.0

TITLES: Final = {
    "coverage": "Task types covered",
    "human_verified": "Verified by a person",
    "right_in_sample": "Right in the random sample",
    "style_agreement": "Style agreement",
    "planted_recall": "Planted repeats found",
    "evenness": "Evenness of task types",
    "novelty": "Novelty of texts",
}


@dataclass(frozen=True)
class Bar:
    """One bar of counts, its length in SVG units."""

    label: str
    n: int
    length: float
    share: float


@dataclass(frozen=True)
class Column:
    """One column of a histogram, in SVG units."""

    label: str
    n: int
    x: float
    y: float
    width: float
    height: float
    is_named: bool
    """Whether there is room for its label."""


@dataclass(frozen=True)
class Segment:
    """One part of a whole, in SVG units."""

    label: str
    n: int
    x: float
    width: float
    share: float


@dataclass(frozen=True)
class Figure:
    """One measure of quality, with its bar and the mark of its target."""

    title: str
    value: float | None
    length: float
    target: float | None
    target_x: float
    verdict: str
    why_not: str | None


_MAY_LACK: Final = (
    *("role", "kind", "variant", "number", "content_hash", "candidates", "kept", "n_tokens"),
    *("mixed_in", "erased_rows", "warnings", "code_version", "rule_versions", "recipe"),
)
"""Entries that cards of older versions, or none yet, do not have."""


def render(card: Mapping[str, Any]) -> str:
    """Return a card as one HTML page; what an old card lacks is left out."""
    return _template().render(
        card={**dict.fromkeys(_MAY_LACK), **card},
        splits=segments(card.get("splits") or {}),
        figures=figures(card.get("quality") or {}),
        steps=in_order(card.get("steps") or {}),
        plots=[
            (title, bars(card[name]))
            for title, name in (
                ("Dropped, by reason", "dropped_by_reason"),
                ("Task types", "task_types"),
                ("Difficulty", "difficulties"),
                ("Languages of the code", "code_languages"),
                ("Languages of the prose", "languages"),
                ("Projects", "projects"),
                ("Basis of the pairs", "bases"),
                ("Whose word rows rest on", "sources"),
                ("Mixed into train", "mixed_in"),
            )
            if card.get(name)
        ],
        lengths=columns([(f"{b['from']}", b["n"]) for b in card.get("lengths") or ()]),
        scores=columns([(f"{b['from']:.1f}", b["n"]) for b in card.get("scores") or ()]),
        proof={k: v for k, v in sorted((card.get("leak_proof") or {}).items()) if _counts(v)},
        bar_width=BAR_WIDTH,
        plot_width=PLOT_WIDTH,
        plot_height=PLOT_HEIGHT,
    )


def bars(counts: Mapping[str, int]) -> list[Bar]:
    """Return counts as bars, the largest first, the smallest ones as one."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ordered[:BARS_AT_MOST], ordered[BARS_AT_MOST:]
    if rest:
        shown = [*shown, (f"{len(rest)} others", sum(n for _, n in rest))]
    return _bars(shown)


def in_order(counts: Mapping[str, int]) -> list[Bar]:
    """Return the steps of a build as bars, the fullest first: no step adds any."""
    return _bars(sorted(counts.items(), key=lambda item: (-item[1], _place(item[0]))))


def segments(counts: Mapping[str, int]) -> list[Segment]:
    """Return the parts of a whole from left to right; empty for an empty whole."""
    total, x, made = sum(counts.values()), 0.0, []
    for name in ("train", "validation", "test"):
        n = counts.get(name, 0)
        width = PLOT_WIDTH * n / total if total else 0.0
        made.append(Segment(name, n, x, width, n / total if total else 0.0))
        x += width
    return made if total else []


def columns(bins: Sequence[tuple[str, int]]) -> list[Column]:
    """Return bins as columns of one histogram; empty for no bins."""
    if not bins:
        return []
    width, most = PLOT_WIDTH / len(bins), max(n for _, n in bins) or 1
    room = PLOT_HEIGHT - 34
    every = 1 + (len(bins) - 1) // 12
    return [
        Column(
            label=label,
            n=n,
            x=place * width + 1,
            y=14 + room * (1 - n / most),
            width=min(width - 2, 48.0),
            height=room * n / most,
            is_named=place % every == 0,
        )
        for place, (label, n) in enumerate(bins)
    ]


def figures(quality: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """Return the measures in the order of `TITLES`."""
    return [_figure(TITLES[name], quality[name]) for name in TITLES if name in quality]


def _figure(title: str, measure: Mapping[str, Any]) -> Figure:
    value, target = measure["value"], measure["target"]
    verdict = {True: "met", False: "not met", None: "no target"}[measure["met"]]
    return Figure(
        title=title,
        value=value,
        length=BAR_WIDTH * min(value or 0.0, 1.0),
        target=target,
        target_x=BAR_WIDTH * (target or 0.0),
        verdict="not measured" if value is None else verdict,
        why_not=measure["why_not"],
    )


def _bars(counts: Sequence[tuple[str, int]]) -> list[Bar]:
    most, total = max((n for _, n in counts), default=0) or 1, sum(n for _, n in counts) or 1
    return [Bar(label, n, BAR_WIDTH * n / most, n / total) for label, n in counts]


def _place(step: str) -> int:
    order = ("candidates", "well_formed", "proven", "unique", "decontaminated", "chosen")
    return order.index(step) if step in order else len(order)


def _counts(value: Any) -> bool:
    return isinstance(value, bool | int)


@lru_cache(maxsize=1)
def _template() -> Template:
    made = environment(Path(__file__).parent)
    made.filters |= {
        "count": lambda n: "–" if n is None else f"{n:,}".replace(",", "\u202f"),
        "percent": lambda share: f"{100 * share:.1f}\u202f%",
    }
    return made.get_template("card.html")
