"""Dependency injection: opens the providers of an app at its start, and those of a call around each call."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import msgspec

from cliffracer.declarations import Function, Provider, Value, failed_at_start, failed_at_stop, refuse, where
from cliffracer.errors import CliffracerError, Internal, SetupError, Unauthenticated
from cliffracer.handler import Call
from cliffracer.providers import BUILT_IN, built_in, key_of
from cliffracer.signature import Parameter, Signature, read, shown

BuiltIn = Callable[[Any], Any]
"""Returns the runtime's own value for an annotation: a constant, or a `PerCall`."""


class PerCall(msgspec.Struct, frozen=True):
    """A value that differs from call to call: ``get(call)``, or ``open(call)`` as an async context manager around it."""

    get: Callable[[Call], Any] | None = None
    open: Callable[[Call], Any] | None = None


class Wants(msgspec.Struct, frozen=True):
    """How the provided parameters of one function are filled."""

    constants: dict[str, Any]
    direct: tuple[tuple[str, Callable[[Call], Any]], ...] = ()
    scoped: tuple[tuple[str, Callable[[Call, AsyncExitStack], Awaitable[Any]]], ...] = ()

    @property
    def constant(self) -> bool:
        """Say whether every call gets the same arguments."""
        return not self.direct and not self.scoped

    async def fill(self, call: Call, stack: AsyncExitStack) -> dict[str, Any]:
        """Return the keyword arguments of one call; what must be closed after it goes on the stack."""
        named = dict(self.constants)
        for name, get in self.direct:
            named[name] = get(call)
        for name, make in self.scoped:
            named[name] = await make(call, stack)
        return named


class Injector:
    """The providers of one running app: its app-wide values, made once and closed in reverse, and its per-call makers."""

    def __init__(self, providers: tuple[Provider, ...], built_in: BuiltIn, overrides: Mapping[Any, Any]) -> None:
        self._providers = {p.provides: p for p in providers}
        self._built_in = built_in
        self._values: dict[Any, Any] = dict(overrides)
        self._making: list[Provider] = []

    async def open(self, stack: AsyncExitStack) -> None:
        """Make every app-wide value, in order of need; each generator is closed when the stack unwinds."""
        for provider in self._providers.values():
            if provider.scope == "app":
                await self._app_value(provider, stack)

    def wants(self, signature: Signature, kind: str = "") -> Wants:
        """Return how a function's provided parameters are filled in calls of one kind; `SetupError` for what that kind does not have."""
        constants: dict[str, Any] = {}
        direct: list[tuple[str, Callable[[Call], Any]]] = []
        scoped: list[tuple[str, Callable[[Call, AsyncExitStack], Awaitable[Any]]]] = []
        for parameter in signature.needs:
            found = self._find(signature, parameter, kind)
            if not isinstance(found, PerCall):
                constants[parameter.name] = found
            elif found.get is not None:
                direct.append((parameter.name, found.get if parameter.required else _or_none(found.get, parameter.default)))
            elif found.open is not None:
                scoped.append((parameter.name, _entered(found.open)))
        return Wants(constants, tuple(direct), tuple(scoped))

    def _find(self, signature: Signature, parameter: Parameter, kind: str) -> Any:
        key = key_of(parameter.annotation)
        if key in self._values:
            return self._values[key]
        provider = self._providers.get(key)
        if provider is not None and provider.scope == "call":
            return self._per_call(provider, kind)
        name = built_in(key)
        if name is not None and (not BUILT_IN[name] or not kind or BUILT_IN[name] == kind):
            return self._built_in(parameter.annotation)
        if not parameter.required:
            return parameter.default
        if name is not None:
            raise refuse(
                signature.function,
                f"a call of kind {kind} has no {shown(key)} for {parameter.name}",
                f"Give it a default: {parameter.name}: {shown(key)} | None = None, or make a function of its own for this decorator.",
            )
        raise refuse(
            signature.function, f"nothing provides {parameter.name}: {shown(key)}", "Write a function with @app.provide that returns it."
        )

    async def _app_value(self, provider: Provider, stack: AsyncExitStack) -> Any:
        if provider.provides in self._values:
            return self._values[provider.provides]
        if provider in self._making:
            circle = " -> ".join(where(p.function) for p in [*self._making, provider])
            raise SetupError(f"providers need each other in a circle: {circle}. Break it: one of them must do without.")
        self._making.append(provider)
        signature = None if isinstance(provider.function, Value) else read(provider.function)
        for parameter in signature.needs if signature else ():
            needed = self._providers.get(key_of(parameter.annotation))
            if needed is not None and needed.scope == "app":
                await self._app_value(needed, stack)
        named = self.wants(signature).constants if signature else {}
        self._values[provider.provides] = value = _made(provider, await _opened(provider.function, named, stack))
        self._making.pop()
        return value

    def _per_call(self, provider: Provider, kind: str) -> PerCall:
        wants = self.wants(read(provider.function), kind)

        @asynccontextmanager
        async def lifetime(call: Call) -> AsyncIterator[Any]:
            if call.cache is None:
                call.cache = {}
            if provider.provides in call.cache:
                yield call.cache[provider.provides]  # two parameters, or two providers, share one
                return
            async with AsyncExitStack() as stack:
                named = await wants.fill(call, stack)
                value = call.cache[provider.provides] = _made(
                    provider, await stack.enter_async_context(_lifetime(provider.function, named))
                )
                yield value

        return PerCall(open=lifetime)


def _made(provider: Provider, value: Any) -> Any:
    """Return what a provider made; `SetupError` for nothing, which whoever asks for it would stumble over."""
    if value is None and not provider.optional:
        raise refuse(provider.function, f"it provides {shown(provider.provides)} and gave None", "Return it, or yield it.")
    return value


async def _opened(function: Function, named: dict[str, Any], stack: AsyncExitStack) -> Any:
    """Return an app-wide value; the part of its provider after the ``yield`` runs when the stack unwinds, whatever ended the app."""
    manager = _lifetime(function, named)
    try:
        value = await manager.__aenter__()
    except Exception as error:  # whatever a provider of the user's raises: the start ends, and names it
        if isinstance(error, CliffracerError) and not isinstance(error, Internal):
            raise
        raise failed_at_start(function, error) from error
    stack.push_async_callback(_closed, function, manager)
    return value


async def _closed(function: Function, manager: AbstractAsyncContextManager[Any]) -> None:
    try:
        await manager.__aexit__(None, None, None)
    except Exception as error:  # as above, of the stop
        raise failed_at_stop(function, error) from error


@asynccontextmanager
async def _lifetime(function: Function, named: dict[str, Any]) -> AsyncIterator[Any]:
    """Give a provider's value: what it returns, or yields and then closes."""
    if inspect.isasyncgenfunction(function):
        async with asynccontextmanager(function)(**named) as value:
            yield value
    elif inspect.isgeneratorfunction(function):
        with contextmanager(function)(**named) as value:
            yield value
    else:
        made = function(**named)
        yield await made if inspect.isawaitable(made) else made


def _or_none(get: Callable[[Call], Any], default: Any) -> Callable[[Call], Any]:
    """Wrap a getter so that a call without the value gets the parameter's default: ``identity: Identity | None = None``."""

    def give(call: Call) -> Any:
        try:
            return get(call)
        except Unauthenticated:
            return default

    return give


def _entered(opener: Callable[[Call], Any]) -> Callable[[Call, AsyncExitStack], Awaitable[Any]]:
    async def make(call: Call, stack: AsyncExitStack) -> Any:
        return await stack.enter_async_context(opener(call))

    return make
