"""What PostgreSQL refuses, as the closed set of errors."""

import asyncio

import pytest

from cliffracer.database import Database, create_missing
from cliffracer.errors import (
    Conflict,
    DeadlineExceeded,
    Internal,
    InvalidInput,
    ServiceError,
    SetupError,
    TooLarge,
    Unavailable,
)
from tests.database.models import Order, User
from tests.database.support import calling

CODES = {
    "53100": Unavailable, "53200": Unavailable, "53300": Unavailable, "53400": Unavailable, "58030": Unavailable, "57P01": Unavailable,
    "57P03": Unavailable, "08006": Unavailable, "40001": Unavailable, "40P01": Unavailable, "55P03": Unavailable, "57014": DeadlineExceeded,
    "25P03": Unavailable, "25P04": DeadlineExceeded, "22001": InvalidInput, "22P02": InvalidInput, "54000": TooLarge, "23505": Conflict,
    "23503": InvalidInput, "23502": InvalidInput, "23514": InvalidInput, "23P01": Conflict, "23001": Conflict, "42501": Internal,
    "42703": Internal, "XX000": Internal, "P0001": Internal, "25006": Unavailable,
}  # fmt: skip


@pytest.mark.parametrize(("code", "kind"), CODES.items())
async def test_code_becomes_its_class(db, code, kind):
    """Each SQLSTATE that the server may send has its class, and its text does not reach the caller."""
    db.linting = False
    body = f"begin raise exception 'secret' using errcode = '{code}'; end"
    await db.execute(f"create function boom() returns int language plpgsql as $$ {body} $$")
    with pytest.raises(ServiceError) as caught:
        await db.fetch("select boom()")
    assert type(caught.value) is kind
    assert "secret" not in caught.value.message + repr(caught.value.details)
    assert await db.fetch_value(int, "select 1") == 1


async def test_row_that_is_referred_to_cannot_go(db):
    """Deleting a row that others need is a Conflict that names their table."""
    await create_missing(db, [Order])
    await db.execute("alter table orders drop constraint orders_user_id_fkey")
    for rule in ("restrict", "no action"):
        db.linting = False
        await db.execute(f"alter table orders add constraint k foreign key (user_id) references users (id) on delete {rule}")
        user = await db.repository(User).create(User(name="x", email=f"{rule}@x"))
        await db.repository(Order).create(Order(user_id=user.id, number=1))
        with pytest.raises(Conflict, match="orders"):
            await db.repository(User).delete(user.id)
        with pytest.raises(Conflict):
            await db.repository(User).delete_many(email=f"{rule}@x")
        await db.execute("alter table orders drop constraint k")


async def test_key_of_several_fields_names_all(db):
    """A duplicate of a key over two fields names both."""
    await create_missing(db, [Order])
    user = await db.repository(User).create(User(name="x", email="a@x"))
    await db.repository(Order).create(Order(user_id=user.id, number=1))
    with pytest.raises(Conflict) as caught:
        await db.repository(Order).create(Order(user_id=user.id, number=1))
    assert caught.value.details["fields"] == ["user_id", "number"]


async def test_deadlock_is_retried(db: Database):
    """Two functions that lock each other out both get through."""
    await db.execute("create table t (id int primary key, n int not null default 0)")
    await db.execute("insert into t values (1), (2)")
    both = asyncio.Barrier(2)
    tries = 0

    async def cross(first: int, second: int) -> None:
        nonlocal tries
        tries += 1
        await db.execute("update t set n = n + 1 where id = %s", first)
        if tries <= 2:
            await both.wait()
        await db.execute("update t set n = n + 1 where id = %s", second)

    await db.execute("set deadlock_timeout to 10")
    await asyncio.gather(db.retrying(cross, 1, 2), db.retrying(cross, 2, 1))
    assert tries == 3
    assert await db.fetch(int, "select n from t") == [2, 2]


async def test_serialization_failure_is_retried(db: Database):
    """Concurrent serializable counters lose nothing."""
    await db.execute("create table t (n int not null)")
    await db.execute("insert into t values (0)")

    async def count() -> int:
        number = await db.fetch_value(int, "select n from t")
        await asyncio.sleep(0)
        await db.execute("update t set n = %s", number + 1)
        return number

    numbers = await asyncio.gather(*(db.retrying(count, attempts=100, isolation="serializable") for _ in range(8)))
    assert sorted(numbers) == list(range(8))


async def test_retrying_ends_with_attempts_and_deadline(db: Database):
    """What never succeeds is given up, and other errors are not retried at all."""
    await db.execute("create function lose() returns int language plpgsql as $$ begin raise exception using errcode = '40001'; end $$")
    tries = 0

    async def lose() -> None:
        nonlocal tries
        tries += 1
        await db.fetch("select lose()")

    with pytest.raises(Unavailable):
        await db.retrying(lose, attempts=3)
    assert tries == 3
    with calling(0.2), pytest.raises((Unavailable, DeadlineExceeded)):
        await db.retrying(lose, attempts=1000)

    async def fail() -> None:
        nonlocal tries
        tries += 1
        raise Conflict("other")

    tries = 0
    with pytest.raises(Conflict):
        await db.retrying(fail)
    assert tries == 1
    async with db.transaction():
        with pytest.raises(SetupError):
            await db.retrying(fail)
