"""Health where something ails that no other replica is free of: streams without room, a database that takes no changes."""

import asyncio
import re
from collections.abc import Iterator

import httpx
import psycopg
import pytest

from cliffracer import App, Database, Model, Repository, Settings
from cliffracer.appdatabase import AppDatabase
from cliffracer.cli.look import failing
from cliffracer.client import AsyncClient
from cliffracer.database.reading import only_reads
from cliffracer.embedded import servers
from cliffracer.errors import Unavailable
from cliffracer.messaging.jetstream import JetStream, StreamInfo
from cliffracer.runtime import running as serving
from cliffracer.testing import running
from tests.support.nats import NatsServer
from tests.support.waiting import eventually


class Report(Model):
    """What is read only."""

    __tablename__ = "report"


@pytest.fixture
def database_url() -> Iterator[str]:
    """An empty database of its own, on the embedded server."""
    with servers(nats=False, database=True) as urls, psycopg.connect(urls.database_url, autocommit=True) as connection:
        connection.execute("create database degraded")
        yield f"{urls.database_url}&dbname=degraded"
        connection.execute("drop database degraded with (force)")
        connection.execute("drop role if exists reads_only")


_FAILING = re.compile(r'^cliffracer_health_check{check="(.+)",critical="false"} 0$', re.MULTILINE)


async def test_what_no_replica_can_help_is_degraded_and_serves_on():
    """Events that find no room, and a database that takes no changes, are told to people and to Prometheus; the replica stays ready."""
    app = App("night")

    @app.on("order.placed")
    async def bill(number: int) -> None: ...

    @app.get("/count")
    async def count(*, db: Database) -> int | None:
        return await db.fetch_value(int, "select 1")

    @app.get("/change")
    async def change(*, db: Database) -> None:
        await db.execute("do $$ begin raise exception 'no space left' using errcode = '53100'; end $$")

    async def told() -> tuple[str, set[str]]:
        assert (await t.http.get("/health/ready")).status_code == 200
        found = (await t.http.get("/health/detailed")).json()
        counted = set(_FAILING.findall((await t.http.get("/metrics")).text))
        assert counted == {name for name, check in found["checks"].items() if check["status"] != "ok"}
        return found["status"], counted

    async with running(app) as t:
        assert await told() == ("ok", set())
        backend = t.up.services[0].backend
        name = backend._subjects.stream
        config = (await JetStream(t.up.bus).stream(name)).config
        await JetStream(t.up.bus).ask(f"STREAM.UPDATE.{name}", {**config, "max_msgs": 1, "discard": "new"}, StreamInfo)
        await app.emit("order.placed", 1)
        assert await told() == ("degraded", {"events"})
        with pytest.raises(Unavailable):
            await app.emit("order.placed", 2)
        assert (await t.http.get("/change")).status_code == 503
        assert await told() == ("degraded", {"events", "database writes"})
        detailed = (await t.http.get("/health/detailed")).json()["checks"]
        assert detailed["database writes"]["status"] == "its disk is full"
        (told_of,) = (await failing(AsyncClient(t._link, None), "night")).values()
        assert "database writes: its disk is full" in told_of
        assert (await t.http.get("/count")).json() == 1


async def test_consumers_that_cannot_be_resumed_are_degraded():
    """The connection is back and its server keeps no streams any more: no event is handled, no timer runs, and nothing fails for it."""
    app = App("stuck")

    @app.on("order.placed")
    async def bill(number: int) -> None: ...

    @app.every("1h")
    async def tidy() -> None: ...

    with NatsServer(jetstream=True) as server:
        async with serving(app, Settings(nats_url=server.url, env="test")) as up:
            assert {found.name: found.reason for found in await up.health.findings()} == {"nats": "", "events": ""}
            server.stop()
            server.jetstream = False
            server.configure("")
            server.start()
            await eventually(lambda: len(up.services[0].stuck) == 2)
            assert [found.reason for found in await up.health.findings()] == ["", "stuck-bill, stuck-tidy-timer cannot be resumed"]
            assert await up.health.reasons() == []


@pytest.mark.parametrize(("env", "times"), [("development", 1), ("test", 2)])
async def test_who_look_in_one_second_ask_the_servers_once(env: str, times: int):
    """Whoever scrapes, probes or looks gets one answer of NATS; in tests, none is older than the question."""
    app = App("night")

    @app.on("order.placed")
    async def bill(number: int) -> None: ...

    with NatsServer(jetstream=True) as server:
        async with serving(app, Settings(nats_url=server.url, env=env)) as up:
            asked: list[object] = []
            up.health._now = lambda: 7.0
            await up.bus.subscribe("$JS.API.STREAM.INFO.EVENTS", lambda *message: asked.append(message))
            await up.bus.flush()
            for _ in range(2):
                assert [found.reason for found in await up.health.findings()] == ["", ""]
            await up.bus.flush()
            assert len(asked) == times


async def test_a_check_that_hangs_is_told_of_in_a_terminal():
    """A replica answers what it is asked about its health when its checks have had their time, and is waited for."""
    app = App("night")

    @app.health_check("disk", critical=False)
    async def disk() -> None:
        await asyncio.Event().wait()

    async with running(app) as t:
        t.up.health.within = 1.0
        assert list((await failing(AsyncClient(t._link, None), "night")).values()) == [["disk: no answer within 1 s"]]


async def test_a_database_that_became_read_only_takes_no_changes(database_url: str):
    """Whoever asks is told so before anything has failed; a default of the server or of the database is nobody's wish."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("alter database degraded set default_transaction_read_only to on")
    async with Database.open(Settings(database_url=database_url), name="standby") as database:
        assert not await only_reads(database)
        with pytest.raises(Unavailable, match="read-only"):
            await AppDatabase(database).stores()


@pytest.mark.parametrize("said", ["by its address", "by its user", "by asking for a standby"])
async def test_a_database_that_is_for_reading_is_well(said: str, database_url: str, caplog: pytest.LogCaptureFixture):
    """It is not asked whether it takes changes, no tables are made in it, and no outbox is looked at: nothing fails, nothing is logged."""
    app = App("reports")

    @app.get("/count")
    async def count(*, reports: Repository[Report]) -> int:
        return await reports.count()

    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create table report (id uuid, created_at timestamptz, updated_at timestamptz)")
        if said == "by its user":
            connection.execute("drop role if exists reads_only; create role reads_only login; grant select on report to reads_only")
            connection.execute("alter role reads_only set default_transaction_read_only = on")
    more = {"by its address": "options=-c%20default_transaction_read_only%3Don", "by its user": "user=reads_only"}
    url = f"{database_url}&{more.get(said, 'target_session_attrs=prefer-standby')}"
    with NatsServer(jetstream=True) as server:
        async with serving(app, Settings(nats_url=server.url, database_url=url, http_port=0)) as up, httpx.AsyncClient() as http:
            await asyncio.sleep(0.2)  # a relay would have looked by now
            assert (await http.get(f"{up.addresses[0]}/count")).json() == 0
            found = (await http.get(f"{up.addresses[0]}/health/detailed")).json()
            assert (found["status"], set(found["checks"]), "outbox" in found) == ("ok", {"nats", "database", "events"}, False)
            assert up.services[0]._database is not None
            assert not up.services[0]._database.database.relays
            assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []
