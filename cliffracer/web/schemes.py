"""The security schemes of OpenAPI and AsyncAPI that these apps accept."""

from collections.abc import Sequence
from typing import Any

from cliffracer.assembly import Assembly
from cliffracer.declarations import Record
from cliffracer.handler import Policy
from cliffracer.markers import does_sign_in
from cliffracer.settings import Settings
from cliffracer.signature import dotted
from cliffracer.wire.cookies import SESSION

_KEYRING = "cliffracer.security.keyring.Keyring"
_TICKETS = "cliffracer.security.tickets"


class Schemes:
    """The content of ``securitySchemes``; any of them is enough for a handler with a rule."""

    def __init__(self, assemblies: Sequence[Assembly], settings: Settings | None = None) -> None:
        self._ruled = any(
            assembly.rules is not None and any(assembly.rules.policy(d.record) is not None for d in assembly.frozen.declared)
            for assembly in assemblies
        )
        self._keys = any(dotted(provider.provides) == _KEYRING for a in assemblies for provider in a.frozen.providers)
        functions = [d.record.function for assembly in assemblies for d in assembly.frozen.declared]
        self._cookie = any(map(does_sign_in, functions))
        self._ticket = any(getattr(function, "__module__", "") == _TICKETS for function in functions)
        self._issuer = None if settings is None else settings.oidc_issuer
        self._host = "__Host-" if settings is not None and settings.env == "production" else ""

    def openapi(self) -> dict[str, Any]:
        """Return the schemes for HTTP, by name; the first is for programs."""
        if not self._ruled:
            return {}
        found: dict[str, Any] = {"bearer": self._bearer()}
        if self._issuer is not None:
            found["oidc"] = self._oidc()
        if self._cookie:
            found["session"] = {"type": "apiKey", "in": "cookie", "name": self._host + SESSION, "description": "the session of a browser"}
        if self._keys:
            found["key"] = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        return found

    def asyncapi(self) -> dict[str, Any]:
        """Return the schemes for NATS and WebSockets, by name; key, cookie and ticket are for the handshake of a socket."""
        found = self.openapi()
        for name in ("session", "key"):
            if name in found:
                found[name] = {**found[name], "type": "httpApiKey"}
        if found and self._ticket:
            found["ticket"] = {"type": "httpApiKey", "in": "query", "name": "ticket", "description": "good once, of POST /auth/ticket"}
        if "oidc" in found:
            found["oidc"] |= {"scopes": []}
        return found

    def _bearer(self) -> dict[str, Any]:
        described = {"description": "a JWT, or an API key"} if self._keys else {}
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", **described}

    def _oidc(self) -> dict[str, Any]:
        assert self._issuer is not None  # asked only then
        place = self._issuer.rstrip("/") + "/.well-known/openid-configuration"
        return {
            "type": "openIdConnect",
            "openIdConnectUrl": place,
            "description": "access tokens of this issuer, as Authorization: Bearer",
        }


def policy_of(assembly: Assembly, record: Record) -> Policy | None:
    """Return what a handler asks of its callers; None where nobody is asked."""
    return None if assembly.rules is None else assembly.rules.policy(record)
