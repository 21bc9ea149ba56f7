"""Recognises requests caused by pages of other sites: ``Origin`` (RFC 6454) and ``Sec-Fetch-Site`` (W3C Fetch Metadata)."""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, 9.2.1)."""


def same_origin(origin: str, host: str, *, secure: bool = False) -> bool:
    """Say whether an ``Origin`` matches the ``Host``; ``secure``: over TLS, so that a page without TLS is foreign.

    Without ``secure`` both schemes are accepted: TLS may end at a proxy.
    """
    try:
        here, there = urlsplit("//" + host), urlsplit(origin)
        if secure and there.scheme != "https":
            return False
        return here.hostname is not None and here.hostname == there.hostname and _port(here, there.scheme) == _port(there, there.scheme)
    except ValueError:  # a port that is no number
        return False


def is_foreign(headers: Mapping[str, str], origins: Collection[str], *, secure: bool) -> bool:
    """Say whether a request lacks the proof that no page of another site is behind it.

    Browsers send ``Origin`` or ``Sec-Fetch-Site`` with whatever may change something, and no page can choose them; a request
    without both is no browser's, so it has no business with a cookie. ``origins``: other sites that may. ``secure``: asked over TLS.
    """
    origin = headers.get("Origin", "")
    if origin and origin in origins:
        return False
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in {"same-origin", "none"}
    return not (origin and same_origin(origin, headers.get("Host", ""), secure=secure))


def _port(address: Any, scheme: str) -> int:
    found: int | None = address.port
    return found if found is not None else {"https": 443, "wss": 443}.get(scheme, 80)
