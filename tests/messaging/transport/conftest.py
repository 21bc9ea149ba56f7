"""Every test of a bus runs on both transports and on both event loops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from loguru import logger

from cliffracer.messaging.bus import Bus, connect
from tests.support.nats import NatsServer

Connect = Callable[..., Awaitable[Bus]]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=["fast", "stock"])
def transport(request: pytest.FixtureRequest) -> str:
    """Which transport the test runs on."""
    return str(request.param)


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """A running nats-server."""
    with NatsServer() as running:
        yield running


@pytest.fixture
async def connected(transport: str) -> AsyncIterator[Connect]:
    """Opens a bus: a URL, then settings and options of `connect` by name. All are closed at the end."""
    opened: list[Bus] = []

    async def open_one(url: str, **given: Any) -> Bus:
        options = {name: given.pop(name) for name in ("on_lost", "on_back", "on_wait", "inbox_prefix", "refresh", "cure") if name in given}
        ping = given.pop("ping", 5.0)
        bus = await connect(settings(url, transport=transport, **given), name="test", ping=ping, **options)
        opened.append(bus)
        return bus

    yield open_one
    for bus in opened:
        await bus.close()


@pytest.fixture
async def bus(server: NatsServer, connected: Connect) -> Bus:
    """A bus on a running server."""
    return await connected(server.url)


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What is logged from INFO up, one entry per line."""
    lines: list[str] = []
    number = logger.add(lambda message: lines.append(str(message).strip()), level="INFO", format="{level} {message}")
    yield lines
    logger.remove(number)


def settings(url: str, *, transport: str = "fast", **given: Any) -> SimpleNamespace:
    """Return the NATS part of the settings."""
    names = ("user", "password", "token", "creds", "nkey", "tls_ca", "tls_cert", "tls_key")
    fields: dict[str, Any] = {f"nats_{name}": None for name in names}
    fields |= {
        "nats_replicas": 1,
        "nats_max_message": 64 * 2**20,
        "nats_url": url,
        "nats_transport": transport,
        "wait": 2.0,
        "namespace": "",
    }
    return SimpleNamespace(**{**fields, **given})


@pytest.fixture(autouse=True)
def _transport() -> None:
    """Leave the choice to the tests, whatever the others run on."""
