"""The logs of the servers: private, bounded, quoted when something fails.

Standard library only: the supervisor starts without the rest of the package.
"""

import os
from pathlib import Path
from typing import BinaryIO

LIMIT = 5_000_000
"""Bytes from which on a log is rotated; one old copy stays."""


def append(log: Path) -> BinaryIO:
    """Return the log, open to be written on by a process that starts now."""
    if log.exists() and log.stat().st_size > LIMIT:
        log.replace(log.with_name(log.name + ".old"))
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "ab")


def tail(log: Path, lines: int = 8) -> str:
    """Return the last lines, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
