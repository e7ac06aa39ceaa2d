"""The bubblewrap command lines: namespaces, a read-only system, one sized writable folder.

There are several ways to put a program in, by what the machine allows; `WAYS` names them, best
first, and the first that starts is used. Nothing in here runs anything.
"""

import functools
import glob
import importlib.util
import os
import platform
import shutil
import stat
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

WAYS = ("user namespace, none below it", "user namespace", "no user namespace")
"""How a sandbox is entered. The last is for root where an ordinary user may make no namespaces:
it keeps the host's user namespace, under an unprivileged uid and with all others of its own."""

SCRATCH = "/scratch"
_PACKAGES = "py pluggy iniconfig packaging pygments _pytest pytest coverage".split()
_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")
_INSTALLED = ("site-packages", "dist-packages")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_STAGES = ("/mnt", "/media", "/srv", "/opt", "/home")
_BECOME = """
import os, sys
uid = int(sys.argv[1])
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
os.execv(sys.argv[2], sys.argv[2:])
"""
_INIT_NAMESPACE_COUNTS = (5, 14)  # since then a process limit counts inside a user namespace


class NoBubblewrap(Exception):
    """It is not installed, or this way cannot be gone here."""


@dataclass(frozen=True)
class Room:
    """What the inside of one sandbox looks like.

    Attributes:
        scratch_mb: size of the writable folder `SCRATCH`, in MiB.
        packages: paths of packages outside the standard library to show, read only.
        environment: all variables that the program gets.
        uid: the ordinary user to become, where this process is root.
    """

    scratch_mb: int
    packages: Sequence[str]
    environment: Mapping[str, str]
    uid: int


def interpreter() -> str:
    """The real path of the interpreter, not of a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@functools.cache
def readable_paths() -> tuple[str, ...]:
    """What a Python program needs to read: the standard library and shared libraries."""
    base = {"platbase": sys.base_exec_prefix}  # of a virtual environment it is the environment
    paths = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib", vars=base)}
    paths |= {os.path.realpath(path) for path in paths}
    paths |= {"/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo"}
    paths |= {"/lib", "/lib64", "/etc/localtime", "/etc/ld.so.cache"}
    paths |= set(glob.glob(f"{sys.base_prefix}/lib/*.so*"))
    return tuple(sorted(path for path in paths if os.path.exists(path)))


@functools.cache
def installed_paths() -> tuple[str, ...]:
    """Folders of installed packages inside what is shown, where answers to the tasks may lie."""
    homes = {*readable_paths(), *(path for path in _SYSTEM if os.path.isdir(path))}
    homes |= {"/usr/lib", "/usr/lib64", "/usr/local/lib"}
    patterns = (
        f"{glob.escape(home)}/{between}{name}"
        for home in homes
        for between in ("", "*/")
        for name in _INSTALLED
    )
    return tuple(sorted({path for pattern in patterns for path in glob.glob(pattern)}))


@functools.cache
def package_paths() -> tuple[str, ...]:
    """Where pytest, coverage and what they import are installed; those that are missing are not."""
    found = (importlib.util.find_spec(name) for name in _PACKAGES)
    origins = (spec.origin for spec in found if spec and spec.origin)
    return tuple(origin.removesuffix("/__init__.py") for origin in origins)


def counts_processes_inside(way: str) -> bool:
    """Whether a process limit counts this sandbox alone, and not all that its user runs."""
    version = tuple(int(part) for part in platform.release().split(".")[:2] if part.isdigit())
    return way != WAYS[2] and version >= _INIT_NAMESPACE_COUNTS


def command_line(way: str, room: Room, program: Sequence[str], info_fd: int) -> list[str]:
    """Builds the command that runs a program inside.

    As root the sandbox is made by an ordinary user, so that nothing in it is root outside. What
    only root can reach (a Python under /root) is bound to a place open to that user, in a mount
    namespace of its own around the sandbox.

    Args:
        way: one of `WAYS`.
        room: what the inside looks like.
        program: the command to run inside.
        info_fd: descriptor for bubblewrap's words about the process it makes.

    Raises:
        NoBubblewrap: it is not installed, or the way needs a root that we are not.
    """
    found = shutil.which("bwrap")
    if found is None:
        raise NoBubblewrap("bubblewrap is not installed")
    root = os.geteuid() == 0
    if way == WAYS[2] and not root:
        raise NoBubblewrap("without a user namespace only root makes the others")
    shown = {*_SYSTEM, *readable_paths(), interpreter(), *room.packages}
    asked = {path for path in room.packages if _within(path, set(installed_paths()))}
    shown = {path for path in shown if os.path.exists(path) and not _within(path, shown - {path})}
    shown |= asked
    closed = sorted(path for path in shown if not _open_to_all(path))
    sources = {path: path for path in shown}
    before: list[str] = []
    if way == WAYS[2]:
        way_flags = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        way_flags = ["--unshare-user"] + (["--disable-userns"] if way == WAYS[0] else [])
        if root:
            if closed:
                stage = _stage(shown)
                sources |= {path: f"{stage}/{number}" for number, path in enumerate(closed)}
                before = _staging(found, stage, {path: sources[path] for path in closed})
            before += [interpreter(), "-I", "-S", "-c", _BECOME, str(room.uid)]
    inside = [
        *way_flags,
        *_namespaces(),
        *_environment(room),
        *_files(sources, asked, room.scratch_mb),
    ]
    return [*before, found, *inside, "--info-fd", str(info_fd), "--", *program]


def _namespaces() -> list[str]:
    own = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    return [*own, "--unshare-cgroup-try", "--new-session", "--clearenv"]


def _environment(room: Room) -> list[str]:
    return [word for name, value in room.environment.items() for word in ("--setenv", name, value)]


def _files(sources: Mapping[str, str], asked: set[str], scratch_mb: int) -> list[str]:
    """Shows the sources read only; `SCRATCH` is all that can be written, and it is sized.

    Of the folders of installed packages only what was asked for is shown.
    """
    words: list[str] = []
    above = {str(parent) for path in (*sources, *_DEVICES) for parent in Path(path).parents}
    for folder in sorted(above - {"/"}):  # made by bind they would be closed to our own uid
        words += ["--dir", folder] if not _within(folder + "/x", set(sources)) else []
    for path in sorted(sources.keys() - asked):
        words += ["--ro-bind", sources[path], path]
    hidden = [path for path in installed_paths() if _within(path, set(sources))]
    for path in hidden:
        words += ["--perms", "0755", "--size", "65536", "--tmpfs", path]
    for path in sorted(asked):
        words += ["--ro-bind", sources[path], path]
    for path in hidden:
        words += ["--remount-ro", path]
    for device in _DEVICES:
        words += ["--dev-bind-try", device, device]
    words += ["--perms", "1777", "--size", str(scratch_mb << 20), "--tmpfs", SCRATCH]
    return [*words, "--remount-ro", "/", "--chdir", SCRATCH]


def _staging(bwrap: str, stage: str, places: Mapping[str, str]) -> list[str]:
    """A mount namespace in which closed folders are also bound to places open to every user."""
    words = [bwrap, "--dev-bind", "/", "/", "--tmpfs", stage]
    for path, place in places.items():
        words += ["--ro-bind", path, place]
    return [*words, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--"]


def _stage(shown: set[str]) -> str:
    for folder in _STAGES:
        if os.path.isdir(folder) and not any(_within(path, {folder}) for path in shown):
            return folder
    raise NoBubblewrap(f"none of {', '.join(_STAGES)} is there to bind closed folders below")


def _open_to_all(path: str) -> bool:
    """Whether every user can reach and read it."""
    parents = all(os.stat(parent).st_mode & stat.S_IXOTH for parent in Path(path).parents)
    return parents and bool(os.stat(path).st_mode & stat.S_IROTH)


def _within(path: str, folders: set[str]) -> bool:
    return any(path.startswith(folder.rstrip("/") + "/") for folder in folders)
