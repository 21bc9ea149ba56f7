"""Retries whole transactions that PostgreSQL has aborted because of concurrent ones."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from cliffracer.database.deadlines import deadline_now
from cliffracer.database.transaction import Isolation, Transacting, current_transaction
from cliffracer.errors import ServiceError, SetupError

T = TypeVar("T")

AGAIN = {"40001", "40P01", "0A000"}
"""SQLSTATEs of a serialization failure, a deadlock, and a prepared plan that a changed table has invalidated."""
BASE, CAP = 0.01, 1.0


async def retrying(database: Transacting, function: Callable[[], Awaitable[T]], attempts: int, isolation: Isolation | None) -> T:
    """Return the result of a function that was run in a transaction of its own, from begin to commit."""
    if current_transaction(database) is not None:
        raise SetupError("db.retrying starts the transaction itself, to be able to start it again: call it outside of one.")
    attempt = 0
    while True:
        attempt += 1
        try:
            async with database.transaction(isolation=isolation):
                return await function()
        except ServiceError as error:
            pause = random.uniform(0, min(CAP, BASE * 2**attempt))  # noqa: S311 - full jitter, not a secret
            deadline = deadline_now()
            late = deadline is not None and monotonic() + pause >= deadline
            if attempt >= attempts or late or not is_in_the_way(error):
                raise
        await asyncio.sleep(pause)


def is_in_the_way(error: ServiceError) -> bool:
    """Say whether an error means that nothing was done, and that the same may succeed now."""
    return getattr(error.__cause__, "sqlstate", None) in AGAIN
