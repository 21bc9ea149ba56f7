"""Threads for plain ``def`` handlers, with the context of their call."""

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

MAX_THREADS = 32
_END: Any = object()


class Threads:
    """A bounded pool of worker threads; it makes none before the first call."""

    __slots__ = ("_pool",)

    def __init__(self, most: int = MAX_THREADS) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="handler")

    async def run(self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return what the function returns, run in a thread; the context variables of the call are there.

        When the call is ended, its caller is answered at once; the thread goes on until the function returns.
        """
        inside = partial(contextvars.copy_context().run, partial(function, *arguments, **named))
        return await asyncio.get_running_loop().run_in_executor(self._pool, inside)

    async def items(self, iterator: Iterator[Any]) -> Any:
        """Yield the items of a plain generator, each step in a thread."""
        try:
            while (item := await self.run(next, (iterator, _END), {})) is not _END:
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                await self.run(close, (), {})

    def close(self) -> None:
        """Let idle threads end; one that still runs a function ends with it."""
        self._pool.shutdown(wait=False, cancel_futures=True)
