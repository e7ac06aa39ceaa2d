"""The web application: every room's routes, the admin view, one place for keys and errors."""

import gc
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy import text

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
from collector.feedback.api import GITHUB_PATH
from collector.feedback.credit_rules import get_rules
from collector.scrub import server_rules
from flywheel import model_cards, schedules_api
from flywheel.schema import require_current
from foundation.access import require_key, require_own_name, require_same_origin
from foundation.database import get_engine
from foundation.errors import FlywheelError, Forbidden, NotAuthorised
from foundation.settings import get_settings

OPEN_PATHS = ("/healthz", "/readyz")


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
    app.middleware("http")(check_key)
    app.add_exception_handler(FlywheelError, answer_error)
    app.get("/", include_in_schema=False)(lambda: RedirectResponse("/admin/"))
    app.get("/healthz")(lambda: {"status": "ok"})
    app.get("/readyz")(ready)
    return app


def create_process_app() -> FastAPI:
    """Return the service for a process that does nothing else.

    A batch is tens of thousands of containers that live for a moment, and at the usual thresholds
    the garbage collector walks the whole program several times for each: a fifth of its CPU time.
    """
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


async def check_key(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Ask for the key on every path but the health checks and what GitHub signs.

    No page of another site changes anything, either, nor reads where no key is asked for.
    """
    if not _opens_itself(request):
        try:
            require_key(request.headers)
            require_own_name(request.headers)
            require_same_origin(request.method, request.headers)
        except Forbidden as error:
            return answer_error(request, error)
        except NotAuthorised as error:
            answer = answer_error(request, error)
            answer.headers["WWW-Authenticate"] = 'Basic realm="flywheel"'
            return answer
    return await call_next(request)


def _opens_itself(request: Request) -> bool:
    """Say whether a path has another door, or none: the admin view asks who one is."""
    path: str = request.scope["path"]  # as it is routed; `request.url` is made with the Host header
    is_admin = path == "/admin" or path.startswith("/admin/")
    return path in OPEN_PATHS or path == "/" or is_admin or _is_signed(path)


def _is_signed(path: str) -> bool:
    """Say whether the route itself checks a signature, which opens it instead of the key."""
    return path == GITHUB_PATH and get_settings().github_secret is not None


def answer_error(_: Request, error: Exception) -> JSONResponse:
    """Answer one of our errors as JSON with its own status."""
    status = error.http_status if isinstance(error, FlywheelError) else 500
    body = {"error": {"type": type(error).__name__, "message": str(error)}}
    return JSONResponse(body, status_code=status)
