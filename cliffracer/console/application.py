"""The console's own HTTP: JSON for its scripts, Server-Sent Events for what moves, files; behind its `Door`."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
from loguru import logger
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from cliffracer.client import AsyncClient
from cliffracer.console.actions import Actions, Call, Dead, Emission, decoded
from cliffracer.console.assets import NAMED
from cliffracer.console.callgraph import CallGraph
from cliffracer.console.catalog import Catalog
from cliffracer.console.door import Door
from cliffracer.console.readonly import ReadOnly
from cliffracer.console.storage import Filters, Storage
from cliffracer.console.tailing import check_stored, tailed
from cliffracer.detail import shown
from cliffracer.durations import ago
from cliffracer.errors import CliffracerError, InvalidInput, ServiceError, Unavailable
from cliffracer.settings import Settings
from cliffracer.web.answers import NOSNIFF, Refused, problem
from cliffracer.web.assets import Asset, protective
from cliffracer.web.health import NO_STORE
from cliffracer.web.server import serving
from cliffracer.wire.codecs import encode
from cliffracer.wire.subjects import check_name, check_pattern

_EVERY = 2.0  # seconds between two looks at everybody
_SOON = 1.0  # seconds for what is told beside
_END = object()
_DRAIN = 0.2  # seconds for an answer that is under way at the end
_DATA = {name.decode(): value.decode() for name, value in (*protective(), NOSNIFF, NO_STORE)}
_ALIVE = 15.0  # seconds after which a silent stream says that it is still there


class Console:
    """An ASGI application that looks at what runs where a client is connected to, and acts on it."""

    def __init__(self, client: AsyncClient, settings: Settings, *, acts: bool | None) -> None:
        self._client = client
        self._settings = settings
        self._catalog, self._callgraph, self._storage = Catalog(client), CallGraph(client), Storage(client)
        self.read_only = ReadOnly(self._catalog, settings.env, acts)
        self._actions = Actions(client, settings)
        self._pumps: dict[asyncio.Task[None], asyncio.Queue[Any]] = {}
        self._files = {name: Asset.of(path) for name, path in NAMED.items() if path.suffix != ".html"}
        self._page = Asset.of(NAMED["console.html"])
        self._inner = Starlette(routes=self._routes(), exception_handlers={CliffracerError: _refused, Refused: _refused})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request that the door let in."""
        if scope["path"] == "/":
            await self._page(scope, receive, send)
        elif scope["path"].startswith("/static/") and (file := self._files.get(scope["path"].removeprefix("/static/"))) is not None:
            await file(scope, receive, send)
        else:
            await self._inner(scope, receive, send)

    def end_streams(self) -> None:
        """End every event stream, since none ends by itself."""
        for pump, waiting in self._pumps.items():
            _end(waiting)  # now: what it reads from may take its time to be left
            pump.cancel()

    def end_calls(self) -> None:
        """Nothing here outlives its streams by much."""

    def _routes(self) -> list[Route]:
        reads = {
            "/api/about": self._about,
            "/api/live": self._live,
            "/api/services/{name}": self._service,
            "/api/details": self._details,
            "/api/edges": self._edges,
            "/api/traces": self._traces,
            "/api/traces/{id}": self._trace,
            "/api/events": self._events,
            "/api/streams": self._streams,
            "/api/dead": self._dead,
            "/api/dead/{number:int}": self._letter,
        }
        acts = {"/api/call": self._call, "/api/emit": self._emit, "/api/dead/{number:int}": self._act, "/api/dead": self._act_on_all}
        return [Route(path, read) for path, read in reads.items()] + [Route(path, act, methods=["POST"]) for path, act in acts.items()]

    # -- looking

    async def _about(self, _request: Request) -> Response:
        bus = self._client.link.bus
        began = time.monotonic()
        await bus.flush(_SOON)
        trip = time.monotonic() - began
        return _json(
            {
                "env": self._settings.env,
                "namespace": self._settings.namespace,
                "read_only": await self.read_only.guess(),
                "nats": {
                    "url": next(s.value for s in self._settings.sources() if s.name == "nats_url") or "the embedded server of this folder",
                    "version": bus.info.get("version", ""),
                    "jetstream": bool(bus.info.get("jetstream")),
                    "max_payload": bus.max_payload,
                    "ms": round(trip * 1000, 3),
                },
                "settings": shown(self._settings),
            }
        )

    async def _live(self, _request: Request) -> Response:
        async def looks() -> AsyncGenerator[Any, None]:
            while True:
                try:
                    if not self._client.link.bus.connected:
                        raise Unavailable("NATS is away; the connection comes back by itself when it does")
                    looked = {"services": await self._catalog.services(), "dead": await self._dead_count()}
                    yield {**looked, "read_only": await self.read_only.guess()}
                except CliffracerError as error:
                    yield {"problem": str(error)}
                await asyncio.sleep(_EVERY)

        return self._stream(looks())

    async def _dead_count(self) -> int | None:
        try:
            async with asyncio.timeout(_SOON):
                return await self._storage.count()
        except (CliffracerError, TimeoutError):  # JetStream is off, or slow: who runs can be told all the same
            return None

    async def _service(self, request: Request) -> Response:
        return _json(await self._catalog.service(_checked(request.path_params["name"])))

    async def _details(self, _request: Request) -> Response:
        fields = ("name", "id", "version", "env", "health", "draining", "timers")
        details = await self._catalog.details()
        found = [{field: getattr(one, field) for field in fields} for one in details]
        runs = [{"service": one.name, **msgspec.structs.asdict(h)} for one in details for h in one.handlers if h.kind == "timer"]
        return _json({"replicas": found, "runs": runs})

    async def _edges(self, _request: Request) -> Response:
        return _json(await self._callgraph.edges())

    async def _traces(self, _request: Request) -> Response:
        return _json(await self._callgraph.traces())

    async def _trace(self, request: Request) -> Response:
        return _json(await self._callgraph.trace(request.path_params["id"][:128]))

    async def _events(self, request: Request) -> Response:
        try:
            pattern = check_pattern(request.query_params.get("pattern", ">"))
            since = request.query_params.get("since")
            begin = ago(since) if since else None
        except ValueError as error:
            raise InvalidInput(str(error)) from None
        if begin is not None:
            await check_stored(self._client)
        return self._stream(tailed(self._client, pattern, begin))

    async def _streams(self, _request: Request) -> Response:
        return _json(await self._storage.streams())

    async def _dead(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        return _json(await self._storage.dead(_filters(request.query_params.get), int(after) if after.isdecimal() else 0))

    async def _letter(self, request: Request) -> Response:
        return _json(await self._storage.letter(request.path_params["number"]))

    # -- acting

    async def _call(self, request: Request) -> Response:
        return _json(await self._actions.call(await decoded(request, Call, self._settings.http_max_body)))

    async def _emit(self, request: Request) -> Response:
        return _json(await self._actions.emit(await decoded(request, Emission, self._settings.http_max_body)))

    async def _act(self, request: Request) -> Response:
        asked = await decoded(request, Dead, self._settings.http_max_body)
        number: int = request.path_params["number"]
        if asked.action == "replay":
            await self._storage.replay(number, asked.data)
        else:
            await self._storage.discard(number)
        logger.info("console: dead letter {} {}", number, "replayed" if asked.action == "replay" else "discarded")
        return _json({"done": 1})

    async def _act_on_all(self, request: Request) -> Response:
        asked = await decoded(request, Dead, self._settings.http_max_body)
        done = await self._storage.each(asked.action, Filters(asked.service, asked.function, asked.subject))
        logger.info("console: {} dead letters {}", done["done"], "replayed" if asked.action == "replay" else "discarded")
        return _json(done)

    # -- answers

    def _stream(self, items: AsyncGenerator[Any, None]) -> Response:
        return StreamingResponse(self._events_of(items), media_type="text/event-stream", headers=_DATA)

    async def _events_of(self, items: AsyncGenerator[Any, None]) -> AsyncGenerator[bytes, None]:
        """Yield items as Server-Sent Events until the console stops or the browser leaves."""
        waiting: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)
        pump = asyncio.create_task(_pumped(items, waiting), name="console stream")
        self._pumps[pump] = waiting
        pump.add_done_callback(self._pumps.pop)
        try:
            while True:
                try:
                    async with asyncio.timeout(_ALIVE):
                        item = await waiting.get()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if item is _END:
                    return
                yield b"data: " + encode(item) + b"\n\n"
        finally:
            pump.cancel()  # it tidies up in its own time: here every await ends at once, the browser being gone


async def _pumped(items: AsyncGenerator[Any, None], waiting: asyncio.Queue[Any]) -> None:
    """Move items into a queue, and their end, whatever it is; the browser asks again when it was none of its doing."""
    try:
        async with aclosing(items):
            async for item in items:
                await waiting.put(item)
    except CliffracerError as error:
        logger.warning("console: a stream of events ended: {}", error)
    finally:
        _end(waiting)


def _end(waiting: asyncio.Queue[Any]) -> None:
    if waiting.full():
        waiting.get_nowait()
    waiting.put_nowait(_END)


def _json(value: Any) -> Response:
    return Response(encode(value), media_type="application/json", headers=_DATA)


async def _refused(_request: Request, error: Exception) -> Response:
    failure = error if isinstance(error, ServiceError | Refused) else Unavailable(str(error))
    status, body, headers = problem(failure)
    return Response(body, status_code=status, headers={name.decode(): value.decode() for name, value in headers})


def _filters(get: Callable[..., str]) -> Filters:
    return Filters(get("service", ""), get("function", ""), get("subject", ""))


def _checked(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise InvalidInput(str(error)) from None


@asynccontextmanager
async def opened(
    client: AsyncClient,
    settings: Settings,
    bound: socket.socket,
    *,
    acts: bool | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Door]:
    """Serve the console on a bound socket of this machine while the block runs; its `Door` knows the address.

    ``acts`` is True to act in production as well, False to only look anywhere. ``told`` is called with a new address each
    time that one was used.
    """
    port = bound.getsockname()[1]
    mine = settings.changed(http_host="127.0.0.1", http_port=port, trusted_proxies=(), drain=_DRAIN)
    console = Console(client, settings, acts=acts)
    door = Door(console, port, console.read_only, told)
    async with console.read_only.looking(), serving(_Both(door, console), [bound], mine):
        yield door


class _Both:
    """The door to whoever asks, the console to who stops it."""

    def __init__(self, door: Door, console: Console) -> None:
        self._door = door
        self.end_streams = console.end_streams
        self.end_calls = console.end_calls

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._door(scope, receive, send)
