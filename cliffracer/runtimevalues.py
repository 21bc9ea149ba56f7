"""The values that the runtime itself provides to handlers: settings, context, identity, what came in, stores, the database."""

from collections.abc import Callable
from typing import Any

from cliffracer.errors import Unauthenticated
from cliffracer.handler import Call, Rules
from cliffracer.injection import BuiltIn, PerCall
from cliffracer.messaging.broker import Backend
from cliffracer.messaging.received import Arrival
from cliffracer.messaging.stores import bucket_of
from cliffracer.providers import key_of
from cliffracer.settings import Settings
from cliffracer.signature import dotted
from cliffracer.transactional import Transactional

IDENTITY = "cliffracer.security.identity.Identity"


def values_of(settings: Settings, backend: Backend, database: Transactional | None, rules: Rules | None) -> BuiltIn:
    """Return a function from an annotation to the runtime's own value; a store is made on the server only when it is first used."""
    values: dict[str, Callable[[Any], Any]] = {
        "cliffracer.settings.Settings": lambda _: settings,
        "cliffracer.context.Context": lambda _: PerCall(get=_context),
        IDENTITY: lambda _: PerCall(get=_identity),
        "cliffracer.security.authority.Authority": lambda _: None if rules is None else rules.authority,
        "cliffracer.messaging.keyvalue.KeyValue": lambda annotation: backend.values(*bucket_of(annotation)),
        "cliffracer.messaging.objects.ObjectStore": lambda annotation: backend.objects(bucket_of(annotation)[0]),
    }
    if database is not None:
        values |= database.given()

    def built_in(annotation: Any) -> Any:
        give = values.get(dotted(key_of(annotation)))
        return PerCall(get=_source) if give is None else give(annotation)

    return built_in


def _context(call: Call) -> Any:
    return call.context


def _identity(call: Call) -> Any:
    if call.context.identity is None:
        raise Unauthenticated("a token is needed")
    return call.context.identity


def _source(call: Call) -> Any:
    source = call.source
    return source.received() if isinstance(source, Arrival) else source
