"""Checks that a request is from our own page in a browser on this machine: not from other sites, by DNS rebinding, or other machines."""

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from cliffracer.errors import Forbidden

MARK = b"x-cliffracer"
"""A header that only our pages send: a script of another site needs a CORS preflight for it, and a form cannot send it."""
_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def check_host(headers: Mapping[bytes, bytes]) -> None:
    """Raise `Forbidden` unless the request is for this machine by its own name.

    A site may resolve its name to 127.0.0.1 and then read the answers (DNS rebinding); its name is in ``Host``.
    """
    if _name(headers.get(b"host", b"")) not in _NAMES:
        raise Forbidden("this is only answered under localhost or 127.0.0.1")


def check_page(headers: Mapping[bytes, bytes]) -> None:
    """Raise `Forbidden` unless the request was made by a script of our own page (no CSRF)."""
    origin = headers.get(b"origin")
    if origin is not None and urlsplit(origin.decode("latin-1")).netloc.lower() != headers.get(b"host", b"").decode("latin-1").lower():
        raise Forbidden("another site's page may not do this")
    if headers.get(b"sec-fetch-site", b"same-origin") != b"same-origin" or MARK not in headers:
        raise Forbidden("only a page of ours may do this")


def check_near(scope: Mapping[str, Any]) -> None:
    """Raise `Forbidden` unless the client is on this machine."""
    try:
        near = ipaddress.ip_address((scope.get("client") or ("",))[0]).is_loopback
    except ValueError:
        near = False
    if not near:
        raise Forbidden("this is only answered on the machine itself")


def _name(host: bytes) -> str:
    try:
        return (urlsplit(f"//{host.decode('latin-1')}").hostname or "").lower()
    except ValueError:
        return ""
