"""The warm worker: a clean interpreter that forks one confined child per execution.

It runs inside the isolation (bubblewrap where there is one), speaks length-prefixed JSON on its
standard input and output, and holds no secret: expected values never come here, only code and
inputs. Standard library only. The parent starts it with `launch.py`.

A child reports through a pipe of its own, and what it reports is only ever treated as data. The
worker measures the child's CPU time from outside, watches the scratch folder, reads capped output
and kills the child at the first limit; the system call filter lets no other process exist, so the
end of the child is the end of all it started.
"""

import builtins
import contextlib
import ctypes
import errno
import fcntl
import gc
import importlib
import json
import os
import random
import select
import signal
import struct
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from evaluator.sandbox import confine, wire

PRELOAD = (
    "abc array ast base64 binascii bisect calendar cmath collections.abc copy dataclasses datetime "
    "decimal difflib enum fractions functools hashlib heapq inspect io itertools json math "
    "numbers operator pprint queue random re statistics string struct textwrap threading time "
    "traceback typing unicodedata"
).split()
_TICK_S = 0.05
_UNCONFINED = 97
_OWN_MODULES = (
    "evaluator",
    "evaluator.sandbox",
    *(
        f"evaluator.sandbox.{name}"
        for name in ("wire", "confine", "cases", "project_run", "worker")
    ),
)
_WARM_ROUNDS = 20  # after eight calls CPython 3.11 adapts a function, then its instructions
_WARM_INPUTS: list[list[Any]] = [[1], [["x", 1.0, None, True]], [{"d": [["a", {"t": [2]}]]}]]
_UNFIT = (StopIteration, StopAsyncIteration, UnicodeError, BaseExceptionGroup)
WALLS: confine.Walls
RUNNERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
_libc = ctypes.PyDLL(None, use_errno=True)
Report = dict[str, Any]


def read_frame(fd: int) -> bytes | None:
    """Reads one length-prefixed frame; None at the end of the stream."""
    header = _read_exactly(fd, 4)
    return None if header is None else _read_exactly(fd, struct.unpack("!I", header)[0])


def read_request(fd: int) -> dict[str, Any] | None:
    """Reads one request; its bytes stay in no frame that a child could look at."""
    frame = read_frame(fd)
    return None if frame is None else dict(json.loads(frame))


def _read_exactly(fd: int, size: int) -> bytes | None:
    parts, missing = [], size
    while missing:
        part = os.read(fd, min(missing, 1 << 20))
        if not part:
            return None
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def write_frame(fd: int, body: bytes) -> None:
    """Writes one length-prefixed frame."""
    rest = memoryview(struct.pack("!I", len(body)) + body)
    while rest:
        rest = rest[os.write(fd, rest) :]


# --- inside a child -------------------------------------------------------------------------


def _load(code: str, name: str) -> dict[str, Any]:
    """Executes module text as a module of its own and returns its names."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(code, "<answer>", "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


def _name(error: BaseException) -> str:
    return str(type(error).__name__)[:200]


def _why(error: BaseException) -> Report:
    """The status and the words for an exception that ended an execution."""
    try:
        text = str(error)[:300]
    except BaseException:  # noqa: B036 - hostile __str__
        text = ""
    return {"status": _flag(error) or "CRASH", "detail": f"{_name(error)}: {text}".rstrip(": ")}


def _flag(error: BaseException) -> str | None:
    """The status that this exception stands for, when it came from a wall and not from the code."""
    if isinstance(error, MemoryError):
        return "MEMORY"
    if isinstance(error, PermissionError) and error.errno in (errno.EPERM, errno.EACCES):
        return "FORBIDDEN"
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return "FORBIDDEN"
    if isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ENOSPC):
        return "MEMORY"
    return None


def answer_call(request: Mapping[str, Any]) -> Report:
    """Loads the code and calls its entry point once per input, arguments made fresh each time."""
    try:
        function = _load(request["code"], "__answer__")[request["entry_point"]]
    except KeyError:
        return {"status": "CRASH", "detail": f"no function {request['entry_point']!r} defined"}
    except BaseException as error:  # noqa: B036 - SystemExit too
        return _why(error)
    values: list[Any] = []
    errors: list[str | None] = []
    status, detail = "PASS", ""
    for data in request["inputs"]:
        arguments = wire.decode(data)
        try:
            values.append(wire.encode(function(*arguments)))
            errors.append(None)
        except BaseException as error:  # noqa: B036
            values.append(None)
            errors.append(_name(error))
            if status == "PASS" and _flag(error):
                status, detail = _why(error).values()
    return {"status": status, "detail": detail, "values": values, "errors": errors}


def run_script(request: Mapping[str, Any], nonce_fd: int) -> Report:
    """Runs a whole script as `__main__`; the nonce is read only after its last line."""
    try:
        _load(request["code"], "__main__")
    except AssertionError as error:
        return {"status": "WRONG", "detail": _why(error)["detail"]}
    except BaseException as error:  # noqa: B036
        return _why(error)
    return {"status": "PASS", "detail": "", "nonce": os.read(nonce_fd, 64).decode()}


def run_tests(request: dict[str, Any], nonce_fd: int) -> Report:
    """Runs a file of tests, or those of a project; the nonce is read only after the last one."""
    try:
        report = RUNNERS[request["kind"]](request)
    except BaseException as error:  # noqa: B036
        return _why(error)
    return {**report, "nonce": os.read(nonce_fd, 64).decode()}


def serve_calls(request: Mapping[str, Any], inbox: int, outbox: int) -> Report:
    """The untrusted side of a split test: answers calls of one function until its inbox ends."""
    try:
        function = _load(request["code"], "__answer__")[request["entry_point"]]
    except KeyError:
        return {"status": "CRASH", "detail": f"no function {request['entry_point']!r} defined"}
    except BaseException as error:  # noqa: B036
        return _why(error)
    while (frame := read_frame(inbox)) is not None:
        call = json.loads(frame)
        arguments, keywords = wire.decode(call["args"]), wire.decode(call["kwargs"])
        try:
            answer = {"value": wire.encode(function(*arguments, **keywords), rich=True)}
        except BaseException as error:  # noqa: B036
            answer = {"error": _name(error), "flag": _flag(error)}
        write_frame(outbox, json.dumps(answer).encode())
    return {"status": "PASS", "detail": ""}


class _NotPlain(BaseException):
    """The trusted test passes something that cannot cross to the other process."""


class _Gone(BaseException):
    """The untrusted process ended before it answered."""


class _Remote:
    """The function under test, as the trusted test sees it."""

    def __init__(self, name: str, inbox: int, outbox: int, cap: int) -> None:
        self.__name__ = name
        self._inbox, self._outbox, self._cap = inbox, outbox, cap
        self.flag: str | None = None
        self.broken = False
        self.answered = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = {"args": wire.encode(list(args), rich=True)}
        call["kwargs"] = wire.encode(kwargs, rich=True)
        text = json.dumps(call)
        if '{"u": ' in text:
            if self.answered:  # the code may have steered the test here
                raise AssertionError("something that is not a plain value was passed on")
            self.broken = True
            raise _NotPlain
        try:
            write_frame(self._outbox, text.encode())
            header = _read_exactly(self._inbox, 4)
            size = struct.unpack("!I", header)[0] if header else 0
            body = _read_exactly(self._inbox, size) if 0 < size <= self._cap else None
            answer = json.loads(body) if body else None
        except (OSError, ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            self.broken = True
            raise _Gone
        self.answered += 1
        if "error" in answer:
            if answer.get("flag") in ("MEMORY", "FORBIDDEN"):
                self.flag = str(answer["flag"])
            raise _as_builtin(str(answer["error"]))
        return wire.decode(answer.get("value"))


def _as_builtin(name: str) -> Exception:
    """The exception to raise in the test for one raised in the code.

    Only plain errors: a StopIteration or SystemExit from over there could end a loop of the test
    early and let it pass.
    """
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _UNFIT):
        return kind(f"raised by the function under test ({name})")
    return RuntimeError(f"raised by the function under test: {name}")


def run_test(request: Mapping[str, Any], remote: _Remote) -> Report:
    """The trusted side of a split test: runs setup and test against the proxy.

    What it prints is dropped and of an exception only the type is told, since both pass through the
    worker and may hold expected values.

    Args:
        request: `setup`, `test` and `entry_point`.
        remote: the function in the other process.
    """
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    os.dup2(0, 1)
    os.dup2(0, 2)
    try:
        exec(compile(request["setup"], "<setup>", "exec", dont_inherit=True), module.__dict__)
        module.__dict__[request["entry_point"]] = remote
        exec(compile(request["test"], "<test>", "exec", dont_inherit=True), module.__dict__)
    except AssertionError:
        return {"status": remote.flag or "WRONG", "detail": "AssertionError"}
    except _NotPlain:
        return {"status": "CRASH", "detail": "not plain", "not_plain": True}
    except _Gone:
        return {"status": "CRASH", "detail": "the code ended before it answered", "gone": True}
    except BaseException as error:  # noqa: B036
        return {"status": remote.flag or _flag(error) or "CRASH", "detail": _name(error)}
    if remote.broken:  # a broad except of the test swallowed it
        return {"status": "CRASH", "detail": "the code ended before it answered", "gone": True}
    return {"status": "PASS", "detail": ""}


# --- in the worker --------------------------------------------------------------------------


def fork() -> int:
    """Forks without Python's own steps before and after.

    They renew locks and random numbers of processes with several threads. The worker has one, and
    they cost a child a sixth of its time.

    Raises:
        OSError: no process could be made.
    """
    pid = int(_libc.fork())
    if pid < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return pid


class Child:
    """One confined process, watched from outside."""

    def __init__(
        self,
        job: Callable[..., Report],
        fds: list[int],
        limits: Mapping[str, Any],
        prepare: Callable[[], tuple[Any, ...]] = tuple,
    ) -> None:
        """Forks; `job` runs in the child, and its report is sent.

        Args:
            job: what to do; its report goes to descriptor 3 as JSON.
            fds: descriptors handed to the child.
            limits: the fields of `Limits`.
            prepare: run in the child while it still has the worker's descriptors; what it returns
                is given to `job`.
        """
        self.limits = limits
        self.report_cap = int(limits["output_bytes"]) * 16
        report_in, report_out = os.pipe()
        print_in, print_out = os.pipe()
        sys.stdout.flush()
        self.pid = fork()
        if self.pid == 0:
            _be_child(job, [report_out, *fds], print_out, limits, prepare)
        os.close(report_out)
        os.close(print_out)
        self.started = time.monotonic()
        self.pidfd = _pidfd(self.pid)
        self.report, self.printed = bytearray(), bytearray()
        self.streams = {report_in: (self.report, self.report_cap + 1)}
        self.streams[print_in] = (self.printed, int(limits["output_bytes"]))
        for fd in self.streams:
            os.set_blocking(fd, False)
        self.verdict: tuple[str, str] | None = None
        self.wait_status: int | None = None
        self.dismissed = False
        self.cpu_s, self.peak_mb = 0.0, 0.0

    def cpu_now(self) -> float:
        """CPU seconds so far, of all its threads; 0 where only the end will tell (macOS)."""
        if sys.platform != "linux":
            return 0.0
        try:
            return time.clock_gettime((~self.pid << 3) | 2)
        except OSError:
            return 0.0

    def read(self, fd: int) -> bool:
        """Reads what is there, keeping no more than the cap; False at the end."""
        kept, cap = self.streams[fd]
        try:
            part = os.read(fd, 1 << 16)
        except BlockingIOError:
            return True
        kept += part[: max(0, cap - len(kept))]
        return bool(part)

    def check_limits(self, scratch: str) -> None:
        """Kills the child when it went over a limit."""
        limits = self.limits
        if self.cpu_now() >= limits["cpu_s"]:
            self.kill("TIMEOUT", f"more than {limits['cpu_s']:g} s of CPU time")
        elif time.monotonic() - self.started >= limits["wall_s"]:
            self.kill("TIMEOUT", f"more than {limits['wall_s']:g} s of real time")
        elif _size_of(scratch) > limits["scratch_mb"] << 20:
            self.kill("MEMORY", f"more than {limits['scratch_mb']} MiB of files")

    def kill(self, status: str, why: str) -> None:
        """Ends it, with this verdict."""
        self.verdict = self.verdict or (status, why)
        if self.wait_status is None:
            os.kill(self.pid, signal.SIGKILL)

    def dismiss(self) -> None:
        """Ends it because it is no longer needed; if it was dying already, that stays its end."""
        self.dismissed = True
        os.kill(self.pid, signal.SIGKILL)

    def patience(self) -> float:
        """Seconds until a limit could be reached."""
        left: float = self.limits["cpu_s"] - self.cpu_now()
        left = min(left, self.limits["wall_s"] - (time.monotonic() - self.started))
        return max(0.001, min(left, _TICK_S))

    def poll(self) -> bool:
        """True once it has ended; its remains are collected then."""
        if self.wait_status is not None:
            return True
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.wait_status = status
        self.cpu_s = usage.ru_utime + usage.ru_stime
        self.peak_mb = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)
        for fd, (kept, cap) in self.streams.items():
            while len(kept) < cap and select.select([fd], [], [], 0)[0] and self.read(fd):
                pass
            os.close(fd)
        if self.pidfd >= 0:
            os.close(self.pidfd)
        return True

    def death(self) -> Report | None:
        """How it ended, None where it ended by itself and in peace."""
        assert self.wait_status is not None
        if self.verdict is not None:
            return dict(zip(("status", "detail"), self.verdict, strict=True))
        status, limits = self.wait_status, self.limits
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
            if number == signal.SIGSYS:
                return {"status": "FORBIDDEN", "detail": "a forbidden system call"}
            if self.dismissed and number == signal.SIGKILL:
                return {"status": "CRASH", "detail": "answered with something else than a value"}
            if number == signal.SIGXCPU or self.cpu_s >= limits["cpu_s"]:
                return {"status": "TIMEOUT", "detail": f"more than {limits['cpu_s']:g} s of CPU"}
            if self.peak_mb > limits["memory_mb"]:
                return {"status": "MEMORY", "detail": f"killed by {name} at the memory limit"}
            return {"status": "CRASH", "detail": f"killed by {name}"}
        if self.cpu_s > limits["cpu_s"]:
            return {"status": "TIMEOUT", "detail": f"more than {limits['cpu_s']:g} s of CPU time"}
        if os.WEXITSTATUS(status) == _UNCONFINED:
            return {
                "status": "CRASH",
                "detail": "not run: " + self.report.decode("utf-8", "replace"),
            }
        if len(self.report) > self.report_cap:
            return {"status": "CRASH", "detail": f"an answer of more than {self.report_cap} bytes"}
        if not self.report:
            code = os.WEXITSTATUS(status)
            return {"status": "CRASH", "detail": f"exited with {code} before it answered"}
        return None

    def outcome(self) -> Report:
        """The raw report, or how it died; `body` is untrusted text."""
        found = self.death()
        if found is None:
            found = {"body": self.report.decode("utf-8", "replace")}
        found["cpu_s"] = self.cpu_s
        found["output"] = self.printed.decode("utf-8", "replace")
        return found


def _pidfd(pid: int) -> int:
    """A descriptor that tells the end of a process; -1 where there is none (macOS, gVisor)."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def _be_child(
    job: Callable[..., Report],
    fds: list[int],
    printed: int,
    limits: Mapping[str, Any],
    prepare: Callable[[], tuple[Any, ...]],
) -> None:
    """The life of a child from fork to exit; never returns."""
    code = _UNCONFINED
    try:
        given = prepare()
        null = os.open(os.devnull, os.O_RDWR)
        WALLS.shut_files()
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in (null, printed, printed, *fds)]
        for target, fd in enumerate(moved):
            os.dup2(fd, target)
        os.closerange(len(moved), 4096)
        WALLS.shut_process(limits["cpu_s"], limits["memory_mb"], limits["scratch_mb"])
        for name in _OWN_MODULES:
            sys.modules.pop(name, None)
        random.seed(0)
        gc.enable()
        code = 1
        report = json.dumps(job(*given)).encode()
        sys.stdout.flush()
        while report:
            report = report[os.write(3, report) :]
        code = 0
    except OSError as error:
        if code == _UNCONFINED:
            os.write(3, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(code)


def _size_of(folder: str) -> int:
    """Bytes of the plain files of a flat folder; each also counts one block."""
    with os.scandir(folder) as entries:
        total = 0
        for entry in entries:
            try:
                total += 4096 + entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
        return total


def _empty(folder: str) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                import shutil  # seldom needed, and every child would pay for it

                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def watch(children: list[Child], scratch: str, first: Child, stdin: int) -> None:
    """Waits until `first` has ended, then ends the others; keeps every limit meanwhile."""
    poller = select.poll()
    readers: dict[int, Child] = {}
    for child in children:
        for fd in child.streams:
            readers[fd] = child
            poller.register(fd, select.POLLIN)
        if child.pidfd >= 0:
            poller.register(child.pidfd, select.POLLIN)
    poller.register(stdin, 0)
    while not first.poll():
        patience = min(child.patience() for child in children if child.wait_status is None)
        for fd, event in poller.poll(patience * 1000 if first.pidfd >= 0 else 2):
            if fd == stdin and event & (select.POLLHUP | select.POLLERR):
                for child in children:
                    child.kill("CRASH", "the service went away")
                _leave(scratch)
            if fd in readers and readers[fd].wait_status is None and not readers[fd].read(fd):
                poller.unregister(fd)
        for child in children:
            if child.wait_status is None:
                child.check_limits(scratch)
            if child is not first and child.wait_status is None and child.poll():
                for fd in (*child.streams, child.pidfd):
                    try:
                        poller.unregister(fd)
                    except (KeyError, ValueError):  # ended its stream before, or no pidfd
                        continue
    for child in children:
        if child.wait_status is None:
            child.dismiss()
            while not child.poll():
                select.select([child.pidfd] if child.pidfd >= 0 else [], [], [], 0.01)


def _leave(scratch: str) -> NoReturn:
    """Ends the worker; the scratch folder goes too where it is ours to remove."""
    with contextlib.suppress(OSError):
        _empty(scratch)
        os.rmdir(scratch)
    os._exit(0)


def perform(request: dict[str, Any], scratch: str) -> Report:
    """Carries out one request and returns the raw outcome."""
    limits = request["limits"]
    if request["kind"] == "call":
        child = Child(lambda: answer_call(request), [], limits)
        watch([child], scratch, child, 0)
        return child.outcome()
    if request["kind"] in ("script", "cases", "project"):
        return _perform_with_nonce(request, scratch)
    return _perform_split(request, scratch)


def _perform_with_nonce(request: dict[str, Any], scratch: str) -> Report:
    nonce_in, nonce_out = os.pipe()
    os.write(nonce_out, request.pop("nonce").encode())
    os.close(nonce_out)
    run = run_script if request["kind"] == "script" else run_tests
    child = Child(lambda: run(request, 4), [nonce_in], request["limits"])
    os.close(nonce_in)
    watch([child], scratch, child, 0)
    return child.outcome()


def _perform_split(request: Mapping[str, Any], scratch: str) -> Report:
    """Runs code and test in two processes.

    The request holds the code only. The test follows in a frame of its own, which the test's
    process reads from our input by itself: so this process, from which the next untrusted child is
    forked, has never held an expected value.
    """
    limits = request["limits"]
    asks_in, asks_out = os.pipe()
    answers_in, answers_out = os.pipe()
    ready_in, ready_out = os.pipe()
    cap = int(limits["output_bytes"]) * 16
    solution = Child(lambda: serve_calls(request, 4, 5), [asks_in, answers_out], limits)
    remote = _Remote(request["entry_point"], 4, 5, cap)

    def read_test() -> tuple[Any, ...]:
        test = json.loads(read_frame(0) or b"")
        os.write(ready_out, b"+")
        return (test, remote)

    test = Child(run_test, [answers_in, asks_out], limits, read_test)
    for fd in (asks_in, asks_out, answers_in, answers_out, ready_out):
        os.close(fd)
    if not os.read(ready_in, 1):
        os._exit(1)  # our input is out of step now; the service starts another worker
    os.close(ready_in)
    watch([solution, test], scratch, test, 0)
    found, fate = test.outcome(), solution.outcome()
    if '"gone": true' in found.get("body", ""):
        found = {**fate, "side": "code"}
    return {**found, "cpu_s": fate["cpu_s"], "output": fate["output"]}


def load_packages(paths: Sequence[str], plugins: bool) -> list[str]:
    """Imports pytest and what it needs, for the children to find.

    Args:
        paths: where the packages lie.
        plugins: all of them, and what pytest loads when it first runs; without, only what is needed
            to use its objects, since every child pays for what is loaded.

    Returns:
        The names of those that could be read.
    """
    homes = list(dict.fromkeys(os.path.dirname(path) for path in paths))
    sys.path += homes
    loaded = []
    for name in (os.path.basename(path).removesuffix(".py") for path in paths):
        if not plugins and name != "pytest":
            continue
        try:
            importlib.import_module(name)
        except ImportError:  # of another interpreter, or not readable to our uid
            continue
        loaded.append(name)
    if plugins and "pytest" in loaded:
        for plugin in importlib.import_module("_pytest.config").default_plugins:
            importlib.import_module(f"_pytest.{plugin}")
    for home in homes:
        sys.path.remove(home)
    return loaded


def warm_up(testing: bool) -> None:
    """Runs code of our own, often enough that the interpreter has adapted its bytecode to it.

    A child would otherwise do so for itself, and copy a page for every function that changes.

    Args:
        testing: also run tests.
    """
    request = {"code": "def f(x):\n    return x\n", "entry_point": "f", "inputs": _WARM_INPUTS}
    for _ in range(_WARM_ROUNDS):
        json.dumps(answer_call(request))
        for arguments in _WARM_INPUTS:
            wire.encode(wire.decode(arguments), rich=True)
    del sys.modules["__answer__"]
    if testing:
        importlib.import_module("evaluator.sandbox.cases").warm_up(_WARM_ROUNDS)


def main(settings: Mapping[str, Any]) -> None:
    """Prepares the worker, says hello, then answers requests until its input ends."""
    global WALLS
    channel = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    scratch = settings["scratch"]
    who = confine.drop_root(settings["uid"], settings["library"])
    for name in PRELOAD:
        importlib.import_module(name)
    many = bool(settings.get("project"))
    if settings["testing"]:
        for kind, name in (("cases", "cases"), ("project", "project_run")):
            RUNNERS[kind] = importlib.import_module(f"evaluator.sandbox.{name}").run
    packages = load_packages(settings["packages"], plugins=many)
    os.chdir(scratch)
    WALLS = confine.find_walls(settings["readable"], scratch, settings["processes"], many)
    warm_up("pytest" in packages and not many)
    gc.collect()
    gc.freeze()
    gc.disable()
    WALLS.shut_worker()
    hello = {**WALLS.describe(), "identity": who, "python": sys.version.split()[0]}
    hello |= {"packages": packages}
    write_frame(channel, json.dumps(hello).encode())
    while (request := read_request(0)) is not None:
        report = perform(request, scratch)
        _empty(scratch)
        write_frame(channel, json.dumps(report).encode())
    _leave(scratch)
