"""Messages that wait for NATS: bounded, and none is sent after its deadline."""

import time
from collections import deque
from math import inf

from cliffracer.errors import Unavailable

LIMIT = 8 * 1024 * 1024  # bytes; what nats.go holds too
_OVERHEAD = 200  # bytes that a held message costs beside its own

Message = tuple[bytes, bytes, bytes | None, bytes]  # subject, payload, header block, reply


class Held:
    """What was published while nothing can be written, in order, until `take`."""

    __slots__ = ("_bytes", "_limit", "_waiting")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._bytes = 0
        self._waiting: deque[tuple[float, int, Message]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: Message, deadline: float | None) -> None:
        """Keep a message until `deadline` (`time.monotonic`; None: as long as it takes); `Unavailable` when there is no room."""
        subject, payload, block, reply = message
        size = len(subject) + len(payload) + len(block or b"") + len(reply) + _OVERHEAD
        if self._bytes + size > self._limit:
            self._forget_expired()
        if self._bytes + size > self._limit:
            reached = "NATS is away, or takes less than it is sent"
            raise Unavailable(f"{reached}: {self._bytes} bytes wait for it already, and nothing more is accepted", reason="full")
        self._waiting.append((inf if deadline is None else deadline, size, message))
        self._bytes += size

    def take(self) -> list[tuple[Message, float]]:
        """Return what may still be sent, with its deadline, and forget all of it."""
        now = time.monotonic()
        found = [(message, deadline) for deadline, _, message in self._waiting if deadline > now]
        self._waiting.clear()
        self._bytes = 0
        return found

    def _forget_expired(self) -> None:
        now = time.monotonic()
        self._waiting = deque(entry for entry in self._waiting if entry[0] > now)
        self._bytes = sum(size for _, size, _ in self._waiting)
