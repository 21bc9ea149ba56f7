"""Several databases as one."""

# ruff: noqa: PT012 - what raises is in a transaction block

import asyncio
import contextlib
import zlib
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

import msgspec
import pytest

from cliffracer import App
from cliffracer.appdatabase import AppDatabase
from cliffracer.database import Database, Model, Repository, Search, Shard, Unique, create_missing, current_transaction
from cliffracer.database.migrations import apply, status
from cliffracer.database.outbox import lag
from cliffracer.database.relay import relaying
from cliffracer.database.table import table_of
from cliffracer.database.templates import cloned
from cliffracer.errors import Conflict, Internal, InvalidInput, NotFound, SetupError, Unavailable
from cliffracer.testing import running
from tests.database.models import Colour, User
from tests.support.postgres import server
from tests.support.waiting import eventually


class Note(Model):
    """Kept by the tenant that it belongs to."""

    __tablename__ = "notes"
    __shard__ = Shard("tenant")
    tenant: str
    number: int
    text: Annotated[str, Unique()] | None = None


class Item(Model):
    """Kept by its own id."""

    __tablename__ = "items"
    __shard__ = Shard()
    name: Annotated[str, Search()] = ""
    deleted_at: datetime | None = None


@pytest.fixture(scope="session")
def others():
    """Two more servers."""
    with server() as second, server() as third:
        yield second, third


@pytest.fixture
async def urls(postgres, others):
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(cloned(each.url(), template="template1")) for each in (postgres, *others)]


@pytest.fixture
async def db(urls):
    async with Database.open(urls) as opened:
        await create_missing(opened, [Note, Item, User])
        yield opened


TENANTS = [f"tenant {number}" for number in range(12)]


async def filled(db: Database) -> list[Note]:
    """Store sixty rows of twelve tenants."""
    rows = [Note(tenant=TENANTS[number % 12], number=number) for number in range(60)]
    return await db.repository(Note).create_many(rows)


async def test_rows_are_spread_and_found_again(db):
    """Each tenant's rows are on one database, all databases have some, and every row is found by id."""
    rows = await filled(db)
    counts = [await shard.fetch_value(int, "select count(*) from notes") for shard in db.shards]
    assert sum(counts) == 60
    assert all(counts)
    homes = [set(await shard.fetch(str, "select distinct tenant from notes")) for shard in db.shards]
    assert sum(len(home) for home in homes) == 12
    notes = db.repository(Note)
    for row in rows[::7]:
        assert await notes.get(row.id) == row
        assert await db.shard(Note, row.tenant).fetch_value(int, "select number from notes where id = %s", row.id) == row.number
    with pytest.raises(NotFound):
        await notes.get(uuid4())


async def test_rows_by_id_go_straight_to_their_database(db):
    """A model sharded by id asks one database for a row."""
    items = db.repository(Item)
    rows = await items.create_many([Item(name=str(number)) for number in range(30)])
    before = [shard.statistics()["taken_total"] for shard in db.shards]
    assert await items.get(rows[0].id) == rows[0]
    after = [shard.statistics()["taken_total"] for shard in db.shards]
    assert sum(after) - sum(before) == 1


async def test_questions_to_all_are_answered_as_by_one(db):
    """Order, limit, offset, counts and pages over all databases are those of one table."""
    rows = await filled(db)
    notes = db.repository(Note)
    assert [row.number for row in await notes.find(order_by="-number", limit=5, offset=3)] == [56, 55, 54, 53, 52]
    assert [row.number for row in await notes.find(order_by="tenant,-number", limit=2, tenant__in=TENANTS[:2])] == [48, 36]
    assert await notes.count() == 60
    assert await notes.count(tenant=TENANTS[3]) == 5
    assert await notes.exists(number=59)
    assert not await notes.exists(number=60)
    assert (await notes.first(order_by="-number")).number == 59
    assert (await notes.get(number=59)).number == (await notes.get(rows[-1].id, number=59)).number == 59
    seen, cursor = [], None
    while True:
        page = await notes.page(after=cursor, limit=7, order_by="-number")
        seen += [row.number for row in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == list(range(59, -1, -1))
    assert {row.id async for row in notes.stream()} == {row.id for row in rows}
    assert await notes.collected().get_many([row.id for row in rows]) == rows


async def test_all_that_reads_searches_and_looks_at_deleted_rows(db):
    """Over all databases, as on one."""
    items = db.repository(Item)
    rows = sorted(await items.create_many([Item(name=f"{number} cats") for number in range(9)]), key=lambda row: row.id)
    await items.create(Item(name="a dog"))
    gone = rows.pop()
    await items.delete(gone.id)
    assert not await items.exists(search="cat", id=gone.id)
    assert (await items.get(gone.id, deleted=True)).id == gone.id
    assert await items.exists(search="cat", id=gone.id, deleted=True)
    assert not await items.exists(search="dog", id=gone.id, deleted=True)
    seen, cursor = [], None
    while cursor is not None or not seen:
        page = await items.page(search="cat", limit=3, after=cursor)
        seen, cursor = [*seen, *page.items], page.next
    assert seen == rows
    assert len((await items.page(search="cat", deleted=True)).items) == 9
    assert {row.id async for row in items.stream(search="cat")} == {row.id for row in rows}
    assert {row.id async for row in items.stream(search="cat", deleted=True)} == {row.id for row in [*rows, gone]}


async def test_changes_find_their_row(db):
    """Updates, deletes and upserts reach the database that has the row; what decides that cannot change."""
    rows = await filled(db)
    notes = db.repository(Note)
    assert (await notes.update(rows[5].id, text="x")).text == "x"
    rows[6].text = "y"
    assert (await notes.update(rows[6])).text == "y"
    assert (await notes.upsert(rows[7])).id == rows[7].id
    await notes.delete(rows[8].id)
    with pytest.raises(NotFound):
        await notes.get(rows[8].id)
    assert await notes.update_many({"text": None}, number__lt=10) == 9
    assert await notes.delete_many(number__gte=30) == 30
    for act in (lambda: notes.update(rows[5].id, tenant="other"), lambda: notes.update_many({"tenant": "x"}, number=1)):
        with pytest.raises(InvalidInput):
            await act()


async def test_transaction_belongs_to_one_database(db):
    """A tenant's rows change together; another database's row is refused, and everything is rolled back."""
    rows = await filled(db)
    notes = db.repository(Note)
    first = rows[0]
    elsewhere = next(row for row in rows if db.shard(Note, row.tenant) is not db.shard(Note, first.tenant))
    async with db.transaction() as transaction:
        assert current_transaction(db) is transaction
        await notes.update_many({"text": None, "number": 1000}, tenant=first.tenant)
        assert await notes.count(tenant=first.tenant, number=1000) == 5
        assert await asyncio.create_task(notes.count(tenant=first.tenant, number=1000)) == 0
    assert await notes.count(number=1000) == 5
    with pytest.raises(SetupError, match="no transaction spans two"):
        async with db.transaction():
            await notes.update_many({"number": 2000}, tenant=first.tenant)
            await notes.update_many({"number": 2000}, tenant=elsewhere.tenant)
    assert await notes.count(number=2000) == 0
    with pytest.raises(SetupError, match="must say whose rows"):
        async with db.transaction():
            await notes.count()


async def test_values_that_can_be_read_once_are_read_for_every_database(db):
    """A generator of values is looked for in all of them, not in the first alone."""
    await filled(db)
    notes = db.repository(Note)
    assert await notes.count(number__in=(number for number in range(50))) == 50
    assert len(await notes.find(tenant__in=iter(TENANTS), number__in=iter(range(50)))) == 50
    assert len((await notes.page(number__in=iter(range(50)))).items) == 50
    assert await notes.delete_many(number__in=iter(range(50))) == 50


async def test_a_row_of_another_model_is_told_as_such(db):
    """As on one database."""
    notes, item = db.repository(Note), Item(name="x")
    for act in (notes.create, notes.upsert, notes.update, lambda row: notes.create_many([row])):
        with pytest.raises(SetupError, match="A Item was given where a Note is stored"):
            await act(item)


async def test_what_waits_for_the_commit_hears_of_it(db):
    """Functions registered before and after the database is known are called once, at the commit."""
    heard: list[str] = []
    async with db.transaction() as transaction:
        transaction.after_commit(lambda: heard.append("early"))
        await db.repository(Note).create(Note(tenant="t", number=1))
        transaction.after_commit(lambda: heard.append("late"))
        assert heard == []
    async with db.transaction() as transaction:
        transaction.after_commit(lambda: heard.append("idle"))
    assert heard == ["early", "late", "idle"]


async def test_what_waits_in_a_savepoint_that_is_undone_never_hears_of_it(db):
    """Whether the database was known before it, became known in it, or never."""
    heard: list[str] = []
    for stored in (0, 1, 2):
        async with db.transaction():
            if stored == 1:
                await db.repository(Note).create(Note(tenant="t", number=1))
            with pytest.raises(ZeroDivisionError):
                async with db.transaction() as inner:
                    if stored == 2:
                        await db.repository(Note).create(Note(tenant="t", number=2))
                    inner.after_commit(lambda: heard.append("undone"))
                    raise ZeroDivisionError
    assert heard == []


async def test_savepoint_in_a_sharded_transaction(db):
    """A nested block is undone alone."""
    notes = db.repository(Note)
    async with db.transaction():
        await notes.create(Note(tenant="t", number=1, text="x"))
        with pytest.raises(Conflict):
            async with db.transaction():
                await notes.create(Note(tenant="t", number=2))
                await notes.create(Note(tenant="t", number=3, text="x"))
        await notes.create(Note(tenant="t", number=4))
    assert [row.number for row in await notes.find(tenant="t", order_by="number")] == [1, 4]


async def test_what_is_around_and_before_the_first_row_goes_with_it(db):
    """Savepoints, events and marks of the inbox wait until a row says on which database they are, and are undone with what they are in."""
    notes = db.repository(Note)
    tenant = next(tenant for tenant in TENANTS if db.shard(Note, tenant) is db.shards[2])
    async with db.transaction() as transaction:
        assert await transaction.first_time("consumer", "event")
        await transaction.emit("kept", b"", {}, "kept")
        with pytest.raises(ZeroDivisionError):
            async with db.transaction():
                await transaction.emit("undone", b"", {}, "undone early")
                raise ZeroDivisionError
        async with db.transaction():
            await transaction.emit("kept", b"", {}, "kept too")
        with pytest.raises(ZeroDivisionError):
            async with db.transaction():
                await transaction.emit("undone", b"", {}, "undone")
                await notes.create(Note(tenant=tenant, number=1))
                raise ZeroDivisionError
        await notes.create(Note(tenant=tenant, number=2))
        with pytest.raises(SetupError, match="no transaction spans two"):
            await notes.create(Note(tenant=next(each for each in TENANTS if db.shard(Note, each) is db.shards[0]), number=3))
    assert [row.number for row in await notes.find()] == [2]
    assert await db.shards[2].fetch(str, "select message_id from cliffracer_outbox order by id") == ["kept", "kept too"]
    async with db.transaction() as transaction:
        assert not await transaction.first_time("consumer", "event")
    async with db.transaction() as transaction:
        assert await transaction.first_time("consumer", "of nothing")
        await transaction.emit("alone", b"", {}, "alone")
    assert await db.shards[0].fetch(str, "select event_id from cliffracer_inbox") == ["of nothing"]
    assert await db.shards[0].fetch(str, "select message_id from cliffracer_outbox") == ["alone"]


async def test_first_row_that_is_given_up_keeps_nothing(db):
    """A time-out that falls between the savepoints, events and marks before a row leaves no transaction with some of them."""
    limit = asyncio.timeout(None)

    async def slow(_: object) -> None:
        limit.reschedule(0.0)
        await asyncio.sleep(60)

    with pytest.raises(Internal, match="rolled back"):
        async with db.transaction() as transaction:
            await transaction.emit("first", b"", {}, "first")
            await transaction._when_bound(slow)
            await transaction.emit("second", b"", {}, "second")
            with contextlib.suppress(TimeoutError):
                async with limit:
                    await db.repository(Note).create(Note(tenant="t", number=1))
    for shard in db.shards:
        assert await shard.fetch_value(int, "select count(*) from cliffracer_outbox") == 0


async def test_events_of_a_batch_are_marked_where_their_rows_are(db):
    """Those that any database has the mark of are left out, and none is marked that the handler took out."""
    keeping, notes = AppDatabase(db), db.repository(Note)
    async with keeping.each_once("consumer", ["one", "two"]) as fresh:
        assert fresh == {"one", "two"}
        await notes.create(Note(tenant="tenant 5", number=1))
        fresh.discard("two")
    async with keeping.each_once("consumer", ["one", "two", "three"]) as fresh:
        assert fresh == {"two", "three"}
    async with keeping.each_once("other", ["one"]) as fresh:
        assert fresh == {"one"}
        fresh.clear()
    async with keeping.each_once("consumer", ["two", "three"]) as fresh:
        assert fresh == set()


async def test_batch_whose_event_somebody_else_handled_meanwhile_leaves_nothing(db):
    """It is tried again, without that one."""
    keeping, notes = AppDatabase(db), db.repository(Note)
    with pytest.raises(Unavailable):
        async with keeping.each_once("consumer", ["one", "two"]) as fresh:
            await notes.create(Note(tenant="tenant 5", number=1))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_handle(keeping, notes, "two"))
    assert await notes.count() == 1
    async with keeping.each_once("consumer", ["one", "two"]) as fresh:
        assert fresh == {"one"}


async def _handle(keeping, notes, event):
    async with keeping.once("consumer", event) as first:
        assert first
        await notes.create(Note(tenant="tenant 5", number=2))


async def test_event_that_is_delivered_twice_at_once_has_its_effect_once(db):
    """Of two that handle it at the same moment the later one is stopped at its first row, and nothing of it is kept, swallowed or not."""
    notes = db.repository(Note)
    keeping = AppDatabase(db)
    both = asyncio.Barrier(2)

    async def handle(number: int) -> bool:
        async with keeping.once("consumer", "event") as first:
            if first:
                await both.wait()
                with contextlib.suppress(Unavailable):
                    await notes.create(Note(tenant="tenant 5", number=number))
        return first

    assert await asyncio.gather(*(asyncio.create_task(handle(number)) for number in range(2))) == [True, True]
    assert await notes.count() == 1
    assert sum([await shard.fetch_value(int, "select count(*) from cliffracer_inbox") for shard in db.shards]) == 1
    await db.shards[1].pool.close()
    assert not await handle(2)  # one that is away is not waited for


async def test_batch_goes_to_all_databases_or_to_none(db):
    """Rows of all tenants are gathered and stored together; an error undoes those of every database."""
    notes = db.repository(Note)
    async with db.batch(10) as batch:
        for number in range(25):
            await batch.create(Note(tenant=TENANTS[number % 12], number=number))
    assert await notes.count() == 25
    assert all([await shard.fetch_value(int, "select count(*) from notes") for shard in db.shards])
    with pytest.raises(Conflict):
        async with db.batch(5) as batch:
            for number in range(12):
                await batch.create(Note(tenant=TENANTS[number], number=number))
            for _ in range(2):
                await batch.create(Note(tenant="t", number=0, text="the same"))
    assert await notes.count() == 25
    async with db.transaction():
        await notes.create(Note(tenant="t", number=0))
        async with db.batch() as batch:
            await batch.create(Note(tenant="t", number=1))
    assert await notes.count(tenant="t") == 2


async def test_unsharded_models_and_plain_sql_are_at_home(db):
    """What is not sharded is kept by the first database, inside and outside of transactions."""
    users = db.repository(User)
    async with db.transaction():
        await users.create(User(name="a", email="a@x"))
        assert await db.fetch_value(int, "select count(*) from users") == 1
    assert await users.count() == 1
    assert await db.shards[0].fetch_value(int, "select count(*) from users") == 1


async def test_events_go_through_the_transaction_s_database(db):
    """Each database has its outbox, and all of them are relayed."""
    notes = db.repository(Note)
    published: list[str] = []

    async def publish(_subject: str, _payload: bytes, _headers: dict[str, str], message_id: str) -> None:
        published.append(message_id)

    for number, tenant in enumerate(TENANTS):
        async with db.transaction() as transaction:
            await notes.create(Note(tenant=tenant, number=number))
            await transaction.emit("noted", b"", {}, tenant)
    assert (await lag(db)).pending == 12
    assert all([await shard.fetch_value(int, "select count(*) from cliffracer_outbox") for shard in db.shards])
    async with relaying(db, publish):
        await eventually(lambda: len(published) == 12)
    async with db.transaction() as transaction:
        await notes.count(tenant=TENANTS[0])
        assert await transaction.first_time("c", "e")
    async with db.transaction() as transaction:
        await notes.count(tenant=TENANTS[0])
        assert not await transaction.first_time("c", "e")


async def test_migrations_reach_every_database(db, tmp_path):
    """A migration is applied to each, and one that is behind shows."""
    (tmp_path / "1_t.sql").write_text("create table t (a int)")
    assert await apply(db, tmp_path) == ["1_t"]
    assert [entry.state for entry in await status(db, tmp_path)] == ["applied"]
    await db.shards[2].execute("delete from cliffracer_migrations")
    assert [entry.state for entry in await status(db, tmp_path)] == ["pending"]


async def test_one_database_away_fails_its_rows_only(db):
    """With one of them out of reach, rows of the others are served."""
    rows = await filled(db)
    notes = db.repository(Note)
    await db.shards[1].pool.close()
    for row in rows:
        if db.shard(Note, row.tenant) is db.shards[1]:
            with pytest.raises(Unavailable):
                await notes.count(tenant=row.tenant)
        else:
            assert await notes.count(tenant=row.tenant) == 5
    with pytest.raises(Unavailable):
        await notes.count()


async def test_sharded_model_is_not_looked_for_at_home(db):
    """A repository that does not know of the other databases is refused, rather than answer with a part."""
    with pytest.raises(SetupError, match="several databases"):
        await Repository(db, Note).find()


def test_place_is_stable():
    """The same value has the same place in every process."""
    assert Shard("x").place("tenant", 7) == zlib.crc32(b"tenant") % 7
    assert Shard("x").place(23, 7) == 2
    assert Shard("x", by=len).place("four", 3) == 1
    assert Shard("x").place(UUID(int=10), 4) == 2


def test_shard_field_must_be_declared():
    """A shard over a field that is not there is a set-up error."""

    class Lost(Model):
        __shard__ = Shard("nosuch")

    with pytest.raises(SetupError, match="nosuch"):
        table_of(Lost)


async def test_a_service_has_its_rows_on_all_of_them(urls):
    """What is provided, and what `app.repository` gives, reach the same databases; health counts the connections to all."""
    app = App("s")
    notes = app.repository(Note)

    @app.rpc
    async def add(tenant: str, *, given: Repository[Note]) -> str:
        return (await given.create(Note(tenant=tenant, number=1))).tenant

    @app.get("/count")
    async def count() -> int:
        return await notes.count()

    async with running(app, database_urls=tuple(urls)) as t:
        for tenant in TENANTS:
            await t.call("add", tenant=tenant)
        assert (await t.http.get("/count")).json() == len(await notes.find()) == len(TENANTS)
        assert (await notes.first(tenant=TENANTS[0])).tenant == TENANTS[0]
        detailed = (await t.http.get("/health/detailed")).json()
        assert detailed["pool"]["size"] >= 3
        assert detailed["outbox"]["pending"] == 0
        (database,) = app.databases
        database.shards[1].pool.busy = database.shards[1].fetch_value = _away
        detailed = (await t.http.get("/health/detailed")).json()
        assert (detailed["status"], detailed["database"]) == ("degraded", "connected")
        assert detailed["checks"]["database 1"] == {"status": "away", "critical": False}
        assert (await t.http.get("/health/ready")).status_code == 200
    async with Database.open(urls[0]) as first:
        assert 0 < await first.repository(Note).count() < len(TENANTS)


def _away(*_: object) -> bool:
    raise Unavailable("away")


async def test_one_database_serves_a_sharded_model_too(urls):
    """In development there is one; the same declarations work."""
    app = App("s")
    notes = app.repository(Note)
    async with running(app, database_url=urls[0]):
        made = await notes.create(Note(tenant="a", number=1))
        assert await notes.get(made.id) == made
        assert [row.number for row in (await notes.page(order_by="number")).items] == [1]


async def test_row_that_is_refused_is_counted_among_all(db):
    """Over several databases too the index is that of the row as it was given."""
    rows = [Note(tenant=TENANTS[number % 12], number=number) for number in range(40)]
    rows[17].number = 2**63
    rows[29] = Note(tenant=rows[17].tenant, number=2**63)
    with pytest.raises(InvalidInput) as caught:
        await db.repository(Note).create_many(rows)
    assert caught.value.details["index"] == 17


@pytest.mark.parametrize("wrong", [{"limit": "5"}, {"limit": 5, "offset": -3}, {"offset": -1}, {"offset": 1.5}])
async def test_rows_of_several_databases_are_counted_by_whole_numbers(db, wrong):
    """As over one, anything else is InvalidInput that names which."""
    with pytest.raises(InvalidInput) as caught:
        await db.repository(Note).find(**wrong)
    assert caught.value.errors[0]["path"] == list(wrong)[-1]


class Pot(Model):
    __tablename__ = "pots"
    __shard__ = Shard("owner")
    owner: str
    colour: Colour
    weight: float
    extra: dict[str, int] = msgspec.field(default_factory=dict)


async def test_rows_are_merged_by_whatever_orders_them(db):
    """By an Enum, and by numbers of which some are none, as one database would; by a document is refused."""
    await create_missing(db, [Pot])
    pots = db.repository(Pot)
    weights = [float(text) for text in ("nan", "1", "inf", "-inf", "2", "nan")]
    await pots.create_many([Pot(owner=f"o{place}", colour=list(Colour)[place % 2], weight=each) for place, each in enumerate(weights)])
    assert [row.colour for row in await pots.find(order_by="colour")] == [Colour.BLUE] * 3 + [Colour.RED] * 3
    assert [row.colour for row in (await pots.page(order_by="-colour", limit=4)).items] == [Colour.RED] * 3 + [Colour.BLUE]
    assert [str(row.weight) for row in await pots.find(order_by="weight")] == ["-inf", "1.0", "2.0", "inf", "nan", "nan"]
    seen, cursor = [], None
    for _ in range(6):
        page = await pots.page(after=cursor, limit=1, order_by="-weight")
        seen += [str(row.weight) for row in page.items]
        cursor = page.next
    assert (seen, cursor) == (["nan", "nan", "inf", "2.0", "1.0", "-inf"], None)
    with pytest.raises(InvalidInput, match="document"):
        await pots.find(order_by="extra")
