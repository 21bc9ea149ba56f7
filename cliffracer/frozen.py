"""All that an app declares, as one value: for the runtime and for commands."""

from typing import TypeVar

import msgspec

from cliffracer import declarations
from cliffracer.bounds import Bounds
from cliffracer.caching.cached import Cached
from cliffracer.checking import Declared
from cliffracer.declarations import Function, HealthCheck, Provider, Value
from cliffracer.signature import bare, dotted, read

T = TypeVar("T")
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
"""Idempotent methods of HTTP (RFC 9110, section 9.2.2)."""

_DATABASE = "cliffracer.database."
"""How the names of types begin that the database provides: nothing here imports it."""


class Frozen(msgspec.Struct, frozen=True):
    """All that an app declares, groups included and checked: what a runtime serves."""

    name: str
    version: str
    description: str
    declared: tuple[Declared, ...]
    providers: tuple[Provider, ...]
    middlewares: tuple[Function, ...]
    mappings: tuple[declarations.Mapping, ...]
    """Of the app, for all handlers; those of groups are in ``declared``."""
    startup: tuple[Function, ...]
    shutdown: tuple[Function, ...]
    checks: tuple[HealthCheck, ...]
    accesses: tuple[Function, ...]
    statics: tuple[declarations.Static, ...]
    mounts: tuple[declarations.Mount, ...]
    wrappings: tuple[declarations.Wrapping, ...]
    models: tuple[type, ...]
    """From ``app.repository(Model)``; those of parameters are in their signatures."""
    bounds: Bounds = Bounds()
    """What it declares to call, emit and follow."""
    cached: tuple[Cached, ...] = ()
    """The functions with ``@app.cached``."""
    proxies: tuple[str, ...] = ()
    """The services that it has asked for by ``app.service(...)``."""

    @property
    def others(self) -> list[Function]:
        """Return the functions beside handlers that are provided with something: providers, hooks, health checks."""
        providers = [p.function for p in self.providers if not isinstance(p.function, Value)]
        return [*providers, *self.startup, *self.shutdown, *(check.function for check in self.checks)]

    @property
    def needs_http(self) -> bool:
        """Whether it has anything to serve over HTTP."""
        return bool(self.statics or self.mounts or self.of(declarations.Route) or self.of(declarations.Socket))

    @property
    def needs_database(self) -> bool:
        """Whether anything of it asks for the database."""
        if self.models or any(subscription.once for subscription, _ in self.of(declarations.Subscription)):
            return True
        signatures = [*(d.signature for d in self.declared if d.signature), *map(read, self.others)]
        needs = (need.annotation for signature in signatures for need in signature.needs)
        return any(dotted(bare(annotation)).startswith(_DATABASE) for annotation in needs)

    def of(self, kind: type[T]) -> list[tuple[T, Declared]]:
        """Return the records of one kind, each with its declaration."""
        return [(d.record, d) for d in self.declared if isinstance(d.record, kind)]

    def repeatable(self) -> set[Function]:
        """Return the functions that answer HTTP by idempotent methods only."""
        routes = self.of(declarations.Route)
        answering = {route.function for route, _ in routes}
        return answering - {route.function for route, _ in routes if not _REPEATABLE.issuperset(route.methods)}
