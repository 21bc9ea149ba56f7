"""Keys made by the client, so that a row's id is known before it is stored."""

import os
import time
from uuid import UUID

_last = 0


def uuid7() -> UUID:
    """Return a new UUID of version 7 (RFC 9562): milliseconds, a 12-bit fraction of them, 62 random bits.

    Within a process they ascend, so an index on them grows at its end.
    """
    global _last  # noqa: PLW0603 - two threads at once cost at most the order of two keys; the random bits keep them apart
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    stamp = (milliseconds << 12) | (rest * 4096 // 1_000_000)
    if stamp <= _last:
        stamp = _last + 1
    _last = stamp
    noise = int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=((stamp >> 12) << 80) | (7 << 76) | ((stamp & 0xFFF) << 64) | (2 << 62) | noise)
