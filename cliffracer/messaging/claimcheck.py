"""The claim-check pattern: payloads over the server's limit are put into the object store, and a reference is sent.

The message is empty and carries ``Cliffracer-Claim``, the name of the object in the bucket ``claims``. An object of an event stays
as long as the event may be replayed, that is until somebody deletes it; that of a call is gone after an hour.
"""

import asyncio
from contextlib import suppress

from cliffracer.context import new_id
from cliffracer.errors import CliffracerError, DeadlineExceeded, Forbidden, NotFound, SetupError, TooLarge, Unavailable
from cliffracer.messaging.ensuring import widen
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.objects import ObjectStore
from cliffracer.messaging.stores import Bucket
from cliffracer.shielding import shielded
from cliffracer.wire.headers import Headers

CLAIM = "Cliffracer-Claim"
ROOM = 20 * 1024
"""Bytes that headers may take."""
_MARK = b"\ncliffracer-claim:"


def is_claim(block: bytes | None) -> bool:
    """Say whether a message without a payload refers to one in the object store."""
    return block is not None and _MARK in block.lower()


def claiming(block: bytes | None, name: str) -> bytes:
    """Return the header block with a claim added."""
    return (block or b"NATS/1.0\r\n\r\n")[:-2] + f"{CLAIM}: {name}\r\n\r\n".encode()


def check_size(payload: bytes, most: int) -> None:
    """Raise `TooLarge` for a payload over the limit in the settings."""
    if len(payload) > most:
        raise TooLarge(f"the payload takes {len(payload)} bytes; NATS_MAX_MESSAGE is {most}", size=len(payload), limit=most)


class ClaimCheck:
    """Keeps large payloads; ``kind`` is ``events`` or ``calls``."""

    def __init__(self, jetstream: JetStream, namespace: str, kind: str = "events") -> None:
        self._bus = jetstream.bus
        self._jetstream, self._namespace = jetstream, namespace
        self._widened = False
        self._store = ObjectStore(jetstream, Bucket(f"claims_{kind}", ttl=None if kind == "events" else "1h"), namespace=namespace)

    def too_large(self, payload: bytes) -> bool:
        """Say whether a payload does not fit into one message."""
        return len(payload) + ROOM > self._bus.max_payload

    async def stash(self, payload: bytes, within: float | None = None) -> str:
        """Store a payload and return its name; `TooLarge` over the limit in the settings, `Unavailable` if it takes too long."""
        check_size(payload, self._bus.largest)
        name = new_id()
        try:
            async with asyncio.timeout(within):
                await self._put(name, payload)
        except TimeoutError:
            raise Unavailable(f"{len(payload)} bytes could not be stored in time: NATS is away, or slow", reason="away") from None
        except Forbidden:  # NATS permissions without the buckets of claims
            limit = self._bus.max_payload
            text = f"the payload takes {len(payload)} bytes; {limit} is the limit for an app without uses=['large']"
            raise TooLarge(text, limit=limit) from None
        except SetupError:  # no JetStream
            limit = self._bus.max_payload
            raise TooLarge(f"the payload takes {len(payload)} bytes; without JetStream {limit} is the limit", limit=limit) from None
        return name

    async def fitting(self, payload: bytes, block: bytes | None, within: float | None = None) -> tuple[bytes, bytes | None]:
        """Return what to send, (payload, header block): as they are, or a claim in place of the payload if that is too large."""
        return await self.claim(payload, block, within) if self.too_large(payload) else (payload, block)

    async def claim(self, payload: bytes, block: bytes | None, within: float | None = None) -> tuple[bytes, bytes]:
        """Return (nothing, header block with a claim), to be sent in place of a payload."""
        name = await self.stash(payload, within)
        return b"", claiming(block, name)

    async def redeem(self, block: bytes | None, within: float | None = None) -> bytes:
        """Return the payload that a message refers to; `NotFound` if it is gone, `DeadlineExceeded` if it takes too long."""
        try:
            async with asyncio.timeout(within):
                return await self.redeem_name(Headers(block).get(CLAIM, ""))
        except TimeoutError:
            raise DeadlineExceeded("the payload that this message stands for could not be read in time") from None

    async def redeem_name(self, name: str) -> bytes:
        """Return the payload that is kept under a name; `NotFound` if it is gone."""
        try:
            return await self._store.read(name)
        except NotFound:
            raise NotFound(f"the payload {name[:80]} that this message stands for is gone") from None

    async def forget(self, name: str) -> None:
        """Remove a payload that nobody will claim."""
        await self._store.delete(name)

    async def _put(self, name: str, payload: bytes) -> None:
        if self._bus.replicas > 1 and not self._widened:  # it may have been made before the setting
            self._widened = True
            await widen(self._jetstream, self._store.asked, namespace=self._namespace)
        try:
            await self._store.put(name, payload)
        except asyncio.CancelledError:  # it may be stored all the same
            shielded(self._forget(name), "unclaimed payload")
            raise

    async def _forget(self, name: str) -> None:
        with suppress(CliffracerError):  # NATS is away: it takes room, and nobody claims it
            await self.forget(name)
