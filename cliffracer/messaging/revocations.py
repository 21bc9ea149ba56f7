"""Tells every process at once which tokens are good no more, and those that start later."""

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
    """What is revoked: a token or session by its id, or all tokens of a subject that were issued before a moment."""

    key: str
    until: float
    """When the last of these tokens ends by itself; nobody needs to remember it any longer."""
    before: float | None = None
    since: float | None = None
    """From when on it is; None: from now on."""

    def adds(self, known: "Revocation") -> bool:
        """Say whether it says more than one that is known of the same."""
        sooner = known.since is not None and (self.since is None or self.since < known.since)
        return sooner or known.until < self.until or (known.before or 0.0) < (self.before or 0.0)


Apply = Callable[[str, float, float | None, float | None], None]
Publish = Callable[[str, float, float | None, float | None], Awaitable[None]]
_decoder: Decoder[Revocation] = Decoder(Revocation)


@asynccontextmanager
async def revoking(
    bus: Bus, backend: Backend, namespace: str, apply: Apply, *, within: float | None = None
) -> AsyncIterator[tuple[Publish, "Known"]]:
    """Apply what anybody revokes while the block runs; gives what revokes for everybody, and what is known of it here.

    It goes into a bucket, for those that start later or were away, and then over core NATS, which takes a millisecond. While
    the bucket cannot be written, tokens stay good until they end by themselves: that is why they are short-lived.

    With ``within`` the block begins when all that was revoked before is applied, so that nothing is taken in by a token that is
    good no more; `Unavailable` when none of it comes for so many seconds. A server without JetStream has nothing to read.
    After an outage `Known.wait` is for what is stored: of what came meanwhile over core NATS nothing was heard.
    """
    subject = f"{Subjects(namespace).prefix}{SUBJECT}"
    store: Values[Revocation] = backend.values(BUCKET, Revocation)

    def receive(_subject: bytes, _reply: bytes, _block: bytes | None, payload: bytes) -> None:
        try:
            found = _decoder.decode(payload)
        except InvalidInput:
            return  # a stranger's
        apply(found.key, found.until, found.before, found.since)

    async def publish(key: str, until: float, before: float | None, since: float | None) -> None:
        made = Revocation(key, until, before, since)
        name = key.encode().hex()
        known = await store.entry(name)
        if known is None or known.value is None or made.adds(known.value):
            await store.put(name, made, ttl=min(max(60.0, until - time() + 60.0), _LONGEST))
        bus.publish(subject.encode(), encode(made))  # last, and heard here too: what cannot be kept is refused nowhere

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
    """Whether what was revoked before is known here, as of the present connection to NATS, and why not."""

    def __init__(self, bus: Bus, within: float) -> None:
        self._bus = bus
        self._within = within
        self._connection: object = None  # the INFO of the one over which all was read
        self._event = asyncio.Event()
        self.reason: object = "nothing comes"
        self.read = 0
        """How many were read: some 20,000 in a second, and there may be a million."""

    @property
    def behind(self) -> bool:
        """Say whether it is not."""
        return self._connection is not self._bus.info

    def set(self) -> None:
        """Say that it is, or that there is nothing to know."""
        self._connection = self._bus.info
        self._event.set()

    async def wait(self) -> None:
        """Return when it is; `Unavailable` after some seconds in which nothing was read."""
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
                known.read = max(known.read, read)  # what is read again is no progress
                if not entry.deleted and entry.value is not None:
                    apply(entry.value.key, entry.value.until, entry.value.before, entry.value.since)
        except CliffracerError as error:
            logger.debug("earlier revocations cannot be read now: {}", error)
            known.reason = error
            if isinstance(error, SetupError) and not bus.info.get("jetstream", False):  # nothing is stored, no revocation and no event
                known.set()
        await asyncio.sleep(known.again())
