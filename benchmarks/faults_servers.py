"""Servers of one's own that may be hurt: PostgreSQL, Redis, RabbitMQ, and a wire that can be cut.

Each starts in a folder and on ports of loopback that nobody else uses, and is there again after
`start` with what it had kept.
"""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg

from benchmarks.loss import Database
from flywheel.processes import free_port

PATIENCE_S = 90.0
_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's; the one in sbin gives up its user for another one that cannot write here."""


def await_port(port: int, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until somebody listens on a port of loopback.

    Raises:
        RuntimeError: nobody did in time, or the process ended.
    """
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process is not None and process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"port {port}: nobody listens")


class Wire:
    """A port of loopback that leads to a server, until it is cut; what runs over it is lost then.

    `target` is a port of loopback, or the folder of PostgreSQL's socket.
    """

    def __init__(self, target: int | Path) -> None:
        self._target = target
        self.port = free_port()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.mend()

    def mend(self) -> None:
        """Let connections through, from now on."""
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """End every connection with a reset, and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.jolt()

    def jolt(self) -> int:
        """End every connection with a reset, and take new ones; return how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    linger = b"\x01\0\0\0\0\0\0\0"  # on, for 0 s: a reset instead of an end
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        return len(pairs)

    def _accept(self, listener: socket.socket) -> None:
        while self._listener is listener:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = self._reach()
            except OSError:
                near.close()
                continue
            with self._lock:
                self._pairs.add((near, far))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_carry, args=(one, other), daemon=True).start()

    def _reach(self) -> socket.socket:
        if isinstance(self._target, int):
            return socket.create_connection(("127.0.0.1", self._target), timeout=5)
        far = socket.socket(socket.AF_UNIX)
        far.connect(str(self._target / ".s.PGSQL.5432"))
        return far


def _carry(one: socket.socket, other: socket.socket) -> None:
    one.settimeout(None)
    with suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
    for end in (one, other):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Postgres(Database):
    """The embedded PostgreSQL behind a wire; `url` is of the wire, `direct_url` of the server."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.direct_url = self.url
        with psycopg.connect(self.url) as connection:
            found = connection.execute("SHOW unix_socket_directories").fetchone()
        self.wire = Wire(Path(str(found[0] if found else "")))
        self.url = f"postgresql://postgres@127.0.0.1:{self.wire.port}/postgres"

    def start(self, patience_s: float = PATIENCE_S) -> None:
        """Start it again; it is there when it answers on its own socket."""
        wired, self.url = self.url, self.direct_url
        try:
            super().start(patience_s)
        finally:
            self.url = wired

    def end(self, how: signal.Signals) -> None:
        """End it: SIGINT is a fast stop, SIGQUIT an immediate one, SIGKILL none at all."""
        if how == signal.SIGKILL:
            self.kill()
            return
        pid = self.server.get_pid()
        assert pid is not None
        os.kill(pid, how)
        await_gone(pid)

    def end_all_connections(self) -> int:
        """End every other connection from within, as an administrator does."""
        with psycopg.connect(self.direct_url, autocommit=True) as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            return len(ended.fetchall())


def await_gone(pid: int) -> None:
    """Wait until a process has ended; its parent, if it is ours, collects it elsewhere."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            if stat.rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.05)
                continue
        return
    raise RuntimeError(f"process {pid} does not end")


class Broker:
    """A broker process that may be ended and started again; `url` leads to it over a wire."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self.wire = Wire(self.port)
        self.url = self._url(self.wire.port)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        command, environment = self._command()
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        await_port(self.port, self._process)

    def kill(self) -> None:
        """Kill it with -9, and all its processes."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _command(self) -> tuple[list[str], dict[str, str]]:
        raise NotImplementedError

    def _url(self, port: int) -> str:
        raise NotImplementedError


class Redis(Broker):
    """A Redis that keeps nothing: what it held is lost with it."""

    def _command(self) -> tuple[list[str], dict[str, str]]:
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        return ["redis-server", *place, "--save", "", "--appendonly", "no"], {}

    def _url(self, port: int) -> str:
        return f"redis://127.0.0.1:{port}/0"


class RabbitMQ(Broker):
    """A RabbitMQ node of its own, with a port mapper of its own; it keeps messages on disk."""

    def __init__(self, name: str, folder: Path, consumer_timeout_s: float | None = None) -> None:
        self._timeout_s = consumer_timeout_s
        self._ports = (free_port(), free_port())
        super().__init__(name, folder)

    def _command(self) -> tuple[list[str], dict[str, str]]:
        distribution, mapper = self._ports
        (self.folder / "plugins").write_text("[].")
        (self.folder / "own.conf").write_text("")
        advanced = self.folder / "advanced.config"
        timeout = ""
        if self._timeout_s is not None:  # it looks every minute, unless told to look more often
            timeout = f"{{consumer_timeout, {self._timeout_s * 1000:.0f}}}"
            timeout += ", {channel_tick_interval, 1000}"
        advanced.write_text(f"[{{rabbit, [{timeout}]}}].\n")
        return [str(_RABBITMQ)], {
            "RABBITMQ_NODENAME": f"faults{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "kept"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "own.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(advanced),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "HOME": str(self.folder),
        }

    def _url(self, port: int) -> str:
        return f"amqp://guest:guest@127.0.0.1:{port}//"

    def kill(self) -> None:
        """Kill the node; its port mapper, which left the session, goes too."""
        super().kill()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                environment = (entry / "environ").read_bytes()
                if words[0].endswith(b"epmd") and f"={self._ports[1]}\0".encode() in environment:
                    os.kill(int(entry.name), signal.SIGKILL)


BROKERS: dict[str, tuple[str, Callable[[str, Path], Broker]]] = {
    "redis": ("redis-server", Redis),
    "rabbitmq": (str(_RABBITMQ), RabbitMQ),
}
"""By name: the program that must be there, and the class."""


def has_broker(name: str) -> bool:
    """Say whether the program of a broker is on this machine."""
    return shutil.which(BROKERS[name][0]) is not None
