"""What a process and everything below it use, read from /proc by the service, outside."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024
_GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True)
class Usage:
    """Of all processes of a tree together.

    Attributes:
        cpu_s: CPU seconds of the living, and of the dead that were waited for.
        memory_mb: MiB held in memory; what several share is counted once where the kernel tells.
        processes: how many live.
    """

    cpu_s: float
    memory_mb: float
    processes: int


def usage(root: int) -> Usage:
    """Sums up a process and everything below it; what ends meanwhile is left out."""
    found = dict(_stats())
    below: dict[int, list[int]] = {}
    for pid, fields in found.items():
        below.setdefault(int(fields[1]), []).append(pid)
    waiting, members = [root] if root in found else [], []
    while waiting:
        members.append(waiting.pop())
        waiting += below.get(members[-1], [])
    ticks = sum(sum(map(int, found[pid][11:15])) for pid in members)
    kilobytes = sum(_kilobytes(pid, found[pid]) for pid in members)
    return Usage(ticks / _TICKS, kilobytes / 1024, len(members))


def _stats() -> Iterator[tuple[int, list[str]]]:
    """The fields after the name in /proc/PID/stat: state, parent, ..."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/stat").read_text(errors="replace")
            except _GONE:
                continue
            yield int(name), text.rpartition(")")[2].split()


def _kilobytes(pid: int, fields: list[str]) -> float:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except _GONE:
        return 0.0
    except PermissionError:
        return int(fields[21]) * _PAGE_KB
    share = re.search(r"^Pss:\s+(\d+)", rollup, re.M)
    return float(share[1]) if share else 0.0
