"""`ObjectStore`: large objects by name, streamed in and out in chunks, their digest checked (ADR-20)."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from weakref import WeakKeyDictionary, WeakValueDictionary

import msgspec
from loguru import logger

from cliffracer.context import new_id
from cliffracer.durations import seconds
from cliffracer.errors import CliffracerError, Conflict, DeadlineExceeded, Internal, InvalidInput, NotFound, SetupError, Unavailable
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.configurations import NANOSECONDS, StreamConfig
from cliffracer.messaging.ensuring import ensure_stream, reconcile
from cliffracer.messaging.jetstream import JetStream, PubAck, StreamInfo, read_stored
from cliffracer.messaging.pieces import Reading, cut
from cliffracer.messaging.publishing import Publisher
from cliffracer.messaging.reading import SILENCE, Reader
from cliffracer.messaging.singleflight import SingleFlight
from cliffracer.messaging.stores import Bucket, Data, ObjectInfo
from cliffracer.shielding import shielded
from cliffracer.wire.headers import IF_LAST
from cliffracer.wire.subjects import named_within

CHUNK = 128 * 1024
WINDOW = 16  # chunks in flight: what an object costs in memory, in or out, is 2 MiB
TOGETHER = 16
"""Objects that are read at the same time over one connection: the server cuts off a client that is too slow to read what it has
asked for, with more than 64 MiB waiting."""
SHARED = 128
"""Chunks in flight to all readers of a connection, for the same reason: with many readers, each has fewer than `WINDOW`."""
_TIDIED_WITHIN = 2.0  # seconds that the error of a failed put waits until the stored chunks are removed
_SHA = "SHA-256="
_readers: WeakKeyDictionary[Bus, set[object]] = WeakKeyDictionary()
_turns: WeakKeyDictionary[Bus, asyncio.Semaphore] = WeakKeyDictionary()


class ObjectStore:
    """One bucket of objects: ``await files.put("report.pdf", chunks)``, ``async for chunk in files.get("report.pdf")``.

    Memory stays flat whatever their size. The bucket is made when it is first used.
    """

    def __init__(self, jetstream: JetStream, bucket: Bucket, *, namespace: str = "") -> None:
        if bucket.history != 1:
            raise SetupError(f"Bucket({bucket.name!r}): an ObjectStore keeps the last object of each name, so leave out history.")
        self.bucket = named_within(namespace, bucket.name)
        self._name = bucket.name  # as its user wrote it: errors say it, and may go out to strangers
        self._jetstream, self._namespace = jetstream, namespace
        self._stream = f"OBJ_{self.bucket}"
        self._chunks = f"$O.{self.bucket}.C."
        self._metas = f"$O.{self.bucket}.M."
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._publisher = Publisher(jetstream, recover=SingleFlight(self.ensure))
        self.asked = StreamConfig(
            name=self._stream,
            subjects=[f"{self._chunks}>", f"{self._metas}>"],
            max_age=None if bucket.ttl is None else int(seconds(bucket.ttl) * NANOSECONDS),
            max_bytes=bucket.max_bytes,
            allow_rollup_hdrs=True,
            num_replicas=bucket.replicas,
        )

    def __repr__(self) -> str:
        return f"<ObjectStore {self._name}>"

    async def put(self, name: str, data: Data, *, description: str = "", metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """Store an object, in place of one of the same name, which stays readable until this one is complete; return what is known of it.

        ``data`` is bytes, an async iterable of them, or an open binary file (read in a thread). `Unavailable` where there is no room.
        """
        if not name or len(name) > 512:
            raise InvalidInput("an object needs a name, of 512 characters at most")
        self._meta(name)  # a bad name fails here, before anything is stored
        nuid = new_id()
        try:
            size, count, digest, last = await self._store(nuid, data)
            info = ObjectInfo(
                name=name,
                bucket=self.bucket,
                nuid=nuid,
                size=size,
                chunks=count,
                digest=digest,
                mtime=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                description=description,
                metadata=dict(metadata or {}),
            )
        except BaseException as error:  # cancelled, the source failed or the store is full: no half of it stays
            await self._give_up(nuid, at_once=not isinstance(error, Exception))
            if isinstance(error, Unavailable) and error.details.get("reason") == "full":
                raise Unavailable(f"{self._name} has no room for this object: the bucket, or NATS, is full", reason="full") from error
            raise
        await shielded(self._complete(info, last), f"object in {self.bucket}")
        return info

    def get(self, name: str) -> "Reading":
        """Yield an object's bytes, chunk by chunk, or awaited return them all, as `read`; `NotFound`.

        A digest that does not fit is `Internal`, raised after the last chunk. One that is removed, or replaced, while it is read is
        `NotFound`, or `Conflict`: its chunks go with it.
        """
        return Reading(self._pieces(name), lambda: self.read(name))

    async def _pieces(self, name: str) -> AsyncGenerator[bytes]:
        with self._reading() as window:
            info = await self.info(name)
            if not info.chunks:
                return
            digest, size, count = hashlib.sha256(), 0, 0
            async with Reader(self._jetstream, self._stream, [f"{self._chunks}{info.nuid}"], limit=window()) as reader:
                while count < info.chunks:
                    reader.room(window())
                    try:
                        chunk = (await reader.next(SILENCE)).payload
                    except TimeoutError:
                        await self._check(info)
                        continue
                    digest.update(chunk)
                    size, count = size + len(chunk), count + 1
                    yield chunk
            if size != info.size or _shown(digest) != info.digest.rstrip("="):
                raise Internal(f"{self.bucket}/{name} is damaged: {size} of {info.size} bytes read, or the digest does not fit")

    @contextmanager
    def _reading(self) -> Iterator[Callable[[], int]]:
        """Count as a reader of this connection; gives a function for how many chunks each reader may have in flight."""
        readers, me = _readers.setdefault(self._jetstream.bus, set()), object()
        readers.add(me)
        try:
            yield lambda: max(1, min(WINDOW, SHARED // len(readers)))
        finally:
            readers.discard(me)

    async def read(self, name: str) -> bytes:
        """Return an object whole; for small ones."""
        async with _turns.setdefault(self._jetstream.bus, asyncio.Semaphore(TOGETHER)):
            return b"".join([chunk async for chunk in self.get(name)])

    async def info(self, name: str) -> ObjectInfo:
        """Return what is known of an object; `NotFound` if it is not there."""
        found = await self._info(name)
        if found is None:
            raise NotFound(f"{self._name} has no {name}")
        return found

    async def list(self) -> list[ObjectInfo]:
        """Return what is known of all objects."""
        await self.ensure()
        async with Reader(self._jetstream, self._stream, [f"{self._metas}>"], {"deliver_policy": "last_per_subject"}) as reader:
            found = [read_stored(delivery.payload, ObjectInfo) async for delivery in reader.present()]
        return [info for info in found if info is not None and not info.deleted]

    async def delete(self, name: str) -> None:
        """Remove an object; `NotFound` if it is not there."""
        async with self._completing(name):  # a cancelled put may be completing it right now
            info = await self.info(name)
        await shielded(self._delete(info), f"deletion in {self.bucket}")

    async def destroy(self) -> None:
        """Remove the bucket and all that is in it."""
        try:
            await self._jetstream.delete_stream(self._stream)
        except NotFound:
            return

    async def reconcile(self) -> None:
        """Widen an existing bucket to its declaration."""
        await reconcile(self._jetstream, self.asked, namespace=self._namespace)

    async def ensure(self) -> StreamInfo:
        """Make the bucket if it is absent."""
        return await ensure_stream(self._jetstream, self.asked, namespace=self._namespace)

    def _completing(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _meta(self, name: str) -> str:
        return f"{self._metas}{base64.urlsafe_b64encode(name.encode()).decode()}"

    async def _info(self, name: str) -> ObjectInfo | None:
        info, _ = await self._known(name)
        return None if info is None or info.deleted else info

    async def _known(self, name: str) -> tuple[ObjectInfo | None, int]:
        """Return the metadata of an object, which may say that it is deleted, and its sequence; 0 if there is none."""
        try:
            stored = await self._jetstream.last_message(self._stream, self._meta(name))
        except NotFound:  # the bucket was never used
            return None, 0
        return (None, 0) if stored is None else (read_stored(stored.data, ObjectInfo), stored.seq)

    async def _check(self, info: ObjectInfo) -> None:
        """Raise if chunks of an object are gone: a reader would wait for them for ever."""
        subject = f"{self._chunks}{info.nuid}"
        try:
            counts = (await self._jetstream.stream(self._stream, subjects=subject)).state.subjects or {}
        except NotFound:  # the bucket is gone
            counts = {}
        except CliffracerError as error:  # the reader goes on when the server is back
            logger.debug("no news of {bucket}/{name}: {error}", bucket=self.bucket, name=info.name, error=error)
            return
        there = counts.get(subject, 0)
        if there >= info.chunks:
            return
        if (await self.info(info.name)).nuid != info.nuid:
            raise Conflict(f"{self._name}/{info.name} was replaced while it was read: read it again")
        raise Internal(f"{self.bucket}/{info.name} is damaged: {there} of {info.chunks} chunks are there")

    async def _note(self, info: ObjectInfo) -> tuple[int, ObjectInfo | None]:
        """Write the metadata of an object; return its sequence, and the metadata before.

        It is written under compare-and-set: the later of two concurrent writers sees the other one, whose chunks are not needed then.
        """
        before: ObjectInfo | None = None
        while True:
            present, number = await self._known(info.name)
            if present is not None and (present.nuid, present.deleted) == (info.nuid, info.deleted):  # ours, its answer lost
                return number, before
            before = present
            headers = {"Nats-Rollup": "sub", IF_LAST: str(number)}
            try:
                ack = await self._publisher.publish(self._meta(info.name), msgspec.json.encode(info), headers)
            except Conflict:
                continue
            return ack.seq, before

    def _check_order(self, before: int, number: int) -> None:
        """Raise if the sequences do not rise: the bucket was lost in between, with what was stored before."""
        if number <= before:
            raise Unavailable(f"{self._name} lost a part of the object while it was stored: store it again", reason="lost")

    async def _complete(self, info: ObjectInfo, last: int) -> None:
        """Make an object visible, and remove the chunks that are not needed any more."""
        try:
            async with self._completing(info.name):
                number, before = await self._note(info)
            self._check_order(last, number)
        except DeadlineExceeded:  # it may have become visible all the same: its chunks stay, and so do those of the one before
            raise
        except Exception:  # refused, or the store is away: it did not become visible, so its chunks are garbage
            await self._give_up(info.nuid, at_once=False)
            raise
        if before is not None and before.nuid != info.nuid:
            await self._give_up(before.nuid, at_once=False)

    async def _delete(self, info: ObjectInfo) -> None:
        before = None
        try:
            _, before = await self._note(msgspec.structs.replace(info, size=0, chunks=0, digest="", deleted=True))
        except Unavailable as error:
            if error.details.get("reason") != "full":
                raise
            await self._purge(self._meta(info.name))  # no room for a deletion marker, so the metadata itself is removed
        for nuid in {info.nuid, info.nuid if before is None else before.nuid}:
            await self._forget(nuid)

    async def _give_up(self, nuid: str, *, at_once: bool) -> None:
        """Remove chunks that are not needed; a cancelled caller does not wait for it, others not for long."""
        tidying = shielded(self._tidy(nuid), f"chunks in {self.bucket}")
        if not at_once:
            await asyncio.wait([tidying], timeout=_TIDIED_WITHIN)

    async def _tidy(self, nuid: str) -> None:
        try:
            await self._forget(nuid)
        except CliffracerError as error:
            logger.warning("{bucket} keeps chunks that nobody needs, of {nuid}: {error}", bucket=self.bucket, nuid=nuid, error=error)

    async def _forget(self, nuid: str) -> None:
        await self._purge(f"{self._chunks}{nuid}")

    async def _purge(self, subject: str) -> None:
        try:
            await self._jetstream.purge(self._stream, filter=subject)
        except NotFound:
            return

    async def _store(self, nuid: str, data: Data) -> tuple[int, int, str, int]:
        """Store the chunks in order; return (bytes, chunks, digest, sequence of the last one)."""
        digest, size, count, last = hashlib.sha256(), 0, 0, 0
        window: list[bytes] = []
        async for chunk in cut(data, min(CHUNK, self._jetstream.bus.max_payload - 2048)):
            digest.update(chunk)
            size += len(chunk)
            window.append(chunk)
            if len(window) == WINDOW:
                last = await self._publish(nuid, count, window, last)
                count, window = count + len(window), []
        last = await self._publish(nuid, count, window, last)
        return size, count + len(window), f"{_shown(digest)}=", last

    async def _publish(self, nuid: str, first: int, window: Sequence[bytes], last: int) -> int:
        """Store some chunks at once, after the one with sequence ``last``; if a repetition got them out of order, again one by one."""
        subject = f"{self._chunks}{nuid}"
        acks: list[PubAck] = await asyncio.gather(
            *(self._publisher.publish(subject, chunk, message_id=f"{nuid}.{first + n}", timeout=60) for n, chunk in enumerate(window))
        )
        numbers = [ack.seq for ack in acks]
        self._check_order(last, min(numbers, default=last + 1))
        if numbers != sorted(numbers):
            for number in numbers:
                await self._jetstream.delete_message(self._stream, number)
            numbers = []
            for n, chunk in enumerate(window):
                ack = await self._publisher.publish(subject, chunk, message_id=f"{nuid}.{first + n}.again", timeout=60)
                numbers.append(ack.seq)
        for number in numbers:
            self._check_order(last, number)
            last = number
        return last


def _shown(digest: "hashlib._Hash") -> str:
    return f"{_SHA}{base64.urlsafe_b64encode(digest.digest()).decode().rstrip('=')}"
