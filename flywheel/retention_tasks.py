"""The job that ends what is past its retention, once a day, and what came back after an erasure."""

from datetime import timedelta
from typing import Any, Final

from sqlmodel import col, select

from flywheel.erasing import again
from flywheel.retention import KIND, apply, policy_of
from foundation.database import session_scope
from foundation.runs import RunHandle, enqueue, job
from foundation.settings import get_settings
from foundation.tables import QUEUED, RUNNING, Run, now

EVERY: Final = timedelta(hours=23)
LOOKS_BACK: Final = timedelta(days=7)
"""What arrived within it is held against erasures; `flywheel erase --again` looks at everything."""


@job(KIND)
def end_retention(run: RunHandle) -> dict[str, Any]:
    """Drop weeks, rows and files that are past their retention; erase again what came back."""
    ended = []
    for one in apply(policy_of(get_settings())):
        ended.append(one.as_json())
        run.check()
    erased = again(since=now() - LOOKS_BACK)
    return {"ended": ended, "erased_again": None if erased is None else str(erased.account.id)}


def order_retention() -> Run | None:
    """Order the job if none waits or ran within the day; the scheduler asks every hour."""
    with session_scope() as session:
        last = session.exec(
            select(Run).where(Run.kind == KIND).order_by(col(Run.id).desc()).limit(1)
        ).first()
        if last and (last.status in (QUEUED, RUNNING) or now() - last.created_at < EVERY):
            return None
        return enqueue(session, KIND, {})
