"""Threads for plain ``def`` handlers, with the context of their call.

Work goes to the threads over one queue, and results come back many at once: one wake-up of the loop for all that were
finished since the last. A call is two queue operations; an executor's futures, locks and wake-ups cost three times that.
What a call waits for is a `Handed`: asyncio's tasks take it for a future, and whoever drives a call without a task of asyncio's
(`cliffracer.eager`) goes on with it straight away.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextvars import Context, copy_context
from queue import SimpleQueue
from types import CoroutineType
from typing import Any, Literal

import msgspec

from cliffracer.declarations import unawaited

MAX_THREADS = 32
_PATIENCE = 0.002  # seconds that work may wait without any being taken, before there are more threads
_END: Any = object()


class Handed(msgspec.Struct, eq=False):
    """A function that a thread runs: await it once, for what it returns or raises.

    It is a future as asyncio's tasks know them (`asyncio.isfuture`), but its result comes from a thread by way of its pool.
    """

    loop: asyncio.AbstractEventLoop
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    variables: Context
    value: Any = None
    error: BaseException | None = None
    resume: Callable[[], object] | None = None
    """Goes on at once with who waits; without it, callbacks are called."""
    over: Literal[True] | asyncio.CancelledError | None = None
    """Set once it is; which cancellation ended the wait, if one did."""
    callbacks: list[tuple[Callable[[Any], object], Context | None]] | None = None
    _asyncio_future_blocking: bool = True

    def __await__(self) -> Generator["Handed", None, Any]:
        """Wait for the thread."""
        try:
            if self.over is None:
                yield self
            return self.result()
        finally:
            del self  # what it raises has this frame in its traceback: a circle, as in `asyncio.Future`

    def settle(self) -> None:
        """Wake who waits: a thread has made ``value`` or ``error``."""
        if self.over is not None:
            return
        self.over = True
        resume, self.resume = self.resume, None
        if resume is not None:
            resume()
        elif self.callbacks is not None:
            self._tell()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that waits for it."""
        return self.loop

    def done(self) -> bool:
        """Say whether there is a result, or nobody waits for one."""
        return self.over is not None

    def cancelled(self) -> bool:
        """Say whether nobody waits any more."""
        return isinstance(self.over, asyncio.CancelledError)

    def exception(self) -> BaseException | None:
        """Return what the function raised; None if it returned."""
        if self.over is not True:
            self.result()  # raises
        return self.error

    def result(self) -> Any:
        """Return what the function returned, or raise what it raised."""
        try:
            if self.over is not True:
                raise self.over or asyncio.InvalidStateError("a thread has it still")
            if self.error is not None:
                raise self.error
            return self.value
        finally:
            del self  # as above

    def cancel(self, msg: object = None) -> bool:
        """Wait no longer; the thread goes on. Return whether there was something to wait for."""
        if self.over is not None:
            return False
        self.over = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._tell()
        return True

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Have something called in the loop once it is over."""
        self.callbacks = [*(self.callbacks or ()), (callback, context)]
        if self.over is not None:
            self._tell()

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        """Forget a callback; return how often it was there."""
        before = self.callbacks or []
        self.callbacks = [pair for pair in before if pair[0] != callback]
        return len(before) - len(self.callbacks)

    def __repr__(self) -> str:
        """Say what runs; with what is nobody's business who prints a task that waits for it."""
        return f"<Handed {getattr(self.function, '__qualname__', '?')}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show no more than that where Rich prints it: of a struct it shows every field."""
        return [("function", self.function)]

    def _tell(self) -> None:
        callbacks, self.callbacks = self.callbacks or [], None
        for callback, context in callbacks:
            self.loop.call_soon(callback, self, context=context)


class Threads:
    """A bounded pool of worker threads; it makes none before the first call, and more only when those it has are held up."""

    def __init__(self, most: int = MAX_THREADS) -> None:
        self._most = most
        self._loop: asyncio.AbstractEventLoop | None = None
        self._todo: SimpleQueue[Handed | None] = SimpleQueue()
        self._done: deque[Handed] = deque()
        self._threads: list[threading.Thread] = []
        self._running: list[Handed | None] = []  # what each thread runs now
        self._seen: list[Handed | None] = []
        self._watched = False
        self._told = False

    def run(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Awaitable[Any]:
        """Have a function run in a thread, where the context variables of the call are; await what it returns.

        When the call is ended, its caller is answered at once; the thread goes on until the function returns.
        """
        handed = Handed(self._loop or self._begin(), function, arguments, named, copy_context())
        self._todo.put(handed)
        if not self._watched:
            self._watch()
        return handed

    async def items(self, iterator: Iterator[Any]) -> AsyncGenerator[Any, None]:
        """Yield the items of a plain generator, each step in a thread."""
        try:
            while (item := await self.run(next, iterator, _END)) is not _END:
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                await self.run(close)

    def close(self) -> None:
        """End the threads; one that still runs a function ends with it."""
        for _ in self._threads:
            self._todo.put(None)
        self._threads, self._running = [], []

    def _begin(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _watch(self) -> None:
        assert self._loop is not None  # there is work, so there was a call
        self._watched = True
        if not self._threads:
            self._grow()
        self._loop.call_later(_PATIENCE, self._look)

    def _grow(self) -> None:
        for _ in range(min(max(1, len(self._threads)), self._most - len(self._threads))):
            number = len(self._threads)
            thread = threading.Thread(target=self._work, args=(number,), name=f"handler_{number}", daemon=True)
            self._threads.append(thread)
            self._running.append(None)
            thread.start()

    def _look(self) -> None:
        """Make more threads if work waits, and each of those that there are has had the same in hand since the last look.

        One that has nothing in hand will take it: it only waits for the interpreter, which more threads would have to wait for, too.
        """
        if self._todo.empty() or self._loop is None or not self._threads:
            self._watched = False
            self._seen = []
            return
        running = self._running.copy()
        if None not in running and running == self._seen:
            self._grow()
        self._seen = running
        self._loop.call_later(_PATIENCE, self._look)

    def _work(self, number: int) -> None:
        running = self._running
        while (handed := self._todo.get()) is not None:
            running[number] = handed
            try:
                handed.value = handed.variables.run(handed.function, *handed.arguments, **handed.named)
                if handed.value.__class__ is CoroutineType:
                    handed.error = unawaited(handed.function, handed.value)
            except StopIteration:  # a coroutine cannot raise it; in a handler it is a defect like any other
                handed.error = RuntimeError("the function raised StopIteration")
            except BaseException as error:  # noqa: BLE001 - it is raised where the function was awaited
                handed.error = error
            running[number] = None
            self._done.append(handed)
            if not self._told:
                self._told = True
                self._tell()
            del handed  # nothing of a call outlives it here

    def _tell(self) -> None:
        assert self._loop is not None  # there is work, so there was a call
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _deliver(self) -> None:
        self._told = False
        done = self._done
        try:
            while done:
                done.popleft().settle()
        finally:
            if done:  # a call has ended the process
                self._tell()
