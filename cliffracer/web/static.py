"""Files: with ETag, conditional and range requests as Starlette has them; hashed names are cached for ever."""

import re
from os import PathLike, fspath, stat_result
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from cliffracer.errors import NotFound
from cliffracer.settings import Settings
from cliffracer.web.answers import Refused, correlation_of, send_problem
from cliffracer.web.responses import send_response

FOREVER = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
_HASHED = re.compile(r"[.-](?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{8,64}\.[A-Za-z0-9.]+\Z")  # both, or it may be a date


class Files(StaticFiles):
    """The files of one folder; names that begin with a dot are hidden, and ``index.html`` is served for its folder."""

    def __init__(self, path: str, folder: Path) -> None:
        super().__init__(directory=folder, html=False)
        self.path = "" if path == "/" else path

    def serves(self, path: str) -> bool:
        """Say whether a path is under this folder's."""
        return path == self.path or path.startswith(self.path + "/")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        correlation = correlation_of(scope)
        inside = {**scope, "root_path": scope.get("root_path", "") + self.path}
        try:
            response = await self.get_response(self.get_path(inside), inside)
        except (HTTPException, OSError) as error:
            if isinstance(error, HTTPException) and error.status_code == 405:
                await send_problem(send, Refused(405, "files are only read", [(b"allow", b"GET, HEAD")]), correlation)
            else:
                await send_problem(send, NotFound("there is nothing at this path"), correlation)
            return
        await send_response(response, scope, receive, send, correlation, failed=_uncounted)

    def lookup_path(self, path: str) -> tuple[str, stat_result | None]:
        """Return the path of a file, unless it is hidden."""
        hidden = any(part.startswith(".") and part not in {".", ".well-known"} for part in path.split("/"))
        return ("", None) if hidden else super().lookup_path(path)

    async def get_response(self, path: str, scope: Any) -> Response:
        """Return the answer for a path; for a folder, its index."""
        try:
            return await super().get_response(path, scope)
        except HTTPException as missing:
            if missing.status_code != 404:
                raise
        index = await super().get_response(f"{path}/index.html", scope)
        if scope["path"].endswith("/"):
            return index
        return RedirectResponse(scope["path"].rpartition("/")[2] + "/")  # relative, so it needs no host

    def file_response(self, full_path: str | PathLike[str], stat_result: stat_result, scope: Any, status_code: int = 200) -> Response:
        """Return the answer with a file and its cache headers."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["cache-control"] = FOREVER if is_hashed(fspath(full_path)) else REVALIDATE
        response.headers["x-content-type-options"] = "nosniff"
        return response


def is_hashed(name: str) -> bool:
    """Say whether a file's name holds a hash of its content, as in ``app.3f9a1c2b.js``: a changed file has another name."""
    return _HASHED.search(name) is not None


def static_url(path: str, settings: Settings) -> str:
    """Return the URL of a static file: under ``settings.static_base_url`` (a CDN's) if that is set, else the path itself."""
    return settings.static_base_url.rstrip("/") + path


def _uncounted(*_: object) -> None:
    """Count no failure: files have no figures."""
