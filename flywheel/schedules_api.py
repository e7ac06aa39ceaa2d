"""HTTP door of schedules: when a role is trained by itself."""

from typing import Any, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel

from flywheel import scheduling
from foundation.database import session_scope
from foundation.errors import BadInput
from trainer import schedule
from trainer.schedule import Orders, Triggers

routes = APIRouter(prefix="/v1/schedules", tags=["trainer"])
T = TypeVar("T")


class Schedule(BaseModel):
    """When a role is trained, and how; see `trainer.schedule`."""

    triggers: dict[str, Any]
    training: dict[str, Any] = {}


@routes.get("")
def list_schedules() -> list[dict[str, Any]]:
    """Return every schedule with what has come since, and how its last iteration went."""
    with session_scope() as session:
        return scheduling.list_explained(session)


@routes.get("/{role}")
def read_schedule(role: str) -> dict[str, Any]:
    """Return a role's schedule."""
    with session_scope() as session:
        return scheduling.explain(session, schedule.get_schedule(session, role))


@routes.put("/{role}")
def put_schedule(role: str, wanted: Schedule) -> dict[str, Any]:
    """Set when and how a role is trained by itself."""
    triggers, orders = _built(Triggers, wanted.triggers), _built(Orders, wanted.training)
    with session_scope() as session:
        row = scheduling.set_schedule(session, role, triggers, orders, actor="api")
        return scheduling.explain(session, row)


@routes.delete("/{role}")
def delete_schedule(role: str) -> dict[str, Any]:
    """Turn it off: the role is trained by hand alone."""
    with session_scope() as session:
        return scheduling.explain(session, schedule.turn_off(session, role, "api"))


@routes.post("/{role}/on")
def turn_schedule_on(role: str) -> dict[str, Any]:
    """Turn it on again, as it was set."""
    with session_scope() as session:
        return scheduling.explain(session, schedule.turn_on(session, role, "api"))


@routes.post("/{role}/run", status_code=202)
def run_schedule(role: str) -> dict[str, Any]:
    """Order what the schedule says now, whatever its triggers say."""
    with session_scope() as session:
        return scheduling.explain(session, scheduling.run_now(session, role, "api"))


def _built(kind: type[T], values: dict[str, Any]) -> T:
    try:
        return kind(**values)
    except TypeError as error:
        known = ", ".join(kind.__dataclass_fields__)  # type: ignore[attr-defined]
        raise BadInput(kind.__name__.lower(), values, f"fields of {known}", str(error)) from error
