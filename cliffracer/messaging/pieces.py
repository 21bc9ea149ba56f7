"""The bytes of an object: cut into chunks on their way in, read chunk by chunk on their way out."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Generator
from typing import Any

from cliffracer.messaging.stores import Data


class Reading(AsyncIterator[bytes]):
    """An object that is read: ``async for chunk in files.get("film")``, or all of it, ``await files.get("note")``."""

    def __init__(self, pieces: AsyncGenerator[bytes], whole: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        self._pieces = pieces
        self._whole = whole

    def __aiter__(self) -> AsyncGenerator[bytes]:
        return self._pieces

    def __anext__(self) -> Coroutine[Any, Any, bytes]:
        return self._pieces.__anext__()

    def __await__(self) -> Generator[Any, None, bytes]:
        return self._whole().__await__()

    async def aclose(self) -> None:
        """End it before its last chunk."""
        await self._pieces.aclose()


async def cut(data: Data, size: int) -> AsyncIterator[bytes]:
    """Yield the data in chunks of a size, the last one shorter."""
    if isinstance(data, bytes | bytearray | memoryview):
        for start in range(0, len(data), size):
            yield bytes(data[start : start + size])
        return
    if not isinstance(data, AsyncIterable) and not hasattr(data, "read"):
        raise TypeError(f"{type(data).__name__} is no data of an object: give bytes, an async iterable of them, or an open binary file")
    if not isinstance(data, AsyncIterable):
        while block := await asyncio.to_thread(data.read, size):
            yield block
        return
    buffer = bytearray()
    async for piece in data:
        buffer += piece
        while len(buffer) >= size:
            yield bytes(buffer[:size])
            del buffer[:size]
    if buffer:
        yield bytes(buffer)
