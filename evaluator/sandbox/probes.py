"""The self-test before a tier is used: attacks must fail and ordinary programs must work.

Each attack is code whose `probe()` returns "open" when it got through. The test suite has more and
nastier ones; these are the ones that decide.
"""

import os
import secrets
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from evaluator.sandbox.calls import PROJECT_LIMITS, Call, Limits, Outcome, Status
from evaluator.sandbox.project import run_round

ATTACKS: dict[str, str] = {
    "network": "import socket\ndef probe(): socket.socket(); return 'open'",
    "new process": (
        "import os\ndef probe():\n    pid = os.fork()\n    if pid == 0: os._exit(0)\n"
        "    os.waitpid(pid, 0)\n    return 'open'"
    ),
    "run a program": (
        "import os\ndef probe(): os.posix_spawn('/bin/true', ['true'], {}); return 'open'"
    ),
    "signal others": "import os\ndef probe(): os.kill(os.getppid(), 0); return 'open'",
    "memory": "def probe(): bytearray(2 << 30); return 'open'",
    "new namespace": (
        "import ctypes\ndef probe(): return 'open' if ctypes.CDLL(None).unshare(0x10000000) == 0 "
        "else 'closed'"
    ),
    "io_uring": (
        "import ctypes\ndef probe():\n    r = ctypes.CDLL(None, use_errno=True)\n"
        "    r.syscall(425, 1, None)\n    return 'open' if ctypes.get_errno() == 14 else 'closed'"
    ),
    "environment": "import os\ndef probe(): return 'open' if 'PATH' in os.environ else 'closed'",
    "write to temp": (
        "def probe():\n    open('/tmp/flywheel-probe-{token}', 'w').close()\n    return 'open'"
    ),
    "write to shared memory": (
        "def probe():\n    open('/dev/shm/flywheel-probe-{token}', 'w').close()\n    return 'open'"
    ),
    "read a host file": (
        "def probe(): return 'open' if '{token}' in open('{secret}').read() else 'closed'"
    ),
    "read another process": (
        "def probe(): return 'open' if open('/proc/{service}/environ', 'rb') else 'closed'"
    ),
}
ORDINARY = """
import threading, time, os
import configparser, tomllib, csv, zlib
def probe():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(41 + 1))
    thread.start()
    thread.join()
    with open('note.txt', 'w') as file:
        file.write('works')
    return [seen[0], open('note.txt').read()]
"""


_GIVEN = {"HOME", "LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PWD", "PYTHONPATH", "TMPDIR"}
PROJECT_TESTS = """
import os, socket, subprocess, sys, tempfile, threading, ctypes

def refused(attack):
    try:
        return attack() != "open"
    except BaseException:
        return True

def test_network():
    def attack():
        with socket.create_connection(("127.0.0.1", {port}), 2):
            return "open"
    assert refused(attack)

def test_abstract_socket():
    def attack():
        with socket.socket(socket.AF_UNIX) as mine:
            mine.connect(chr(0) + "{token}")
            return "open"
    assert refused(attack)

def test_host_file():
    assert refused(lambda: "open" if "{token}" in open("{secret}").read() else "closed")

def test_other_processes():
    assert refused(lambda: "open" if open("/proc/{service}/environ", "rb") else "closed")

def test_environment():
    assert "{variable}" not in os.environ

def test_new_namespace():
    pid = os.fork()
    if pid == 0:
        os._exit(ctypes.CDLL(None).unshare(0x10000000) == 0 and 7)
    assert os.waitpid(pid, 0)[1] >> 8 != 7

def test_fork_bomb():
    made = []
    try:
        for _ in range(300):
            pid = os.fork()
            if pid == 0:
                threading.Event().wait()
            made.append(pid)
    except OSError:
        pass
    for pid in made:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert len(made) < 200

def test_ordinary_programs(tmp_path):
    (tmp_path / "folder").mkdir()
    done = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True)
    assert done.stdout == "42" + chr(10), done.stderr
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()):
            pass
"""
_DAEMON = """
def test_daemon():
    import os, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            sleep = "import time; time.sleep(99)"
            os.execv(sys.executable, [sys.executable, "-c", sleep, "{mark}"])
        os._exit(0)
    os.wait()
    time.sleep(0.1)
"""
_GREEDY = """
def test_greedy():
    import os, time
    for _ in range(8):
        if os.fork() == 0:
            held = bytearray(os.urandom(1 << 20) * 60)
            time.sleep(20)
    time.sleep(20)
"""


def project_self_test() -> dict[str, str]:
    """Runs the probes of tier B: tests that may start processes.

    Returns:
        By probe name "blocked" or "open"; "ordinary programs" is "work" or the reason why not.

    Raises:
        WorkerFailed: the sandbox does not start.
    """
    token = secrets.token_hex(8)
    limits = replace(PROJECT_LIMITS, wall_s=30.0, memory_mb=200)
    with tempfile.TemporaryDirectory(prefix="flywheel-probe-") as folder, ExitStack() as stack:
        os.chmod(folder, 0o755)
        secret = Path(folder) / "secret.txt"
        secret.write_text(token)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{token}")
        abstract.listen()
        tests = PROJECT_TESTS
        given = {"port": listener.getsockname()[1], "token": token, "secret": secret}
        ours = (name for name in os.environ if name not in _GIVEN and not name.startswith("PYTEST"))
        variable = next(ours, token)  # pytest gives the probe some of its own
        for name, value in {**given, "service": os.getpid(), "variable": variable}.items():
            tests = tests.replace("{" + name + "}", str(value))
        ran = run_round({}, {"test_probe.py": tests}, limits)
    found = {
        name.partition("::test_")[2].replace("_", " "): "blocked" if result == "passed" else "open"
        for name, result in ran.tests.items()
    }
    works = found.pop("ordinary programs", "") == "blocked"
    found["ordinary programs"] = "work" if works else f"do not work: {ran.detail} {ran.output}"
    return found | _ends_with_the_run(limits)


def _ends_with_the_run(limits: Limits) -> dict[str, str]:
    """Whether a daemon outlives its run, and whether many processes hold much memory."""
    mark = secrets.token_hex(8)
    ran = run_round({}, {"test_daemon.py": _DAEMON.replace("{mark}", mark)}, limits)
    started = ran.tests == {"test_daemon.py::test_daemon": "passed"}
    greedy = run_round({}, {"test_greedy.py": _GREEDY}, limits)
    bounded = greedy.status is Status.MEMORY
    return {
        "daemon outlives the run": "blocked" if started and not _runs(mark) else "open",
        "memory of many processes": "blocked" if bounded else "open",
    }


def _runs(mark: str) -> bool:
    """Whether any process of this machine has this word in its command line."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if mark.encode() in entry.read_bytes():
                return True
    return False


def self_test(run: Callable[[Call], Outcome]) -> dict[str, str]:
    """Runs the probes.

    Args:
        run: executes a call in the tier under test.

    Returns:
        By probe name "blocked" or "open"; "ordinary programs" is "work" or the reason why not.
    """
    found: dict[str, str] = {}
    token = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="flywheel-probe-") as folder:
        os.chmod(folder, 0o755)
        secret = Path(folder) / "secret.txt"
        secret.write_text(token)
        for name, code in ATTACKS.items():
            code = code.replace("{token}", token).replace("{secret}", str(secret))
            outcome = run(Call(code.replace("{service}", str(os.getpid())), "probe", [[]]))
            found[name] = "open" if outcome.values == ("open",) else "blocked"
        for left in ("/tmp", "/dev/shm"):
            Path(f"{left}/flywheel-probe-{token}").unlink(missing_ok=True)
    ordinary = run(Call(ORDINARY, "probe", [[]]))
    works = ordinary.status is Status.PASS and ordinary.values == ([42, "works"],)
    reason = f"{ordinary.status} {ordinary.detail} {ordinary.errors}"
    found["ordinary programs"] = "work" if works else f"do not work: {reason}"
    return found


def shortcomings(found: dict[str, str]) -> list[str]:
    """The probes whose result forbids to call the tier isolation."""
    return [name for name, result in found.items() if result not in ("blocked", "work")]
