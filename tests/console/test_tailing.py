"""Events for one browser, beside what the console's pages show of them."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from cliffracer.console import tailing
from cliffracer.errors import Unavailable


async def test_a_reader_that_fails_between_two_batches_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page would wait for good for events that nobody reads."""

    async def failing(*_: Any) -> None:
        raise Unavailable("NATS is away")

    monkeypatch.setattr(tailing, "_stored", failing)
    client: Any = None  # nothing but the reader would ask it
    batches = tailing.tailed(client, ">", datetime.now(UTC))
    assert await anext(batches) == {"events": [], "missed": 0}
    with pytest.raises(Unavailable, match="away"):
        async with asyncio.timeout(20):
            await anext(batches)
