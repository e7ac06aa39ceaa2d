"""The gateway: an OpenAI-compatible door that knows who serves a role, and writes down every call.

`model="role:coder"` is answered by whoever serves the role, or by an arm of its experiment, sticky
per episode; a plain model name goes to its upstream. Whatever the upstream does counts for the arm
that was assigned: there is no silent fallback. Async, because streams flow here; work on the
database is done in threads, and never for a call whose unit is known already.
"""

import asyncio
import gc
import logging
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from collector.metrics import CONTENT_TYPE, exposition, spool_families
from collector.tables import CUT, ERROR, SUCCESS
from foundation.access import require_key
from foundation.database import session_scope
from foundation.errors import BadInput, FlywheelError, NotFound
from foundation.settings import get_settings
from router import roster as rosters
from router import upstreams
from router.asgi import Departure, headers_of, read_body, send_json, send_whole
from router.call import Call, Ending, RawHeaders
from router.experiment import assign
from router.guard import REFUSED
from router.labels import Labels, labels_of
from router.lanes import Client, Opened, UpstreamFailed, open_answer
from router.paths import Place, place_of
from router.promote import require_role
from router.recording import SOURCE, Recorder
from router.relay import Relay
from router.roster import LiveExperiment, Roster, Target
from router.wire import ChatBody, error_body, read_answer, read_chat, upstream_error
from serving.backends.openai_compatible import ensure_adapter
from trainer.registry import get_version, version_folder

log = logging.getLogger(__name__)

ROLE_PREFIX = "role:"
REFRESH_S = 1.0
CLIENT_CLOSED_REQUEST = 499
MAX_KNOWN_UNITS = 100_000
CALLERS_FAULT = frozenset({400, 413, 422})
"""Statuses by which an upstream says that the request itself is wrong."""

SWITCH_S = 0.0005
"""Longest time that the thread of the records keeps the interpreter while a call waits for it."""

CHAT = "/v1/chat/completions"


@dataclass
class Gateway:
    """One gateway process: its picture of who serves, its connections and its recorder."""

    client: Client
    recorder: Recorder
    roster: Roster = field(default_factory=Roster)
    fresh: bool = False
    known_arms: OrderedDict[tuple[UUID, str], str] = field(default_factory=OrderedDict)
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def refresh(self) -> None:
        """Take a new picture of who serves; the last one stays if the database is away."""
        async with self.refreshing:
            try:
                self.roster = await run_in_threadpool(_take_roster)
                self.fresh = True
            except (SQLAlchemyError, FlywheelError) as error:
                if self.fresh:
                    log.warning("who serves is not known anew, the last picture stays: %s", error)
                self.fresh = False

    async def keep_fresh(self) -> None:
        """Refresh about once a second, for ever."""
        while True:
            await asyncio.sleep(REFRESH_S)
            await self.refresh()

    async def target_of_role(self, role: str) -> tuple[Target, LiveExperiment | None]:
        """Return who serves `role` and the experiment that runs for it; raises NotFound."""
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
        return self.roster.serving[role], self.roster.experiments.get(role)

    async def target_of_model(self, model: str) -> Target:
        """Return the target of a plain model name; raises NotFound."""
        target = self.roster.find(model)
        if target is None:
            await self.refresh()
            target = self.roster.find(model)
        if target is None:
            raise NotFound(
                "model",
                model,
                "role:<role>, a model version, a model of FLYWHEEL_UPSTREAMS, or provider/model",
                "GET /v1/models lists what can be asked.",
            )
        return target

    async def arm_of(self, live: LiveExperiment, unit: str, stratum: str) -> str | None:
        """Return the arm of a unit, written down before this returns.

        None if the database is away and the unit is new: such a call stays outside the experiment.
        """
        key = (live.row.id, unit)
        if key not in self.known_arms:
            try:
                arm = await run_in_threadpool(_assign, live, unit, stratum)
            except (SQLAlchemyError, FlywheelError) as error:
                log.warning("unit %s is served outside its experiment: %s", unit, error)
                return None
            self.known_arms[key] = arm
            if len(self.known_arms) > MAX_KNOWN_UNITS:
                self.known_arms.popitem(last=False)
        return self.known_arms[key]

    async def open(self, call: Call) -> Opened:
        """Send a call to its target; an engine that has lost the adapter is given it again.

        Raises:
            UpstreamFailed: no answer.
        """
        assert call.target is not None
        assert call.asked is not None
        opened = await open_answer(self.client, call.target, call.asked)
        if opened.status != 404 or not call.target.is_adapter:
            return opened
        refusal = await opened.read()
        if not await run_in_threadpool(_load_adapter, call.target):
            return Opened(404, opened.headers, _once(refusal), opened.aclose)
        return await open_answer(self.client, call.target, call.asked)


def _take_roster() -> Roster:
    with session_scope() as session:
        return rosters.take(session, upstreams.engine(), upstreams.configured())


def _assign(live: LiveExperiment, unit: str, stratum: str) -> str:
    with session_scope() as session:
        return assign(session, live.row, unit, stratum).arm


def _load_adapter(target: Target) -> bool:
    """Have the engine load a version's adapter; False, logged, if that fails."""
    assert target.upstream is not None
    try:
        with session_scope() as session:
            folder = version_folder(get_version(session, target.model))
        ensure_adapter(target.upstream.base_url, target.model, folder, target.upstream.api_key)
    except (SQLAlchemyError, FlywheelError) as error:
        log.warning("adapter %s cannot be loaded: %s", target.model, error)
        return False
    return True


async def _once(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


@dataclass(slots=True)
class Exchange:
    """One request at the gateway's door: what it says, and the way back to its caller."""

    place: Place
    headers: Mapping[str, str]
    receive: Receive
    send: Send


Handler = Callable[[Gateway, Exchange], Awaitable[None]]


class GatewayApp:
    """The gateway as an ASGI application; `state.gateway` is there while it runs."""

    def __init__(self) -> None:
        upstreams.configured()
        self.gateway: Gateway | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; part of ASGI."""
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        if scope["type"] != "http" or self.gateway is None:
            return None
        place = place_of(scope["path"])
        exchange = Exchange(place, headers_of(scope), receive, send)
        handler = ENDPOINTS.get((scope["method"], place.path))
        try:
            if handler is None:
                raise _no_endpoint(scope["method"], scope["path"], place)
            await handler(self.gateway, exchange)
        except FlywheelError as error:
            await _refuse(send, error)
        except ConnectionResetError:
            pass  # nobody is there to be answered

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            keeper = await self._start()
        except Exception as error:  # the server says it, and ends
            log.exception("the gateway cannot start")
            return await send({"type": "lifespan.startup.failed", "message": str(error)})
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._end(keeper)
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> "asyncio.Task[None]":
        recorder = Recorder(get_settings().home.absolute() / "spool" / "gateway")
        self.gateway = Gateway(Client(), recorder)
        await self.gateway.refresh()
        recorder.start()
        return asyncio.create_task(self.gateway.keep_fresh())

    async def _end(self, keeper: "asyncio.Task[None]") -> None:
        assert self.gateway is not None
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        await self.gateway.client.close()
        await run_in_threadpool(self.gateway.recorder.close)


def create_gateway_app() -> GatewayApp:
    """Return the gateway's application.

    Raises:
        BadSetting: FLYWHEEL_UPSTREAMS is wrong.
    """
    return GatewayApp()


def create_process_app() -> GatewayApp:
    """Return the gateway for a process that does nothing else."""
    app = create_gateway_app()
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    return app


def _no_endpoint(method: str, path: str, place: Place) -> NotFound:
    known = sorted(f"{known} {where}" for known, where in ENDPOINTS)
    remedy = "Check the base URL: …/v1, …/r/<role>/v1 or …/r/<role>/e/<episode>/v1."
    return NotFound("endpoint", f"{method} {path}", f"one of {', '.join(known)}", remedy)


async def _refuse(send: Send, error: FlywheelError, headers: RawHeaders | None = None) -> None:
    """Answer one of our errors in OpenAI's shape."""
    status = error.http_status
    codes = {401: "invalid_api_key", 404: "not_found"}
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = error_body(str(error), kind, codes.get(status))
    if isinstance(error, BadInput):
        body["error"]["param"] = error.what
    await send_json(send, status, body, headers)


# What can be asked


async def health(gateway: Gateway, exchange: Exchange) -> None:
    """Say that the gateway answers, whether it sees the database, and the counts of its spool."""
    records = gateway.recorder.counts()
    said = {"status": "ok", "database": gateway.fresh, "records": records}
    await send_json(exchange.send, 200, said)


async def metrics(gateway: Gateway, exchange: Exchange) -> None:
    """Tell the books of this process's spool as Prometheus counters."""
    require_key(exchange.headers, "the gateway")
    text = exposition(spool_families(SOURCE, gateway.recorder.counts()))
    headers = [(b"content-type", CONTENT_TYPE.encode())]
    await send_whole(exchange.send, 200, headers, text.encode() if isinstance(text, str) else text)


async def list_models(gateway: Gateway, exchange: Exchange) -> None:
    """List what can be asked: served roles, models of upstreams, model versions."""
    require_key(exchange.headers, "the gateway")
    picture = gateway.roster
    owners = {f"{ROLE_PREFIX}{role}": "role" for role in picture.serving}
    for upstream in picture.upstreams:
        owners |= {model: upstream.name for model in upstream.models if model != "*"}
    for name in picture.versions:
        owners.setdefault(name, "flywheel")
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": owner}
        for name, owner in owners.items()
    ]
    await send_json(exchange.send, 200, {"object": "list", "data": data})


async def converse(gateway: Gateway, exchange: Exchange) -> None:
    """Answer a call, whole or as a stream."""
    require_key(exchange.headers, "the gateway")
    labels = labels_of(exchange.headers, exchange.place)
    body = await read_body(exchange.receive, exchange.headers, get_settings().max_prompt_bytes)
    call = await receive_call(gateway, read_chat(body), labels)
    departure = Departure(exchange.receive)
    try:
        await _answer(gateway, call, exchange.send, departure)
    except asyncio.CancelledError:
        if not departure.happened:
            raise
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
    finally:
        departure.stop()


async def _answer(gateway: Gateway, call: Call, send: Send, departure: Departure) -> None:
    assert call.asked is not None
    assert call.target is not None
    relay: Relay | None = None
    try:
        opened = await gateway.open(call)
        if opened.status < 400 and call.asked.stream and opened.is_stream:
            relay = Relay(gateway.recorder, call, opened)
            await relay.pass_on(send)
            departure.stop()
            return await send({"type": "http.response.body", "body": b""})
        body = await opened.read()
    except asyncio.CancelledError:
        if relay is None:
            gateway.recorder.keep(call, Ending(CUT, error_type="client_gone"))
        else:
            relay.leave()
        raise
    except UpstreamFailed as error:
        return await _fail(gateway, call, send, error.status, _worded(error))
    departure.stop()
    if opened.status >= 400:
        shaped, kind = upstream_error(opened.status, body)
        return await _fail(gateway, call, send, opened.status, shaped, kind, opened.raw_headers())
    if read_answer(body) is None:
        failed = UpstreamFailed(call.target.model, "upstream_garbage", f"{body[:100]!r}")
        return await _fail(gateway, call, send, 502, _worded(failed))
    call.ttft_ms = call.elapsed_ms()
    gateway.recorder.keep(call, Ending(SUCCESS, [body]))
    await send_whole(send, opened.status, [*opened.raw_headers(), *call.headers()], body)


def _worded(error: UpstreamFailed) -> dict[str, Any]:
    return error_body(str(error), "upstream_error", error.kind)


async def _fail(
    gateway: Gateway,
    call: Call,
    send: Send,
    status: int,
    body: dict[str, Any],
    kind: str | None = None,
    headers: RawHeaders | None = None,
) -> None:
    """Record a call that its upstream failed, and pass the error on in OpenAI's shape."""
    error = body["error"]
    kind = kind or str(error.get("code"))
    kind = f"{REFUSED}{kind}" if status in CALLERS_FAULT else kind
    gateway.recorder.keep(call, Ending(ERROR, error_type=kind, error=str(error.get("message"))))
    kept = [(name, value) for name, value in headers or () if name != b"content-type"]
    await send_json(send, status, body, [*kept, *call.headers()])


async def receive_call(gateway: Gateway, asked: ChatBody, labels: Labels) -> Call:
    """Find out whose call this is and who answers it; its assignment is written down here.

    Raises:
        BadInput: a plain model is asked for without a role.
        NotFound: nobody knows the role or the model.
    """
    live = None
    if asked.model.startswith(ROLE_PREFIX):
        role = asked.model.removeprefix(ROLE_PREFIX)
        target, live = await gateway.target_of_role(role)
    else:
        role = _require_said_role(labels.role, asked.model)
        target = await gateway.target_of_model(asked.model)
    call = Call(
        role,
        target,
        asked,
        project=labels.project,
        task_type=labels.task_type,
        difficulty=labels.difficulty,
        episode_id=labels.episode_id,
        parent_id=labels.parent_id,
        unit=labels.unit,
    )
    if live is not None:
        await _join(gateway, call, live)
    return call


async def _join(gateway: Gateway, call: Call, live: LiveExperiment) -> None:
    """Give a call its arm; its unit is the episode, else the sticky unit, else the call itself."""
    unit = str(call.episode_id) if call.episode_id else call.unit or str(call.id)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    stratum = f"{call.task_type or 'any'}|{call.difficulty or 'any'}|{day}"
    arm = await gateway.arm_of(live, unit, stratum)
    if arm is not None:
        call.unit, call.arm, call.experiment_id = unit, arm, live.row.id
        call.target = live.target_of(arm)


def _require_said_role(role: str | None, model: str) -> str:
    if role is None:
        raise BadInput(
            "role of a call",
            None,
            f"the agent role that asks {model!r}",
            "Send the header x-flywheel-role, use /r/<role>/v1, or ask model role:<role>.",
        )
    require_role(role)
    return role


ENDPOINTS: dict[tuple[str, str], Handler] = {
    ("GET", "/healthz"): health,
    ("GET", "/metrics"): metrics,
    ("GET", "/v1/models"): list_models,
    ("POST", CHAT): converse,
}
"""What answers a method and a path without its prefix of role and episode."""
