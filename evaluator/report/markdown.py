"""Reports as one Markdown page: the same words and numbers as the page, without its plots."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from evaluator.report import views
from evaluator.report.words import points, probes_of, rows_of, value

SHOWN_TASKS: Final = 20
"""Tasks whose answers are in the page; JSON and HTML hold more."""
_SPECIAL: Final = re.compile(r"([\\`*\[\]<>|])")

Json = Mapping[str, Any]


def as_markdown(report: dict[str, Any]) -> str:
    """Return a report of `verdict_report` or `evaluations_report` as one Markdown page."""
    if report["kind"] == "verdict":
        return "\n".join(_verdict(report)) + "\n"
    pages = (line for one in report["evaluations"] for line in _evaluation(one))
    return "\n".join(pages) + "\n"


def _verdict(report: Json) -> list[str]:
    verdict, suite = report["verdict"], report["suite"]
    baseline, candidate = report["baseline"], report["candidate"]
    compared = report["comparison"]
    method = f" ({compared['method']})" if "method" in compared else ""
    return [
        f"# {text(candidate['subject'])} against {text(baseline['subject'])}: "
        f"**{verdict['outcome']}**",
        "",
        f"**{report['headline']['decision']}.** {text(report['headline']['sentence'])}",
        "",
        *(line.replace("\\`", "`") for line in _listed(report["headline"]["next"])),
        f"Suite {text(suite['name'])}@{suite['version']} ({suite['n_tasks']} tasks, "
        f"`{suite['content_hash'][:12]}`), role {text(verdict['role'])}, "
        f"{verdict['created_at'][:19]} UTC.",
        "",
        f"Improvement **{points(verdict['improvement_points'])} points**, paired 95 % interval "
        f"{points(verdict['ci_low'])} to {points(verdict['ci_high'])} over {verdict['n_tasks']} "
        f"tasks, p = {views.p_value(verdict['p_value'])}{method}.",
        *_power(compared),
        "",
        *_section("Keep in mind", _listed(report["doubts"])),
        *_section("Where it gains and where it loses", _gain(report)),
        *_section("Both sides", _sides(report)),
        *_section("Reliability", _reliability(report["sides"])),
        *_section("What became of the answers", _statuses(report["sides"])),
        *_section("Noise floor", _plain(report["noise_floor"], "the baseline was asked once.")),
        *_section("Forgetting", _plain(report["forgetting"], "no general suite was asked.")),
        *_section("Identity", _plain(report["identity"], "it was not probed.")),
        *_section("Judges", _judges(report["judge"])),
        *_section("Cost of serving", _plain(report["cost"], "it was not measured.")),
        *_section("How it was decided", _decided(report)),
        *_section("How it was measured", _measured(report)),
        *_section("Where the two differ", _differing(report)),
    ]


def _power(compared: Json) -> list[str]:
    if "smallest_detectable_points" not in compared:
        return []
    return [
        f"Better on {compared['tasks_better']} tasks, worse on {compared['tasks_worse']}; this "
        f"comparison shows gains of {compared['smallest_detectable_points']:.1f} points and more "
        "in 4 of 5 cases.",
    ]


def _gain(report: Json) -> list[str]:
    plot = views.gain_plot(report)
    head = ("by", "tasks of", "tasks", "baseline", "candidate", "points", "95 % interval", "p")
    rows = [
        (row.group, row.label, row.n, *row.rates, row.estimate, row.interval, row.note)
        for row in plot.rows
    ]
    note = (report["slices"] or {}).get("note", "Slices were not computed.")
    return [*_table(head, rows), "", note]


def _sides(report: Json) -> list[str]:
    both = (report["baseline"], report["candidate"])
    ratio = report["verdict"]["speed_ratio"]
    latency = [
        (f"{label}, ms", *(value((one["metrics"].get(name) or {}).get(part)) for one in both))
        for label, name, part in (
            ("latency p50", "latency_ms", "p50"),
            ("latency p95", "latency_ms", "p95"),
            ("first token p50", "ttft_ms", "p50"),
        )
    ]
    rows = [
        ("success", *(f"{views.percent(one['success_rate'])} "
                      f"({views.span(one['ci_low'], one['ci_high'])})" for one in both)),
        ("samples per task", *(one["samples_per_task"] for one in both)),
        ("answers", *(one["n_samples"] for one in both)),
        ("lost answers", *(one["n_lost"] for one in both)),
        ("tokens/s", *(value(one["tokens_per_s"]) for one in both)),
        *latency,
        ("paid, USD", *(value(one["metrics"].get("cost_usd")) for one in both)),
        ("sandbox tier", *(one["sandbox"].get("tier", "unknown") for one in both)),
        ("settings", *(_settings(one) for one in both)),
    ]  # fmt: skip
    speed = "unknown" if ratio is None else f"{ratio:.2f}"
    return [
        *_table(("", "baseline", "candidate"), rows),
        "",
        f"Speed ratio (candidate over baseline): {speed}.",
    ]


def _settings(evaluation: Json) -> str:
    return ", ".join(f"{name} {said}" for name, said in views.settings_of(evaluation).items())


def _reliability(sides: Mapping[str, Json]) -> list[str]:
    longest = max(len(one["reliability"]) for one in sides.values())
    if longest < 2:
        return ["Unknown: with one answer a task nobody knows how often it would be solved again."]
    head = ["k", *(f"{name} {kind}" for name in sides for kind in ("pass@k", "pass^k"))]
    rows = [
        [k + 1, *(said for one in sides.values() for said in _reliable(one["reliability"], k))]
        for k in range(longest)
    ]
    return _table(head, rows)


def _reliable(found: Sequence[Json], k: int) -> tuple[str, str]:
    if k >= len(found):
        return "unknown", "unknown"
    return views.percent(found[k]["at_least_one"]), views.percent(found[k]["all_of_them"])


def _statuses(sides: Mapping[str, Json]) -> list[str]:
    return _table(("", *sides), [(name, *counts) for name, counts in views.statuses(sides)])


def _judges(judge: Json | None) -> list[str]:
    if not judge:
        return ["No model judged these answers."]
    head = ("", *(one["model"] for one in judge["judges"]))
    rows = [(label, *cells) for label, cells in views.judge_rows(judge)]
    said = [*judge["why"], *judge["notes"]]
    return [text(views.panel_words(judge)), "", *_table(head, rows), "", *_listed(said)]


def _decided(report: Json) -> list[str]:
    if not report["thresholds"]:
        return ["Unknown: the decision is not stored."]
    readings = ", ".join(f"{name}: {outcome}" for name, outcome in report["readings"].items())
    roi = report["roi"]
    pays = (
        f"Does it pay? **{roi['outcome']}**" if roi else "Does it pay? Nobody has said the costs."
    )
    return [
        *_listed(report["reasons"]),
        *_plain(report["thresholds"], ""),
        f"- both readings: {readings}",
        "",
        pays,
        *_listed(roi["reasons"] if roi else []),
    ]


def _measured(report: Json) -> list[str]:
    probes = probes_of(report["candidate"]["sandbox"])
    return [
        *_table(
            ("sandbox", "baseline", "candidate"),
            _words(views.sandbox_pairs(report["baseline"], report["candidate"])),
        ),
        "",
        "Probes: "
        + text(", ".join(f"{name} {found}" for name, found in probes.items()) or "unknown"),
        "",
        *_table(
            ("setting", "baseline", "candidate"),
            _words(views.setting_pairs(report["baseline"], report["candidate"])),
        ),
        "",
        f"Suite `{report['suite']['content_hash']}`, verdict `{report['verdict']['id']}`, "
        f"evaluations `{report['baseline']['id']}` and `{report['candidate']['id']}`.",
    ]


def _words(pairs: Iterable[views.Pair]) -> list[tuple[str, str, str]]:
    return [(one.label, one.baseline, one.candidate) for one in pairs]


def _differing(report: Json) -> list[str]:
    n_differ = len(report["differ"])
    if not n_differ:
        return ["On no task that both answered do their rates differ."]
    shown = report["differing"][:SHOWN_TASKS]
    lines = [f"{n_differ} tasks; {len(shown)} of them with their answers.", ""]
    for one in shown:
        rates = [views.percent(one[f"{side}_rate"]) for side in views.SIDES]
        lines += [f"### {text(one['task_id'])}: {rates[0]} against {rates[1]}", ""]
        lines += _fenced(one["asked"], one["asked_chars"])
        for side in views.SIDES:
            lines += _answer(side, one[f"{side}_answer"])
    return lines


def _answer(name: str, given: Json | None) -> list[str]:
    if given is None:
        return [f"**{name}**: no answer is stored.", ""]
    detail = f": {text(given['detail'])}" if given["detail"] else ""
    return [f"**{name}**: {given['status']}{detail}", "", *_fenced(given["text"], given["n_chars"])]


def _fenced(said: str, n_chars: int) -> list[str]:
    """Return text as a block that it cannot end itself, and how much of it there is."""
    longest = max((len(run) for run in re.findall("`+", said)), default=0)
    fence = "`" * max(3, longest + 1)
    cut = f"The first {len(said):,} of {n_chars:,} characters."
    return [f"{fence}text", said, fence, "", *([cut, ""] if n_chars > len(said) else [])]


def _evaluation(one: Json) -> list[str]:
    own, suite, sides = one["evaluation"], one["suite"], {"success": one["side"]}
    plot = views.success_plot(one)
    rows = [(row.group, row.label, row.n, row.estimate, row.interval) for row in plot.rows]
    return [
        f"# {text(own['subject'])} on {text(suite['name'])}@{suite['version']}: "
        f"**{views.percent(own['success_rate'])}**",
        "",
        *_section("Keep in mind", _listed(one["doubts"])),
        *_section("Success", _table(("by", "tasks of", "tasks", "success", "95 % interval"), rows)),
        *_section("Reliability", _reliability(sides)),
        *_section("What became of the answers", _statuses(sides)),
        *_section("Measured beside success", _items(views.measured_of(own))),
        *_section("Settings", _items(views.settings_of(own).items())),
        *_section("Sandbox", _items(rows_of(own["sandbox"]))),
        f"Suite `{suite['content_hash']}`, evaluation `{own['id']}`; {one['n_failing']} tasks were "
        "not always solved.",
        "",
    ]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    body = "\n".join(lines).rstrip("\n")
    return [f"## {title}", "", body, ""] if body else []


def _plain(section: Json | None, why_not: str) -> list[str]:
    """Return a section as a list of its values; that it is unknown, if it is, and why."""
    return _items(rows_of(section)) if section else [f"Unknown: {why_not}"]


def _items(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"- {text(name)}: {text(said)}" for name, said in rows]


def _listed(said: Iterable[str]) -> list[str]:
    lines = [f"- {text(one)}" for one in said]
    return [*lines, ""] if lines else []


def _table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> list[str]:
    titles = [text(title) for title in head]
    return [
        f"| {' | '.join(titles)} |",
        "|" + "---|" * len(titles),
        *(f"| {' | '.join(text(cell) for cell in row)} |" for row in rows),
    ]


def text(said: Any) -> str:
    """Return text that stays in its line and its cell, and is no markup."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(said).split()))
