"""The NATS bucket with the cached answers of a service, and the message by which its replicas invalidate what each has in memory."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from cliffracer.caching.cached import LONGEST
from cliffracer.caching.entries import Entry, Marks
from cliffracer.errors import Conflict, Internal, InvalidInput
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.keyvalue import KeyValue
from cliffracer.messaging.stores import Bucket
from cliffracer.wire.codecs import Decoder, encode
from cliffracer.wire.subjects import Subjects

BYTES = 64 * 2**20
"""Size of the cached answers of one service, at most; then the oldest are dropped."""
_REMEMBERED = LONGEST + 86_400.0  # seconds that an invalidation is remembered: longer than any answer lives
_LONGEST_TAG = 1000  # ours are shorter; others are ignored
_tags: Decoder[list[str]] = Decoder(list[str])


def bucket_for(service: str) -> Bucket:
    """Return the bucket of a service's answers: its own, so that no other service can forge answers."""
    return Bucket(f"cache_{service}", max_bytes=BYTES)


def forgetting(subjects: Subjects, service: str) -> str:
    """Return the subject on which the replicas of a service invalidate answers."""
    return f"{subjects.prefix}cliffracer.forget.{service}"


class NatsStore:
    """Implements `cliffracer.caching.entries.Store`. A tag's mark is the revision of its key: it rises each time it is forgotten."""

    def __init__(self, jetstream: JetStream, service: str, namespace: str) -> None:
        self._store: KeyValue[Entry] = KeyValue(jetstream, bucket_for(service), Entry, namespace=namespace)
        self._marks: KeyValue[int] = KeyValue(jetstream, bucket_for(service), int, namespace=namespace)

    async def open(self) -> None:
        """Make the bucket if it is absent."""
        await self._store.ensure()

    async def look(self, name: str, tags: Sequence[str]) -> tuple[Entry | None, Marks]:
        """Return the entry of a name, and the current marks of the tags."""
        found, marks = await asyncio.gather(self._entry(name), asyncio.gather(*map(self._mark, tags)))
        return found, dict(zip(tags, marks, strict=True))

    async def keep(self, name: str, entry: Entry, life: float) -> None:
        """Store an answer for some seconds."""
        await self._store.put(f"answer.{name}", entry, ttl=life + 1)

    async def forget(self, tags: Iterable[str]) -> None:
        """Invalidate everything with one of these tags, in all replicas."""
        await asyncio.gather(*(self._marks.put(_key_of(tag), 1, ttl=_REMEMBERED) for tag in tags))

    async def claim(self, name: str, seconds: float) -> bool:
        """Claim making an answer, for some seconds; False if another replica has claimed it."""
        try:
            await self._marks.create(f"making.{name}", 1, ttl=seconds)
        except Conflict:
            return False
        return True

    async def release(self, name: str) -> None:
        """Release the claim."""
        await self._marks.delete(f"making.{name}", ttl=1)  # nor does its absence take any room

    async def _entry(self, name: str) -> Entry | None:
        try:
            found = await self._store.entry(f"answer.{name}")
        except Internal:
            return None  # of another version of ours
        return None if found is None else found.value

    async def _mark(self, tag: str) -> int:
        found = await self._marks.entry(_key_of(tag))
        return 0 if found is None else found.revision


@asynccontextmanager
async def hearing(
    bus: Bus, subjects: Subjects, service: str, forget: Callable[[Iterable[str]], None], missed: Callable[[], None]
) -> AsyncIterator[Callable[[list[str]], None]]:
    """Call ``forget`` with the tags that any replica invalidates while the block runs; gives a function that tells all replicas.

    ``missed`` is called after an outage, when some messages may have been missed.
    """
    subject = forgetting(subjects, service)

    def receive(_subject: bytes, _reply: bytes, _block: bytes | None, payload: bytes) -> None:
        try:
            forget([tag for tag in _tags.decode(payload) if len(tag) <= _LONGEST_TAG])
        except InvalidInput:
            return  # a stranger's

    def say(tags: list[str]) -> None:
        bus.publish(subject.encode(), encode(tags))

    subscription = await bus.subscribe(subject, receive)
    bus.returned.add(missed)
    try:
        yield say
    finally:
        bus.returned.discard(missed)
        await subscription.close()


def _key_of(tag: str) -> str:
    return f"tag.{hashlib.sha256(tag.encode('utf-8', 'surrogatepass')).hexdigest()}"
