"""Shielding: what must be done to its end though whoever began it is cancelled; he goes at once, and it is done without him."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_at_work: set[asyncio.Task[Any]] = set()


def shielded(work: Coroutine[Any, Any, T], name: str) -> "asyncio.Future[T]":
    """Begin it in a task of its own; who waits for what this returns may be cancelled, and the work goes on."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _at_work.add(task)
    task.add_done_callback(_at_work.discard)
    return asyncio.shield(task)


async def uninterrupted(work: "asyncio.Future[Any]") -> None:
    """Wait until it has ended, as it does soon; a cancellation that comes meanwhile is raised then."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not work.cancelled():
            work.exception()  # it is told that somebody has seen it
        raise cancelled
    work.result()
