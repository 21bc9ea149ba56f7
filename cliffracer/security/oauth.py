"""OAuth 2.0 with an issuer, as the client in the settings; by Authlib, which is slow to import and needs an extra."""

import asyncio
import time
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from loguru import logger

from cliffracer.errors import SetupError, Unauthenticated, Unavailable
from cliffracer.security.oidc import Issuer
from cliffracer.settings import Settings

_PATIENCE = 10.0
_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
_SLOWER, _SLOWEST = 5.0, 60.0  # seconds more between two questions, when the issuer asks for that (RFC 8628, 3.5), and at most


class _Library(NamedTuple):
    """The parts of Authlib, and of its HTTP client, that are used here."""

    client: Any
    writer: Any
    """A client that writes URLs and sends nothing."""
    trust: Any
    """The SSL context: read once, since that takes 20 ms."""
    refused: type[Exception]
    unreachable: type[Exception]


class OAuth:
    """The client ``oidc_client_id`` at the issuer."""

    def __init__(self, issuer: Issuer, client_id: str, secret: str | None) -> None:
        self.issuer = issuer
        self.client_id = client_id
        self._secret = secret
        self._library = _library()

    @classmethod
    def of(cls, issuer: Issuer | None, settings: Settings) -> "OAuth":
        """Return the client of the settings; `SetupError` if they name none."""
        if issuer is None or settings.oidc_client_id is None:
            missing = "OIDC_ISSUER" if issuer is None else "OIDC_CLIENT_ID"
            raise SetupError(f"Sign-in by an issuer needs to know {missing}. Set it, and OIDC_CLIENT_SECRET if there is one.")
        secret = settings.oidc_client_secret
        return cls(issuer, settings.oidc_client_id, None if secret is None else secret.reveal())

    async def authorization_url(self, *, redirect: str, state: str, nonce: str, verifier: str, scope: str, **more: str) -> str:
        """Return the URL to which a browser is sent to sign in (RFC 6749, 4.1.1; PKCE, RFC 7636)."""
        place = await self.issuer.endpoint("authorization_endpoint")
        client = self._library.writer(None, self.client_id, redirect_uri=redirect, scope=scope, code_challenge_method="S256")
        return str(client.create_authorization_url(place, state=state, nonce=nonce, code_verifier=verifier, **more)[0])

    async def exchange(self, code: str, *, redirect: str, verifier: str) -> Mapping[str, Any]:
        """Return the tokens for a code; `Unauthenticated` if the issuer refuses the code."""
        return await self._fetch(grant_type="authorization_code", code=code, redirect_uri=redirect, code_verifier=verifier)

    async def own(self, **more: str) -> Mapping[str, Any]:
        """Return a token of the client itself (RFC 6749, 4.4)."""
        return await self._fetch(grant_type="client_credentials", **more)

    async def device(self, **asked: str) -> Mapping[str, Any]:
        """Return what to show a user who signs in with another device (RFC 8628, 3.2): codes and URL."""
        place = await self.issuer.endpoint("device_authorization_endpoint")
        try:
            async with asyncio.timeout(_PATIENCE), self._client() as client:
                auth = client.client_auth(self._method())
                answer = await client.post(place, data={"client_id": self.client_id, **asked}, auth=auth)
                found = answer.json()
        except (self._library.unreachable, OSError, ValueError, TypeError) as error:
            raise self._away(error) from None
        if not isinstance(found, dict):
            raise Unavailable("the issuer sent no code")
        if "error" in found or not all(isinstance(found.get(name), str) for name in ("device_code", "user_code", "verification_uri")):
            raise Unauthenticated(f"the issuer lets {self.client_id} not sign anybody in by another device")
        return found

    async def by_device(self, code: str, every: float, lasts: float) -> Mapping[str, Any]:
        """Return the tokens for a device code, once the user has signed in (RFC 8628, 3.4); `Unauthenticated` if that fails."""
        until = time.monotonic() + lasts
        while time.monotonic() < until:
            await asyncio.sleep(every)
            try:
                return await self._granted(grant_type=_DEVICE, device_code=code)
            except self._library.refused as error:
                said = getattr(error, "error", "")
                if said not in {"authorization_pending", "slow_down"}:
                    raise Unauthenticated("the sign-in was refused, or took too long") from None
                every += _SLOWER if said == "slow_down" else 0.0
            except Unavailable:  # for a moment, perhaps (3.5)
                every = min(every * 2, _SLOWEST)
        raise Unauthenticated("the sign-in took too long")

    async def _fetch(self, **grant: str) -> Mapping[str, Any]:
        try:
            return await self._granted(**grant)
        except self._library.refused as error:
            logger.bind(issuer=self.issuer.url).info("the issuer refused a grant: {}", getattr(error, "error", "no reason"))
            raise Unauthenticated("the issuer refused it") from None

    async def _granted(self, **grant: str) -> Mapping[str, Any]:
        place = await self.issuer.endpoint("token_endpoint")
        try:
            async with asyncio.timeout(_PATIENCE), self._client() as client:
                found = await client.fetch_token(place, **grant)
        except (self._library.unreachable, OSError, ValueError, TypeError) as error:
            raise self._away(error) from None
        if not isinstance(found, dict) or not isinstance(found.get("access_token"), str):
            raise Unavailable("the issuer sent no token")
        return found

    def _away(self, error: Exception) -> Unavailable:
        logger.bind(issuer=self.issuer.url).warning("the issuer gives no tokens now: {}", type(error).__name__)
        return Unavailable("the issuer of tokens cannot be reached")

    def _client(self) -> Any:
        return self._library.client(
            client_id=self.client_id,
            client_secret=self._secret,
            token_endpoint_auth_method=self._method(),
            timeout=_PATIENCE / 2,
            follow_redirects=False,
            verify=self._library.trust,
        )

    def _method(self) -> str:
        """Return how the client authenticates: by Basic, unless the issuer only accepts it in the form."""
        if self._secret is None:
            return "none"
        taken = self.issuer.document.get("token_endpoint_auth_methods_supported")
        known = taken if isinstance(taken, list) else []
        return "client_secret_post" if "client_secret_post" in known and "client_secret_basic" not in known else "client_secret_basic"


@cache
def _library() -> _Library:
    try:
        import httpx2  # noqa: PLC0415 - only who signs in by an issuer has it
        from authlib.integrations.base_client import OAuthError  # noqa: PLC0415 - as above
        from authlib.integrations.httpx_client import AsyncOAuth2Client  # noqa: PLC0415 - as above
        from authlib.oauth2.client import OAuth2Client  # noqa: PLC0415 - as above
    except ImportError:
        raise SetupError('Signing in by an issuer needs cliffracer[oidc]: pip install "cliffracer[oidc]".') from None
    return _Library(AsyncOAuth2Client, OAuth2Client, httpx2.create_ssl_context(), OAuthError, httpx2.HTTPError)
