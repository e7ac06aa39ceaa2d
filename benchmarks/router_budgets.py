"""A budget that a hundred callers spend at once, through two gateway processes: is it passed?

    python -m benchmarks.router --only budgets [--quick]

Each round raises the role's tokens of the day and lets the callers ask until the gateway has
refused each of them many times over. Every answer takes all that it was allowed to, and long enough
that the calls of all run at the same time, so a call too many would show. What counts is what was
recorded of the answers, added up in the database, and not what the gateway believes it spent.
"""

import time
from dataclasses import dataclass

from benchmarks.bars import Figure
from benchmarks.gateway_load import Round
from benchmarks.router_gateway import OURS
from benchmarks.router_hosts import PROMPT, Load, RunningGateway, gateway, mock_upstream

CALLERS = 100
WORKERS = 2
MODELS = ("mock-a-spends", "mock-b-spends")
MAX_TOKENS = 200
STEP = 200_000
"""Tokens by which each round raises the limit: some 500 calls."""
ASKED = 1_500
"""Requests of a round, the refused ones among them."""
MAX_LEFT = 3.0
"""Calls for which a budget may be too small at its end: who refuses everybody never passes one. A
call may take a third more than it took, and each process may hold a part that no call fits in."""
TOO_MANY = 429
REPORTED_S = 2.5
"""Time in which every gateway process has reported what it spent."""

_RECORDED = """
    SELECT count(*), coalesce(sum(gen_ai_usage_input_tokens + gen_ai_usage_output_tokens), 0),
        coalesce(max(gen_ai_usage_input_tokens + gen_ai_usage_output_tokens), 0)
    FROM interaction WHERE status = 'success'
"""
_COUNTED = """
    SELECT used, leased FROM budget_window WHERE scope = 'role:coder' AND measure = 'tokens_per_day'
"""


@dataclass(frozen=True)
class Spending:
    """What a limit had been spent to when its round had ended; all in tokens but the counts.

    Attributes:
        limit: of the day.
        n_calls: recorded as answered, since the first round.
        recorded: that these took, as their answers say.
        largest: that one of them took.
        counted: that the budget's window has as used.
        refused: requests of the round that were refused for the budget, and told until when.
        failed: requests of the round with any other answer.
    """

    limit: int
    n_calls: int
    recorded: int
    largest: int
    counted: float
    refused: int
    failed: int

    @property
    def overspent(self) -> int:
        """Tokens beyond the limit."""
        return max(0, self.recorded - self.limit)

    @property
    def calls_left(self) -> float:
        """What is left of the limit, in calls of the largest kind."""
        return (self.limit - self.recorded) / self.largest


def measure(quick: bool = False) -> list[Figure]:
    """Spend budgets, one after the other, to their end."""
    rounds = 2 if quick else 8
    with mock_upstream() as upstream, Load() as load:
        served = {"mock": {"base_url": f"{upstream}/v1", "models": list(MODELS)}}
        with gateway(served, workers=WORKERS, models=MODELS, compare=False) as ours:
            spent = [_spend(load, ours, STEP * number) for number in range(1, rounds + 1)]
    return figures_of(spent)


def _spend(load: Load, ours: RunningGateway, limit: int) -> Spending:
    before = ours.count()
    ours.command("budget", "set", "role:coder", "tokens_per_day", str(limit))
    time.sleep(REPORTED_S)
    found = load.play(
        Round(
            *(ours.url, OURS, "role:coder"),
            n=ASKED,
            concurrency=CALLERS,
            prompt=PROMPT,
            max_tokens=MAX_TOKENS,
            episodes=f"budget-{limit}",
        )
    )
    ours.wait_stored(before + len(found.status))
    time.sleep(REPORTED_S)
    [(n_calls, recorded, largest)] = ours.query(_RECORDED)
    [(counted, _)] = ours.query(_COUNTED)
    refused = sum(
        status == TOO_MANY and says_when
        for status, says_when in zip(found.status, found.retry_after, strict=True)
    )
    failed = sum(found.failed.values()) - refused
    return Spending(limit, n_calls, recorded, largest, counted, refused, failed)


def figures_of(spent: list[Spending]) -> list[Figure]:
    """Return the figures of all rounds."""
    return [
        Figure(
            f"budget passed by, {CALLERS} callers, {WORKERS} gateway processes, worst of "
            f"{len(spent)}",
            float(max(one.overspent for one in spent)),
            "tokens",
            at_most=0,
            detail={
                "limits": [one.limit for one in spent],
                "recorded": [one.recorded for one in spent],
                "calls": [one.n_calls for one in spent],
                "refused": [one.refused for one in spent],
            },
        ),
        Figure(
            "of a budget, left when callers are refused",
            max(one.calls_left for one in spent),
            "calls",
            at_most=MAX_LEFT,
            detail={"each": [one.calls_left for one in spent]},
        ),
        Figure(
            "requests not answered that were not told 429 and when to ask again",
            float(sum(one.failed for one in spent)),
            "requests",
            at_most=0,
        ),
        Figure(
            "budget's own count, beside what was recorded",
            max(abs(one.counted - one.recorded) for one in spent),
            "tokens",
            at_most=0,
            detail={"counted": [one.counted for one in spent]},
        ),
    ]
