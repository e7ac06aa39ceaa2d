"""Starting one worker process, in a tier, with a clean interpreter and an empty environment."""

import contextlib
import functools
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from evaluator.sandbox import bubblewrap, gvisor

TIERS = ("A", "C", "D", "weak")
_START_S = 60.0
_END_S = 5.0
_INSIDE = ("wire", "confine", "worker")
_FOR_TESTS = ("cases", "project_run")
_PYTHON = ("-S", "-s", "-P", "-B", "-c")
PROCESSES = 64
_SLOT_UIDS = range(61184, 65520)
_way_found: list[str] = []
_Started = TypeVar("_Started")

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


def first_way(start: Callable[[str], _Started]) -> _Started:
    """Starts something by the best way into bubblewrap that works, and remembers that way.

    Raises:
        WorkerFailed: none works; it tells the reasons of all.
    """
    reasons = {}
    for way in (_way_found[0],) if _way_found else bubblewrap.WAYS:
        try:
            started = start(way)
        except (WorkerFailed, bubblewrap.NoBubblewrap) as error:
            reasons[way] = str(error)
            continue
        _way_found[:] = [way]
        return started
    if len(set(reasons.values())) == 1:
        raise WorkerFailed(next(iter(reasons.values())))
    raise WorkerFailed("; ".join(f"{way}: {reason}" for way, reason in reasons.items()))


def spawn_inside(
    way: str, room: bubblewrap.Room, arguments: Sequence[str]
) -> "tuple[subprocess.Popen[bytes], int]":
    """Runs the interpreter inside bubblewrap.

    Returns:
        The process around it, and the descriptor on which bubblewrap tells the first process
        inside (see `inner_pid`).
    """
    info_in, info_out = os.pipe()
    try:
        program = [bubblewrap.interpreter(), *arguments]
        command = bubblewrap.command_line(way, room, program, info_out)
        return _spawn(command, dict(room.environment), info_out), info_in
    except BaseException:
        os.close(info_in)
        raise
    finally:
        os.close(info_out)


def inner_pid(info_in: int) -> int | None:
    """Reads which process is the first of a pid namespace; its end ends all others."""
    with contextlib.suppress(ValueError):
        found = json.loads(os.read(info_in, 4096) or b"{}").get("child-pid")
        return int(found) if found else None
    return None


def _spawn(
    command: list[str], environment: dict[str, str], passed: int = -1
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
        start_new_session=True,
        pass_fds=[passed] if passed >= 0 else [],
    )


def _environment(scratch: str) -> dict[str, str]:
    given = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "HOME": scratch, "TMPDIR": scratch}
    if "LD_LIBRARY_PATH" in os.environ:  # an interpreter built against libraries elsewhere
        given["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return given


def _settings(
    scratch: str, uid: int, packages: Sequence[str] | None, way: str | None
) -> dict[str, Any]:
    return {
        "scratch": scratch,
        "uid": uid,
        "library": sysconfig.get_path("stdlib"),
        "readable": [*bubblewrap.readable_paths(), *(packages or ())],
        "packages": list(packages or ()),
        "testing": packages is not None,
        "processes": _process_limit(way),
    }


@functools.cache
def _inside_modules(testing: bool) -> list[tuple[str, str]]:
    """The texts of what runs inside; no more than is needed, since every child pays for it."""
    folder = resources.files("evaluator.sandbox")
    names = (*_FOR_TESTS, *_INSIDE) if testing else _INSIDE
    return [(name, (folder / f"{name}.py").read_text("utf-8")) for name in names]


def _own_tasks() -> int:
    """Processes and threads of this uid on the machine (Linux), 0 where unknown."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == os.getuid():
                total += len(os.listdir(entry / "task"))
    return total


def _process_limit(way: str | None) -> int:
    """The process limit of the children.

    Where it counts everything that this user runs, it leaves room above that; it is the system
    call filter that stops new processes.
    """
    if sys.platform != "linux":
        return 1  # threads do not count there, so this only refuses new processes
    alone = os.geteuid() == 0 or (way is not None and bubblewrap.counts_processes_inside(way))
    return PROCESSES if alone else _own_tasks() + 512


@dataclass
class Worker:
    """A running worker; one request at a time.

    Attributes:
        tier: the tier it was started in.
        process: it, or the bubblewrap around it.
        folder: its scratch folder on the host, None where that lies in a file system of its own.
        hello: what it found on this machine.
        inner_pid: the first process of its pid namespace, whose end ends all others.
        container: the gVisor sandbox that it runs in, in tier C.
    """

    tier: str
    process: "subprocess.Popen[bytes]"
    folder: Path | None
    hello: dict[str, Any] = field(default_factory=dict)
    inner_pid: int | None = None
    container: gvisor.Container | None = None

    @classmethod
    def start(
        cls, tier: str, scratch_mb: int, testing: bool = False, processes: bool = False
    ) -> "Worker":
        """Starts a worker and waits for its hello.

        Args:
            tier: one of `TIERS`.
            scratch_mb: size of the scratch folder where it is a file system of its own.
            testing: for `Cases`: pytest and coverage are loaded, where the service has them.
            processes: for `Project`: the code may start processes and open sockets, in namespaces
                that are its own, and the worker serves one run.

        Raises:
            WorkerFailed: it could not start, with its own words.
        """
        packages = bubblewrap.package_paths() if testing else None
        if tier == "A":
            return first_way(lambda way: cls._start_inside(way, scratch_mb, packages, processes))
        if tier not in TIERS:
            raise WorkerFailed(f"no such tier, expected one of {', '.join(TIERS)}")
        if processes:
            raise WorkerFailed("processes need namespaces to end in")
        if tier == "C":
            return cls._start_in_gvisor(scratch_mb, packages)
        return cls._start_bare(tier, packages)

    @classmethod
    def _start_inside(
        cls, way: str, scratch_mb: int, packages: Sequence[str] | None, processes: bool
    ) -> "Worker":
        """Starts it inside bubblewrap."""
        uid = secrets.choice(_SLOT_UIDS)
        environment = _environment(bubblewrap.SCRATCH)
        if processes:
            homes = dict.fromkeys(os.path.dirname(path) for path in packages or ())
            environment |= {"PYTHONPATH": ":".join(homes), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        room = bubblewrap.Room(scratch_mb, packages or (), environment, uid)
        process, info_in = spawn_inside(way, room, [*_PYTHON, _BOOTSTRAP])
        worker = cls("A", process, None)
        settings = _settings(bubblewrap.SCRATCH, uid, packages, way)
        if processes:
            programs = [bubblewrap.interpreter(), *filter(os.path.exists, ("/usr", "/bin"))]
            settings |= {"project": True, "readable": [*settings["readable"], *programs]}
        worker._greet(settings, info_in)
        worker.hello["namespaces"] = way
        return worker

    @classmethod
    def _start_in_gvisor(cls, scratch_mb: int, packages: Sequence[str] | None) -> "Worker":
        """Starts it inside gVisor, by the first of its platforms that works."""
        uid = secrets.choice(_SLOT_UIDS)
        room = bubblewrap.Room(scratch_mb, packages or (), _environment(bubblewrap.SCRATCH), uid)
        reason = ""
        for platform in gvisor.PLATFORMS:
            folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="flywheel-sandbox-")))
            container = gvisor.Container(folder, platform)
            try:
                program = [bubblewrap.interpreter(), *_PYTHON, _BOOTSTRAP]
                process = _spawn(container.command_line(room, program), dict(os.environ))
                worker = cls("C", process, folder, container=container)
                worker._greet(_settings(bubblewrap.SCRATCH, uid, packages, None), -1)
            except (WorkerFailed, gvisor.NoGvisor) as error:
                shutil.rmtree(folder, ignore_errors=True)
                reason = str(error)
                continue
            worker.hello["namespaces"] = f"gVisor, {platform}"
            return worker
        raise WorkerFailed(reason)

    @classmethod
    def _start_bare(cls, tier: str, packages: Sequence[str] | None) -> "Worker":
        """Starts it without namespaces, with a scratch folder on the host."""
        uid = secrets.choice(_SLOT_UIDS)
        folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="flywheel-sandbox-")))
        try:
            if os.geteuid() == 0:
                os.chown(folder, uid, uid)
            command = [bubblewrap.interpreter(), *_PYTHON, _BOOTSTRAP]
            worker = cls(tier, _spawn(command, _environment(str(folder))), folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        worker._greet(_settings(str(folder), uid, packages, None), -1)
        return worker

    def _greet(self, settings: dict[str, Any], info_in: int) -> None:
        start = {"modules": _inside_modules(settings["testing"]), "settings": settings}
        try:
            self._send(json.dumps(start).encode())
            self.hello = json.loads(self._receive(_START_S))
            if info_in >= 0:
                self.inner_pid = inner_pid(info_in)
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
        if self.process.poll() is None and self.inner_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.inner_pid, 9)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_END_S)  # bubblewrap ends when all that was inside is gone
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.container is not None:
            self.container.end()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
