"""The switchboard: who answers a call, from pictures in memory that are renewed twice a second.

One gateway process has one. Work on the database is done in threads, and never for a call whose
unit is known already; while the database is away the last pictures stay.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from foundation import tracing
from foundation.database import session_scope
from foundation.errors import FlywheelError, NotFound
from router import keys, processes
from router import roster as rosters
from router.access import may_join_experiment, refusal, require_callable
from router.arms import Arms
from router.assign import unit_of
from router.budget import Budgets
from router.cache import ResponseCache
from router.call import Call
from router.dialects import Asked
from router.keys import Caller, Keyring, unread_keyring
from router.lanes import Client, Opened, open_answer
from router.promote import require_role
from router.recording import Recorder
from router.roster import LiveExperiment, Roster, Target
from router.shadow import Shadows
from router.specialist.features import features_of
from router.specialist.rules import NONE
from router.upstreams.config import GatewayConfig
from router.upstreams.forward import Forwarder
from router.upstreams.routes import model_target
from router.upstreams.server import LITELLM
from router.upstreams.watched import WatchedConfig
from router.ways import USUAL, Ways
from serving import deploy
from trainer.registry import get_version

log = logging.getLogger(__name__)

ROLE_PREFIX = "role:"
REFRESH_S = 0.5
"""Seconds between two looks who serves: a promotion or an emergency stop arrives within one second
also on a busy machine."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request on its way to whoever will answer it."""

    asked: Asked
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Copied:
    """Whom a call is copied to, and for which experiment."""

    target: Target
    experiment_id: UUID | None = None


class Switchboard:
    """What one gateway process knows and holds: who serves, keys, budgets, connections, records."""

    def __init__(self, watched: WatchedConfig, recorder: Recorder) -> None:
        self.watched, self.recorder = watched, recorder
        self.client = Client()
        self.forwarder: Forwarder[Outgoing] = Forwarder(self._send, watched.config)
        self.budgets = Budgets()
        self.cache = ResponseCache(watched.config.defaults.cache_bytes)
        self.shadows = Shadows()
        self.roster, self.fresh, self.roster_read = Roster(), False, False
        self.keyring: Keyring = unread_keyring()
        self.arms = Arms()
        self._refreshing = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def config(self) -> GatewayConfig:
        """The gateway's file as it is now."""
        return self.watched.config

    async def start(self) -> None:
        """Read everything once, and then again and again."""
        await self.refresh()
        await self.budgets.start()
        self.recorder.start()
        self._keeper = asyncio.create_task(self._keep_fresh())

    async def close(self) -> None:
        """Let go of everything; what is recorded is shipped first."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self.shadows.close()
        await self.forwarder.aclose()
        await self.client.close()
        await self.budgets.close()
        self.arms.close()
        await run_in_threadpool(self.recorder.close)
        await run_in_threadpool(processes.forget, self.budgets.process_id)

    async def refresh(self) -> None:
        """Take new pictures of who serves and of the keys; the last ones stay if none can be had.

        The gateway's file is read anew too, if it has changed.
        """
        async with self._refreshing:
            if await run_in_threadpool(self.watched.refresh):
                self.forwarder.use(self.config)
                self.cache.max_bytes = self.config.defaults.cache_bytes
            try:
                self.roster, self.keyring = await run_in_threadpool(self._take_pictures)
                self.fresh = self.roster_read = True
            except (SQLAlchemyError, FlywheelError) as error:
                if self.fresh:
                    log.warning("who serves is not known anew, the last picture stays: %s", error)
                self.fresh = False

    def _take_pictures(self) -> tuple[Roster, Keyring]:
        with session_scope() as session:
            processes.tell(session, self.budgets.process_id, self.state())
            roster = rosters.take(session, self.config.engine, self.config.upstreams)
            self.keyring.uses.write(session)
            return roster, keys.take(session, uses=self.keyring.uses)

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            await self.refresh()

    def state(self) -> dict[str, Any]:
        """Return what the health page shows of this process."""
        return {
            **self.forwarder.state(),
            "file": self.watched.told(),
            "cache": self.cache.counts(),
            "shadows": {"sent": self.shadows.sent, "left_out": self.shadows.left_out},
        }

    def ways(self, role: str) -> Ways:
        """Return how a role is answered beside the usual way; while it is stopped, no way."""
        return USUAL if role in self.roster.stopped else self.watched.ways.get(role, USUAL)

    # Who answers

    async def choose(self, call: Call, caller: Caller, model: str) -> None:
        """Choose who answers a call that asks for `model`; its assignment is written down here.

        Raises:
            NotFound: nobody knows the role or the model.
            Forbidden: the caller may not ask for it.
        """
        if model.startswith(ROLE_PREFIX):
            call.target = await self._target_of_role(call.role)
            live = self.roster.experiments.get(call.role)
            if live is not None and may_join_experiment(caller):
                await self._join(call, live)
            if live is None:
                self._specialise(call, caller)
            return
        target = await self._target_of_model(model)
        stage = self.roster.stages.get(target.version_id) if target.version_id else None
        require_callable(caller, call.role, model, stage, self.roster.access.get(call.role))
        call.target = target

    async def _target_of_role(self, role: str) -> Target:
        require_role(role)
        if role not in self.roster.serving:
            await self.refresh()
        if role not in self.roster.serving:
            raise NotFound(
                "role",
                role,
                "a role that somebody serves",
                "Let a first one serve: flywheel promote VERSION --reason …",
            )
        return self.roster.serving[role]

    async def _target_of_model(self, model: str) -> Target:
        target = self.find(model)
        if target is None:
            await self.refresh()
            target = self.find(model)
        if target is None:
            raise NotFound(
                "model",
                model,
                "role:<role>, a model version, a configured model, or provider/model",
                "GET /v1/models lists what can be asked.",
            )
        return target

    def _specialise(self, call: Call, caller: Caller) -> None:
        """Give a call to the specialist for its task, where there is one that it may reach."""
        specialists = self.ways(call.role).specialists
        if specialists is NONE or call.asked is None:
            return
        request = call.asked.dialect.chat_request(call.asked.values)
        task = features_of(request, call.task_type, call.difficulty)
        choice = specialists.choose(task, self.roster.fits.get(call.role))
        target = self.find(choice.model) if choice else None
        if choice is None or target is None:
            return
        stage = self.roster.stages.get(target.version_id) if target.version_id else None
        if refusal(caller, stage, self.roster.access.get(call.role)) is None:
            call.target = target
            call.attributes["specialist"] = choice.by
            call.told.append((b"x-flywheel-specialist", choice.by.encode()))

    def find(self, model: str) -> Target | None:
        """Return who answers for a plain model name, None if nobody does."""
        return model_target(model, self.config) or self.roster.find(model)

    async def _join(self, call: Call, live: LiveExperiment) -> None:
        """Give a call its arm, if it has a unit."""
        episode = str(call.episode_id) if call.episode_id else None
        unit = unit_of(live.row.unit_kind, episode, call.unit, str(call.id))
        if unit is None:
            return
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        stratum = f"{call.task_type or 'any'}|{call.difficulty or 'any'}|{day}"
        arm = await self.arms.of(live.row, unit, stratum)
        if arm is not None:
            call.unit, call.arm, call.experiment_id = unit, arm, live.row.id
            call.target = live.target_of(arm)

    def copied_to(self, call: Call) -> Copied | None:
        """Return whom a call is copied to: an experiment that only watches, or a mirror."""
        live = self.roster.experiments.get(call.role)
        if live is not None:
            if live.row.treatment_share == 0 and call.experiment_id == live.row.id:
                return Copied(live.treatment, live.row.id)
            return None
        mirror = self.ways(call.role).mirror
        target = self.find(mirror.model) if mirror is not None and mirror.takes(call.id) else None
        return Copied(target) if target is not None else None

    # The way to it

    async def _send(self, target: Target, outgoing: Outgoing) -> Opened:
        """Send a request to one target; an engine that has lost the adapter is given it again."""
        name = target.upstream.name if target.upstream else LITELLM
        attributes = {"gen_ai__provider__name": name, "gen_ai__request__model": target.model}
        with tracing.span("gateway try", "client", **attributes) as span:
            opened = await open_answer(self.client, target, outgoing.asked, outgoing.headers)
            span.say(http__response__status_code=opened.status)
        if opened.status != 404 or not target.is_adapter:
            return opened
        refusal = await opened.read()
        if not await run_in_threadpool(_load_adapter, target):
            return Opened(404, opened.headers, _once(refusal), opened.aclose, opened.is_native)
        return await open_answer(self.client, target, outgoing.asked, outgoing.headers)


def _load_adapter(target: Target) -> bool:
    """Have the model server load a version's adapter; False, logged, if that fails."""
    assert target.version_id is not None
    try:
        with session_scope() as session:
            return deploy.warm(session, get_version(session, str(target.version_id)))
    except (SQLAlchemyError, FlywheelError) as error:
        log.warning("adapter %s cannot be loaded: %s", target.model, error)
        return False


async def _once(piece: bytes) -> AsyncIterator[bytes]:
    yield piece
