"""What this machine can train with, found without torch."""

import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CPU_INFO = Path("/proc/cpuinfo")
_BF16_FROM: Final = 8.0
"""CUDA compute capability from which a GPU computes in bfloat16 (Ampere)."""


@dataclass(frozen=True)
class Hardware:
    """A training machine.

    Attributes:
        has_gpu: whether an NVIDIA GPU answers.
        memory_gb: memory in GB (10^9 bytes), a container's limit included.
        cpu_cores: cores this process may use.
        gpu_name: of the first GPU, or None.
        gpus: how many GPUs there are.
        gpu_memory_gb: memory of the first GPU in GB, or None.
        has_bf16: whether what trains, GPU or CPU, has instructions for bfloat16.
    """

    has_gpu: bool
    memory_gb: float
    cpu_cores: int
    gpu_name: str | None = None
    gpus: int = 0
    gpu_memory_gb: float | None = None
    has_bf16: bool = False

    @property
    def training_memory_gb(self) -> float:
        """Memory in GB of what computes: the GPU's, or the machine's."""
        return self.memory_gb if self.gpu_memory_gb is None else self.gpu_memory_gb

    @property
    def device(self) -> str:
        """What computes, in a word."""
        return self.gpu_name or "cpu"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, for the inputs of a Decision."""
        return asdict(self)


def probe() -> Hardware:
    """Look at this machine: the inputs of `trainer.choose_method` and `trainer.fits`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory_gb = round(_memory_bytes() / 1e9, 1)
    gpus = _gpus()
    if not gpus:
        return Hardware(False, memory_gb, cores or 1, has_bf16=_cpu_has_bf16())
    name, gpu_memory_gb, capability = gpus[0]
    return Hardware(
        True, memory_gb, cores or 1, name, len(gpus), gpu_memory_gb, capability >= _BF16_FROM
    )


def _memory_bytes() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = _MEMORY_LIMIT.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def _cpu_has_bf16() -> bool:
    try:
        flags = _CPU_INFO.read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _gpus() -> list[tuple[str, float, float]]:
    """Return name, memory in GB and compute capability of each GPU; none where none answers."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    asked = ["--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run([command, *asked], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if answer.returncode != 0:
        return []
    return [gpu for line in answer.stdout.splitlines() if (gpu := read_gpu(line)) is not None]


def read_gpu(line: str) -> tuple[str, float, float] | None:
    """Return a GPU of a line of `nvidia-smi`, `NAME, MiB, CAPABILITY`; None for another line."""
    parts = [part.strip() for part in line.rsplit(",", 2)]
    try:
        name, mebibytes, capability = parts[0], float(parts[1]), float(parts[2])
    except (IndexError, ValueError):
        return None
    return name, round(mebibytes * 2**20 / 1e9, 1), capability
