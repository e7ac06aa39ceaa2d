"""The gateway: an OpenAI-compatible door that knows who serves a role, and writes down every call.

`model="role:coder"` is answered by whoever serves the role, or by an arm of its experiment, sticky
per episode; a plain model name goes to its upstream. Whatever the upstream does counts for the arm
that was assigned: there is no silent fallback. Async, because streams flow here; work on the
database is done in threads, and never for a call whose unit is known already.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import aiohttp
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from collector.metrics import CONTENT_TYPE, exposition, spool_families
from collector.scrub import scrub_record
from collector.tables import CUT, ERROR, SUCCESS
from foundation.access import require_key
from foundation.database import session_scope
from foundation.errors import BadInput, FlywheelError, NotFound
from foundation.ids import keyed_episode_id
from foundation.settings import get_settings
from router import roster as rosters
from router import upstreams
from router.experiment import assign
from router.guard import REFUSED
from router.lanes import Opened, UpstreamFailed, new_client, open_answer
from router.promote import require_role
from router.recording import SOURCE, Call, Ending, Recorder
from router.roster import LiveExperiment, Roster, Target
from router.wire import (
    DONE_EVENT,
    LONGEST_DONE,
    ChatBody,
    as_event,
    error_body,
    read_answer,
    read_chat,
    upstream_error,
)
from serving.backends.openai_compatible import ensure_adapter
from trainer.registry import get_version, version_folder

log = logging.getLogger(__name__)

ROLE_PREFIX = "role:"
REFRESH_S = 1.0
CLIENT_CLOSED_REQUEST = 499
MAX_KNOWN_UNITS = 100_000
LONGEST_HEADER = 200
CALLERS_FAULT = frozenset({400, 413, 422})
"""Statuses by which an upstream says that the request itself is wrong."""

T = TypeVar("T")


class ClientGone(Exception):
    """The caller left before its answer was there."""


@dataclass
class Gateway:
    """One gateway process: its picture of who serves, its connections and its recorder."""

    client: aiohttp.ClientSession
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
        opened = await open_answer(self.client, call.target, call.chat)
        if opened.status != 404 or not call.target.is_adapter:
            return opened
        refusal = await opened.read()
        if not await run_in_threadpool(_load_adapter, call.target):
            return Opened(404, opened.headers, _once(refusal), opened.aclose)
        return await open_answer(self.client, call.target, call.chat)


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


routes = APIRouter()


def create_gateway_app() -> FastAPI:
    """Return the gateway's application.

    Raises:
        BadSetting: FLYWHEEL_UPSTREAMS is wrong.
    """
    upstreams.configured()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        recorder = Recorder(get_settings().home.absolute() / "spool" / "gateway")
        gateway = app.state.gateway = Gateway(new_client(), recorder)
        await gateway.refresh()
        recorder.start()
        keeper = asyncio.create_task(gateway.keep_fresh())
        yield
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        await gateway.client.close()
        await run_in_threadpool(recorder.close)

    app = FastAPI(title="flywheel gateway", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.include_router(routes)
    app.add_exception_handler(FlywheelError, _answer_error)
    return app


@routes.get("/healthz")
async def health(request: Request) -> dict[str, Any]:
    """Say that the gateway answers, whether it sees the database, and the counts of its spool."""
    gateway: Gateway = request.app.state.gateway
    return {"status": "ok", "database": gateway.fresh, "records": gateway.recorder.counts()}


@routes.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Tell the books of this process's spool as Prometheus counters."""
    require_key(request.headers, "the gateway")
    gateway: Gateway = request.app.state.gateway
    families = spool_families(SOURCE, gateway.recorder.counts())
    return Response(exposition(families), media_type=CONTENT_TYPE)


@routes.get("/v1/models")
@routes.get("/r/{role}/v1/models")
@routes.get("/r/{role}/e/{episode:path}/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """List what can be asked: served roles, models of upstreams, model versions."""
    require_key(request.headers, "the gateway")
    picture: Roster = request.app.state.gateway.roster
    owners = {f"{ROLE_PREFIX}{role}": "role" for role in picture.serving}
    for upstream in picture.upstreams:
        owners |= {model: upstream.name for model in upstream.models if model != "*"}
    for name in picture.versions:
        owners.setdefault(name, "flywheel")
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": owner}
        for name, owner in owners.items()
    ]
    return {"object": "list", "data": data}


@routes.post("/v1/chat/completions")
@routes.post("/r/{role}/v1/chat/completions")
@routes.post("/r/{role}/e/{episode:path}/v1/chat/completions")
async def chat_completions(
    request: Request, role: str | None = None, episode: str | None = None
) -> Response:
    """Answer a chat, whole or as a stream."""
    require_key(request.headers, "the gateway")
    gateway: Gateway = request.app.state.gateway
    chat = read_chat(await request.body())
    call = await receive_call(gateway, chat, request.headers, role, episode)
    try:
        opened = await _unless_gone(gateway.open(call), request.receive)
        if opened.status < 400 and chat.stream and opened.is_stream:
            return Relay(gateway, call, opened)
        body = await _unless_gone(opened.read(), request.receive)
    except (ClientGone, asyncio.CancelledError) as error:
        await gateway.recorder.keep(call, Ending(CUT, error_type="client_gone"))
        if isinstance(error, asyncio.CancelledError):
            raise
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    except UpstreamFailed as error:
        return await _failed(gateway, call, error.status, _worded(error))
    if opened.status >= 400:
        shaped, kind = upstream_error(opened.status, body)
        return await _failed(gateway, call, opened.status, shaped, kind, opened.headers)
    if read_answer(body) is None:
        failed = UpstreamFailed(call.target.model, "upstream_garbage", f"{body[:100]!r}")
        return await _failed(gateway, call, 502, _worded(failed))
    call.ttft_ms = call.elapsed_ms()
    await gateway.recorder.keep(call, Ending(SUCCESS, [body]))
    return Response(body, opened.status, {**opened.headers, **call.headers()})


def _worded(error: UpstreamFailed) -> dict[str, Any]:
    return error_body(str(error), "upstream_error", error.kind)


async def _failed(
    gateway: Gateway,
    call: Call,
    status: int,
    body: dict[str, Any],
    kind: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Record a call that its upstream failed, and pass the error on in OpenAI's shape."""
    error = body["error"]
    kind = kind or str(error.get("code"))
    kind = f"{REFUSED}{kind}" if status in CALLERS_FAULT else kind
    ending = Ending(ERROR, error_type=kind, error=str(error.get("message")))
    await gateway.recorder.keep(call, ending)
    kept = {name: value for name, value in (headers or {}).items() if name != "content-type"}
    return JSONResponse(body, status, {**kept, **call.headers()})


async def receive_call(
    gateway: Gateway,
    chat: ChatBody,
    headers: Mapping[str, str],
    path_role: str | None,
    path_episode: str | None,
) -> Call:
    """Find out whose call this is and who answers it; its assignment is written down here.

    Raises:
        BadInput: a header is not acceptable, or a plain model is asked for without a role.
        NotFound: nobody knows the role or the model.
    """
    said = _Said.of(headers, path_role, path_episode)
    live = None
    if chat.model.startswith(ROLE_PREFIX):
        role = chat.model.removeprefix(ROLE_PREFIX)
        target, live = await gateway.target_of_role(role)
    else:
        role = _require_said_role(said.role, chat.model)
        target = await gateway.target_of_model(chat.model)
    call = Call(
        role,
        target,
        chat,
        project=said.project,
        task_type=said.task_type,
        episode_id=said.episode_id,
        parent_id=said.parent_id,
        unit=said.unit,
    )
    if live is not None:
        await _join(gateway, call, live)
    return call


async def _join(gateway: Gateway, call: Call, live: LiveExperiment) -> None:
    """Give a call its arm; its unit is the episode, else the sticky unit, else the call itself."""
    unit = str(call.episode_id) if call.episode_id else call.unit or str(call.id)
    stratum = f"{call.task_type or 'any'}|{datetime.now(UTC):%Y-%m-%d}"
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


@dataclass(frozen=True)
class _Said:
    """What a call says about itself in its path and headers, free of personal data."""

    role: str | None
    project: str | None
    task_type: str | None
    unit: str | None
    episode_id: UUID | None
    parent_id: UUID | None

    @classmethod
    def of(cls, headers: Mapping[str, str], role: str | None, episode: str | None) -> "_Said":
        texts = {
            "project": _text(headers, "x-flywheel-project"),
            "task_type": _text(headers, "x-flywheel-task-type"),
            "unit_id": _text(headers, "x-flywheel-unit"),
        }
        clean = scrub_record(texts)
        return cls(
            role=role or _text(headers, "x-flywheel-role"),
            project=clean["project"],
            task_type=clean["task_type"],
            unit=clean["unit_id"],
            episode_id=_episode(episode or headers.get("x-flywheel-episode"), texts["project"]),
            parent_id=_id("parent", headers.get("x-flywheel-parent")),
        )


def _text(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    if value is not None and len(value) > LONGEST_HEADER:
        raise BadInput(name, value, f"at most {LONGEST_HEADER} characters", "Shorten it.")
    return value or None


def _episode(said: str | None, project: str | None) -> UUID | None:
    """Return the episode that a path or header names: by its UUID, or by the caller's own key."""
    if not said:
        return None
    if len(said) > LONGEST_HEADER:
        raise BadInput(
            "episode",
            said,
            f"a UUID, or a key of at most {LONGEST_HEADER} characters",
            "Shorten it.",
        )
    try:
        return UUID(said)
    except ValueError:
        return keyed_episode_id(project or get_settings().project, said)


def _id(name: str, value: str | None) -> UUID | None:
    if not value:
        return None
    try:
        return UUID(value)
    except ValueError:
        raise BadInput(name, value, "a UUID", "Send the id of the call before it.") from None


class Relay(Response):
    """Passes a stream on as it arrives, and records it however it ends.

    The part that says `[DONE]` is held back until the record is in the spool. When the caller
    leaves, the upstream is cancelled and what had arrived is recorded as cut; when the upstream
    breaks, the caller is sent the error as the last event.
    """

    def __init__(self, gateway: Gateway, call: Call, opened: Opened) -> None:
        super().__init__(status_code=opened.status, headers={**opened.headers, **call.headers()})
        del self.headers["content-length"]
        self._gateway, self._call, self._opened = gateway, call, opened
        self._pieces: list[bytes] = []
        self._recorded = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; part of ASGI."""
        try:
            await _unless_gone(self._pass_on(send), receive)
        except (ClientGone, asyncio.CancelledError) as error:
            await self._record(Ending(CUT, self._pieces, True, error_type="client_gone"))
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _pass_on(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        tail = b"\n"
        try:
            async for piece in self._opened.body:
                if self._call.ttft_ms is None:
                    self._call.ttft_ms = self._call.elapsed_ms()
                self._pieces.append(piece)
                seen = tail + piece
                tail = seen[-LONGEST_DONE:]
                if DONE_EVENT.search(seen):
                    await self._record(Ending(SUCCESS, self._pieces, True))
                await _send_piece(send, piece)
        except UpstreamFailed as error:
            failed = Ending(ERROR, self._pieces, True, error.kind, str(error))
            await self._record(failed)
            await _send_piece(send, b"\n\n" + as_event(_worded(error)))
        finally:
            await self._opened.aclose()
        await self._record(Ending(SUCCESS, self._pieces, True))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _record(self, ending: Ending) -> None:
        if not self._recorded:
            self._recorded = True
            await self._gateway.recorder.keep(self._call, ending)


async def _send_piece(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _unless_gone(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Return the result of `work`; cancel it when the caller leaves.

    Raises:
        ClientGone: the caller left first.
    """
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise ClientGone
    finally:
        for task in (doing, leaving):
            task.cancel()
        await asyncio.gather(doing, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer_error(_request: Request, error: Exception) -> Response:
    """Answer one of our errors in OpenAI's shape."""
    status = error.http_status if isinstance(error, FlywheelError) else 500
    codes = {401: "invalid_api_key", 404: "not_found"}
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = error_body(str(error), kind, codes.get(status))
    if isinstance(error, BadInput):
        body["error"]["param"] = error.what
    return Response(json.dumps(body), status, media_type="application/json")
