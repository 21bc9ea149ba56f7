"""Health where something ails that no other replica is free of: streams without room, a database that takes no changes."""

import asyncio
import re

import pytest

from cliffracer import App, Database, Settings
from cliffracer.appdatabase import AppDatabase
from cliffracer.cli.look import failing
from cliffracer.client import AsyncClient
from cliffracer.embedded import servers
from cliffracer.errors import Unavailable
from cliffracer.messaging.jetstream import JetStream, StreamInfo
from cliffracer.runtime import running as serving
from cliffracer.testing import running
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

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


async def test_a_standby_takes_no_changes():
    """Whoever asks is told so before anything has failed."""
    with servers(database=True) as urls:
        only_reads = f"{urls.database_url}{'&' if '?' in urls.database_url else '?'}options=-c%20default_transaction_read_only%3Don"
        async with Database.open(Settings(database_url=only_reads), name="standby") as database:
            with pytest.raises(Unavailable, match="read-only"):
                await AppDatabase(database).stores()
