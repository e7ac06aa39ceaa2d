"""The pages say what the code does: tables of sizes, queues of jobs."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import flywheel.worker
from benchmarks.sizing import PAGE, RATES, Assumed, Costs, read_costs, size, tables, written
from foundation.queue import QUEUES
from foundation.runs import _jobs

PAGES = Path(__file__).resolve().parents[2] / "docs"


def test_the_sizing_page_is_computed_from_the_kept_costs() -> None:
    page = PAGE.read_text()
    assert written(page, tables(read_costs(), Assumed())) == page, (
        "run: python -m benchmarks.sizing --write"
    )


def test_every_job_is_in_the_table_of_its_queue() -> None:
    assert flywheel.worker.ROOMS
    page = (PAGES / "scaling.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (`[^|]*`) \|", page, re.MULTILINE)
    told = {queue: set(re.findall(r"`([\w.]+)`", jobs)) for queue, jobs in rows}
    rooms = tuple(f"{module.__name__.split('.')[0]}." for module in flywheel.worker.ROOMS)
    found = {
        queue: {
            job.name for job in _jobs.values() if job.queue == queue and job.name.startswith(rooms)
        }
        for queue in QUEUES
    }
    assert told == found


ONE = Costs(
    client_cpu_ms=1,
    gateway_cpu_ms=2,
    ingest_per_s=1_000,
    ingest_cpu_ms=0.5,
    ingest_postgres_cpu_ms=0.2,
    wal_bytes=2_000,
    text_bytes=2_000,
    metadata_bytes=500,
    payload_bytes=1_000,
    curation_cpu_ms=3,
    curation_postgres_cpu_ms=0.5,
    curation_bytes=1_000,
    dataset_bytes=700,
    grading_cpu_ms=8,
)
PLAIN = Assumed(text_bytes=2_000, busy=0.5, kept_share=0.5, payload_days=10, metadata_days=20)


def test_a_size_is_a_product() -> None:
    found = size(1_000, ONE, PLAIN)
    assert (found.client_cores, found.gateway_cores, found.ingest_cores) == (2, 4, 1)
    assert found.postgres_cores == pytest.approx(1.4)
    assert found.curation_cores == 6
    assert found.wal_mb_per_s == found.network_mb_per_s == 2
    assert found.metadata_gb_per_day == pytest.approx(43.2)
    assert found.payload_gb_per_day == pytest.approx(86.4)
    assert found.dataset_gb_per_day == pytest.approx(30.24)
    assert found.kept_tb == pytest.approx(1.728)
    assert found.primaries == 2
    assert RATES == (10, 1_000, 100_000)


def test_longer_texts_cost_what_reads_and_keeps_them() -> None:
    short, long = (size(1_000, ONE, replace(PLAIN, text_bytes=n)) for n in (2_000, 8_000))
    assert long.payload_gb_per_day == pytest.approx(4 * short.payload_gb_per_day)
    assert long.gateway_cores == 4 * short.gateway_cores
    assert long.metadata_gb_per_day == short.metadata_gb_per_day
    assert long.postgres_cores == short.postgres_cores
