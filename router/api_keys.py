"""Routes of what calls may take: keys, budgets, and usage."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict

from foundation.database import session_scope
from foundation.settings import get_settings
from router import keys, usage, windows
from router.key_records import CameBy, records_of
from router.tables import GatewayKey

routes = APIRouter(prefix="/v1", tags=["keys and budgets"])


class CreateKey(BaseModel):
    """Make a key; roles and projects that are not named are all, scopes the gateway alone."""

    model_config = ConfigDict(extra="forbid")

    name: str
    kind: str = keys.AGENT
    roles: list[str] = []
    projects: list[str] = []
    scopes: list[str] = []
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    tokens_per_day: float | None = None
    cost_usd_per_month: float | None = None
    expires_at: AwareDatetime | None = None
    actor: str | None = None


class RotateKey(BaseModel):
    """How long the old secret opens still; not said: not at all."""

    model_config = ConfigDict(extra="forbid")

    grace_hours: float | None = None


class SetBudget(BaseModel):
    """Limit what a scope may use of a measure."""

    model_config = ConfigDict(extra="forbid")

    scope: str
    measure: str
    amount: float
    actor: str | None = None


@routes.get("/keys")
def list_keys() -> list[dict[str, Any]]:
    """List the keys by name, revoked ones too, without what opens."""
    with session_scope() as session:
        return [keys.explain_key(row) for row in keys.list_keys(session)]


@routes.post("/keys", status_code=201)
def create_key(wanted: CreateKey, response: Response) -> dict[str, Any]:
    """Make a key; `key` of the answer is shown this once."""
    limits = keys.KeyLimits(wanted.requests_per_minute, wanted.tokens_per_minute, wanted.concurrent)
    expires_at: datetime | None = wanted.expires_at
    actor = _actor(wanted.actor)
    with session_scope() as session:
        row, secret = keys.create_key(
            session,
            wanted.name,
            kind=wanted.kind,
            roles=wanted.roles,
            projects=wanted.projects,
            scopes=wanted.scopes,
            limits=limits,
            expires_at=expires_at,
            actor=actor,
        )
        budgets = (wanted.tokens_per_day, wanted.cost_usd_per_month)
        windows.limit_key(session, wanted.name, *budgets, actor=actor)
        return _shown_once(response, row, secret)


@routes.post("/keys/{name}/rotate")
def rotate_key(name: str, response: Response, wanted: RotateKey | None = None) -> dict[str, Any]:
    """Give a key a new secret; `key` of the answer is shown this once.

    The old one is refused at once, or after the hours of grace.
    """
    hours = wanted.grace_hours if wanted else None
    grace = timedelta(hours=hours) if hours is not None else None
    with session_scope() as session:
        return _shown_once(response, *keys.rotate_key(session, name, grace))


@routes.post("/keys/{name}/revoke")
def revoke_key(name: str) -> dict[str, Any]:
    """Let a key open nothing any more."""
    with session_scope() as session:
        return keys.explain_key(keys.revoke_key(session, name))


@routes.get("/keys/{name}/records")
def show_records(name: str, days: Annotated[int, Query(ge=1, le=3650)] = 30) -> list[CameBy]:
    """What came by a key in the last `days` days: calls, feedback, refused records."""
    with session_scope() as session:
        return records_of(session, name, days)


@routes.get("/budgets")
def list_budgets() -> list[dict[str, Any]]:
    """List budgets with what is used of them and when they are new."""
    with session_scope() as session:
        return [asdict(standing) for standing in windows.standings(session)]


@routes.put("/budgets")
def set_budget(wanted: SetBudget) -> dict[str, Any]:
    """Set a budget; what was used in the window under way counts."""
    with session_scope() as session:
        windows.set_limit(
            session, wanted.scope, wanted.measure, wanted.amount, _actor(wanted.actor)
        )
        return wanted.model_dump(exclude={"actor"})


@routes.delete("/budgets")
def unset_budget(scope: str, measure: str) -> dict[str, Any]:
    """Let the default hold again."""
    with session_scope() as session:
        windows.unset_limit(session, scope, measure)
        return {"scope": scope, "measure": measure}


@routes.get("/usage")
def show_usage(by: str = "role", days: int = 30) -> list[dict[str, Any]]:
    """Sum up calls, tokens and cost of the last `days` days, the costliest first."""
    with session_scope() as session:
        return [asdict(group) for group in usage.summed(session, by, days)]


def _shown_once(response: Response, row: GatewayKey, secret: str) -> dict[str, Any]:
    response.headers["cache-control"] = "no-store"
    return {"key": secret, **keys.explain_key(row)}


def _actor(named: str | None) -> str:
    return named or get_settings().admin_user
