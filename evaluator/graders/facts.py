"""Researcher: a structured comparison, graded fact by fact against what the sources say.

Reference keys:
    items: item -> field -> what the sources say: a number, a boolean, a text, a list of texts of
        which any is right, or "unknown" where they say nothing or contradict each other.
    winners: criterion -> the item that wins it, or "unknown".
    units: optional, field -> words that may follow a number ("12 kg").
    tolerance: optional, relative tolerance of numbers; default 0.01.
    min_share: optional, the share of cells that must be right; default 0.9.

The answer's last JSON object is read: {"items": {item: {field: value}}, "winners": {…}}. Each cell
is *right*, *wrong* (another value), *missing* (a value that the sources have, not said) or
*invented* (a value where the sources have none, or for an item or field nobody asked about).

Passed: nothing is invented, every winner is right, and at least `min_share` of the cells are right.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from evaluator.graders.exact import normalise
from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.graders.json_text import last_object
from evaluator.sandbox import Sandbox, Status
from foundation.errors import BadInput

UNKNOWN: Final = "unknown"
RIGHT, WRONG, MISSING, INVENTED = "right", "wrong", "missing", "invented"

_UNSAID: Final = frozenset({"unknown", "n/a", "na", "none", "not stated", "not known", "unclear"})
_YES_NO: Final = {"yes": True, "true": True, "no": False, "false": False}
_NUMBER = re.compile(r"\s*([-+]?\d[\d,]*(?:\.\d+)?)\s*(.*?)\s*", re.S)
_TOLERANCE: Final = 0.01
_MIN_SHARE: Final = 0.9
_WINNERS: Final = "winners"

Cells = dict[tuple[str, str], Any]
"""(item, field) -> value; the winner of a criterion is the cell (`winners`, criterion)."""


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grade comparisons; the score is the share of right cells among all asked for or invented.

    Metrics: `precision` (right among values said; absent when none is said), `recall` (right among
    values the sources have), `invented_rate` (among values said), `unknown_kept` (unknown cells
    left unknown). The sandbox is not used.

    Raises:
        BadInput: a task has no items, or its reference is not of the shape above.
    """
    return [_grade(task, answer) for task, answer in zip(tasks, answers, strict=True)]


def judge_cells(
    expected: Cells,
    said: Cells,
    tolerance: float = _TOLERANCE,
    units: Mapping[str, Sequence[str]] | None = None,
) -> dict[tuple[str, str], str]:
    """Return the verdict on each cell that was asked for or said.

    An unknown cell is right when the answer calls it unknown, and missing when it is left out.
    What was not asked for and is called unknown is no claim, and has no verdict.
    """
    verdicts = {}
    for cell, value in expected.items():
        words = (units or {}).get(cell[1], ())
        verdicts[cell] = _verdict(value, said.get(cell), cell in said, tolerance, words)
    for cell, claim in said.items():
        if cell not in expected and not is_unknown(claim):
            verdicts[cell] = INVENTED
    return verdicts


def is_unknown(value: Any) -> bool:
    """Tell whether a value says that nothing is known."""
    return value is None or (isinstance(value, str) and normalise(value) in _UNSAID)


def says_the_same(
    expected: Any, said: Any, tolerance: float = _TOLERANCE, units: Sequence[str] = ()
) -> bool:
    """Tell whether a value says what was expected; `units` are words that may follow a number."""
    if isinstance(expected, list):
        return any(says_the_same(one, said, tolerance, units) for one in expected)
    if isinstance(expected, bool):
        said = _YES_NO.get(normalise(said), said) if isinstance(said, str) else said
        return said is expected
    if isinstance(expected, int | float):
        number = _number(said, units)
        return number is not None and abs(number - expected) <= tolerance * abs(expected)
    return isinstance(said, str) and normalise(said) == normalise(expected)


def _grade(task: GradedTask, answer: str) -> Grade:
    expected = _expected(task)
    if not answer.strip():
        return LOST
    found = last_object(answer)
    if found is None:
        return Grade.of(Status.WRONG, "the answer holds no JSON object")
    said = _said(found)
    reference = task.reference
    tolerance = float(reference.get("tolerance", _TOLERANCE))
    verdicts = judge_cells(expected, said, tolerance, _folded(reference.get("units") or {}))
    score = sum(verdict == RIGHT for verdict in verdicts.values()) / len(verdicts)
    metrics = _metrics(expected, said, verdicts)
    faults = _faults(verdicts, score, float(reference.get("min_share", _MIN_SHARE)))
    return Grade.of(Status.WRONG if faults else Status.PASS, "; ".join(faults), score, metrics)


def _faults(verdicts: Mapping[tuple[str, str], str], score: float, min_share: float) -> list[str]:
    """Return why the comparison does not pass; empty where it does."""
    counts = Counter(verdicts.values())
    faults = []
    if counts[INVENTED]:
        faults.append(f"{counts[INVENTED]} invented: {_named(verdicts, INVENTED)}")
    losers = [
        name
        for (place, name), verdict in verdicts.items()
        if place == _WINNERS and verdict != RIGHT
    ]
    if losers:
        faults.append(f"winner not right: {', '.join(losers[:3])}")
    if score < min_share:
        where = "; ".join(
            f"{counts[kind]} {kind}: {_named(verdicts, kind)}"
            for kind in (WRONG, MISSING)
            if counts[kind]
        )
        faults.append(f"{score:.0%} of the cells right, {min_share:.0%} needed ({where})")
    return faults


def _named(verdicts: Mapping[tuple[str, str], str], kind: str) -> str:
    cells = ["/".join(cell) for cell, verdict in verdicts.items() if verdict == kind]
    return ", ".join(cells[:3])


def _metrics(
    expected: Cells, said: Cells, verdicts: Mapping[tuple[str, str], str]
) -> dict[str, float]:
    claims = [cell for cell, value in said.items() if not is_unknown(value)]
    known = [cell for cell, value in expected.items() if not is_unknown(value)]
    unknown = [cell for cell in expected if cell not in set(known)]
    right = sum(verdicts[cell] == RIGHT for cell in known)
    metrics = {}
    if claims:
        metrics["precision"] = right / len(claims)
        metrics["invented_rate"] = sum(v == INVENTED for v in verdicts.values()) / len(claims)
    if known:
        metrics["recall"] = right / len(known)
    if unknown:
        metrics["unknown_kept"] = sum(verdicts[cell] == RIGHT for cell in unknown) / len(unknown)
    return metrics


def _verdict(
    expected: Any, said: Any, is_said: bool, tolerance: float, units: Sequence[str]
) -> str:
    if is_unknown(expected):
        if not is_said:
            return MISSING
        return RIGHT if is_unknown(said) else INVENTED
    if is_unknown(said):
        return MISSING
    return RIGHT if says_the_same(expected, said, tolerance, units) else WRONG


def _expected(task: GradedTask) -> Cells:
    items, winners = task.reference.get("items"), task.reference.get(_WINNERS, {})
    well_formed = isinstance(items, dict) and isinstance(winners, dict)
    if not well_formed or not items or not all(isinstance(one, dict) for one in items.values()):
        raise BadInput(
            f"task {task.task_id}: reference['items'] and ['winners']",
            (items, winners),
            "item -> field -> value, and criterion -> item",
            "Give them in the suite.",
        )
    return _cells(items, winners)


def _said(found: Mapping[str, Any]) -> Cells:
    items, winners = found.get("items"), found.get(_WINNERS)
    return _cells(
        items if isinstance(items, dict) else {}, winners if isinstance(winners, dict) else {}
    )


def _cells(items: Mapping[str, Any], winners: Mapping[str, Any]) -> Cells:
    cells = {
        (_name(item), _name(field)): value
        for item, fields in items.items()
        for field, value in _pairs(fields)
    }
    cells.update({(_WINNERS, _name(name)): winner for name, winner in winners.items()})
    return cells


def _pairs(fields: Any) -> Iterator[tuple[str, Any]]:
    yield from fields.items() if isinstance(fields, dict) else ()


def _folded(units: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    return {_name(field): words for field, words in units.items()}


def _name(text: str) -> str:
    """Names are compared without case, and with spaces, hyphens and underscores alike."""
    return re.sub(r"[\s_-]+", " ", text).strip().casefold()


def _number(said: Any, units: Sequence[str]) -> float | None:
    if isinstance(said, bool):
        return None
    if isinstance(said, int | float):
        return float(said) if abs(said) < 1e300 else None
    found = _NUMBER.fullmatch(said) if isinstance(said, str) and len(said) < 100 else None
    if found is None or found[2].casefold() not in {"", *(unit.casefold() for unit in units)}:
        return None
    return float(found[1].replace(",", ""))
