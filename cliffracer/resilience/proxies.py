"""The options of ``app.service(...)``: calls of another service that are tried again, broken off or answered in its place."""

import importlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

from cliffracer.calling import Link, Method, arguments_of
from cliffracer.resilience.fallbacks import NONE, Fallback
from cliffracer.resilience.guard import Guard, Guards, Trying, until_of
from cliffracer.resilience.policies import Breaker, Retry


class Guarded:
    """What stands between a proxy and its link."""

    def __init__(self, guard: Guard, fallback: Any = NONE) -> None:
        self._guard = guard
        self._fallback = None if fallback is NONE else Fallback(fallback, guard)

    def calling(self, service: str, method: str, link: Callable[[], Link], timeout: float | None) -> Method:
        """Return a method of the proxy."""

        async def call(*positional: Any, **named: Any) -> Any:
            arguments = arguments_of(positional, named)
            try:
                return await self._tried(link(), service, method, arguments, timeout)
            except Exception as error:  # the fallback says which it answers; all others go on
                if self._fallback is None or not self._fallback.answers(error, f"{service}.{method}"):
                    raise
                answer = self._fallback.give(error, method, positional, named)
                return await answer if inspect.isawaitable(answer) else answer

        return call

    async def _tried(self, link: Link, service: str, method: str, arguments: Any, timeout: float | None) -> Any:
        patience = link.deadline if timeout is None else timeout
        retry = self._guard.retry

        async def attempt(seconds: float | None) -> Any:
            return await link.call(service, method, arguments, returns=Any, timeout=seconds)

        async def harmless() -> bool:
            assert retry is not None  # it has just said so
            return await link.idempotent(service, method) if retry.idempotent is None else retry.idempotent

        if retry is not None and retry.idempotent is None and retry.attempts > 1:
            await link.learn(service)  # now: a service that hangs does not say what its methods are like
        return await tried(self._guard.begin(until_of(patience), patience), attempt, harmless)


class ServiceOptions(TypedDict, total=False):
    """What `guarded` takes beside the target."""

    retry: Retry | None
    breaker: Breaker | None
    fallback: Any


def guarded(
    guards: Guards, target: str, retry: Retry | None = None, breaker: Breaker | None = None, fallback: Any = NONE
) -> Guarded | None:
    """Return what stands before a target; None if nothing is asked for."""
    if retry is None and breaker is None and fallback is NONE:
        return None
    return Guarded(guards.to(target, retry, breaker), fallback)


async def tried(trying: Trying, attempt: Callable[[float | None], Awaitable[Any]], harmless: Callable[[], Awaitable[bool]]) -> Any:
    """Return what an attempt returns; ``harmless`` says whether it may be done twice, and is asked only where that matters."""
    while True:
        seconds = trying.enter()
        try:
            result = await attempt(seconds)
        except BaseException as error:  # cancelled, too: the guard has to hear how each attempt ended
            wait = trying.failed(error)
            if wait is None or (trying.unsure and not await harmless()) or not trying.again(error):
                raise
        else:
            trying.succeeded()
            return result
        await importlib.import_module("asyncio").sleep(wait)  # by name: declaring a service must stay light
