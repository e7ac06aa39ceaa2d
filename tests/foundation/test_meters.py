"""Counts of several processes are added up, never fall, and outlive a process and a full disk."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.metrics import exposition
from flywheel.processes import Processes
from foundation import meters
from foundation.meters import Counter, Histogram, Reading


@pytest.fixture
def shared(
    tmp_path: Path, settings: object, monkeypatch: pytest.MonkeyPatch
) -> Iterator[meters.Shared]:
    # Its thread would outlive the test, and warn a second later that the folder is gone.
    monkeypatch.setattr(meters.Shared, "keep_writing", lambda _: None)
    meters.make_folder(tmp_path, "test")
    meters.share()
    assert meters._shared is not None
    yield meters._shared
    meters.remove_folder(meters._shared.folder)
    meters._shared = None


COUNTER: Counter
HISTOGRAM: Histogram
GAUGE: Reading


@pytest.fixture(autouse=True)
def declared() -> Iterator[None]:
    """Meters of these tests alone: the catalogue is the product's."""
    global COUNTER, HISTOGRAM, GAUGE
    COUNTER = Counter("test_counted", "test", "Counted.", ("role",), ("test",))
    HISTOGRAM = Histogram("test_seconds", "test", "Took.", ("role",), ("test",), bounds=(1.0, 2.0))
    GAUGE = Reading("gauge", "test_waiting", "test", "Waiting.", (), ("test",))
    yield
    for one in (COUNTER, HISTOGRAM, GAUGE):
        meters._meters.remove(one)
        del meters.CATALOGUE[one.metric.name]


def lines() -> set[str]:
    return {line for line in exposition(meters.families()).decode().splitlines() if "test_" in line}


def in_child() -> None:
    """Count in a forked child that shares its counts and is killed."""
    child = os.fork()
    if child == 0:
        try:
            meters.share()
            COUNTER.inc("coder", by=2)
            HISTOGRAM.observe(1.5, "coder")
            GAUGE.read = lambda: [((), 7.0)]
            meters._shared.write()  # type: ignore[union-attr]
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_processes_are_added_up_and_a_killed_one_keeps_its_counts(shared: meters.Shared) -> None:
    COUNTER.inc("coder", by=40)
    HISTOGRAM.observe(2.0, "coder")
    HISTOGRAM.observe(9.0, "coder")
    GAUGE.read = lambda: [((), 3.0)]
    in_child()
    found = lines()
    assert 'test_counted_total{role="coder"} 42.0' in found  # not twice 40
    assert 'test_seconds_bucket{le="1",role="coder"} 0.0' in found
    assert 'test_seconds_bucket{le="2",role="coder"} 2.0' in found
    assert 'test_seconds_bucket{le="+Inf",role="coder"} 3.0' in found
    assert 'test_seconds_sum{role="coder"} 12.5' in found
    assert "test_waiting 3.0" in found  # of a dead process nothing waits
    assert lines() == found
    in_child()
    assert 'test_counted_total{role="coder"} 44.0' in lines()
    assert 'test_seconds_sum{role="coder"} 14.0' in lines()
    kept = {f"{meters.ENDED}.json", f"{os.getpid()}.json"}
    assert {path.name for path in shared.folder.glob("*.json")} == kept, "one file for all dead"


def test_a_reader_killed_while_it_keeps_the_counts_of_the_dead_counts_none_twice(
    shared: meters.Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_child()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            lines()
    assert len(list(shared.folder.glob("*.json"))) == 3
    assert 'test_counted_total{role="coder"} 2.0' in lines()
    in_child()
    assert 'test_counted_total{role="coder"} 4.0' in lines()
    assert len(list(shared.folder.glob("*.json"))) == 2


def test_a_disk_that_takes_nothing_costs_fresh_figures_only(
    shared: meters.Shared, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    COUNTER.inc("coder")
    assert 'test_counted_total{role="coder"} 1.0' in lines()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    COUNTER.inc("coder")
    assert 'test_counted_total{role="coder"} 1.0' in lines()
    assert lines()
    assert len([r for r in caplog.records if "cannot be shared" in r.message]) == 1
    monkeypatch.undo()
    assert 'test_counted_total{role="coder"} 2.0' in lines()


def test_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead, alive = tmp_path / "metrics" / "test-999999999", tmp_path / "metrics" / "test-1"
    other = tmp_path / "metrics" / "other-999999999"
    for folder in (dead, alive, other):
        folder.mkdir(parents=True)
    made = meters.make_folder(tmp_path, "test")
    meters.remove_folder(made)
    assert sorted(p.name for p in (tmp_path / "metrics").iterdir()) == [other.name, alive.name]


def test_a_long_log_is_moved_aside_while_its_child_writes_on(tmp_path: Path) -> None:
    code = "import time; time.sleep(60)"
    with Processes(tmp_path) as processes:
        processes.start_python("talker", "-c", code)
        path = processes.log_path("talker")
        for n in range(5):
            with path.open("ab") as log:
                log.write(b"%d" % n + b"x" * 99)
            processes.rotate_logs(most_bytes=50)
            assert path.stat().st_size == 0
        processes.rotate_logs(most_bytes=50)
        kept = {p.name: p.read_text()[0] for p in path.parent.glob("talker.log.*")}
    assert kept == {"talker.log.1": "4", "talker.log.2": "3", "talker.log.3": "2"}
