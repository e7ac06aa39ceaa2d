"""The forwarder: gets a call answered by whoever can, and keeps the books on who could.

Routes are asked in their order, healthy ones first by weight. A failure before the first byte goes
on to the next route at once, which is free: there are only so many. The same server is asked again
only within `retries`, within the process's budget, and never after it kept us waiting for the
whole time-out. Once a byte has left for the caller there is no other try. Circuits that open are
closed by probes of ours, so that no caller pays for finding out.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

import aiohttp

from router import http1
from router.faults import UNREACHABLE
from router.lanes import Opened, UpstreamFailed
from router.roster import Target
from router.upstreams.config import CallRules, GatewayConfig
from router.upstreams.health import TRYING, UP, Circuit, Health
from router.upstreams.probe import is_back
from router.upstreams.retry import (
    TOO_MANY,
    RetryBudget,
    backoff_s,
    is_failure,
    is_retryable,
    retry_after_s,
)
from router.upstreams.routes import Route, choose, routes_to
from router.upstreams.server import ANSWER_S, LITELLM, Upstream

TIMEOUT = "upstream_timeout"
"""Error type of a server from which nothing came in time."""
UNWANTED_S = 300.0
"""Seconds without a call after which a server that is down is no longer probed; the next call is
the probe then."""
LONGEST_LIMITED_S = 60.0
"""Longest time that a server which has too many calls is asked last."""

R = TypeVar("R")
"""A request as the sender understands it; the forwarder only hands it on."""

Send = Callable[[Target, R], Awaitable[Opened]]
"""Opens the answer of one target, with the target's time-outs; raises UpstreamFailed."""


class Tried(Protocol):
    """What a call is told about how it was answered."""

    attempts: list[dict[str, Any]]
    """One entry an attempt: upstream, model, ms, and `status` or `error`."""
    fallback_of: str | None
    """The version or model that was assigned, if another one answered in its stead."""
    answered_by: Target | None


class NobodyAnswers(UpstreamFailed):
    """Whoever could answer is known to be down, and was not asked; says when to come back."""

    def __init__(self, model: str, kind: str, retry_after: float) -> None:
        self.retry_after_s = max(1, round(retry_after + 0.5))
        detail = f"known to be down, looked at again within {self.retry_after_s} s"
        super().__init__(model, kind, detail, 503)

    @property
    def headers(self) -> dict[str, str]:
        """What the caller is told in the answer's headers."""
        return {"retry-after": str(self.retry_after_s)}


@dataclass(frozen=True)
class _Failed:
    """An attempt that failed before its first byte: with an answer that says so, or without."""

    route: Route
    error: UpstreamFailed | None = None
    opened: Opened | None = None
    wait_s: float | None = None
    is_silence: bool = False
    is_final: bool = False

    def given_up(self) -> Opened:
        """Return the answer as it is, or raise why there is none."""
        if self.opened is not None:
            return self.opened
        assert self.error is not None
        raise self.error

    async def drop(self) -> None:
        """Let go of the answer: there will be another."""
        if self.opened is not None:
            await self.opened.aclose()


@dataclass
class _Run(Generic[R]):
    """One call on its way: what it asks, and whom it has not asked yet."""

    call: Tried
    request: R
    rules: CallRules
    routes: tuple[Route, ...]
    fresh: list[Route]
    failed: list[_Failed] = field(default_factory=list)
    retries: int = 0


@dataclass
class Counts:
    """What a process's forwarder did since it started."""

    calls: int = 0
    retries: int = 0
    fallbacks: int = 0
    hedges: int = 0
    hedges_won: int = 0
    refused: int = 0
    over_budget: int = 0


class Forwarder(Generic[R]):
    """Opens answers; one a gateway process, used by its event loop alone."""

    def __init__(
        self,
        send: Send[R],
        config: GatewayConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.config, self.counts, self.clock = config, Counts(), clock
        self.health = Health(config.defaults, clock)
        self._send, self._rng = send, rng or random.Random()
        self._budget = self._new_budget()
        self._looking: dict[Circuit, asyncio.Task[None]] = {}

    def use(self, config: GatewayConfig) -> None:
        """Go on by another configuration; what is known of servers that stay is kept."""
        changed = config.defaults != self.config.defaults
        self.config, self.health.defaults = config, config.defaults
        if changed:
            self._budget = self._new_budget()

    def _new_budget(self) -> RetryBudget:
        defaults = self.config.defaults
        return RetryBudget(defaults.retry_share, defaults.retries_per_s, self.clock)

    async def aclose(self) -> None:
        """Stop looking after servers that are down."""
        looking = list(self._looking.values())
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)

    def state(self) -> dict[str, Any]:
        """Return the health of all that was asked, and the counts, as plain values."""
        return {"upstreams": list(self.health.rows()), "counts": dict(vars(self.counts))}

    async def open(self, call: Tried, target: Target, rules: CallRules, request: R) -> Opened:
        """Return the answer to a call, its first byte there already.

        An answer of status 400 and more is returned too: the caller's fault at once, a server's
        when nobody else is left.

        Args:
            call: is told what was tried, in place.
            target: who was chosen.
            rules: how it is asked, of `GatewayConfig.rules_for`.
            request: what the sender sends.

        Raises:
            NobodyAnswers: all who could are known to be down.
            UpstreamFailed: no answer of any.
        """
        self.counts.calls += 1
        self._budget.count_call()
        routes = routes_to(target, rules, self.config)
        run = _Run(call, request, rules, routes, list(routes))
        while True:
            route = self._next(run)
            if route is None:
                if await self._asks_again(run):
                    continue
                return self._give_up(run)
            if run.failed:
                await run.failed[-1].drop()
            answer = await self._ask(run, route)
            if not isinstance(answer, _Failed):
                return self._answered(run, target, answer)
            run.failed.append(answer)
            if answer.is_final:
                return answer.given_up()

    def _next(self, run: _Run[R]) -> Route | None:
        """Take the route to ask now: up, not asked yet, of the lowest order, by weight."""
        ready = [route for route in run.fresh if self._admits(route)]
        if len(ready) > 1:
            ready = [route for route in ready if not self._is_limited(route)] or ready
        route = choose(ready, self._rng)
        if route is not None:
            run.fresh.remove(route)
            for circuit in self._down(route):
                circuit.try_now(self.clock())
        return route

    def _admits(self, route: Route) -> bool:
        """Return whether a route may be asked: it is up, or a trial of it is due and no probe's."""
        now = self.clock()
        down = self._down(route)
        for circuit in down:
            circuit.wanted_at = now
        return all(one not in self._looking and one.is_due(now) for one in down)

    def _is_limited(self, route: Route) -> bool:
        circuits = self.health.of(route.target.upstream, route.target.model)
        return circuits[-1].limited_until > self.clock()

    def _answered(self, run: _Run[R], target: Target, answer: "_Answer") -> Opened:
        run.call.answered_by = answer.route.target
        if answer.route.order > run.routes[0].order:
            run.call.fallback_of = target.version_name or target.model
            self.counts.fallbacks += 1
        return answer.opened

    def _give_up(self, run: _Run[R]) -> Opened:
        """Return or raise the last failure; without any, nobody was worth asking."""
        if run.failed:
            return run.failed[-1].given_up()
        self.counts.refused += 1
        down = [circuit for route in run.routes for circuit in self._down(route)]
        wait = min((self.health.wait_s(one) for one in down), default=1.0)
        kind = next((one.last_failure for one in down if one.last_failure), UNREACHABLE)
        raise NobodyAnswers(run.routes[0].target.model, kind, wait)

    def _down(self, route: Route) -> list[Circuit]:
        circuits = self.health.of(route.target.upstream, route.target.model)
        return [one for one in circuits if one.state != UP]

    async def _asks_again(self, run: _Run[R]) -> bool:
        """Return whether those who failed may be asked once more, when it is time to."""
        last = {failed.route: failed for failed in run.failed}
        again = [failed for failed in last.values() if self._is_worth_asking_again(failed)]
        if not again or run.retries >= run.rules.retries:
            return False
        backoff = backoff_s(run.retries, self._rng)
        wait = min(backoff if one.wait_s is None else one.wait_s for one in again)
        if wait > self.config.defaults.max_wait_s:
            return False
        if not self._may_spend():
            return False
        run.retries += 1
        self.counts.retries += 1
        run.fresh = [failed.route for failed in again]
        await asyncio.sleep(wait)
        return True

    def _may_spend(self) -> bool:
        """Take one more request than there are calls out of the budget, if it has one left."""
        may = self._budget.take()
        self.counts.over_budget += not may
        return may

    def _is_worth_asking_again(self, failed: _Failed) -> bool:
        return not failed.is_silence and not self._down(failed.route)

    async def _ask(self, run: _Run[R], route: Route) -> "_Answer | _Failed":
        after_s = run.rules.hedge_after_s
        if after_s is None:
            return await self._attempt(run, route)
        return await self._hedged(run, route, after_s)

    async def _hedged(self, run: _Run[R], route: Route, after_s: float) -> "_Answer | _Failed":
        """Ask one, and another beside it when nothing has come after a while; the first wins."""
        asked = [asyncio.create_task(self._attempt(run, route))]
        taken: _Answer | _Failed | None = None
        try:
            await asyncio.wait(asked, timeout=after_s)
            if not asked[0].done() and self._may_spend():
                self.counts.hedges += 1
                second = self._next(run) or route
                asked.append(asyncio.create_task(self._attempt(run, second, is_hedge=True)))
            taken = await _first_good(asked)
            self.counts.hedges_won += len(asked) > 1 and taken is _result(asked[1])
            return taken
        finally:
            await _let_go(asked, taken)

    async def _attempt(
        self, run: _Run[R], route: Route, *, is_hedge: bool = False
    ) -> "_Answer | _Failed":
        """Ask one route; returns when its first byte is there, or it failed."""
        target = route.target
        started = self.clock()
        circuits = self.health.of(target.upstream, target.model)
        trials = [circuit for circuit in circuits if circuit.state == TRYING]
        for circuit in circuits:
            circuit.n_calls += 1
        note: dict[str, Any] = {"upstream": _name(target.upstream), "model": target.model}
        if is_hedge:
            note["hedge"] = True
        run.call.attempts.append(note)
        opened = None
        try:
            limit_s = target.upstream.answer_timeout_s if target.upstream else ANSWER_S
            async with asyncio.timeout(limit_s):
                opened = await self._send(target, run.request)
                if is_retryable(opened.status):
                    failed = self._refused(route, opened, circuits, started)
                    note["status"] = opened.status
                    return failed
                first = await anext(opened.body, None)
        except TimeoutError:
            error = UpstreamFailed(target.model, TIMEOUT, f"{limit_s:g} s", 504)
            failed = await self._without_answer(route, error, opened, circuits, started)
        except UpstreamFailed as error:
            failed = await self._without_answer(route, error, opened, circuits, started)
        except BaseException:  # the caller left, or the other of a hedge was faster
            note["error"] = "cancelled"
            for trial in trials:
                trial.give_back()
            if opened is not None:
                await opened.aclose()
            raise
        else:
            note["status"] = opened.status
            *servers, own = circuits
            own.begun(self.clock(), started)
            self._heard_of(servers)
            body = _Body(first, opened.body, self, target, own)
            return _Answer(route, replace(opened, body=body))
        finally:
            note["ms"] = round((self.clock() - started) * 1000, 1)
        for trial in trials:
            trial.give_back()
        assert failed.error is not None
        note["error"] = failed.error.kind
        return failed

    def _refused(
        self, route: Route, opened: Opened, circuits: Sequence[Circuit], started: float
    ) -> _Failed:
        """Note an answer that says "ask again, or somebody else"."""
        *servers, own = circuits
        self._heard_of(servers)
        wait = retry_after_s(opened.headers)
        if opened.status == TOO_MANY:
            own.heard(self.clock())
            own.limited_until = self.clock() + min(wait or 0.0, LONGEST_LIMITED_S)
        elif is_failure(opened.status):
            self._note_failure(route.target, own, f"http_{opened.status}", started)
        return _Failed(route, opened=opened, wait_s=wait)

    async def _without_answer(
        self,
        route: Route,
        error: UpstreamFailed,
        opened: Opened | None,
        circuits: Sequence[Circuit],
        started: float,
    ) -> _Failed:
        """Note a call that nobody answered, or that a provider refused."""
        if opened is not None:
            await opened.aclose()
        if not is_retryable(error.status):
            self._heard_of(circuits)
            return _Failed(route, error, is_final=True)
        is_silence = error.kind == TIMEOUT or _nobody_there(error)
        circuit = circuits[0] if _nobody_there(error) else circuits[-1]
        if is_failure(error.status):
            self._note_failure(route.target, circuit, error.kind, started, is_silence)
        return _Failed(route, error, is_silence=is_silence)

    def _heard_of(self, circuits: Sequence[Circuit]) -> None:
        for circuit in circuits:
            circuit.heard(self.clock())
            circuit.ended()

    def _note_failure(
        self, target: Target, circuit: Circuit, kind: str, started: float, is_silence: bool = False
    ) -> None:
        if self.health.note_failure(circuit, kind, started, is_silence=is_silence):
            circuit.wanted_at = self.clock()
            self._look_after(circuit, target)

    def blame(self, target: Target, kind: str) -> None:
        """Note that an answer of `target` could not be used after all, as one that is no JSON."""
        circuit = self.health.of(target.upstream, target.model)[-1]
        self._note_failure(target, circuit, kind, self.clock())

    def _look_after(self, circuit: Circuit, target: Target) -> None:
        """Have a circuit that is down closed when its server is back; one task a circuit."""
        if target.upstream is None or circuit in self._looking:
            return
        task = asyncio.create_task(self._look(circuit, target.upstream))
        self._looking[circuit] = task
        task.add_done_callback(lambda _: self._looking.pop(circuit, None))

    async def _look(self, circuit: Circuit, upstream: Upstream) -> None:
        model = circuit.key[2]
        try:
            while circuit.state != UP and self.clock() - circuit.wanted_at < UNWANTED_S:
                await asyncio.sleep(max(0.01, circuit.look_at - self.clock()))
                started, longest_s = self.clock(), self.config.defaults.cooldown_s
                if not circuit.try_now(started):
                    continue
                if await is_back(upstream, model, longest_s):
                    circuit.back()
                elif circuit.state != UP:
                    circuit.looked_in_vain(started, longest_s)
        finally:
            circuit.give_back()


@dataclass(frozen=True)
class _Answer:
    """An answer whose first byte is there."""

    route: Route
    opened: Opened


class _Body:
    """The bytes of an answer as they come; tells the circuit how they ended."""

    def __init__(
        self,
        first: bytes | None,
        rest: AsyncIterator[bytes],
        forwarder: Forwarder[Any],
        target: Target,
        circuit: Circuit,
    ) -> None:
        self._first, self._rest, self._forwarder = first, rest, forwarder
        self._target, self._circuit = target, circuit

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            piece, self._first = self._first, None
            return piece
        try:
            return await self._rest.__anext__()
        except StopAsyncIteration:
            self._circuit.ended()
            raise
        except UpstreamFailed as error:
            self._forwarder.blame(self._target, error.kind)
            raise


_Attempts = Sequence["asyncio.Task[_Answer | _Failed]"]


async def _first_good(asked: _Attempts) -> _Answer | _Failed:
    """Return the first answer of those asked at the same time, or the failure that came last."""
    waiting = set(asked)
    while True:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        came = [task.result() for task in asked if task in done]
        good = [one for one in came if isinstance(one, _Answer)]
        if good or not waiting:
            return good[0] if good else came[-1]


def _result(task: "asyncio.Task[_Answer | _Failed]") -> _Answer | _Failed | None:
    return task.result() if task.done() else None


async def _let_go(asked: _Attempts, taken: _Answer | _Failed | None) -> None:
    """End the attempts that were not taken, and close what they had opened."""
    for task in asked:
        task.cancel()
    for ended in await asyncio.gather(*asked, return_exceptions=True):
        opened = ended.opened if isinstance(ended, _Answer | _Failed) else None
        if opened is not None and ended is not taken:
            await opened.aclose()


def _nobody_there(error: UpstreamFailed) -> bool:
    """Return whether not even a connection was made."""
    cause = error.__cause__
    if isinstance(cause, http1.Unreachable):
        return isinstance(cause.__cause__, OSError)
    return isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


def _name(upstream: Upstream | None) -> str:
    return upstream.name if upstream else LITELLM
