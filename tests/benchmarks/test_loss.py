"""The loss test in short: agents, service, gateway and database are killed, and nothing is lost."""

import random
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.bars import Figure, report
from benchmarks.loss import Account, account, scene, settle, wreak_havoc

SECONDS = 20


@pytest.mark.slow
def test_whatever_is_killed_no_call_is_lost_or_stored_twice() -> None:
    with tempfile.TemporaryDirectory(prefix="flywheel-loss-", ignore_cleanup_errors=True) as folder:
        with scene(Path(folder), seed=3) as made:
            kills = wreak_havoc(made, SECONDS, random.Random(3))
            settle(made)
            found = account(made)
    assert sum(kills.values()) >= 3
    assert found.receipts > 100
    assert found.stored >= found.receipts - found.missing
    assert (found.lost, found.doubled, found.wrong_status, found.waiting) == (0, 0, 0, 0), (
        found.examples
    )
    assert found.unbalanced == []


def test_a_missing_record_that_nobody_counted_misses_the_bar(tmp_path, monkeypatch) -> None:
    from benchmarks import bars, loss

    monkeypatch.setattr(bars, "RESULTS", tmp_path)
    clean = dict(
        receipts=9, missing=1, dropped={}, doubled=0, wrong_status=0, unbalanced=[], stored=8,
        waiting=0, examples=[],
    )  # fmt: skip
    missing = [{"kind": "interaction", "tag": "agent-0 1 1"}]
    lost = loss._lost(missing, {"agent-1": 5})
    assert lost == 1
    assert report("loss", loss.figures(Account(lost=lost, **clean), Counter(), 1.0)) == 1
    lost = loss._lost(missing, {"agent-0": 1})
    assert report("loss", loss.figures(Account(lost=lost, **clean), Counter(), 1.0)) == 0


@pytest.mark.parametrize(
    ("figure", "passes"),
    [
        (Figure("f", 5.0, "s", at_most=5.0), True),
        (Figure("f", 5.1, "s", at_most=5.0), False),
        (Figure("f", 4.9, "s", at_least=5.0), False),
        (Figure("f", None, "s", at_least=5.0), False),
        (Figure("f", None, "s"), True),
        (Figure("f", 0, "s", at_most=0), True),
    ],
)
def test_a_bar_is_met_at_its_value_and_not_by_nothing(figure, passes) -> None:
    assert figure.passed is passes
