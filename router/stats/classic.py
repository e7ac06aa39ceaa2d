"""The classic rule, for the record: Welch's t-test at the planned end, and what peeking would do.

It decides nothing. It is what a reader knows, beside what the evidence says; and how often its
`p < 0.05` came and went on the way shows why it may not be looked at before the end.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from scipy.special import stdtr

from router.stats.pairs import AssignedUnit
from router.tables import CONTROL, TREATMENT

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Sample:
    """What a t-test needs of one arm; the variance is unbiased."""

    n: int
    mean: float
    variance: float

    @classmethod
    def of_counts(cls, successes: int, n: int) -> "Sample":
        """Return the sample of `n` >= 2 outcomes that are 0 or 1."""
        rate = successes / n
        return cls(n, rate, rate * (1 - rate) * n / (n - 1))


@dataclass(frozen=True)
class WelchTest:
    """Welch's t-test of two samples; the p-value is two-sided."""

    difference: float
    standard_error: float
    t: float
    freedom: float
    p_value: float


def welch(treatment: Sample, control: Sample) -> WelchTest | None:
    """Return the test of treatment against control; None below two each, or without any variance.

    The same as `scipy.stats.ttest_ind_from_stats(equal_var=False)`, which cannot be given means
    without the spread of importing all of `scipy.stats`.
    """
    if min(treatment.n, control.n) < 2:
        return None
    parts = [arm.variance / arm.n for arm in (treatment, control)]
    if sum(parts) <= 0:
        return None
    error = math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / (
        parts[0] ** 2 / (treatment.n - 1) + parts[1] ** 2 / (control.n - 1)
    )
    difference = treatment.mean - control.mean
    t = difference / error
    return WelchTest(difference, error, t, freedom, 2 * float(stdtr(freedom, -abs(t))))


@dataclass(frozen=True)
class ClassicRecord:
    """The test at the end, and the looks that somebody would have taken each day.

    Attributes:
        test: of all known outcomes; None if there are too few.
        looks: days on which both arms had outcomes.
        significant_looks: of them, with p < 0.05.
        first_significant: day (from 1) on which a peeking reader would have stopped, or None.
        first_winner: the arm that would have won then.
    """

    test: WelchTest | None
    looks: int
    significant_looks: int
    first_significant: int | None
    first_winner: str | None

    @property
    def in_words(self) -> str:
        """What the test says, and what peeking at it would have done."""
        if self.test is None:
            return "Too few outcomes for a t-test."
        end = (
            f"Welch's t-test of all outcomes: {100 * self.test.difference:+.1f} points, "
            f"p = {self.test.p_value:.3g}"
        )
        if self.first_significant is None:
            return f"{end}; in {self.looks} daily looks p was never below {SIGNIFICANT:g}."
        return (
            f"{end}; who peeked each day would have called {self.first_winner} the winner on day "
            f"{self.first_significant}, though p was below {SIGNIFICANT:g} on "
            f"{self.significant_looks} of {self.looks} days."
        )


def classic_record(units: Iterable[AssignedUnit]) -> ClassicRecord:
    """Return the classic test of the units with known outcomes, and of each day before the end."""
    known = sorted(
        (unit.outcome_at, unit.arm, bool(unit.outcome))
        for unit in units
        if unit.outcome is not None and unit.outcome_at is not None
    )
    if not known:
        return ClassicRecord(None, 0, 0, None, None)
    begin, end = known[0][0], known[-1][0]
    n_days = (end - begin) // timedelta(days=1) + 1
    daily = [
        (day, test)
        for day in range(1, n_days + 1)
        if (test := _test([row for row in known if row[0] < begin + timedelta(days=day)]))
    ]
    significant = [(day, test) for day, test in daily if test.p_value < SIGNIFICANT]
    first = significant[0] if significant else None
    return ClassicRecord(
        test=_test(known),
        looks=len(daily),
        significant_looks=len(significant),
        first_significant=first[0] if first else None,
        first_winner=(TREATMENT if first[1].difference > 0 else CONTROL) if first else None,
    )


def _test(known: Sequence[tuple[object, str, bool]]) -> WelchTest | None:
    samples = []
    for arm in (TREATMENT, CONTROL):
        outcomes = [good for _, of, good in known if of == arm]
        if len(outcomes) < 2:
            return None
        samples.append(Sample.of_counts(sum(outcomes), len(outcomes)))
    return welch(*samples)
