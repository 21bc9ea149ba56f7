"""Whoever reads what a command prints now and then, and may have gone."""

import asyncio
import select
import sys
from collections.abc import Coroutine
from typing import Any

_LOOK = 0.5  # seconds between two looks


async def while_read(following: Coroutine[Any, Any, None]) -> None:
    """Run what follows something until it is done, or nobody reads it any more, as behind ``| head``.

    Printing would find that out, too, but only with the next line, which may never come.
    """
    work = asyncio.ensure_future(following)
    while not work.done():
        await asyncio.wait({work}, timeout=_LOOK)
        if not work.done() and _gone():
            work.cancel()
            await asyncio.wait({work})
            return
    await work


def _gone() -> bool:
    """Say whether standard output is a pipe, or the like, whose other end is closed; Windows cannot tell."""
    if not hasattr(select, "poll"):
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):  # there is no such stream here
        return False
