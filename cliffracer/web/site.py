"""All that one port serves: the routes, sockets and files of one app or several, and the pages about the service itself."""

import importlib
from collections.abc import MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from cliffracer.assembly import Assembly
from cliffracer.declarations import Route, Socket
from cliffracer.errors import FieldError, InvalidInput, NotFound, ServiceError, SetupError
from cliffracer.handler import Handler
from cliffracer.observability.health import Health
from cliffracer.settings import Settings
from cliffracer.web.answers import Refused, correlation_of, send_body, send_problem
from cliffracer.web.describing import Document
from cliffracer.web.endless import Endless
from cliffracer.web.health import Detailed, Live, Metrics, Ready
from cliffracer.web.mounts import Mounted
from cliffracer.web.router import SOCKET, Router

INSIDE = "cliffracer.inside"
"""Key in the scope of a request that has passed the middleware."""


class Below(Protocol):
    """Files or an application below a path."""

    path: str

    def serves(self, path: str) -> bool:
        """Say whether a path is below this one."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request or socket."""


class Site:
    """An ASGI application: JSON routes are matched and called here, the rest goes to files and problem documents.

    ``/users`` and ``/users/`` are the same for people and two URLs for caches: a request for the one that is not declared is
    redirected (307) to the other.
    """

    def __init__(self, router: Router, endless: Endless, assemblies: Sequence[Assembly], settings: Settings) -> None:
        self._router = router
        self._endless = endless
        self._exact = router.exact
        self._match = router.match
        self._entries = router.entries
        self._below: list[Below] = sorted((*_files(assemblies), *_mounts(assemblies)), key=lambda below: -len(below.path))
        self._mounts = [below for below in self._below if isinstance(below, Mounted)]
        self._watches = [assembly.watch for assembly in assemblies]
        self._outside = self._wrapped(assemblies, settings)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one request or socket."""
        if self._outside is not None and INSIDE not in scope:
            scope[INSIDE] = True  # not a copy: the server reads it, too
            await self._outside(scope, receive, send)
            return
        if scope["type"] == "http":
            path = scope["path"] if not scope.get("root_path") else _below_root(scope)
            methods = self._exact.get(path)
            method = scope["method"]
            if methods is not None and method in methods:
                await methods[method](scope, receive, send)
                return
            match = self._match[method](path) if method in self._match else None
            if match is not None:
                entry = self._entries[method][match.lastindex or 0]
                scope["path_params"] = entry.texts(match)
                if "\ufffd" not in path or _is_utf8(scope):
                    await entry.endpoint(scope, receive, send)
                    return
            await self._otherwise(scope, path, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)

    def _wrapped(self, assemblies: Sequence[Assembly], settings: Settings) -> Any:
        """Return the middleware around this application; None if there is none. CORS is outermost."""
        outside: Any = self
        for wrapping in (wrapping for assembly in assemblies for wrapping in assembly.frozen.wrappings):
            outside = wrapping.factory(outside, *wrapping.positional, **wrapping.named)
        if settings.cors_origins:
            outside = importlib.import_module("cliffracer.web.cors").Cors(outside, settings)
        return None if outside is self else outside

    async def _socket(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        path = scope["path"] if not scope.get("root_path") else _below_root(scope)
        endpoint, texts = self._router.find(SOCKET, path)
        if endpoint is not None and "\ufffd" in path and not _is_utf8(scope):
            await _refuse_socket(scope, receive, send, _no_text())
        elif endpoint is None and (mount := next((mount for mount in self._mounts if mount.serves(path)), None)) is not None:
            await mount(scope, receive, send)
        elif endpoint is None:
            await _refuse_socket(scope, receive, send, NotFound("there is no WebSocket at this path"))
        else:
            scope["path_params"] = texts or {}
            await endpoint(scope, receive, send)

    def end_calls(self) -> None:
        """End all running calls, because the time to finish is over."""
        for watch in self._watches:
            for context in [context for context in watch.running if context.kind in {"http", "websocket"}]:
                watch.end(context, "stopping")

    def end_streams(self) -> None:
        """End all open streams and sockets, which would not end by themselves; their clients reconnect elsewhere."""
        self._endless.end()

    async def _otherwise(self, scope: MutableMapping[str, Any], path: str, receive: Any, send: Any) -> None:
        correlation = correlation_of(scope)
        allowed = self._router.allowed(path)
        if allowed and scope["method"] in allowed:
            await send_problem(send, _no_text(), correlation)
        elif allowed:
            refused = Refused(405, "this path does not take that method", [(b"allow", ", ".join(allowed).encode())])
            await send_problem(send, refused, correlation)
        elif (below := next((below for below in self._below if below.serves(path)), None)) is not None:
            await below(scope, receive, send)
        elif self._is_place(other := _other(path)) and not path.startswith(("//", "/\\")):
            await send_body(send, 307, b"", [(b"location", _location(scope, other))], correlation)
        else:
            await send_problem(send, NotFound("there is nothing at this path"), correlation)

    def _is_place(self, path: str) -> bool:
        return bool(self._router.allowed(path)) or any(mount.path + "/" == path for mount in self._mounts)


def application(assemblies: Sequence[Assembly], settings: Settings, health: Health) -> Site:
    """Return the application that serves apps on one port; `SetupError` if two of them want the same path."""
    router, endless = Router(), Endless()
    if any(assembly.frozen.of(Socket) for assembly in assemblies):
        from cliffracer.web import sockets  # noqa: PLC0415 - only who takes sockets pays for importing it

        sockets.add_sockets(router, assemblies, settings, endless)
    elif any(assembly.frozen.mounts or assembly.frozen.wrappings for assembly in assemblies):
        importlib.import_module("cliffracer.web.frames")  # these may take some, and the first is not to wait
    handlers: list[Handler] = [handler for assembly in assemblies for _, handler in assembly.handlers]
    if any(assembly.frozen.of(Route) for assembly in assemblies):
        from cliffracer.web import endpoints  # noqa: PLC0415 - a service that answers HTTP for its health only needs nothing of Starlette

        endpoints.add_routes(router, assemblies, settings, endless)
    pages: dict[str, Any] = {"/health": Live(health), "/health/ready": Ready(health), "/health/detailed": Detailed(health, handlers)}
    if settings.docs:
        pages |= _described(router, assemblies, settings)
    if settings.metrics:
        pages["/metrics"] = Metrics(health, handlers, assemblies)
    rules = assemblies[0].rules if assemblies else None
    keys = [] if rules is None or rules.authority is None else rules.authority.jwks()
    if keys:
        pages["/.well-known/jwks.json"] = Document(lambda: {"keys": keys})
    for path, page in pages.items():
        if not (router.has("GET", path) or _kept(assemblies, path)):  # a service may have a page of its own there
            router.add("GET", path, page)
            router.add("HEAD", path, page)
    router.compile()
    return Site(router, endless, assemblies, settings)


def _described(router: Router, assemblies: Sequence[Assembly], settings: Settings) -> dict[str, Any]:
    """Return the pages that document the apps, by path, and add the routes for trying them."""
    from cliffracer.web import asyncapi, docs, openapi  # noqa: PLC0415 - in production nobody is told, and half a megabyte can stay out

    pages: dict[str, Any] = {
        f"/{name}.json": Document(partial(written.document, assemblies, settings))
        for name, written in (("openapi", openapi), ("asyncapi", asyncapi))
    }
    if not (router.has("GET", "/docs") or _kept(assemblies, "/docs")):
        pages |= docs.pages(settings)
        for path, bridge in docs.bridges(assemblies, settings).items():
            router.add("POST", path, bridge)
    return pages


def _kept(assemblies: Sequence[Assembly], path: str) -> bool:
    """Say whether a static folder has a file or a folder at this path."""
    statics = (static for assembly in assemblies for static in assembly.frozen.statics)
    prefixes = ((static.path.rstrip("/") + "/", static.folder) for static in statics)
    return any(path.startswith(prefix) and Path(folder, path.removeprefix(prefix)).exists() for prefix, folder in prefixes)


def _files(assemblies: Sequence[Assembly]) -> list[Below]:
    found: dict[str, Any] = {}
    for static in (static for assembly in assemblies for static in assembly.frozen.statics):
        if static.path in found:
            raise SetupError(
                f"static path {static.path} is declared twice, for {found[static.path].directory} and {static.folder}. Keep one."
            )
        found[static.path] = importlib.import_module("cliffracer.web.static").Files(static.path, static.folder)
    return list(found.values())


def _mounts(assemblies: Sequence[Assembly]) -> list[Mounted]:
    taken = {static.path for assembly in assemblies for static in assembly.frozen.statics}
    found: dict[str, Mounted] = {}
    for mount in (mount for assembly in assemblies for mount in assembly.frozen.mounts):
        if mount.path in found or mount.path in taken:
            raise SetupError(f"two things are mounted at {mount.path}. Give one of them another path.")
        found[mount.path] = Mounted(mount.path, mount.application)
    return list(found.values())


async def _refuse_socket(scope: MutableMapping[str, Any], receive: Any, send: Any, error: ServiceError) -> None:
    from cliffracer.web.sockets import refuse_socket  # noqa: PLC0415 - as above: a service without sockets is hardly ever asked for one

    await refuse_socket(scope, receive, send, error)


def _no_text() -> InvalidInput:
    return InvalidInput("the input is not valid", errors=[FieldError("", "the path is not UTF-8")])


def _is_utf8(scope: MutableMapping[str, Any]) -> bool:
    try:
        unquote_to_bytes(scope.get("raw_path", b"")).decode()
    except UnicodeDecodeError:
        return False
    return True


def _other(path: str) -> str:
    return path[:-1] if path.endswith("/") else path + "/"


def _below_root(scope: MutableMapping[str, Any]) -> str:
    """Return the path without what a proxy, or an application that has mounted this one, is in front of it with (ASGI's ``root_path``)."""
    path: str = scope["path"]
    below = path.removeprefix(scope["root_path"])
    return below if below[:1] in {"", "/"} else path


def _location(scope: MutableMapping[str, Any], path: str) -> bytes:
    raw: bytes = scope.get("raw_path") or path.encode()
    moved = raw[:-1] if raw.endswith(b"/") else raw + b"/"
    query: bytes = scope["query_string"]
    return moved + b"?" + query if query else moved
