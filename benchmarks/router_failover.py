"""A minute without an upstream, killed or hanging: what do the requests meanwhile see of it?

    python -m benchmarks.router --only failover [--quick]

Three constant loads ask one gateway of two processes: the role, whose versions have two upstreams
in order, a model that has a single one, and a model of the second upstream, which stays. The first
upstream of the role and the single one go away at the same moment and come back at the same moment.
What is compared is the time from when a request was due: during the outage with before it, and with
the requests that no outage meets, at the same time and on the same machine, whatever else that
does. Each gateway process finds out by itself, so "the first request" are those that were due until
the first time-out was over.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import pairwise

from benchmarks.bars import Figure
from benchmarks.gateway_load import Answered, Round
from benchmarks.router_gateway import OURS, quantile
from benchmarks.router_hosts import PROMPT, Load, Mock, RunningGateway, gateway

RPS = 25.0
CONNECTIONS = 100
"""Of each load: more than requests are due within a time-out, so that none waits for another."""
TIMEOUT_S = 2.0
COOLDOWN_S = 5.0
"""The gateway's default: its longest time between two looks whether an upstream is back."""
EXTRA_MS = 50.0
EPISODES = 20
"""Of each load, asked in turn and known from the start: writing down a new one's arm is no part of
an outage, and both arms are asked all the time."""
WARM = 400
"""Requests of each load before any is measured."""
NOTICED_S = TIMEOUT_S + 0.5
"""Until when a process may find out: its first request of the outage is due within half a second,
and is waited for at most the time-out."""

UNDER_WAY_S = 0.25
"""A request that was due this long before may be met by the outage."""

ROLE = "coder"
MODELS = ("mock-a", "mock-b")
SECOND = "mock-second"
SINGLE = "mock-single"
MODELS_ASKED = (f"role:{ROLE}", SECOND, SINGLE)
OK, UNAVAILABLE = 200, 503


@dataclass(frozen=True)
class Outage:
    """When an upstream went away, was let come back, and answered again; seconds of the epoch."""

    began_s: float
    lifted_s: float
    back_s: float


@dataclass(frozen=True)
class Reply:
    """One request: when it was due, what came, and from whom."""

    due_s: float
    latency_ms: float
    status: int
    model: str
    says_when: bool = False
    """Whether it tells when to ask again."""


@dataclass(frozen=True)
class Course:
    """The replies before an outage, until it could be known, during the rest of it, and after."""

    outage: Outage
    before: Sequence[Reply]
    unaware: Sequence[Reply]
    aware: Sequence[Reply]
    after: Sequence[Reply]

    def extra_ms(self, share: float) -> float:
        """Return by how much a quantile of the latency is above that before the outage."""
        return _quantile(self.aware, share) - _quantile(self.before, share)

    def recovery_s(self, is_back: Callable[[Reply], bool]) -> float:
        """Return how long after the outage the last request was due that did not see its end."""
        late = [reply.due_s for reply in self.after if not is_back(reply)]
        return max(0.0, max(late) - self.outage.back_s) if late else 0.0


def course_of(replies: Sequence[Reply], outage: Outage) -> Course:
    """Divide replies by when their requests were due.

    Raises:
        RuntimeError: no request was due in one of the parts, so that nothing can be said of it.
    """
    edges = (
        0.0,
        outage.began_s - UNDER_WAY_S,
        outage.began_s + NOTICED_S,
        outage.lifted_s,
        float("inf"),
    )
    before, unaware, aware, after = (
        [reply for reply in replies if since <= reply.due_s < until]
        for since, until in pairwise(edges)
    )
    if not (before and unaware and aware and after):
        raise RuntimeError(f"{len(replies)} requests, and none in a part of the run: {outage}")
    return Course(outage, before, unaware, aware, after)


def _quantile(replies: Sequence[Reply], share: float) -> float:
    return quantile([reply.latency_ms for reply in replies], share)


def measure(quick: bool = False) -> list[Figure]:
    """Let the upstreams hang, and kill them, while requests flow."""
    outage_s, pause_s = (10.0, 4.0) if quick else (60.0, 10.0)
    figures: list[Figure] = []
    replies: list[Reply] = []
    n_second = 0
    with ExitStack() as running:
        first, second, single = (running.enter_context(Mock()) for _ in range(3))
        ours = running.enter_context(_gateway(first, second, single))
        loads = {model: running.enter_context(Load()) for model in MODELS_ASKED}
        for model, load in loads.items():  # connections, arms, code that is met for the first time
            load.play(replace(_round(ours, model), n=WARM, rate=0.0, concurrency=8))
        for name, go, come in (("hangs", Mock.hang, Mock.resume), ("dies", Mock.kill, Mock.start)):
            for model, load in loads.items():
                load.begin(_round(ours, model))
            time.sleep(pause_s)
            of_first, of_single = _outage((first, single), go, come, outage_s)
            outages = (of_first, of_first, of_single)
            time.sleep(COOLDOWN_S + pause_s)
            found = [list(_replies(load.end(now=True))) for load in loads.values()]
            [two, stays, one] = (course_of(*each) for each in zip(found, outages, strict=True))
            figures += [*two_upstreams(name, two, stays.aware), *one_upstream(name, one)]
            replies += [reply for each in found for reply in each]
            n_second += sum(reply.model == SECOND for reply in found[0])
        figures += _recorded(ours, replies, n_second)
    return figures


def _gateway(first: Mock, second: Mock, single: Mock) -> AbstractContextManager[RunningGateway]:
    names = {"first": (first, MODELS), "second": (second, (SECOND,)), "single": (single, (SINGLE,))}
    upstreams = {
        name: {
            "base_url": f"{mock.url}/v1",
            "models": list(models),
            "answer_timeout_s": TIMEOUT_S,
            "connect_timeout_s": TIMEOUT_S,
        }
        for name, (mock, models) in names.items()
    }
    in_order = [{"upstream": "first"}, {"upstream": "second", "model": SECOND, "order": 1}]
    asked_as = {model: {"targets": in_order} for model in MODELS}
    return gateway(upstreams, workers=2, models=MODELS, asked_as=asked_as)


def _round(ours: RunningGateway, model: str) -> Round:
    return Round(
        *(ours.url, OURS, model),
        n=0,
        rate=RPS,
        concurrency=CONNECTIONS,
        prompt=PROMPT,
        in_turn=EPISODES,
        episodes=model,
    )


def _outage(
    mocks: Sequence[Mock],
    go: Callable[[Mock], None],
    come: Callable[[Mock], None],
    outage_s: float,
) -> list[Outage]:
    """Take the mocks away at the same time and let them come back at the same time."""

    def back(mock: Mock) -> float:
        come(mock)
        return time.time()

    began_s = time.time()
    for mock in mocks:
        go(mock)
    time.sleep(outage_s)
    lifted_s = time.time()
    with ThreadPoolExecutor() as pool:
        return [Outage(began_s, lifted_s, back_s) for back_s in pool.map(back, mocks)]


def _replies(found: Answered) -> Iterator[Reply]:
    columns = (found.due_s, found.latency_ms, found.status, found.models, found.retry_after)
    for row in zip(*columns, strict=True):
        yield Reply(*row)


def two_upstreams(name: str, course: Course, stays: Sequence[Reply]) -> list[Figure]:
    """Return what is seen of an outage where another upstream is there.

    Args:
        name: what befell the first one.
        course: of the requests that go to both.
        stays: replies to requests that go to the other one only, at the time of the aware ones.
    """
    everything = (*course.before, *course.unaware, *course.aware, *course.after)
    failed = dict(Counter(reply.status for reply in everything if reply.status != OK))
    return [
        Figure(
            f"an upstream of two {name}: first requests, longest",
            max(reply.latency_ms for reply in course.unaware),
            "ms",
            at_most=1000 * TIMEOUT_S + EXTRA_MS,
            detail={
                "time-out, ms": 1000 * TIMEOUT_S,
                "requests due until it could be known": len(course.unaware),
                "of them waited": sum(r.latency_ms > 1000 * TIMEOUT_S / 2 for r in course.unaware),
            },
        ),
        Figure(
            f"an upstream of two {name}: later requests, p99 over p99 before",
            course.extra_ms(0.99),
            "ms",
            at_most=EXTRA_MS,
            detail=_latencies(course),
        ),
        Figure(
            f"an upstream of two {name}: later requests, p99 over that of the second's own",
            _quantile(course.aware, 0.99) - _quantile(stays, 0.99),
            "ms",
            at_most=EXTRA_MS,
            detail={"its p50, ms": _quantile(stays, 0.5), "its p99, ms": _quantile(stays, 0.99)},
        ),
        Figure(
            f"an upstream of two {name}: used again after its return",
            course.recovery_s(lambda reply: reply.model in MODELS),
            "s",
            at_most=COOLDOWN_S,
            detail={"answered by": dict(Counter(reply.model for reply in everything))},
        ),
        Figure(
            f"an upstream of two {name}: failed requests",
            float(sum(failed.values())),
            "requests",
            at_most=0,
            detail={"asked": len(everything), "failed": failed},
        ),
    ]


def one_upstream(name: str, course: Course) -> list[Figure]:
    """Return what is seen of an outage where nobody else is there."""
    told = [reply for reply in course.aware if reply.status == UNAVAILABLE and reply.says_when]
    return [
        Figure(
            f"the only upstream {name}: later requests told so at once, with 503 and when to retry",
            len(told) / len(course.aware),
            "",
            at_least=1.0,
            detail={
                "first": dict(Counter(reply.status for reply in course.unaware)),
                "later": dict(Counter(reply.status for reply in course.aware)),
            },
        ),
        Figure(
            f"the only upstream {name}: later requests, p99",
            _quantile(course.aware, 0.99),
            "ms",
            at_most=EXTRA_MS,
            detail=_latencies(course),
        ),
        Figure(
            f"the only upstream {name}: used again after its return",
            course.recovery_s(lambda reply: reply.status == OK),
            "s",
            at_most=COOLDOWN_S,
        ),
    ]


def _latencies(course: Course) -> dict[str, float]:
    return {
        f"{part}, {said}, ms": _quantile(replies, share)
        for part, replies in (("before", course.before), ("later", course.aware))
        for said, share in (("p50", 0.5), ("p99", 0.99), ("longest", 1.0))
    }


def _recorded(ours: RunningGateway, replies: Sequence[Reply], n_second: int) -> list[Figure]:
    """Compare what was seen with what the log and the experiment know of it."""
    n_asked = len(replies) + len(MODELS_ASKED) * WARM
    with suppress(RuntimeError):
        ours.wait_stored(n_asked, timeout_s=60.0)
    [(n_fallbacks,)] = ours.query("SELECT coalesce(sum(n_fallbacks), 0) FROM assignment")
    return [
        Figure(
            "outages: rows per request, the refused ones too",
            ours.count() / n_asked,
            "",
            at_least=1.0,
            at_most=1.0,
            detail={"requests": n_asked, "rows": ours.count()},
        ),
        Figure(
            "outages: fallbacks that count for the arm that was assigned",
            int(n_fallbacks) / n_second,
            "",
            at_least=1.0,
            at_most=1.0,
            detail={"answered by the second": n_second, "counted": int(n_fallbacks)},
        ),
    ]
