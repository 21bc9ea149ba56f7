"""A real server on a real socket for each test: the app's assembly behind uvicorn, without NATS."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from loguru import logger

from cliffracer import App
from cliffracer.assembly import Assembly
from cliffracer.context import Context
from cliffracer.injection import Injector, PerCall
from cliffracer.observability.health import Health
from cliffracer.settings import Settings
from cliffracer.signature import dotted
from cliffracer.web.server import HttpServer, bind, serving
from cliffracer.web.site import Site, application


@dataclass
class Served:
    """What a test needs of a running server."""

    http: httpx.AsyncClient
    port: int
    server: HttpServer
    site: Site
    health: Health
    assemblies: list[Assembly]

    async def raw(self, data: bytes, *, within: float = 20.0, half_close: bool = False) -> bytes:
        """Send bytes as they are; return all that comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            if half_close:
                writer.write_eof()
            return await asyncio.wait_for(reader.read(), within)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def one(self, data: bytes, *, within: float = 20.0) -> bytes:
        """Send bytes as they are; return the first answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), within)
            length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
            return head + await asyncio.wait_for(reader.readexactly(length), within)
        finally:
            writer.close()

    def handler(self, name: str) -> Any:
        """Return a handler by its function's name."""
        return next(handler for assembly in self.assemblies for _, handler in assembly.handlers if handler.name == name)


def built_in(annotation: Any) -> Any:
    """Provide what the runtime would: the context and what the transport received."""
    return PerCall(get=_context if dotted(annotation) == dotted(Context) else _source)


def _context(call: Any) -> Any:
    return call.context


def _source(call: Any) -> Any:
    return call.source


@asynccontextmanager
async def serve(*apps: App, **given: Any) -> AsyncIterator[Served]:
    """Serve apps on a free port while the block runs."""
    settings = Settings(**{"env": "test", "http_port": 0, "nats_url": "nats://127.0.0.1:1", **given})
    health = Health(", ".join(app.name for app in apps))
    async with AsyncExitStack() as stack:
        assemblies = []
        for app in apps:
            frozen = app.freeze()
            injector = Injector(frozen.providers, built_in, {})
            await injector.open(stack)
            assembly = Assembly(frozen, injector, limit=settings.limit, deadline=settings.deadline)
            assembly.assemble()
            stack.callback(assembly.threads.close)
            assemblies.append(assembly)
        site = application(assemblies, settings, health)
        bound = bind("127.0.0.1", 0)
        port = bound.getsockname()[1]
        server = await stack.enter_async_context(serving(site, [bound], settings))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30))
        health.ready = True
        yield Served(http, port, server, site, health, assemblies)


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture(name="serve")
def _serve() -> Serve:
    """Serve apps on a free port: ``async with serve(app, http_max_body=100) as served:``."""
    return serve


@pytest.fixture
def app() -> App:
    """Return an app to declare on."""
    return App("shop")


@pytest.fixture
def logged() -> Any:
    """Collect the log of the test as text."""
    lines: list[str] = []
    number = logger.add(lines.append, level="DEBUG", diagnose=False)
    yield lines
    logger.remove(number)


@contextmanager
def in_thread(app: App, **given: Any) -> Iterator[httpx.Client]:
    """Serve an app from a thread of its own while the block runs, for tests that cannot be async, such as Hypothesis'."""
    started: Future[int] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        async with serve(app, **given) as served:
            started.set_result(served.port)
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{started.result(30)}", timeout=30) as client:
            yield client
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@pytest.fixture(scope="session", name="in_thread")
def _in_thread() -> Any:
    """Serve an app from a thread: ``with in_thread(app) as client:``."""
    return in_thread
