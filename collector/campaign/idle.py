"""When this machine has room for its own models: utilisation as measured, and the bounds on it."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from collector.campaign.spec import Idle

SETTLE_S = 1.0
"""Pause before a measurement: `nvidia-smi` reports the last second, in which we may have run."""


@dataclass(frozen=True)
class Utilisation:
    """Shares from 0 to 1: the busiest GPU's (None: none to be seen), and the load per CPU core."""

    gpu: float | None
    cpu: float


def gpu_utilisation(command: str = "nvidia-smi") -> float | None:
    """Return the utilisation of the busiest NVIDIA GPU; None where there is none to be seen."""
    query = [command, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        shown = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    shares = [
        int(line) / 100 for line in map(str.strip, shown.stdout.splitlines()) if line.isdigit()
    ]
    return max(shares, default=None)


def measure() -> Utilisation:
    """Return this machine's utilisation now."""
    return Utilisation(gpu_utilisation(), os.getloadavg()[0] / (os.cpu_count() or 1))


def closed_because(idle: Idle, found: Utilisation) -> str | None:
    """Return why local models may not run now, or None if they may.

    Without a GPU to be seen its bounds say nothing, and `cpu_below` decides; without that too,
    nothing is known of room here and local models do not run.
    """
    if found.gpu is None:
        if idle.cpu_below is None:
            return "no GPU is to be seen, and there is no bound on the CPU"
        if found.cpu >= idle.cpu_below:
            return f"the load per core is {found.cpu:.2f}, not below {idle.cpu_below:.2f}"
        return None
    if idle.gpu_below is not None and found.gpu >= idle.gpu_below:
        return f"the GPU is used at {found.gpu:.0%}, not below {idle.gpu_below:.0%}"
    if idle.gpu_above is not None and found.gpu < idle.gpu_above:
        return f"the GPU is used at {found.gpu:.0%}, not from {idle.gpu_above:.0%} on"
    return None


class Window:
    """Says whether local models may run, and measures only while none of ours does.

    Our own calls would close the window for themselves; so when a measurement is too old, the next
    one waits until the calls in hand have ended.
    """

    def __init__(
        self, idle: Idle | None, measured: Callable[[], Utilisation], settle_s: float = SETTLE_S
    ) -> None:
        self._idle, self._measured, self._settle_s = idle, measured, settle_s
        self._changed = threading.Condition()
        self._n_running = 0
        self._known_until = 0.0
        self._closed: str | None = None

    @contextmanager
    def local_call(self) -> Iterator[str | None]:
        """Yield why no local model may run now, or None; the block is then the call."""
        reason = self._enter()
        try:
            yield reason
        finally:
            if reason is None:
                with self._changed:
                    self._n_running -= 1
                    self._changed.notify_all()

    def _enter(self) -> str | None:
        with self._changed:
            if self._idle is not None and time.monotonic() >= self._known_until:
                self._changed.wait_for(lambda: self._n_running == 0)
                self._measure(self._idle)
            self._n_running += self._closed is None
            return self._closed

    def _measure(self, idle: Idle) -> None:
        if time.monotonic() < self._known_until:
            return  # another thread did, while this one waited
        time.sleep(self._settle_s)
        self._closed = closed_because(idle, self._measured())
        self._known_until = time.monotonic() + idle.poll_s
