"""The entry of a cached answer, and the interface of stores."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

Marks = Mapping[str, int | str]
"""The mark of each tag, which changes with each invalidation; an answer is valid as long as its marks have not changed."""


class Entry(msgspec.Struct, frozen=True):
    """A cached answer."""

    payload: bytes
    until: float
    """POSIX time until which it is fresh."""
    marks: dict[str, int | str]


class Store(Protocol):
    """A store of answers. Any but memory may be away: then its methods raise `Unavailable`, or take too long."""

    async def look(self, name: str, tags: Sequence[str]) -> tuple[Entry | None, Marks]:
        """Return the entry of a name, and the current marks of the tags."""

    async def keep(self, name: str, entry: Entry, life: float) -> None:
        """Store an answer for some seconds."""

    async def forget(self, tags: Iterable[str]) -> None:
        """Invalidate everything with one of these tags, in all replicas."""

    async def claim(self, name: str, seconds: float) -> bool:
        """Claim computing an answer, for some seconds; False if another replica has claimed it."""

    async def release(self, name: str) -> None:
        """Release the claim."""
