"""Promotion and rollback while requests flow: does one fail, and how soon do all go elsewhere?

    python -m benchmarks.router --only switch [--quick]

A version is promoted, and rolled back again, by the commands that people use, under a constant
load. How long a switch takes is read off the log: from the promotion's own time to the start of the
last call that the version before answered.
"""

import os
import statistics
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

import psycopg

from benchmarks.bars import Figure
from benchmarks.gateway_load import Answered, Round
from benchmarks.router_gateway import MODELS, OURS
from benchmarks.router_hosts import PROMPT, Load, RunningGateway, gateway, mock_upstream

RPS = 100.0
PAUSE_S = 4.0
"""Seconds of load before, between and after the two switches."""


def measure(quick: bool = False) -> list[Figure]:
    """Promote and roll back under load, several times."""
    rounds = 1 if quick else 5
    switched_s: list[float] = []
    failed: dict[int, int] = {}
    n_asked = 0
    with mock_upstream() as upstream, Load() as load:
        served = {"mock": {"base_url": f"{upstream}/v1", "models": list(MODELS)}}
        for number in range(rounds):
            with gateway(served, workers=2, compare=False) as ours:
                found = _one_round(load, ours, number)
                n_asked += len(found.latency_ms)
                for status, n in found.failed.items():
                    failed[status] = failed.get(status, 0) + n
                switched_s += _switches(ours)
    return [
        Figure(
            "requests that failed during promotions and rollbacks",
            float(sum(failed.values())),
            "requests",
            at_most=0,
            detail={"asked": n_asked, "failed": failed},
        ),
        Figure(
            "time of a switch: last call of the version before, after the promotion",
            max(switched_s),
            "s",
            at_most=1.0,
            detail={"median": statistics.median(switched_s), "switches": len(switched_s)},
        ),
    ]


def _one_round(load: Load, ours: RunningGateway, number: int) -> Answered:
    n = int(3 * PAUSE_S * RPS)
    load.begin(
        Round(
            ours.url,
            OURS,
            "role:coder",
            n=n,
            rate=RPS,
            concurrency=32,
            prompt=PROMPT,
            episodes=f"switch-{number}",
        )
    )
    time.sleep(PAUSE_S)
    _flywheel(ours, "promote", f"coder-{MODELS[1]}", "--reason", "measured")
    time.sleep(PAUSE_S)
    _flywheel(ours, "rollback", "coder", "--reason", "measured")
    found = load.end()
    ours.wait_stored(len(found.ids))
    return found


def _flywheel(ours: RunningGateway, *arguments: str) -> None:
    variables = {"FLYWHEEL_HOME": str(ours.home), "FLYWHEEL_DATABASE_URL": ours.database}
    command = [sys.executable, "-m", "flywheel", *arguments, "--json"]
    subprocess.run(command, env={**os.environ, **variables}, check=True, capture_output=True)


def _switches(ours: RunningGateway) -> list[float]:
    """Return, per promotion and rollback, the seconds until the version before had no new call."""
    with psycopg.connect(ours.database) as log:
        changes = log.execute(
            "SELECT created_at, from_model_version_id, lead(created_at) OVER (ORDER BY created_at) "
            "FROM promotion ORDER BY created_at"
        ).fetchall()
        return [_last_call(log, *change) for change in changes if change[1] is not None]


def _last_call(
    log: psycopg.Connection[Any], since: datetime, version: object, until: datetime | None
) -> float:
    row = log.execute(
        "SELECT max(started_at) FROM interaction WHERE model_version_id = %s AND started_at > %s "
        "AND (%s::timestamptz IS NULL OR started_at < %s)",
        (version, since, until, until),
    ).fetchone()
    last: datetime | None = row[0] if row else None
    return (last - since).total_seconds() if last else 0.0
