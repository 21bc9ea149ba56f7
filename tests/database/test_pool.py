"""Connections under cancellation, deadlines and shortage."""

import asyncio
import contextlib
import random
import time

import pytest

from cliffracer.database import Database
from cliffracer.database.link import Link
from cliffracer.database.pool import Pool
from cliffracer.errors import DeadlineExceeded, SetupError, Unavailable
from tests.database.support import Eye, calling
from tests.support.waiting import eventually


@pytest.fixture
async def small(url):
    async with Database.open(url, smallest=1, largest=4, patience=2.0) as opened:
        yield opened


async def obtainable(db: Database) -> int:
    """Return how many connections can be held at once."""
    everyone, together = asyncio.Event(), 0

    async def hold() -> None:
        nonlocal together
        async with db.transaction():
            together += 1
            if together == db.pool.largest:
                everyone.set()
            await asyncio.wait_for(everyone.wait(), 30)

    await asyncio.gather(*(hold() for _ in range(db.pool.largest)))
    return together


async def test_every_connection_survives_12000_cancellations(small, url):
    """However many calls are cancelled, and wherever they are just then, every connection remains usable."""
    chance = random.Random(1)
    loop = asyncio.get_running_loop()

    async def call(number: int) -> None:
        if number % 3:
            await small.execute("select pg_sleep(0.002)")
        else:
            async with small.transaction():
                await small.execute("select 1")
                await small.execute("select 2")

    for _ in range(120):
        tasks = [asyncio.create_task(call(number)) for number in range(100)]
        for task in tasks:
            loop.call_later(chance.random() * 0.03, task.cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert await obtainable(small) == 4
    await eventually(lambda: small.statistics()["free"] == small.statistics()["size"])
    eye = Eye(url)
    assert await eye.in_transaction() == 0
    assert await eye.running("pg_sleep") == 0


async def test_cancelled_call_cancels_its_query(small, url):
    """A cancelled task returns at once, and its statement stops in the server."""
    eye = Eye(url)
    task = asyncio.create_task(small.execute("select pg_sleep(61)"))
    await eventually(lambda: eye.running("pg_sleep(61)"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(_gone(eye, "pg_sleep(61)"))


def _gone(eye: Eye, part: str):
    async def gone() -> bool:
        return await eye.running(part) == 0

    return gone


async def test_deadline_ends_the_statement_on_both_sides(small, url):
    """When the call's time is spent, the caller gets DeadlineExceeded and the server stops."""
    with calling(0.2), pytest.raises(DeadlineExceeded):
        await small.execute("select pg_sleep(62)")
    await eventually(_gone(Eye(url), "pg_sleep(62)"))
    assert await small.fetch_value(int, "select 1") == 1


async def test_statement_timeout_is_what_is_left(small):
    """The server's own limit follows the deadline, and goes away with it."""
    for seconds, shown in ((2.0, "2s"), (10.0, "10s"), (3.0, "3s"), (30.0, "30s"), (1.5, "1500ms"), (None, "0")):
        with calling(seconds):
            assert await small.fetch_value(str, "show statement_timeout") == shown


async def test_server_stops_when_the_client_cannot(url):
    """The server's limit ends a statement by itself, and that is DeadlineExceeded too."""
    async with Database.open(url) as db:
        link = db.pool.take()
        await link.session.execute("set statement_timeout to 50")
        db.pool.give(link)
        with pytest.raises(DeadlineExceeded):
            await db.execute("select pg_sleep(30)")


async def test_spent_deadline_starts_nothing(small):
    """A call without time left does not reach the server."""
    with calling(0.0), pytest.raises(DeadlineExceeded):
        await small.execute("select 1")


async def test_exhausted_pool_waits_until_the_deadline(small):
    """With every connection in use a call waits as long as it may, then is Unavailable with a cure in its notes."""
    release = asyncio.Event()

    async def hold() -> None:
        async with small.transaction():
            await release.wait()

    holders = [asyncio.create_task(hold()) for _ in range(4)]
    await eventually(lambda: small.statistics()["used"] == 4)
    with calling(0.1), pytest.raises(Unavailable) as caught:
        await small.execute("select 1")
    assert "database_pool_max" in caught.value.__notes__[0]
    waiting = asyncio.create_task(small.fetch_value(int, "select 7"))
    await eventually(lambda: small.statistics()["waiting"] == 1)
    release.set()
    assert await waiting == 7
    await asyncio.gather(*holders)


async def test_pool_grows_only_as_far_as_needed(small):
    """One call after the other needs one connection."""
    for _ in range(20):
        await small.execute("select 1")
    assert small.statistics()["size"] == 1


async def test_terminated_connections_are_replaced_unseen(small, url):
    """Connections that the server ended while they were idle fail no call."""
    assert await obtainable(small) == 4
    eye = Eye(url)
    others = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    await eye.ask(f"select pg_terminate_backend(pid, 5000) {others}")
    for _ in range(8):
        assert await small.fetch_value(int, "select 1") == 1
    assert small.statistics()["lost_total"] >= 1


async def test_connection_lost_in_mid_statement_is_unavailable(small, url):
    """A statement whose connection is cut is Unavailable, and the next one works; of one by itself nobody knows whether it was done."""
    eye = Eye(url)

    async def sleep() -> None:
        await small.execute("select pg_sleep(63)")

    async def committed() -> None:
        async with small.transaction():
            await small.execute("select 1")
        await sleep()

    async def undone() -> None:
        async with small.transaction():
            await sleep()

    for work, outcome in ((sleep, "unknown"), (undone, None), (committed, "unknown")):
        task = asyncio.create_task(work())
        await eventually(lambda: eye.running("pg_sleep(63)"))
        others = "from pg_stat_activity where query like '%pg_sleep(63)%' and pid <> pg_backend_pid()"
        await eye.ask(f"select pg_terminate_backend(pid) {others}")
        with pytest.raises(Unavailable) as caught:
            await task
        assert caught.value.details.get("outcome") == outcome
        assert await small.fetch_value(int, "select 1") == 1


async def test_changed_table_fails_no_read(url):
    """A plan that no longer fits, since somebody else changed the table, is made anew; in a transaction it may be tried again."""
    query, other = "select * from things where id = %s", Eye(url)
    async with Database.open(url, largest=1) as db:
        await db.execute("create table things (id int, a int)")
        await db.execute("insert into things values (1, 2)")
        for _ in range(8):
            await db.fetch(query, 1)
        await other.ask("alter table things alter a type text")
        assert await db.fetch(query, 1) == [{"id": 1, "a": "2"}]
        for _ in range(8):
            await db.fetch(query, 1)
        await other.ask("alter table things alter a type int using a::int")
        with pytest.raises(Unavailable, match="the table was changed meanwhile; try again"):
            async with db.transaction():
                await db.fetch(query, 1)
        async with db.transaction():
            assert await db.fetch(query, 1) == [{"id": 1, "a": 2}]
        assert db.statistics()["lost_total"] == 0


async def test_changed_table_fails_one_transaction_only(url):
    """Also where one was rolled back before anything was prepared: psycopg then overlooks the ROLLBACK by which it would forget plans."""
    query, other = "select * from things where id = %s", Eye(url)
    await other.ask("create table things (id int, a int)")
    async with Database.open(url, largest=1) as db:
        with contextlib.suppress(LookupError):
            async with db.transaction():
                await db.fetch(query, 1)
                raise LookupError
        for _ in range(8):
            await db.fetch(query, 1)
        await other.ask("alter table things alter a type text")
        with pytest.raises(Unavailable, match="the table was changed meanwhile; try again"):
            async with db.transaction():
                await db.fetch(query, 1)
        async with db.transaction():
            assert await db.fetch(query, 1) == []


async def test_closing_waits_for_calls_in_progress(url):
    """A statement that runs while the database closes is finished."""
    async with Database.open(url) as db:
        task = asyncio.create_task(db.fetch_value(int, "select 5 from pg_sleep(0.2)"))
        await eventually(lambda: db.statistics()["used"] == 1)
    assert await task == 5
    with pytest.raises(Unavailable, match="the database is closed"):
        await db.execute("select 1")


@pytest.mark.parametrize("way", ["deadline", "closed"])
async def test_who_waits_for_a_connection_waits_no_longer_than_makes_sense(url, way):
    """Until its call is over, or the database is closed, whatever the patience of the pool."""
    async with asyncio.timeout(60):
        async with Database.open(url, largest=1, patience=600) as db, contextlib.AsyncExitStack() as held:
            await held.enter_async_context(db.transaction())

            async def wait() -> None:
                with calling(0.2 if way == "deadline" else 500):
                    await db.execute("select 1")

            waiting = asyncio.create_task(wait())
            await eventually(lambda: db.statistics()["waiting"] == 1)
            closing = [asyncio.create_task(db.pool.close(30))] if way == "closed" else []
            with pytest.raises(Unavailable, match="closed" if closing else r"within 0\.\d+ s"):
                await waiting
            await held.aclose()
            await asyncio.gather(*closing)


async def test_limits_of_a_transaction_that_was_undone_are_set_anew(url):
    """What it had set for its statements is undone in the server as well, and the next call is not to have that of one before."""
    async with Database.open(url, largest=1) as db:

        async def limit(seconds: float) -> str | None:
            with calling(seconds):
                return await db.fetch_value(str, "show statement_timeout")

        with contextlib.suppress(ZeroDivisionError), calling(60):
            async with db.transaction():
                inside = await limit(1.0)
                raise ZeroDivisionError
        assert inside == await limit(1.0) != await limit(60.0)


async def test_closing_cuts_what_is_not_given_back_in_time(url):
    """Whoever holds a connection for ever does not hold up the end; the server is rid of it."""
    async with Database.open(url, largest=1) as db:
        link = await db.pool.acquire()
        await db.pool.close(0.05)
        assert not link.alive()
        assert db.statistics()["size"] == 0


async def test_nothing_is_left_after_closing(url):
    """No connection and no task outlives the block."""
    before = asyncio.all_tasks()
    async with Database.open(url, smallest=3, largest=5) as db:
        await eventually(lambda: db.statistics()["size"] == 3)
    eye = Eye(url)

    async def alone() -> bool:
        return (await eye.ask("select count(*) from pg_stat_activity where datname = current_database()"))[0][0] == 1

    await eventually(alone)
    assert asyncio.all_tasks() == before


async def test_absent_server_is_named(tmp_path):
    """Nobody there: after the wait an error names the place, not the password."""
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/x") as caught:
        async with Database.open("postgresql://me:secret@127.0.0.1:1/x", wait=0.3):
            pass
    assert time.monotonic() - began >= 0.2
    assert "secret" not in str(caught.value)


async def test_wrong_database_is_final(postgres):
    """A refusal that waiting does not change is reported at once, with what to check."""
    with pytest.raises(SetupError, match="DATABASE_URL"):
        async with Database.open(postgres.url("nosuch"), wait=30):
            pass
    with pytest.raises(SetupError, match="not a PostgreSQL address"):
        async with Database.open("mysql:/nowhere"):
            pass


def test_impossible_sizes_are_refused():
    """A pool that could hold nothing is a mistake in the settings."""
    with pytest.raises(SetupError, match="database_pool_max"):
        Pool(lambda: None, smallest=3, largest=2)


class Stub(Link):
    """A link without a server, for what the pool itself decides."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop().time())
        self.open = True

    def alive(self) -> bool:
        return self.open

    def clean(self) -> bool:
        return self.open

    def close(self) -> None:
        self.open = False

    def busy(self) -> bool:
        return False

    def broken(self) -> bool:
        return False

    def undo(self, savepoint: str) -> None:
        raise NotImplementedError

    async def mend(self) -> None:
        raise OSError("lost")

    rows = run = script = restore = copy_in = copy_out = listen = commit = rollback = None  # type: ignore[assignment]  # never called


async def test_old_and_idle_connections_go():
    """A connection past its lifetime is replaced, and one that nobody used for long is closed unless it is needed."""

    async def connect() -> Link:
        return Stub()

    pool = Pool(connect, smallest=1, largest=3, lifetime=100.0, idle=10.0)
    await pool.open(Stub())
    links = [await pool.acquire() for _ in range(3)]
    for link in links:
        pool.give(link)
    assert pool.statistics()["free"] == 3
    links[0].idle_since -= 20
    links[1].born -= 200
    pool._tidy_up()
    assert pool.statistics()["size"] == 1
    assert links[2].open
    assert pool.statistics()["lost_total"] == 0
    links[2].open = False
    fresh = await pool.acquire()
    assert fresh not in links
    assert pool.statistics()["lost_total"] == 1
    pool.give(fresh)
    await pool.close()


async def test_a_close_does_not_wait_for_what_nobody_uses(monkeypatch, caplog):
    """A connection that was left in the middle of something, at a server that hangs, is let go of; none of those in use is cut."""
    monkeypatch.setattr("cliffracer.database.pool.MEND_AT_LAST", 0.01)

    class Hung(Stub):
        def clean(self) -> bool:
            return False

        async def mend(self) -> None:
            await asyncio.Event().wait()

    async def connect() -> Link:
        return Stub()

    pool = Pool(connect, smallest=0, largest=2)
    used, hung = Stub(), Hung()
    for link in (used, hung):
        pool._add(link)
    assert {pool.take(), pool.take()} == {used, hung}
    pool.give(hung)
    closing = asyncio.create_task(pool.close(30))
    await eventually(lambda: not hung.open)
    assert used.open
    pool.give(used)
    await closing
    assert (used.open, caplog.text) == (False, "")


async def test_failed_connects_are_repeated_while_somebody_waits():
    """A server that comes late serves who still waits; nobody else makes it be asked."""
    asked = 0

    async def connect() -> Link:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise OSError("nobody there")
        return Stub()

    pool = Pool(connect, smallest=0, largest=2, patience=5.0)
    first = Stub()
    await pool.open(first)
    held = await pool.acquire()
    link = await pool.acquire()
    assert asked == 4
    assert pool.trouble is None
    pool.give(link)
    pool.give(held)
    await pool.close()


async def test_database_that_lets_no_more_in_is_not_said_to_be_away():
    """While others are in use, who gets none hears that; the notes have what the server says."""

    async def connect() -> Link:
        raise OSError("too many clients")

    pool = Pool(connect, smallest=0, largest=2)
    await pool.open(Stub())
    held = await pool.acquire()
    with pytest.raises(Unavailable, match="no database connection became free") as caught:
        await pool.acquire(0.05)
    assert "too many clients" in caught.value.__notes__[0]
    held.close()
    pool.give(held)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await pool.acquire(0.05)
    await pool.close()


async def test_database_that_says_nothing_is_not_said_to_be_in_use():
    """Where it hangs, some wait for it on the connections that there are; more of these would help nobody."""

    async def connect() -> Link:
        raise OSError("connection timeout expired")

    pool = Pool(connect, smallest=0, largest=2, name="h:5432/shop")
    await pool.open(Stub())
    held = await pool.acquire()
    with pytest.raises(Unavailable, match="the database cannot be reached") as caught:
        await pool.acquire(0.05)
    assert caught.value.__notes__ == ["h:5432/shop: connection timeout expired"]
    pool.give(held)
    await pool.close()


async def test_database_that_is_slow_to_let_another_in_is_not_said_to_be_full():
    """While a connection is being made, not all are in use: nobody is told to raise how many there may be."""
    pool = Pool(lambda: asyncio.Event().wait(), smallest=0, largest=2, name="h:5432/shop")
    await pool.open(Stub())
    held = await pool.acquire()
    with pytest.raises(Unavailable) as caught:
        await pool.acquire(0.05)
    assert caught.value.__notes__ == ["h:5432/shop has not let another connection in yet: it hangs, or is slow."]
    pool.give(held)
    await pool.close()


async def test_one_connection_is_tried_for_all_while_the_server_is_away():
    """However many wait, a server that is starting is not asked by each of them; once it lets one in, the others follow."""
    away, asking, most, asked = True, 0, 0, 0

    async def connect() -> Link:
        nonlocal asking, most, asked
        asking, asked = asking + 1, asked + 1
        most = max(most, asking)
        try:
            await asyncio.sleep(0)
            if away:
                raise OSError("starting up")
            return Stub()
        finally:
            asking -= 1

    pool = Pool(connect, smallest=0, largest=5, patience=20.0)
    await pool.open(Stub())
    lost = await pool.acquire()
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(8)]
    await eventually(lambda: asked >= 4)
    lost.close()
    pool.give(lost)
    await eventually(lambda: pool.statistics()["size"] == 0)
    waiting += [asyncio.create_task(pool.acquire()) for _ in range(8)]
    asked, most = 0, 0
    await eventually(lambda: asked >= 3)
    assert most == 1
    away = False
    links, pending = set(), set(waiting)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            links.add(task.result())
            pool.give(task.result())
    assert len(links) == 5
    await pool.close()
