"""What belongs together is kept together, and to one task."""

# ruff: noqa: PT012 - what raises is the end of a transaction block

import asyncio

import pytest

from cliffracer.database import Database, current_transaction
from cliffracer.database.postgres import PostgresLink
from cliffracer.database.schema import create_missing
from cliffracer.errors import Conflict, Internal, SetupError
from tests.database.models import User
from tests.database.support import Eye
from tests.support.waiting import eventually


@pytest.fixture
async def users(db: Database):
    await create_missing(db, [User])
    return db.repository(User)


def user(name: str) -> User:
    return User(name=name, email=f"{name}@x.org")


async def test_commit_at_the_end_of_the_block(db, users):
    """Rows are kept when the block ends, and seen by others only then."""
    async with db.transaction():
        await users.create(user("a"))
        assert await users.count() == 1
        assert await asyncio.create_task(users.count()) == 0
    assert await users.count() == 1


async def test_rollback_when_the_block_raises(db, users):
    """An error undoes everything before anybody hears of it, and goes on as it was."""
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            await users.create(user("a"))
            raise ZeroDivisionError
    assert db.statistics()["used"] == 0  # nothing is left to be undone
    assert await users.count() == 0


async def test_two_tasks_never_share_one(db, users):
    """A rolls back while B commits; each keeps exactly its own."""
    a_wrote, b_done = asyncio.Event(), asyncio.Event()

    async def a() -> None:
        with pytest.raises(ZeroDivisionError):
            async with db.transaction():
                await users.create(user("a"))
                a_wrote.set()
                await b_done.wait()
                raise ZeroDivisionError

    async def b() -> None:
        await a_wrote.wait()
        async with db.transaction():
            await users.create(user("b"))
        b_done.set()

    await asyncio.gather(a(), b())
    assert [found.name for found in await users.find()] == ["b"]


async def test_child_task_does_not_join(db, users):
    """A task started inside a transaction has none, though it inherits the context."""
    async with db.transaction() as outer:
        assert current_transaction() is outer

        async def child() -> object:
            assert current_transaction() is None
            async with db.transaction() as own:
                await users.create(user("child"))
                return own

        assert await asyncio.create_task(child()) is not outer
        assert await users.count() == 1
    assert current_transaction() is None


async def test_nested_is_a_savepoint(db, users):
    """An inner block that fails is undone alone."""
    async with db.transaction():
        await users.create(user("outer"))
        with pytest.raises(Conflict):
            async with db.transaction():
                await users.create(user("inner"))
                await users.create(user("outer"))
        async with db.transaction():
            await users.create(user("second"))
    assert sorted(found.name for found in await users.find()) == ["outer", "second"]


async def test_swallowed_failure_is_not_a_commit(db, users):
    """A block that hides a failed statement is told that nothing of it was kept."""
    with pytest.raises(Internal) as caught:
        async with db.transaction():
            await users.create(user("a"))
            with pytest.raises(Conflict):
                await users.create(user("a"))
    assert "async with db.transaction" in caught.value.__notes__[0]
    assert await users.count() == 0


async def test_change_while_only_reading_is_the_services_mistake(db, users):
    """No other try would help, so it is Internal and says why; the connection is kept."""
    many = [user(f"u{number}") for number in range(9)]
    for act in (
        lambda: users.create(many[0]), lambda: users.create_many(many), lambda: users.delete(many[0].id),
        lambda: db.execute("update users set name = 'x'"),
    ):  # fmt: skip
        with pytest.raises(Internal) as caught:
            async with db.transaction(readonly=True):
                await act()
        assert "readonly=True" in caught.value.__notes__[0]
        assert not caught.value.retryable
    assert db.statistics()["lost_total"] == 0
    assert len(await users.create_many(many)) == 9


async def test_isolation_reaches_the_server(db):
    """The level asked for is the level had; a word that is no level is refused."""
    async with db.transaction(isolation="serializable"):
        assert await db.fetch_value(str, "show transaction_isolation") == "serializable"
    with pytest.raises(SetupError):
        async with db.transaction(isolation="high; drop table users"):
            pass
    with pytest.raises(SetupError):
        async with db.transaction(), db.transaction(isolation="serializable"):
            pass


async def test_handle_is_of_no_use_afterwards(db):
    """A transaction kept beyond its block refuses to run on a connection that has another user by now."""
    async with db.transaction() as transaction:
        pass
    with pytest.raises(SetupError):
        await transaction.execute("select 1")


async def test_cancelled_in_the_middle_leaves_nothing_open(db, users, url):
    """A task cancelled between two statements leaves no transaction, no row and no missing connection."""
    started = asyncio.Event()

    async def work() -> None:
        async with db.transaction():
            await users.create(user("a"))
            started.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    eye = Eye(url)
    await eventually(lambda: db.statistics()["free"] == db.statistics()["size"])
    assert await eye.in_transaction() == 0
    assert await users.count() == 0


async def test_time_out_inside_leaves_the_rest_usable(db, users):
    """A savepoint whose statement ran out of time is undone, and the transaction goes on."""
    async with db.transaction():
        await users.create(user("kept"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), db.transaction():
                await users.create(user("undone"))
                await db.execute("select pg_sleep(30)")
        await users.create(user("later"))
    assert sorted(found.name for found in await users.find()) == ["kept", "later"]


async def test_after_commit_is_called_once_and_only_then(db):
    """What waits for the commit hears of it once, and never of a rollback."""
    heard = []

    def hear() -> None:
        heard.append(1)

    async with db.transaction() as outer:
        outer.after_commit(hear)
        async with db.transaction() as inner:
            inner.after_commit(hear)
        assert heard == []
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as transaction:
            transaction.after_commit(hear)
            raise ZeroDivisionError
    assert heard == [1]


async def test_what_waits_in_a_savepoint_that_is_undone_never_hears_of_the_commit(db):
    """What it would tell of did not happen; what the transaction around it has is told."""
    heard: list[str] = []
    async with db.transaction() as outer:
        outer.after_commit(lambda: heard.append("before"))
        with pytest.raises(ZeroDivisionError):
            async with db.transaction() as inner:
                inner.after_commit(lambda: heard.append("undone"))
                async with db.transaction() as innermost:
                    innermost.after_commit(lambda: heard.append("undone as well"))
                raise ZeroDivisionError
        async with db.transaction() as inner:
            inner.after_commit(lambda: heard.append("kept"))
    assert heard == ["before", "kept"]


async def test_what_waits_for_the_commit_is_called_although_its_task_does_not_wait(db, users, monkeypatch):
    """A client that leaves at that moment: what was committed is told of, such as a cache that keeps what was before."""
    commit, told = PostgresLink.commit, []

    async def cancelling(link: PostgresLink, deadline: float | None) -> None:
        asyncio.get_running_loop().call_soon(task.cancel)
        await commit(link, deadline)

    async def work() -> None:
        async with db.transaction() as transaction:
            await users.create(user("a"))
            transaction.after_commit(lambda: told.append("committed"))

    monkeypatch.setattr(PostgresLink, "commit", cancelling)
    task = asyncio.create_task(work())
    await asyncio.wait([task])
    monkeypatch.undo()
    assert task.cancelled()
    await eventually(lambda: db.statistics()["used"] == 0)
    await eventually(lambda: told == ["committed"])
    assert await users.count() == 1


async def test_what_waits_for_the_commit_may_be_async(db, users):
    """It is awaited, outside of the transaction, before the block is left; one that fails takes nothing back."""
    heard = []

    async def hear(name: str) -> None:
        assert current_transaction(db) is None
        await asyncio.sleep(0)
        heard.append((await users.get(name=name)).name)

    async def fail() -> None:
        raise ZeroDivisionError

    async with db.transaction() as transaction:
        transaction.after_commit(fail)
        transaction.after_commit(lambda: hear("kept"))
        await users.create(user("kept"))
        assert heard == []
    assert heard == ["kept"]
