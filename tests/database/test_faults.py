"""Servers that go away, networks that are cut, and disks and connections that run out."""

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator

import pytest

from cliffracer.database import Database, create_missing, diagnostics
from cliffracer.errors import DeadlineExceeded, Unavailable
from tests.database.models import User
from tests.database.support import calling
from tests.support.postgres import Server, can_mount, server
from tests.support.proxy import Proxy
from tests.support.waiting import eventually


@pytest.fixture
def own():
    """A server that the test may stop."""
    with server(max_connections="12", superuser_reserved_connections="0", reserved_connections="0") as made:
        yield made


async def up_again(own: Server) -> None:
    """Start the server, again and again while the remains of the old one are in its way."""
    end = time.monotonic() + 30
    while True:
        try:
            return await asyncio.to_thread(own.start)
        except AssertionError:
            assert time.monotonic() < end
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
async def test_restart_under_load(own, how):
    """A restart under 200 calls a second fails calls inside the outage only, each with Unavailable, and the pool is whole again."""
    async with Database.open(own.url(tcp=True), smallest=2, largest=8) as db:
        results: list[tuple[float, str]] = []

        async def call() -> None:
            with calling(8.0):
                try:
                    await db.fetch_value(int, "select 1 from pg_sleep(0.01)")
                except Exception as error:  # noqa: BLE001 - its class is what is looked at
                    results.append((time.monotonic(), type(error).__name__))
                else:
                    results.append((time.monotonic(), "answered"))

        tasks: list[asyncio.Task[None]] = []

        async def load(seconds: float) -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                tasks.append(asyncio.create_task(call()))
                await asyncio.sleep(0.005)

        await load(1.0)
        loading = asyncio.create_task(load(4.0))
        down = time.monotonic()
        await asyncio.to_thread(own.stop, how)
        await asyncio.sleep(0.5)
        await up_again(own)
        back = time.monotonic()
        await loading
        await asyncio.gather(*tasks)
        kinds = Counter(kind for _, kind in results)
        failed = [moment for moment, kind in results if kind != "answered"]
        assert set(kinds) <= {"answered", "Unavailable"}, kinds
        assert len(failed) <= 8 + 4, kinds
        assert all(down <= moment <= back + 3 for moment in failed)
        for _ in range(20):
            await db.execute("select 1")
        await eventually(lambda: db.statistics()["used"] == 0)
        assert db.pool.trouble is None


async def test_cut_network_ends_calls_at_their_deadlines(own):
    """With nothing coming through, calls and transactions end when their time is up, and cancelled ones at once; then all is well."""
    async with Proxy(own.port) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        async with Database.open(url, smallest=2, largest=4) as db:
            await asyncio.gather(*(db.execute("select pg_sleep(0.05)") for _ in range(4)))

            async def call(number: int) -> type[Exception] | None:
                with calling(0.5):
                    try:
                        if number % 2:
                            await db.execute("select 1")
                        else:
                            async with db.transaction():
                                await db.execute("select 1")
                    except (DeadlineExceeded, Unavailable) as error:
                        return type(error)
                return None

            async with db.transaction():
                await db.execute("select 1")
                proxy.blackhole()
                began = time.monotonic()
                found = await asyncio.gather(*(asyncio.create_task(call(number)) for number in range(8)))
                assert None not in found
                task = asyncio.create_task(db.execute("select 1"))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert time.monotonic() - began < 8  # psycopg alone takes 11 s
                proxy.heal()

            async def works() -> bool:
                with calling(1.0), contextlib.suppress(DeadlineExceeded, Unavailable):
                    return await db.fetch_value(int, "select 1") == 1
                return False

            await eventually(works, within=20)
            await eventually(lambda: db.statistics()["used"] == 0, within=20)


async def test_commit_that_nobody_answered_says_that_its_outcome_is_unknown(own):
    """The caller is told at its deadline; a commit that was sent is not taken back behind its back."""
    async with Proxy(own.port) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        async with Database.open(url, largest=1) as db:
            await db.execute("create table kept (a int)")

            async def store() -> None:
                async with db.transaction():
                    await db.execute("insert into kept values (1)")
                    proxy.blackhole()

            with calling(2.0), pytest.raises((DeadlineExceeded, Unavailable)) as caught:
                await store()
            assert caught.value.details["outcome"] == "unknown"
            proxy.heal()
            await eventually(lambda: db.statistics()["used"] == 0, within=20)
            assert await db.fetch_value(int, "select count(*) from kept") == 1


@pytest.mark.parametrize("left", [False, True])
async def test_cut_network_ends_copies_and_streams(own, left):
    """What is read bit by bit ends at the call's deadline, or when it is left, and not when the network says so."""
    async with Proxy(own.port) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        async with Database.open(url, largest=2) as db:
            query = "select repeat('x', 1000) from generate_series(1, 100000), pg_sleep(0)"

            async def read(chunks: AsyncGenerator[object, None]) -> None:
                with calling(1.0):
                    async for _ in chunks:
                        proxy.blackhole()
                        if left:
                            break
                    await chunks.aclose()

            for chunks in (db.copy_out("copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout"), db.stream(str, query)):
                began = time.monotonic()
                with contextlib.suppress(DeadlineExceeded, Unavailable):
                    await asyncio.create_task(read(chunks))
                assert time.monotonic() - began < 5  # psycopg alone takes 6 s
                proxy.heal()
                await eventually(lambda: db.statistics()["used"] == 0, within=20)
            assert await db.fetch_value(int, "select 1") == 1


async def test_cancelled_transaction_in_a_cut_network_leaves_at_once(own):
    """Neither a rollback nor a commit that cannot be sent holds a cancelled task."""
    async with Proxy(own.port) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        async with Database.open(url) as db:
            inside = asyncio.Event()

            async def work() -> None:
                async with db.transaction():
                    await db.execute("select 1")
                    inside.set()
                    await asyncio.sleep(60)

            task = asyncio.create_task(work())
            await inside.wait()
            proxy.blackhole()
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=20)
            assert done
            proxy.heal()
            await eventually(lambda: db.statistics()["used"] == 0, within=20)


async def test_server_out_of_connections(own):
    """When the server has no connection left, calls wait, then are Unavailable; when it has, they go on."""
    async with Database.open(own.url(), smallest=0, largest=10) as first, Database.open(own.url(), smallest=0, largest=10) as second:
        release = asyncio.Event()

        async def hold(db: Database) -> None:
            async with db.transaction():
                await release.wait()

        holders = [asyncio.create_task(hold(first)) for _ in range(10)]
        await eventually(lambda: first.statistics()["used"] == 10)
        others = [asyncio.create_task(hold(second)) for _ in range(2)]
        await eventually(lambda: second.statistics()["used"] == 2 or second.pool.trouble)
        with calling(0.3), pytest.raises(Unavailable):
            await second.execute("select 1")
        release.set()
        await asyncio.gather(*holders, *others)
        with calling(5.0):
            assert await second.fetch_value(int, "select 1") == 1


async def test_transaction_that_emits_for_more_keys_than_the_server_has_locks(own):
    """It is refused as a whole, with what to do about it; those after it find room again."""
    async with Database.open(own.url()) as db:
        await create_missing(db, [])

        async def emit(count: int) -> None:
            async with db.transaction() as transaction:
                for number in range(count):
                    await transaction.emit("s", b"", {}, str(number), key=str(number))

        with pytest.raises(Unavailable) as caught:
            await emit(20_000)
        assert "emit for fewer keys in one transaction" in caught.value.__notes__[0]
        await emit(1)
        assert await db.fetch_value(int, "select count(*) from cliffracer_outbox") == 1


async def refusal(db: Database, count: int) -> Unavailable:
    """Return what storing so many rows is refused with; none of them is there afterwards."""
    rows = [User(name="x" * 1000, email=f"{number}@x") for number in range(count)]
    with pytest.raises(Unavailable) as caught:
        await db.repository(User).create_many(rows)
    assert await db.repository(User).count() == 0
    return caught.value


@pytest.mark.skipif(not can_mount(), reason="no mount namespaces here; the next test is the same with one file")
async def test_full_disk_is_told_and_outlived():
    """On a full disk a change is Unavailable with its reason noted and nothing of it is kept; reads go on, and so do changes that fit."""
    with server(small_disk=True) as own:
        async with Database.open(own.url(), largest=1) as db:
            db.linting = False
            await db.execute(f"create tablespace small location '{own.disk}'")
            await db.execute("set default_tablespace to small")
            await create_missing(db, [User])
            await db.execute("alter table users set tablespace small")
            error = await refusal(db, 10_000)
            assert error.message == "the database is out of resources"
            assert "The disk of the PostgreSQL server is full." in error.__notes__
            assert error.__cause__.sqlstate == "53100"
            await db.execute("drop table users")
            await create_missing(db, [User])
            made = await db.repository(User).create(User(name="fits", email="a@x"))
            assert await db.repository(User).get(made.id) == made
            await eventually(lambda: db.statistics()["used"] == 0)


async def test_file_that_cannot_grow_is_told(own, monkeypatch, caplog):
    """The kernel's answer for a full device reaches the caller as the same error, where nothing can be mounted; the log has it once."""
    monkeypatch.setattr(diagnostics, "ailments", diagnostics.Ailments())
    async with Database.open(own.url(), largest=2) as db:
        await create_missing(db, [User])
        place = own.folder / "data" / await db.fetch_value(str, "select pg_relation_filepath('users')")
        await db.execute("checkpoint")
        own.stop()
        place.unlink()
        place.symlink_to("/dev/full")
        await up_again(own)
        with calling(10.0):
            error = await refusal(db, 5)
            again = await refusal(db, 5)
        assert error.__cause__.sqlstate == again.__cause__.sqlstate == "53100"
        assert "The disk of the PostgreSQL server is full." in error.__notes__
    [said] = [record.message for record in caplog.records if record.message.startswith("PostgreSQL refuses statements")]
    assert "could not extend file" in said
    assert "The disk of the PostgreSQL server is full. (INSERT INTO" in said


async def test_server_that_appears_later_is_waited_for(own):
    """A database that is opened before its server is there is open once the server is."""
    own.stop()
    opening = asyncio.create_task(_open_and_ask(own))
    await asyncio.sleep(0.3)
    assert not opening.done()
    await up_again(own)
    assert await opening == 1


async def _open_and_ask(own: Server) -> int | None:
    async with Database.open(own.url(tcp=True), wait=30) as db:
        return await db.fetch_value(int, "select 1")


async def test_plain_connection_is_refused_where_tls_is_demanded(own):
    """With sslmode=require a server without TLS is an error at once; nothing is sent in the clear."""
    from cliffracer.errors import SetupError

    with pytest.raises(SetupError, match="SSL"):
        async with Database.open(own.url(tcp=True) + "?sslmode=require", wait=30):
            pass


async def test_server_that_takes_no_changes_any_more_is_left(own):
    """After a failover the old primary refuses changes: its connection is replaced, and the next change goes through."""
    async with Database.open(own.url(), largest=1) as db:
        await db.execute("create table if not exists t (a int)")
        link = db.pool.take()
        await link.session.execute("set default_transaction_read_only to on")
        db.pool.give(link)
        with pytest.raises(Unavailable):
            await db.execute("insert into t values (1)")
        assert await db.execute("insert into t values (1)") == 1
        assert db.statistics()["lost_total"] == 1


async def test_a_server_that_lets_no_more_in_is_not_said_to_be_away(own):
    """Who starts then is told what helps: not to start a server, which is there."""
    url = own.url(tcp=True)
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                await stack.enter_async_context(Database.open(url, smallest=1, wait=0.0))
            except Unavailable as error:
                message = error.message
                break
    told, _, cure = message.partition("). ")
    assert told.startswith("PostgreSQL at 127.0.0.1:")
    assert told.endswith(" lets no more in (sorry, too many clients already")
    assert cure.startswith("End connections that nobody needs (pg_stat_activity lists them), raise its max_connections")
