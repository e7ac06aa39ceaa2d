"""Jobs of the collector: partitions ahead of time, joins that were missed, imports."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from collector.direct import DirectTransport
from collector.feedback.joining import join_waiting
from collector.importers.run import run_import
from collector.partitions import ensure_partitions
from collector.scrub.rescan import Scope, rescan
from foundation.database import session_scope
from foundation.runs import RunHandle, job
from foundation.settings import get_settings
from foundation.tables import now


@job("collector.maintain", queue="ingest")
def maintain(run: RunHandle) -> dict[str, Any]:
    """Make the partitions of the coming weeks."""
    with session_scope() as session:
        made = ensure_partitions(session.connection(), now(), get_settings().partitions_ahead)
    return {"partitions_made": made}


def join(window: timedelta) -> int:
    """Join feedback that came within `window` and missed its call; return how many statements."""
    with session_scope() as session:
        return join_waiting(session, now() - window)


@job("collector.join", queue="ingest")
def join_job(run: RunHandle, hours: float = 24.0) -> dict[str, Any]:
    """Join what came in the last hours, and credit it by the rules as they are now."""
    return {"joined": join(timedelta(hours=hours))}


@job("collector.import", queue="ingest")
def import_files(run: RunHandle, format: str, paths: list[str]) -> dict[str, Any]:
    """Import files that this worker can read; started again, it stores nothing twice."""
    report = run_import(
        format,
        [Path(path) for path in paths],
        DirectTransport(),
        progress=lambda place: run.progress(place.done_bytes, place.total_bytes, "bytes"),
    )
    return report.as_dict()


@job("collector.scrub.rescan", queue="cpu")
def rescan_job(run: RunHandle, role: str | None = None, since: str | None = None) -> dict[str, Any]:
    """Scrub again what other rules scrubbed; started again, it goes on with what is left."""
    report = rescan(
        Scope(role, datetime.fromisoformat(since) if since else None),
        progress=lambda done, total: run.progress(done, total, "rows"),
    )
    return report.as_dict() | {"changed_interactions": [str(id) for id in report.interactions]}
