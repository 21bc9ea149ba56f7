"""A bounded queue for one reader, who is given up for making no progress, not because of a burst alone."""

import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds in which a reader with more than a few items waiting has to take one."""
MOST = 16_384
"""Items that may wait at all."""
MOST_BYTES = 4 * 1024 * 1024


class Backlog(Generic[T]):
    """A queue of one reader, at most `MOST` items and `MOST_BYTES`. With ``few`` or more waiting, the reader must make progress."""

    __slots__ = ("_bytes", "_few", "_items", "_moved", "_now")

    def __init__(self, few: int, now: Callable[[], float] = time.monotonic) -> None:
        self._few = few
        self._now = now
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._moved = 0.0  # when the reader last took an item, or had none to take

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: T, size: int) -> bool:
        """Queue an item of so many bytes; False if the reader is too far behind for it."""
        count = len(self._items)
        if not count:
            self._moved = self._now()
        elif count >= self._few and (count >= MOST or self._bytes >= MOST_BYTES or self._now() - self._moved > PATIENCE):
            return False
        self._items.append((item, size))
        self._bytes += size
        return True

    def take(self) -> T:
        """Return the item that has waited longest; IndexError if there is none."""
        item, size = self._items.popleft()
        self._bytes -= size
        self._moved = self._now()
        return item
