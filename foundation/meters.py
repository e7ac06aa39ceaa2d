"""What processes count of themselves for Prometheus, and the catalogue of every metric there is.

A counter or histogram is a dictionary in the process: to count costs a microsecond, on the way of
every call of the gateway too. Where several processes are one service (gateway processes on one
port, the children of a worker) each writes its counts into a folder of theirs, and whoever is asked
adds them up. What it has answered once is in its own file by then, so that a count never falls when
another process answers next. A file that cannot be written (a full disk) costs fresh figures only.
"""

import fcntl
import json
import logging
import os
import shutil
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

log = logging.getLogger(__name__)

Kind = Literal["counter", "gauge", "histogram"]
Key = tuple[str, ...]
State = dict[str, list[list[Any]]]
"""Labels and values of each metric that a process has, as JSON has them."""

SERVICE, GATEWAY, ENGINE, WORKER, SCHEDULER = "service", "gateway", "engine", "worker", "scheduler"
"""Who answers `/metrics`."""

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of calls; 3 s is the objective of who serves."""
JOB_SECONDS: Final = (0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 28800.0, 86400.0)

FOLDER_VARIABLE: Final = "_FLYWHEEL_METERS_FOLDER"
"""How a parent tells its children where they share their counts; nobody else sets it."""
WRITE_EVERY_S: Final = 1.0
ENDED: Final = "ended"
"""File of a folder with what processes that are dead had counted."""


@dataclass(frozen=True)
class Metric:
    """One metric of the catalogue.

    Attributes:
        name: as declared; a counter's series ends in `_total`, a histogram's in `_bucket`,
            `_sum` and `_count`.
        told_by: the processes whose `/metrics` has it.
    """

    name: str
    kind: Kind
    stage: str
    meaning: str
    labels: Key
    told_by: Key

    @property
    def series(self) -> dict[str, Key]:
        """Names that a query can ask for, each with its labels."""
        if self.kind == "counter":
            return {f"{self.name}_total": self.labels}
        if self.kind == "histogram":
            buckets = {f"{self.name}_bucket": (*self.labels, "le")}
            return buckets | {f"{self.name}_{end}": self.labels for end in ("sum", "count")}
        return {self.name: self.labels}

    def family(self, values: Iterable[tuple[Key, float]] = ()) -> Any:
        """Return a counter or gauge with its values, as prometheus_client has them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        made = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = made(self.name, self.meaning, labels=self.labels)
        for key, value in values:
            family.add_metric(key, value)
        return family


CATALOGUE: Final[dict[str, Metric]] = {}
"""Every metric that an imported module has declared, by name."""


def declare(
    kind: Kind, name: str, stage: str, meaning: str, labels: Sequence[str], told_by: Sequence[str]
) -> Metric:
    """Put a metric into the catalogue."""
    metric = Metric(name, kind, stage, meaning, tuple(labels), tuple(told_by))
    known = CATALOGUE.setdefault(name, metric)
    assert known == metric, f"metric {name} is declared twice"
    return metric


def gauge(
    name: str, stage: str, meaning: str, labels: Sequence[str] = (), told_by: Sequence[str] = ()
) -> Metric:
    """Declare a value that is read when somebody asks."""
    return declare("gauge", name, stage, meaning, labels, told_by)


class Counter:
    """A number of events of this process by their labels; `inc` is safe in any thread."""

    def __init__(
        self,
        name: str,
        stage: str,
        meaning: str,
        labels: Sequence[str] = (),
        told_by: Sequence[str] = (),
    ) -> None:
        self.metric = declare("counter", name, stage, meaning, labels, told_by)
        self._values: dict[Key, float] = {}
        self._lock = threading.Lock()
        _meters.append(self)

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Count `by` more, 0 to make a series known that nothing has happened in."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0.0) + by

    def state(self) -> list[list[Any]]:
        """Return the counts as JSON values."""
        with self._lock:
            return [[list(key), value] for key, value in self._values.items()]

    def forget(self) -> None:
        """Begin anew."""
        self._values, self._lock = {}, threading.Lock()

    def family_of(self, states: Iterable[list[list[Any]]]) -> Any:
        """Return the sum of several processes' states."""
        return _summed(self.metric, states)


class Histogram:
    """How long something took, in seconds, by its labels; `observe` is safe in any thread."""

    def __init__(
        self,
        name: str,
        stage: str,
        meaning: str,
        labels: Sequence[str] = (),
        told_by: Sequence[str] = (),
        bounds: Sequence[float] = SECONDS,
    ) -> None:
        self.metric = declare("histogram", name, stage, meaning, labels, told_by)
        self.bounds = tuple(bounds)
        self._values: dict[Key, list[float]] = {}
        self._lock = threading.Lock()
        _meters.append(self)

    def observe(self, seconds: float, *labels: str) -> None:
        """Note one event."""
        at = bisect_left(self.bounds, seconds)
        with self._lock:
            counts = self._values.get(labels)
            if counts is None:  # the last two: beyond the last bound, and the sum
                counts = self._values[labels] = [0.0] * (len(self.bounds) + 2)
            counts[at] += 1
            counts[-1] += seconds

    def state(self) -> list[list[Any]]:
        """Return the counts as JSON values."""
        with self._lock:
            return [[list(key), list(counts)] for key, counts in self._values.items()]

    def forget(self) -> None:
        """Begin anew."""
        self._values, self._lock = {}, threading.Lock()

    def family_of(self, states: Iterable[list[list[Any]]]) -> Any:
        """Return the sum of several processes' states."""
        from prometheus_client.core import HistogramMetricFamily

        total: dict[Key, list[float]] = {}
        for state in states:
            for key, counts in state:
                before = total.get(tuple(key), [0.0] * len(counts))
                total[tuple(key)] = [a + b for a, b in zip(before, counts, strict=True)]
        metric = self.metric
        family = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        for key, counts in total.items():
            so_far, buckets = 0.0, []
            for name, n in zip(names, counts[:-1], strict=True):
                so_far += n
                buckets.append((name, so_far))
            family.add_metric(key, buckets, counts[-1])
        return family


class Reading:
    """What a process knows anyway and is asked for; a service has the sum of its processes.

    Attributes:
        read: gives labels and values, once there is something to tell.
    """

    def __init__(
        self,
        kind: Kind,
        name: str,
        stage: str,
        meaning: str,
        labels: Sequence[str] = (),
        told_by: Sequence[str] = (),
    ) -> None:
        self.metric = declare(kind, name, stage, meaning, labels, told_by)
        self.read: Callable[[], Iterable[tuple[Key, float]]] | None = None
        _meters.append(self)

    def state(self) -> list[list[Any]]:
        """Return the values as JSON values."""
        return [[list(key), value] for key, value in self.read()] if self.read else []

    def forget(self) -> None:
        """Read no more: what was read belongs to the parent."""
        self.read = None

    def family_of(self, states: Iterable[list[list[Any]]]) -> Any:
        """Return the sum of several processes' states."""
        return _summed(self.metric, states)


def _summed(metric: Metric, states: Iterable[list[list[Any]]]) -> Any:
    total: dict[Key, float] = {}
    for state in states:
        for key, value in state:
            total[tuple(key)] = total.get(tuple(key), 0.0) + value
    return metric.family(total.items())


def _grown(states: Iterable[State]) -> State:
    """Return the sum of several processes' states, without gauges, which end with a process."""
    total: dict[str, dict[Key, Any]] = {}
    for state in states:
        for name, values in state.items():
            if name not in CATALOGUE or CATALOGUE[name].kind == "gauge":
                continue
            of_metric = total.setdefault(name, {})
            for key, value in values:
                before = of_metric.get(tuple(key))
                of_metric[tuple(key)] = value if before is None else _plus(before, value)
    return {name: [[list(key), v] for key, v in by.items()] for name, by in total.items()}


def _plus(one: Any, other: Any) -> Any:
    """Return the sum of two counts, or of two histograms' counts."""
    if isinstance(one, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    return one + other


_meters: list[Counter | Histogram | Reading] = []


def _forget_in_child() -> None:
    """Let a forked child count from nothing: what its parent counted is the parent's."""
    for meter in _meters:
        meter.forget()
    global _shared
    _shared = None


os.register_at_fork(after_in_child=_forget_in_child)


class Shared:
    """The folder in which the processes of one service keep their counts for each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._told = False

    def write(self) -> None:
        """Write this process's counts; one that cannot is said once, and tried again."""
        own = self.folder / f"{os.getpid()}.json"
        unfinished = own.with_suffix(f".{threading.get_ident()}")
        state = {meter.metric.name: meter.state() for meter in _meters}
        try:
            unfinished.write_text(json.dumps(state))
            unfinished.replace(own)
        except OSError as error:
            if not self._told:
                log.warning("the counts of this process cannot be shared: %s", error)
            self._told = True

    def read(self) -> list[State]:
        """Return what every process wrote; of those that are dead, the sum of what only grows."""
        try:
            with (self.folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return self._read()
        except OSError:  # a full disk: who reads beside us may see a count fall
            return self._read()

    def _read(self) -> list[State]:
        ended = self._loaded(ENDED) or {"processes": [], "counts": {}}
        living, dead = [], list[str]()
        for path in self.folder.glob("*.json"):
            if path.stem == ENDED:
                continue
            if path.stem == str(os.getpid()) or _is_running(path.stem):
                living.append(self._loaded(path.stem))
            elif path.stem not in ended["processes"]:
                dead.append(path.stem)
        states = [ended["counts"], *(self._loaded(name) for name in dead)]
        counts = _grown([state for state in states if state])
        if dead:
            self._fold(ended["processes"] + dead, counts)
        return [counts, *(state for state in living if state)]

    def _fold(self, processes: list[str], counts: State) -> None:
        """Keep the counts of the dead in one file, named first so that none counts twice."""
        kept, unfinished = self.folder / f"{ENDED}.json", self.folder / f"{ENDED}.new"
        try:
            unfinished.write_text(json.dumps({"processes": processes, "counts": counts}))
            unfinished.replace(kept)
            for name in processes:
                (self.folder / f"{name}.json").unlink(missing_ok=True)
            unfinished.write_text(json.dumps({"processes": [], "counts": counts}))
            unfinished.replace(kept)
        except OSError as error:
            log.debug("the counts of ended processes stay where they are: %s", error)

    def _loaded(self, name: str) -> Any:
        """Return what a file holds; None where there is none, or one of a full disk."""
        try:
            return json.loads((self.folder / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None

    def keep_writing(self) -> None:
        """Write every second from a thread, as long as the process lives."""

        def write() -> None:
            while not pause.wait(WRITE_EVERY_S):
                self.write()

        pause = threading.Event()
        threading.Thread(target=write, name="meters", daemon=True).start()


_shared: Shared | None = None


def make_folder(home: Path, name: str) -> Path | None:
    """Make the folder that this process's children share their counts in; None if that fails.

    They are told by the environment. Folders that dead processes left are removed.
    """
    root = home.absolute() / "metrics"
    for left in root.glob(f"{name}-*") if root.is_dir() else ():
        if not _is_running(left.name.removeprefix(f"{name}-")):
            shutil.rmtree(left, ignore_errors=True)
    folder = root / f"{name}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:  # a full disk costs figures, not the service
        log.warning("the counts of several processes cannot be added up: %s", error)
        return None
    os.environ[FOLDER_VARIABLE] = str(folder)
    return folder


def remove_folder(folder: Path) -> None:
    """Remove what `make_folder` made."""
    os.environ.pop(FOLDER_VARIABLE, None)
    shutil.rmtree(folder, ignore_errors=True)


def share() -> None:
    """Share the counts of this process, if its parent says where; once a process."""
    global _shared
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None or _shared is not None:
        return
    _shared = Shared(Path(folder))
    _shared.keep_writing()


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return int(pid) != os.getpid()


def families() -> list[Any]:
    """Return what this process and its siblings have counted, without what none of them has."""
    states: Sequence[Mapping[str, Any]]
    if _shared is not None:
        _shared.write()
        states = _shared.read()
    else:
        states = [{meter.metric.name: meter.state() for meter in _meters}]
    made = [m.family_of(state.get(m.metric.name, []) for state in states) for m in _meters]
    return [*(family for family in made if family.samples), *_of_the_process()]


def _of_the_process() -> list[Any]:
    """Return memory, CPU and files of this process; nothing where the next answer is another's."""
    from prometheus_client import ProcessCollector

    if _shared is not None:
        return []
    return list(ProcessCollector(registry=None).collect())


for _name, _kind, _meaning in (
    ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
    ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes."),
    ("process_start_time_seconds", "gauge", "Start time of the process, seconds since 1970."),
    ("process_cpu_seconds", "counter", "Total user and system CPU time in seconds."),
    ("process_open_fds", "gauge", "Number of open file descriptors."),
    ("process_max_fds", "gauge", "Maximum number of open file descriptors."),
):
    declare(_kind, _name, "process", _meaning, (), (SERVICE, GATEWAY, ENGINE, WORKER, SCHEDULER))  # type: ignore[arg-type]

DISK_FREE = gauge(
    "flywheel_disk_free_bytes",
    "process",
    "Bytes that are free where FLYWHEEL_HOME lies.",
    (),
    (SERVICE, GATEWAY, WORKER, SCHEDULER),
)
DISK_SIZE = gauge(
    "flywheel_disk_size_bytes",
    "process",
    "Bytes of that disk.",
    (),
    (SERVICE, GATEWAY, WORKER, SCHEDULER),
)


def disk_families(home: Path) -> list[Any]:
    """Return free and whole size of the disk of a folder; nothing while it does not exist."""
    try:
        usage = shutil.disk_usage(home)
    except OSError:
        return []
    return [DISK_FREE.family([((), usage.free)]), DISK_SIZE.family([((), usage.total)])]
