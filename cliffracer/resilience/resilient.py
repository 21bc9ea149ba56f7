"""``@resilient(...)``: retries, breaker and fallback for any function."""

import functools
import importlib
import inspect
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from cliffracer.declarations import refuse, surround
from cliffracer.errors import DeadlineExceeded, SetupError
from cliffracer.resilience.fallbacks import NONE, Fallback
from cliffracer.resilience.guard import Guard, Guards, until_of
from cliffracer.resilience.policies import Breaker, Retry, check_policies, length
from cliffracer.resilience.proxies import tried

F = TypeVar("F", bound=Callable[..., Any])
DECORATED = Guards()
"""The guards of functions; an app has its own for its proxies."""


def resilient(
    retry: Retry | None = None,
    breaker: Breaker | None = None,
    *,
    timeout: float | str | timedelta | None = None,
    fallback: Any = NONE,
    name: str | None = None,
) -> Callable[[F], F]:
    """Guard a function: ``@resilient(retry=Retry(), breaker=Breaker(), fallback=cached_rate)``.

    It may be ``async`` or not (then it waits in its thread), a handler or none, above or below ``@app.rpc``. ``timeout`` is for all
    attempts together, beside the deadline of the call that it is part of. ``fallback``: a value, or a function that is called with the same
    arguments, as many as it takes. ``name`` is what its breaker is called in errors and metrics.
    """
    if callable(retry) or (retry is None and breaker is None and timeout is None and fallback is NONE):
        raise SetupError("resilient() does nothing. Write @resilient(retry=Retry()), breaker=Breaker(), timeout=... or fallback=...")
    check_policies("resilient(...)", retry, breaker)
    patience = None if timeout is None else length("resilient(timeout=...)", timeout, some=True)

    def guarded(function: F) -> F:
        inner = inspect.unwrap(function)
        if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
            raise refuse(function, "@resilient cannot begin a stream again whose first items are gone", "Guard what it asks for instead.")
        asynchronous = inspect.iscoroutinefunction(inner)
        if not asynchronous and (patience is not None or (retry is not None and retry.timeout is not None)):
            raise refuse(function, "nothing can end a function that is not async", "Leave out timeout, or make it async.")
        called = name or f"{function.__module__}.{function.__qualname__.replace('<locals>.', '')}"
        guard = DECORATED.own(called, retry, breaker)
        stand_in = None if fallback is NONE else Fallback(fallback, guard)
        made: Any = _asynchronous(function, guard, stand_in, patience) if asynchronous else _plain(function, guard, stand_in)
        wrapped: F = surround(function, functools.wraps(function)(made))
        return wrapped

    return guarded


def _asynchronous(
    function: Callable[..., Any], guard: Guard, fallback: Fallback | None, patience: float | None
) -> Callable[..., Awaitable[Any]]:
    each = patience is not None or (guard.retry is not None and guard.retry.timeout is not None)

    async def harmless() -> bool:
        return bool(guard.retry and guard.retry.idempotent)

    async def call(*positional: Any, **named: Any) -> Any:
        async def attempt(left: float | None) -> Any:
            return await (_bounded(function, left, positional, named) if each else function(*positional, **named))

        try:
            return await tried(guard.begin(until_of(patience), patience), attempt, harmless)
        except Exception as error:  # the fallback says which it answers; all others go on
            if fallback is None or not fallback.answers(error, guard.target):
                raise
            answer = fallback.give(error, function.__name__, positional, named)
            return await answer if inspect.isawaitable(answer) else answer

    return call


async def _bounded(function: Callable[..., Any], left: float | None, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
    asyncio = importlib.import_module("asyncio")  # by name: declaring a service must stay light
    try:
        async with asyncio.timeout(left) as scope:
            return await function(*positional, **named)
    except TimeoutError:
        if scope.expired():
            raise DeadlineExceeded(f"{function.__name__} took longer than {left:.3g} s") from None
        raise


def _plain(function: Callable[..., Any], guard: Guard, fallback: Fallback | None) -> Callable[..., Any]:
    def call(*positional: Any, **named: Any) -> Any:
        try:
            return _tried(function, guard, positional, named)
        except Exception as error:  # the fallback says which it answers; all others go on
            if fallback is None or not fallback.answers(error, guard.target):
                raise
            return fallback.give(error, function.__name__, positional, named)

    return call


def _tried(function: Callable[..., Any], guard: Guard, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Return what the function returns: `tried` without an event loop."""
    trying = guard.begin(until_of(None))
    while True:
        trying.enter()
        try:
            result = function(*positional, **named)
        except BaseException as error:  # interrupted, too: the guard has to know the outcome of each attempt
            wait = trying.failed(error)
            harmless = guard.retry is not None and bool(guard.retry.idempotent)
            if wait is None or (trying.unsure and not harmless) or not trying.again(error):
                raise
        else:
            trying.succeeded()
            return result
        time.sleep(wait)
