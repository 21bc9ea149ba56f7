"""``/docs``: one offline page for HTTP, RPC, events and sockets, drawn from ``/openapi.json`` and ``/asyncapi.json``.

Its forms speak HTTP and WebSocket themselves; for RPC and events there is a bridge, in development. Swagger UI is at
``/docs/swagger`` when the extra that has its files is installed.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cliffracer.assembly import Assembly
from cliffracer.errors import NotFound
from cliffracer.settings import Settings
from cliffracer.web.answers import correlation_of, send_problem
from cliffracer.web.assets import PAGES, Asset
from cliffracer.web.bridge import CallBridge, EmitBridge

_FILES = (
    *("base.css", "docs.css", "mark.svg"),
    *(f"{name}.js" for name in ("commands", "docs", "dom", "entries", "form", "operation", "schema", "try")),
)
_SWAGGER = ("swagger-ui.css", "swagger-ui-bundle.js")
_INLINE = " data:"  # the icons in Swagger UI's style sheet


_MISSING = 'Swagger UI needs cliffracer[swagger]: pip install "cliffracer[swagger]".'


class Missing:
    """Says what to install for a page that is not there."""

    async def __call__(self, scope: Mapping[str, Any], _receive: Any, send: Any) -> None:
        """Answer one request."""
        await send_problem(send, NotFound(_MISSING), correlation_of(scope))


class Lazy:
    """A file that is read when it is first asked for."""

    def __init__(self, path: Path, images: str = "") -> None:
        self._path = path
        self._images = images
        self._asset: Asset | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        self._asset = self._asset or Asset.of(self._path, images=self._images)
        await self._asset(scope, receive, send)


def pages(settings: Settings) -> dict[str, Any]:
    """Return what is read: the page, its files, and Swagger UI or what says how to get it."""
    swagger = swagger_folder()
    words = {"bridge": "1" if settings.env == "development" else "", "swagger": "1" if swagger else ""}
    found: dict[str, Any] = {
        "/docs": Asset.of(PAGES / "docs.html", words=words),
        **{f"/docs/{name}": Lazy(PAGES / name) for name in _FILES},
    }
    if swagger is None:
        return {**found, "/docs/swagger": Missing()}
    found |= {"/docs/swagger": Lazy(PAGES / "swagger.html", _INLINE), "/docs/swagger.js": Lazy(PAGES / "swagger.js")}
    return found | {f"/docs/swagger/{name}": Lazy(swagger / name) for name in _SWAGGER}


def bridges(assemblies: Sequence[Assembly], settings: Settings) -> dict[str, Any]:
    """Return what the forms of RPC and events send to; nothing but in development."""
    if settings.env != "development":
        return {}
    return {"/docs/call": CallBridge(assemblies, settings.http_max_body), "/docs/emit": EmitBridge(assemblies, settings.http_max_body)}


def swagger_folder() -> Path | None:
    """Return the folder with Swagger UI's files, of a package that is not imported; None if it is not installed."""
    found = importlib.util.find_spec("flask_swagger_ui")
    folders = [Path(place) / "dist" for place in (found.submodule_search_locations or ())] if found is not None else []
    return next((folder for folder in folders if all((folder / name).is_file() for name in _SWAGGER)), None)
