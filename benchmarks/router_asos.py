"""What the router's statistics say of 32 real experiments, beside the fixed horizon and peeking.

The ASOS digital experiments (Liu et al. 2021, osf.io/64jsb): the sufficient statistics of control
and treatment at each half day, for one to three treatments and four metrics an experiment; the
first metric is binary. Nobody knows which of the treatments were better in truth, so there is no
bar for being right. What can be counted is how often a rule changes its mind.

Each rule has 5 % (two-sided) for a comparison of one treatment with the control on one metric:

- fixed horizon: one Welch t-test at the last look;
- peeked: a winner is declared at the first look with `p < 0.05`;
- always valid: at the first look whose confidence sequence leaves out 0;
- planned: at the first look beyond the O'Brien-Fleming bounds.

`python -m benchmarks.router_asos` measures it alone.
"""

import gzip
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from scipy.special import chdtrc

from benchmarks.bars import Figure, report
from evaluator.evidence import log_e_srm
from router.stats.classic import SIGNIFICANT, Sample, WelchTest, welch
from router.stats.planned import bounds, for_few
from router.stats.sequence import sequence_width

DATA = Path(
    os.environ.get("FLYWHEEL_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
FILE = "ab_asos/asos_part1.jsonl.gz"
PRIMARY = 1
"""The binary metric: what an experiment is decided by."""

_LEAST_STEP = 0.03
"""Of the planned information between two planned looks; nearer ones are not taken."""
_SRM_E = 1000.0
_SRM_P = 0.001
_EVEN_WITHIN = 0.05
"""From 50 %, at the first look; a treatment beyond it was planned to have another share."""


@dataclass(frozen=True)
class Look:
    """One treatment against the control on one metric, so far."""

    day: float
    treatment: Sample
    control: Sample
    test: WelchTest

    @property
    def n(self) -> int:
        """Units of both arms."""
        return self.treatment.n + self.control.n


@dataclass(frozen=True)
class Comparison:
    """One treatment of one experiment on one metric, look by look."""

    experiment: str
    variant: int
    metric: int
    looks: tuple[Look, ...]


@dataclass(frozen=True)
class Course:
    """What a rule said of a comparison: at each look, as if it had not stopped."""

    found: tuple[bool, ...]

    @property
    def declared(self) -> bool:
        """Whether it declared a winner at some look."""
        return any(self.found)

    @property
    def taken_back(self) -> bool:
        """Whether it had declared a winner at some look, and sees none at the end."""
        return self.declared and not self.found[-1]

    @property
    def turns(self) -> int:
        """How often it changed its mind."""
        return sum(a != b for a, b in zip(self.found, self.found[1:], strict=False))


def read(path: Path) -> list[Comparison]:
    """Return the comparisons of the file; looks without a variance say nothing and are left out."""
    key = itemgetter("experiment_id", "variant_id", "metric_id")
    with gzip.open(path, "rt") as lines:
        rows = sorted(map(json.loads, lines), key=lambda row: (*key(row), row["time_since_start"]))
    comparisons = []
    for (experiment, variant, metric), members in groupby(rows, key):
        looks = tuple(look for row in members if (look := _look(row)) is not None)
        if looks:
            comparisons.append(Comparison(experiment, variant, metric, looks))
    return comparisons


def _look(row: dict[str, float | None]) -> Look | None:
    treatment, control = _sample(row, "t"), _sample(row, "c")
    test = welch(treatment, control) if treatment and control else None
    if treatment is None or control is None or test is None:
        return None
    return Look(float(row["time_since_start"] or 0), treatment, control, test)


def _sample(row: dict[str, float | None], arm: str) -> Sample | None:
    n, mean, variance = row[f"count_{arm}"], row[f"mean_{arm}"], row[f"variance_{arm}"]
    if n is None or mean is None or variance is None or math.isnan(variance):
        return None
    return Sample(int(n), mean, variance)


def fixed_horizon(comparison: Comparison) -> Course:
    """Return the one look at the end."""
    return Course((comparison.looks[-1].test.p_value < SIGNIFICANT,))


def peeking(comparison: Comparison) -> Course:
    """Return whether `p < 0.05` at each look."""
    return Course(tuple(look.test.p_value < SIGNIFICANT for look in comparison.looks))


def always_valid(comparison: Comparison) -> Course:
    """Return whether the confidence sequence leaves out 0 at each look.

    It is narrowest at the size that the experiment was to have, for which its last look is taken.
    """
    expected = comparison.looks[-1].n
    return Course(
        tuple(
            abs(look.test.t) > sequence_width(look.n, SIGNIFICANT, expected)
            for look in comparison.looks
        )
    )


def planned(comparison: Comparison) -> Course:
    """Return whether each planned look is beyond its O'Brien-Fleming bound."""
    looks, fractions = _planned_looks(comparison)
    limits = bounds(SIGNIFICANT / 2, fractions)
    return Course(
        tuple(
            abs(look.test.t) >= for_few(limit, look.test.freedom)
            for look, limit in zip(looks, limits, strict=True)
        )
    )


def _planned_looks(comparison: Comparison) -> tuple[list[Look], tuple[float, ...]]:
    total = comparison.looks[-1].n
    looks: list[Look] = []
    fractions: list[float] = []
    for look in comparison.looks:
        fraction = look.n / total
        last = look is comparison.looks[-1]
        if last and fractions and 1 - fractions[-1] < _LEAST_STEP:
            looks.pop(), fractions.pop()
        if last or fraction - (fractions[-1] if fractions else 0.0) >= _LEAST_STEP:
            looks.append(look)
            fractions.append(round(fraction, 6))
    return looks, tuple(fractions)


RULES: dict[str, Callable[[Comparison], Course]] = {
    "fixed horizon": fixed_horizon,
    "peeked t-test": peeking,
    "always valid": always_valid,
    "planned (O'Brien-Fleming)": planned,
}


def verdicts(comparisons: Sequence[Comparison], scope: str) -> list[Figure]:
    """Return what each rule declared and took back, by comparisons and by experiments."""
    n_experiments = len({comparison.experiment for comparison in comparisons})
    figures = []
    for name, rule in RULES.items():
        courses = [(comparison, rule(comparison)) for comparison in comparisons]
        declared = [comparison for comparison, course in courses if course.declared]
        back = [comparison for comparison, course in courses if course.taken_back]
        figures.append(
            Figure(
                f"{scope}: experiments with a winner, {name}",
                len(_experiments(declared)),
                f"of {n_experiments}",
                detail={
                    "experiments": _experiments(declared),
                    "comparisons": len(declared),
                    "of_comparisons": len(comparisons),
                    "turns": sum(course.turns for _, course in courses),
                    "median_day": _median_day(courses) if name != "fixed horizon" else None,
                },
                note=f"{len(declared)} of {len(comparisons)} comparisons",
            )
        )
        if name != "fixed horizon":
            figures.append(
                Figure(
                    f"{scope}: experiments 'significant' at some look but not at the end, {name}",
                    len(_experiments(back)),
                    f"of {n_experiments}",
                    detail={"experiments": _experiments(back), "comparisons": len(back)},
                    note=f"{len(back)} of {len(comparisons)} comparisons",
                )
            )
    return figures


def _experiments(comparisons: Iterable[Comparison]) -> list[str]:
    return sorted({comparison.experiment for comparison in comparisons})


def _median_day(courses: Sequence[tuple[Comparison, Course]]) -> float | None:
    days = sorted(
        comparison.looks[course.found.index(True)].day
        for comparison, course in courses
        if course.declared and len(course.found) == len(comparison.looks)
    )
    return days[len(days) // 2] if days else None


@dataclass(frozen=True)
class Split:
    """How the units of one treatment and the control were split, and whether that looks planned."""

    name: str
    share: float
    log_e: float
    p_value: float
    alarms: int
    """Looks at which a chi-square test of p < 0.001 would have alarmed."""


def split_of(comparison: Comparison) -> Split:
    """Return the evidence against an even split, at its highest and by chi-square at the end."""
    counts = [(look.treatment.n, look.n) for look in comparison.looks]
    p_values = [float(chdtrc(1, (2 * treated - n) ** 2 / n)) for treated, n in counts]
    return Split(
        f"{comparison.experiment}/{comparison.variant}",
        counts[-1][0] / counts[-1][1],
        max(float(log_e_srm(treated, n)) for treated, n in counts),
        p_values[-1],
        sum(p < _SRM_P for p in p_values),
    )


def splits(comparisons: Sequence[Comparison]) -> list[Figure]:
    """Return the flags for sample ratio mismatch, one a treatment, against an even split."""
    chosen = [comparison for comparison in comparisons if comparison.metric == PRIMARY]
    even: list[Split] = []
    other: list[Split] = []
    for comparison in chosen:
        first = comparison.looks[0]
        near = abs(first.treatment.n / first.n - 0.5) <= _EVEN_WITHIN
        (even if near else other).append(split_of(comparison))
    flagged = [split for split in even if split.log_e >= math.log(_SRM_E)]
    chi_end = [split for split in even if split.p_value < _SRM_P]
    chi_some = [split for split in even if split.alarms]
    return [
        Figure(
            f"treatments flagged for a broken split, E ≥ {_SRM_E:g} at some look",
            len(flagged),
            f"of {len(even)}",
            detail={
                split.name: {"share": split.share, "log_e": split.log_e, "p": split.p_value}
                for split in flagged
            },
            note=", ".join(f"{split.name} {split.share:.2%}" for split in flagged),
        ),
        Figure(
            f"treatments flagged by chi-square p < {_SRM_P:g} at the end",
            len(chi_end),
            f"of {len(even)}",
            detail={split.name: {"share": split.share, "p": split.p_value} for split in chi_end},
            note=f"at some look {len(chi_some)}",
        ),
        Figure(
            "treatments that were planned with another share than the control's",
            len(other),
            f"of {len(chosen)}",
            detail={split.name: {"share": split.share} for split in other},
            note=", ".join(f"{split.name} {split.share:.1%}" for split in other),
        ),
    ]


def measure(quick: bool) -> list[Figure]:
    """Return all figures; `quick` looks at the primary metric only."""
    path = DATA / FILE
    if not path.exists():
        return [Figure("ASOS experiments", None, "", note=f"no {FILE} below FLYWHEEL_TEST_DATA")]
    comparisons = read(path)
    primary = [comparison for comparison in comparisons if comparison.metric == PRIMARY]
    figures = [*splits(comparisons), *verdicts(primary, "primary metric")]
    return figures if quick else [*figures, *verdicts(comparisons, "any of four metrics")]


if __name__ == "__main__":
    sys.exit(report("router-asos", measure("--quick" in sys.argv)))
