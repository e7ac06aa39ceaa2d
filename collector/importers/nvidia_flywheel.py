"""Records of NVIDIA's Data Flywheel Blueprint, from its JSONL files or its Elasticsearch index.

`{"timestamp", "workload_id", "client_id", "request", "response"}`: a `workload_id` that is one of
our roles is the role, any other the task type; the `client_id` is the unit of sticky assignment.
"""

import json
from collections.abc import Iterator
from typing import Any

from collector.importers.lines import Imported, Malformed, Reject, read_rows
from collector.importers.pairs import imported
from collector.importers.roles import known_role
from collector.importers.source import Source

FORMAT = "nvidia_flywheel"


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file."""
    return read_rows(source, _translate)


def _translate(raw: dict[str, Any], place: int, source: Source) -> Iterator[Imported | Reject]:
    hits = _hits(raw)
    if hits is None:
        yield _imported(raw, place, source)
        return
    for hit in hits:  # a search's answer: one bad record costs only itself
        try:
            yield _imported(hit, place, source)
        except (Malformed, AttributeError) as error:
            code = getattr(error, "code", Malformed.code)
            yield Reject(place, f"{code}: {error}", json.dumps(hit, ensure_ascii=False))


def _imported(raw: dict[str, Any], place: int, source: Source) -> Imported:
    record = raw["_source"] if isinstance(raw.get("_source"), dict) else raw
    workload = record.get("workload_id")
    name = workload if isinstance(workload, str) and workload else None
    role = known_role(name)
    if name and not role:
        record = {"task_type": name, **record}
    client = record.get("client_id")
    return imported(FORMAT, record, place, source, role, unit_id=str(client) if client else None)


def _hits(raw: dict[str, Any]) -> list[Any] | None:
    """Return the hits of an Elasticsearch search's answer; None if it is none."""
    outer = raw.get("hits")
    inner = outer.get("hits") if isinstance(outer, dict) else None
    return inner if isinstance(inner, list) else None


def recognises(row: dict[str, Any]) -> bool:
    """Tell a record, one inside an Elasticsearch hit, or a search's answer."""
    hits = _hits(row)
    if hits:
        return isinstance(hits[0], dict) and "_source" in hits[0] and recognises(hits[0])
    record = row["_source"] if isinstance(row.get("_source"), dict) else row
    return {"workload_id", "request", "response"} <= record.keys()
