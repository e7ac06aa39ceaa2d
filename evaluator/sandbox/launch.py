"""Starting one worker process, in a tier, with a clean interpreter and an empty environment."""

import contextlib
import functools
import glob
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

TIERS = ("A", "D", "weak")
_START_S = 60.0
_INSIDE = ("wire", "confine", "worker")
_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_SLOT_UIDS = range(61184, 65520)

# Loads the inside modules from text on standard input, so that the sandbox need not see our files.
_BOOTSTRAP = """
import json, os, struct, sys, types
def frame():
    size = b""
    while len(size) < 4: size += os.read(0, 4 - len(size)) or sys.exit(3)
    body, size = b"", struct.unpack("!I", size)[0]
    while len(body) < size: body += os.read(0, size - len(body)) or sys.exit(3)
    return json.loads(body)
start = frame()
for name in ("evaluator", "evaluator.sandbox"):
    sys.modules[name] = types.ModuleType(name)
for name, text in start["modules"]:
    module = types.ModuleType("evaluator.sandbox." + name)
    sys.modules[module.__name__] = module
    setattr(sys.modules["evaluator.sandbox"], name, module)
    exec(compile(text, name + ".py", "exec"), module.__dict__)
sys.modules["evaluator.sandbox.worker"].main(start["settings"])
"""


class WorkerFailed(Exception):
    """A worker did not start, or is gone."""


@functools.cache
def _inside_modules() -> list[tuple[str, str]]:
    folder = resources.files("evaluator.sandbox")
    return [(name, (folder / f"{name}.py").read_text("utf-8")) for name in _INSIDE]


def _interpreter() -> str:
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@functools.cache
def _readable_paths() -> tuple[str, ...]:
    """What a Python program needs to read: the standard library and shared libraries."""
    paths = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    paths |= {os.path.realpath(path) for path in paths}
    paths |= {"/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo"}
    paths |= {"/lib", "/lib64", "/etc/localtime", "/etc/ld.so.cache"}
    paths |= set(glob.glob(f"{sys.base_prefix}/lib/*.so*"))
    return tuple(sorted(path for path in paths if os.path.exists(path)))


def _own_tasks() -> int:
    """Processes and threads of this uid on the machine (Linux), 0 where unknown."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == os.getuid():
                total += len(os.listdir(entry / "task"))
    return total


def _process_limit() -> int:
    """The process limit of the children; as root every worker has a uid of its own.

    Otherwise the limit counts everything that this user runs, so it leaves room above that; it is
    the system call filter that stops new processes.
    """
    if sys.platform != "linux":
        return 1  # threads do not count there, so this only refuses new processes
    return 64 if os.geteuid() == 0 else _own_tasks() + 512


def _bubblewrap(scratch_mb: int) -> list[str]:
    """The command line that puts the worker into namespaces with a read-only system."""
    found = shutil.which("bwrap")
    if found is None:
        raise WorkerFailed("bubblewrap is not installed")
    command = [found, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--new-session"]
    if os.geteuid() == 0:
        command += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user"]
    shown = {*_SYSTEM, *_readable_paths(), _interpreter()}
    shown = {path for path in shown if not _within(path, shown - {path})}
    above = {str(parent) for path in (*shown, *_DEVICES) for parent in Path(path).parents}
    for folder in sorted(above - {"/"}):  # made by bind they would be closed to our own uid
        command += ["--dir", folder] if not _within(folder + "/x", shown) else []
    for path in sorted(shown):
        command += ["--ro-bind-try", path, path]
    for device in _DEVICES:
        command += ["--dev-bind-try", device, device]
    command += ["--perms", "1777", "--size", str(scratch_mb << 20), "--tmpfs", "/scratch"]
    return [*command, "--remount-ro", "/", "--chdir", "/scratch"]


def _within(path: str, folders: set[str]) -> bool:
    return any(path.startswith(folder.rstrip("/") + "/") for folder in folders)


@dataclass
class Worker:
    """A running worker; one request at a time.

    Attributes:
        tier: the tier it was started in.
        process: it, or the bubblewrap around it.
        folder: its scratch folder on the host, None where that lies in a file system of its own.
        hello: what it found on this machine.
        inner_pid: the first process of its pid namespace, whose end ends all others.
    """

    tier: str
    process: "subprocess.Popen[bytes]"
    folder: Path | None
    hello: dict[str, Any] = field(default_factory=dict)
    inner_pid: int | None = None

    @classmethod
    def start(cls, tier: str, scratch_mb: int) -> "Worker":
        """Starts a worker and waits for its hello.

        Args:
            tier: one of `TIERS`.
            scratch_mb: size of the scratch folder where it is a file system of its own.

        Raises:
            WorkerFailed: it could not start, with its own words.
        """
        folder = None
        uid = secrets.choice(_SLOT_UIDS)
        command = [_interpreter(), "-S", "-s", "-P", "-B", "-c", _BOOTSTRAP]
        info_in = info_out = -1
        try:
            scratch = "/scratch"
            if tier == "A":
                info_in, info_out = os.pipe()
                command = [*_bubblewrap(scratch_mb), "--info-fd", str(info_out), "--", *command]
            else:
                scratch = os.path.realpath(tempfile.mkdtemp(prefix="flywheel-sandbox-"))
                folder = Path(scratch)
                if os.geteuid() == 0:
                    os.chown(folder, uid, uid)
            worker = cls._spawn(tier, command, folder, scratch, info_out)
        except BaseException:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            if info_out >= 0:
                os.close(info_out)
        settings = {
            "scratch": scratch,
            "uid": uid,
            "library": sysconfig.get_path("stdlib"),
            "readable": list(_readable_paths()),
            "processes": _process_limit(),
        }
        worker._greet(settings, info_in)
        return worker

    @classmethod
    def _spawn(
        cls, tier: str, command: list[str], folder: Path | None, scratch: str, info_out: int
    ) -> "Worker":
        environment = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "HOME": scratch, "TMPDIR": scratch}
        if "LD_LIBRARY_PATH" in os.environ:  # an interpreter built against libraries elsewhere
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
            pass_fds=[info_out] if info_out >= 0 else [],
        )
        return cls(tier, process, folder)

    def _greet(self, settings: dict[str, Any], info_in: int) -> None:
        start = {"modules": _inside_modules(), "settings": settings}
        try:
            self._send(json.dumps(start).encode())
            self.hello = json.loads(self._receive(_START_S))
            if info_in >= 0:
                self.inner_pid = json.loads(os.read(info_in, 4096) or b"{}").get("child-pid")
        except (WorkerFailed, ValueError) as error:
            words = self._last_words()
            self.kill()
            raise WorkerFailed(f"{words or error}") from None
        finally:
            if info_in >= 0:
                os.close(info_in)

    def _last_words(self) -> str:
        assert self.process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            if select.select([self.process.stderr], [], [], 1.0)[0]:
                text = os.read(self.process.stderr.fileno(), 65536).decode("utf-8", "replace")
                return text.strip().splitlines()[-1] if text.strip() else ""
        return ""

    def ask(
        self, request: dict[str, Any], timeout_s: float, test: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Sends a request, with the trusted test in a frame of its own, and waits for the outcome.

        Raises:
            WorkerFailed: the worker is gone or did not answer in time; kill it.
        """
        self._send(json.dumps(request).encode())
        if test is not None:
            self._send(json.dumps(test).encode())
        answer = json.loads(self._receive(timeout_s))
        assert isinstance(answer, dict)
        return answer

    def _send(self, body: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(len(body).to_bytes(4, "big") + body)
            self.process.stdin.flush()
        except (OSError, ValueError) as error:
            raise WorkerFailed(f"the worker is gone ({error})") from None

    def _receive(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        size = int.from_bytes(self._read(4, deadline), "big")
        return self._read(size, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        assert self.process.stdout is not None
        fd, parts = self.process.stdout.fileno(), []
        while size:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise WorkerFailed("the worker did not answer in time")
            part = os.read(fd, min(size, 1 << 20))
            if not part:
                raise WorkerFailed("the worker is gone")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Ends the worker by ending its input, and kills it if it does not go."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """Ends the worker now, with all that it started, and removes its folder."""
        if self.process.poll() is None:
            for pid in filter(None, (self.inner_pid, self.process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
