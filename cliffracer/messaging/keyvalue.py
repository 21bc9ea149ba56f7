"""`KeyValue`: typed values under keys, with revisions, history and a watch that outlives the server (ADR-8)."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from math import ceil
from time import monotonic
from typing import Any, Generic, TypeVar, overload

from cliffracer.context import new_id
from cliffracer.durations import seconds
from cliffracer.errors import Conflict, DeadlineExceeded, Internal, InvalidInput, NotFound, SetupError, Unavailable
from cliffracer.messaging.bus import Reply
from cliffracer.messaging.configurations import NANOSECONDS, StreamConfig
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.ensuring import ensure_stream, reconcile
from cliffracer.messaging.jetstream import JetStream, StreamInfo
from cliffracer.messaging.publishing import ATTEMPT, Publisher
from cliffracer.messaging.reading import Reader
from cliffracer.messaging.singleflight import SingleFlight
from cliffracer.messaging.stores import REQUIRED, Bucket, Entry, check_key
from cliffracer.wire.codecs import Decoder, encode
from cliffracer.wire.headers import IF_LAST, MESSAGE_ID, Headers, status_of
from cliffracer.wire.subjects import check_pattern, named_within

D = TypeVar("D")
T = TypeVar("T")
OPERATION = "KV-Operation"
TTL = (2, 11)  # the version of nats-server from which single keys expire


class KeyValue(Generic[T]):
    """One bucket: ``await sessions.put("ada", session)``, ``await sessions.get("ada")``.

    Keys are letters, digits and ``-/_=.``; values what the type says. The bucket is made when it is first used.
    """

    def __init__(self, jetstream: JetStream, bucket: Bucket, of: Any = Any, *, namespace: str = "") -> None:
        self.bucket = named_within(namespace, bucket.name)
        self._name = bucket.name  # as its user wrote it: errors say it, and may go out to strangers
        self._jetstream = jetstream
        self._namespace = namespace
        self._decoder: Decoder[T] = Decoder(of)
        self._stream = f"KV_{self.bucket}"
        self._prefix = f"$KV.{self.bucket}."
        self._ensuring = SingleFlight(self.ensure)
        self._publisher = Publisher(jetstream, recover=self._ensuring)
        self.asked = StreamConfig(
            name=self._stream,
            subjects=[f"{self._prefix}>"],
            max_msgs_per_subject=bucket.history,
            max_age=None if bucket.ttl is None else int(seconds(bucket.ttl) * NANOSECONDS),
            duplicate_window=int(min(120.0, seconds(bucket.ttl)) * NANOSECONDS) if bucket.ttl else 120 * NANOSECONDS,
            max_bytes=bucket.max_bytes,
            discard="new" if bucket.max_bytes is None else "old",
            allow_rollup_hdrs=True,
            deny_delete=True,
            allow_msg_ttl=True if jetstream.version >= TTL else None,
            num_replicas=bucket.replicas,
        )

    def __repr__(self) -> str:
        return f"<KeyValue {self._name}>"

    @overload
    async def get(self, key: str) -> T: ...
    @overload
    async def get(self, key: str, default: D) -> T | D: ...
    async def get(self, key: str, default: Any = REQUIRED) -> Any:
        """Return the value of a key; the default if there is none, `NotFound` without a default, `Internal` for a value of another type."""
        found = await self.entry(key)
        if found is None:
            if default is REQUIRED:
                raise NotFound(f"{self._name} has no {key}")
            return default
        assert not found.deleted
        return found.value

    async def entry(self, key: str) -> Entry[T] | None:
        """Return value, revision and time of a key; None if it is not there."""
        found = await self._last(key)
        return None if found is None or found.deleted else found

    async def put(self, key: str, value: T, *, ttl: float | str | None = None) -> int:
        """Set the value of a key, whatever it was; return its revision. With ``ttl`` it is gone after that time."""
        return await self._write(key, self._encoded(value), self._expiring(ttl))

    async def create(self, key: str, value: T, *, ttl: float | str | None = None) -> int:
        """Set a key that is not there; `Conflict` if it is."""
        payload, extra = self._encoded(value), self._expiring(ttl)
        try:
            return await self._write(key, payload, {**extra, IF_LAST: "0"})
        except Conflict:
            present = await self._last(key)
            if present is None or not present.deleted:
                raise Conflict(f"{self._name} has {key} already") from None
        return await self._write(key, payload, {**extra, IF_LAST: str(present.revision)})

    async def update(self, key: str, value: T, revision: int, *, ttl: float | str | None = None) -> int:
        """Set a key that is still at a revision; `Conflict` if it has changed."""
        return await self._write(key, self._encoded(value), {**self._expiring(ttl), IF_LAST: str(revision)})

    async def delete(self, key: str, *, revision: int | None = None, ttl: float | str | None = None) -> None:
        """Remove a key, which may be absent; its history stays. With a revision, `Conflict` if it has changed.

        A marker of the deletion is kept, too; with ``ttl`` for that time only.
        """
        await self._write(key, b"", {OPERATION: "DEL", **self._expiring(ttl)} | ({} if revision is None else {IF_LAST: str(revision)}))

    async def purge(self, key: str) -> None:
        """Remove a key and its history."""
        await self._write(key, b"", {OPERATION: "PURGE", "Nats-Rollup": "sub"})

    async def keys(self, pattern: str = ">") -> list[str]:
        """Return the existing keys that match a pattern (``user.*``)."""
        return [entry.key async for entry in self._present(pattern, "last_per_subject", headers_only=True) if not entry.deleted]

    async def history(self, key: str) -> list[Entry[T]]:
        """Return what is kept of a key's values and deletions, oldest first."""
        return [entry async for entry in self._present(check_key(key), "all")]

    async def watch(self, pattern: str = ">", *, caught_up: Callable[[], None] | None = None) -> AsyncIterator[Entry[T]]:
        """Yield the current entry of each key, then every change, deletions included; goes on through restarts of the server.

        ``caught_up()`` is called when the watcher has taken all current entries; after an outage again.
        """
        async with await self._reader(pattern, "last_per_subject", caught_up=caught_up) as reader:
            async for delivery in reader:
                yield self._entry(delivery)

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
        """Make the bucket if it is absent; return its stream."""
        return await ensure_stream(self._jetstream, self.asked, namespace=self._namespace)

    def _encoded(self, value: T) -> bytes:
        """Return a value encoded; `InvalidInput` for one that could not be decoded again."""
        payload = encode(value)
        try:
            self._decoder.decode(payload)
        except InvalidInput as error:
            raise InvalidInput(f"that is no value of {self._name}: {error.message}", errors=error.errors) from None
        return payload

    async def _write(self, key: str, payload: bytes, headers: dict[str, str]) -> int:
        subject, message_id = f"{self._prefix}{check_key(key)}", new_id()
        try:
            return (await self._publisher.publish(subject, payload, headers, message_id=message_id)).seq
        except Conflict as error:
            stored = await self._jetstream.last_message(self._stream, subject) if error.details.get("outcome") == "unknown" else None
            if stored is not None and Headers(stored.hdrs).get(MESSAGE_ID) == message_id:  # our own write, whose answer was lost
                return stored.seq
            raise

    async def _last(self, key: str) -> Entry[T] | None:
        subject = f"{self._prefix}{check_key(key)}"
        try:
            reply = await self._asked(f"$JS.API.DIRECT.GET.{self._stream}.{subject}".encode())
        except Unavailable as error:
            if error.details.get("reason") != "nobody":
                raise
            await self._ensuring()  # the bucket was absent, or there was an election
            return self._stored(key, await self._jetstream.last_message(self._stream, subject))
        block = reply.block or b""
        if status_of(block) == 404:
            return None
        revision, time = _told(block, b"Nats-Sequence"), _told(block, b"Nats-Time-Stamp")
        return self._made(key, Headers(block), reply.payload, int(revision), datetime.fromisoformat(time))

    async def _asked(self, subject: bytes) -> Reply:
        """Return the answer to a read, which is repeated after a while, since it may be lost with a connection."""
        until = monotonic() + self._jetstream.timeout
        while True:
            left = until - monotonic()
            try:
                return await self._jetstream.bus.request(subject, b"", timeout=min(left, ATTEMPT))
            except DeadlineExceeded:
                if left <= ATTEMPT:
                    raise

    def _stored(self, key: str, stored: Any) -> Entry[T] | None:
        if stored is None:
            return None
        return self._made(key, Headers(stored.hdrs), stored.data, stored.seq, datetime.fromisoformat(stored.time))

    def _made(self, key: str, headers: Headers, payload: bytes, revision: int, time: datetime) -> Entry[T]:
        if OPERATION in headers or "Nats-Marker-Reason" in headers:
            return Entry(key, None, revision, time, deleted=True)
        try:
            return Entry(key, self._decoder.decode(payload), revision, time)
        except InvalidInput as error:  # not the caller's fault: another version of a service may have written it
            raise Internal(f"what {self._name} has under {key} does not fit: {error}") from error

    def _entry(self, delivery: Delivery, *, headers_only: bool = False) -> Entry[T]:
        key = delivery.subject.removeprefix(self._prefix)
        if headers_only:
            gone = OPERATION in delivery.headers or "Nats-Marker-Reason" in delivery.headers
            return Entry(key, None, delivery.stream_seq, delivery.stored, deleted=gone)
        return self._made(key, delivery.headers, delivery.payload, delivery.stream_seq, delivery.stored)

    async def _reader(self, pattern: str, policy: str, **options: Any) -> Reader:
        try:
            check_pattern(pattern)
        except ValueError as error:
            raise InvalidInput(str(error)) from None
        filters, begin = [f"{self._prefix}{pattern}"], {"deliver_policy": policy}
        return Reader(self._jetstream, self._stream, filters, begin, ensure=self.ensure, **options)

    async def _present(self, pattern: str, policy: str, *, headers_only: bool = False) -> AsyncIterator[Entry[T]]:
        async with await self._reader(pattern, policy, headers_only=headers_only) as reader:
            async for delivery in reader.present():
                yield self._entry(delivery, headers_only=headers_only)

    def _expiring(self, ttl: float | str | None) -> dict[str, str]:
        if ttl is None:
            return {}
        if self._jetstream.version < TTL:
            raise SetupError("a ttl of single keys needs nats-server 2.11. Give the bucket one: Bucket('sessions', ttl='1h').")
        return {"Nats-TTL": f"{max(1, ceil(seconds(ttl)))}s"}  # the server counts in seconds; no value goes before its time


def _told(block: bytes, name: bytes) -> str:
    """Return a header that the server has added: its own come last, and the writer of a message may have used the same name."""
    return block.rpartition(b"\n%b: " % name)[2].partition(b"\r\n")[0].decode()
