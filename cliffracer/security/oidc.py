"""Tokens of an OpenID Connect issuer, by its URL alone: discovery, and keys that are kept and rotate (OpenID Connect Discovery 1.0)."""

import asyncio
from collections.abc import Callable, Mapping
from hmac import compare_digest
from http.client import HTTPException
from time import monotonic
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import msgspec
from loguru import logger

from cliffracer.errors import SetupError, Unavailable
from cliffracer.security.claims import Claims
from cliffracer.security.keys import Key, key_of_jwk
from cliffracer.security.tokens import ID, RefusedToken, Tokens, UnknownKey
from cliffracer.settings import Settings

FRESH = 600.0
"""Seconds after which keys are fetched again."""
ONCE = 10.0
"""Seconds between two fetches because of an unknown key: strangers can name any."""
_PATIENCE = 5.0
_LARGEST = 1_000_000
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: the issuer says itself where its keys are."""


class Issuer:
    """An issuer whose access tokens are taken; `learn` gets its keys, which stay good while it cannot be reached."""

    def __init__(self, url: str, audience: str, client: str | None = None, claims: Claims | None = None) -> None:
        self.url = url
        self.client = client
        """Our client id there; the audience of ID tokens."""
        self.claims = claims or Claims()
        self.tokens = Tokens([], issuer=url, audience=audience, foreign=True)
        self.document: Mapping[str, Any] = {}
        """Its discovery document."""
        self.lost: Callable[[], None] = lambda: None
        """Called when one of its keys is gone: what was verified by it must be forgotten."""
        self._asked = -ONCE
        self._learnt = -FRESH
        self._asking: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, settings: Settings, claims: Claims | None = None) -> "Issuer | None":
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
        return cls(url, audience, settings.oidc_client_id, claims)

    @property
    def known(self) -> bool:
        """Whether its keys were ever read."""
        return bool(self.tokens.keys)

    @property
    def stale(self) -> bool:
        """Whether it is time to fetch the keys again."""
        return monotonic() - self._learnt > FRESH and monotonic() - self._asked > ONCE

    async def learn(self, *, again: bool = False, at_once: bool = False) -> None:
        """Fetch the keys, once for all who wait and at most every ten seconds; `Unavailable` if there are none after that.

        Nobody waits for a refresh of keys that are there. ``again``: fetch, and wait, even if they were just read, since a token
        names an unknown one; ``at_once``: that token is from the issuer itself, so no stranger can make us fetch.
        """
        late = at_once or monotonic() - self._asked > ONCE
        if self._asking is None and late and (again or self.stale):
            self._asked = monotonic()
            self._asking = asyncio.create_task(self._ask(), name="oidc keys")
        if self._asking is not None and (again or not self.known):
            await asyncio.shield(self._asking)
        if not self.known:
            raise Unavailable("the issuer of tokens cannot be reached")

    async def endpoint(self, name: str) -> str:
        """Return the URL of one of its endpoints, such as ``token_endpoint``; `Unavailable` if it is not known."""
        if not self.document:
            await self.learn()
        found = self.document.get(name)
        if not isinstance(found, str) or not _is_safe(found):
            logger.bind(issuer=self.url).warning("the issuer has no {} that can be used", name)
            raise Unavailable("the issuer of tokens does not say where to go")
        return found

    async def signed_in(self, token: str, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token that was made for us and for this sign-in (OpenID Connect Core, 3.1.3.7); `RefusedToken`."""
        assert self.client is not None  # a sign-in needs one
        ids = Tokens(self.tokens.keys, issuer=self.url, audience=self.client, foreign=True)
        try:
            claims = ids.verify(token, typ=ID)
        except UnknownKey:
            await self.learn(again=True, at_once=True)
            ids.keys = self.tokens.keys
            claims = ids.verify(token, typ=ID)
        if not compare_digest(str(claims.get("nonce", "")).encode("utf-8", "replace"), nonce.encode()):
            raise RefusedToken("another nonce")
        alone = claims["aud"] in (self.client, [self.client])
        if claims.get("azp", self.client if alone else None) != self.client:
            raise RefusedToken("another party's")
        return claims

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(2 * _PATIENCE):  # an answer may come byte by byte
                keys, self.document = await asyncio.to_thread(_learnt, self.url)
            gone = {key.key.thumbprint() for key in self.tokens.keys} - {key.key.thumbprint() for key in keys}
            self.tokens.keys, self._learnt = keys, monotonic()
            if gone:
                self.lost()
        except (OSError, HTTPException, ValueError, TypeError, RecursionError) as error:  # the keys that are known stay
            logger.bind(issuer=self.url).warning("the keys of the issuer cannot be read: {}", error)
        finally:
            self._asking = None


def _learnt(issuer: str) -> tuple[list[Key], Mapping[str, Any]]:
    found = _json(issuer.rstrip("/") + "/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        raise ValueError(f"it says that it is {str(found.get('issuer'))[:200]!r}, to the letter")
    place = found.get("jwks_uri")
    if not isinstance(place, str):
        raise ValueError("it does not say where its keys are")  # noqa: TRY004 - what it sent is wrong, not our types
    listed = _json(place).get("keys")
    keys = [key for document in listed if (key := key_of_jwk(document)) is not None] if isinstance(listed, list) else []
    if not keys:
        raise ValueError("it has no key that signs")
    return keys, found


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)


def _json(url: str) -> Mapping[str, Any]:
    if not _is_safe(url):
        raise ValueError("it sends us to a place that is no https URL")
    asked = Request(url, headers={"Accept": "application/json"})  # noqa: S310 - checked just now
    try:
        with build_opener(_NoRedirects()).open(asked, timeout=_PATIENCE) as answer:
            body = answer.read(_LARGEST + 1)
    except HTTPError as refused:
        refused.close()  # it holds the connection
        if (place := refused.headers.get("Location")) is not None:
            raise ValueError(f"{url} sends us on to {place[:200]!r}; oidc_issuer has to be what the issuer itself says") from None
        raise
    if len(body) > _LARGEST:
        raise ValueError("it sends too much")
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise ValueError("it sends no JSON") from None
    if not isinstance(found, dict):
        raise ValueError("it sends no JSON object")  # noqa: TRY004 - as above
    return found
