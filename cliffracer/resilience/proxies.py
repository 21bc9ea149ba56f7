"""The options of ``app.service(...)``: retries, breaker and fallback for calls of another service."""

import importlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

from cliffracer.calling import Link, Method, arguments_of
from cliffracer.resilience.fallbacks import NONE, Fallback
from cliffracer.resilience.guard import Guard, Guards, Trying, until_of
from cliffracer.resilience.policies import Breaker, Retry


class Guarded:
    """The guard and fallback between a proxy and its link."""

    def __init__(self, guard: Guard, fallback: Any = NONE) -> None:
        self._guard = guard
        self._fallback = None if fallback is NONE else Fallback(fallback, guard)

    def calling(self, service: str, method: str, link: Callable[[], Link], timeout: float | None) -> Method:
        """Return a method of the proxy."""

        async def call(*positional: Any, **named: Any) -> Any:
            arguments = arguments_of(positional, named)
            try:
                return await self._tried(link(), service, method, arguments, timeout)
            except Exception as error:  # the fallback decides which errors it answers; all others are raised
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
            await link.learn(service)  # now: a service that hangs later would not answer that
        return await tried(self._guard.begin(until_of(patience), patience), attempt, harmless)


class ServiceOptions(TypedDict, total=False):
    """What `guarded` takes beside the target."""

    retry: Retry | None
    breaker: Breaker | None
    fallback: Any


def guarded(
    guards: Guards, target: str, retry: Retry | None = None, breaker: Breaker | None = None, fallback: Any = NONE
) -> Guarded | None:
    """Return the guard and fallback for a target; None if there are neither."""
    if retry is None and breaker is None and fallback is NONE:
        return None
    return Guarded(guards.to(target, retry, breaker), fallback)


async def tried(trying: Trying, attempt: Callable[[float | None], Awaitable[Any]], harmless: Callable[[], Awaitable[bool]]) -> Any:
    """Return what an attempt returns; ``harmless`` says whether it may be done twice, and is asked only where that matters."""
    while True:
        seconds = trying.enter()
        try:
            result = await attempt(seconds)
        except BaseException as error:  # cancelled, too: the guard has to know the outcome of each attempt
            wait = trying.failed(error)
            if wait is None or (trying.unsure and not await harmless()) or not trying.again(error):
                raise
        else:
            trying.succeeded()
            return result
        await importlib.import_module("asyncio").sleep(wait)  # by name: declaring a service must stay light
