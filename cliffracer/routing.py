"""The decorators of HTTP and WebSockets, and the collection of the records of all decorators."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, Unpack

from msgspec.structs import replace

from cliffracer.checking import Claim, Declared, check_free, complete, readable
from cliffracer.declarations import Mount, Record, Route, Socket, Static, Wrapping, check_plain, names_of, refuse
from cliffracer.errors import SetupError
from cliffracer.options import RouteOptions, deadline_of, positive, rate_of
from cliffracer.shapes import BODILESS, check_path
from cliffracer.surroundings import Surroundings
from cliffracer.usage import usage

F = TypeVar("F", bound=Callable[..., Any])


class Routing(Surroundings):
    """Collects declarations; has the decorators for routes and sockets, and `Scope` adds the others."""

    _prefixed = False
    """Whether its paths get a prefix, so that they may be empty."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.declared: list[Declared] = []
        self._taken: dict[Claim, Record] = {}
        self.statics: list[Static] = []
        self.mounts: list[Mount] = []
        self.wrappings: list[Wrapping] = []

    @usage("@app.route('/path', methods=['GET'])")
    def route(
        self,
        path: str,
        *,
        methods: Iterable[str],
        status: int | None = None,
        deadline: float | str | None = None,
        limit: int | None = None,
        tags: Iterable[str] = (),
        rate: str | None = None,
    ) -> Callable[[F], F]:
        """Answer HTTP methods on a path; ``status`` is that of a good answer (200, or 204 for ``-> None``).

        ``deadline``, ``limit`` and ``rate`` as for `rpc`; ``tags`` group it in OpenAPI.
        """
        names = tuple((each if isinstance(each, str) else str(each)).upper() for each in names_of(methods))  # `str` of an enum is no value

        def declare(function: F) -> F:
            if not names:
                raise refuse(function, "no HTTP method is named, so nothing would reach it", "Write methods=['GET'].")
            if odd := next((name for name in names if not name.replace("-", "").isalpha()), None):
                raise refuse(function, f"{odd!r} is no HTTP method", "Write methods=['GET', 'POST'].")
            if status is not None and not (isinstance(status, int) and 200 <= status <= 599):
                raise refuse(function, f"status {status!r} is no HTTP status", "Use 200 to 599.")
            where_to = check_path(function, path, prefixed=self._prefixed)
            until, limited, rated = deadline_of(function, deadline), positive(function, "limit", limit), rate_of(function, rate)
            route = Route(function, where_to, names, status, until, limited, names_of(tags), rated, siblings=names)
            self._declare(*(replace(route, methods=some) for some in _alike(names)))
            return function

        return declare

    @usage("@app.get('/path')")
    def get(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[F], F]:
        """Answer GET on a path; options as `route`."""
        return self.route(path, methods=("GET",), **options)

    @usage("@app.post('/path')")
    def post(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[F], F]:
        """Answer POST on a path; options as `route`."""
        return self.route(path, methods=("POST",), **options)

    @usage("@app.put('/path')")
    def put(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[F], F]:
        """Answer PUT on a path; options as `route`."""
        return self.route(path, methods=("PUT",), **options)

    @usage("@app.patch('/path')")
    def patch(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[F], F]:
        """Answer PATCH on a path; options as `route`."""
        return self.route(path, methods=("PATCH",), **options)

    @usage("@app.delete('/path')")
    def delete(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[F], F]:
        """Answer DELETE on a path; options as `route`."""
        return self.route(path, methods=("DELETE",), **options)

    @usage("@app.websocket('/path')")
    def websocket(self, path: str, *, limit: int | None = None, rate: str | None = None) -> Callable[[F], F]:
        """Serve a WebSocket on a path; what an async generator yields goes to the client as JSON.

        ``limit`` is how many may be open at once, in each replica; ``rate``, as for `rpc`, how often one may be opened: over it
        the handshake is answered 429, with ``Retry-After``.
        """

        def declare(function: F) -> F:
            where_to = check_path(function, path, prefixed=self._prefixed)
            self._declare(Socket(function, where_to, positive(function, "limit", limit), rate_of(function, rate)))
            return function

        return declare

    @usage("app.static('/static', 'folder')")
    def static(self, path: str, folder: str | Path) -> None:
        """Serve the files of a folder under a path, to everybody, with ETags; hashed names are cached for ever."""
        if not path.startswith("/"):
            raise SetupError(f"static path {path!r} does not begin with /. Write '/{path}'.")
        if not Path(folder).is_dir():
            raise SetupError(f"static folder {str(folder)!r} is not there. Give the path of a folder.")
        self._open()
        self.statics.append(Static(path.rstrip("/") or "/", Path(folder)))

    @usage("app.mount('/admin', application)")
    def mount(self, path: str, application: Callable[..., Any], *, public: bool = False) -> None:
        """Serve another ASGI application under a path, as Starlette's `Mount` does: requests and sockets that no route of ours takes.

        It is on its own there: rules, deadlines, limits and figures are those of handlers, and its lifespan does not run. ``public``
        says that who may call is its business: needed where tokens are configured.
        """
        if not path.startswith("/") or not path.strip("/") or "{" in path:
            raise SetupError(f"mount {path!r} must begin with / and name a place, as in '/admin'.")
        if not callable(application):
            raise SetupError(f"mount {path} takes an ASGI application, not {type(application).__name__}.")
        self._open()
        self.mounts.append(Mount(path.rstrip("/"), application, public))

    @usage("app.add_middleware(GZipMiddleware)")
    def add_middleware(self, factory: Callable[..., Any], *positional: Any, **named: Any) -> None:
        """Put ASGI middleware around all that the port serves, as Starlette does: ``add_middleware(GZipMiddleware, minimum_size=500)``.

        The one added last is outermost. It sees HTTP and sockets; for every kind of call there is `middleware`.
        """
        if not callable(factory):
            raise SetupError(f"add_middleware takes a middleware class, not {type(factory).__name__}: add_middleware(GZipMiddleware).")
        self._open()
        self.wrappings.append(Wrapping(factory, positional, named))

    def _declare(self, *records: Record) -> None:
        """Take over the records of one declaration, all or none."""
        self._open()
        claims: dict[Claim, Record] = {}
        made: list[Declared] = []
        for record in records:
            check_plain(record.function)
            claims |= check_free(record, self._taken)
            try:
                signature = readable(record.function)
            except NameError:
                made.append(Declared(record, None))  # an annotation that is defined further down: read at freeze
            else:
                made.append(complete(record, signature))
        self.declared += made
        self._taken |= claims


def _alike(methods: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the methods that take their arguments from the query, and those that take them from the body."""
    for bodiless in (True, False):
        if some := tuple(method for method in methods if (method in BODILESS) is bodiless):
            yield some
