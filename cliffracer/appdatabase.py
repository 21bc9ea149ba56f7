"""The database of running apps: opened once for all of them, given to handlers as Database, Transaction or Repository."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from cliffracer.calling import Emission
from cliffracer.context import Context, current
from cliffracer.database import Database, Model, Repository, Transaction, current_transaction
from cliffracer.database.diagnostics import ailments
from cliffracer.database.folders import FOLDER, is_ours
from cliffracer.database.outbox import Handled, lag
from cliffracer.database.reading import only_reads
from cliffracer.database.relay import relaying
from cliffracer.errors import ServiceError, SetupError, Unavailable
from cliffracer.frozen import Frozen
from cliffracer.injection import PerCall
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.claimcheck import check_size
from cliffracer.messaging.emitter import Emitter
from cliffracer.observability.health import KEPT, Health
from cliffracer.settings import Settings
from cliffracer.signature import bare, dotted, read
from cliffracer.targets import command
from cliffracer.wire.headers import MESSAGE_ID

if TYPE_CHECKING:  # a type of what is imported outside production only
    from cliffracer.database.development import Purpose

M = TypeVar("M", bound=Model)
log = logging.getLogger("cliffracer.database")

DUE = "Cliffracer-Due"
"""A header in rows of the outbox: when a delayed event is due, POSIX seconds; removed before it is published."""
FRESH = 1.0
"""Seconds for which figures of the outbox are cached, and which their query may take: anybody may ask for health at any rate."""

BUSY = 5.0
"""Seconds without a connection coming back after which a database is no longer busy but stuck."""


class AppDatabase:
    """The open database, as the runtime and its services use it."""

    def __init__(self, database: Database, *, largest: int = Bus.largest, reads: bool = False) -> None:
        self.database = database
        self._reads = reads
        """Whether it is for reading only on purpose: there are no commits whose events wait."""
        self._largest = largest
        self._outbox: Mapping[str, float] = {}
        self._asked = float("-inf")
        self._opened = time.monotonic()

    def given(self) -> dict[str, Any]:
        """Return, by dotted name of a type, what gives a handler its value for an annotation with that type."""
        database = self.database
        return {
            "cliffracer.database.database.Database": lambda _: database,
            "cliffracer.database.transaction.Transaction": lambda _: PerCall(open=lambda _call: database.transaction()),
            "cliffracer.database.repository.Repository": lambda annotation: database.repository(_model_of(annotation)),
        }

    def transaction(self) -> Transaction | None:
        """Return the transaction that this task has open; None without one, and in a thread."""
        try:
            return current_transaction(self.database)
        except RuntimeError:  # no event loop here
            return None

    async def joined(self, emission: Emission, subject: str, payload: bytes, headers: Mapping[str, str]) -> bool:
        """Store a durable message with the transaction that this task has open, and say whether there is one."""
        transaction = current_transaction(self.database)
        if transaction is None:
            return False
        check_size(payload, self._largest)  # now: when the outbox is relayed, there is no caller left to tell
        at = time.time() + emission.delay if emission.delay is not None else emission.at
        named = dict(headers) if at is None else {**headers, DUE: repr(at)}
        await transaction.emit(subject, payload, named, headers[MESSAGE_ID], emission.key)
        return True

    async def waiting(self) -> int:
        """Return how many events of committed transactions are not published yet."""
        return 0 if self._reads else (await lag(self.database)).pending

    async def figures(self) -> dict[str, Mapping[str, float]]:
        """Return figures of the pool and of the outbox; the outbox's are at most a second old, and left out while it cannot be asked."""
        if not self._reads and time.monotonic() - self._asked >= FRESH:
            self._asked = time.monotonic()
            self._outbox = await self._ask()
        found: dict[str, Mapping[str, float]] = {"pool": self.database.statistics()}
        if self._outbox:
            found["outbox"] = self._outbox
        return found

    async def answers(self) -> bool:
        """Say whether the database answers; of several, whether any does: the others are served while one is away."""
        asked = [asyncio.create_task(_answers(shard)) for shard in self.database.shards]
        trouble: ServiceError | None = None
        try:
            for first in asyncio.as_completed(asked):
                try:
                    return await first
                except ServiceError as error:
                    trouble = error
        finally:
            for task in asked:
                task.cancel()
        raise trouble or Unavailable("no database is set")

    async def stores(self) -> bool:
        """Say that the database takes changes; `Unavailable` where one is read-only, or refused some of late for want of something."""
        if refused := ailments.since(self._opened):
            raise Unavailable(refused)
        for shard in self.database.shards:
            if not shard.pool.busy(BUSY) and await shard.fetch_value(str, "show transaction_read_only") == "on":
                raise Unavailable("it is read-only, as a standby is")
        return True

    async def _ask(self) -> dict[str, float]:
        before = current.set(Context(deadline=time.monotonic() + FRESH))
        try:
            found = await lag(self.database)
        except ServiceError:
            return {}
        finally:
            current.reset(before)
        published = sum(relay.published for shard in self.database.shards for relay in shard.relays)
        return {"pending": found.pending, "oldest_seconds": round(found.oldest, 3), "parked": found.parked, "published_total": published}

    @asynccontextmanager
    async def once(self, consumer: str, event_id: str) -> AsyncIterator[bool]:
        """Open a transaction in which an event is marked as handled; False if it was before, so that nothing is left to do."""
        try:
            async with self.database.transaction() as transaction:
                yield await transaction.first_time(consumer, event_id)
        except Handled:
            return  # it was delivered twice at once, and the other transaction has handled it

    @asynccontextmanager
    async def each_once(self, consumer: str, event_ids: Collection[str]) -> AsyncIterator[set[str]]:
        """Open a transaction for several events: gives those not handled before, and marks those that are left of them when it ends."""
        async with self.database.transaction() as transaction:
            fresh = set(event_ids) - await transaction.marked(consumer, event_ids)
            yield fresh
            await transaction.mark_each(consumer, fresh)

    def relaying(self, emitter: Emitter) -> AbstractAsyncContextManager[Any]:
        """Publish what transactions of this database emit, while the block runs."""
        if self._reads:
            return nullcontext()

        async def publish(subject: str, payload: bytes, headers: dict[str, str], message_id: str) -> None:
            due = headers.pop(DUE, None)
            if due is None:
                await emitter.store(subject, payload, headers)
            else:
                await emitter.store_later(subject, payload, headers, at=float(due), event_id=message_id)

        return relaying(self.database, publish, able=lambda: emitter.connected)


@asynccontextmanager
async def opened(homes: Sequence[list[Any]], frozen: Sequence[Frozen], settings: Settings, health: Health) -> AsyncIterator[AppDatabase]:
    """Open the pool while the block runs, and put it into ``homes``, the lists in which the apps look for it.

    Outside production its tables are brought up to date first; in production never.
    """
    async with Database.open(settings, name="+".join(f.name for f in frozen), wait=settings.wait) as database:
        reads = await only_reads(database)
        if reads:
            log.info("the database is for reading only, as its address or its user says: no tables are made, no events leave it")
        if not reads and settings.env != "production":
            from cliffracer.database.development import prepare  # noqa: PLC0415 - in production nothing is made

            await prepare(database, models_of(frozen), _purpose(settings), planning=command("db plan", [f.name for f in frozen]))
        elif is_ours(FOLDER):
            from cliffracer.database.migrations import remind  # noqa: PLC0415 - only where there are some

            await remind(database)
        mine = AppDatabase(database, largest=settings.nats_max_message, reads=reads)
        health.add("database", mine.answers, kept=KEPT)
        for place, shard in enumerate(database.shards) if len(database.shards) > 1 else ():
            health.add(f"database {place}", partial(_answers, shard), critical=False, kept=KEPT)
        if not reads:
            health.add("database writes", mine.stores, critical=False, kept=KEPT)
        health.figures = mine.figures
        for home in homes:
            home.append(database)
        try:
            yield mine
        finally:
            for home in homes:
                home.remove(database)


def _purpose(settings: Settings) -> "Purpose":
    if settings.env == "test":
        return "test"
    return "embedded" if settings.origin("database_url").place == "embedded" else "development"


async def _answers(database: Database) -> bool:
    """Say whether one database answers. A busy one counts as answering: only calls that wait for it fail, not all others."""
    return database.pool.busy(BUSY) or await database.fetch_value(int, "select 1") == 1


def models_of(frozen: Sequence[Frozen]) -> list[type[Model]]:
    """Return the models that apps keep, each once, in order of first mention."""
    found: dict[type[Model], None] = {}
    for app in frozen:
        signatures = [*(d.signature for d in app.declared if d.signature), *(read(function) for function in app.others)]
        for signature in signatures:
            for parameter in signature.needs:
                if dotted(bare(parameter.annotation)) == "cliffracer.database.repository.Repository":
                    found[_model_of(parameter.annotation)] = None
        found.update(dict.fromkeys(app.models))
    return list(found)


def repository_of(name: str, home: list[Any], model: type[M]) -> Repository[M]:
    """Return a repository that uses the database of the app of that name; it is in ``home`` while the app runs."""
    database: Any = _DatabaseOf(name, home)  # it stands in for the one that is open later, whether that is one or several
    if model.__shard__ is None:
        return Repository(database, model)
    from cliffracer.database.scattered import ScatteredRepository  # noqa: PLC0415 - only who has shards needs it

    return ScatteredRepository(database, model)


class _DatabaseOf:
    """Stands for the database that an app has while it runs."""

    def __init__(self, name: str, home: list[Any]) -> None:
        self._name = name
        self._home = home

    def __getattr__(self, name: str) -> Any:
        if not self._home:
            raise SetupError(f"{self._name} is not running, so its database is not open. Use it in a handler, or while the app runs.")
        return getattr(self._home[-1], name)


def _model_of(annotation: Any) -> type[Any]:
    given = get_args(bare(annotation))
    if not given:
        raise SetupError("Repository needs a model: write Repository[User].")
    model: type[Any] = given[0]
    return model
