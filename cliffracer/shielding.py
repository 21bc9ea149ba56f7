"""Work that must be finished although its caller is cancelled: the caller leaves at once, and the work goes on."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_at_work: set[asyncio.Task[Any]] = set()


def shielded(work: Coroutine[Any, Any, T], name: str) -> "asyncio.Future[T]":
    """Begin the work in a task of its own and return a future: cancelling who waits for it does not cancel the work."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _at_work.add(task)
    task.add_done_callback(_at_work.discard)
    return asyncio.shield(task)


async def uninterrupted(work: "asyncio.Future[Any]") -> None:
    """Wait until the work has ended; a cancellation that comes meanwhile is raised after that."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not work.cancelled():
            work.exception()  # retrieved, or asyncio would log it
        raise cancelled
    work.result()
