"""What a worker is told about its processes, as Celery reads it."""

import pytest

from flywheel.worker import Pool
from foundation.errors import BadInput


def test_only_what_was_asked_for_is_told() -> None:
    assert Pool().options() == ["--concurrency=2"]
    assert Pool(1, at_most=4, max_jobs=100, max_memory_mb=2).options() == [
        "--concurrency=1",
        "--autoscale=4,1",
        "--max-tasks-per-child=100",
        "--max-memory-per-child=2048",
    ]


def test_fewer_at_most_than_always_is_refused() -> None:
    with pytest.raises(BadInput, match="--at-most"):
        Pool(3, at_most=2)
