"""What is inside an app that runs for a test, where it cannot be seen from outside."""

from typing import Any, TypeVar

from cliffracer.handler import Handler
from cliffracer.security.authority import Authority
from cliffracer.testing import Running

T = TypeVar("T")


def value_of(t: Running, kind: type[T]) -> T:
    """Return what the app gives for a type, one value for all calls."""
    value: T = t.up.services[0].injector._values[kind]
    return value


def authority_of(t: Any) -> Authority:
    """Return who says whose token it is: of an app that runs for a test, or of `cliffracer.runtime.running`."""
    authority: Authority = getattr(t, "up", t).services[0].assembly.rules.authority
    return authority


def handler_of(t: Running, name: str) -> Handler:
    """Return the handler of a function."""
    return next(handler for _, handler in t.up.services[0].assembly.handlers if handler.name == name)
