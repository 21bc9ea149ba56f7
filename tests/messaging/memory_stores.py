"""Values and objects in this process, for the backend of `tests.messaging.memory`."""

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from cliffracer.durations import seconds
from cliffracer.errors import Conflict, Internal, InvalidInput, NotFound
from cliffracer.messaging.stores import REQUIRED, Bucket, Data, Entry, ObjectInfo, check_key
from cliffracer.wire.codecs import Decoder, encode
from cliffracer.wire.subjects import matches

Raw = tuple[str, bytes | None, int, datetime, float]
"""Key, value (None: deleted), revision, time, and until when it is there."""


class MemoryBucket:
    """What is in a bucket, whoever looks at it, and as what type."""

    def __init__(self) -> None:
        self.entries: list[Raw] = []
        self.revision = 0
        self.changed = asyncio.Event()


class MemoryValues:
    """One bucket as values of a type."""

    def __init__(self, kept: MemoryBucket, bucket: Bucket, of: Any) -> None:
        self._kept, self._bucket, self._decoder = kept, bucket, Decoder(of)

    async def get(self, key: str, default: Any = REQUIRED) -> Any:
        found = await self.entry(key)
        if found is None and default is REQUIRED:
            raise NotFound(f"{self._bucket.name} has no {key}")
        return default if found is None else found.value

    async def entry(self, key: str) -> Entry[Any] | None:
        raw = self._last(key)
        return None if raw is None or raw[1] is None else self._made(raw)

    async def put(self, key: str, value: Any, *, ttl: float | str | None = None) -> int:
        return self._write(check_key(key), encode(value), ttl)

    async def create(self, key: str, value: Any, *, ttl: float | str | None = None) -> int:
        if await self.entry(key) is not None:
            raise Conflict(f"{self._bucket.name} has {key} already")
        return await self.put(key, value, ttl=ttl)

    async def update(self, key: str, value: Any, revision: int, *, ttl: float | str | None = None) -> int:
        self._compare(key, revision)
        return await self.put(key, value, ttl=ttl)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        self._compare(key, revision)
        self._write(check_key(key), None)

    async def purge(self, key: str) -> None:
        self._kept.entries = [raw for raw in self._kept.entries if raw[0] != key]
        self._write(check_key(key), None)

    async def keys(self, pattern: str = ">") -> list[str]:
        names = dict.fromkeys(raw[0] for raw in self._kept.entries if matches(pattern, raw[0]))
        return [name for name in names if await self._there(name)]

    async def history(self, key: str) -> list[Entry[Any]]:
        return [self._made(raw) for raw in self._kept.entries if raw[0] == key]

    async def watch(self, pattern: str = ">", *, caught_up: Callable[[], None] | None = None) -> AsyncIterator[Entry[Any]]:
        last = {raw[0]: raw for raw in self._kept.entries if matches(pattern, raw[0])}
        seen = self._kept.revision
        for raw in last.values():
            yield self._made(raw)
        if caught_up is not None:
            caught_up()
        while True:
            news = [raw for raw in self._kept.entries if raw[2] > seen]
            for raw in news:
                seen = raw[2]
                if matches(pattern, raw[0]):
                    yield self._made(raw)
            if not news:
                self._kept.changed.clear()
                await self._kept.changed.wait()

    async def destroy(self) -> None:
        self._kept.entries.clear()

    async def _there(self, key: str) -> bool:
        raw = self._last(key)
        return raw is not None and raw[1] is not None

    def _last(self, key: str) -> Raw | None:
        found = [raw for raw in self._kept.entries if raw[0] == check_key(key)]
        return found[-1] if found and found[-1][4] > time.monotonic() else None

    def _compare(self, key: str, revision: int | None) -> None:
        raw = self._last(key)
        if revision is not None and revision != (0 if raw is None else raw[2]):
            raise Conflict(f"{self._bucket.name} has another revision of {key}")

    def _write(self, key: str, value: bytes | None, ttl: float | str | None = None) -> int:
        self._kept.revision += 1
        until = float("inf") if ttl is None else time.monotonic() + seconds(ttl)
        self._kept.entries.append((key, value, self._kept.revision, datetime.now(UTC), until))
        old = [raw for raw in self._kept.entries if raw[0] == key][: -self._bucket.history]
        self._kept.entries = [raw for raw in self._kept.entries if raw not in old]
        self._kept.changed.set()
        return self._kept.revision

    def _made(self, raw: Raw) -> Entry[Any]:
        key, value, revision, moment, _ = raw
        if value is None:
            return Entry(key, None, revision, moment, deleted=True)
        try:
            return Entry(key, self._decoder.decode(value), revision, moment)
        except InvalidInput as error:
            raise Internal(f"what {self._bucket.name} has under {key} does not fit: {error}") from error


class MemoryObjects:
    """One bucket of objects."""

    def __init__(self, kept: dict[str, tuple[ObjectInfo, bytes]], bucket: Bucket) -> None:
        self._kept, self._bucket = kept, bucket

    async def put(self, name: str, data: Data, *, description: str = "", metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        if not name or len(name) > 512:
            raise InvalidInput("an object needs a name, of 512 characters at most")
        whole = b"".join([piece async for piece in data]) if isinstance(data, AsyncIterable) else data
        content = whole if isinstance(whole, bytes) else whole.read()
        digest = f"SHA-256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()}"
        info = ObjectInfo(
            name=name, bucket=self._bucket.name, nuid=str(time.time_ns()), size=len(content), chunks=1, digest=digest,
            mtime=datetime.now(UTC).isoformat(), description=description, metadata=dict(metadata or {}),
        )  # fmt: skip
        self._kept[name] = info, content
        return info

    async def get(self, name: str) -> AsyncIterator[bytes]:
        yield self._found(name)[1]

    async def read(self, name: str) -> bytes:
        return self._found(name)[1]

    async def info(self, name: str) -> ObjectInfo:
        return self._found(name)[0]

    async def list(self) -> list[ObjectInfo]:
        return [info for info, _ in self._kept.values()]

    async def delete(self, name: str) -> None:
        self._found(name)
        del self._kept[name]

    async def destroy(self) -> None:
        self._kept.clear()

    def _found(self, name: str) -> tuple[ObjectInfo, bytes]:
        if name not in self._kept:
            raise NotFound(f"{self._bucket.name} has no {name}")
        return self._kept[name]
