"""Answers kept in Redis (or Valkey), which all replicas of a service share; needs ``cliffracer[redis]``."""

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from cliffracer.caching.cached import LONGEST
from cliffracer.caching.entries import Entry, Marks
from cliffracer.errors import Unavailable

_REMEMBERED = int(LONGEST + 86_400)  # seconds that it is known that something was forgotten: longer than any answer lives
_decoder = msgspec.msgpack.Decoder(Entry)


class RedisStore:
    """Implements `cliffracer.caching.entries.Store`.

    A tag's mark is a random word, another each time it is forgotten. A mark that Redis has evicted is made anew, so what was
    kept under the old one is good no more: never the other way round.
    """

    def __init__(self, redis: Any, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix

    async def look(self, name: str, tags: Sequence[str]) -> tuple[Entry | None, Marks]:
        """Return what is kept under a name, and how the tags stand now."""
        with _worded():
            found, *marks = await self._redis.mget([self._key("answer", name), *(self._key("tag", tag) for tag in tags)])
            known = {tag: mark.decode() for tag, mark in zip(tags, marks, strict=True) if mark is not None}
            for tag in tags:
                if tag not in known:
                    known[tag] = await self._first_mark(tag)
        return _read(found), {tag: known[tag] for tag in tags}

    async def keep(self, name: str, entry: Entry, life: float) -> None:
        """Keep an answer for so many seconds."""
        with _worded():
            await self._redis.set(self._key("answer", name), msgspec.msgpack.encode(entry), px=max(1, int(life * 1000)))

    async def forget(self, tags: Iterable[str]) -> None:
        """Make everything with one of these tags good no more, in all replicas."""
        with _worded():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for tag in tags:
                    pipeline.set(self._key("tag", tag), _word(), ex=_REMEMBERED)
                await pipeline.execute()

    async def claim(self, name: str, seconds: float) -> bool:
        """Say whether it is us who make an answer; for so long nobody else does."""
        with _worded():
            return bool(await self._redis.set(self._key("making", name), b"1", nx=True, px=max(1, int(seconds * 1000))))

    async def release(self, name: str) -> None:
        """Let others make it."""
        with _worded():
            await self._redis.delete(self._key("making", name))

    async def _first_mark(self, tag: str) -> str:
        key, word = self._key("tag", tag), _word()
        if await self._redis.set(key, word, nx=True, ex=_REMEMBERED):
            return word
        found = await self._redis.get(key)
        return word if found is None else found.decode()

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}{kind}:{name}"


@asynccontextmanager
async def redis_store(url: str, service: str, namespace: str, bound: float) -> AsyncIterator[RedisStore]:
    """Give a store at a URL while the block runs; it connects when it is first asked, and again whenever it has to."""
    redis: Any = Redis.from_url(url, socket_timeout=bound, socket_connect_timeout=bound)
    try:
        yield RedisStore(redis, f"cliffracer:{namespace}:cache:{service}:")
    finally:
        await redis.aclose()


@contextmanager
def _worded() -> Any:
    try:
        yield
    except RedisError as error:
        raise Unavailable(f"Redis is away ({type(error).__name__})") from error


def _read(found: bytes | None) -> Entry | None:
    if found is None:
        return None
    try:
        return _decoder.decode(found)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # of another version of ours


def _word() -> str:
    return os.urandom(12).hex()
