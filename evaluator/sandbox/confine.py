"""The walls around one process: privileges, resource limits, Landlock, seccomp, macOS seatbelt.

Own ctypes, standard library only: loaded in the worker, applied in each forked child before it
touches untrusted code. Sources: seccomp(2), landlock(7), the kernel's uapi headers.

The system call filter is an allow list: what is not listed gets EPERM (clone3: ENOSYS, so that the
C library falls back to clone, whose flags a filter can read); plain attacks (a new process, a
socket, tracing, io_uring, namespaces) kill the process with SIGSYS, which no handler can hide.
"""

import ctypes
import errno
import glob
import os
import platform
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True)

# name:x86_64:aarch64, '-' where the architecture has no such call (from the uapi headers)
_ALLOWED = """
read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 close:3:57
close_range:436:436 lseek:8:62 stat:4:- fstat:5:80 lstat:6:- newfstatat:262:79 statx:332:291
access:21:- faccessat:269:48 faccessat2:439:439 readlink:89:- readlinkat:267:78 getcwd:79:17
getdents64:217:61 mmap:9:222 munmap:11:215 mremap:25:216 mprotect:10:226 madvise:28:233 brk:12:214
rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 sigaltstack:131:132
rt_sigtimedwait:128:137 rt_sigpending:127:136 rt_sigsuspend:130:133 pause:34:- dup:32:23 dup2:33:-
dup3:292:24 flock:73:32 ftruncate:77:46 fsync:74:82 fdatasync:75:83 rename:82:- renameat:264:38
renameat2:316:276 unlink:87:- unlinkat:263:35 pipe:22:- pipe2:293:59 poll:7:- ppoll:271:73
select:23:- pselect6:270:72 epoll_create:213:- epoll_create1:291:20 epoll_ctl:233:21
epoll_wait:232:- epoll_pwait:281:22 eventfd2:290:19 sched_yield:24:124 sched_getaffinity:204:123
nanosleep:35:101 clock_nanosleep:230:115 clock_gettime:228:113 clock_getres:229:114
gettimeofday:96:169 time:201:- times:100:153 getitimer:36:102 setitimer:38:103 alarm:37:-
getpid:39:172 getppid:110:173 gettid:186:178 getuid:102:174 geteuid:107:175 getgid:104:176
getegid:108:177 getgroups:115:158 getpgrp:111:- getpgid:121:155 getsid:124:156 getresuid:118:148
getresgid:120:150 getrlimit:97:163 getrusage:98:165 sysinfo:99:179 uname:63:160 getrandom:318:278
futex:202:98 set_robust_list:273:99 get_robust_list:274:100 rseq:334:293 set_tid_address:218:96
arch_prctl:158:- exit:60:93 exit_group:231:94 restart_syscall:219:128 wait4:61:260 waitid:247:95
recvfrom:45:207 shutdown:48:210 getsockopt:55:209 getsockname:51:204 getpeername:52:205
fadvise64:221:223 membarrier:324:283 umask:95:166
"""
_DEADLY = """
socket:41:198 connect:42:203 bind:49:200 listen:50:201 accept:43:202 accept4:288:242 fork:57:-
vfork:58:- execve:59:221 execveat:322:281 ptrace:101:117 process_vm_readv:310:270
process_vm_writev:311:271 process_madvise:440:440 pidfd_open:434:434 pidfd_getfd:438:438
pidfd_send_signal:424:424 rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240 unshare:272:97
setns:308:268 mount:165:40 umount2:166:39 pivot_root:155:41 chroot:161:51 mount_setattr:442:442
move_mount:429:429 open_tree:428:428 fsopen:430:430 io_uring_setup:425:425 io_uring_enter:426:426
io_uring_register:427:427 bpf:321:280 perf_event_open:298:241 userfaultfd:323:282 keyctl:250:219
add_key:248:217 request_key:249:218 init_module:175:105 finit_module:313:273
delete_module:176:106 kexec_load:246:104 reboot:169:142 open_by_handle_at:304:265
"""
_WITH_PROCESSES = """
fork:57:- vfork:58:- execve:59:221 clone:56:220 kill:62:129 tgkill:234:131 tkill:200:130
connect:42:203 bind:49:200 listen:50:201 accept:43:202 accept4:288:242 sendto:44:206
sendmsg:46:211 recvmsg:47:212 sendmmsg:307:269 recvmmsg:299:243 setsockopt:54:208
getpeername:52:205 pidfd_open:434:434 pidfd_send_signal:424:424 setsid:112:157 setpgid:109:154
mkdir:83:- mkdirat:258:34 rmdir:84:- link:86:- linkat:265:37 symlink:88:- symlinkat:266:36
chmod:90:- fchmod:91:52 fchmodat:268:53 fchmodat2:452:452 truncate:76:45 chdir:80:49 fchdir:81:50
utime:132:- utimes:235:- utimensat:280:88 futimesat:261:- copy_file_range:326:285 sendfile:40:71
fallocate:285:47 setpriority:141:140 getpriority:140:141 sched_setaffinity:203:122
setrlimit:160:164 statfs:137:43 fstatfs:138:44 getxattr:191:8 lgetxattr:192:9
fgetxattr:193:10 listxattr:194:11 llistxattr:195:12 flistxattr:196:13 mincore:27:232
inotify_init1:294:26 inotify_add_watch:254:27 inotify_rm_watch:255:28
timerfd_create:283:85 timerfd_settime:286:86 timerfd_gettime:287:87 signalfd4:289:74
"""
_CHECKED = """
open:2:- openat:257:56 ioctl:16:29 fcntl:72:25 clone:56:220 clone3:435:435 kill:62:129
tgkill:234:131 tkill:200:130 socketpair:53:199 sendto:44:206 prctl:157:167 prlimit64:302:261
"""
_OF_THE_WORKER = """
fork:57:- vfork:58:- clone:56:220 kill:62:129 prctl:157:167 prlimit64:302:261 setrlimit:160:164
pidfd_open:434:434 landlock_restrict_self:446:446 rmdir:84:- chdir:80:49
"""
_ARCHES = {"x86_64": (1, 0xC000003E), "aarch64": (2, 0xC00000B7), "arm64": (2, 0xC00000B7)}

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_CLONE_THREAD, _CLONE_NEW_ANYTHING = 0x10000, 0x7E020080
_IOCTLS = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS FIONREAD FIONBIO FIONCLEX FIOCLEX
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032)  # not F_SETOWN: it sends signals to others
_PRCTLS = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
_SOL_SOCKET, _BUFFER_SIZES = 1, (7, 8)  # SO_SNDBUF, SO_RCVBUF
_O_TRUNC, _O_ACCMODE = 0o1000, 0o3


def _numbers(table: str, column: int) -> dict[str, int]:
    rows = (entry.split(":") for entry in table.split())
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


class _Filter:
    """A classic BPF program under construction."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int, int, int]] = []
        self.self_slots: list[int] = []
        self._packed = b""

    def add(self, op: int, value: int, yes: int = 0, no: int = 0) -> None:
        self.code.append((op, yes, no, value & 0xFFFFFFFF))

    def answer(self, action: int) -> None:
        self.add(_RET, action)

    def argument(self, index: int, *, high: bool = False) -> None:
        self.add(_LD, 16 + 8 * index + (4 if high else 0))

    def when(self, number: int, block: "_Filter") -> None:
        """Runs `block`, which must answer on every path, for this system call."""
        self.add(_JEQ, number, 0, len(block.code))
        self.self_slots += [len(self.code) + slot for slot in block.self_slots]
        self.code += block.code

    def packed(self, pid: int) -> bytes:
        if len(self._packed) != 8 * len(self.code):
            self._packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in self.code)
        code = bytearray(self._packed)
        for slot in self.self_slots:
            struct.pack_into("=I", code, 8 * slot + 4, pid)
        return bytes(code)


def _always(action: int) -> _Filter:
    block = _Filter()
    block.answer(action)
    return block


def _one_of(index: int, values: tuple[int, ...], otherwise: int) -> _Filter:
    block = _Filter()
    block.argument(index)
    for value in values:
        block.add(_JEQ, value, 0, 1)
        block.answer(_ALLOW)
    block.answer(otherwise)
    return block


def _only_self(index: int) -> _Filter:
    block = _Filter()
    block.argument(index)
    block.self_slots.append(len(block.code))
    block.add(_JEQ, 0, 0, 1)
    block.answer(_ALLOW)
    block.answer(_KILL)
    return block


def _threads_only() -> _Filter:
    block = _Filter()
    block.argument(0)
    block.add(_JSET, _CLONE_NEW_ANYTHING, 2, 0)
    block.add(_JSET, _CLONE_THREAD, 0, 1)
    block.answer(_ALLOW)
    block.answer(_KILL)
    return block


def _no_read_only_truncation(index: int) -> _Filter:
    """O_TRUNC needs an honest write mode: Landlock before version 3 misses the other forms."""
    block = _Filter()
    block.argument(index)
    block.add(_JSET, _O_TRUNC, 0, 4)
    block.add(_AND, _O_ACCMODE)
    block.add(_JEQ, os.O_WRONLY, 2, 0)
    block.add(_JEQ, os.O_RDWR, 1, 0)
    block.answer(_ERRNO | errno.EPERM)
    block.answer(_ALLOW)
    return block


def _stream_pair() -> _Filter:
    """AF_UNIX stream pairs only: a datagram socket could send to any address."""
    block = _Filter()
    block.argument(0)
    block.add(_JEQ, 1, 0, 4)
    block.argument(1)
    block.add(_AND, 0xF)
    block.add(_JEQ, 1, 0, 1)
    block.answer(_ALLOW)
    block.answer(_KILL)
    return block


def _no_address() -> _Filter:
    block = _Filter()
    block.argument(4)
    block.add(_JEQ, 0, 0, 3)
    block.argument(4, high=True)
    block.add(_JEQ, 0, 0, 1)
    block.answer(_ALLOW)
    block.answer(_KILL)
    return block


def _zero_or_self(index: int) -> _Filter:
    block = _Filter()
    block.argument(index)
    block.add(_JEQ, 0, 2, 0)
    block.self_slots.append(len(block.code))
    block.add(_JEQ, 0, 1, 0)
    block.answer(_ERRNO | errno.EPERM)
    block.answer(_ALLOW)
    return block


def _plain_sockets() -> _Filter:
    """Stream and datagram sockets of the unix and internet families: nothing raw, no netlink."""
    block = _Filter()
    block.argument(0)
    block.add(_JEQ, 1, 2, 0)  # AF_UNIX
    block.add(_JEQ, 2, 1, 0)  # AF_INET
    block.add(_JEQ, 10, 0, 4)  # AF_INET6
    block.argument(1)
    block.add(_AND, 0xF)
    block.add(_JEQ, 1, 2, 0)
    block.add(_JEQ, 2, 1, 0)
    block.answer(_ERRNO | errno.EPERM)
    block.answer(_ALLOW)
    return block


def _no_buffer_sizes() -> _Filter:
    """Sizes of socket buffers are left as they are, and said to be set: no limit counts them."""
    block = _Filter()
    block.argument(1)
    block.add(_JEQ, _SOL_SOCKET, 1, 0)
    block.answer(_ALLOW)
    block.argument(2)
    for option in _BUFFER_SIZES:
        block.add(_JEQ, option, 0, 1)
        block.answer(_ERRNO)
    block.answer(_ALLOW)
    return block


def _no_namespaces() -> _Filter:
    block = _Filter()
    block.argument(0)
    block.add(_JSET, _CLONE_NEW_ANYTHING, 1, 0)
    block.answer(_ALLOW)
    block.answer(_KILL)
    return block


@dataclass(frozen=True)
class _Filters:
    """The system call filter in two parts; what either refuses is refused.

    Attributes:
        lasting: the long allow list, put on the worker once and inherited. It also allows what the
            worker itself must do.
        own: put on each child: takes back what the worker alone may do, and knows the child's pid.
    """

    lasting: _Filter
    own: _Filter


def _build_filters(processes: bool = False) -> _Filters | None:
    """The filters of this machine, None where the architecture is not known.

    Args:
        processes: also allow processes, signals, folders and sockets; for a sandbox whose
            namespaces hold nothing else.
    """
    if not _LINUX or platform.machine() not in _ARCHES or struct.calcsize("P") != 8:
        return None
    column, audit = _ARCHES[platform.machine()]
    refused = _ERRNO | errno.EPERM
    blocks = {
        "open": _no_read_only_truncation(1),
        "openat": _no_read_only_truncation(2),
        "ioctl": _one_of(1, _IOCTLS, refused),
        "fcntl": _one_of(1, _FCNTLS, refused),
        "clone": _threads_only(),
        "clone3": _always(_ERRNO | errno.ENOSYS),
        "kill": _only_self(0),
        "tgkill": _only_self(0),
        "tkill": _only_self(0),
        "socketpair": _stream_pair(),
        "sendto": _no_address(),
        "prctl": _one_of(0, _PRCTLS, refused),
        "prlimit64": _zero_or_self(0),
    }
    program, own = _Filter(), _Filter()
    workers = _numbers(_OF_THE_WORKER, column)
    own.add(_LD, 0)
    program.add(_LD, 4)
    program.add(_JEQ, audit, 1, 0)
    program.answer(_KILL)
    program.add(_LD, 0)
    if column == 1:  # the x32 numbers would slip past
        program.add(_JGE, 0x40000000, 0, 1)
        program.answer(_KILL)
    allowed, checked = _numbers(_ALLOWED, column), _numbers(_CHECKED, column)
    deadly = _numbers(_DEADLY, column)
    if processes:
        allowed |= _numbers(_WITH_PROCESSES, column)
        checked = {name: number for name, number in checked.items() if name not in allowed}
        checked |= {"clone": _numbers(_CHECKED, column)["clone"], "socket": deadly["socket"]}
        checked["setsockopt"] = allowed.pop("setsockopt")
        allowed.pop("clone")
        blocks |= {"clone": _no_namespaces(), "socket": _plain_sockets()}
        blocks["setsockopt"] = _no_buffer_sizes()
        blocks |= {"fcntl": _always(_ALLOW), "socketpair": _always(_ALLOW)}
    for number in {**allowed, **workers}.values():
        program.when(number, _always(_ALLOW))
    for name, number in checked.items():
        where = own if name in workers or blocks[name].self_slots else program
        where.when(number, blocks[name])
        if where is own and name not in workers:
            program.when(number, _always(_ALLOW))
    for name, number in deadly.items():
        if name not in allowed and name not in checked:
            (own if name in workers else program).when(number, _always(_KILL))
    for name in workers.keys() - allowed.keys() - checked.keys() - deadly.keys():
        own.when(workers[name], _always(refused))
    program.answer(refused)
    own.answer(_ALLOW)
    return _Filters(program, own)


def _syscall(number: int, *arguments: object) -> int:
    return int(_libc.syscall(ctypes.c_long(number), *arguments))


def _fail(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")


def forbid_new_privileges() -> None:
    """Needed before Landlock and seccomp without root; inherited by every child."""
    if _LINUX and _libc.prctl(38, 1, 0, 0, 0) != 0:
        raise _fail("PR_SET_NO_NEW_PRIVS")


def apply_seccomp(program: _Filter) -> None:
    """Installs the filter for this process, for good.

    Raises:
        OSError: the kernel refused.
    """
    code = program.packed(os.getpid())
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    if _libc.prctl(22, 2, ctypes.c_char_p(header), 0, 0) != 0:
        raise _fail("PR_SET_SECCOMP")


def landlock_abi() -> int:
    """The kernel's Landlock version, 0 where there is none."""
    if not _LINUX:
        return 0
    return max(0, _syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14


def landlock_ruleset(
    abi: int, readable: list[str], scratch: str, devices: list[str], processes: bool = False
) -> int:
    """Builds a ruleset: read `readable`, make plain files in `scratch`, use `devices`.

    Directories cannot be made in the scratch folder, so that measuring and emptying it is flat.
    With `processes` all can be made there, what is readable can be run, and the network is left to
    its namespace.

    Returns:
        Its file descriptor, for `apply_landlock`.

    Raises:
        OSError: the kernel refused.
    """
    known = 13 + sum(abi >= version for version in (2, 3, 5))
    handled = (1 << known) - 1
    network = 3 if abi >= 4 and not processes else 0
    attributes = struct.pack("QQQ", handled, network, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _syscall(444, ctypes.c_char_p(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        raise _fail("landlock_create_ruleset")
    work = _READ_FILE | _READ_DIR | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
    look = _READ_FILE | _READ_DIR | (_EXECUTE if processes else 0)
    if processes:
        work = handled
    rules = [rule for path in readable for rule in _look_rules(path, look)]
    rules += [(scratch, work), *((path, _READ_FILE | _WRITE_FILE) for path in devices)]
    for path, rights in rules:
        if not os.path.exists(path):
            continue
        if not os.path.isdir(path):
            rights &= _READ_FILE | _WRITE_FILE | _EXECUTE
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", rights & handled, beneath)
        done = _syscall(
            445, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.c_char_p(rule), ctypes.c_uint32(0)
        )
        os.close(beneath)
        if done != 0:
            raise _fail(f"landlock_add_rule {path}")
    return ruleset


def _look_rules(path: str, rights: int) -> Iterator[tuple[str, int]]:
    """The rules to look at a path but not into the packages that are installed below it.

    A right holds for all that is below. So where there are such packages, the folders above them
    can only be listed, and each other entry has a rule of its own.
    """
    hidden = {
        found
        for between in ("", "*/")
        for name in ("site-packages", "dist-packages")
        for found in glob.glob(f"{glob.escape(path)}/{between}{name}")
    }
    if not hidden:
        yield path, rights
        return
    above = {path, *map(os.path.dirname, hidden)}
    for folder in sorted(above):
        yield folder, _READ_DIR
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.path not in hidden | above and not entry.is_symlink():
                    yield entry.path, rights


def apply_landlock(ruleset: int) -> None:
    """Restricts this process to the ruleset, for good.

    Raises:
        OSError: the kernel refused.
    """
    if _syscall(446, ctypes.c_int(ruleset), ctypes.c_uint32(0)) != 0:
        raise _fail("landlock_restrict_self")


_DAC_READ_SEARCH = 1 << 2


def _keep_capabilities(mask: int) -> None:
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0), 8)
    data = ctypes.create_string_buffer(struct.pack("6I", mask, mask, 0, 0, 0, 0), 24)
    if _libc.capset(header, data) != 0:
        raise _fail("capset")


def drop_root(uid: int, library: str) -> str:
    """Leaves root for a uid of our own, so that process limits count this worker alone.

    Where only root can reach the standard library (a Python under /root), the single capability
    that lets it read past directory modes stays; Landlock still says which files.

    Returns:
        In words, what the process is now.
    """
    if os.geteuid() != 0:
        return f"uid {os.geteuid()} (not root)"
    if not _LINUX:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        return f"uid {uid}"
    _libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:
        _keep_capabilities(0)
        return "uid 0 without capabilities"
    if _readable(library):
        _keep_capabilities(0)
        return f"uid {uid}"
    _keep_capabilities(_DAC_READ_SEARCH)
    return f"uid {uid} with CAP_DAC_READ_SEARCH"


def _readable(path: str) -> bool:
    try:
        os.listdir(path)
    except OSError:
        return False
    return True


def limit_resources(
    cpu_s: float,
    memory_mb: int,
    file_mb: int,
    processes: int | None,
    files: int = 64,
    interpreter_mb: int = 64,
) -> None:
    """Sets the resource limits of this process; CPU is the back-stop of the worker's own clock.

    Args:
        cpu_s: CPU seconds, rounded up and one added.
        memory_mb: MiB of address space on top of `interpreter_mb`.
        file_mb: MiB of one file.
        processes: processes and threads of this uid, None to leave it.
        files: open descriptors of one process.
        interpreter_mb: address space of an idle interpreter.
    """
    seconds = int(cpu_s) + 2
    space = (memory_mb + interpreter_mb) << 20
    wanted = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_mb << 20),
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_MEMLOCK, 0),
    ]
    if processes is not None:
        wanted.append((resource.RLIMIT_NPROC, processes))
    for name, value in wanted:
        try:
            resource.setrlimit(name, (value, value))
        except (OSError, ValueError):
            if _LINUX:
                raise


def apply_seatbelt(readable: list[str], scratch: str) -> None:
    """Restricts this process by macOS's sandbox_init (deprecated there, still what browsers use).

    Raises:
        OSError: the system refused the profile.
    """
    reads = " ".join(f'(subpath "{path}")' for path in [*readable, "/usr/lib", "/System/Library"])
    profile = (
        "(version 1)(deny default)(allow sysctl-read)"
        f'(allow file-read* {reads} (literal "/dev/null") (literal "/dev/urandom"))'
        f'(allow file-read* file-write* (subpath "{scratch}"))'
        '(allow file-write* (literal "/dev/null"))'
    )
    message = ctypes.c_char_p()
    if _libc.sandbox_init(profile.encode(), ctypes.c_uint64(0), ctypes.byref(message)) != 0:
        raise OSError(errno.EPERM, f"sandbox_init: {(message.value or b'').decode()}")


@dataclass
class Walls:
    """What this machine can put around a child, found once per worker."""

    readable: list[str]
    scratch: str
    abi: int = 0
    ruleset: int = -1
    filters: _Filters | None = None
    seatbelt: bool = False
    processes: int | None = None
    files: int = 64

    def describe(self) -> dict[str, object]:
        """The features for the report."""
        return {
            "landlock_abi": self.abi,
            "seccomp": self.filters is not None,
            "seatbelt": self.seatbelt,
            "processes": self.processes,
        }

    def shut_worker(self) -> None:
        """Puts on the worker what its children inherit (its last step before it serves).

        Raises:
            OSError: a wall could not be closed; serve nothing then.
        """
        if self.filters is not None:
            apply_seccomp(self.filters.lasting)

    def shut_files(self) -> None:
        """Closes the walls around files, network addresses and signals (the child's first step).

        Raises:
            OSError: a wall could not be closed; run nothing then.
        """
        if self.ruleset >= 0:
            apply_landlock(self.ruleset)
        if self.seatbelt:
            apply_seatbelt(self.readable, self.scratch)

    def shut_process(self, cpu_s: float, memory_mb: int, scratch_mb: int) -> None:
        """Sets the limits and the system call filter (the child's last step before the code).

        Raises:
            OSError: a wall could not be closed; run nothing then.
        """
        limit_resources(cpu_s, memory_mb, scratch_mb, self.processes, self.files)
        if self.filters is not None:
            apply_seccomp(self.filters.own)


def find_walls(
    readable: list[str], scratch: str, processes: int | None, many: bool = False
) -> Walls:
    """Looks which walls this kernel has, by trying them.

    Args:
        readable: folders and files that the code may read.
        scratch: the one folder where it may make files.
        processes: limit of processes and threads for its uid.
        many: it may start processes; see `_build_filters` and `landlock_ruleset`.
    """
    forbid_new_privileges()
    walls = Walls(readable, scratch, processes=processes)
    walls.abi = landlock_abi()
    if walls.abi:
        devices = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"]
        walls.ruleset = landlock_ruleset(walls.abi, readable, scratch, devices, many)
    filters = _build_filters(many)
    if filters is not None and _works(lambda: apply_seccomp(filters.lasting)):
        walls.filters = filters
        filters.own.packed(0)  # so that the children have it ready
    walls.files = 128 if many else 64
    if sys.platform == "darwin" and hasattr(_libc, "sandbox_init"):
        walls.seatbelt = _works(lambda: apply_seatbelt(readable, scratch))
    return walls


def _works(close_wall: Callable[[], None]) -> bool:
    """Tries a wall in a process of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            close_wall()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0
