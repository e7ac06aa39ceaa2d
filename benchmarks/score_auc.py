"""Does the score tell good answers from bad ones before anybody ran them?

    python -m benchmarks.score_auc [--quick]

Real model answers to HumanEval and MBPP with what really happened when they were executed
(`coder_outputs`; empty answers are left out, since those were lost and are told apart by any rule).
The score here knows form and style only, not the outcome. Beside it stand the answer's length,
either way round, and every single part; the bar is the best of those. What it is not: proof that
style makes code right. Printed with it, therefore, is how well it tells the good from the bad among
answers of one model, and among answers to one task; models that write with care are also right
more often, and much of the score lives on that.
"""

import argparse
import gzip
import json
import os
import sys
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.bars import Figure, report
from curation.recipe import CurationRecipe
from curation.score.assess import assess
from curation.score.calibrate import fit
from curation.score.outcome import Attempt

Floats = np.ndarray[Any, np.dtype[np.float64]]
Row = dict[str, Any]

DATA = Path(
    os.environ.get("FLYWHEEL_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
BOOTSTRAPS = 1000


def measure(quick: bool = False) -> list[Figure]:
    """Return the figures; `quick` draws fewer bootstrap samples."""
    if not DATA.is_dir():
        note = "no public data: set FLYWHEEL_TEST_DATA to its folder"
        return [Figure("AUC of form and style against execution", None, "", note=note)]
    rows, prompts = _rows(), _prompts()
    passed = np.array([row["exec_pass"] for row in rows])
    parts = [_parts(row, prompts) for row in rows]
    score = np.array([one["evidence"] for one in parts])
    lengths = np.array([float(len(row["solution"])) for row in rows])
    single = {
        "length": auc(lengths, passed),
        "shortness": auc(-lengths, passed),
        **{name: auc(values, passed) for name, values in _single_parts(parts).items()},
    }
    best = max(single, key=lambda name: single[name])
    low, high = _interval(score, passed, [row["task_id"] for row in rows], 100 if quick else 0)
    fitted = fit(list(score), [bool(value) for value in passed], 200)
    detail = {
        "answers": len(rows),
        "passed": int(passed.sum()),
        "interval_95": [low, high],
        "single": {name: round(value, 4) for name, value in sorted(single.items())},
        "brier_before": fitted.brier_before,
        "brier_after": fitted.brier_after,
        "calibration": fitted.calibrator.method,
    }
    return [
        Figure(
            f"AUC of form and style against execution, n = {len(rows)}",
            auc(score, passed),
            "",
            at_least=single[best],
            detail=detail,
            note=f"95 % interval {low:.3f} to {high:.3f}; bar: {best}, the best single signal",
        ),
        Figure("AUC of length alone", single["length"], ""),
        Figure("AUC of shortness alone", single["shortness"], ""),
        *(
            Figure(f"AUC of {name} alone", value, "")
            for name, value in sorted(single.items(), key=lambda item: -item[1])
            if name not in ("length", "shortness") and abs(value - 0.5) >= 0.005
        ),
        Figure(
            "AUC among answers to one task",
            auc_within(score, passed, [row["task_id"] for row in rows]),
            "",
        ),
        Figure(
            "AUC among answers of one model",
            auc_within(score, passed, [row["model"] for row in rows]),
            "",
        ),
        Figure(
            "Brier score of the calibrated score, cross-validated",
            fitted.brier_after,
            "",
            at_most=fitted.brier_before,
            note=f"bar: uncalibrated; {fitted.calibrator.method}",
        ),
    ]


def auc(score: Floats, passed: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    """Return the chance that a passing answer scores above a failing one, ties counting half."""
    n_passed, n_failed = int(passed.sum()), int((~passed).sum())
    ranks = rankdata(score)[passed].sum()
    return float((ranks - n_passed * (n_passed + 1) / 2) / (n_passed * n_failed))


def auc_within(
    score: Floats, passed: np.ndarray[Any, np.dtype[np.bool_]], groups: Sequence[Hashable]
) -> float:
    """Return the AUC over pairs of one group only, groups weighed by their pairs."""
    members = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    total = weight = 0.0
    for places in members.values():
        inside = passed[places]
        n_pairs = float(inside.sum() * (~inside).sum())
        if n_pairs:
            total += n_pairs * auc(score[places], inside)
            weight += n_pairs
    return total / weight


def _interval(
    score: Floats,
    passed: np.ndarray[Any, np.dtype[np.bool_]],
    tasks: Sequence[str],
    n_samples: int,
) -> tuple[float, float]:
    """Return the 95 % interval of the AUC by drawing tasks anew: answers to one are not apart."""
    places = defaultdict(list)
    for place, task in enumerate(tasks):
        places[task].append(place)
    names, dice = list(places), np.random.default_rng(0)
    drawn = []
    for _ in range(n_samples or BOOTSTRAPS):
        chosen = np.concatenate(
            [places[names[i]] for i in dice.integers(0, len(names), len(names))]
        )
        drawn.append(auc(score[chosen], passed[chosen]))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return round(float(low), 4), round(float(high), 4)


def _parts(row: Row, prompts: Mapping[str, str]) -> dict[str, Any]:
    prompt = prompts.get(row["task_id"], "Solve the task.")
    made = Attempt(prompt, row["solution"], "success", True, "stop")
    return assess(made, [], CurationRecipe()).parts


def _single_parts(parts: Sequence[Mapping[str, Any]]) -> dict[str, Floats]:
    """Return each part of form and style over all answers; where it does not apply, its mean."""
    columns = {}
    for kind in ("form", "style"):
        for name in sorted({name for one in parts for name in one.get(kind, {})}):
            values = [one.get(kind, {}).get(name) for one in parts]
            mean = float(np.mean([value for value in values if value is not None]))
            filled = [mean if value is None else value for value in values]
            columns[f"{kind}: {name}"] = np.array(filled)
    return columns


def _rows() -> list[Row]:
    path = DATA / "coder_outputs" / "coder_outputs_odd.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row for row in rows if row["solution"].strip()]


def _prompts() -> dict[str, str]:
    with (DATA / "humaneval" / "humaneval_odd.jsonl").open(encoding="utf-8") as file:
        return {row["task_id"]: row["prompt"] for row in map(json.loads, file)}


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Measure whether the score foretells outcomes.")
    parser.add_argument("--quick", action="store_true", help="fewer bootstrap samples")
    return report("score-auc", measure(parser.parse_args().quick))


if __name__ == "__main__":
    sys.exit(main())
