"""What a process that runs some apps needs of others, read off their declarations."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from cliffracer import appdatabase
from cliffracer.declarations import Leader, Rpc, Socket, Subscription, Timer
from cliffracer.frozen import Frozen
from cliffracer.messaging.caches import bucket_for
from cliffracer.messaging.locks import leader_of, order_of
from cliffracer.messaging.rates import BUCKET as RATES
from cliffracer.messaging.revocations import BUCKET as REVOCATIONS
from cliffracer.messaging.stores import Bucket, bucket_of
from cliffracer.messaging.streams import durable_name
from cliffracer.messaging.tickets import BUCKET as TICKETS
from cliffracer.providers import key_of
from cliffracer.security.guards import policy_of
from cliffracer.settings import Settings
from cliffracer.signature import dotted, read
from cliffracer.wire.subjects import Subjects

_KEY_VALUE = "cliffracer.messaging.keyvalue.KeyValue"
_OBJECTS = "cliffracer.messaging.objects.ObjectStore"
_IDENTITY = "cliffracer.security.identity.Identity"
_AUTHORITY = "cliffracer.security.authority.Authority"


class Needs:
    """What one app needs; `Subjects` and the settings say under which names."""

    def __init__(self, frozen: Frozen, settings: Settings) -> None:
        self.frozen = frozen
        self.name = frozen.name
        self.subjects = Subjects(settings.namespace)
        self.settings = settings
        self.rpcs = frozen.of(Rpc)
        self.events = [record for record, _ in frozen.of(Subscription)]
        self.timers = [record for record, _ in frozen.of(Timer) if not record.each]
        self.leaders = [record for record, _ in frozen.of(Leader)]
        self.uses = frozenset(frozen.bounds.uses or ())
        self._annotations = list(_annotations(frozen))

    @property
    def durable(self) -> dict[str, list[Subscription]]:
        """The durable subscriptions, those of one consumer together."""
        found: dict[str, list[Subscription]] = {}
        for record in self.events:
            if record.durable:
                found.setdefault(record.group or record.function.__name__, []).append(record)
        return found

    def consumer(self, function: str, group: str | None = None) -> str:
        """Return the name of a consumer."""
        return durable_name(self.subjects, self.name, function, group)

    def locks(self) -> list[str]:
        """Return the names of the locks that it takes by itself, for leaders and for order."""
        leaders = [leader_of(self.consumer(record.function.__name__)) for record in self.leaders]
        return leaders + [order_of(self.consumer(f, records[0].group)) for f, records in self.durable.items() if records[0].ordered]

    @property
    def calls(self) -> list[str]:
        """What it calls, as ``service.method`` or ``service.*``."""
        said = self.frozen.bounds.calls
        return sorted({f"{name}.*" for name in self.frozen.proxies} if said is None else set(said))

    @property
    def emits(self) -> list[str]:
        """The patterns of what it emits."""
        return sorted(set(self.frozen.bounds.emits or ()))

    @property
    def streams_out(self) -> bool:
        """Whether what it sends goes into a stream."""
        return bool(self.emits or self.calls)

    def buckets(self) -> list[tuple[Bucket, Any]]:
        """Return its key-value buckets, each with the type of its values; those that rates need included."""
        found = {bucket.name: (bucket, of) for bucket, of in map(bucket_of, self._of(_KEY_VALUE))}
        if any(getattr(d.record, "rate", None) is not None for d in self.frozen.declared):
            found[RATES.name] = (RATES, int)
        if any(record.store == "nats" for record in self.frozen.cached):
            bucket = bucket_for(self.name)
            found[bucket.name] = (bucket, Any)
        return list(found.values())

    def objects(self) -> list[Bucket]:
        """Return its buckets of objects; those of payloads that are too large for a message included."""
        found = {bucket.name: bucket for bucket, _ in map(bucket_of, self._of(_OBJECTS))}
        if "large" in self.uses:
            found |= {bucket.name: bucket for bucket in (Bucket("claims_events"), Bucket("claims_calls", ttl="1h"))}
        return list(found.values())

    @property
    def ruled(self) -> bool:
        """Whether it asks who calls, so that it has to know which tokens are revoked."""
        if self.settings.auth_required or self.settings.recognises:
            return True
        return any(policy_of(d.record.function) is not None for d in self.frozen.declared) or bool(self._of(_IDENTITY))

    @property
    def revokes(self) -> bool:
        """Whether it may revoke tokens, as accounts do."""
        return bool(self._of(_AUTHORITY))

    @property
    def revocations(self) -> Bucket:
        """The bucket of what is revoked."""
        return REVOCATIONS

    @property
    def tickets(self) -> list[Bucket]:
        """The bucket of tickets, for who gives them out or opens sockets by them."""
        return [TICKETS] if self.ruled and (self.revokes or self.frozen.of(Socket)) else []

    def kept(self) -> set[str]:
        """Return which parts of ours it has that keep something in its database, by what they provide."""
        return {dotted(provider.provides).rpartition(".")[2] for provider in self.frozen.providers} & {"Sessions", "Keyring"}

    @property
    def database(self) -> bool:
        """Whether it uses a database."""
        return self.frozen.needs_database

    @property
    def redis(self) -> bool:
        """Whether it keeps answers in Redis."""
        return any(record.store == "redis" for record in self.frozen.cached)

    @property
    def http(self) -> bool:
        """Whether it serves HTTP."""
        return self.frozen.needs_http

    def models(self) -> Sequence[type[Any]]:
        """Return the models that it keeps."""
        return appdatabase.models_of([self.frozen])

    def unsaid(self) -> list[str]:
        """Return what cannot be read off the declarations and was not said."""
        bounds, notes = self.frozen.bounds, []
        if bounds.calls is None and self.frozen.proxies:
            notes.append(f"it does not say which methods it calls, so it may call all of {', '.join(self.frozen.proxies)}")
        known = {"calls": bounds.calls is not None or bool(self.frozen.proxies), "emits": bounds.emits is not None}
        missing = [word for word, said in {**known, "follows": bounds.follows is not None}.items() if not said]
        if missing:
            parts = ", ".join(f"{word}=[...]" for word in missing)
            notes.append(f"it may do nothing of what it does not say: App({self.name!r}, {parts})")
        return notes

    def _of(self, name: str) -> list[Any]:
        return [annotation for annotation in self._annotations if _name(annotation) == name]


class Process(msgspec.Struct, frozen=True):
    """Apps that run in one process, over one connection: one user of NATS and of the database."""

    apps: tuple[Needs, ...]

    @property
    def name(self) -> str:
        """Who it is."""
        return "-".join(self.names)

    @property
    def names(self) -> list[str]:
        """What its apps are called; two versions of one are called the same."""
        return list(dict.fromkeys(app.name for app in self.apps))

    @property
    def subjects(self) -> Subjects:
        """Under which names."""
        return self.apps[0].subjects


def processes(frozen: Sequence[Frozen], settings: Settings, *, together: bool) -> list[Process]:
    """Return the processes that run these apps: one each, or one for all; versions of one app are who may do what any of them does."""
    found = [Needs(f, settings) for f in frozen]
    if together:
        return [Process(tuple(found))]
    return [Process(tuple(needs for needs in found if needs.name == name)) for name in dict.fromkeys(needs.name for needs in found)]


def _annotations(frozen: Frozen) -> Iterator[Any]:
    signatures = [*(d.signature for d in frozen.declared if d.signature), *(read(function) for function in frozen.others)]
    for signature in signatures:
        for parameter in signature.needs:
            yield parameter.annotation


def _name(annotation: Any) -> str:
    return dotted(key_of(annotation))
