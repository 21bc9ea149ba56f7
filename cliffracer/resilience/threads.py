"""Threads for plain ``def`` handlers, with the context of their call.

Work goes to the threads over one queue, and results come back many at once: one wake-up of the loop for all that were
finished since the last. A call is two queue operations; an executor's futures, locks and wake-ups cost three times that.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any

MAX_THREADS = 32
_PATIENCE = 0.002  # seconds that work may wait without any being taken, before there are more threads
_END: Any = object()
_Work = tuple[asyncio.Future[Any], Context, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Threads:
    """A bounded pool of worker threads; it makes none before the first call, and more only when those it has are held up."""

    def __init__(self, most: int = MAX_THREADS) -> None:
        self._most = most
        self._loop: asyncio.AbstractEventLoop | None = None
        self._todo: SimpleQueue[_Work | None] = SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._threads: list[threading.Thread] = []
        self._taken = 0
        self._seen = -1
        self._watched = False
        self._told = False

    async def run(self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return what the function returns, run in a thread; the context variables of the call are there.

        When the call is ended, its caller is answered at once; the thread goes on until the function returns.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._todo.put((future, copy_context(), function, arguments, named))
        if not self._watched:
            self._watched = True
            if not self._threads:
                self._grow()
            loop.call_later(_PATIENCE, self._look)
        return await future

    async def items(self, iterator: Iterator[Any]) -> AsyncGenerator[Any, None]:
        """Yield the items of a plain generator, each step in a thread."""
        try:
            while (item := await self.run(next, (iterator, _END), {})) is not _END:
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                await self.run(close, (), {})

    def close(self) -> None:
        """End the threads; one that still runs a function ends with it."""
        for _ in self._threads:
            self._todo.put(None)
        self._threads.clear()

    def _grow(self) -> None:
        for _ in range(min(max(1, len(self._threads)), self._most - len(self._threads))):
            thread = threading.Thread(target=self._work, name=f"handler_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _look(self) -> None:
        """Make more threads if work waits and nobody has taken any since the last look."""
        if self._todo.empty() or self._loop is None:
            self._watched = False
            return
        if self._taken == self._seen:
            self._grow()
        self._seen = self._taken
        self._loop.call_later(_PATIENCE, self._look)

    def _work(self) -> None:
        while (work := self._todo.get()) is not None:
            self._taken += 1
            future, context, function, arguments, named = work
            try:
                outcome: tuple[asyncio.Future[Any], Any, BaseException | None] = (future, context.run(function, *arguments, **named), None)
            except BaseException as error:  # noqa: BLE001 - it is raised where the function was awaited
                outcome = (future, None, error)
            self._done.append(outcome)
            if not self._told:
                self._told = True
                self._tell()
            del work, future, context, function, arguments, named, outcome  # nothing of a call outlives it here

    def _tell(self) -> None:
        assert self._loop is not None  # there is work, so there was a call
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _deliver(self) -> None:
        self._told = False
        while self._done:
            future, result, error = self._done.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            elif isinstance(error, StopIteration):  # a future refuses it; in a handler it is a defect like any other
                future.set_exception(RuntimeError("the function raised StopIteration"))
            else:
                future.set_exception(error)
