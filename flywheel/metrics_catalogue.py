"""Every metric there is, for the reference in docs/ and for the test of dashboard and alerts.

Metrics are declared where they are counted; this file imports all of those places.
"""

import collector.metrics
import flywheel.scheduler
import flywheel.stage_metrics
import foundation.run_meters
import foundation.watched_requests
import router.metrics
import serving.metrics
from foundation.meters import CATALOGUE, Metric

PLACES = (
    collector.metrics,
    flywheel.scheduler,
    flywheel.stage_metrics,
    foundation.run_meters,
    foundation.watched_requests,
    router.metrics,
    serving.metrics,
)
"""Modules that declare metrics by being imported."""


def catalogue() -> list[Metric]:
    """Return all metrics by stage and name: `name`, `kind`, `meaning`, `labels`, `told_by`."""
    return sorted(CATALOGUE.values(), key=lambda metric: (metric.stage, metric.name))


def series() -> dict[str, tuple[str, ...]]:
    """Return the names that a query can ask for, each with its labels."""
    return {name: labels for one in catalogue() for name, labels in one.series.items()}
