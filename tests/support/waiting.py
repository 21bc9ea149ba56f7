"""Waiting for a condition, bounded, instead of sleeping."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

TURN = 0.05  # seconds that one pause may count: a machine that stood still meanwhile is not what is tested


async def eventually(condition: Callable[[], Any | Awaitable[Any]], within: float = 30.0) -> Any:
    """Return the first true answer of a condition, asked again and again; AssertionError when there is none in time."""
    left = within
    while True:
        asked = time.monotonic()
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        before = time.monotonic()
        left -= before - asked
        assert left > 0, f"not true within {within:g} s"
        await asyncio.sleep(0.005)
        left -= min(time.monotonic() - before, TURN)
