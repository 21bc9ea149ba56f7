"""A primary that dies and a standby that takes its place."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator

import psycopg
import pytest

from cliffracer.database import Database, create_missing
from cliffracer.database.relay import relaying
from cliffracer.database.session import parsed, place_of
from cliffracer.errors import ServiceError, Unavailable
from tests.database.models import User
from tests.database.support import calling
from tests.support.postgres import Server, server
from tests.support.waiting import eventually


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary and its streaming standby."""
    with server(synchronous_commit="on") as primary, server(primary=primary) as standby:
        with psycopg.connect(primary.url(), autocommit=True) as connection:
            connection.execute("alter system set synchronous_standby_names to '*'")
            connection.execute("select pg_reload_conf()")
        yield primary, standby


def addresses(*servers: Server) -> str:
    """Return the address of whichever of these servers takes changes."""
    hosts = ",".join(f"127.0.0.1:{each.port}" for each in servers)
    return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://u:pw@a:1,b:2/shop?target_session_attrs=read-write", "a:1,b:2/shop"),
        ("host=a,b port=7 dbname=shop", "a:7,b:7/shop"),
        ("postgresql://a/shop", "a:5432/shop"),
        ("postgresql://", "localhost:5432"),
    ],
)
def test_all_hosts_are_named(url, place):
    """What is said about a database names every host that it may be on."""
    assert place_of(parsed(url)) == place


async def test_standby_that_is_promoted_is_found(pair):
    """Calls fail between the primary's death and the promotion only, typed; the pool and the listener find the new one by themselves."""
    primary, standby = pair
    heard: list[str] = []
    async with Database.open(addresses(primary, standby), smallest=2, largest=6) as db:
        await create_missing(db, [User])
        users = db.repository(User)
        kept, failed = [], []

        async def listen() -> None:
            async for note in db.listen("news"):
                heard.append(note)  # noqa: PERF401 - one by one, as they come

        async def call(number: int) -> None:
            with calling(3.0):
                try:
                    async with db.transaction():
                        await users.create(User(name=f"n{number}", email=f"{number}@x"))
                        await users.count()
                except Exception as error:  # noqa: BLE001 - its class is what is looked at
                    failed.append((time.monotonic(), error))
                else:
                    kept.append(f"n{number}")

        tasks: list[asyncio.Task[None]] = []

        async def load(first: int, count: int) -> None:
            for number in range(first, first + count):
                tasks.append(asyncio.create_task(call(number)))
                await asyncio.sleep(0.01)

        listening = asyncio.create_task(listen())
        await load(0, 30)
        down = time.monotonic()
        primary.stop(signal.SIGKILL)
        await load(100, 30)
        await asyncio.to_thread(standby.promote)
        back = time.monotonic()
        await load(200, 60)
        await asyncio.gather(*tasks)

        assert {type(error).__name__ for _, error in failed} <= {"Unavailable"}, failed
        assert all(down <= moment <= back + 2 for moment, _ in failed)
        assert len(failed) <= 30 + 6
        stored = {user.name for user in await users.find()}
        assert set(kept) <= stored  # one whose answer was lost may be there as well
        assert {f"n{number}" for number in range(230, 260)} <= stored
        await eventually(lambda: db.statistics()["used"] == 0 and db.pool.trouble is None)

        async def told() -> bool:
            await db.execute("select pg_notify('news', 'here')")
            await asyncio.sleep(0.05)
            return bool(heard)

        await eventually(told, within=20)
        listening.cancel()


async def test_events_go_on_from_the_promoted_standby(pair):
    """What was committed before the primary died is published from the standby, once under its id."""
    primary, standby = pair
    seen: dict[str, bytes] = {}
    up = False

    async def publish(subject: str, payload: bytes, headers: dict[str, str], message_id: str) -> None:
        if not up:
            raise Unavailable("NATS is away")
        seen[message_id] = payload

    async with Database.open(addresses(primary, standby)) as db:
        await create_missing(db, [])
        async with relaying(db, publish, every=0.05):
            async with db.transaction() as transaction:
                await transaction.emit("user.made", b"1", {}, "first")
            primary.stop(signal.SIGKILL)
            with calling(0.3), pytest.raises(ServiceError):
                async with db.transaction() as transaction:
                    await transaction.emit("user.made", b"2", {}, "never")
            await asyncio.to_thread(standby.promote)
            up = True
            await eventually(lambda: "first" in seen, within=20)

            async def emitted() -> bool:
                with contextlib.suppress(ServiceError):
                    async with db.transaction() as transaction:
                        await transaction.emit("user.made", b"3", {}, "second")
                    return True
                return False

            await eventually(emitted, within=20)
            await eventually(lambda: "second" in seen, within=20)
    assert set(seen) == {"first", "second"}


async def test_primary_that_became_a_standby_is_left(pair):
    """A switch-over: connections to a server that takes no changes any more are given up, and those to the new primary used."""
    primary, standby = pair
    async with Database.open(addresses(primary, standby), smallest=2, largest=2) as db:
        await create_missing(db, [User])
        await db.repository(User).create(User(name="Ada", email="a@x"))
        await asyncio.to_thread(primary.stop)
        await asyncio.to_thread(standby.promote)
        (primary.folder / "data" / "standby.signal").touch()
        await asyncio.to_thread(primary.start)  # on its old place, and read-only: target_session_attrs passes it by

        async def works() -> bool:
            with contextlib.suppress(Unavailable):
                await db.repository(User).create(User(name="Bob", email="b@x"))
                return True
            return False

        await eventually(works)
        assert await db.fetch_value(int, "show port") == standby.port
        assert sorted(user.name for user in await db.repository(User).find()) == ["Ada", "Bob"]
