"""Says whose token it is: verified once, remembered while it is good, and refused from the moment it is revoked."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from loguru import logger

from cliffracer.errors import SetupError
from cliffracer.security.identity import Identity
from cliffracer.security.keys import keys_of
from cliffracer.security.oidc import Issuer
from cliffracer.security.revocations import Revocations
from cliffracer.security.tokens import RefusedToken, Tokens, UnknownKey, unverified
from cliffracer.settings import Settings

ISSUER = AUDIENCE = "cliffracer"
"""Of tokens where settings name none: they are checked all the same."""
REMEMBERED = 4096
OWN_LIFE = 300.0
PLACE = "cliffracer.security.authority.Authority"
_QUIET = 1.0  # seconds between two lines about refusals for one reason


def configured(settings: Settings) -> bool:
    """Say whether these settings say whose tokens are good."""
    return settings.auth_secret_key is not None or settings.auth_keys is not None or settings.oidc_issuer is not None


def tokens_of(settings: Settings) -> Tokens:
    """Return what issues and verifies the tokens of these settings."""
    keys = keys_of(settings)
    if not keys:
        raise SetupError("No key for tokens is set. Set AUTH_SECRET_KEY (32 bytes or more) or AUTH_KEYS (PEM keys or a JWKS).")
    return Tokens(keys, issuer=settings.auth_issuer or ISSUER, audience=settings.auth_audience or AUDIENCE)


class Authority:
    """Turns tokens into identities for all handlers of a process."""

    def __init__(self, tokens: Tokens, revocations: Revocations | None = None, issuer: Issuer | None = None) -> None:
        self.tokens = tokens
        self.issuer = issuer
        """Another whose tokens are good here."""
        self.revocations = Revocations() if revocations is None else revocations
        self._known: dict[str, tuple[Identity, float]] = {}
        self._own: dict[str, tuple[str, float]] = {}
        self._told: dict[str, float] = {}
        self.publish: Callable[[str, float, float | None], Awaitable[None]] | None = None
        """Tells every other process what is revoked; set while one runs."""

    def identity(self, token: str, *, stored: float | None = None) -> Identity:
        """Return who a token is for; `RefusedToken` for one that is not good.

        ``stored``: when NATS stored the message that the token came with. It had to be good then: an event may be handled long
        after it was emitted. A revoked token is refused whenever it comes.
        """
        found = self._known.get(token)
        if found is not None and (found[1] > time.time() or stored is not None):
            if self.revocations.holds(found[0].claims):
                raise self._refused(RefusedToken("revoked"))
            if found[1] > (stored or 0.0):
                return found[0]
        try:
            claims = self._tokens(token).verify(token, now=stored)
        except UnknownKey:
            raise  # not refused yet
        except RefusedToken as refused:
            raise self._refused(refused) from None
        if self.revocations.holds(claims):
            raise self._refused(RefusedToken("revoked"))
        return self._remember(token, claims)

    def own_token(self, service: str) -> str | None:
        """Return a token of a service itself, with the role ``service``; None without a key that signs."""
        if not any(key.signs for key in self.tokens.keys):
            return None
        known = self._own.get(service)
        if known is None or known[1] < time.time():
            lasting = OWN_LIFE / 2  # made anew in time: what carries it may wait in a stream
            known = self._own[service] = (self.tokens.issue(service, ttl=OWN_LIFE, roles=("service",)), time.time() + lasting)
        return known[0]

    def jwks(self) -> list[dict[str, Any]]:
        """Return the public halves of our keys, for others who verify our tokens."""
        return [public for key in self.tokens.keys if (public := key.public()) is not None]

    @classmethod
    def of(cls, settings: Settings) -> "Authority":
        """Return the authority of these settings: our own keys, an issuer, or both."""
        issuer = Issuer.of(settings)
        if issuer is not None and settings.auth_secret_key is None and settings.auth_keys is None:
            return cls(Tokens([], issuer=ISSUER, audience=AUDIENCE), issuer=issuer)
        return cls(tokens_of(settings), issuer=issuer)

    def _tokens(self, token: str) -> Tokens:
        if self.issuer is None:
            return self.tokens
        _, claims = unverified(token)  # which only chooses who verifies it
        return self.issuer.tokens if claims.get("iss") == self.issuer.url else self.tokens

    async def revoke(self, key: str, until: float, before: float | None = None) -> None:
        """Refuse a token (``jti``) or session (``sid``) everywhere from now on, or with ``before`` all of a subject's issued earlier."""
        self.revocations.apply(key, until, before)
        if self.publish is not None:
            await self.publish(key, until, before)

    def good(self, identity: Identity) -> bool:
        """Say whether an identity that we gave out is good still."""
        return float(identity.claims["exp"]) > time.time() and not self.revocations.holds(identity.claims)

    def _remember(self, token: str, claims: dict[str, Any]) -> Identity:
        identity = identity_of(claims)
        while len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]  # the oldest: it is verified again if it still comes
        self._known[token] = (identity, float(claims["exp"]))
        return identity

    def _refused(self, refused: RefusedToken) -> RefusedToken:
        now = time.monotonic()
        if now - self._told.get(refused.reason, -_QUIET) >= _QUIET:
            self._told[refused.reason] = now
            logger.bind(reason=refused.reason).info("a token was refused: {}", refused.reason)
        return refused


def identity_of(claims: Mapping[str, Any]) -> Identity:
    """Return the identity that verified claims tell; the words of ``scope`` are permissions (RFC 9068, RFC 8693)."""
    permissions = [*claims.get("permissions", ()), *claims.get("scope", "").split()]
    realm = claims.get("realm_access")  # where Keycloak has roles
    more = realm.get("roles", ()) if isinstance(realm, dict) else ()
    roles = [*claims.get("roles", ()), *(role for role in more if isinstance(role, str))]
    return Identity(claims["sub"], tuple(dict.fromkeys(roles)), tuple(dict.fromkeys(permissions)), dict(claims))
