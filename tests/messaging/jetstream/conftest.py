"""A real nats-server with JetStream, a bus on it, and what the tests build from both."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from cliffracer.messaging.bus import Bus, connect
from cliffracer.messaging.jetstream import JetStream
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects
from tests.support.nats import NatsServer

Join = Callable[[], Awaitable[Bus]]


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """One nats-server with a store of its own, for this test."""
    with NatsServer(jetstream=True) as running:
        yield running


@pytest.fixture
async def join(server: NatsServer) -> AsyncIterator[Join]:
    """Make buses on the server, as many as there are replicas; all are closed at the end."""
    buses: list[Bus] = []

    async def joined() -> Bus:
        bus = await connect(Settings(nats_url=server.url, wait=5.0), name="test")
        buses.append(bus)
        return bus

    yield joined
    for bus in buses:
        await bus.close()


@pytest.fixture
async def bus(join: Join) -> Bus:
    """One bus."""
    return await join()


@pytest.fixture
def jetstream(bus: Bus) -> JetStream:
    """JetStream's API over the bus."""
    return JetStream(bus)


@pytest.fixture
def subjects() -> Subjects:
    """The subjects without a namespace."""
    return Subjects()
