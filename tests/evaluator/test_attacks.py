"""The attack suite: seventeen ways out, tried in every tier that works here, and without walls.

Each attack is a function that returns "open" when it got through. Tier B runs it as a pytest test.
"""

import contextlib
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluator.sandbox import Call, Limits, Project, Sandbox, SandboxUnavailable, Status

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the attacks are Linux programs")
IMPORTS = "import ctypes, os, socket, sys, threading, time\n"
LIMITS = Limits(cpu_s=1.0, wall_s=20.0, memory_mb=256, scratch_mb=16)

CONNECT_TCP = """
def attack(port, name, secret, token, service):
    with socket.create_connection(("127.0.0.1", port), 2):
        return "open"
"""
SEND_UDP = """
def attack(port, name, secret, token, service):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect(("127.0.0.1", port))
        s.send(token.encode())
        return "open" if s.recv(9) == b"heard" else "closed"
"""
ABSTRACT_SOCKET = """
def attack(port, name, secret, token, service):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(chr(0) + name)
        return "open"
"""
READ_HOST_FILE = """
def attack(port, name, secret, token, service):
    for path in (secret, f"/proc/{service}/root{secret}"):
        try:
            if token in open(path).read(): return "open"
        except OSError: pass
    libc = ctypes.CDLL(None)
    fd = libc.syscall(257 if os.uname().machine == "x86_64" else 56, -100, secret.encode(), 0)
    return "open" if fd >= 0 and token in os.read(fd, 99).decode() else "closed"
"""
READ_PRIVATE_FILE = """
def attack(port, name, secret, token, service):
    return "open" if token in open(secret + ".private").read() else "closed"
"""
SECRETS = """
def attack(port, name, secret, token, service):
    if "FLYWHEEL_ATTACK" in os.environ: return "open"
    return "open" if open(f"/proc/{service}/environ", "rb").read() else "closed"
"""
WRITE_HOST_FOLDERS = """
def attack(port, name, secret, token, service):
    for folder in ("/tmp", "/dev/shm", "/var/tmp"):
        try:
            with open(f"{folder}/{name}", "w") as f: f.write("x")
        except OSError: pass
    for flags in (os.O_RDONLY, 3):
        try: os.close(os.open(secret + ".victim", flags | os.O_TRUNC))
        except OSError: pass
    return "open"
"""
FORK_BOMB = """
def attack(port, name, secret, token, service):
    made = 0
    for _ in range(3000):
        try: pid = os.fork()
        except OSError: break
        if pid == 0:
            threading.Event().wait(20)
            os._exit(0)
        made += 1
    return "open" if made > 300 else "closed"
"""
TWO_GIBIBYTES = """
def attack(port, name, secret, token, service):
    return "open" if len(bytearray(2 << 30)) else ""
"""
MANY_TIMES_300_MEBIBYTES = """
def attack(port, name, secret, token, service):
    r, w = os.pipe()
    for _ in range(6):
        if os.fork() == 0:
            held = os.urandom(1 << 20) * 300
            os.write(w, b"+")
            time.sleep(20)
            os._exit(0)
    os.close(w)
    for _ in range(6): os.read(r, 1)
    time.sleep(1)
    return "open"
"""
FILL_THE_DISK = """
def attack(port, name, secret, token, service):
    for i in range(40):
        with open(f"f{i}", "wb") as f:
            for _ in range(16):
                f.write(bytes(1 << 20))
                time.sleep(0.001)
    return "open"
"""
DAEMON = """
def attack(port, name, secret, token, service):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            sleep = "import time; time.sleep(30)"
            os.execv(sys.executable, [sys.executable, "-c", sleep, name])
        os._exit(0)
    os.wait()
    time.sleep(0.3)
    return "left behind"
"""
SIGNAL = """
def attack(port, name, secret, token, service):
    if ctypes.CDLL(None).ptrace(16, service, 0, 0) == 0: return "open"
    os.kill(service, 0)
    return "open"
"""
NESTED_NAMESPACE = """
def attack(port, name, secret, token, service):
    return "open" if ctypes.CDLL(None).unshare(0x10000000) == 0 else "closed"
"""
IO_URING = """
def attack(port, name, secret, token, service):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(425, 1, None)
    return "open" if ctypes.get_errno() == 14 else "closed"
"""
ENDLESS = """
def attack(port, name, secret, token, service):
    while True: pass
"""
ORDINARY = """
def attack(port, name, secret, token, service):
    import csv, json, re, statistics
    seen = []
    thread = threading.Thread(target=lambda: seen.append(statistics.mean([1, 2, 3])))
    thread.start()
    thread.join()
    with open("note.txt", "w") as f: f.write("works")
    return "open" if seen == [2] and open("note.txt").read() == "works" else "closed"
"""
ATTACKS = {
    "TCP to a port of the host": CONNECT_TCP,
    "UDP to a port of the host": SEND_UDP,
    "abstract unix socket": ABSTRACT_SOCKET,
    "world-readable file of the host": READ_HOST_FILE,
    "private file of the host": READ_PRIVATE_FILE,
    "secrets in the environment and in other processes": SECRETS,
    "write to temp, to shared memory and by truncating": WRITE_HOST_FOLDERS,
    "fork bomb": FORK_BOMB,
    "2 GiB in one process": TWO_GIBIBYTES,
    "6 times 300 MiB in children": MANY_TIMES_300_MEBIBYTES,
    "fill the disk": FILL_THE_DISK,
    "daemon that survives": DAEMON,
    "signal and trace other processes": SIGNAL,
    "nested user namespace": NESTED_NAMESPACE,
    "io_uring": IO_URING,
    "endless loop": ENDLESS,
}
OUTWARD = [name for name in list(ATTACKS)[:7]] + ["signal and trace other processes"]
ENDINGS = {
    "2 GiB in one process": {Status.MEMORY},
    "6 times 300 MiB in children": {Status.MEMORY, Status.FORBIDDEN},
    "endless loop": {Status.TIMEOUT},
}


@pytest.fixture(scope="module", params=["A", "B", "C", "D"])
def attempt(request):
    """Runs an attack in a tier: returns its status, and whether it got through."""
    tier = request.param
    try:
        with Sandbox(workers=1, limits=LIMITS, tiers=["A" if tier == "B" else tier]) as sandbox:
            in_tier = _as_project if tier == "B" else _as_call
            yield lambda code, host: in_tier(sandbox, code, host)
    except SandboxUnavailable as error:
        pytest.skip(f"tier {tier} does not work on this machine: {error}")


def _as_call(sandbox, code, host):
    outcome = sandbox.run(Call(IMPORTS + code, "attack", [list(host)]))
    return outcome.status, outcome.values == ("open",)


def _as_project(sandbox, code, host):
    test = f"\n\ndef test_attack():\n    assert attack(*{host!r}) == 'open'\n"
    tests = {"test_attack.py": IMPORTS + code + test}
    limits = Limits(cpu_s=3.0, wall_s=20.0, memory_mb=512, scratch_mb=16)
    project = Project({}, tests, ["test_attack.py::test_attack"], (), limits)
    outcome = sandbox.run_project(project)
    return outcome.status, outcome.status is Status.PASS


@pytest.fixture
def host(monkeypatch):
    """Things of the host that an attack could reach."""
    name, token = f"flywheel-attack-{secrets.token_hex(6)}", secrets.token_hex(8)
    monkeypatch.setenv("FLYWHEEL_ATTACK", "secret")
    folder = Path("/tmp") / f"{name}-files"
    folder.mkdir(mode=0o755)
    secret = folder / "secret.txt"
    victim, private = Path(f"{secret}.victim"), Path(f"{secret}.private")
    for path, mode in ((secret, 0o644), (victim, 0o666), (private, 0o600)):
        path.write_text(token)
        path.chmod(mode)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        echo = subprocess.Popen([sys.executable, "-I", "-S", "-c", ECHO, str(port)])
        stack.callback(echo.wait)
        stack.callback(echo.kill)
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{name}")
        abstract.listen()
        yield port, name, str(secret), token, echo.pid
    for left in (f"/tmp/{name}", f"/dev/shm/{name}", f"/var/tmp/{name}", victim, private, secret):
        Path(left).unlink(missing_ok=True)
    folder.rmdir()


ECHO = """
import socket, sys
heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard.bind(("127.0.0.1", int(sys.argv[1])))
while True:
    heard.sendto(b"heard", heard.recvfrom(99)[1])
"""


@pytest.mark.parametrize("name", OUTWARD)
def test_attack_gets_through_without_walls(name, host):
    """So that a blocked attack is one that would have worked."""
    code = f"{IMPORTS}{ATTACKS[name]}\nprint(attack(*{host!r}))"
    for _ in range(20):  # the host's echo may still be starting
        done = subprocess.run(
            [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=30
        )
        if done.stdout.strip() == "open":
            return
        time.sleep(0.1)
    pytest.fail(done.stderr)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_blocked(attempt, name, host):
    status, through = attempt(ATTACKS[name], host)
    _, path, secret, token, _ = host
    for folder in ("/tmp", "/dev/shm", "/var/tmp"):
        assert not Path(f"{folder}/{path}").exists()
    assert Path(f"{secret}.victim").read_text() == token
    assert not _runs(path)
    assert status in ENDINGS.get(name, set(Status) - {Status.LOST})
    if name != "write to temp, to shared memory and by truncating":
        assert not through


def test_ordinary_programs_work(attempt, host):
    assert attempt(ORDINARY, host) == (Status.PASS, True)


def _runs(word):
    """Whether a process of this machine has this word as an argument."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in entry.read_bytes().split(b"\0"):
                return True
    return False
