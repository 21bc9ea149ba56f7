"""Waiting for a condition, bounded, instead of sleeping."""

import asyncio
import time
from collections.abc import Callable

TURN = 0.05  # seconds that one look may count: a machine that stood still meanwhile is not what is tested


async def eventually(condition: Callable[[], object], within: float = 30.0) -> None:
    """Return as soon as the condition holds; AssertionError when it does not in time."""
    left = within
    while not condition():
        assert left > 0, f"not true within {within:g} s"
        before = time.monotonic()
        await asyncio.sleep(0.005)
        left -= min(time.monotonic() - before, TURN)
