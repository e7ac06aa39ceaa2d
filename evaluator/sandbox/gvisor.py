"""Tier C: the worker inside gVisor's `runsc`, where it is installed.

The kernel that the code talks to is gVisor's own, in user space; the host's sees few calls of it.
gVisor has no Landlock, so what stands around a child there is its file system view, seccomp and
resource limits. The bundle (a folder with `config.json`) is what OCI runtimes take.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluator.sandbox.bubblewrap import (
    SCRATCH,
    Room,
    installed_paths,
    interpreter,
    readable_paths,
)

PLATFORMS = ("systrap", "ptrace")
_END_S = 10.0


class NoGvisor(Exception):
    """It is not installed."""


@dataclass(frozen=True)
class Container:
    """A place for one gVisor sandbox on the disk; all of it goes when it ends.

    Attributes:
        folder: holds the bundle and gVisor's own state.
        platform: one of `PLATFORMS`.
    """

    folder: Path
    platform: str

    def command_line(self, room: Room, program: Sequence[str]) -> list[str]:
        """Writes the bundle and builds the command that runs a program inside.

        Raises:
            NoGvisor: it is not installed.
        """
        bundle = self.folder / "bundle"
        (bundle / "rootfs").mkdir(parents=True)
        (bundle / "config.json").write_text(json.dumps(_config(room, program)))
        return [*self._runsc(), "run", "--bundle", str(bundle), self.folder.name]

    def end(self) -> None:
        """Ends everything inside."""
        command = [*self._runsc(), "delete", "--force", self.folder.name]
        subprocess.run(command, capture_output=True, check=False, timeout=_END_S)

    def _runsc(self) -> list[str]:
        found = shutil.which("runsc")
        if found is None:
            raise NoGvisor("gVisor (runsc) is not installed")
        flags = [f"--root={self.folder}/state", f"--platform={self.platform}", "--network=none"]
        flags += ["--ignore-cgroups"] if os.geteuid() == 0 else ["--rootless"]
        return [found, *flags]


def _config(room: Room, program: Sequence[str]) -> dict[str, object]:
    shown = sorted({*readable_paths(), interpreter()})
    mounts = [_mount(path, "bind", os.path.realpath(path), "ro", "rbind") for path in shown]
    mounts += [_mount(path, "tmpfs", "tmpfs", "mode=0755") for path in installed_paths()]
    mounts += [_mount(path, "bind", path, "ro", "rbind") for path in room.packages]
    size = f"size={room.scratch_mb << 20}"
    mounts.append(_mount(SCRATCH, "tmpfs", "tmpfs", size, "mode=1777"))
    mounts += [_mount(path, "tmpfs", "tmpfs", "ro") for path in ("/tmp", "/proc", "/sys")]
    rights = ["CAP_SETUID", "CAP_SETGID"]
    kinds = ("pid", "ipc", "uts", "mount", "network")
    return {
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(program),
            "env": [f"{name}={value}" for name, value in room.environment.items()],
            "cwd": SCRATCH,
            "capabilities": {name: rights for name in ("bounding", "effective", "permitted")},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "sandbox",
        "mounts": mounts,
        "linux": {"namespaces": [{"type": kind} for kind in kinds]},
    }


def _mount(path: str, kind: str, source: str, *options: str) -> dict[str, object]:
    return {"destination": path, "type": kind, "source": source, "options": list(options)}
