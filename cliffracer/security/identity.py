"""The identity of a caller."""

from collections.abc import Mapping
from typing import Any

import msgspec

from cliffracer.settings import Discreet


class Identity(Discreet, msgspec.Struct, frozen=True):
    """Who calls, from a token that this process has verified: on ``context.identity``, and as a keyword-only ``Identity`` parameter."""

    subject: str
    """The token's ``sub``: a user's id, or the name of a service."""
    roles: tuple[str, ...] = ()
    """The token's ``roles``; for an issuer's token, what `Claims` translates them to."""
    permissions: tuple[str, ...] = ()
    """Its ``permissions`` and the words of its ``scope``, translated likewise."""
    claims: dict[str, Any] = {}
    """All claims of the token."""

    def has_role(self, *roles: str) -> bool:
        """Say whether it has one of these roles."""
        return any(role in self.roles for role in roles)

    def may(self, *permissions: str) -> bool:
        """Say whether it has all of these permissions."""
        return all(permission in self.permissions for permission in permissions)

    def __repr__(self) -> str:
        return f"<Identity {self.subject}{f' {self.roles}' if self.roles else ''}>"  # claims are personal


def identity_of(claims: Mapping[str, Any]) -> Identity:
    """Return the identity in the verified claims of our own token; the words of ``scope`` are permissions (RFC 9068)."""
    permissions = [*claims.get("permissions", ()), *claims.get("scope", "").split()]
    return Identity(claims["sub"], tuple(dict.fromkeys(claims.get("roles", ()))), tuple(dict.fromkeys(permissions)), dict(claims))
