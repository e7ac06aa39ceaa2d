"""The report in words: what was decided, what to do next, and what to keep in mind. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from evaluator.decide import AB_TEST, DEPLOY, ITERATE, STAY, UNDECIDED
from evaluator.forgetting import QUARANTINE
from evaluator.forgetting import UNDECIDED as FORGETTING_UNDECIDED
from evaluator.speed import TOGETHER

Json = Mapping[str, Any]

DECISIONS: Final = {
    DEPLOY: "Deploy it",
    AB_TEST: "Let live traffic decide",
    ITERATE: "Train on: not enough yet",
    STAY: "Keep the baseline",
    UNDECIDED: "Undecided",
}
DECODING: Final = ("temperature", "max_tokens", "seed", "batch_size", "samples_per_task")
"""Settings that two sides must share for their rates to be comparable."""
_WEAK: Final = "weak"


def headline_of(report: Json) -> dict[str, Any]:
    """Return `decision` and `sentence` in words, and what to do `next`."""
    outcome = report["verdict"]["outcome"]
    return {
        "decision": _decision(report, outcome),
        "sentence": _sentence(report),
        "next": _next(report, outcome),
    }


def _decision(report: Json, outcome: str) -> str:
    words = DECISIONS.get(outcome, outcome)
    more = report["comparison"].get("more_tasks")
    if outcome == UNDECIDED and more:
        return f"{words}: {more:,} more tasks needed"
    if outcome == STAY and _forgot(report) == QUARANTINE:
        return f"{words}: the candidate forgot too much"
    return words


def _sentence(report: Json) -> str:
    verdict, compared = report["verdict"], report["comparison"]
    gain = verdict["improvement_points"]
    rates = [_percent(compared.get(f"{side}_rate")) for side in ("candidate", "baseline")]
    apart = f"{abs(gain):.1f} points {'more' if gain >= 0 else 'less'}"
    return (
        f"{report['candidate']['subject']} solved {rates[0]} of the {verdict['n_tasks']:,} tasks "
        f"that both answered, {report['baseline']['subject']} {rates[1]}: {apart}, 95 % interval "
        f"{points(verdict['ci_low'])} to {points(verdict['ci_high'])}."
    )


def _next(report: Json, outcome: str) -> list[str]:
    steps = {
        DEPLOY: _serve,
        AB_TEST: _serve,
        ITERATE: _train_on,
        STAY: _stay,
        UNDECIDED: _ask_more,
    }
    return steps[outcome](report) if outcome in steps else []


def _serve(report: Json) -> list[str]:
    name = report["candidate"]["subject"]
    if report["sides"]["candidate"]["model"] is None:
        return [
            f"{name} is no registered version, so nothing can serve it yet: register what answered "
            f"(`flywheel model add {report['verdict']['role']} MODEL`) and compare that."
        ]
    return [
        f"Give it a share of the live tasks: `flywheel experiment start {name}`. It takes over "
        "when these agree.",
    ]


def _train_on(report: Json) -> list[str]:
    return [
        "The baseline goes on serving. Read the answers that the candidate lost, at the end.",
        _gaps(report),
    ]


def _stay(report: Json) -> list[str]:
    if _forgot(report) == QUARANTINE:
        return [
            "The baseline goes on serving. Train again with general examples mixed in, or with "
            "fewer steps, and compare with the general suite once more."
        ]
    return ["The baseline goes on serving; nothing else is to be done.", _gaps(report)]


def _ask_more(report: Json) -> list[str]:
    more = report["comparison"].get("more_tasks")
    if not more:
        return [
            "The baseline goes on serving. More tasks of these families would not help: add tasks "
            "of other families to the suite, and compare again."
        ]
    return [
        f"The baseline goes on serving. With {more:,} more tasks of the same kind the answer will "
        "be yes or no; more answers a task help too, unless a model always answers alike."
    ]


def _gaps(report: Json) -> str:
    role = report["verdict"]["role"]
    return f"`flywheel gaps --role {role}` ranks the kinds of tasks by what there is to win."


def doubts_of_two(report: Json) -> list[str]:
    """Return what a reader of a verdict must keep in mind; none if there is nothing."""
    baseline, candidate = report["baseline"], report["candidate"]
    return [
        *_left_out(report),
        *_without_grade(report),
        *_of_noise(report),
        *_of_settings(baseline, candidate),
        *_of_speed(baseline, candidate),
        *_of_each(baseline, candidate),
        *_of_sandboxes(baseline, candidate),
        *_of_forgetting(report),
        *_of_identity(report),
    ]


def _of_each(*sides: Json) -> list[str]:
    return [f"{one['subject']}: {said}" for one in sides for said in doubts_of_one(one)]


def doubts_of_one(evaluation: Json) -> list[str]:
    """Return what a reader of an evaluation's figures must know before believing them."""
    counts = evaluation["metrics"].get("answers") or {}
    words = {
        "grader_threw": "could not be graded, because the grader threw",
        "too_long": "were too long: only their beginning is kept, and they count as wrong",
        "repaired": "held bytes that are no UTF-8, which were replaced",
        "at_token_limit": "stopped at the limit of tokens",
        "empty": "were empty, and count as wrong",
    }
    said = [_some(counts[name], text) for name, text in words.items() if counts.get(name)]
    sandbox = evaluation["sandbox"]
    if sandbox.get("tier") == _WEAK:
        said.append("Its code ran in the weak tier, which is no isolation.")
    open_doors = [name for name, found in probes_of(sandbox).items() if found == "open"]
    if open_doors:
        said.append(f"The sandbox did not block: {', '.join(open_doors)}.")
    return said


def _some(n: int, text: str) -> str:
    return f"{n:,} {'answer' if n == 1 else 'answers'} {text}."


def probes_of(sandbox: Json) -> dict[str, str]:
    """Return the probes of a sandbox with their results."""
    return {str(name): str(found) for name, found in (sandbox.get("probes") or {}).items()}


def _left_out(report: Json) -> list[str]:
    compared, asked = report["comparison"], report["suite"]["n_tasks"]
    lost = [compared.get(f"n_lost_{side}", 0) for side in ("baseline", "candidate")]
    if not any(lost):
        return []
    return [
        f"{sum(lost):,} answers are lost or not graded ({lost[0]:,} of the baseline, "
        f"{lost[1]:,} of the candidate). Pairs that lack one are left out; "
        f"{compared['n_tasks']:,} of {asked:,} tasks are compared."
    ]


def _without_grade(report: Json) -> list[str]:
    found = report.get("ungraded")
    if not found:
        return []
    alone = found["graded_points"]
    return [
        f"Answers without a grade, because the grader threw: {found['baseline']:,} of the baseline "
        f"and {found['candidate']:,} of the candidate, {found['left_out']:,} left out. By graded "
        f"answers alone the gain is {points(alone)}{' points' if alone is not None else ''}."
    ]


def _of_noise(report: Json) -> list[str]:
    noise = report.get("noise_floor")
    if not noise or noise["is_stable"]:
        return []
    return [
        f"The baseline differs from itself by {abs(noise['observed_points']):.1f} points, more "
        "than luck explains: the harness itself is in doubt."
    ]


def _of_settings(baseline: Json, candidate: Json) -> list[str]:
    apart = [
        f"{name.replace('_', ' ')} {value(before)} and {value(after)}"
        for name in DECODING
        if (before := _setting(baseline, name)) != (after := _setting(candidate, name))
    ]
    return [f"The two were asked differently: {', '.join(apart)}."] if apart else []


def _setting(evaluation: Json, name: str) -> Any:
    return evaluation["settings"].get(name, evaluation.get(name))


def _of_speed(baseline: Json, candidate: Json) -> list[str]:
    if baseline["settings"].get(TOGETHER) == candidate["settings"].get(TOGETHER):
        return []
    return [
        "The two did not answer side by side, so their speeds are of two states of the machine and "
        "are not compared."
    ]


def _of_sandboxes(baseline: Json, candidate: Json) -> list[str]:
    tiers = [one["sandbox"].get("tier", "unknown") for one in (baseline, candidate)]
    if tiers[0] == tiers[1]:
        return []
    return [f"Their code ran in different tiers of the sandbox: {tiers[0]} and {tiers[1]}."]


def _of_forgetting(report: Json) -> list[str]:
    if _forgot(report) != FORGETTING_UNDECIDED:
        return []
    return ["Whether general tasks were forgotten is undecided: the general suite is too small."]


def _of_identity(report: Json) -> list[str]:
    model, identity = report["sides"]["candidate"]["model"], report.get("identity") or {}
    if identity.get("is_same_content"):
        return ["Both sides have the same content: it is one model, compared with itself."]
    if not model or model["kind"] != "adapter" or _is_proven(report):
        return []
    return ["It is not proven that the candidate's adapter was in use when it answered."]


def _is_proven(report: Json) -> bool:
    own = report["candidate"]["settings"].get("identity") or {}
    told = (report.get("identity") or {}).get("candidate") or {}
    return bool(own.get("is_proven") or told.get("is_proven"))


def _forgot(report: Json) -> str | None:
    found = report.get("forgetting")
    return found["outcome"] if found else None


def points(gain: float | None) -> str:
    """Return percentage points with their sign, which is a minus and not a hyphen."""
    if gain is None:
        return "unknown"
    text = f"{gain:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\u2212")


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{100 * share:.1f} %"


def value(found: Any) -> str:
    """Return a plain value as a reader would write it; what is None is unknown."""
    if found is None:
        return "unknown"
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, float):
        return f"{found:,.4g}" if abs(found) < 1e4 else f"{found:,.0f}"
    if isinstance(found, int):
        return f"{found:,}"
    if isinstance(found, list | tuple):
        return ", ".join(map(value, found)) or "none"
    return str(found)


def rows_of(section: Json, prefix: str = "") -> list[tuple[str, str]]:
    """Return the plain values of a section by their names, nested ones by both names."""
    rows: list[tuple[str, str]] = []
    for name, found in section.items():
        label = f"{prefix}{str(name).replace('_', ' ')}"
        if isinstance(found, Mapping) and found:
            rows += rows_of(found, f"{label}, ")
        elif isinstance(found, list) and any(isinstance(one, Mapping) for one in found):
            for number, one in enumerate(found, start=1):
                inner = one if isinstance(one, Mapping) else {"value": one}
                rows += rows_of(inner, f"{label} {number}, ")
        else:
            rows.append((label, "none" if found == {} else value(found)))
    return rows
