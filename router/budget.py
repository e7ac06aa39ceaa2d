"""Budgets: reserved before a call, settled after it, and never passed, over all gateway processes.

Each process holds leases: parts of every window that its callers share (`router.leases`). A call is
taken from them in memory. Only what a lease lacks is asked for in PostgreSQL, for all calls that
wait together. While the database is away what is leased may still be spent; then calls are refused,
and told why. The number of calls that run at once changes nothing: what they may take is promised
before they start.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from typing import ClassVar, Final
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from foundation.database import session_scope
from foundation.errors import FlywheelError
from foundation.ids import new_id
from foundation.prices import price_of
from foundation.settings import get_settings
from router.keys import Caller
from router.leases import LEASE_S, SHARE, Exchange, Lease, Report, exchange, lapse, leave
from router.limits import Limiter, LimitReached
from router.windows import (
    ALL,
    COST_USD_PER_MONTH,
    DEFAULTS,
    TOKENS_PER_DAY,
    as_said,
    key_scope,
    window_end,
    window_start,
)

log = logging.getLogger(__name__)

SYNC_S: Final = 1.0
"""Seconds between the reports of a process that spends."""
READ_S: Final = 5.0
"""Seconds after which the limits are looked at again without any report."""
IDLE_S: Final = 60.0
"""Seconds without a call after which a process gives a lease back."""
AHEAD_S: Final = 600.0
"""Seconds of its present use that a process would like to hold, should the database go away."""
PATIENCE_S: Final = 5.0
"""Seconds that a call waits for the database."""
ASK_AGAIN_S: Final = 0.25
"""Seconds that a budget which was just found too small is not asked again."""
LAPSE_EVERY_S: Final = 30.0
MAX_EXCESS: Final = 4.0
"""How much more than its estimate a call may be made to reserve after others were too low."""


class OverBudget(LimitReached):
    """A call could pass a budget."""

    code: ClassVar[str] = "budget_exceeded"
    kind: ClassVar[str] = "insufficient_quota"

    def __init__(self, account: "Account", who: str, amount: float, clock_s: float) -> None:
        lease, measure = account.lease, account.measure
        self.scope, self.measure, self.limit = who, measure, lease.limit
        self.resets_at = window_end(measure, account.starts_at)
        used = lease.used + account.spent
        self.is_final = used + amount > lease.limit
        """Whether it would not fit even after all running calls have ended."""
        promised = max(0.0, lease.leased - account.free() - account.spent)
        remedy = (
            f"The budget is new at {self.resets_at:%Y-%m-%d %H:%M} UTC."
            if self.is_final
            else "Ask again when some of them have ended."
        )
        super().__init__(
            f"budget {who}, {measure}: {as_said(measure, used)} used and "
            f"{as_said(measure, promised)} promised to running calls of "
            f"{as_said(measure, lease.limit)}; this call may take {as_said(measure, amount)}. "
            f"{remedy}",
            self.resets_at.timestamp() - clock_s if self.is_final else 1.0,
        )

    def headers(self) -> dict[str, str]:
        """Say when to ask again; who would do so by itself is told not to before the reset."""
        told = {
            **super().headers(),
            "x-flywheel-budget": f"{self.scope} {self.measure}".encode("ascii", "replace").decode(),
            "x-flywheel-budget-reset": f"{self.resets_at:%Y-%m-%dT%H:%M:%SZ}",
        }
        return {**told, "x-should-retry": "false"} if self.is_final else told


class BudgetUnknown(LimitReached):
    """What is left of a budget cannot be asked, and what this process held of it is spent."""

    http_status = 503
    code: ClassVar[str] = "budget_unavailable"
    kind: ClassVar[str] = "server_error"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"budgets: the database does not answer ({reason}), and what this process held of the "
            f"budget is spent. Ask again in {ceil(PATIENCE_S)} s.",
            PATIENCE_S,
        )


@dataclass(slots=True)
class Account:
    """What this process holds of one window; its numbers change on the event loop only.

    `held` is divided into what running calls reserved, what ended calls spent since the last
    report, and what is free.
    """

    scope: str
    measure: str
    starts_at: datetime
    lease_id: UUID = field(default_factory=new_id)
    held: float = 0.0
    reserved: float = 0.0
    spent: float = 0.0
    back: float = 0.0
    """Taken off `held` to be given back, not yet known to have arrived."""
    waiting: list[float] = field(default_factory=list)
    unsure: dict[datetime, tuple[float, float]] = field(default_factory=dict)
    lease: Lease = field(default_factory=lambda: Lease(0.0, 0.0, 0.0, 0.0))
    """As it was at the last report that was answered."""
    pace: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=60))
    """When it reported, and what was spent."""
    largest: float = 0.0
    used_s: float = 0.0
    reported_s: float = 0.0

    def free(self) -> float:
        """Return what the next call may take."""
        return self.held - self.reserved - self.spent

    def wish(self, now_s: float, is_over: bool) -> float:
        """Return how much should be free here: ten minutes of the present pace, and fair to others.

        Nothing where the window is over, where nobody called for long, or where what is left is too
        little to be held by one of several processes.
        """
        if is_over or now_s - self.used_s > IDLE_S:
            return 0.0
        began = self.pace[0][0] if self.pace else now_s
        pace = sum(spent for _, spent in self.pace) / max(now_s - began, SYNC_S)
        fair = (max(0.0, self.lease.room) + max(0.0, self.free())) / SHARE
        wished = min(max(AHEAD_S * pace, SHARE * self.largest), fair)
        return wished if wished >= self.largest else 0.0

    def is_due(self, now_s: float, is_over: bool) -> bool:
        """Say whether there is something to report or to ask for."""
        if self.waiting or self.spent > 0 or self.back > 0 or self.unsure:
            return True
        free, wished = self.free(), self.wish(now_s, is_over)
        if free > 2 * wished or (free < wished / 2 and self.lease.room > 0):
            return True
        return self.held > 0 and now_s - self.reported_s > LEASE_S / 3

    def report(self, now_s: float, is_over: bool) -> Report:
        """Return what to say now; what is free in plenty is given back from this moment on."""
        free, wished = self.free(), self.wish(now_s, is_over)
        if not self.waiting and free > 2 * wished:
            self.held -= free - wished
            self.back += free - wished
        return Report(
            self.scope,
            self.measure,
            self.starts_at,
            self.lease_id,
            self.spent,
            self.back,
            self.reserved,
            needed=max(0.0, sum(self.waiting) - max(0.0, free)) if self.waiting else 0.0,
            least=max(0.0, min(self.waiting) - max(0.0, free)) if self.waiting else 0.0,
            ahead=max(0.0, wished - self.free()),
            unsure=dict(self.unsure),
        )

    def answered(self, report: Report, lease: Lease, now_s: float) -> None:
        """Take the answer to a report; calls may have come and gone since it was made."""
        self.held, self.lease = lease.held, lease
        self.spent -= report.spent
        self.back -= report.back
        self.unsure.clear()
        self.pace.append((now_s, report.spent))
        self.reported_s = now_s

    def unanswered(self, report: Report) -> None:
        """Remember a report of which nobody knows whether it arrived."""
        if report.stamp is not None:
            self.unsure[report.stamp] = (report.spent, report.back)


@dataclass(slots=True)
class Reservation:
    """What one call may take of every budget it counts for; settle or release it, once."""

    budgets: "Budgets"
    caller: Caller
    role: str
    parts: Sequence[tuple[Account, float]]
    tokens: int
    """As estimated by the caller of `reserve`."""
    reserved_tokens: int
    """With what earlier estimates of the role were too low by."""
    entered_s: float
    is_open: bool = True

    def settle(
        self, input_tokens: int | None, output_tokens: int | None, cost_usd: float | None
    ) -> None:
        """Count what the call took; None counts as it was reserved. Again, it changes nothing."""
        if input_tokens is None or output_tokens is None:
            self._end(self.reserved_tokens, cost_usd)
            return
        tokens = input_tokens + output_tokens
        if self.is_open:
            self.budgets.learn(self.role, self.tokens, tokens)
        self._end(tokens, cost_usd)

    def release(self) -> None:
        """Count nothing: the call was not made, or took nothing."""
        self._end(0, 0.0)

    def _end(self, tokens: int, cost_usd: float | None) -> None:
        if not self.is_open:
            return
        self.is_open = False
        for account, amount in self.parts:
            account.reserved -= amount
            if account.measure == TOKENS_PER_DAY:
                account.spent += tokens
            else:
                account.spent += amount if cost_usd is None else cost_usd
        self.budgets.limiter.leave(self.caller, self.reserved_tokens, tokens, self.entered_s)


class Budgets:
    """The budgets and rate limits as one gateway process sees them; for one event loop."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.process_id = new_id()
        self.limiter = Limiter()
        self._clock = clock
        self._accounts: dict[tuple[str, str, datetime], Account] = {}
        self._shared: dict[tuple[UUID | None, str, str | None], tuple[list[Account], ...]] = {}
        self._shared_until = 0.0
        self._limited_projects: frozenset[str] = frozenset()
        self._own_project = get_settings().project
        self._excess: dict[str, float] = {}
        self._running: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._fault: str | None = None
        self._is_closing = False
        self._read_s = self._fault_s = self._lapsed_s = 0.0

    async def start(self) -> None:
        """Read the limits and begin to report; a database that is away is tried again."""
        await asyncio.to_thread(price_of, "gpt-4o")  # reads the price list: tens of milliseconds
        await self._sync()
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Report what was spent and give everything back."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        for under_way in (self._running, self._next):
            if under_way is not None:
                await asyncio.wait([under_way])
        self._is_closing = True
        await self._sync()
        await asyncio.to_thread(_leave, self.process_id)

    async def reserve(
        self, caller: Caller, role: str, project: str | None, tokens: int, cost_usd: float
    ) -> Reservation:
        """Promise a call what it may take, of the budgets of its key, role, project and all.

        Args:
            caller: who calls; a key's rate limits are asked first.
            role: on whose behalf.
            project: of the call, None: `FLYWHEEL_PROJECT`; it has a budget only if one was set.
            tokens: that it may take, prompt and answer (`router.estimates`).
            cost_usd: that it may cost; 0 where the model has no price: then no budget of money is
                asked.

        Raises:
            RateLimited: the key is used too fast.
            OverBudget: the call could pass a budget.
            BudgetUnknown: the database is away and the leases are spent.
        """
        entered_s = time.monotonic()
        excess = self._excess.get(role, 1.0)
        wanted = ceil(tokens * excess)
        self.limiter.enter(caller, wanted, entered_s)
        try:
            parts = self._parts(caller, role, project, wanted, cost_usd * excess)
            for account, amount in parts:
                if account.free() < amount:
                    await self._fetch(parts, caller)
                    break
        except BaseException:
            self.limiter.leave(caller, wanted, 0, entered_s)
            raise
        for account, amount in parts:
            account.reserved += amount
            account.used_s = entered_s
            if amount > account.largest:
                account.largest = amount
        return Reservation(self, caller, role, parts, tokens, wanted, entered_s)

    def learn(self, role: str, estimated: int, tokens: int) -> None:
        """Let an estimate that was too low raise the next ones of the role, less with each call."""
        excess = self._excess.get(role, 1.0)
        if tokens > estimated > 0:
            self._excess[role] = min(MAX_EXCESS, max(excess, tokens / estimated))
        elif excess > 1.0:
            self._excess[role] = 1.0 + (excess - 1.0) * 0.99

    def _parts(
        self, caller: Caller, role: str, project: str | None, tokens: int, cost_usd: float
    ) -> list[tuple[Account, float]]:
        """Return the accounts of a call with what it may take of each."""
        moment_s = self._clock()
        if moment_s >= self._shared_until:
            self._shared.clear()
            today = window_start(TOKENS_PER_DAY, datetime.fromtimestamp(moment_s, UTC))
            self._shared_until = window_end(TOKENS_PER_DAY, today).timestamp()
        project = project or self._own_project
        place = (caller.key_id, role, project if project in self._limited_projects else None)
        shared = self._shared.get(place)
        if shared is None:
            moment = datetime.fromtimestamp(moment_s, UTC)
            scopes = [ALL, f"role:{role}"]
            scopes += [key_scope(caller.key_id)] if caller.key_id else []
            scopes += [f"project:{place[2]}"] if place[2] is not None else []
            shared = self._shared[place] = tuple(
                [self._account(scope, measure, window_start(measure, moment)) for scope in scopes]
                for measure in (TOKENS_PER_DAY, COST_USD_PER_MONTH)
            )
        parts = [(account, float(tokens)) for account in shared[0]]
        if cost_usd > 0:
            parts += [(account, cost_usd) for account in shared[1]]
        return parts

    def _account(self, scope: str, measure: str, starts_at: datetime) -> Account:
        key = (scope, measure, starts_at)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(scope, measure, starts_at)
            account.lease = Lease(0.0, DEFAULTS[measure], 0.0, 0.0)
        return account

    async def _fetch(self, parts: Sequence[tuple[Account, float]], caller: Caller) -> None:
        """Ask the database until every account has what it needs; raises as `reserve`."""
        while short := [(a, amount) for a, amount in parts if a.free() < amount]:
            self._refuse(short, caller, ASK_AGAIN_S)
            for account, amount in short:
                account.waiting.append(amount)
                account.largest = max(account.largest, amount)
                account.used_s = time.monotonic()
            try:
                await asyncio.wait_for(self._synced(), PATIENCE_S)
            except TimeoutError:
                raise BudgetUnknown("no answer in time") from None
            finally:
                for account, amount in short:
                    account.waiting.remove(amount)
            if self._fault is not None:
                raise BudgetUnknown(self._fault)
            self._refuse(short, caller, PATIENCE_S)

    def _refuse(
        self, short: Sequence[tuple[Account, float]], caller: Caller, fresh_s: float
    ) -> None:
        """Raise OverBudget if one of the accounts cannot get enough, as of `fresh_s` ago."""
        since_s = time.monotonic() - fresh_s
        for account, amount in short:
            lacking = amount - account.free()
            if lacking > 0 and account.lease.room < lacking and account.reported_s > since_s:
                who = f"key:{caller.name}" if account.scope.startswith("key:") else account.scope
                raise OverBudget(account, who, amount, self._clock())

    async def _synced(self) -> None:
        """Return after a report that was made after this was called: all who wait share it."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._sync_after(self._running))
        await asyncio.shield(self._next)

    async def _sync_after(self, running: asyncio.Future[None] | None) -> None:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        await self._sync()

    async def _sync(self) -> None:
        """Report what is due and take the answers; what the database does not hear stays here."""
        now_s, moment_s = time.monotonic(), self._clock()
        due = sorted(
            (key, account)
            for key, account in self._accounts.items()
            if account.is_due(now_s, self._is_over(account, moment_s))
        )
        if not due and now_s - self._read_s < READ_S:
            return
        reports = [account.report(now_s, self._is_over(account, moment_s)) for _, account in due]
        try:
            answer = await asyncio.to_thread(self._exchange, reports)
        except (SQLAlchemyError, FlywheelError) as error:
            self._noted_fault(str(error).partition("\n")[0])
            for (_, account), report in zip(due, reports, strict=True):
                account.unanswered(report)
            return
        if self._fault is not None:
            log.info("budgets are counted again")
        self._fault, self._read_s = None, now_s
        for (_, account), report, lease in zip(due, reports, answer.leases, strict=True):
            account.answered(report, lease, now_s)
        self._see(answer)
        self._forget(now_s, moment_s)

    def _exchange(self, reports: Sequence[Report]) -> Exchange:
        with session_scope() as session:
            return exchange(session, self.process_id, reports)

    def _see(self, answer: Exchange) -> None:
        self.limiter.n_processes = answer.n_processes
        if answer.projects != self._limited_projects:
            self._limited_projects = answer.projects
            self._shared.clear()

    def _forget(self, now_s: float, moment_s: float) -> None:
        """Let go of accounts that hold nothing and that nobody used for long."""
        for key, account in list(self._accounts.items()):
            is_old = now_s - account.used_s > IDLE_S or self._is_over(account, moment_s)
            empty = account.held <= 0 and account.reserved <= 0 and account.spent <= 0
            if is_old and empty and not (account.waiting or account.back or account.unsure):
                del self._accounts[key]
                self._shared.clear()

    def _is_over(self, account: Account, moment_s: float) -> bool:
        return (
            self._is_closing
            or moment_s >= window_end(account.measure, account.starts_at).timestamp()
        )

    def _noted_fault(self, reason: str) -> None:
        if self._fault is None:
            log.warning("budgets: the database is away, what is leased may be spent: %s", reason)
        self._fault, self._fault_s = reason, time.monotonic()

    async def _keep(self) -> None:
        """Report about once a second, for ever, and end the leases of those that do no more."""
        while True:
            await asyncio.sleep(SYNC_S)
            await self._synced()
            now_s = time.monotonic()
            # After an outage all processes look dead at first: they are given time to report.
            settled = self._fault is None and now_s - self._fault_s > LEASE_S
            if settled and now_s - self._lapsed_s > LAPSE_EVERY_S:
                self._lapsed_s = now_s
                await asyncio.to_thread(_lapse)


def _leave(process_id: UUID) -> None:
    with suppress(SQLAlchemyError, FlywheelError), session_scope() as session:
        leave(session, process_id)


def _lapse() -> None:
    try:
        with session_scope() as session:
            n_lapsed = lapse(session)
    except (SQLAlchemyError, FlywheelError) as error:
        log.warning("leases of killed processes stay for now: %s", error)
        return
    if n_lapsed:
        log.info("ended %d leases of processes that were killed", n_lapsed)
