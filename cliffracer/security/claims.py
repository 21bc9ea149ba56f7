"""What an issuer's claims mean here: ``app.provide(Claims(roles="groups", names={"shop-admins": "admin"}))``."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from cliffracer.errors import SetupError
from cliffracer.security.identity import Identity


class Claims(msgspec.Struct, frozen=True):
    """Where an issuer's tokens have roles and permissions, and how their names translate to ours.

    A place is a claim's name (``groups``, ``https://shop.example/roles``), or a way down to it (``resource_access.shop.roles``).
    """

    roles: str | tuple[str, ...] = ("roles", "realm_access.roles")
    """The place, or places, of roles."""
    permissions: str | tuple[str, ...] = ("permissions", "scope")
    """The place, or places, of permissions; of a text, each word is one."""
    names: dict[str, str | tuple[str, ...]] | None = None
    """Maps the issuer's roles to ours; unmapped ones are dropped. None: they keep their names."""

    def __post_init__(self) -> None:
        """Refuse what would fail at each call instead."""
        names = {} if self.names is None else self.names
        if not isinstance(names, dict):
            raise SetupError(f"Claims(names={names!r}) maps nothing. Write names={{'shop-admins': 'admin'}}.")
        for option, given in (("roles", self.roles), ("permissions", self.permissions), *((f"names: {k}", v) for k, v in names.items())):
            several = (given,) if isinstance(given, str) else given
            if not isinstance(several, tuple | list) or any(not isinstance(one, str) for one in several):
                raise SetupError(f"Claims({option}={given!r}) is neither a name nor several. Write one text, or a tuple of them.")

    def identity(self, claims: Mapping[str, Any]) -> Identity:
        """Return the identity that verified claims describe."""
        found = _texts(claims, self.roles)
        if self.names is not None:
            found = (name for role in found for name in _several(self.names.get(role, ())))
        return Identity(claims["sub"], tuple(dict.fromkeys(found)), tuple(dict.fromkeys(_texts(claims, self.permissions))), dict(claims))


def _texts(claims: Mapping[str, Any], places: str | tuple[str, ...]) -> Iterator[str]:
    for place in _several(places):
        found = _at(claims, place)
        if isinstance(found, str):
            yield from found.split()  # as the words of `scope` (RFC 6749, 3.3)
        elif isinstance(found, list):
            yield from (one for one in found if isinstance(one, str))


def _at(claims: Any, place: str) -> Any:
    """Return the value at a place; a claim's name may contain dots, so the whole name is tried first."""
    if not isinstance(claims, dict):
        return None
    if place in claims:
        return claims[place]
    first, dot, rest = place.partition(".")
    return _at(claims.get(first), rest) if dot else None


def _several(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
