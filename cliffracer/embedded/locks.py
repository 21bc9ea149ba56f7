"""Kernel file locks: they alone tell who is alive here; a pid in a file is never trusted.

A ``flock`` belongs to the open file: it is handed on through ``pass_fds``, and it ends with the last process that has the file open,
however that process ends.
Standard library only: the supervisor starts without the rest of the package.
"""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

if sys.platform != "win32":  # so that importing is harmless there; `use.servers` refuses with a sentence
    import fcntl


NO_FORK = threading.RLock()
"""Prevents forks while a lock is held for a moment: a child forked by another thread would hold it for as long as it lives."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=NO_FORK.acquire, after_in_parent=NO_FORK.release, after_in_child=NO_FORK.release)


def attempt(path: Path, *, exclusive: bool) -> int | None:
    """Return a descriptor that holds the lock until it is closed, or None while somebody else is in the way."""
    how = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, how)
            if is_at(fd, path):
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:  # whatever it is: nobody else would release the lock
            os.close(fd)
            raise
        os.close(fd)  # the file was removed between open and lock: others do not see our lock


def wait(path: Path, *, exclusive: bool, seconds: float) -> int | None:
    """Return the lock as soon as it is free, or None after so many seconds."""
    end = time.monotonic() + seconds
    while (fd := attempt(path, exclusive=exclusive)) is None and time.monotonic() < end:
        time.sleep(0.005)
    return fd


def is_at(fd: int, path: Path) -> bool:
    """Return whether the open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def is_held(path: Path) -> bool:
    """Return whether somebody holds the lock, in any way."""
    with NO_FORK:
        fd = attempt(path, exclusive=True)
        if fd is not None:
            os.close(fd)
        return fd is None


def holders(path: Path) -> list[int]:
    """Return the ids of the other processes that have the file open, as the kernel says now."""
    if sys.platform != "linux":
        return _holders_by_lsof(path)
    name = os.path.realpath(path)
    others = (int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) != os.getpid())  # noqa: PTH208 - a Path per process is waste
    return [pid for pid in others if _has_open(pid, name)]


def _has_open(pid: int, name: str) -> bool:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):  # ended meanwhile, or not ours to look into: then it holds nothing of ours
        for fd in os.listdir(folder):  # noqa: PTH208 - as above
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{fd}") == name:  # noqa: PTH115 - as above
                    return True
    return False


def _holders_by_lsof(path: Path) -> list[int]:
    import subprocess  # noqa: PLC0415 - only where there is no /proc

    listed = subprocess.run(["/usr/sbin/lsof", "-t", "--", path], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split() if int(pid) != os.getpid()]


def reach() -> str:
    """Return an id of what processes with a common loopback address share: the boot of the machine, and the network namespace.

    File locks do more: a container, or another machine on a network file system, sees the same folder and its locks.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/net")  # noqa: PTH115 - no path
    except OSError:
        return "here"  # no /proc: one network per machine
