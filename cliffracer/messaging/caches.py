"""Answers kept in a bucket of NATS, which all replicas of a service share, and the word by which they forget what each has in memory."""

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
"""That the answers of one service take, at most; then the oldest are dropped."""
_REMEMBERED = LONGEST + 86_400.0  # seconds that it is known that something was forgotten: longer than any answer lives
_LONGEST_TAG = 1000  # ours are shorter; a stranger's would only take room
_tags: Decoder[list[str]] = Decoder(list[str])


def bucket_for(service: str) -> Bucket:
    """Return the bucket of a service's answers: its own, so that no other service can put answers into its mouth."""
    return Bucket(f"cache_{service}", max_bytes=BYTES)


def forgetting(subjects: Subjects, service: str) -> str:
    """Return the subject on which the replicas of a service tell each other what is good no more."""
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
        """Return what is kept under a name, and how the tags stand now."""
        found, marks = await asyncio.gather(self._entry(name), asyncio.gather(*map(self._mark, tags)))
        return found, dict(zip(tags, marks, strict=True))

    async def keep(self, name: str, entry: Entry, life: float) -> None:
        """Keep an answer for so many seconds."""
        await self._store.put(f"answer.{name}", entry, ttl=life + 1)

    async def forget(self, tags: Iterable[str]) -> None:
        """Make everything with one of these tags good no more, in all replicas."""
        await asyncio.gather(*(self._marks.put(_key_of(tag), 1, ttl=_REMEMBERED) for tag in tags))

    async def claim(self, name: str, seconds: float) -> bool:
        """Say whether it is us who make an answer; for so long nobody else does."""
        try:
            await self._marks.create(f"making.{name}", 1, ttl=seconds)
        except Conflict:
            return False
        return True

    async def release(self, name: str) -> None:
        """Let others make it."""
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
    """Have ``forget`` called with what any replica says while the block runs; gives what says it to all.

    ``missed`` is called where something may have been said and not heard: after an outage.
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
