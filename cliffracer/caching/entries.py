"""What is kept of an answer, and what every store can do."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

Marks = Mapping[str, int | str]
"""Of each tag when it was forgotten last; an answer is good while they are what they were before it was made."""


class Entry(msgspec.Struct, frozen=True):
    """An answer as it is kept."""

    payload: bytes
    until: float
    """POSIX time until which it is fresh."""
    marks: dict[str, int | str]


class Store(Protocol):
    """Where answers are kept. Anything but memory may be away: then its methods raise `Unavailable`, or take too long."""

    async def look(self, name: str, tags: Sequence[str]) -> tuple[Entry | None, Marks]:
        """Return what is kept under a name, and how the tags stand now."""

    async def keep(self, name: str, entry: Entry, life: float) -> None:
        """Keep an answer for so many seconds."""

    async def forget(self, tags: Iterable[str]) -> None:
        """Make everything with one of these tags good no more, in all replicas."""

    async def claim(self, name: str, seconds: float) -> bool:
        """Say whether it is us who make an answer; for so long nobody else does."""

    async def release(self, name: str) -> None:
        """Let others make it."""
