"""How long this process has been there: what a user waits for begins before our first line does."""

import os
import time
from pathlib import Path

_IMPORTED = time.monotonic()
_MOST = 10.0  # seconds from the start of a process to here; what is older waited as another program, which then became us


def age() -> float:
    """Return the seconds since this process was started, as Linux tells it; elsewhere since it came here."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5): ticks since boot
        found = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        found = -1.0
    here = time.monotonic() - _IMPORTED
    return found if here <= found <= here + _MOST else here
