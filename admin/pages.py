"""The admin view as one application: the noun files' routes, static files, headers, error pages.

Mounted at `/admin` by the service. Its door lets in who is signed in (`admin.access`). A page reads
in a read-only transaction; what a form changes goes through a stage's own function.
"""

import logging
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from psycopg.errors import DataError, QueryCanceled, UndefinedColumn, UndefinedTable
from sqlalchemy.exc import DBAPIError, TimeoutError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from admin import (
    agreement,
    audit,
    capture,
    datasets,
    decisions,
    emergency,
    episodes,
    erasing,
    evaluation_answers,
    evaluations,
    examples,
    experiments,
    interactions,
    keys,
    login,
    models,
    overview,
    review,
    roles,
    runs,
    saying,
    settings,
    starting,
    system,
    to_review,
    traffic,
    trainings,
    units,
    users,
    verdict_tasks,
    verdicts,
    versions,
)
from admin.access.door import Door
from admin.banner import stopped_if_known
from admin.rendering import SAFE_HEADERS, STATIC, SafeHeaders, render
from foundation.errors import FlywheelError

log = logging.getLogger(__name__)

NOUNS = (
    login,
    overview,
    episodes,
    to_review,
    erasing,
    saying,
    interactions,
    capture,
    review,
    agreement,
    datasets,
    examples,
    versions,
    trainings,
    models,
    verdicts,
    verdict_tasks,
    evaluations,
    evaluation_answers,
    starting,
    experiments,
    units,
    roles,
    traffic,
    emergency,
    decisions,
    runs,
    audit,
    system,
    settings,
    keys,
    users,
)
"""The noun files, in the order of the wheel; a new page joins here and in `_base.html`."""


def create_admin_app() -> FastAPI:
    """Return the admin view, ready to be mounted anywhere."""
    app = FastAPI(title="Flywheel admin", docs_url=None, redoc_url=None, openapi_url=None)
    for noun in NOUNS:
        app.include_router(noun.routes)
    app.mount("/static", Assets(directory=STATIC), name="asset")
    app.add_middleware(Door, failed=_unknown_person)
    app.add_middleware(SafeHeaders)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(FlywheelError, _known_error)
    app.add_exception_handler(DBAPIError, _database_error)
    app.add_exception_handler(TimeoutError, _too_many)
    app.add_exception_handler(Exception, _unknown_error)
    return app


class Assets(StaticFiles):
    """Static files that a browser may keep: pages ask for them by the hash of their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file, cacheable for ever when its address carries its hash."""
        answer = await super().get_response(path, scope)
        lasting = b"v=" in scope.get("query_string", b"") and answer.status_code < 400
        answer.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if lasting else "no-cache"
        )
        return answer


@dataclass(frozen=True)
class ErrorPage:
    """What went wrong, in words, and what to do about it."""

    status: int
    title: str
    message: str
    back: str | None = None
    """Where the form was that was sent, if one was."""


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = "There is no such page. It may have been linked from a database that is gone."
        return _page(request, 404, "Nothing here", message)
    return _page(request, error.status_code, HTTPStatus(error.status_code).phrase, error.detail)


def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    if first["loc"][0] == "path":
        return _page(request, 404, "Nothing here", f"{name}: {first['msg'].lower()}.")
    if first["loc"][0] == "body":
        message = f"The field “{name}” of the form: {first['msg'].lower()}. Nothing was changed."
        return _page(request, 422, "The form is not complete", message)
    message = f"The part “{name}” of this address is not readable: {first['msg'].lower()}."
    return _page(request, 422, "That address cannot be read", message)


def _known_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FlywheelError)
    title = "Nothing here" if error.http_status == HTTPStatus.NOT_FOUND else "That did not work"
    return _page(request, error.http_status, title, str(error))


def _database_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DBAPIError)
    if isinstance(error.orig, QueryCanceled):
        message = "This view looked at too much of the log. Narrow it: a role, or a shorter time."
        return _page(request, 503, "That took too long", message)
    if isinstance(error.orig, (UndefinedTable, UndefinedColumn)):
        message = "The database has another schema than this code. Run: flywheel db upgrade"
        return _page(request, 503, "The schema is not ready", message)
    if isinstance(error.orig, DataError):  # a zero character, or a number beyond its column
        log.info("admin: %s asks for no value: %s", request.url.path, error.orig)
        message = (
            "A text with a zero character or a number that is too large was sent. "
            "Nothing was changed."
        )
        return _page(request, 422, "That cannot be read", message)
    log.exception("admin: the database refused", exc_info=error)
    return _page(
        request, 503, "The database does not answer", "The log of the service says why. Try again."
    )


def _unknown_person(request: Request, error: Exception) -> Response:
    """Answer where who asks could not be looked up, which is before any page."""
    if isinstance(error, DBAPIError):
        return _database_error(request, error)
    return (_too_many if isinstance(error, TimeoutError) else _known_error)(request, error)


def _too_many(request: Request, error: Exception) -> Response:
    """Answer who found no connection free in half a minute."""
    log.warning("admin: %s: %s", request.url.path, error)
    answer = _page(request, 503, "Too many at once", "Try again in a few seconds.")
    answer.headers["Retry-After"] = "5"
    return answer


def _unknown_error(request: Request, error: Exception) -> Response:
    log.exception("admin: %s failed", request.url.path, exc_info=error)
    answer = _page(
        request, 500, "Something broke on our side", "The log of the service has the details."
    )
    answer.headers.update(SAFE_HEADERS)  # this answer is made outside the middleware
    return answer


def _page(request: Request, status: int, title: str, message: str) -> Response:
    """Return an error page, which has the banner too; after a form it leads back to its page.

    Where it is our side that failed nothing more is asked of the database.
    """
    if status < HTTPStatus.INTERNAL_SERVER_ERROR and not hasattr(request.state, "stopped"):
        request.state.stopped = stopped_if_known()
    back = request.headers.get("referer") if request.method == "POST" else None
    is_ours = back is not None and back.startswith(str(request.base_url))
    page = ErrorPage(status, title, message, back if is_ours else None)
    return render(request, "error.html", page, status)
