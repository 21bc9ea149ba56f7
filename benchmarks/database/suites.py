"""The comparisons: psycopg by hand against a repository, doing the same thing and returning the same Structs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Annotated, Any
from uuid import UUID

import psycopg
from msgspec import Meta
from psycopg.rows import class_row, dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.database.paired import Table, Work, compare
from cliffracer.context import Context, current
from cliffracer.database import Database, Model, Unique, create_missing
from cliffracer.database.clones import Clones
from cliffracer.database.relay import Relay
from cliffracer.database.templates import cloned
from cliffracer.messaging.bus import connect
from cliffracer.messaging.emitter import Emitter
from cliffracer.messaging.jetstream import JetStream
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects


class Customer(Model):
    __tablename__ = "customers"
    name: Annotated[str, Meta(min_length=1)]
    email: Annotated[str, Meta(pattern="@"), Unique()]
    status: str = "active"
    age: int = 0


@dataclass
class Plain:
    id: UUID
    created_at: datetime
    updated_at: datetime
    name: str
    email: str
    status: str
    age: int


COLUMNS = "id, created_at, updated_at, name, email, status, age"
GET = f"select {COLUMNS} from customers where id = %s"
INSERT = f"insert into customers ({COLUMNS}) values (%s, %s, %s, %s, %s, %s, %s)"
COPY = f"copy customers ({COLUMNS}) from stdin (format binary)"
TYPES = ["uuid", "timestamptz", "timestamptz", "text", "text", "text", "int8"]
_numbers = iter(range(10**9))


def customer() -> Customer:
    return Customer(name="Ada Lovelace", email=f"{next(_numbers)}@example.org", age=36)


def values(row: Customer) -> tuple[Any, ...]:
    return (row.id, row.created_at, row.updated_at, row.name, row.email, row.status, row.age)


def made(row: Any) -> Customer:
    key, created, updated, name, email, status, age = row
    return Customer(id=key, created_at=created, updated_at=updated, name=name, email=email, status=status, age=age)


class Bench:
    """Everything that the contestants use."""

    def __init__(self, url: str, db: Database, pool: "AsyncConnectionPool[Any]") -> None:
        self.url = url
        self.db = db
        self.pool = pool
        self.customers = db.repository(Customer)

    @asynccontextmanager
    async def by_hand(self) -> AsyncIterator["psycopg.AsyncConnection[Any]"]:
        """Lend a connection of our own pool, as plain psycopg."""
        link: Any = self.db.pool.take() or await self.db.pool.acquire()
        link.session.deadline = None
        try:
            yield link.session
        finally:
            self.db.pool.give(link)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Bench]:
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(url, min_size=1, max_size=10, kwargs={"autocommit": True}, open=False)
    async with cloned(url, template="template1") as own, Database.open(own, largest=10) as db:
        pool.conninfo = own
        await create_missing(db, [Customer])
        async with pool:
            yield Bench(own, db, pool)


def repeated(count: int, callers: int, call: Callable[[], Awaitable[Any]]) -> tuple[Work, int]:
    """Return work of ``count`` calls, each with ten seconds left as in a service, by so many callers at once."""

    async def caller(calls: int) -> None:
        for _ in range(calls):
            current.set(Context(deadline=time.monotonic() + 10))
            await call()

    async def work() -> None:
        await asyncio.gather(*(caller(count // callers) for _ in range(callers)))

    return work, count // callers * callers


TURNS, CALLS = 12, 96
"""Single rows are compared in many short turns rather than few long ones: what else happens on the machine falls into some of them only."""


async def one_row(bench: Bench, callers: int, rounds: int) -> list[Table]:
    """Single rows, read and stored."""
    row = await bench.customers.create(customer())

    async def get_by_hand() -> Customer:
        async with bench.by_hand() as connection:
            cursor = await connection.execute(GET, (row.id,))
            return made(await cursor.fetchone())

    async def get_from_pool() -> Customer:
        async with bench.pool.connection() as connection:
            cursor = await connection.execute(GET, (row.id,))
            return made(await cursor.fetchone())

    async def create_by_hand() -> None:
        async with bench.by_hand() as connection:
            await connection.execute(INSERT, values(customer()))

    async def create_from_pool() -> None:
        async with bench.pool.connection() as connection:
            await connection.execute(INSERT, values(customer()))

    async def get() -> Customer:
        return await bench.customers.get(row.id)

    async def create() -> Customer:
        return await bench.customers.create(customer())

    assert await get() == await get_by_hand() == await get_from_pool() == row
    names = ("psycopg by hand, same pool", "psycopg by hand, psycopg_pool", "Repository")
    found = []
    for title, calls in (("get", (get_by_hand, get_from_pool, get)), ("create", (create_by_hand, create_from_pool, create))):
        contestants = {name: repeated(CALLS, callers, call) for name, call in zip(names, calls, strict=True)}
        found.append(await compare(f"{title}, {callers} at once", "one row", contestants, rounds=rounds * TURNS))
    return found


async def connecting(bench: Bench, rounds: int) -> list[Table]:
    """A pooled query against a connection per query."""

    async def connect() -> None:
        async with await psycopg.AsyncConnection.connect(bench.url, autocommit=True) as connection:
            await connection.execute("select 1")

    async def pooled() -> None:
        await bench.db.fetch_value(int, "select 1")

    contestants = {"a connection per query": repeated(80, 8, connect), "Database": repeated(800, 8, pooled)}
    note = "The pool must be at least 4.6 times as fast: clock × 0.22 or less."
    return [await compare("pooled against connecting, 8 at once", "one query", contestants, rounds=rounds, note=note)]


UPSERT = "on conflict (id) do update set name = excluded.name, age = excluded.age"


async def several_rows(bench: Bench, rounds: int) -> list[Table]:
    """The ways in which several rows may go, of which `create_many` takes the first for a few and the last for more."""
    found = []
    async with bench.by_hand() as connection:
        cursor = connection.cursor(binary=True)

        async def at_once(rows: list[Customer], more: str = "") -> None:
            given = [value for row in rows for value in values(row)]
            await cursor.execute(f"{INSERT} {', (%s, %s, %s, %s, %s, %s, %s)' * (len(rows) - 1)} {more}".encode(), given)

        async def pipeline(rows: list[Customer], more: str = "") -> None:
            await cursor.executemany(f"{INSERT} {more}".encode(), [values(row) for row in rows])

        async def copied(rows: list[Customer], _: str = "") -> None:
            async with connection.cursor() as sink, sink.copy(COPY) as copy:
                copy.set_types(TYPES)
                for row in rows:
                    await copy.write_row(values(row))

        def turn(way: Callable[[list[Customer], str], Awaitable[None]], count: int, more: str) -> tuple[Work, int]:
            async def work() -> None:
                for _ in range(400 // count):
                    await way([customer() for _ in range(count)], more)

            return work, 400 // count * count

        for what, more, ways in (("stored", "", (at_once, pipeline, copied)), ("stored or changed", UPSERT, (at_once, pipeline))):
            for count in (4, 32, 200):
                names = ("one INSERT", "a pipeline of INSERTs", "COPY")
                contestants = {name: turn(way, count, more) for name, way in zip(names, ways, strict=False)}
                found.append(await compare(f"{count} rows {what}", "one row", contestants, rounds=rounds * 3))
    return found


async def many_rows(bench: Bench, rounds: int) -> list[Table]:
    """Ten thousand rows in, and a thousand out."""
    total, several = 10_000, 1_000

    async def loop() -> None:
        for _ in range(several):
            await bench.customers.create(customer())

    async def by_hand() -> None:
        rows = [customer() for _ in range(total)]
        async with bench.by_hand() as connection, connection.cursor() as cursor, cursor.copy(COPY) as copy:
            copy.set_types(TYPES)
            for row in rows:
                await copy.write_row(values(row))

    async def create_many() -> None:
        await bench.customers.create_many([customer() for _ in range(total)])

    contestants = {"COPY by hand": (by_hand, total), "create_many": (create_many, total), "a loop of creates": (loop, several)}
    stored = await compare("create_many of 10,000", "one row, made and stored", contestants, rounds=rounds * 3)
    await bench.db.execute("delete from customers")
    await bench.customers.create_many([customer() for _ in range(1000)])
    query = f"select {COLUMNS} from customers order by id"

    async def fetched(factory: Any) -> list[Any]:
        async with bench.by_hand() as connection, connection.cursor(row_factory=factory) as cursor:
            await cursor.execute(query)
            return await cursor.fetchall()

    async def find() -> list[Customer]:
        return await bench.customers.find(order_by="id")

    assert len(await find()) == len(await fetched(class_row(Plain))) == 1000
    contestants = {
        "class_row(dataclass)": repeated(20, 1, lambda: fetched(class_row(Plain))),
        "dict_row": repeated(20, 1, lambda: fetched(dict_row)),
        "Repository.find": repeated(20, 1, find),
    }
    return [stored, await compare("1,000 rows found", "one query", contestants, rounds=rounds)]


FILL = """
insert into cliffracer_outbox (message_id, subject, headers, payload)
select id, 'events.customer.created', jsonb_build_object('Nats-Msg-Id', id), '{"name": "Ada"}'
from (select gen_random_uuid()::text as id from generate_series(1, %s)) as made
"""


async def events(bench: Bench, nats_url: str, rounds: int) -> list[Table]:
    """What an event in a transaction costs, and how fast a relay is."""
    bus = await connect(Settings(nats_url=nats_url), name="benchmark")
    try:
        return [await _events(bench, Emitter(JetStream(bus), Subjects("")), rounds)]
    finally:
        await bus.close()


async def _events(bench: Bench, emitter: Emitter, rounds: int) -> Table:  # noqa: C901 - one small function per contestant
    total = 500

    async def publish(*_: Any) -> None:
        await asyncio.sleep(0)

    async def store(subject: str, payload: bytes, headers: dict[str, str], _: str) -> None:
        await emitter.store(subject, payload, headers)

    relay, relay_to_nats = Relay(bench.db, publish), Relay(bench.db, store)

    async def bare() -> None:
        for _ in range(total):
            async with bench.db.transaction():
                await bench.customers.create(customer())

    async def emitting() -> None:
        for _ in range(total):
            async with bench.db.transaction() as transaction:
                row = await bench.customers.create(customer())
                await transaction.emit("customer.created", b"{}", {"ce-id": str(row.id)}, str(row.id))

    async def relayed() -> None:
        while await relay.pass_once():
            pass

    async def relayed_to_nats() -> None:
        await bench.db.execute(FILL, 4 * total)
        while await relay_to_nats.pass_once():
            pass

    contestants = {
        "transaction, one row": (bare, total),
        "transaction, one row and one event": (emitting, total),
        "relaying one event, to nobody": (relayed, total),
        "relaying one event, stored by NATS": (relayed_to_nats, 4 * total),
    }
    note = (
        "To nobody: the publisher answers at once, so it is the relay's own share; it runs right after the transactions that emitted. "
        f"Stored by NATS: from the outbox into a stream on disk, {4 * total} in a row.\nThe relay keeps up while its clock × is under 1."
    )
    return await in_order(contestants, rounds, note)


async def in_order(contestants: dict[str, tuple[Work, int]], rounds: int, note: str) -> Table:
    """Compare without changing turns, where one contestant works on what another has left."""
    tables = [await compare("events", "one", dict(list(contestants.items())), rounds=1) for _ in range(rounds)]
    merged = tables[0]
    for table in tables[1:]:
        for row, more in zip(merged.rows, table.rows, strict=True):
            row.cpu += more.cpu
            row.wall += more.wall
    merged.title, merged.note = "events with a transaction", note
    return merged


async def clones(url: str, rounds: int) -> str:
    """How long a fresh database per test takes: copied when it is asked for, and taken from a stock by tests of 50 ms."""
    copied, plain, prepared = [], [], []
    for _ in range(rounds * 3):
        began = time.perf_counter()
        async with cloned(url, template="template1"):
            copied.append((time.perf_counter() - began) * 1000)

    def prepare(place: str) -> None:
        async def made() -> None:
            async with Database.open(place) as db:
                await create_missing(db, [Customer])

        asyncio.run(made())

    with Clones(url, template="template1", prefix="bench") as clones:
        await asyncio.sleep(2)
        for purpose, times in (("", plain), ("customers", prepared)):
            for _ in range(rounds * 10):
                began = time.perf_counter()
                mine = await asyncio.to_thread(clones.take, purpose, prepare if purpose else None)
                times.append((time.perf_counter() - began) * 1000)
                async with Database.open(mine) as db:
                    await create_missing(db, [Customer])
                    await db.repository(Customer).create(customer())
                await asyncio.sleep(0.05)
                clones.give(mine)
    named = {"copied when asked for": copied, "of a stock, empty": plain, "of a stock, with its tables": prepared}
    rows = [f"| {how} | {median(took):.1f} | {max(took):.1f} |" for how, took in named.items()]
    note = (
        "The stock has been filled for two seconds before, as it is from the second run of tests on. The disk is synced, as in development."
    )
    return "\n".join(["### a database per test", "", "| | ms, median | worst |", "| --- | --- | --- |", *rows, "", note, ""])
