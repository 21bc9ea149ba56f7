"""Fallbacks: what answers a call that has failed for good, a value or a function of the arguments."""

from collections.abc import Callable
from typing import Any

from cliffracer.declarations import shape_of
from cliffracer.errors import ServiceError
from cliffracer.resilience.guard import Guard, told
from cliffracer.resilience.verdicts import replaceable

NONE: Any = object()
"""Marks that there is no fallback, since None may be one."""


class Fallback:
    """Stands in for a failed call; ``given`` is the value, or is called with as many of the arguments as it takes.

    A function may have parameters ``error`` and ``method`` after a ``*``: the failure, and what was called.
    """

    def __init__(self, given: Any, guard: Guard) -> None:
        self._given = given
        self._guard = guard
        self._choose = _chooser(given) if callable(given) else None

    def answers(self, error: Exception, what: str) -> bool:
        """Say whether it answers a call that has failed with this error, and count it."""
        if not replaceable(error):
            return False
        self._guard.fallbacks += 1
        ours = isinstance(error, ServiceError)
        defect = None if ours else error
        told("debug" if ours else "error", "{} failed; its fallback answers", what, failure=defect, error=type(error).__name__)
        return True

    def give(self, error: Exception, method: str, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return the answer, or an awaitable of it."""
        if self._choose is None:
            return self._given
        args, kwargs = self._choose(positional, {**named}, {"error": error, "method": method})
        return self._given(*args, **kwargs)


def _chooser(function: Callable[..., Any]) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return a function that selects the arguments that a function takes."""
    parameters = shape_of(function).parameters.values()
    places = sum(p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD} for p in parameters)
    most = None if any(p.kind is p.VAR_POSITIONAL for p in parameters) else places
    names = {p.name for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}}
    everything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    extra = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} & {"error", "method"}

    def choose(positional: tuple[Any, ...], named: dict[str, Any], ours: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kept = {name: value for name, value in named.items() if everything or name in names}
        return positional[:most], kept | {name: ours[name] for name in extra - kept.keys()}

    return choose
