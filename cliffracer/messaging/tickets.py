"""Values that can be taken once, from any replica."""

from typing import Any

from cliffracer.errors import Conflict
from cliffracer.messaging.broker import Backend
from cliffracer.messaging.duties import Values
from cliffracer.messaging.stores import Bucket

BUCKET = Bucket("tickets", ttl=60)


class OnceOnly:
    """Values that are kept in a bucket for a minute, each for the first caller that takes it."""

    def __init__(self, backend: Backend, of: Any) -> None:
        self._store: Values[Any] = backend.values(BUCKET, of)

    async def put(self, key: str, value: Any) -> None:
        """Store a value."""
        await self._store.create(key, value)

    async def take(self, key: str) -> Any:
        """Return the value to the first caller; None to all others. It is deleted under compare-and-set, so that two cannot be first."""
        entry = await self._store.entry(key)
        if entry is None:
            return None
        try:
            await self._store.delete(key, revision=entry.revision)
        except Conflict:
            return None
        return entry.value
