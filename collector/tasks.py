"""Jobs of the collector: keep partitions ahead of time, import recorded work."""

from pathlib import Path
from typing import Any

from collector.direct import DirectTransport
from collector.importers.run import run_import
from collector.partitions import ensure_partitions
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
