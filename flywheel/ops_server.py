"""What a worker and a scheduler answer on `FLYWHEEL_METRICS_PORT`: /healthz, /readyz, /metrics.

A thread of its own in the standard library's server: it answers also while a job computes.
"""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kombu.exceptions import KombuError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from collector.metrics import CONTENT_TYPE, exposition
from flywheel.schema import require_current
from foundation import meters
from foundation.access import require_own_name
from foundation.database import get_engine
from foundation.errors import BadSetting, FlywheelError
from foundation.outage import first_line
from foundation.queue import get_queue
from foundation.settings import get_settings, require_safe_binding
from router.key_picture import KeyPicture
from router.scopes import METRICS

log = logging.getLogger(__name__)

Ready = Callable[[], Mapping[str, Any]]
"""Tells how the process stands; `reason` in it says why it is not ready."""


class OpsServer:
    """Answers until it is closed.

    Args:
        port: to listen on; 0 takes a free one.
        ready: asked for /readyz.
        more: further families of /metrics.

    Raises:
        BadSetting: another process has the port, or a key is needed and not set.
    """

    def __init__(
        self, port: int, ready: Ready, more: Callable[[], Iterable[Any]] = lambda: ()
    ) -> None:
        settings = get_settings()
        require_safe_binding(settings.host, settings.api_key, settings.metrics_key)
        handler = type("Handler", (_Handler,), {"ready": staticmethod(ready), "more": more})
        try:
            self._server = _server_of(settings.host)((settings.host, port), handler)
        except OSError as error:
            raise BadSetting(
                "FLYWHEEL_METRICS_PORT",
                port,
                "a port that is free",
                f"{error.strerror}. Give worker and scheduler one each: --metrics-port.",
            ) from error
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="ops", daemon=True).start()
        log.info("health and metrics on http://%s:%d", settings.host, self.port)

    def forget(self) -> None:
        """Close the port in a forked child, where nobody answers."""
        self._server.socket.close()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


def _server_of(host: str) -> type[ThreadingHTTPServer]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    silent = {"address_family": family, "handle_error": lambda *_: None}  # whoever asked has left
    return type("Server", (ThreadingHTTPServer,), silent)


_here: OpsServer | None = None


def serve_ops(port: int, ready: Ready, more: Callable[[], Iterable[Any]] = lambda: ()) -> OpsServer:
    """Answer on `port` for the rest of this process; as `OpsServer`."""
    global _here
    _here = OpsServer(port, ready, more)
    return _here


def close_inherited() -> None:
    """Let a forked child not hold the port of its parent, whom it may outlive for a moment."""
    global _here
    if _here is not None:
        _here.forget()
    _here = None


def worker_ready_state() -> dict[str, Any]:
    """Return nothing to object to, or the `reason` why a worker could not do a job now."""
    try:
        with get_engine().connect() as connection:
            connection.execute(text("SELECT 1"))
        require_current()
        with get_queue().connection_for_read() as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=3)
    except (FlywheelError, SQLAlchemyError, KombuError, OSError) as error:
        return {"reason": first_line(error)}
    return {}


def _require_key(headers: Mapping[str, str]) -> None:
    """Ask for a key that reads figures, where the master key is set; raises FlywheelError."""
    if get_settings().api_key is None:
        require_own_name(headers)
    else:
        _KEYS.identify_here(headers, METRICS)


_KEYS = KeyPicture()


class _Handler(BaseHTTPRequestHandler):
    ready: Ready
    more: Callable[[], Iterable[Any]]
    timeout = 10

    def do_GET(self) -> None:
        try:
            status, kind, body = self._answer(self.path.partition("?")[0])
        except FlywheelError as error:
            said = {"error": {"type": type(error).__name__, "message": str(error)}}
            status, kind, body = error.http_status, "application/json", json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        if path == "/healthz":
            return 200, "application/json", b'{"status": "ok"}'
        if path == "/readyz":
            said = dict(self.ready())
            status = 503 if "reason" in said else 200
            said = {"status": "ready" if status == 200 else "not ready", **said}
            return status, "application/json", json.dumps(said).encode()
        if path == "/metrics":
            _require_key({name.lower(): value for name, value in self.headers.items()})
            home = get_settings().home
            families = [*meters.families(), *meters.disk_families(home), *type(self).more()]
            return 200, CONTENT_TYPE, exposition(families)
        return 404, "application/json", b'{"error": {"message": "no such path"}}'

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape every few seconds is no news."""
