"""Cache keys: the function, its arguments, and the caller that the answer may depend on.

Two calls share an answer only if the function could not see a difference between them. So the key has every argument with its type,
and the identity of the caller (subject, roles, permissions, claims), unless the declaration says that all callers get the same.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from cliffracer.context import Context
from cliffracer.providers import built_in, key_of
from cliffracer.signature import Parameter, Signature

_OF_ONE_TOKEN = frozenset({"exp", "iat", "nbf", "jti"})
"""Claims that differ between tokens of the same caller."""
IDENTITY = "cliffracer.security.identity.Identity"
LONGEST_TAG = 100
Provides = Callable[[Any], bool]
"""Says whether an app provides a type, so that the parameter is no argument."""


class Unkeyable(Exception):
    """An argument that cannot be part of a key."""


class Key(msgspec.Struct, frozen=True):
    """The key of one call's answer."""

    answer: str
    tags: tuple[str, ...]
    """Everything by which it can be invalidated: the function, the call for all callers, and the user's tags."""


def digest(*parts: Any) -> str:
    """Return a name for the parts, long enough that nobody can find a collision."""
    return hashlib.sha256(msgspec.msgpack.encode(parts, order="deterministic")).hexdigest()


def tag_of(text: str) -> str:
    """Return a user's tag; a digest if it is long because of an argument in it."""
    return f"t:{text}" if len(text) <= LONGEST_TAG else f"t#{digest(text)}"


def told(value: Any, name: str) -> tuple[str, str, bytes]:
    """Return an argument as part of a key, with its type: 1, 1.0, True and "1" differ."""
    kind = type(value)
    try:
        return name, f"{kind.__module__}.{kind.__qualname__}", msgspec.msgpack.encode(value, order="deterministic")
    except Exception as error:  # whatever a type of the user's own raises: then nothing is kept
        raise Unkeyable(f"{name} is a {kind.__qualname__}, which cannot be part of a key") from error


def arguments(signature: Signature, bound: dict[str, Any], provides: Provides) -> tuple[Any, ...]:
    """Return the arguments of a call, without provided ones."""
    parts = [told(bound[parameter.name], parameter.name) for parameter in signature.accepts]
    for parameter in signature.needs:
        name = built_in(parameter.annotation)
        if name == IDENTITY:
            parts.append(told(_known(bound.get(parameter.name)), parameter.name))
        elif name is None and not provides(key_of(parameter.annotation)):
            parts.append(told(bound.get(parameter.name), parameter.name))
    return tuple(parts)


def caller(context: Context | None) -> tuple[Any, ...]:
    """Return the caller, as far as an answer may depend on it."""
    if context is None:
        return ()
    if context.identity is not None:
        return _known(context.identity)
    if context.token is not None:  # acting for an identity that was not verified here, such as the service itself
        return ("token", hashlib.sha256(context.token.encode()).hexdigest())
    return ()


def _known(identity: Any) -> tuple[Any, ...]:
    if identity is None:
        return ()
    claims = {name: value for name, value in identity.claims.items() if name not in _OF_ONE_TOKEN}
    try:
        made = msgspec.msgpack.encode(claims, order="deterministic")
    except Exception as error:  # such as a number beyond 64 bits
        raise Unkeyable("the claims of an identity cannot be part of a key") from error
    return ("identity", identity.subject, sorted(identity.roles), sorted(identity.permissions), made)


def asks_for(parameters: tuple[Parameter, ...], *names: str) -> str | None:
    """Return the first parameter that asks for one of the runtime's own types."""
    return next((p.name for p in parameters if built_in(p.annotation) in names), None)
