"""The books as Prometheus text: of the collector from the database, of a spool from its process."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from collector.reconcile import Books

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SPOOL_STATES = ("seen", "delivered", "waiting", "held", "damaged")


class _Families(Collector):
    """Families made already, for one answer."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def exposition(families: Iterable[Metric]) -> bytes:
    """Return metric families in the text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return generate_latest(registry)


def collector_families(books: Iterable[Books], dead_letters: Mapping[str, int]) -> list[Metric]:
    """Return the metrics of the collector; pure.

    Args:
        books: of every source.
        dead_letters: open ones by code.
    """
    records = CounterMetricFamily(
        "flywheel_records", "Records that arrived.", labels=["source", "outcome"]
    )
    spool, dropped = _spool_families()
    unaccounted = GaugeMetricFamily(
        "flywheel_unaccounted_records", "Records that nobody accounts for.", labels=["source"]
    )
    for row in books:
        outcomes = {"stored": row.stored, "duplicate": row.duplicate, "rejected": row.n_rejected}
        for outcome, n in outcomes.items():
            records.add_metric([row.source, outcome], n)
        if row.writers:
            _add_spool(spool, row.source, row.__dict__)
        for reason, n in sorted(row.dropped.items()):
            dropped.add_metric([row.source, reason], n)
        unaccounted.add_metric([row.source], row.unaccounted)
    letters = GaugeMetricFamily(
        "flywheel_dead_letters", "Refused records that wait to be settled.", labels=["code"]
    )
    for code, n in dead_letters.items():
        letters.add_metric([code], n)
    return [records, spool, dropped, unaccounted, letters]


def spool_families(source: str, account: Mapping[str, Any]) -> list[Metric]:
    """Return the metrics of one spool from its own account, as the collector is told it; pure."""
    spool, dropped = _spool_families()
    _add_spool(spool, source, account)
    for reason, n in sorted(account.get("dropped", {}).items()):
        dropped.add_metric([source, reason], n)
    return [spool, dropped]


def _spool_families() -> tuple[GaugeMetricFamily, CounterMetricFamily]:
    return (
        GaugeMetricFamily(
            "flywheel_spool_records", "Records of spool writers.", labels=["source", "state"]
        ),
        CounterMetricFamily(
            "flywheel_dropped_records", "Records given up.", labels=["source", "reason"]
        ),
    )


def _add_spool(family: GaugeMetricFamily, source: str, account: Mapping[str, Any]) -> None:
    for state in _SPOOL_STATES:
        if state in account:
            family.add_metric([source, state], account[state])
