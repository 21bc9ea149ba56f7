"""Waiting for a condition, bounded, instead of sleeping."""

import asyncio
import time
from collections.abc import Callable


async def eventually(condition: Callable[[], object], within: float = 30.0) -> None:
    """Return as soon as the condition holds; AssertionError when it does not in time."""
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until, f"not true within {within:g} s"
        await asyncio.sleep(0.005)
