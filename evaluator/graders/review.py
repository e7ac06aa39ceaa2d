"""Reviewer: findings in code, matched one to one to the faults that are known to be there.

Reference keys:
    planted: list of {line, last_line (default: line), kind, severity, area}; empty for clean code.
    kinds: {kind: other names of it}, the kinds that the prompt offers; without it any kind matches.
    tolerance: optional, how many lines a finding may be off; `LINE_TOLERANCE` where absent.
    min_precision: optional, least precision to pass; `MIN_PRECISION` where absent.

An answer is a JSON list of {line, kind, severity, comment}, alone, in a fence or among words, or
free text of the shape "line 12: ...". A finding matches a planted fault when it lies within the
tolerance of its lines and names its kind; the assignment takes as many pairs as it can, nearest
first. A second finding of the same fault is a false alarm, as is any other without a partner. Who
names more than `MOST_KINDS` kinds in one finding names none.

An answer passes on clean code when it says that there is nothing, and else when it finds every
planted fault with a precision of at least `min_precision`. The score is F1; on clean code 1 or 0.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from evaluator.graders.findings import Finding, read_findings
from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.sandbox import Sandbox, Status
from foundation.errors import BadInput

LINE_TOLERANCE: Final = 2
MIN_PRECISION: Final = 0.5
MOST_KINDS: Final = 2
AREAS: Final = ("security", "performance", "maintainability", "correctness")
SEVERITIES: Final = ("low", "medium", "high", "critical")

_SAID: Final = {
    **dict.fromkeys(("info", "informational", "note", "nit", "minor", "trivial", "low"), 0),
    **dict.fromkeys(("medium", "moderate", "warning", "normal"), 1),
    **dict.fromkeys(("high", "major", "error", "severe", "important", "serious"), 2),
    **dict.fromkeys(("critical", "blocker", "fatal"), 3),
}
_NO_PAIR: Final = 1e6


@dataclass(frozen=True)
class Planted:
    """A fault that is known to be in the code, on the lines from `line` to `last_line`."""

    line: int
    last_line: int
    kind: str
    severity: str
    area: str


@dataclass(frozen=True)
class Matching:
    """Findings against planted faults.

    Attributes:
        pairs: (planted, finding, distance in lines).
        missed: planted faults without a finding.
        false_alarms: how many findings have no fault.
    """

    pairs: tuple[tuple[Planted, Finding, int], ...]
    missed: tuple[Planted, ...]
    false_alarms: int

    @property
    def precision(self) -> float | None:
        """Share of the findings that are right; None without any."""
        total = len(self.pairs) + self.false_alarms
        return len(self.pairs) / total if total else None

    @property
    def recall(self) -> float | None:
        """Share of the planted faults that are found; None on clean code."""
        total = len(self.pairs) + len(self.missed)
        return len(self.pairs) / total if total else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both; None on clean code."""
        wrong = self.false_alarms + len(self.missed)
        if self.recall is None:
            return None
        return 2 * len(self.pairs) / (2 * len(self.pairs) + wrong)


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades reviews; the sandbox is not used.

    Raises:
        BadInput: a task's planted faults are not readable.
    """
    return [_grade(task, answer) for task, answer in zip(tasks, answers, strict=True)]


def match(
    planted: Sequence[Planted],
    findings: Sequence[Finding],
    kinds: Mapping[str, Sequence[str]] | None = None,
    tolerance: int = LINE_TOLERANCE,
) -> Matching:
    """Match findings to planted faults one to one: as many as possible, the nearest, the likest.

    Args:
        planted: the faults.
        findings: what the review says.
        kinds: names of each kind; None for matching by line alone.
        tolerance: lines that a finding may be off.
    """
    costs = {
        (row, column): distance + abs(_level(fault.severity) - _said(found, fault)) / 10
        for column, found in enumerate(findings)
        for row, fault in enumerate(planted)
        if (distance := _distance(fault, found, tolerance)) <= tolerance
        and (kinds is None or fault.kind in _kinds_named(found, kinds))
    }
    chosen = _assign(costs)
    pairs = tuple(
        (planted[row], findings[column], _distance(planted[row], findings[column], tolerance))
        for row, column in chosen
    )
    found_rows = {row for row, _ in chosen}
    missed = tuple(fault for row, fault in enumerate(planted) if row not in found_rows)
    return Matching(pairs, missed, len(findings) - len(pairs))


def _assign(costs: Mapping[tuple[int, int], float]) -> list[tuple[int, int]]:
    """The pairs of the cheapest of the largest assignments."""
    if not costs:
        return []
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    rows = sorted({row for row, _ in costs})
    columns = sorted({column for _, column in costs})
    row_places = {row: place for place, row in enumerate(rows)}
    column_places = {column: place for place, column in enumerate(columns)}
    table = np.full((len(rows), len(columns)), _NO_PAIR)
    for (row, column), cost in costs.items():
        table[row_places[row], column_places[column]] = cost
    found = zip(*linear_sum_assignment(table), strict=True)
    pairs = [(rows[int(row)], columns[int(column)]) for row, column in found]
    return [pair for pair in pairs if pair in costs]


def _distance(fault: Planted, found: Finding, tolerance: int) -> int:
    """Lines between both, 0 where they overlap; a range too wide to point counts by its start."""
    last = found.last_line
    if last - found.line > fault.last_line - fault.line + 2 * tolerance:
        last = found.line
    return max(0, fault.line - last, found.line - fault.last_line)


def _kinds_named(found: Finding, kinds: Mapping[str, Sequence[str]]) -> set[str]:
    """The kinds that a finding names: in its kind, else in its comment; none if it names many."""
    for text in (found.kind, found.comment):
        padded = f"-{_slug(text)}-"
        named = {
            kind
            for kind, names in kinds.items()
            if any(f"-{_slug(name)}-" in padded for name in (kind, *names))
        }
        if named:
            return named if len(named) <= MOST_KINDS else set()
    return set()


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")


def _level(severity: str) -> int:
    return SEVERITIES.index(severity)


def _said(found: Finding, fault: Planted) -> int:
    """The level that a finding states; the fault's own where it states none."""
    return _SAID.get(found.severity.strip().casefold(), _level(fault.severity))


# --- grading


def _grade(task: GradedTask, answer: str) -> Grade:
    planted = _planted(task)
    if not answer.strip():
        return LOST
    findings = read_findings(answer)
    if findings is None:
        return Grade.of(Status.WRONG, "no findings can be read", 0.0, {"readable": 0.0})
    reference = task.reference
    matching = match(
        planted, findings, reference.get("kinds"), reference.get("tolerance", LINE_TOLERANCE)
    )
    metrics = _metrics(planted, matching)
    if not planted:
        return _grade_clean(matching, metrics)
    return _grade_planted(matching, reference.get("min_precision", MIN_PRECISION), metrics)


def _grade_clean(matching: Matching, metrics: dict[str, Any]) -> Grade:
    if matching.false_alarms:
        detail = f"{matching.false_alarms} false alarms on clean code"
        return Grade.of(Status.WRONG, detail, 0.0, metrics)
    return Grade.of(Status.PASS, "", 1.0, metrics)


def _grade_planted(matching: Matching, min_precision: float, metrics: dict[str, Any]) -> Grade:
    score = matching.f1 or 0.0
    if matching.missed:
        missed = ", ".join(f"{one.kind} in line {one.line}" for one in matching.missed)
        return Grade.of(Status.WRONG, f"missed: {missed}", score, metrics)
    if (matching.precision or 0.0) < min_precision:
        detail = f"{matching.false_alarms} false alarms, precision below {min_precision:g}"
        return Grade.of(Status.WRONG, detail, score, metrics)
    return Grade.of(Status.PASS, "", score, metrics)


def _metrics(planted: Sequence[Planted], matching: Matching) -> dict[str, Any]:
    """Each is None where it says nothing, as precision without findings."""
    stated = [
        1 - abs(_level(fault.severity) - _said(found, fault)) / (len(SEVERITIES) - 1)
        for fault, found, _ in matching.pairs
        if found.severity.strip().casefold() in _SAID
    ]
    distances = [distance for _, _, distance in matching.pairs]
    return {
        "readable": 1.0,
        "precision": matching.precision,
        "recall": matching.recall,
        "f1": matching.f1,
        "false_alarms": matching.false_alarms,
        "clean_alarmed": None if planted else float(matching.false_alarms > 0),
        "line_error": fmean(distances) if distances else None,
        "severity_agreement": fmean(stated) if stated else None,
        **{f"thoroughness_{area}": _thoroughness(planted, matching, area) for area in AREAS},
    }


def _thoroughness(planted: Sequence[Planted], matching: Matching, area: str) -> float | None:
    """Share of an area's faults that are found; None where there are none of it."""
    total = sum(fault.area == area for fault in planted)
    return sum(fault.area == area for fault, _, _ in matching.pairs) / total if total else None


def _planted(task: GradedTask) -> list[Planted]:
    given = task.reference.get("planted")
    try:
        if not isinstance(given, list):
            raise TypeError(type(given).__name__)
        faults = [
            Planted(
                one["line"],
                one.get("last_line", one["line"]),
                one["kind"],
                one["severity"],
                one["area"],
            )
            for one in given
        ]
        if any(fault.severity not in SEVERITIES or fault.area not in AREAS for fault in faults):
            raise ValueError("severity or area")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise BadInput(
            f"task {task.task_id}: reference['planted']",
            f"{given!r} ({error})",
            "a list of {line, kind, severity, area}, empty for clean code",
            "Correct the suite.",
        ) from None
    return faults
