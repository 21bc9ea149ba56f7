"""What keeps one test apart from the others on shared servers: a namespace on NATS, a database of its own on PostgreSQL."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

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


@asynccontextmanager
async def own_database(url: str, name: str) -> AsyncIterator[str]:
    """Make an empty database while the block runs, and return its URL."""
    from psycopg import AsyncConnection, sql  # noqa: PLC0415 - only tests with a database pay for importing it

    place = urlsplit(url)
    mine = urlunsplit(place._replace(path=f"/{name}"))
    async with await AsyncConnection.connect(url, autocommit=True) as admin:
        await admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            yield mine
        finally:
            await admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
