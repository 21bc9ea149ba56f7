"""Hands chunks from a task that may outlast the deadline to a caller that must not."""

import asyncio
from collections.abc import AsyncGenerator
from time import monotonic

from cliffracer.errors import DeadlineExceeded

CHUNK = 65_536
"""Bytes that a COPY TO gives at a time."""


async def until_done(chunks: "asyncio.Queue[bytes]", task: "asyncio.Task[int]", deadline: float | None) -> AsyncGenerator[bytes, None]:
    """Yield what a task puts into a queue until it ends; `DeadlineExceeded` at the deadline, even if the task is still running."""
    while True:
        while not chunks.empty():
            chunk = chunks.get_nowait()
            if chunk:
                yield chunk
        if task.done():
            return
        getting = asyncio.create_task(chunks.get())
        left = None if deadline is None else max(0.0, deadline - monotonic())
        try:
            await asyncio.wait({getting, task}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if getting.done() and getting.result():
                yield getting.result()
            elif not (getting.done() or task.done()):
                raise DeadlineExceeded("the database did not answer in time")
        finally:
            getting.cancel()
