"""Child processes of `flywheel up` and `flywheel demo`: started together, stopped together.

Each child is a `flywheel` command in a session of its own, logging to HOME/logs. It is told to
stop by SIGTERM and killed after a grace period; on Linux the kernel also stops it when this process
dies.
"""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from foundation.errors import FlywheelError

PR_SET_PDEATHSIG = 1
LOG_BYTES = 16 << 20
"""Bytes of a log at most, but for what comes within a second."""
LOGS_KEPT = 3
"""Earlier logs that stay, `worker.log.1` being the latest."""


class ProcessDied(FlywheelError):
    """A child ended by itself; its last lines say why."""

    exit_code = 1

    def __init__(self, name: str, code: int, log_path: Path) -> None:
        tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
        super().__init__(f"process {name!r} ended with code {code}; end of {log_path}:\n{tail}")


class Processes:
    """A group of child processes, used as a context manager."""

    def __init__(self, home: Path, environment: dict[str, str] | None = None) -> None:
        self._logs = home / "logs"
        self._environment = {**os.environ, **(environment or {})}
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, name: str, *arguments: str, nice: int = 0) -> subprocess.Popen[bytes]:
        """Start `flywheel <arguments>` as the child `name`, which gives way to others by `nice`."""
        return self.start_python(name, "-m", "flywheel", *arguments, nice=nice)

    def start_python(self, name: str, *arguments: str, nice: int = 0) -> subprocess.Popen[bytes]:
        """Start this Python with `arguments` as the child `name`."""
        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{name}.log").open("ab") as log_file:
            child = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL, stdout=log_file, stderr=subprocess.STDOUT,
                env=self._environment, start_new_session=True, preexec_fn=_as_child(nice),
            )  # fmt: skip
        self._children[name] = child
        return child

    def log_path(self, name: str) -> Path:
        """Return where the child `name` writes its output."""
        return self._logs / f"{name}.log"

    def rotate_logs(self, most_bytes: int = LOG_BYTES) -> None:
        """Move what a child has written aside once it is long, and let it write on from nothing.

        Copied and cut, since the child keeps its file open, and appends: a line that comes between
        the two is lost. Where there is no room for the copy, what was written is let go.
        """
        for name in self._children:
            path = self.log_path(name)
            if path.stat().st_size <= most_bytes:
                continue
            older = [path, *(path.with_suffix(f".log.{n}") for n in range(1, LOGS_KEPT + 1))]
            for place in range(LOGS_KEPT, 1, -1):
                if older[place - 1].exists():
                    older[place - 1].replace(older[place])
            try:
                shutil.copyfile(path, older[1])
            except OSError:
                older[1].unlink(missing_ok=True)
            os.truncate(path, 0)

    def check(self) -> None:
        """Raise ProcessDied if a child has ended by itself."""
        for name, child in self._children.items():
            code = child.poll()
            if code is not None:
                raise ProcessDied(name, code, self.log_path(name))

    def wait_for_http(self, url: str, timeout_s: float = 60.0) -> None:
        """Wait until `url` answers 200.

        Raises:
            ProcessDied: a child ended meanwhile.
            FlywheelError: no answer in time.
        """
        deadline = time.monotonic() + timeout_s
        with httpx.Client(timeout=2.0) as client:
            while time.monotonic() < deadline:
                self.check()
                try:
                    if client.get(url).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
        raise FlywheelError(f"{url}: no answer after {timeout_s:.0f} s; see {self._logs}")

    def stop(self, grace_s: float = 15.0) -> None:
        """Ask every child to stop, wait, then kill what is left with its own children."""
        for child in self._children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        for child in self._children.values():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            _kill_session(child.pid)
            child.wait()
        self._children.clear()


def _kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _as_child(nice: int) -> Callable[[], None]:
    """Return what a child does before it begins: it dies with its parent, and gives way by `nice`.

    Linux shares the cores out among sessions first where sched_autogroup is on, and looks at the
    niceness of processes within one only; that of the session is asked for by its own file.
    """
    is_linux = sys.platform.startswith("linux")
    libc = ctypes.CDLL(None) if is_linux else None

    def ask_kernel() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if nice:
            os.nice(nice)
        if nice and is_linux:
            with suppress(OSError), open("/proc/self/autogroup", "w") as group:  # absent, read-only
                group.write(str(nice))

    return ask_kernel


def free_port() -> int:
    """Return a TCP port that was free a moment ago on loopback.

    It is below those that kernels give out by themselves, so nobody gets it by chance meanwhile.
    """
    for _ in range(1_000):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise FlywheelError("no port of 20000 to 31999 is free on 127.0.0.1. Stop what listens there.")
