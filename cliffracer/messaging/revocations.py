"""Publishes revoked tokens to every process at once, and to processes that start later."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import time

import msgspec
from loguru import logger

from cliffracer.errors import CliffracerError, InvalidInput, SetupError, Unavailable
from cliffracer.messaging.broker import Backend
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.duties import Values
from cliffracer.messaging.stores import Bucket
from cliffracer.wire.codecs import Decoder, encode
from cliffracer.wire.subjects import Subjects

BUCKET = Bucket("revocations")
SUBJECT = "cliffracer.revoked"
_LONGEST = 100 * 366 * 86_400.0  # what nats-server can count
_AGAIN = 10.0  # seconds until the bucket is tried again, when there is no JetStream now
_SOON = 0.5  # while somebody waits for it


class Revocation(msgspec.Struct, frozen=True):
    """What is revoked: a token or session, by its id."""

    key: str
    until: float
    """When the last of these tokens expires, so that the revocation can be forgotten."""
    since: float | None = None
    """From when on it is revoked; None: from now on."""

    def adds(self, known: "Revocation") -> bool:
        """Say whether it revokes more than a known revocation of the same key."""
        sooner = known.since is not None and (self.since is None or self.since < known.since)
        return sooner or known.until < self.until


Apply = Callable[[str, float, float | None], None]
Publish = Callable[[str, float, float | None], Awaitable[None]]
_decoder: Decoder[Revocation] = Decoder(Revocation)


@asynccontextmanager
async def revoking(
    bus: Bus, backend: Backend, namespace: str, apply: Apply, *, within: float | None = None
) -> AsyncIterator[tuple[Publish, "Known"]]:
    """Apply all revocations while the block runs; gives a function that revokes everywhere, and a `Known`.

    A revocation is stored in a bucket, for processes that start later or were away, and then sent over core NATS, which takes a
    millisecond. While the bucket cannot be written, tokens stay valid until they expire: that is why they are short-lived.

    With ``within`` the block begins when all earlier revocations have been applied, so that no revoked token is accepted;
    `Unavailable` if none arrive for so many seconds. A server without JetStream has nothing to read. After an outage `Known.wait`
    waits for the stored ones, since those sent over core NATS meanwhile were missed.
    """
    subject = f"{Subjects(namespace).prefix}{SUBJECT}"
    store: Values[Revocation] = backend.values(BUCKET, Revocation)

    def receive(_subject: bytes, _reply: bytes, _block: bytes | None, payload: bytes) -> None:
        try:
            found = _decoder.decode(payload)
        except InvalidInput:
            return  # a stranger's
        apply(found.key, found.until, found.since)

    async def publish(key: str, until: float, since: float | None) -> None:
        made = Revocation(key, until, since)
        name = key.encode().hex()
        known = await store.entry(name)
        if known is None or known.value is None or made.adds(known.value):
            await store.put(name, made, ttl=min(max(60.0, until - time() + 60.0), _LONGEST))
        bus.publish(subject.encode(), encode(made))  # last, and received here too: what cannot be stored is refused nowhere

    subscription = await bus.subscribe(subject, receive)
    known = Known(bus, within or 0.0)
    following = asyncio.create_task(_follow(bus, store, apply, known), name="revocations")
    try:
        if within is not None:
            await known.wait()
        yield publish, known
    finally:
        following.cancel()
        await asyncio.wait([following])
        await subscription.close()


class Known:
    """Whether all earlier revocations are known here, over the current connection to NATS, and why not."""

    def __init__(self, bus: Bus, within: float) -> None:
        self._bus = bus
        self._within = within
        self._connection: object = None  # the INFO of the connection over which all were read
        self._event = asyncio.Event()
        self.reason: object = "nothing comes"
        self.read = 0
        """How many were read: some 20,000 in a second, and there may be a million."""

    @property
    def behind(self) -> bool:
        """Say whether some may not be known yet."""
        return self._connection is not self._bus.info

    def set(self) -> None:
        """Note that all are known, or that there are none."""
        self._connection = self._bus.info
        self._event.set()

    async def wait(self) -> None:
        """Return when all are known; `Unavailable` after some seconds in which none was read."""
        before = -1
        while before < self.read and self.behind:
            before = self.read
            self._event.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._within):
                    await self._event.wait()
        if self.behind:
            within = f"within {self._within:g} s"
            raise Unavailable(f"which tokens are revoked could not be read from NATS {within}, so no call can be judged: {self.reason}")

    def again(self) -> float:
        """Return the seconds until the bucket is tried again."""
        return _SOON if self.behind else _AGAIN


async def _follow(bus: Bus, store: Values[Revocation], apply: Apply, known: Known) -> None:
    while True:
        read = 0
        try:
            async for entry in store.watch(caught_up=known.set):
                read += 1
                known.read = max(known.read, read)  # reading the same ones again is no progress
                if not entry.deleted and entry.value is not None:
                    apply(entry.value.key, entry.value.until, entry.value.since)
        except CliffracerError as error:
            logger.debug("earlier revocations cannot be read now: {}", error)
            known.reason = error
            if isinstance(error, SetupError) and not bus.info.get("jetstream", False):  # nothing is stored there at all
                known.set()
        await asyncio.sleep(known.again())
