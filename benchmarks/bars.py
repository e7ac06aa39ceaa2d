"""The table of every benchmark: figure, bar, measured, ratio; and what it leaves behind.

A figure has a bar that it must reach (`at_least`) or must not pass (`at_most`), or none when it is
printed for context. `report` writes the table, `benchmarks/results/<name>.json` and one summary
line, and returns the exit status: 1 when a bar is missed, so that no miss can be overlooked.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        name: what was measured, with its conditions.
        measured: in `unit`; None if it could not be measured here, which misses any bar.
        unit: of `measured` and of the bar.
        at_least: least value that passes.
        at_most: greatest value that passes.
        detail: medians, spreads, counts and whatever else explains the figure.
        note: why it could not be measured, or a caution.
    """

    name: str
    measured: float | None
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def bar(self) -> float | None:
        """The value to reach or not to pass; None for context."""
        return self.at_least if self.at_least is not None else self.at_most

    @property
    def ratio(self) -> float | None:
        """Measured over the bar."""
        if self.measured is None or not self.bar:
            return None
        return self.measured / self.bar

    @property
    def passed(self) -> bool:
        """Whether the bar is met; a figure without one always is."""
        if self.bar is None:
            return True
        if self.measured is None:
            return False
        return (self.at_least is None or self.measured >= self.at_least) and (
            self.at_most is None or self.measured <= self.at_most
        )


def report(name: str, figures: Sequence[Figure], console: Console | None = None) -> int:
    """Print the table, write the JSON, end with one line; return 1 if a bar is missed, else 0."""
    out = console or Console(width=None if sys.stdout.isatty() else 140)
    out.print(_table(name, figures))
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_as_json(name, figures), indent=2) + "\n")
    missed = [figure.name for figure in figures if not figure.passed]
    barred = sum(figure.bar is not None for figure in figures)
    verdict = f"MISSED: {'; '.join(missed)}" if missed else "all bars met"
    out.print(
        f"{name}: {barred - len(missed)} of {barred} bars met; {verdict}",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if missed else 0


def run_parts(name: str, parts: Mapping[str, str], description: str) -> int:
    """Measure the parts (name to module with `measure(quick)`) that the command line asks for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and rows, for a look")
    parser.add_argument("--only", default=",".join(parts), help="parts, with commas between")
    given = parser.parse_args()
    chosen = given.only.split(",")
    unknown = [part for part in chosen if part not in parts]
    if unknown:
        parser.error(f"--only: got {', '.join(unknown)}, expected some of {', '.join(parts)}")
    figures: list[Figure] = []
    for part in chosen:
        Console(stderr=True).print(f"measuring {part} …")
        measure: Callable[[bool], list[Figure]] = import_module(parts[part]).measure
        figures += measure(given.quick)
    return report(name if chosen == list(parts) else f"{name}-{'-'.join(chosen)}", figures)


def _table(name: str, figures: Sequence[Figure]) -> Table:
    table = Table(title=name, title_justify="left")
    for heading in ("figure", "bar", "measured", "ratio", ""):
        table.add_column(heading, justify="left" if heading in ("figure", "") else "right")
    for figure in figures:
        sign = "≥" if figure.at_least is not None else "≤"
        table.add_row(
            figure.name,
            f"{sign} {_shown(figure.bar)} {figure.unit}" if figure.bar is not None else "",
            f"{_shown(figure.measured)} {figure.unit}" if figure.measured is not None else "—",
            f"{figure.ratio:.2f}" if figure.ratio is not None else "",
            ("" if figure.bar is None else "met" if figure.passed else "MISSED")
            + (f" ({figure.note})" if figure.note else ""),
        )
    return table


def _shown(value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _as_json(name: str, figures: Sequence[Figure]) -> dict[str, Any]:
    return {
        "name": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "figures": [
            asdict(figure) | {"ratio": figure.ratio, "passed": figure.passed} for figure in figures
        ],
    }
