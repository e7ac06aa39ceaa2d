"""Judges that are rules, on real answers of a model and its DPO fine-tune with executable truth."""

import gzip
import json

import pytest
from judging_app import judging

from evaluator.judge import Judge, Pair, compare_answers
from evaluator.judge.pairs import truth_of
from foundation.chat import message
from foundation.settings import get_settings

BASELINE, CANDIDATE = "meta-llama-3-8b", "llama3_base_dpo"


def answers(folder, run):
    with gzip.open(folder / "coder_outputs" / "coder_outputs_odd.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return {row["task_id"]: row for row in rows if row["run"] == run and row["solution"].strip()}


def real_pairs(folder):
    before, after = answers(folder, BASELINE), answers(folder, CANDIDATE)
    return [
        Pair(
            task,
            [message("user", f"Write the function of {task}.")],
            before[task]["solution"],
            after[task]["solution"],
            truth_of(before[task]["exec_pass"], after[task]["exec_pass"]),
            before[task]["dataset"],
        )
        for task in sorted(before.keys() & after.keys())
    ]


@pytest.mark.data
def test_length_and_place_are_no_judges_of_code(session, monkeypatch, public_data) -> None:
    pairs = real_pairs(public_data)
    with judging() as server:
        monkeypatch.setenv("FLYWHEEL_UPSTREAMS", server.upstreams)
        get_settings.cache_clear()
        panel = [Judge("always-longer"), Judge("always-first")]
        report = compare_answers(session, panel, pairs, candidate_base="meta-llama-3-8b")
    longer, first = report.results
    assert report.n_pairs == len(pairs) > 150
    assert (longer.health.length_only.value, first.health.first_position.value) == (1, 1)
    known = [one for one in pairs if one.truth is not None and not one.is_identical]
    right = sum(0.5 if one.longer == "tie" else one.longer == one.truth for one in known)
    assert longer.calibration.judge.k == longer.calibration.longer.k == right
    assert first.calibration.judge.value == 0.5
    assert not report.may_gate
