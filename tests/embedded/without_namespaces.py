"""Run a command as root of a container that forbids user namespaces: ``without_namespaces.py COMMAND...``.

Needs root; exit code 77 where that cannot be had.
"""

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
IMPOSSIBLE = 77


def contained(command: list[str], ready: int, mapped: int) -> None:
    """Become root of a namespace in which all ids are mapped, and no further namespace may be made."""
    if ctypes.CDLL(None).unshare(CLONE_NEWUSER) != 0:
        os._exit(IMPOSSIBLE)
    os.write(ready, b"1")
    os.read(mapped, 1)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    os.execvp(command[0], command)


if __name__ == "__main__":
    (ready_read, ready_write), (mapped_read, mapped_write) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        contained(sys.argv[1:], ready_write, mapped_read)
    os.close(ready_write)
    if os.read(ready_read, 1):
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text("0 0 100000")
        os.write(mapped_write, b"1")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
