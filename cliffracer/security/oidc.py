"""Tokens of an OpenID Connect issuer, by its URL alone: discovery, and keys that are kept and rotate (OpenID Connect Discovery 1.0)."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import msgspec
from loguru import logger

from cliffracer.errors import SetupError, Unavailable
from cliffracer.security.keys import Key, key_of_jwk
from cliffracer.security.tokens import Tokens
from cliffracer.settings import Settings

FRESH = 600.0
"""Seconds after which keys are asked for again."""
ONCE = 60.0
"""Seconds between two questions because of a key that is not known: strangers can name any."""
_PATIENCE = 5.0
_LARGEST = 1_000_000
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: the issuer says itself where its keys are."""


class Issuer:
    """An issuer whose access tokens are taken; `learn` gets its keys, which stay good while it cannot be reached."""

    def __init__(self, url: str, audience: str) -> None:
        self.url = url
        self.tokens = Tokens([], issuer=url, audience=audience, foreign=True)
        self._asked = -ONCE
        self._learnt = -FRESH
        self._asking: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Issuer | None":
        """Return the issuer of the settings, if they name one; `SetupError` for one that cannot be trusted."""
        url = settings.oidc_issuer
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _LOCAL:
            raise SetupError(f"oidc_issuer {url} is no https URL, so anybody on the way could make its keys. Use https.")
        audience = settings.auth_audience or settings.oidc_client_id
        if audience is None:
            raise SetupError("oidc_issuer needs to know which tokens are for this service. Set AUTH_AUDIENCE (or OIDC_CLIENT_ID).")
        return cls(url, audience)

    @property
    def known(self) -> bool:
        """Say whether its keys were ever read."""
        return bool(self.tokens.keys)

    @property
    def stale(self) -> bool:
        """Say whether it is time to ask for the keys again."""
        return time.monotonic() - self._learnt > FRESH and time.monotonic() - self._asked > ONCE

    async def learn(self, *, again: bool = False) -> None:
        """Ask for the keys, once for all who wait and at most once a minute; `Unavailable` if there are none then.

        ``again``: even if they were just read, since a token names one that was not among them.
        """
        if self._asking is None and time.monotonic() - self._asked > ONCE and (again or self.stale):
            self._asked = time.monotonic()
            self._asking = asyncio.create_task(self._ask(), name="oidc keys")
        if self._asking is not None:
            await asyncio.shield(self._asking)
        if not self.known:
            raise Unavailable("the issuer of tokens cannot be reached")

    async def _ask(self) -> None:
        try:
            self.tokens.keys = await asyncio.to_thread(_keys, self.url)
            self._learnt = time.monotonic()
        except (OSError, ValueError, TypeError) as error:  # the keys that are known stay
            logger.bind(issuer=self.url).warning("the keys of the issuer cannot be read: {}", error)
        finally:
            self._asking = None


def _keys(issuer: str) -> list[Key]:
    found = _json(issuer.rstrip("/") + "/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        raise ValueError("it says that it is another issuer")
    place = found.get("jwks_uri")
    if not isinstance(place, str):
        raise ValueError("it does not say where its keys are")  # noqa: TRY004 - what it sent is wrong, not our types
    listed = _json(place).get("keys")
    keys = [key for document in listed if (key := key_of_jwk(document)) is not None] if isinstance(listed, list) else []
    if not keys:
        raise ValueError("it has no key that signs")
    return keys


def _json(url: str) -> Mapping[str, Any]:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise ValueError("it sends us to a place that is no https URL")
    asked = Request(url, headers={"Accept": "application/json"})  # noqa: S310 - checked just now
    with build_opener(_NoRedirects()).open(asked, timeout=_PATIENCE) as answer:
        body = answer.read(_LARGEST + 1)
    if len(body) > _LARGEST:
        raise ValueError("it sends too much")
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise ValueError("it sends no JSON") from None
    if not isinstance(found, dict):
        raise ValueError("it sends no JSON object")  # noqa: TRY004 - as above
    return found
