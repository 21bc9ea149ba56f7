"""The database as a running service uses it: messaging and database do not import each other, this is what one may ask of the other."""

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from cliffracer.calling import Emission


class Transactional(Protocol):
    """The open database of this process: what is emitted and handled may be part of its transactions. See `AppDatabase`."""

    def given(self) -> dict[str, Any]:
        """Return, by dotted name of a type, what gives a handler its value for an annotation with that type."""

    def transaction(self) -> object | None:
        """Return the transaction that this task has open; None without one, and in a thread."""

    async def joined(self, emission: Emission, subject: str, payload: bytes, headers: Mapping[str, str], /) -> bool:
        """Store a durable message with the transaction that this task has open; False if there is none."""

    async def waiting(self) -> int:
        """Return how many events of committed transactions are not published yet."""

    def once(self, consumer: str, event_id: str, /) -> AbstractAsyncContextManager[bool]:
        """Open a transaction in which an event is marked as handled; False if it was before."""

    def each_once(self, consumer: str, event_ids: Collection[str], /) -> AbstractAsyncContextManager[set[str]]:
        """Open a transaction for several events: gives those not handled before, and marks those that are left of them when it ends."""
