"""Records of NVIDIA's Data Flywheel Blueprint, from its JSONL files or its Elasticsearch index.

`{"timestamp", "workload_id", "client_id", "request", "response"}`: a `workload_id` that is one of
our roles is the role, any other the task type; the `client_id` is the unit of sticky assignment.
"""

from collections.abc import Iterator
from typing import Any

from collector.importers.lines import Imported, Reject, read_rows
from collector.importers.pairs import imported
from collector.importers.source import Source
from foundation.settings import get_settings

FORMAT = "nvidia_flywheel"


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file."""
    roles = frozenset(get_settings().roles)

    def translate(raw: dict[str, Any], place: int, source: Source) -> list[Imported]:
        record = raw["_source"] if isinstance(raw.get("_source"), dict) else raw
        workload = record.get("workload_id")
        name = workload if isinstance(workload, str) and workload else None
        role = name if name in roles else None
        if name and not role:
            record = {"task_type": name, **record}
        client = record.get("client_id")
        unit = str(client) if client else None
        return [imported(FORMAT, record, place, source, role, unit_id=unit)]

    return read_rows(source, translate)


def recognises(row: dict[str, Any]) -> bool:
    """Tell a record, or one inside an Elasticsearch hit."""
    record = row["_source"] if isinstance(row.get("_source"), dict) else row
    return {"workload_id", "request", "response"} <= record.keys()
