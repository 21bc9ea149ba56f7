"""The shop on a nats-server and a PostgreSQL that allow exactly what ``cliffracer permissions`` says: it works, and nothing else does."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import nats
import psycopg
import pytest
from loguru import logger

from cliffracer import App, AsyncClient, Forbidden, Settings, SetupError, connect_async
from cliffracer.appdatabase import models_of
from cliffracer.database import Database, create_missing
from cliffracer.messaging.bus import connect
from cliffracer.messaging.jetstream import JetStream
from cliffracer.permissions.nats import permissions_of, variable
from cliffracer.permissions.needs import processes
from cliffracer.runtime import Running, running
from examples.shop import crowd, drive, inventory, notifications, orders, payments
from tests.permissions.escaping import escaped, ways_of
from tests.support.nats import NatsServer
from tests.support.postgres import Server
from tests.support.postgres import postgres as postgres  # noqa: PLC0414 - a fixture, found by its name
from tests.support.waiting import eventually

APPS = (crowd, inventory, notifications, orders, payments)
NAMES = [app.name for app in APPS]


def cliffracer(*words: str, **environment: str) -> str:
    """Return what the command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "cliffracer", *words], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """A nats-server with the users of the shop, provisioned; their password is their name."""
    with pytest.MonkeyPatch.context() as patch:
        for user in (*NAMES, "deploy"):
            patch.setenv(variable(user), f"{user}-password")
        with NatsServer(cliffracer("permissions", "examples.shop"), jetstream=True) as up:
            deploying = {"NATS_URL": up.url, "NATS_USER": "deploy", "NATS_PASSWORD": "deploy-password"}
            cliffracer("provision", "examples.shop", **deploying)
            assert "notifications-notify" in cliffracer("provision", "examples.shop", **deploying)  # again: nothing changes
            yield up


@pytest.fixture(scope="module")
def database(postgres: Server) -> Iterator[str]:
    """A database with the shop's tables and the roles that the command writes."""

    async def make(url: str) -> None:
        async with Database.open(Settings(database_url=url), name="owner") as db:
            await create_missing(db, models_of([app.freeze() for app in APPS]))

    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        admin.execute("create database shop")
        url = postgres.url("shop")
        asyncio.run(make(url))
        granting = cliffracer("permissions", "examples.shop", "--format", "sql")
        with psycopg.connect(url, autocommit=True) as owner:
            for _ in range(2):  # again: the same
                owner.execute(granting.encode())
        yield url
        admin.execute("drop database shop with (force)")
        for name in sorted({name for names in ROWS.values() for name in names}):
            admin.execute(f'drop role "{name}"'.encode())


def settings(user: str, server: NatsServer, database: str) -> Settings:
    return Settings(
        env="production", nats_url=server.url, nats_user=user, nats_password=f"{user}-password", wait=5.0,
        http_host="127.0.0.1", http_port=0, database_url=database.replace("//postgres@", f"//{user}@"),
    )  # fmt: skip


@asynccontextmanager
async def shop(server: NatsServer, database: str) -> AsyncIterator[dict[str, Running]]:
    """Run the four services, each over a connection of its own."""
    async with AsyncExitStack() as stack:
        yield {
            app.name: await stack.enter_async_context(running(app, settings(app.name, server, database))) for app in APPS
        }  # fmt: skip


async def test_the_shop_works(server: NatsServer, database: str) -> None:
    """Every order is handled, the books add up, and NATS had to refuse nothing."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="WARNING")
    async with shop(server, database) as up:
        deploying = Settings(nats_url=server.url, nats_user="deploy", nats_password="deploy-password")
        async with connect_async(settings=deploying) as client:
            tally = await drive.drive(client, up["orders"].addresses[0], orders=15, seed=3)
            before = await _settled(client)
            async with httpx.AsyncClient(base_url=up["crowd"].addresses[0]) as page:
                assert (await page.post("/crowd", json={"orders": 5, "per_second": 100})).status_code == 202
            assert await drive.becomes(before + 5, lambda: _settled(client))
    logger.remove(sink)
    assert tally["wrong"] + tally["wrong answer"] == 0
    assert tally["confirmed"] > 0
    assert tally["refused"] > 0
    assert [line for line in lines if "NATS refuses" in line or "permissions violation" in line.lower()] == []


async def _settled(client: AsyncClient) -> int:
    totals: dict[str, int] = await client.orders.totals()
    return totals["confirmed"] + totals["refused"]


PUBLISH = {
    "events.order.changed": {"orders"},
    "events.order.lost": set(),
    "inventory.reserve": {"orders"},
    "inventory.stock_up": set(),
    "payments.charge": {"orders"},
    "orders.totals": set(),
    "orders.place_order": {"crowd"},
    "events.crowd.sent": {"crowd"},
    "send.inventory.release": {"orders"},
    "send.payments.ledger": set(),
    "cliffracer.cancel.orders": {"crowd"},
    "cliffracer.cancel.payments": {"orders"},
    "cliffracer.local.orders.x.totals": set(),
    "cliffracer.revoked": set(),
    "cliffracer.state.locks.x": set(),
    "cliffracer.timer.x": set(),
    "cliffracer.later.x": set(),
    "cliffracer.dead.notifications-notify.x": {"notifications"},
    "cliffracer.replay.notifications-notify.order.changed": set(),
    "$KV.revocations.x": set(),
    "$O.claims_events.C.x": set(),
    "$SRV.STATS": set(),
    "$SYS.REQ.SERVER.PING": set(),
    "_INBOX.x.1": set(NAMES),
    "_INBOX.orders.x.1": set(NAMES),
    "_INBOX_orders.x.1": set(),
    "$JS.ACK.EVENTS.notifications-notify.1.1.1.1.0": {"notifications"},
    "$JS.API.INFO": set(),
    "$JS.API.STREAM.NAMES": set(),
    "$JS.API.STREAM.CREATE.MINE": set(),
    "$JS.API.STREAM.UPDATE.EVENTS": set(),
    "$JS.API.STREAM.DELETE.EVENTS": set(),
    "$JS.API.STREAM.PURGE.EVENTS": set(),
    "$JS.API.STREAM.MSG.GET.EVENTS": set(),
    "$JS.API.STREAM.MSG.DELETE.EVENTS": set(),
    "$JS.API.DIRECT.GET.EVENTS": set(),
    "$JS.API.CONSUMER.CREATE.EVENTS.notifications-notify": set(),
    "$JS.API.CONSUMER.CREATE.EVENTS.spy.events.>": set(),
    "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.spy": set(),
    "$JS.API.CONSUMER.DELETE.EVENTS.notifications-notify": set(),
    "$JS.API.CONSUMER.MSG.NEXT.EVENTS.notifications-notify": {"notifications"},
    "$JS.API.CONSUMER.MSG.NEXT.SENDS.inventory-send": {"inventory"},
}
"""What may be published, and by whom."""
SUBSCRIBE = {
    ">": set(),
    "events.>": set(),
    "events.order.changed": {"orders"},
    "inventory.reserve": set(),
    "inventory.reserve inventory": {"inventory"},
    "inventory.reserve thieves": set(),
    "inventory.*": set(),
    "payments.charge payments": {"payments"},
    "send.inventory.*": {"inventory"},
    "_INBOX.>": set(),
    "_INBOX.*.>": set(),
    "_INBOX.orders.>": {"orders"},
    "_INBOX.payments.>": {"payments"},
    "cliffracer.cancel.*": set(),
    "cliffracer.cancel.payments": {"payments"},
    "cliffracer.local.>": set(),
    "cliffracer.rooms.>": set(),
    "$KV.>": set(),
    "$JS.API.>": set(),
    "$JS.ACK.>": set(),
    "$SRV.PING": set(NAMES),
    "$SYS.>": set(),
}


@pytest.mark.parametrize("user", NAMES)
async def test_nothing_else_is_allowed(server: NatsServer, user: str) -> None:
    """With its own credentials a service, or who stole them, publishes and hears what it declares and nothing else."""
    told: list[str] = []

    async def refused(error: Exception) -> None:
        told.append(str(error).lower())

    client = await nats.connect(
        server.url, user=user, password=f"{user}-password", error_cb=refused, inbox_prefix=f"_INBOX.{user}".encode()
    )
    for subject in PUBLISH:
        await client.publish(subject, b"")
    for subject in SUBSCRIBE:
        place, _, queue = subject.partition(" ")
        await client.subscribe(place, queue=queue)
    wrong = sum(user not in users for users in (*PUBLISH.values(), *SUBSCRIBE.values()))
    await eventually(lambda: len(told) >= wrong)
    await client.flush()
    await client.close()
    text = "".join(told)
    published = {subject for subject in PUBLISH if f'publish to "{subject.lower()}"' not in text}
    heard = {subject for subject in SUBSCRIBE if not any(_names(line, subject) for line in told)}
    assert published == {subject for subject, users in PUBLISH.items() if user in users}
    assert heard == {subject for subject, users in SUBSCRIBE.items() if user in users}


def _names(line: str, subject: str) -> bool:
    place, _, queue = subject.lower().partition(" ")
    return f'subscription to "{place}"' in line and (f'using queue "{queue}"' in line) == bool(queue)


@pytest.mark.parametrize("app", APPS, ids=NAMES)
async def test_a_reply_subject_opens_nothing(server: NatsServer, app: App) -> None:
    """Who hears itself ask, and names as the reply subject what it may not publish, still may not publish it."""
    (process,) = processes([app.freeze()], Settings(), together=False)
    found = permissions_of(process)
    assert f"_INBOX.{app.name}.x" in ways_of(found)
    assert app is not orders or {"$SRV.INFO", "events.order.changed"} <= set(ways_of(found))
    assert await escaped(server, found, ("inventory.stock_up", "cliffracer.revoked", "$JS.API.STREAM.PURGE.EVENTS")) == set()


async def test_a_call_that_is_not_declared_is_refused_at_once(server: NatsServer) -> None:
    """The caller is told by `Forbidden`, not by a time-out; and nobody answers where it may not listen."""
    async with connect_async(settings=Settings(nats_url=server.url, nats_user="payments", nats_password="payments-password")) as client:
        with pytest.raises(Forbidden, match=r"do not allow publishing to inventory\.reserve"):
            await client.call("inventory.reserve", order_id="x", lines=[])


async def test_strangers_are_not_let_in(server: NatsServer) -> None:
    """Without credentials there is no connection."""
    with pytest.raises(SetupError, match="refuses us"):
        async with connect_async(settings=Settings(nats_url=server.url)):
            pass


ROWS: dict[str, set[str]] = {
    "articles": {"inventory"}, "reservations": {"inventory"}, "notifications": {"notifications"}, "orders": {"orders"},
    "charges": {"payments"},
}  # fmt: skip


@pytest.mark.parametrize("user", [name for name in NAMES if name != "crowd"])
async def test_tables(database: str, user: str) -> None:
    """A service reads and writes its own tables, and changes no definition, not even theirs."""
    url = database.replace("//postgres@", f"//{user}@")
    found: dict[str, bool] = {}

    async def may(statement: str) -> bool:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as link:
            try:
                await link.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                return False
        return True

    for table in ROWS:
        whole: list[Any] = [await may(f"select * from {table}"), await may(f"delete from {table} where false")]
        assert len(set(whole)) == 1
        found[table] = whole[0]
        assert not await may(f"drop table {table}")
        assert not await may(f"truncate {table}")
    assert found == {table: user in users for table, users in ROWS.items()}
    assert await may("select * from cliffracer_outbox")
    assert not await may("create table mine (x int)")
    assert not await may("create role other")


async def test_what_is_granted_again_is_never_gone(database: str) -> None:
    """As of a new version while the old one runs: psql sends one statement after the other, and calls come in between."""
    granting = await asyncio.to_thread(cliffracer, "permissions", "examples.shop", "--format", "sql")
    asked = "select " + ", ".join(f"has_table_privilege('{min(users)}', '{table}', 'insert')" for table, users in ROWS.items())
    connecting = psycopg.AsyncConnection.connect
    async with await connecting(database, autocommit=True) as owner, await connecting(database, autocommit=True) as looking:
        for line in granting.splitlines():
            await owner.execute(line.encode())
            assert await (await looking.execute(asked.encode())).fetchone() == (True,) * len(ROWS)


async def test_what_is_not_provisioned_is_told(server: NatsServer, database: str) -> None:
    """A service whose consumer is not there does not start, and says what to do."""
    app = App("payments", emits=[])

    @app.on("order.changed")
    async def newcomer(change: dict[str, Any]) -> None: ...

    with pytest.raises(Forbidden, match="cliffracer provision"):
        async with asyncio.timeout(20), running(app, settings("payments", server, database)):
            pass


async def test_a_version_starts_where_another_was_provisioned(server: NatsServer, database: str) -> None:
    """It may change nothing of its consumer, and takes what is for it all the same: an old replica that starts again, or a rollback."""
    bus = await connect(Settings(nats_url=server.url, nats_user="deploy", nats_password="deploy-password"), name="test")
    jetstream = JetStream(bus)
    before = (await jetstream.consumer("EVENTS", "notifications-notify")).config
    await jetstream.update_consumer("EVENTS", "notifications-notify", {**before, "max_ack_pending": 10_000})
    async with running(notifications, settings("notifications", server, database)) as up:
        assert up.health.ready
    await jetstream.update_consumer("EVENTS", "notifications-notify", before)
    await bus.close()
