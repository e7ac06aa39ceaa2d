"""The gateway: an OpenAI-compatible door that knows who serves a role, and writes down every call.

`model="role:coder"` is answered by whoever serves the role, or by an arm of its experiment, sticky
per episode; a plain model name goes to its upstream. One ASGI application without a framework:
`switchboard` is what it holds, `conversation` the way of one call through it.
"""

import gc
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from collector.metrics import CONTENT_TYPE, DROPPED, SPOOL, exposition, spool_account
from foundation import error_reports, meters, tracing
from foundation.access import require_same_origin
from foundation.database import session_scope
from foundation.errors import BadInput, FlywheelError, NotAuthorised, NotFound
from foundation.lone_page import CONTENT_POLICY
from foundation.settings import get_settings
from router import metrics as counts
from router import processes
from router.asgi import headers_of, read_body, send_json, send_whole
from router.call import RawHeaders
from router.conversation import CODES, Exchange, converse
from router.dialects import CHAT, COUNT_PATH, MESSAGES, OF_PATH, Dialect, count_tokens
from router.paths import Place, place_of
from router.recording import SOURCE, Recorder
from router.scopes import GATEWAY, METRICS
from router.switchboard import ROLE_PREFIX, Switchboard
from router.upstreams.health import UP
from router.upstreams.page import as_html, verdict
from router.upstreams.watched import WatchedConfig

log = logging.getLogger(__name__)

SWITCH_S = 0.0005
"""Longest time that the thread of the records keeps the interpreter while a call waits for it."""

Handler = Callable[[Switchboard, Exchange], Awaitable[None]]


class GatewayApp:
    """The gateway as an ASGI application; `board` is there while it runs."""

    def __init__(self) -> None:
        self._watched = WatchedConfig()
        self.board: Switchboard | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; part of ASGI."""
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        if scope["type"] != "http" or self.board is None:
            return
        place = place_of(scope["path"])
        exchange = Exchange(place, headers_of(scope), receive, send)
        handler = ENDPOINTS.get((scope["method"], place.path))
        try:
            if handler is None:
                raise _no_endpoint(scope["method"], scope["path"])
            require_same_origin(scope["method"], exchange.headers)
            await handler(self.board, exchange)
        except FlywheelError as error:
            await _refuse(send, error, place)
        except ConnectionResetError:
            pass  # nobody is there to be answered

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        recorder = Recorder(get_settings().home.absolute() / "spool" / "gateway")
        board = Switchboard(self._watched, recorder)
        try:
            await board.start()
        except Exception as error:  # the server says it, and ends
            log.exception("the gateway cannot start")
            return await send({"type": "lifespan.startup.failed", "message": str(error)})
        self.board = board
        SPOOL.read = lambda: spool_account(SOURCE, recorder.counts())[0]
        DROPPED.read = lambda: spool_account(SOURCE, recorder.counts())[1]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await board.close()
        await send({"type": "lifespan.shutdown.complete"})


def create_gateway_app() -> GatewayApp:
    """Return the gateway's application.

    Raises:
        BadSetting: FLYWHEEL_UPSTREAMS or the gateway's file is wrong.
    """
    return GatewayApp()


def create_process_app() -> GatewayApp:
    """Return the gateway for a process that does nothing else."""
    tracing.configure(meters.GATEWAY)
    error_reports.configure(meters.GATEWAY)
    meters.share()
    app = create_gateway_app()
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    return app


def _no_endpoint(method: str, path: str) -> NotFound:
    known = sorted(f"{known} {where}" for known, where in ENDPOINTS)
    remedy = "Check the base URL: …/v1, …/r/<role>/v1 or …/r/<role>/e/<episode>/v1."
    return NotFound("endpoint", f"{method} {path}", f"one of {', '.join(known)}", remedy)


async def _refuse(send: Send, error: FlywheelError, place: Place) -> None:
    """Answer one of our errors, in the words of the dialect whose path it is."""
    dialect = MESSAGES if place.path == COUNT_PATH else OF_PATH.get(place.path, CHAT)
    status = error.http_status
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = dialect.error(str(error), kind, CODES.get(status), status)
    if isinstance(error, BadInput) and "param" in body["error"]:
        body["error"]["param"] = error.what
    headers: RawHeaders = []
    if isinstance(error, NotAuthorised) and place.path == "/health":
        headers.append((b"www-authenticate", b'Basic realm="flywheel gateway"'))
    await send_json(send, status, body, headers)


# What can be asked


async def alive(board: Switchboard, exchange: Exchange) -> None:
    """Say that the gateway answers, whether it sees the database, and the counts of its spool.

    It is `degraded` once a record was lost: a full disk, for one, must not go unseen.
    """
    records = board.recorder.counts()
    status = "degraded" if any(records["dropped"].values()) else "ok"
    said = {"status": status, "database": board.fresh, "records": records}
    await send_json(exchange.send, 200, said)


async def ready(board: Switchboard, exchange: Exchange) -> None:
    """Say whether calls can be answered: whoever serves is known, or a plain model can be asked.

    A database that is away makes it degraded, not unready: the last picture answers.
    """
    has_targets = bool(board.roster.serving or board.roster.upstreams or board.config.models)
    if not board.roster_read:
        return await send_json(
            exchange.send,
            503,
            {"status": "not ready", "reason": "who serves has never been read from the database"},
        )
    said: dict[str, Any] = {"status": "ready" if board.fresh else "degraded"}
    if not board.fresh:
        said["reason"] = "the database does not answer; the last picture of who serves is used"
    elif not has_targets:
        said["reason"] = "nobody serves a role and no upstream is set: only provider/model is known"
    await send_json(exchange.send, 200, said)


async def health(board: Switchboard, exchange: Exchange) -> None:
    """Show what every gateway process knows of its upstreams; as JSON to who does not ask HTML."""
    board.keyring.identify(exchange.headers)
    listed = await _processes(board)
    if "text/html" not in exchange.headers.get("accept", ""):
        said = {"status": verdict(listed), "processes": listed}
        return await send_json(exchange.send, 200, said)
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", CONTENT_POLICY.encode()),
    ]
    await send_whole(exchange.send, 200, headers, as_html(listed).encode())


async def _processes(board: Switchboard) -> list[dict[str, Any]]:
    """Return this process as it is now and the others as they last reported."""

    def read() -> list[dict[str, Any]]:
        with session_scope() as session:
            return processes.alive(session, besides=board.budgets.process_id)

    here = processes.here(board.state())
    try:
        return [here, *await run_in_threadpool(read)]
    except (SQLAlchemyError, FlywheelError):
        return [here]


async def metrics(board: Switchboard, exchange: Exchange) -> None:
    """Tell what all processes of this gateway counted, as Prometheus text."""
    board.keyring.identify(exchange.headers, GATEWAY, METRICS)
    circuits = board.forwarder.health.rows()
    now = [
        counts.fresh.family([((), float(board.fresh))]),
        counts.up.family(_ups(circuits)),
        *meters.disk_families(get_settings().home),
    ]
    families = await run_in_threadpool(meters.families)
    text = exposition([*families, *now])
    headers = [(b"content-type", CONTENT_TYPE.encode())]
    await send_whole(exchange.send, 200, headers, text)


def _ups(circuits: Iterable[Mapping[str, Any]]) -> list[tuple[tuple[str, str], float]]:
    """Return whether each upstream and model is up; of several addresses one will do."""
    found: dict[tuple[str, str], float] = {}
    for row in circuits:
        key = (row["upstream"], row["model"] or "")
        found[key] = max(found.get(key, 0.0), float(row["state"] == UP))
    return list(found.items())


async def list_models(board: Switchboard, exchange: Exchange) -> None:
    """List what can be asked: served roles, configured models, model versions."""
    caller = board.keyring.identify(exchange.headers)
    picture = board.roster
    roles = [role for role in picture.serving if caller.roles is None or role in caller.roles]
    owners = {f"{ROLE_PREFIX}{role}": "role" for role in roles}
    for upstream in picture.upstreams:
        owners |= {model: upstream.name for model in upstream.models if model != "*"}
    for name in (*board.config.models, *picture.versions):
        owners.setdefault(name, "flywheel")
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": owner}
        for name, owner in owners.items()
    ]
    await send_json(exchange.send, 200, {"object": "list", "data": data})


async def count(board: Switchboard, exchange: Exchange) -> None:
    """Say about how many tokens a messages request has; nobody is asked, nothing is recorded."""
    board.keyring.identify(exchange.headers)
    body = await read_body(exchange.receive, get_settings().max_prompt_bytes)
    await send_json(exchange.send, 200, count_tokens(MESSAGES.read(body).values))


def _conversing(dialect: Dialect) -> Handler:
    async def handle(board: Switchboard, exchange: Exchange) -> None:
        await converse(board, dialect, exchange)

    return handle


ENDPOINTS: dict[tuple[str, str], Handler] = {
    ("GET", "/healthz"): alive,
    ("GET", "/readyz"): ready,
    ("GET", "/health"): health,
    ("GET", "/metrics"): metrics,
    ("GET", "/v1/models"): list_models,
    ("POST", COUNT_PATH): count,
    **{("POST", path): _conversing(dialect) for path, dialect in OF_PATH.items()},
}
"""What answers a method and a path without its prefix of role and episode."""
