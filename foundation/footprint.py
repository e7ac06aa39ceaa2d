"""How much memory this process takes."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_FORGET = Path("/proc/self/clear_refs")


def forget_peak() -> None:
    """Begin the peak anew where the kernel lets us (Linux): a worker does many jobs."""
    with suppress(OSError):
        _FORGET.write_text("5")


def peak_rss_mb() -> float:
    """Return the most MiB of RAM that this process has held since it started.

    `getrusage` alone would not do: on Linux its peak is inherited from the process that started
    this one. It stands in where the kernel tells no peak of the program itself.
    """
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; bytes on macOS
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
