"""What the gateway adds to a call, with durable logging on, beside LiteLLM's proxy without any.

    python -m benchmarks.router --only gateway [--quick]

All of it shares the cores of one machine, so rounds through the gateway, through LiteLLM's proxy
and straight to the mock upstream take turns, and what is reported is a difference or a ratio within
one run. CPU is that of the gateway's processes, scrubbing and storing included: the clock is read
again only when every call of the round is in the database. PostgreSQL's is printed apart.
"""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.bars import Figure
from benchmarks.gateway_load import Answered, Round
from benchmarks.mock_upstream import TOOL_ARGUMENTS
from benchmarks.router_hosts import (
    KEY,
    PROMPT,
    Load,
    Running,
    RunningGateway,
    cpu_s,
    gateway,
    litellm_proxy,
    mock_upstream,
    rss_mib,
)

CHAT = "/v1/chat/completions"
OURS = "/r/coder/e/{episode}" + CHAT
MODELS = ("mock-a", "mock-b")
TOOL_MODELS = ("mock-a-tools", "mock-b-tools")
SUSTAINED_RPS = 600.0
WARM = 500


@dataclass
class Side:
    """What one way of asking gave, round by round."""

    latency_ms: list[list[float]] = field(default_factory=list)
    ttft_ms: list[list[float]] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def quantile(self, share: float, times: str = "latency_ms") -> float:
        """Return the median over rounds of a quantile within each."""
        return statistics.median(
            quantile(round_, share) for round_ in getattr(self, times) if round_
        )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(quick: bool = False) -> list[Figure]:
    """Measure latency at one caller, CPU, throughput, parity and memory."""
    with mock_upstream() as upstream, Load() as load:
        figures = _ceiling(load, upstream, quick)
        with gateway(_upstreams(upstream), workers=1) as ours:
            figures += [Figure("gateway, memory idle", rss_mib(ours.process), "MiB", at_most=200)]
            with litellm_proxy(upstream) as peer:
                figures += _one_caller(load, upstream, ours, peer, quick)
                figures += _throughput(load, ours, peer, quick)
        with gateway(_upstreams(upstream), workers=2) as ours:
            figures += _sustained(load, ours, quick)
        figures += _tool_calls(load, upstream, quick)
    return figures


def _upstreams(url: str) -> dict[str, dict[str, object]]:
    return {"mock": {"base_url": f"{url}/v1", "models": [*MODELS, *TOOL_MODELS]}}


def _straight(upstream: str, n: int, **fields: object) -> Round:
    return Round(upstream, CHAT, "mock", n=n, prompt=PROMPT, **fields)  # type: ignore[arg-type]


def _through(ours: Running, n: int, **fields: object) -> Round:
    return Round(ours.url, OURS, "role:coder", n=n, prompt=PROMPT, **fields)  # type: ignore[arg-type]


def _by_peer(peer: Running, n: int, **fields: object) -> Round:
    headers = {"authorization": f"Bearer {KEY}"}
    return Round(peer.url, CHAT, "mock", headers, n=n, prompt=PROMPT, **fields)  # type: ignore[arg-type]


def _all_good(found: Answered) -> Answered:
    if found.failed:
        raise RuntimeError(f"answers failed: {found.failed}")
    return found


def _ceiling(load: Load, upstream: str, quick: bool) -> list[Figure]:
    """Measure what mock and load driver can do by themselves."""
    n = 2_000 if quick else 10_000
    rates = {}
    for concurrency in (1, 16):
        found = _all_good(load.play(_straight(upstream, n, concurrency=concurrency)))
        rates[concurrency] = n / found.seconds
    return [
        Figure(
            "mock upstream's own ceiling, 16 callers",
            rates[16],
            "requests/s",
            detail={"one caller": rates[1], "load_average": os.getloadavg()},
        )
    ]


def _one_caller(
    load: Load, upstream: str, ours: RunningGateway, peer: Running, quick: bool
) -> list[Figure]:
    """Ask one at a time: straight, through the gateway, through the peer, in turn."""
    rounds, n, n_peer = (3, 100, 40) if quick else (9, 300, 100)
    straight, through, by_peer = Side(), Side(), Side()
    for number in range(rounds + 1):  # the first one warms up
        for stream in (False, True):
            episodes = f"{number}-{stream}"
            taken = [
                (straight, load.play(_straight(upstream, n, stream=stream)), 0.0),
                (through, *_with_cpu(load, ours, n, stream=stream, episodes=episodes)),
                (by_peer, *_peer_with_cpu(load, peer, n_peer, stream)),
            ]
            for side, found, cpu_ms in taken if number else []:
                times = side.ttft_ms if stream else side.latency_ms
                _all_good(found)
                times.append(found.ttft_ms if stream else found.latency_ms)
                if not stream:
                    side.cpu_ms.append(cpu_ms)
    return [*_added(straight, through, by_peer), *_cpu(through, by_peer)]


def _with_cpu(load: Load, ours: RunningGateway, n: int, **fields: object) -> tuple[Answered, float]:
    """Ask through the gateway; return the answers and its CPU milliseconds a request."""
    stored, before = ours.count(), cpu_s(ours.process)
    found = load.play(_through(ours, n, **fields))
    ours.wait_stored(stored + n)
    return found, 1000 * (cpu_s(ours.process) - before) / n


def _peer_with_cpu(load: Load, peer: Running, n: int, stream: bool) -> tuple[Answered, float]:
    before = cpu_s(peer.process)
    found = load.play(_by_peer(peer, n, stream=stream))
    return found, 1000 * (cpu_s(peer.process) - before) / n


def _added(straight: Side, through: Side, by_peer: Side) -> list[Figure]:
    def added(side: Side, share: float, times: str = "latency_ms") -> float:
        return side.quantile(share, times) - straight.quantile(share, times)

    per_round = [
        statistics.median(ours) - statistics.median(alone)
        for ours, alone in zip(through.latency_ms, straight.latency_ms, strict=True)
    ]
    pooled = [
        quantile([time for round_ in side.latency_ms for time in round_], 0.99)
        for side in (through, straight)
    ]
    return [
        Figure(
            "gateway, added latency, one caller, p50",
            added(through, 0.5),
            "ms",
            at_most=1.5,
            detail={
                "rounds": len(per_round),
                "least": min(per_round),
                "most": max(per_round),
                "straight": straight.quantile(0.5),
                "LiteLLM's proxy added": added(by_peer, 0.5),
            },
        ),
        Figure(
            "gateway, added latency, one caller, p99",
            added(through, 0.99),
            "ms",
            at_most=5.0,
            detail={
                "of all rounds together": pooled[0] - pooled[1],
                "straight": straight.quantile(0.99),
                "LiteLLM's proxy added": added(by_peer, 0.99),
            },
        ),
        Figure(
            "gateway, added time to first token, p50",
            added(through, 0.5, "ttft_ms"),
            "ms",
            at_most=1.0,
            detail={
                "straight": straight.quantile(0.5, "ttft_ms"),
                "LiteLLM's proxy added": added(by_peer, 0.5, "ttft_ms"),
            },
        ),
    ]


def _cpu(through: Side, by_peer: Side) -> list[Figure]:
    ours, theirs = statistics.median(through.cpu_ms), statistics.median(by_peer.cpu_ms)
    return [
        Figure(
            "gateway, CPU per request, logged and stored",
            ours,
            "ms",
            at_most=0.8,
            detail={"least": min(through.cpu_ms), "most": max(through.cpu_ms)},
        ),
        Figure(
            "LiteLLM's proxy, CPU per request, to ours",
            theirs / ours,
            "x",
            at_least=10,
            detail={"theirs": theirs, "least": min(by_peer.cpu_ms), "most": max(by_peer.cpu_ms)},
        ),
    ]


def _sustained(load: Load, ours: RunningGateway, quick: bool) -> list[Figure]:
    """Send requests when they are due, then compare what was answered with what is stored."""
    n = int(SUSTAINED_RPS * (5 if quick else 30))
    _all_good(load.play(_through(ours, WARM, concurrency=8, episodes="warm")))
    ours.wait_stored(WARM)
    stored, before = ours.count(), cpu_s(ours.postmaster)
    # Connections enough that none is waited for while the gateway keeps up.
    wanted = _through(ours, n, rate=SUSTAINED_RPS, concurrency=64, episodes="sustained")
    found = load.play(wanted)
    waited_s = ours.wait_stored(stored + len(found.ids))
    rows = ours.rows(found.ids)
    once = len(found.ids) == len(set(found.ids)) == len(rows) == ours.count() - stored
    return [
        Figure(
            f"gateway, {SUSTAINED_RPS:.0f} requests/s asked for, answered",
            n / found.seconds,
            "requests/s",
            at_least=0.99 * SUSTAINED_RPS,
            detail={
                "seconds": found.seconds,
                "p50_ms": quantile(found.latency_ms, 0.5),
                "p99_ms": quantile(found.latency_ms, 0.99),
                "failed": found.failed,
                "last row stored after, s": waited_s,
                "postgres_cpu_ms": 1000 * (cpu_s(ours.postmaster) - before) / n,
                "memory_mib": rss_mib(ours.process),
            },
        ),
        Figure(
            "rows per answered request",
            len(rows) / len(found.ids) if once else 0.0,
            "",
            at_least=1.0,
            detail={"answered": len(found.ids), "rows": len(rows), "failed": found.failed},
        ),
    ]


def _throughput(load: Load, ours: RunningGateway, peer: Running, quick: bool) -> list[Figure]:
    """Ask as quickly as answers come; one worker on both sides."""
    rounds, n, n_peer = (2, 1_000, 200) if quick else (5, 4_000, 600)
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(rounds):
        stored = ours.count()
        wanted = _through(ours, n, concurrency=64, episodes=f"throughput-{number}")
        rates["ours"].append(n / _all_good(load.play(wanted)).seconds)
        ours.wait_stored(stored + n)
        found = _all_good(load.play(_by_peer(peer, n_peer, concurrency=64)))
        rates["theirs"].append(n_peer / found.seconds)
    ratios = [a / b for a, b in zip(rates["ours"], rates["theirs"], strict=True)]
    return [
        Figure(
            "gateway, requests/s to LiteLLM's proxy, 64 callers, one worker each",
            statistics.median(ratios),
            "x",
            at_least=8,
            detail={"rounds": ratios, **rates},
        )
    ]


def _tool_calls(load: Load, upstream: str, quick: bool) -> list[Figure]:
    """Stream tool calls and compare their arguments: as made, as seen, as stored."""
    n = 200 if quick else 1_000
    with gateway(_upstreams(upstream), workers=1, models=TOOL_MODELS) as ours:
        found = _all_good(load.play(_through(ours, n, concurrency=8, stream=True)))
        ours.wait_stored(n)
        rows = ours.rows(found.ids)
    stored = [
        row["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
        for row in rows.values()
    ]
    equal = sum(text == TOOL_ARGUMENTS for text in stored)
    seen = sum(text == TOOL_ARGUMENTS for text in found.arguments.values())
    return [
        Figure(
            "streamed tool calls whose arguments are stored as they were made",
            min(equal, seen) / n,
            "",
            at_least=1.0,
            detail={"calls": n, "seen": seen, "stored": equal},
        )
    ]
