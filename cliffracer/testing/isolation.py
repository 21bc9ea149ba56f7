"""Isolation of tests on shared servers: a namespace on NATS, and a database of its own on PostgreSQL."""

import asyncio
import atexit
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cliffracer.errors import NotFound, ServiceError
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.jetstream import JetStream


def new_namespace() -> str:
    """Return a namespace that no other test has."""
    return f"test{secrets.token_hex(6)}"


async def forget_streams(bus: Bus, namespace: str) -> None:
    """Delete the streams of a namespace, key-value buckets and object stores among them."""
    jetstream = JetStream(bus)
    try:
        names = await jetstream.stream_names()
    except ServiceError:
        return  # no JetStream, no streams
    for name in names:
        if namespace in name:
            try:
                await jetstream.delete_stream(name)
            except NotFound:
                continue


KEEP = 4
"""Databases that stay on the embedded server for the first tests of the next run: about 7 MB each."""
_clones_of: dict[str, Any] = {}
os.register_at_fork(after_in_child=_clones_of.clear)  # their threads are not in the child


def _clones(url: str) -> Any:
    """Return the clones of databases on a server: one per process, closed at its end."""
    found = _clones_of.get(url)
    if found is None:
        from cliffracer.database.clones import Clones  # noqa: PLC0415 - only tests with a database pay for importing it

        found = _clones_of[url] = Clones(url, template="template1", prefix="cliffracer_test", keep=KEEP).__enter__()
        atexit.register(found.close)
    return found


@asynccontextmanager
async def own_database(url: str, models: list[Any]) -> AsyncIterator[str]:
    """Return the URL of a fresh database, prepared for these models if tests have asked for the same before; it is gone afterwards."""
    from cliffracer.database import Database  # noqa: PLC0415 - as above
    from cliffracer.database.development import prepare, purpose_of  # noqa: PLC0415 - as above

    async def prepared(place: str) -> None:
        async with Database.open(place, largest=1) as database:
            await prepare(database, models, "test")

    clones = _clones(url)
    mine: str = await asyncio.to_thread(clones.take, purpose_of(models), lambda place: asyncio.run(prepared(place)))
    try:
        yield mine
    finally:
        clones.give(mine)
