"""The report of a verdict: everything a reader needs to believe it, as JSON and as Markdown."""

from typing import Any
from uuid import UUID

from sqlmodel import Session

from evaluator.tables import Evaluation, Suite, Verdict
from foundation.database import explain_row
from foundation.errors import NotFound
from foundation.tables import Decision


def get_verdict(session: Session, verdict_id: UUID) -> Verdict:
    """Return a verdict by id; raises NotFound."""
    verdict = session.get(Verdict, verdict_id)
    if verdict is None:
        raise NotFound(
            "verdict", str(verdict_id), "the id of a stored verdict", "List them: GET /v1/verdicts"
        )
    return verdict


def verdict_report(session: Session, verdict: Verdict) -> dict[str, Any]:
    """Return the report as plain JSON: verdict, suite, both evaluations, comparison, decision."""
    suite = session.get_one(Suite, verdict.suite_id)
    decision = session.get(Decision, verdict.decision_id) if verdict.decision_id else None
    return {
        "verdict": explain_row(verdict),
        "suite": explain_row(suite),
        "baseline": explain_row(session.get_one(Evaluation, verdict.baseline_evaluation_id)),
        "candidate": explain_row(session.get_one(Evaluation, verdict.candidate_evaluation_id)),
        "comparison": (decision.inputs.get("evidence") or {}) if decision else {},
        "thresholds": decision.rule if decision else {},
        "reasons": decision.reasons if decision else [],
    }


def as_markdown(report: dict[str, Any]) -> str:
    """Return a report of `verdict_report` as one Markdown page."""
    verdict, suite, compared = report["verdict"], report["suite"], report["comparison"]
    baseline, candidate = report["baseline"], report["candidate"]
    lines = [
        f"# {candidate['subject']} against {baseline['subject']}: **{verdict['outcome']}**",
        "",
        f"Suite `{suite['name']}@{suite['version']}` ({suite['n_tasks']} tasks, "
        f"`{suite['content_hash'][:12]}`), role {verdict['role']}, "
        f"{verdict['created_at'][:19]} UTC.",
        "",
        f"Improvement **{verdict['improvement_points']:+.1f} points**, paired 95 % interval "
        f"{verdict['ci_low']:+.1f} to {verdict['ci_high']:+.1f} over {verdict['n_tasks']} tasks, "
        f"p = {verdict['p_value']:.3g}{_method(compared)}.",
        *_detail_lines(compared),
        "",
        *(f"- {reason}" for reason in report["reasons"]),
        "",
        "| | baseline | candidate |",
        "|---|---|---|",
        f"| success | {_rate(baseline)} | {_rate(candidate)} |",
        *(
            f"| {label} | {_cell(baseline[name])} | {_cell(candidate[name])} |"
            for label, name in (
                ("samples per task", "samples_per_task"),
                ("answers", "n_samples"),
                ("lost answers", "n_lost"),
                ("tokens/s", "tokens_per_s"),
            )
        ),
        f"| sandbox tier | {_tier(baseline)} | {_tier(candidate)} |",
        f"| settings | {_settings(baseline)} | {_settings(candidate)} |",
        "",
        f"Speed ratio (candidate over baseline): {_cell(verdict['speed_ratio'])}.",
        "",
    ]
    return "\n".join(lines)


def _method(compared: dict[str, Any]) -> str:
    return f" ({compared['method']})" if "method" in compared else ""


def _detail_lines(compared: dict[str, Any]) -> list[str]:
    if not compared:
        return []
    return [
        f"Better on {compared['tasks_better']} tasks, worse on {compared['tasks_worse']}; this "
        f"comparison shows gains of {compared['smallest_detectable_points']:.1f} points and more "
        "in 4 of 5 cases.",
    ]


def _rate(evaluation: dict[str, Any]) -> str:
    if evaluation["success_rate"] is None:
        return "unknown"
    low, high = 100 * evaluation["ci_low"], 100 * evaluation["ci_high"]
    return f"{100 * evaluation['success_rate']:.1f} % ({low:.1f}-{high:.1f})"


def _tier(evaluation: dict[str, Any]) -> str:
    return str(evaluation["sandbox"].get("tier", "unknown"))


def _settings(evaluation: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(evaluation["settings"].items()))


def _cell(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
