"""Everything on one machine: `flywheel up`."""

import signal
import threading
from collections.abc import Callable

from sqlmodel import select

from flywheel.invite import link_if_any
from flywheel.processes import Processes
from flywheel.schema import upgrade
from foundation.database import database_url, session_scope
from foundation.errors import NotFound
from foundation.settings import get_settings, require_safe_binding
from router.promote import serving_version
from trainer.tables import ModelVersion


def base_to_serve() -> str:
    """Return the base model to load: the configured one, or that of who serves.

    Raises:
        NotFound: none is configured and nobody serves yet.
    """
    settings = get_settings()
    if settings.base_model:
        return settings.base_model
    with session_scope() as session:
        for role in settings.roles:
            serving = serving_version(session, role)
            if serving is not None and serving.kind != "external":
                return serving.base_model
    raise NotFound(
        "base model",
        None,
        "FLYWHEEL_BASE_MODEL, or a version that serves a role",
        "Set FLYWHEEL_BASE_MODEL to a folder, or run flywheel demo first.",
    )


def run_everything(announce: Callable[[dict[str, str | None]], object]) -> None:
    """Start every process, announce where they answer, and wait for Ctrl-C or a child's death.

    Args:
        announce: called once all answer, with the addresses by name, the folder of the logs and a
            one-time link to sign in by; the engine's is None while there is no base model to serve,
            the link off loopback.

    Raises:
        ProcessDied: a child ended by itself; the others are stopped.
    """
    settings = get_settings()
    require_safe_binding(settings.host, settings.api_key, settings.metrics_key)
    upgrade()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    environment = {
        "FLYWHEEL_HOME": str(settings.home.absolute()),
        "FLYWHEEL_DATABASE_URL": database_url(),
    }
    addresses = {
        "admin view": f"http://{settings.host}:{settings.port}/admin/",
        "gateway": f"http://{settings.host}:{settings.gateway_port}/v1",
        "engine": settings.engine_base_url,
    }
    with Processes(settings.home.absolute(), environment) as processes:
        for name in ("serve", "gateway"):
            processes.start(name, name)
        processes.start("worker", "worker", nice=settings.worker_nice)
        processes.start("scheduler", "scheduler", *_second_port(settings.metrics_port))
        processes.wait_for_http(f"http://{settings.host}:{settings.port}/healthz")
        processes.wait_for_http(f"http://{settings.host}:{settings.gateway_port}/healthz")
        if settings.engine_url is None and _has_base():
            processes.start("engine", "engine")
            processes.wait_for_http(f"http://127.0.0.1:{settings.engine_port}/healthz")
        elif settings.engine_url is None:
            del addresses["engine"]
        logs = str(settings.home.absolute() / "logs")
        announce({"engine": None, **addresses, "logs": logs, "sign in": link_if_any()})
        while not stop.wait(1.0):
            processes.check()
            processes.rotate_logs()


def _second_port(first: int | None) -> list[str]:
    """Return the option of the scheduler's port: the worker beside it has the one of the settings.

    An unset one, and one that the system chooses, need no other.
    """
    return ["--metrics-port", str(first + 1)] if first else []


def _has_base() -> bool:
    with session_scope() as session:
        known = session.exec(select(ModelVersion.id).limit(1)).first()
    return get_settings().base_model is not None or known is not None
