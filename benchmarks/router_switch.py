"""Promotion and rollback while requests flow: does one fail, and how soon do all go elsewhere?

    python -m benchmarks.router --only switch [--quick]

A version is promoted, and rolled back again, by the commands that people use, under a constant load
that lasts until both have been seen. How long a switch takes is read off the log: from the
promotion's own time to the start of the last call that the version before answered.
"""

import statistics
import time
from dataclasses import dataclass
from datetime import datetime

from benchmarks.bars import Figure
from benchmarks.gateway_load import Answered, Round
from benchmarks.router_gateway import MODELS, OURS
from benchmarks.router_hosts import PROMPT, Load, RunningGateway, gateway, mock_upstream

RPS = 100.0
PAUSE_S = 4.0
"""Seconds of load before, between and after the two switches."""

_SWITCHES = """
    SELECT changed.at,
        (SELECT max(started_at) FROM interaction WHERE model_version_id = changed.from_id
            AND started_at > changed.at AND started_at < changed.next_at),
        (SELECT count(*) FROM interaction WHERE model_version_id = changed.from_id
            AND started_at > changed.before_at AND started_at < changed.at),
        (SELECT count(*) FROM interaction WHERE model_version_id = changed.to_id
            AND started_at > changed.at AND started_at < changed.next_at)
    FROM (
        SELECT from_model_version_id AS from_id, to_model_version_id AS to_id, created_at AS at,
            lag(created_at) OVER (ORDER BY created_at) AS before_at,
            coalesce(lead(created_at) OVER (ORDER BY created_at), 'infinity') AS next_at
        FROM promotion
    ) AS changed
    WHERE changed.from_id IS NOT NULL ORDER BY changed.at
"""


@dataclass(frozen=True)
class Switch:
    """A change of who serves the role, as the log shows it.

    Attributes:
        at: when it was written.
        last_before: start of the last call that the version before answered after it; None: none.
        n_before: calls which that version had answered since the change before.
        n_after: calls that the new version answered until the next one.
    """

    at: datetime
    last_before: datetime | None
    n_before: int
    n_after: int

    @property
    def took_s(self) -> float:
        """Seconds until the version before had no new call.

        Raises:
            RuntimeError: no load went over both versions, so that nothing can be said.
        """
        if not (self.n_before and self.n_after):
            raise RuntimeError(f"the switch at {self.at} was not under load: {self}")
        return (self.last_before - self.at).total_seconds() if self.last_before else 0.0


def measure(quick: bool = False) -> list[Figure]:
    """Promote and roll back under load, several times."""
    rounds = 1 if quick else 5
    switches: list[Switch] = []
    answers: list[Answered] = []
    with mock_upstream() as upstream, Load() as load:
        served = {"mock": {"base_url": f"{upstream}/v1", "models": list(MODELS)}}
        for number in range(rounds):
            with gateway(served, workers=2, compare=False) as ours:
                answers.append(_one_round(load, ours, number))
                switches += [Switch(*row) for row in ours.query(_SWITCHES)]
    failed = [status for found in answers for status in found.status if status != 200]
    took_s = [switch.took_s for switch in switches]
    return [
        Figure(
            "requests that failed during promotions and rollbacks",
            float(len(failed)),
            "requests",
            at_most=0,
            detail={"asked": sum(len(found.status) for found in answers), "failed": failed},
        ),
        Figure(
            "time of a switch: last call of the version before, after the promotion",
            max(took_s),
            "s",
            at_most=1.0,
            detail={
                "median": statistics.median(took_s),
                "each": took_s,
                "calls before and after": [(one.n_before, one.n_after) for one in switches],
            },
        ),
    ]


def _one_round(load: Load, ours: RunningGateway, number: int) -> Answered:
    episodes = f"switch-{number}"
    load.begin(
        Round(
            *(ours.url, OURS, "role:coder"),
            n=0,
            rate=RPS,
            concurrency=32,
            prompt=PROMPT,
            episodes=episodes,
        )
    )
    time.sleep(PAUSE_S)
    ours.command("promote", f"coder-{MODELS[1]}", "--reason", "measured")
    time.sleep(PAUSE_S)
    ours.command("rollback", "coder", "--reason", "measured")
    time.sleep(PAUSE_S)
    found = load.end(now=True)
    ours.wait_stored(len(found.ids))
    return found
