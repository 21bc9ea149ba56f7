"""Cliffracer's own pages: files of the package, read once, served under a Content Security Policy that allows nothing else."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliffracer.web.answers import Headers, challenge, correlation_of, send_body

PAGES = Path(__file__).parent / "pages"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'{images}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def protective(images: str = "") -> Headers:
    """Return the headers of every page: only our own scripts, styles, images and connections, and no framing."""
    return [
        (b"content-security-policy", _POLICY.format(images=images).encode()),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]


class Asset:
    """One file, answered from memory; browsers revalidate it each time (ETag)."""

    def __init__(self, body: bytes, suffix: str, *, images: str = "", status: int = 200) -> None:
        self._body = body
        self._status = status
        self._tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'.encode()
        kind = f"{_KINDS[suffix]}; charset=utf-8".encode()
        self._headers = [(b"content-type", kind), (b"cache-control", b"no-cache"), (b"etag", self._tag), *protective(images)]
        if status == 401:
            self._headers.append((b"www-authenticate", challenge("console")))

    @classmethod
    def of(cls, path: Path, *, words: Mapping[str, str] | None = None, images: str = "", status: int = 200) -> "Asset":
        """Read a file; ``{name}`` in it is replaced by one of the words."""
        body = path.read_bytes()
        for name, word in (words or {}).items():
            body = body.replace(f"{{{name}}}".encode(), word.encode())
        return cls(body, path.suffix, images=images, status=status)

    async def __call__(self, scope: Mapping[str, Any], _receive: Any, send: Any) -> None:
        """Answer one request."""
        known = any(name == b"if-none-match" and value == self._tag for name, value in scope["headers"])
        await send_body(send, 304 if known else self._status, b"" if known else self._body, self._headers, correlation_of(scope))
