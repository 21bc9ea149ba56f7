"""Many rows and many calls at once."""

# ruff: noqa: PT012 - what raises is the end of a block

import asyncio
from uuid import uuid4

import psycopg
import pytest

from cliffracer.database import Database, Unique, create_missing
from cliffracer.errors import Conflict, DeadlineExceeded, InvalidInput, NotFound, ServiceError
from tests.database.models import Document, User
from tests.database.support import calling
from tests.support.waiting import eventually


@pytest.fixture
async def users(db: Database):
    await create_missing(db, [User, Document])
    return db.repository(User)


def some(count: int) -> list[User]:
    return [User(name=f"n{number}", email=f"u{number}@x", age=number % 5) for number in range(count)]


async def test_reads_of_one_moment_are_one_query(db, users):
    """A hundred concurrent gets cost one query, and each caller has its own row, or its own NotFound."""
    rows = await users.create_many(some(60))
    together = users.collected()
    before = db.statistics()["taken_total"]
    missing = uuid4()
    gets = [together.get(key) for key in (*(row.id for row in rows), str(rows[0].id), missing)]
    results = await asyncio.gather(*gets, return_exceptions=True)
    assert db.statistics()["taken_total"] == before + 1
    assert results[:60] == rows
    assert results[60] == rows[0]
    assert isinstance(results[61], NotFound)
    assert await together.get_many([rows[3].id, rows[1].id]) == [rows[3], rows[1]]
    with pytest.raises(InvalidInput):
        await together.get("no key")


async def test_collected_reads_are_cut_to_size(db, users):
    """More rows than fit into one query are several."""
    rows = await users.create_many(some(25))
    together = users.collected(size=10)
    before = db.statistics()["taken_total"]
    assert await together.get_many([row.id for row in rows]) == rows
    assert db.statistics()["taken_total"] == before + 3


async def test_collected_reads_leave_when_they_must(db, users):
    """One caller's cancellation or spent deadline does not take the others' row away; an error reaches all."""
    (row,) = await users.create_many(some(1))
    together = users.collected()
    tasks = [asyncio.create_task(together.get(row.id)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert (await asyncio.gather(*tasks, return_exceptions=True))[1:] == [row, row]
    async with db.transaction():
        await db.execute("lock table users in access exclusive mode")

        async def impatient() -> User:
            with calling(0.1):
                return await together.get(row.id)

        late, patient = asyncio.create_task(impatient()), asyncio.create_task(together.get(row.id))
        with pytest.raises(DeadlineExceeded):
            await late
        assert not patient.done()
    assert await patient == row
    await db.execute("drop table users cascade")
    results = await asyncio.gather(*(together.get(row.id) for _ in range(2)), return_exceptions=True)
    assert all(type(result).__name__ == "Internal" for result in results)


async def test_collected_read_in_a_transaction_sees_it(db, users):
    """Inside a transaction a get is its own query, and sees what the transaction has written."""
    together = users.collected()
    async with db.transaction():
        (row,) = await users.create_many(some(1))
        assert await together.get(row.id) == row


async def test_batch_stores_in_steps_and_as_a_whole(db, users):
    """Rows of two models are stored by size, and none of them if the block raises."""
    async with db.batch(size=10) as batch:
        for row in some(25):
            await batch.create(row)
            await batch.create(Document(title=row.name, body=""))
        assert batch.stored == 50
        await batch.create(User(name="last", email="last@x"))
    assert batch.stored == 51
    assert await users.count() == 26
    with pytest.raises(Conflict):
        async with db.batch() as batch:
            await batch.create(User(name="new", email="new@x"))
            await batch.create(User(name="again", email="last@x"))
    assert await users.count() == 26


async def test_update_and_delete_many(db, users):
    """All rows that meet the filters are changed or deleted, and counted; no filter at all is refused."""
    await users.create_many(some(20))
    assert await users.update_many({"status": "old", "name": "x"}, age__gte=3) == 8
    assert {row.name for row in await users.find(status="old")} == {"x"}
    assert await users.delete_many(status="old", age=4) == 4
    assert await users.count() == 16
    for act in (lambda: users.update_many({"status": "x"}), users.delete_many):
        with pytest.raises(InvalidInput):
            await act()
    with pytest.raises(InvalidInput):
        await users.update_many({"name": None}, age=1)


async def test_many_are_deleted_softly_where_rows_stay(db, users):
    """delete_many only marks the rows of a model with deleted_at, unless told otherwise."""
    documents = db.repository(Document)
    await documents.create_many([Document(title=f"t{number}", body="") for number in range(10)])
    assert await documents.delete_many(title__in=["t1", "t2"]) == 2
    assert await documents.count() == 8
    assert await documents.count(deleted=True) == 10
    assert await documents.delete_many(forever=True, title__startswith="t") == 10
    assert await documents.count(deleted=True) == 0


async def test_repository_streams_all_rows(db, users):
    """Every row that meets the filters is yielded, in order, and the connection is given back."""
    await users.create_many(some(1200))
    ages = [row.age async for row in users.stream(order_by="age", size=100, age__gte=2)]
    assert len(ages) == 720
    assert ages == sorted(ages)
    await eventually(lambda: db.statistics()["used"] == 0)


@pytest.fixture
async def secured(db: Database, users, url: str):
    """Open the database as somebody under row-level security, who sees and stores rows of status ``mine`` only."""
    name = f"tenant_{uuid4().hex[:8]}"
    async with db.transaction():
        for text in (
            "create role {0} login",
            "grant all on users to {0}",
            "alter table users enable row level security",
            "create policy own on users to {0} using (status = 'mine')",
        ):
            await db.execute(psycopg.sql.SQL(text).format(psycopg.sql.Identifier(name)))
    async with Database.open(url.replace("postgres@", f"{name}@", 1)) as theirs:
        yield theirs
    await db.execute(psycopg.sql.SQL("drop owned by {}").format(psycopg.sql.Identifier(name)))
    await db.execute(psycopg.sql.SQL("drop role {}").format(psycopg.sql.Identifier(name)))


async def test_many_rows_are_stored_under_row_level_security(secured, users):
    """Where COPY is refused, INSERTs of hundreds take its place: all rows or none, in a transaction and outside of one."""
    theirs = secured.repository(User)
    for size in (3, 8, 1200):
        mine = [User(name="x", email=f"{size}.{number}@x", status="mine") for number in range(size)]
        assert await theirs.create_many(mine) == mine
    wrong = [User(name="x", email=f"w{number}@x", status="mine") for number in range(600)]
    wrong[555].name = ""
    for _ in range(2):
        with pytest.raises(InvalidInput) as caught:
            await theirs.create_many(wrong)
        assert caught.value.details["index"] == 555
    async with secured.transaction():
        with pytest.raises(InvalidInput):
            await theirs.create_many(wrong)
        await theirs.create_many(some_of("mine"))
    with pytest.raises(ServiceError):
        await theirs.create_many(some_of("somebody else's"))
    assert await theirs.count() == await users.count() == 3 + 8 + 1200 + 20


async def test_key_given_twice_is_named_under_row_level_security(secured):
    """The server keeps values from whoever is under it; the row with another one's key is still found."""
    for size in (4, 20):
        rows = some_of("mine")[:size]
        rows[3].email = rows[1].email
        with pytest.raises(Conflict) as caught:
            await secured.repository(User).create_many(rows)
        assert caught.value.details["index"] == 3


async def test_empty_key_is_not_taken_for_one_given_twice_under_row_level_security(secured, users, db):
    """Rows without a value contradict nobody: of those that are refused with them, the one that does is named."""
    await db.execute("alter table users add constraint users_age_key unique (age)")
    rows = some_of("mine")[:5]
    rows[2].age = rows[4].age = 7
    with pytest.raises(Conflict) as caught:
        await secured.repository(User).create_many(rows)
    assert caught.value.details["index"] == 4


async def test_row_that_need_not_differ_is_not_named_under_row_level_security(secured, users, db):
    """Of a key with a condition the server tells neither values nor whom it holds for; the row that contradicts another is still found."""

    class Called(User):
        __tablename__ = "users"
        __indexes__ = (Unique("name", where="age IS NULL"),)

    await db.execute("create unique index users_name_key on users (name) where age is null")
    for size in (4, 20):
        rows = [Called(name=f"{max(3, n)}", email=f"{n}@x", status="mine", age=7 if n < 2 else None) for n in range(size)]
        with pytest.raises(Conflict) as caught:
            await secured.repository(Called).create_many(rows)
        assert caught.value.details["index"] == 3


async def test_key_that_a_hidden_row_has_is_named_under_row_level_security(secured, users):
    """Neither the server nor the rows tell which one it is: they are tried, and none of them is kept."""
    await users.create(User(name="x", email="hidden@x", status="another's"))
    theirs = secured.repository(User)
    for size, place in ((4, 2), (20, 3), (600, 555)):
        rows = [User(name="x", email=f"{number}@x", status="mine") for number in range(size)]
        rows[place].email = "hidden@x"
        with pytest.raises(Conflict) as caught:
            await theirs.create_many(rows)
        assert caught.value.details["index"] == place
    async with secured.transaction():
        with pytest.raises(Conflict) as caught:
            await theirs.create_many(rows)
        assert caught.value.details["index"] == 555
        await theirs.create_many(some_of("mine"))
    assert await theirs.count() == 20


def some_of(status: str) -> list[User]:
    return [User(name="x", email=f"{status}{number}@x", status=status) for number in range(20)]


async def test_row_level_security_that_comes_later_is_noticed(secured, users, db):
    """A table that was copied into before refuses once, and is stored into from then on."""
    await db.execute("alter table users disable row level security")
    theirs = secured.repository(User)
    await theirs.create_many(some_of("mine"))
    await db.execute("alter table users enable row level security")
    rows = [User(name="x", email=f"later{number}@x", status="mine") for number in range(20)]
    with pytest.raises(ServiceError):
        await theirs.create_many(rows)
    assert await theirs.create_many(rows) == rows
