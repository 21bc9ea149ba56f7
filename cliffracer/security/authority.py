"""Turns tokens into identities: each is verified once, remembered while it is good, and refused from the moment it is revoked."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from loguru import logger

from cliffracer.errors import Forbidden, InvalidInput, SetupError, Unavailable
from cliffracer.security.browser import Browsers
from cliffracer.security.claims import Claims
from cliffracer.security.credentials import Credential, key_of_ticket, new_ticket
from cliffracer.security.grants import Grant
from cliffracer.security.identity import Identity, identity_of
from cliffracer.security.keys import keys_of, signer
from cliffracer.security.oauth import OAuth
from cliffracer.security.oidc import Issuer
from cliffracer.security.provenance import Provenance
from cliffracer.security.revocations import Revocations
from cliffracer.security.sealing import seal, unseal
from cliffracer.security.tokens import RefusedToken, Tokens, unverified
from cliffracer.settings import Settings

ISSUER = AUDIENCE = "cliffracer"
"""The issuer and audience of our tokens if the settings name none; they are checked all the same."""
REMEMBERED = 4096
OWN_LIFE = 300.0
LATE = 3600.0
"""Seconds after its time within which a delayed event may still be stored, since NATS may have been away."""
BACKLOG = 30 * 86_400.0
"""Seconds that an event may be delayed in a caller's name, and that it may wait in a stream after its token has expired."""
_SAID_OTHERWISE = frozenset({"roles", "permissions", "scope", "typ"})
TICKET_LIFE = 30.0
"""Seconds from asking for a ticket to using it."""
_QUIET = 1.0  # seconds between two log lines about the same reason


def tokens_of(settings: Settings) -> Tokens:
    """Return the `Tokens` of these settings."""
    keys = keys_of(settings)
    if not keys:
        raise SetupError("No key for tokens is set. Set AUTH_SECRET_KEY (32 bytes or more) or AUTH_KEYS (PEM keys or a JWKS).")
    return Tokens(keys, issuer=settings.auth_issuer or ISSUER, audience=settings.auth_audience or AUDIENCE)


class OnceOnly(Protocol):
    """A store of values that can be taken once."""

    async def put(self, key: str, value: str) -> None:
        """Keep a value for a minute."""

    async def take(self, key: str) -> str | None:
        """Return the value of a key to the first who asks; None to all others."""


class Keys(Protocol):
    """The API keys that are accepted."""

    async def exchange(self, text: str) -> Identity:
        """Return whose key it is; `RefusedToken`."""

    def onward(self, identity: Identity) -> str | None:
        """Return a token to call others with, if one can be made."""


class Revoked(Protocol):
    """The revocations of other processes."""

    @property
    def behind(self) -> bool:
        """Say whether some may not be known here yet, since NATS was away."""

    async def wait(self) -> None:
        """Return when all are known; `Unavailable` if they do not arrive."""


class Authority:
    """Turns tokens into identities for all handlers of a process."""

    def __init__(
        self,
        tokens: Tokens,
        revocations: Revocations | None = None,
        issuer: Issuer | None = None,
        *,
        secure: bool = False,
        origins: tuple[str, ...] = (),
        backlog: float = BACKLOG,
    ) -> None:
        self.tokens = tokens
        self.backlog = backlog
        """How long events may wait, and so how long revocations are remembered after the tokens have expired."""
        self.issuer = issuer
        """An OpenID Connect issuer whose tokens are accepted too."""
        self.revocations = Revocations() if revocations is None else revocations
        self.browsers = Browsers(tokens, self.revocations, secure=secure)
        """Sessions that are kept in cookies."""
        self.provenance = Provenance(tokens.keys)
        """Proves which services a call came through."""
        self.origins = frozenset(origins) - {"*"}
        """Other sites whose pages may use such cookies."""
        self.grant: Grant | None = None
        """Gets services their own tokens from the issuer, if no key of ours signs."""
        self.tickets: OnceOnly | None = None
        """The store of tickets, shared by all replicas; set while the app runs."""
        self.keyring: Keys | None = None
        """The API keys of an app that accepts them."""
        self._known: dict[str, tuple[Identity, float]] = {}
        if issuer is not None:
            issuer.lost = self._known.clear
        self._own: dict[str, tuple[str, float]] = {}
        self._told: dict[str, float] = {}
        self.publish: Callable[[str, float, float | None], Awaitable[None]] | None = None
        """Publishes a revocation to every other process; set while the app runs."""
        self.revoked: Revoked | None = None
        """The revocations of other processes; set while the app runs."""

    def identity(self, token: str, *, stored: float | None = None) -> Identity:
        """Return who a token is for; `RefusedToken` for one that is not good.

        ``stored``: when NATS stored the message that the token came with. It had to be good then: an event may be handled long
        after it was emitted, up to ``backlog`` seconds after its token has ended. A revoked token is refused whenever it comes.
        """
        found = self._known.get(token)
        if found is not None and (found[1] > time.time() or stored is not None):
            if self.revocations.holds(found[0].claims):
                raise RefusedToken("revoked")
            if found[1] > (stored or 0.0) and (stored is None or found[1] + self.backlog > time.time()):
                return found[0]
        claims = self._tokens(token).verify(token, now=stored)
        if self.revocations.holds(claims):
            raise RefusedToken("revoked")
        if stored is not None and float(claims["exp"]) + self.backlog <= time.time():
            raise RefusedToken("stored too long ago")  # its revocation may have been forgotten by now
        return self._remember(token, claims)

    def session(self, cookie: str) -> Identity:
        """Return whose session cookie this is; `RefusedToken` for one that is not good."""
        return self.browsers.identity(cookie)

    async def key(self, text: str) -> Identity:
        """Return whose API key this is; `RefusedToken` for one that is not good."""
        assert self.keyring is not None  # only then it is asked
        return await self.keyring.exchange(text)

    async def ticket(self, shown: Credential) -> str:
        """Return a ticket that stands for a credential, once and for half a minute."""
        if self.tickets is None:
            raise Unavailable("no tickets can be kept now")
        made = new_ticket()
        lasting = msgspec.structs.replace(shown, until=time.time() + TICKET_LIFE)
        await self.tickets.put(key_of_ticket(made), seal(made, lasting))
        return made

    async def redeem(self, ticket: str) -> Credential:
        """Return the credential that a ticket stands for, once; `RefusedToken` after that."""
        sealed = None if self.tickets is None else await self.tickets.take(key_of_ticket(ticket))
        found = None if sealed is None else unseal(ticket, sealed)
        if found is None or found.until < time.time():
            raise RefusedToken("a ticket that is used, over or unknown")
        return found

    def own_token(self, service: str) -> str | None:
        """Return a token of a service itself: signed by us with the role ``service``, or from the issuer; None if there is neither."""
        if not self.signs:
            return None if self.grant is None else self.grant.token
        known = self._own.get(service)
        if known is None or known[1] < time.time():
            lasting = OWN_LIFE / 2  # replaced early: a message that carries it may wait in a stream
            known = self._own[service] = (self.tokens.issue(service, ttl=OWN_LIFE, roles=("service",)), time.time() + lasting)
        return known[0]

    def lasting(self, token: str, due: float) -> str:
        """Return the token for an event that is delivered later, at ``due``, when the present token will have expired.

        It has the same claims, is valid only from then on, and is revoked with the session or token that it was made from. Without a
        key of ours that signs, it is the present token. `InvalidInput` for an event that is due later than revocations are remembered,
        unless the token is the service's own, which is never revoked.
        """
        if not self.signs:
            return token
        try:
            identity = self.identity(token)
        except RefusedToken:  # not a token of ours: it may call us and nobody else
            return token
        claims = identity.claims
        if float(claims["exp"]) >= due + LATE:
            return token
        if due > time.time() + self.backlog and all(token != own for own, _ in self._own.values()):
            raise InvalidInput(
                f"in the name of {identity.subject} an event can be put off by {self.backlog / 86_400:g} days at most. "
                "Emit it in the service's own (app.as_service()), or raise AUTH_BACKLOG."
            )
        named = {name: value for name, value in claims.items() if name not in _SAID_OTHERWISE}
        named["sid"] = claims.get("sid") or claims.get("jti") or ""
        return self.tokens.issue(
            identity.subject, ttl=LATE, roles=identity.roles, permissions=identity.permissions, claims=named, since=max(due, time.time())
        )

    @property
    def signs(self) -> bool:
        """Say whether we have a key that signs, rather than only keys that verify."""
        return signer(self.tokens.keys) is not None

    def jwks(self) -> list[dict[str, Any]]:
        """Return our public keys, with which others verify our tokens."""
        return [public for key in self.tokens.keys if (public := key.public()) is not None]

    @classmethod
    def of(cls, settings: Settings, claims: Claims | None = None) -> "Authority":
        """Return the authority of these settings: our own keys, an issuer, or both; ``claims`` says what the issuer's mean."""
        issuer = Issuer.of(settings, claims)
        foreign = issuer is not None and settings.auth_secret_key is None and settings.auth_keys is None
        tokens = Tokens([], issuer=ISSUER, audience=AUDIENCE) if foreign else tokens_of(settings)
        secure = settings.env == "production"
        made = cls(tokens, issuer=issuer, secure=secure, origins=settings.cors_origins, backlog=settings.auth_backlog)
        if not made.signs and settings.oidc_client_secret is not None:
            made.grant = Grant(OAuth.of(issuer, settings), settings.auth_audience)
        return made

    def _tokens(self, token: str) -> Tokens:
        if self.issuer is None:
            return self.tokens
        _, claims = unverified(token)  # unverified claims only choose who verifies the token
        stated = claims.get("iss")
        if stated == self.issuer.url:
            return self.issuer.tokens
        if stated != self.tokens.issuer:
            raise RefusedToken("another issuer")  # and not its type: a slash too many in OIDC_ISSUER is to be seen in the log
        return self.tokens

    async def revoke(self, key: str, until: float, *, since: float | None = None) -> None:
        """Refuse a token (``jti``) or session (``sid``) everywhere, from ``since`` on if that is given.

        ``until`` is when the last of its tokens ends; it is remembered for longer, until nothing that was stored with one, or put
        off, can be handled any more.
        """
        last = max(until, (since or time.time()) + self.backlog + LATE)  # of the tokens of delayed events
        until = last + self.backlog
        if self.publish is not None:
            await self.publish(key, until, since)
        self.revocations.apply(key, until, since)  # only after publishing, or a failure would refuse it here alone

    def session_of(self, identity: Identity) -> str:
        """Return what to revoke at a sign-out; `Forbidden` for a caller who has not signed in here: an API key, an issuer's token."""
        claims = identity.claims
        if claims.get("iss") != self.tokens.issuer or "key" in claims:
            raise Forbidden("this is no sign-in of ours, so there is nothing to sign out of")
        return str(claims.get("sid") or claims["jti"])

    def good(self, identity: Identity) -> bool:
        """Say whether an identity from `identity` is still good."""
        return float(identity.claims["exp"]) > time.time() and not self.revocations.holds(identity.claims)

    def _remember(self, token: str, claims: dict[str, Any]) -> Identity:
        foreign = self.issuer is not None and claims["iss"] == self.issuer.url
        identity = self.issuer.claims.identity(claims) if self.issuer is not None and foreign else identity_of(claims)
        while len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]  # the oldest; if it comes again, it is verified again
        self._known[token] = (identity, float(claims["exp"]))
        return identity

    def note(self, refused: RefusedToken) -> None:
        """Log why a token was refused, each reason once a second at most; never the token."""
        now = time.monotonic()
        if now - self._told.get(refused.reason, -_QUIET) >= _QUIET:
            self._told[refused.reason] = now
            logger.bind(reason=refused.reason).info("a token was refused: {}", refused.reason)
