"""What is known of two models beside their answers, as sections of a verdict's report."""

from typing import Any

from evaluator.speed import TOGETHER
from evaluator.tables import Evaluation


def sections_beside(baseline: Evaluation, candidate: Evaluation) -> dict[str, Any]:
    """Return `identity`, `cost` and `likelihood` of two evaluations, those that were looked at.

    Costs and likelihoods are only put side by side where they were measured side by side.
    """
    sections = {
        "identity": _identity(baseline, candidate),
        "cost": _together(baseline, candidate, "serving"),
        "likelihood": _together(baseline, candidate, "likelihood"),
    }
    return {name: section for name, section in sections.items() if section}


def _identity(baseline: Evaluation, candidate: Evaluation) -> dict[str, Any] | None:
    """Return the probes of adapters, and the hash of each model where it is known."""
    hashes = [one.settings.get("model_hash") for one in (baseline, candidate)]
    probes = [one.settings.get("identity") for one in (baseline, candidate)]
    if not any(hashes) and not any(probes):
        return None
    return {
        "baseline_hash": hashes[0],
        "candidate_hash": hashes[1],
        "is_same_content": bool(hashes[0]) and hashes[0] == hashes[1],
        "baseline": probes[0],
        "candidate": probes[1],
    }


def _together(baseline: Evaluation, candidate: Evaluation, name: str) -> dict[str, Any] | None:
    before, after = (dict((one.metrics or {}).get(name) or {}) for one in (baseline, candidate))
    if not before or before.get(TOGETHER) != after.get(TOGETHER):
        return None
    ratios = (after.pop("against", None) or {}).get(baseline.subject)
    before.pop("against", None)
    return {"candidate over baseline": ratios, "baseline": before, "candidate": after}
