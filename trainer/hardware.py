"""What this machine can train with, found without torch."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Hardware:
    """A training machine.

    Attributes:
        has_gpu: whether an NVIDIA GPU answers.
        memory_gb: memory in GB (10^9 bytes), a container's limit included.
        cpu_cores: cores this process may use.
    """

    has_gpu: bool
    memory_gb: float
    cpu_cores: int


def probe() -> Hardware:
    """Look at this machine: the inputs of `trainer.choose_method`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Hardware(_has_gpu(), round(_memory_bytes() / 1e9, 1), cores or 1)


def _memory_bytes() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = _MEMORY_LIMIT.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def _has_gpu() -> bool:
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    try:
        answer = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "GPU 0" in answer.stdout
