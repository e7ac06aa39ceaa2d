import gzip
import json

import pytest

from benchmarks.router_asos import (
    FILE,
    PRIMARY,
    Course,
    always_valid,
    fixed_horizon,
    measure,
    peeking,
    planned,
    read,
    split_of,
)


def checkpoint(day, treated, control, n=10_000, metric=PRIMARY, **changed):
    row = {"experiment_id": "a1", "variant_id": 1, "metric_id": metric, "time_since_start": day}
    for arm, rate in (("t", treated), ("c", control)):
        row |= {f"count_{arm}": n * day, f"mean_{arm}": rate, f"variance_{arm}": rate * (1 - rate)}
    return row | changed


def comparison(tmp_path, rows):
    path = tmp_path / "asos.jsonl.gz"
    with gzip.open(path, "wt") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    [found] = read(path)
    return found


def test_a_winner_of_the_first_days_is_taken_back_by_who_peeks_only(tmp_path):
    rates = [0.52, 0.5, 0.5, 0.5, 0.5]
    found = comparison(
        tmp_path, [checkpoint(day, rate, 0.5, 5_000) for day, rate in enumerate(rates, start=1)]
    )
    assert peeking(found) == Course((True, False, False, False, False))
    assert peeking(found).taken_back
    assert not fixed_horizon(found).declared
    assert not always_valid(found).declared
    assert not planned(found).declared


def test_a_lasting_difference_is_found_by_all(tmp_path):
    found = comparison(tmp_path, [checkpoint(day, 0.52, 0.5) for day in range(1, 11)])
    for rule in (fixed_horizon, peeking, always_valid, planned):
        assert rule(found).found[-1]
        assert not rule(found).taken_back


def test_checkpoints_without_a_variance_are_left_out(tmp_path):
    rows = [checkpoint(1, 0.5, 0.5, variance_t=float("nan")), checkpoint(2, 0.5, 0.5)]
    assert len(comparison(tmp_path, rows).looks) == 1


def test_an_uneven_split_is_evidence(tmp_path):
    even = comparison(tmp_path, [checkpoint(1, 0.5, 0.5)])
    uneven = comparison(tmp_path, [checkpoint(1, 0.5, 0.5, count_t=10_900)])
    assert split_of(even).log_e < 0
    assert split_of(uneven).log_e > 7
    assert split_of(uneven).alarms == 1


@pytest.mark.data
def test_the_32_experiments(public_data):
    assert (public_data / FILE).exists()
    figures = {figure.name: figure.measured for figure in measure(quick=True)}
    back = "primary metric: experiments 'significant' at some look but not at the end, "
    assert figures[f"{back}always valid"] < figures[f"{back}peeked t-test"]
    assert figures[f"{back}planned (O'Brien-Fleming)"] < figures[f"{back}peeked t-test"]
