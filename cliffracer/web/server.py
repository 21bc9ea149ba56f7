"""uvicorn's server inside a loop that is already running: without its signal handlers, and with a stop that loses nothing."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import uvicorn

from cliffracer.settings import Settings
from cliffracer.web.acceptor import Acceptor
from cliffracer.web.guard import protocol
from cliffracer.web.ports import bind, refused
from cliffracer.web.sweep import Sweep

KEEP_ALIVE = 5
MAX_FRAME = 2**20
BACKLOG = 2048
MOMENT = 1.0
"""Seconds in which answers carry ``Connection: close`` before the port closes, and for who came in as it closed to ask for something."""
_CLOSE = (b"connection", b"close")


class Application(Protocol):
    """An ASGI application that can end its open streams and sockets."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""

    def end_streams(self) -> None:
        """End streams and sockets, which would never end by themselves; their clients reconnect elsewhere."""

    def end_calls(self) -> None:
        """End all running calls; their clients are told that the service stops."""


class HttpServer:
    """The HTTP server of one process, while `serving` is entered."""

    def __init__(self, application: Application, settings: Settings) -> None:
        self._application = application
        self._settings = settings
        self._acceptor = Acceptor()
        self._uvicorn = uvicorn.Server(_config(application, settings, self._acceptor))
        self._state = self._uvicorn.server_state
        self._sweep = Sweep(self._state.connections, settings.http_timeout, KEEP_ALIVE)
        self._closing_from: float | None = None
        self._busy = (0, 0.0)

    def drain_start(self) -> None:
        """Tell clients in answers to leave (``Connection: close``), and end streams and sockets."""
        if self._closing_from is None:
            self._closing_from = asyncio.get_running_loop().time()
            self._uvicorn.config.encoded_headers.append(_CLOSE)
            self._state.default_headers = [*self._state.default_headers, _CLOSE]
            self._application.end_streams()

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections."""
        server = self._uvicorn
        if not server.config.loaded:
            server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.on_tick(0)
        await server.startup(sockets=list(sockets))
        self._acceptor.open(sockets, self._connection)

    def _connection(self) -> asyncio.Protocol:
        config, state = self._uvicorn.config, self._uvicorn.lifespan.state
        make: Any = config.http_protocol_class
        made: asyncio.Protocol = make(config=config, server_state=self._state, app_state=state)
        return made

    async def tick(self) -> None:
        """Keep the ``Date`` header true and end clients that are too slow, once a second."""
        server = self._uvicorn
        loop = asyncio.get_running_loop()
        while True:
            await server.on_tick(0)
            self._sweep.look(loop.time())
            if self._state.total_requests != self._busy[0] or self._state.connections:
                self._busy = (self._state.total_requests, loop.time())
            await asyncio.sleep(self._sweep.interval)

    async def stop(self) -> None:
        """Let clients leave, close the port, finish what runs within ``settings.drain`` seconds, then end it."""
        loop = asyncio.get_running_loop()
        self.drain_start()
        await self._moment()
        self._acceptor.close()
        for listener in self._uvicorn.servers:
            listener.close()
        told = set(self._state.connections)
        for connection in told:
            connection.shutdown()
        closed = loop.time()
        while (self._state.connections or self._running()) and loop.time() < closed + self._settings.drain:
            self._sweep.look(loop.time())
            if loop.time() > closed + MOMENT:
                for connection in self._state.connections - told:  # they came in as the port was closed, and have had time to ask
                    told.add(connection)
                    connection.shutdown()
            await asyncio.sleep(0.01)
        await self._end()

    async def _moment(self) -> None:
        loop = asyncio.get_running_loop()
        if self._settings.env == "test" or (not self._state.connections and loop.time() - self._busy[1] > 2 * MOMENT):
            return  # there are no clients to tell
        began = self._closing_from or loop.time()
        await asyncio.sleep(began + min(MOMENT, self._settings.drain) - loop.time())

    def _running(self) -> set[asyncio.Task[None]]:
        held = (getattr(connection, "task", None) for connection in self._state.connections)
        return {*self._state.tasks, *(task for task in held if task is not None and not task.done())}

    async def _end(self) -> None:
        self._application.end_calls()
        if self._running():
            await asyncio.wait(self._running(), timeout=1.0)
        tasks = self._running()
        for task in tasks:
            task.cancel()
        for connection in list(self._state.connections):
            connection.transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        for listener in self._uvicorn.servers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await listener.wait_closed()
        await asyncio.sleep(0)  # the transports' last callbacks


@asynccontextmanager
async def serving(application: Application, sockets: Sequence[socket.socket], settings: Settings) -> AsyncIterator[HttpServer]:
    """Serve on bound sockets while the block runs; everything is closed afterwards, the sockets included."""
    server = HttpServer(application, settings)
    try:
        for each in sockets:
            each.listen(BACKLOG)  # here, since uvloop does not report when another program was quicker to listen
        await server.start(sockets)
    except OSError as error:
        raise refused(settings.http_host, sockets[0].getsockname()[1], error) from None
    ticking = asyncio.create_task(server.tick(), name="http clock")
    try:
        yield server
    finally:
        try:
            await server.stop()
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking
            for each in sockets:
                each.close()


def _not_refused(record: logging.LogRecord) -> bool:
    """Drop uvicorn's log line for each socket that was refused with an HTTP answer: nothing is wrong."""
    return "without completing handshake" not in record.getMessage()


def _socket_connection(**given: Any) -> asyncio.Protocol:
    """Return what serves a connection once it is a WebSocket's: only who takes sockets pays for importing it."""
    from cliffracer.web.frames import Connection  # noqa: PLC0415 - as said

    return Connection(**given)


def _config(application: Application, settings: Settings, acceptor: Acceptor) -> uvicorn.Config:
    for name in ("uvicorn.error", "uvicorn.asgi"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it warns once per bad request and tells query strings of sockets
    socket_connection: Any = _socket_connection  # uvicorn calls it, and asks no more of it
    logging.getLogger("uvicorn.error").addFilter(_not_refused)
    return uvicorn.Config(
        application,
        interface="asgi3",
        http=protocol(settings, acceptor),
        ws=socket_connection,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips="*" if "*" in settings.trusted_proxies else list(settings.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE,
        ws_max_size=min(MAX_FRAME, settings.http_max_body),
        ws_per_message_deflate=False,  # frames are small; compressing each for each client costs more than all the rest
        backlog=BACKLOG,
    )


__all__ = ["Application", "HttpServer", "bind", "serving"]
