"""Markers for annotations and defaults: where a value comes from, and that it is provided."""

from collections.abc import Callable
from typing import Any, Never, TypeVar

import msgspec

F = TypeVar("F", bound=Callable[..., Any])


class Query(msgspec.Struct, frozen=True):
    """``Annotated[int, Query()]``: from the query string, also where a body would be the rule; ``name`` if it differs."""

    name: str | None = None


class Header(msgspec.Struct, frozen=True):
    """``Annotated[str, Header("X-Tenant")]``: from a request header; without a name, the parameter's with ``-`` for ``_``."""

    name: str | None = None


class Cookie(msgspec.Struct, frozen=True):
    """``Annotated[str, Cookie()]``: from a cookie."""

    name: str | None = None


class _Provided:
    """The default of a parameter that the app provides; using it raises an error that says what was forgotten."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Never:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        raise TypeError(
            f"a provided parameter was used (.{name}) in a plain call that did not pass it: "
            "pass the keyword argument, or call through app.call(...) or cliffracer.testing"
        )

    def __repr__(self) -> str:
        return "provided"

    def __reduce__(self) -> str:
        """Stay a singleton through copies and pickle: it is compared by identity."""
        return "provided"

    def __bool__(self) -> Never:
        raise TypeError("a provided parameter was used in a plain call that did not pass it: pass the keyword argument")


provided: Any = _Provided()
"""``*, users: Repository[User] = provided``: lets type checkers accept ``app.call(create_user, name=...)`` without it."""


_SIGNS_IN = "__cliffracer_signs_in__"


def signs_in(function: F) -> F:
    """Mark a handler that sets the session cookie, so that OpenAPI and AsyncAPI list the cookie as a security scheme."""
    function.__dict__[_SIGNS_IN] = True
    return function


def does_sign_in(function: Any) -> bool:
    """Say whether a handler is marked by `signs_in`."""
    return _SIGNS_IN in getattr(function, "__dict__", {})
