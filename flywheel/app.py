"""The web application: every room's routes, the admin view, one place for keys and errors."""

import gc
from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

import collector.api
import collector.feedback.api
import collector.otel.api
import curation.api
import curation.review.api
import evaluator.api
import evaluator.rewards
import foundation.api
import router.api
import router.api_keys
import trainer.api
import trainer.compress.api
import trainer.export.api
from admin.login import require_provider
from admin.pages import create_admin_app
from collector.feedback.credit_rules import get_rules
from collector.metrics import CONTENT_TYPE, exposition
from collector.scrub import server_rules
from flywheel import model_cards, schedules_api
from flywheel.doors import Door
from flywheel.schema import require_current
from flywheel.stage_metrics import StageMetrics
from foundation import error_reports, meters, tracing
from foundation.database import database_url, get_engine, safe_url
from foundation.errors import DatabaseUnavailable, FlywheelError
from foundation.outage import first_line, is_outage
from foundation.settings import get_settings
from foundation.watched_requests import WatchedRequests
from router.limits import LimitReached


def create_app() -> FastAPI:
    """Return the service: ingest and stage APIs under /v1, the admin view under /admin.

    Raises:
        BadSetting: the rules of credit cannot be used, which a batch should not have to find out.
        BadInput: nor can the rules of scrubbing, or the model that finds names.
        MissingExtra: names are to be found, or people sign in through a provider, and what does
            that is not installed.
    """
    get_rules()
    server_rules()
    require_provider()
    # No page of its description: it would run another host's script where people are signed in.
    app = FastAPI(title="Flywheel", docs_url=None, redoc_url=None)
    for room in (collector.api, curation.api, trainer.api, evaluator.api, router.api):
        app.include_router(room.routes)
    app.include_router(foundation.api.routes)
    app.include_router(curation.review.api.routes)
    app.include_router(router.api_keys.routes)
    app.include_router(schedules_api.routes)
    app.include_router(model_cards.routes)
    app.include_router(trainer.export.api.routes)
    app.include_router(trainer.compress.api.routes)
    app.include_router(collector.otel.api.routes)
    app.include_router(collector.feedback.api.routes)
    app.mount("/admin", create_admin_app())
    app.add_middleware(Door, answer=answer_error)
    app.add_middleware(WatchedRequests, service=meters.SERVICE, area_of=area_of)
    app.add_exception_handler(FlywheelError, answer_error)
    app.add_exception_handler(DBAPIError, answer_outage)
    app.get("/", include_in_schema=False)(lambda: RedirectResponse("/admin/"))
    app.get("/healthz")(lambda: {"status": "ok"})
    app.get("/metrics", response_class=PlainTextResponse)(telling(StageMetrics()))
    app.get("/readyz")(ready)
    return app


_AREAS = {
    "/v1/ingest": "ingest",
    "/v1/traces": "ingest",
    "/admin": "admin",
    "/healthz": "health",
    "/readyz": "health",
    "/metrics": "health",
}


def area_of(path: str) -> str:
    """Return the part of the service that a path belongs to, for its metrics."""
    for start, area in _AREAS.items():
        if path == start or path.startswith(f"{start}/"):
            return area
    return "api"


def create_process_app() -> FastAPI:
    """Return the service for a process that does nothing else.

    A batch is tens of thousands of containers that live for a moment, and at the usual thresholds
    the garbage collector walks the whole program several times for each: a fifth of its CPU time.
    """
    tracing.configure(meters.SERVICE)
    error_reports.configure(meters.SERVICE)
    meters.share()
    app = create_app()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    return app


def ready() -> dict[str, str]:
    """Answer once the database does and its schema is this code's."""
    with get_engine().connect() as connection:
        connection.execute(text("SELECT 1"))
    require_current()
    return {"status": "ready"}


def telling(stages: StageMetrics) -> Callable[[], Response]:
    """Return what answers /metrics."""

    def metrics() -> Response:
        """What this service counted, and how stages, queues and database stand, for Prometheus."""
        home = get_settings().home
        families = [*meters.families(), *meters.disk_families(home), *stages.families()]
        return Response(exposition(families), media_type=CONTENT_TYPE)

    return metrics


def answer_error(_: Request, error: Exception) -> JSONResponse:
    """Answer one of our errors as JSON with its own status."""
    status = error.http_status if isinstance(error, FlywheelError) else 500
    body = {"error": {"type": type(error).__name__, "message": str(error)}}
    headers = error.headers() if isinstance(error, LimitReached) else None
    return JSONResponse(body, status_code=status, headers=headers)


def answer_outage(request: Request, error: Exception) -> JSONResponse:
    """Answer 503 where the database went away; any other error of it is a defect, and raised."""
    if not is_outage(error):
        raise error
    reason = first_line(getattr(error, "orig", None) or error)
    return answer_error(request, DatabaseUnavailable(safe_url(database_url()), reason))
