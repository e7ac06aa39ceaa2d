"""Routes of feedback: say something, read what was said, declare metrics, take results of CI."""

from dataclasses import asdict
from hashlib import sha256
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from collector.api import read_limited
from collector.bodies import inflated, read_records
from collector.delivery import FEEDBACK, Delivery
from collector.feedback import Subject, ci, metrics, of_statements, said_about, sent_by, with_ids
from collector.ingest import DATABASE_AWAY, REJECTED, store
from collector.schemas import FeedbackRecord, IngestAnswer, RecordResult
from foundation.database import explain_row, session_scope
from foundation.errors import BadInput, DatabaseUnavailable
from foundation.settings import get_settings

routes = APIRouter(prefix="/v1/feedback", tags=["feedback"])

GITHUB_PATH = "/v1/feedback/ci/github"
"""The one path that GitHub's signature opens instead of our key."""


async def _read_body(request: Request) -> bytes:
    limit = get_settings().max_batch_bytes
    body = await read_limited(request, limit)
    return inflated(body, request.headers.get("content-encoding", "").strip().lower(), limit)


Body = Annotated[bytes, Depends(_read_body)]


def _body_of(*media_types: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return what the description of the API says of a body that we read ourselves."""
    content = {media_type: {"schema": schema} for media_type in media_types}
    return {"requestBody": {"required": True, "content": content}}


def _statement_schema() -> dict[str, Any]:
    schema = FeedbackRecord.model_json_schema()
    schema["required"] = ["kind"]  # an id is made where there is none
    return {"anyOf": [schema, {"type": "array", "items": schema}]}


IdempotencyKey = Annotated[
    str | None,
    Header(max_length=500, description="Makes the ids: the same request again stores nothing."),
]


class CiAnswer(IngestAnswer):
    """One result per statement that a report or webhook amounts to."""

    ignored: str | None = None
    """Why it amounts to none."""


@routes.post("", openapi_extra=_body_of("application/json", schema=_statement_schema()))
def add(body: Body, response: Response, idempotency_key: IdempotencyKey = None) -> IngestAnswer:
    """Store one statement, or a list of them; each is stored, a duplicate, or rejected.

    It may come before the record it speaks of. A single statement that is rejected answers 422.
    """
    lines = read_records(body, FEEDBACK, get_settings().max_record_bytes)
    results = _stored(Delivery("feedback", with_ids(lines, idempotency_key)))
    if len(results) == 1 and results[0].status == REJECTED:
        response.status_code = 422
    return IngestAnswer(results=results)


def _stored(delivery: Delivery) -> list[RecordResult]:
    try:
        with session_scope() as session:
            return store(session, delivery)
    except DATABASE_AWAY as error:
        raise DatabaseUnavailable("of the log", str(error).splitlines()[0]) from error


def _subject(
    request: Request,
    interaction_id: UUID | None = None,
    interaction_key: str | None = None,
    response_id: str | None = None,
    episode_id: UUID | None = None,
    episode_key: str | None = None,
    project: str | None = None,
) -> Subject:
    """Return what a request speaks of, by its query or else by headers `X-Flywheel-Episode-Key`."""

    def header(name: str) -> str | None:
        return request.headers.get(f"x-flywheel-{name}")

    return Subject(
        interaction_id or _header_id("interaction-id", header("interaction-id")),
        _storable("interaction_key", interaction_key or header("interaction-key")),
        _storable("response_id", response_id or header("response-id")),
        episode_id or _header_id("episode-id", header("episode-id")),
        _storable("episode_key", episode_key or header("episode-key")),
        _storable("project", project or header("project")),
    )


def _storable(name: str, value: str | None) -> str | None:
    """Return a text that PostgreSQL can hold, hence find; raises BadInput."""
    if value is not None and "\0" in value:
        raise BadInput(name, value, "a text without NUL characters", "Take them out.")
    return value


def _header_id(name: str, value: str | None) -> UUID | None:
    try:
        return UUID(value) if value else None
    except ValueError:
        raise BadInput(f"header x-flywheel-{name}", value, "an id", "Copy it whole.") from None


About = Annotated[Subject, Depends(_subject)]


@routes.get("")
def read(about: About, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> list[dict[str, Any]]:
    """What was said about a call, or about an episode and the calls in it, oldest first."""
    with session_scope() as session:
        return [explain_row(one) for one in said_about(session, about, limit)]


# Metrics


class Declaration(BaseModel):
    """Which way a metric is better, and which values it may have; no bound is no limit."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    direction: str
    low: float | None = None
    high: float | None = None
    description: str | None = None


@routes.get("/metrics")
def list_metrics() -> list[dict[str, Any]]:
    """Metrics, declared or only said, with what was said by each."""
    with session_scope() as session:
        return [asdict(one) for one in metrics.metrics_in_use(session)]


@routes.put("/metrics/{name}")
def declare_metric(name: str, declaration: Declaration) -> dict[str, Any]:
    """Declare a metric, or declare it anew; values outside its range are rejected from now on."""
    with session_scope() as session:
        return explain_row(metrics.declare(session, name, **declaration.model_dump()))


@routes.delete("/metrics/{name}", status_code=204)
def withdraw_metric(name: str) -> None:
    """Take a metric's declaration back; what was said by it stays."""
    with session_scope() as session:
        metrics.withdraw(session, name)


# Continuous integration


@routes.post("/ci/junit", openapi_extra=_body_of("application/xml", schema={"type": "string"}))
def add_junit(
    body: Body,
    about: About,
    actor: Annotated[str, Query(min_length=1, max_length=300)] = "junit",
    idempotency_key: IdempotencyKey = None,
) -> CiAnswer:
    """Make feedback of a JUnit XML report: `success`, and the metric `tests_passed_ratio`.

    The same report about the same subject again stores nothing.
    """
    named = about.columns()
    key = idempotency_key or ci.run_key(sha256(body).hexdigest(), named, actor)
    statements = ci.statements(ci.read_junit(body), named, actor, sent_by(key))
    return CiAnswer(results=_stored(of_statements(statements, "ci")))


_WEBHOOK_SCHEMA = {
    "type": "object",
    "properties": {"action": {"type": "string"}, "check_run": {"type": "object"}},
}


@routes.post("/ci/github", openapi_extra=_body_of("application/json", schema=_WEBHOOK_SCHEMA))
def add_github(
    body: Body,
    about: About,
    subject: Annotated[
        Literal["episode_key", "interaction_key", "interaction_id", "episode_id", "response_id"],
        Query(description="What the check's external id, or else its commit, names here."),
    ] = "episode_key",
    check: Annotated[str | None, Query(description="Only checks of this name.")] = None,
    x_hub_signature_256: Annotated[str | None, Header()] = None,
) -> CiAnswer:
    """Make feedback of a `check_run`, `check_suite` or `workflow_run` webhook of GitHub's.

    Only what has come to success or failure says something; a delivery repeated stores nothing.
    """
    secret = get_settings().github_secret
    if secret is not None:
        ci.require_signature(secret.get_secret_value(), body, x_hub_signature_256)
    found = ci.read_github(body)
    if isinstance(found, str):
        return CiAnswer(results=[], ignored=found)
    if check is not None and found.name != check:
        return CiAnswer(results=[], ignored=f"the check {found.name!r} is not asked for")
    project = {"project": about.project} if about.project else {}
    named = about.columns() if about.is_named else {subject: found.subject, **project}
    key = ci.secret_key(secret.get_secret_value(), found.key) if secret else sent_by(found.key)
    return CiAnswer(results=_stored(of_statements([found.statement(named, key)], "ci")))
