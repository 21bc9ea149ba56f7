"""An endpoint for each route that apps declare: one that answers, or one that streams."""

from collections.abc import Sequence

from cliffracer.assembly import Assembly
from cliffracer.checking import Declared
from cliffracer.declarations import Route, refuse, where
from cliffracer.handler import Handler
from cliffracer.settings import Settings
from cliffracer.shapes import claim
from cliffracer.web.endless import Endless
from cliffracer.web.router import APART, Router, check_kinds
from cliffracer.web.routes import RouteEndpoint


def add_routes(router: Router, assemblies: Sequence[Assembly], settings: Settings, endless: Endless) -> None:
    """Add the routes that apps declare, GETs for HEAD, too; `SetupError` if two have the same path and method."""
    seen: dict[tuple[str, str], Route] = {}
    gets: list[tuple[str, RouteEndpoint]] = []
    for assembly in assemblies:
        for record, declared, handler in assembly.of(Route):
            check_kinds(record)
            endpoint = _endpoint(record, declared, handler, settings, endless)
            for method in record.methods:
                other = seen.setdefault((method, claim(record.path)), record)
                if other is not record:
                    places = f"route {method} {record.path} is declared already, by {where(other.function)}"
                    raise refuse(record.function, places, APART)
                router.add(method, record.path, endpoint)
                if method == "GET":
                    gets.append((record.path, endpoint))
    for path, endpoint in gets:
        if ("HEAD", claim(path)) not in seen:
            router.add("HEAD", path, endpoint)


def _endpoint(record: Route, declared: Declared, handler: Handler, settings: Settings, endless: Endless) -> RouteEndpoint:
    if declared.signature is not None and declared.signature.streams:
        from cliffracer.web.streams import StreamEndpoint  # noqa: PLC0415 - only who streams pays for importing it

        return StreamEndpoint(record, declared, handler, max_body=settings.http_max_body, endless=endless)
    return RouteEndpoint(record, declared, handler, max_body=settings.http_max_body)
