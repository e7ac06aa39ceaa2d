"""The books as Prometheus text: of the collector from the database, of a spool from its process."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from collector.reconcile import Books
from collector.spool.books import REASONS
from foundation.meters import GATEWAY, SERVICE, Reading, declare, gauge

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SPOOL_STATES = ("seen", "delivered", "waiting", "held", "damaged")

RECORDS = declare(
    "counter",
    "flywheel_records",
    "collector",
    "Records that arrived.",
    ("source", "outcome"),
    (SERVICE,),
)
UNACCOUNTED = gauge(
    "flywheel_unaccounted_records",
    "collector",
    "Records that nobody accounts for.",
    ("source",),
    (SERVICE,),
)
LETTERS = gauge(
    "flywheel_dead_letters",
    "collector",
    "Refused records that wait to be settled.",
    ("code",),
    (SERVICE,),
)
SPOOL = Reading(
    "gauge",
    "flywheel_spool_records",
    "collector",
    "Records of spool writers.",
    ("source", "state"),
    (SERVICE, GATEWAY),
)
DROPPED = Reading(
    "counter",
    "flywheel_dropped_records",
    "collector",
    "Records given up.",
    ("source", "reason"),
    (SERVICE, GATEWAY),
)
"""The service tells what writers reported, a gateway what its own processes know."""

Rows = list[tuple[tuple[str, ...], float]]


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
    records, unaccounted, spool, dropped = Rows(), Rows(), Rows(), Rows()
    for row in books:
        outcomes = {"stored": row.stored, "duplicate": row.duplicate, "rejected": row.n_rejected}
        records += [((row.source, outcome), n) for outcome, n in outcomes.items()]
        unaccounted.append(((row.source,), row.unaccounted))
        states, reasons = spool_account(row.source, row.__dict__)
        spool += states if row.writers else []
        dropped += [(key, n) for key, n in reasons if n or row.writers]
    return [
        RECORDS.family(records),
        SPOOL.metric.family(spool),
        DROPPED.metric.family(dropped),
        UNACCOUNTED.family(unaccounted),
        LETTERS.family(((code,), n) for code, n in dead_letters.items()),
    ]


def spool_account(source: str, account: Mapping[str, Any]) -> tuple[Rows, Rows]:
    """Return the records of a spool by state, and those it dropped by reason; pure.

    Reasons that have not come up are told as 0: an alert would miss a first time that begins at 1.

    Args:
        source: of its records.
        account: its own, as the collector is told it.
    """
    spool: Rows = [((source, state), account[state]) for state in _SPOOL_STATES if state in account]
    dropped = dict.fromkeys(REASONS, 0) | dict(account.get("dropped", {}))
    return spool, [((source, reason), n) for reason, n in sorted(dropped.items())]
