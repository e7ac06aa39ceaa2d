"""What the pages show of a report: its plots with the numbers beside them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from evaluator.report.words import points, rows_of, value
from evaluator.sandbox import Status
from evaluator.slices import ATTRIBUTES
from evaluator.speed import BATCH_RATES, TOGETHER
from foundation.plots import (
    Columns,
    Curves,
    Estimate,
    Forest,
    Mark,
    Part,
    columns,
    curves,
    forest,
    parts,
)

BASELINE, CANDIDATE = "baseline", "candidate"
SIDES: Final = (BASELINE, CANDIDATE)
DIFFICULTIES: Final = ("easy", "medium", "hard")
STATUSES: Final = tuple(str(status) for status in Status)
MEASURED: Final = ("graded", "code", "bias_gap")
"""Metrics of an evaluation that stand beside its success."""
_ROUTINE: Final = (TOGETHER, BATCH_RATES, "identity")
"""Settings that stand elsewhere in a report, or say nothing by themselves."""

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A row of a forest plot: its words and its mark.

    Attributes:
        group: heading of the rows that it belongs to.
        label: what the estimate is of.
        n: tasks.
        rates: of each side, in words.
        estimate: in words.
        interval: in words.
        note: what is to be said of it.
        mark: places of the estimate.
        is_main: whether it is what counts.
    """

    group: str
    label: str
    n: int
    rates: tuple[str, ...]
    estimate: str
    interval: str
    note: str
    mark: Mark
    is_main: bool = False


@dataclass(frozen=True)
class Plot:
    """A forest plot with the words of its rows."""

    forest: Forest
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Pair:
    """A line of a table of both sides, in words; None for what both share is never shown twice."""

    label: str
    baseline: str
    candidate: str

    @property
    def is_shared(self) -> bool:
        """Whether both say the same."""
        return self.baseline == self.candidate


def gain_plot(report: Json) -> Plot:
    """Return the gain overall and by slice, with the noise floor and the limits of the rule."""
    verdict, compared = report["verdict"], report["comparison"]
    slices = sorted((report.get("slices") or {}).get("rows") or [], key=by_attribute)
    whole = Estimate(
        verdict["improvement_points"], verdict["ci_low"], verdict["ci_high"], is_main=True
    )
    by_slice = [
        Estimate(one["improvement_points"], one["ci_low"], one["ci_high"]) for one in slices
    ]
    drawn = forest([whole, *by_slice], _limits(report), _noise_points(report))
    first = Row(
        "",
        "all tasks",
        verdict["n_tasks"],
        tuple(percent(compared.get(f"{side}_rate")) for side in SIDES),
        points(whole.value),
        f"{points(whole.low)} to {points(whole.high)}",
        f"p {p_value(verdict['p_value'])}",
        drawn.marks[0],
        is_main=True,
    )
    rest = [_slice(one, mark) for one, mark in zip(slices, drawn.marks[1:], strict=True)]
    return Plot(drawn, (first, *rest))


def by_attribute(one: Json) -> tuple[int, int, str]:
    """Order by attribute, the difficulties from easy to hard, all others by name."""
    attribute, name = str(one.get("attribute", "")), str(one.get("value"))
    rank = DIFFICULTIES.index(name) if name in DIFFICULTIES else len(DIFFICULTIES)
    place = ATTRIBUTES.index(attribute) if attribute in ATTRIBUTES else len(ATTRIBUTES)
    return place, rank if attribute == "difficulty" else 0, name


def _limits(report: Json) -> dict[str, float]:
    rule = report["thresholds"]
    named = {"minimum": rule.get("minimum_points"), "deploy": rule.get("deploy_points")}
    return {"zero": 0.0} | {name: limit for name, limit in named.items() if limit is not None}


def _noise_points(report: Json) -> float | None:
    noise = report.get("noise_floor")
    return noise["points"] if noise else None


def _slice(one: Json, mark: Mark) -> Row:
    shown = ", shown" if one["is_shown"] else ""
    return Row(
        str(one["attribute"]).replace("_", " "),
        str(one["value"]),
        one["n_tasks"],
        (percent(one["baseline_rate"]), percent(one["candidate_rate"])),
        points(one["improvement_points"]),
        f"{points(one['ci_low'])} to {points(one['ci_high'])}",
        f"adjusted p {p_value(one['p_adjusted'])}{shown}",
        mark,
    )


def success_plot(one: Json) -> Plot:
    """Return the success of one evaluation, overall and by kind of task, in per cent."""
    whole, kinds = one["evaluation"], sorted(one["kinds"], key=by_attribute)
    rows = [
        {"attribute": "", "value": "all tasks", "n_tasks": one["suite"]["n_tasks"],
         "rate": whole["success_rate"], **{end: whole[end] for end in ("ci_low", "ci_high")}},
        *kinds,
    ]  # fmt: skip
    estimates = [_main(row["rate"], row["ci_low"], row["ci_high"]) for row in rows]
    drawn = forest(estimates, {"zero": 0.0, "all": 100.0}, bounds=(0.0, 100.0))
    return Plot(
        drawn,
        tuple(
            Row(
                str(row["attribute"]).replace("_", " "),
                str(row["value"]),
                row["n_tasks"],
                (),
                percent(row["rate"]),
                span(row["ci_low"], row["ci_high"]),
                "",
                mark,
                is_main=not number,
            )
            for number, (row, mark) in enumerate(zip(rows, drawn.marks, strict=True))
        ),
    )


def kept_plot(forgetting: Json) -> Plot:
    """Return the share of the baseline's general success that is kept, in per cent."""
    kept = _main(forgetting["kept"], forgetting["kept_low"], forgetting["kept_high"])
    least = 100 * (1 - forgetting["max_drop"])
    drawn = forest([kept], {"limit": least, "zero": 100.0}, bounds=(0.0, 1e6))
    row = Row(
        "",
        "kept",
        forgetting["n_tasks"],
        (percent(forgetting["baseline_rate"]), percent(forgetting["candidate_rate"])),
        percent(forgetting["kept"]),
        span(forgetting["kept_low"], forgetting["kept_high"]),
        "",
        drawn.marks[0],
        is_main=True,
    )
    return Plot(drawn, (row,))


def reliability_plot(sides: Mapping[str, Json]) -> Curves | None:
    """Return pass@k and pass^k of each side over k; None if all have one answer a task."""
    longest = max(len(one["reliability"]) for one in sides.values())
    if longest < 2:
        return None
    named = {
        f"{name} {kind}": [(row["k"], _percent(row[field])) for row in one["reliability"]]
        for name, one in sides.items()
        for kind, field in (("any", "at_least_one"), ("all", "all_of_them"))
    }
    return curves(named, (1.0, longest), (0.0, 100.0), _every(longest))


def _every(longest: int) -> list[float]:
    step = 1 + (longest - 1) // 10
    return [float(k) for k in range(1, longest + 1, step)]


def passes_plot(sides: Mapping[str, Json]) -> Columns | None:
    """Return in how many tasks 0, 1 … all answers passed; None unless all sides have as many."""
    counts = {name: one["passes"]["tasks"] for name, one in sides.items()}
    lengths = {len(found) for found in counts.values()}
    if len(lengths) != 1 or max(lengths) < 3:
        return None
    return columns(counts, [str(n) for n in range(max(lengths))])


def latency_plot(sides: Mapping[str, Json]) -> Curves | None:
    """Return the seconds within which a share (%) of the answers came; None if nobody timed."""
    timed = {name: one["latency_ms"]["at"] for name, one in sides.items() if one["latency_ms"]}
    named = {
        name: [(100 * share, milliseconds / 1000) for share, milliseconds in found]
        for name, found in timed.items()
    }
    return curves(named, (0.0, 100.0), at=(0, 25, 50, 75, 95))


def statuses(sides: Mapping[str, Json]) -> list[tuple[str, tuple[int, ...]]]:
    """Return the count of each status by side, all that there are, PASS first."""
    found = [name for one in sides.values() for name in one["statuses"]]
    names = [*STATUSES, *sorted(set(found) - set(STATUSES))]
    return [(name, tuple(one["statuses"].get(name, 0) for one in sides.values())) for name in names]


def fates(compared: Json) -> list[Part]:
    """Return the tasks by what became of them: better, alike, worse."""
    names = {"better": "tasks_better", "alike": "tasks_tied", "worse": "tasks_worse"}
    return parts({label: compared.get(name, 0) for label, name in names.items()})


def measured_pairs(baseline: Json, candidate: Json) -> list[Pair]:
    """Return what graders and code metrics measured on both sides."""
    return _pairs(dict(measured_of(baseline)), dict(measured_of(candidate)))


def measured_of(evaluation: Json) -> list[tuple[str, str]]:
    """Return what graders and code metrics measured on one side, by name."""
    return [row for name in MEASURED for row in rows_of(evaluation["metrics"].get(name) or {})]


def section_pairs(section: Json) -> list[Pair]:
    """Return what a section says of both sides, which stand under their names in it."""
    found = [dict(rows_of(section[side])) for side in SIDES]
    return _pairs(found[0], found[1])


def rest_of(section: Json) -> dict[str, Any]:
    """Return what a section says beside the two sides."""
    return {name: found for name, found in section.items() if name not in SIDES}


def setting_pairs(baseline: Json, candidate: Json) -> list[Pair]:
    """Return the settings of both sides."""
    found = [settings_of(one) for one in (baseline, candidate)]
    return _pairs(found[0], found[1])


def settings_of(evaluation: Json) -> dict[str, str]:
    """Return the settings of an evaluation in words, without those that stand elsewhere."""
    own = {k: v for k, v in evaluation["settings"].items() if k not in _ROUTINE}
    return dict(rows_of(own))


def sandbox_pairs(baseline: Json, candidate: Json) -> list[Pair]:
    """Return the sandbox of both sides: tier, kernel features, limits and refused tiers."""
    found = [sandbox_of(one) for one in (baseline, candidate)]
    return _pairs(found[0], found[1])


def sandbox_of(evaluation: Json) -> dict[str, str]:
    """Return the sandbox of an evaluation in words, without its probes."""
    return dict(rows_of({k: v for k, v in evaluation["sandbox"].items() if k != "probes"}))


def _pairs(first: Mapping[str, str], second: Mapping[str, str]) -> list[Pair]:
    names = dict.fromkeys([*first, *second])
    return [Pair(name, first.get(name, "unknown"), second.get(name, "unknown")) for name in names]


@dataclass(frozen=True)
class Line:
    """A line of an answer, and whether the other answer has none like it."""

    text: str
    is_own: bool


def lines_of(text: str, other: str | None) -> list[Line]:
    """Return the lines of an answer, those marked that the other has not; spaces do not count."""
    if other is None:
        return [Line(line, False) for line in text.split("\n")]
    theirs = {" ".join(line.split()) for line in other.split("\n")}
    return [
        Line(line, bool(line.strip()) and " ".join(line.split()) not in theirs)
        for line in text.split("\n")
    ]


def judge_rows(judge: Json) -> list[tuple[str, tuple[str, ...]]]:
    """Return what is said of each judge, a line a measure and a column a judge."""
    judges: Sequence[Json] = judge["judges"]
    measures = [
        ("win rate of the candidate", [_rate(one["win_rate"]) for one in judges]),
        ("at equal length", [_at_equal_length(one["length_controlled"]) for one in judges]),
        ("won, tied, lost", [f"{one['wins']}, {one['ties']}, {one['losses']}" for one in judges]),
        ("verdicts that flip with the order", [_rate(one["flips"]) for one in judges]),
        ("reversed with the order", [_rate(one["reversals"]) for one in judges]),
        ("prefers what is shown first", [_rate(one["first_position"]) for one in judges]),
        ("wins that go to the longer", [_rate(one["length_only"]) for one in judges]),
        ("wins for its own family", [_rate(one["self_preference"]) for one in judges]),
        ("right by execution", [_rate(one["calibration"]["judge"]) for one in judges]),
        ("nearer to the truth than length", [
            _rate(one["calibration"]["better_than_ruler"]) for one in judges
        ]),
        ("agrees with people", [_rate(one["people"]) for one in judges]),
        ("pairs", [value(one["pairs"]) for one in judges]),
        ("cost, USD", [value(one["cost_usd"]) for one in judges]),
        ("may gate", ["yes" if one["may_gate"] else "no" for one in judges]),
    ]  # fmt: skip
    return [(name, tuple(cells)) for name, cells in measures]


def _rate(found: Json) -> str:
    if found["rate"] is None:
        return "none"
    ends = span(found["low"], found["high"])
    return f"{percent(found['rate'])} ({ends}, n {found['n']:,})"


def _at_equal_length(found: Json) -> str:
    if "not_computable" in found:
        return f"not computable: {found['not_computable']}"
    return f"{percent(found['rate'])} ({span(found['low'], found['high'])})"


def panel_words(judge: Json) -> str:
    """Return what the judges say together, and whether it may decide anything."""
    panel = judge["panel"]
    gate = "It may gate" if judge["may_gate"] else "It may not gate"
    return (
        f"Panel of {value(panel['voters'])}: win rate {_rate(panel['win_rate'])}; unanimous in "
        f"{_rate(panel['unanimous'])}, Krippendorff's alpha {value(panel['alpha'])}. {gate}."
    )


def percent(share: float | None) -> str:
    """Return a share (0-1) in per cent; unknown if None."""
    return "unknown" if share is None else f"{100 * share:.1f} %"


def span(low: float | None, high: float | None) -> str:
    """Return an interval of shares in per cent."""
    if low is None and high is None:
        return "unknown"
    ends = ["unbounded" if end is None else f"{100 * end:.1f}" for end in (low, high)]
    return f"{ends[0]} to {ends[1]} %"


def p_value(p: float) -> str:
    """Return a p-value; the smallest only as a bound."""
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def _main(rate: float | None, low: float | None, high: float | None) -> Estimate:
    """Return shares as an estimate in per cent that the axis must show."""
    return Estimate(_percent(rate), _percent(low), _percent(high), is_main=True)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
