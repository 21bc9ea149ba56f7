"""What ``cliffracer doctor`` says of streams and consumers."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from cliffracer import App, NotFound, Unavailable
from cliffracer.cli import doctor, drift
from cliffracer.cli.doctor import _kept
from cliffracer.client import connect_async
from cliffracer.database.clones import Clones
from cliffracer.messaging.jetstream import JetStream, StreamInfo, StreamState
from cliffracer.settings import Settings
from cliffracer.testing import running
from cliffracer.wire.subjects import Subjects
from tests.support.nats import NatsServer
from tests.support.postgres import Server
from tests.support.postgres import postgres as postgres  # noqa: PLC0414 - a fixture, found by its name

SERVICE = """
from cliffracer import App
app = App("shop")

@app.rpc
async def charge(amount: int) -> None: ...

@app.on("order.placed")
async def invoice(number: int) -> None: ...
"""


def old() -> App:
    app = App("shop")

    @app.rpc
    async def charge(amount: int) -> None: ...

    @app.on("order.placed")
    async def bill(number: int) -> None: ...

    @app.every("1h")
    async def tidy() -> None: ...

    return app


async def test_what_was_renamed_is_told_with_its_lag(tmp_path: Path):
    """Of subscriptions and of timers; what is there, and what other services have, is not. What to do about it is said."""
    (tmp_path / "shop.py").write_text(SERVICE)
    async with running(App("emitter")) as t:
        async with running(old(), settings=t.settings):
            await t.app.service("shop").send.charge(amount=1)
        for number in range(3):
            await t.emit("order.placed", number)
        names = {"NATS_URL": t.settings.nats_url or "", "CLIFFRACER_NAMESPACE": t.settings.namespace, "PYTHONPATH": str(Path.cwd())}
        line = [sys.executable, "-m", "cliffracer", "doctor", "shop:app", "--json"]
        done = await asyncio.to_thread(
            subprocess.run, line, cwd=tmp_path, env={**os.environ, **names}, capture_output=True, text=True, timeout=60, check=False
        )
    told = [finding["text"] for finding in json.loads(done.stdout) if finding["state"] == "look"]
    lost, prefix = "belongs to no function of these apps any more", f"{t.settings.namespace}_shop"
    assert [text.partition(";")[0] for text in told if lost in text] == [
        f"consumer {prefix}-bill of shop.bill {lost}: 3 wait for it for ever",
        f"consumer {prefix}-tidy-timer of shop.tidy-timer {lost}: nothing waits for it",
    ]
    assert any("group='shop-bill' on another function takes them over" in text for text in told)
    assert not any("group='shop-tidy-timer'" in text for text in told)  # no function takes ticks


async def test_what_waits_for_a_service_that_is_gone_is_told() -> None:
    """One that got another name is in no code that is asked about; its events are kept for it. What runs is not told of."""
    async with running(App("emitter")) as t:
        async with running(old(), settings=t.settings):
            await t.emit("order.placed", 1)
            await t.settled()
            infos = await t.up.services[0].link.directory.ask("INFO")
            jetstream, subjects = JetStream(t.up.bus), Subjects(t.settings.namespace)
            assert [text async for text in drift.deserted(jetstream, subjects, infos, [])] == []
        await t.emit("order.placed", 2)
        told = [text async for text in drift.deserted(jetstream, subjects, [], [t.app.freeze()])]
    name = f"consumer {t.settings.namespace}_shop-bill is that of shop, of which nothing runs"
    assert [text.partition(":")[0] for text in told] == [name]


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set back the clock of this machine, as `doctor` reads it, by so many seconds."""

    def back(seconds: float) -> None:
        monkeypatch.setattr(drift, "now", lambda: datetime.now(UTC) - timedelta(seconds=seconds))

    return back


@pytest.mark.parametrize(
    ("seconds", "state", "text"),
    [
        (0, "ok", "{} and this machine agree within 1 s"),
        (90, "look", "{} is 90.0 s ahead of this machine: keep both in step by NTP"),
        (-90, "look", "{} is 90.0 s behind this machine: keep both in step by NTP"),
    ],
)
async def test_clocks_that_are_apart_are_told(behind: Callable[[float], None], postgres: Server, seconds: int, state: str, text: str):
    """Of NATS, with a stream of events or before there is one, and of PostgreSQL; and that they agree, where they do."""
    behind(seconds)
    async with running(App("early")) as t:
        subjects = Subjects(t.settings.namespace)
        async with connect_async(settings=t.settings) as client:
            with pytest.raises(NotFound):
                await JetStream(client.link.bus).stream(subjects.stream)
        assert await clocks(doctor._nats(t.settings, ())) == [(state, text.format("NATS"))]
        await t.emit("order.placed", 1)
        assert await clocks(doctor._nats(t.settings, ())) == [(state, text.format("NATS"))]
    with Clones(postgres.url(), template="template1", prefix="clock") as clones:
        settings = Settings.load(database_url=clones.take())
        assert await clocks(doctor._database(settings, ())) == [(state, text.format("PostgreSQL"))]


FULL = """
    create function full_disk() returns event_trigger language plpgsql
        as $$ begin raise exception 'could not extend file' using errcode = '53100'; end $$;
    create event trigger full_disk on ddl_command_start execute function full_disk();
"""


async def test_what_takes_no_more_is_told(postgres: Server):
    """A store without room, a database that is read only, and one that stores nothing more: all else that is looked at there is well."""
    server = NatsServer()
    (server.folder / "nats.conf").write_text(
        f'listen: 127.0.0.1:{server.port}\njetstream {{ store_dir: "{server.folder}/jetstream", max_file_store: 1MB }}'
    )
    with server:
        settings = Settings.load(nats_url=server.url, wait=5)
        async with running(App("early"), settings=settings) as t:
            await t.emit("order.placed", 1)
            assert [f for f in [f async for f in doctor._nats(t.settings, ())] if f.state != "ok"] == []
            with pytest.raises(Unavailable, match="JetStream is full"):
                await asyncio.gather(*(t.emit("order.placed", os.urandom(100_000).hex()) for _ in range(20)))
            [found] = [f async for f in doctor._nats(t.settings, ()) if f.state != "ok"]
            async with connect_async(settings=t.settings) as client:
                assert [name for name in await JetStream(client.link.bus).stream_names() if "DOCTOR" in name] == []
    room = "give it room (max_file_store, its disk, the account's limits), or remove what nobody needs"
    assert found == ("wrong", "JetStream", f"JetStream is full: insufficient resources; {room}")
    with Clones(postgres.url(), template="template1", prefix="reading") as clones:
        url = clones.take()
        meant = Settings.load(database_url=f"{url}{'&' if '?' in url else '?'}options=-cdefault_transaction_read_only%3Don")
        assert "ok for reading only" in [f"{f.state} {f.text[:16]}" async for f in doctor._database(meant, ())]
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"alter database {connection.info.dbname} set default_transaction_read_only to on")
        settings = Settings.load(database_url=url)
        [found] = [f async for f in doctor._database(settings, ()) if f.state != "ok"]
        assert (found.state, found.text[:35]) == ("wrong", "PostgreSQL takes no changes: a stan")
        with psycopg.connect(url, options="-cdefault_transaction_read_only=off") as connection:
            connection.execute(f"alter database {connection.info.dbname} reset default_transaction_read_only")
        with psycopg.connect(url) as connection:  # a full disk, as it would refuse a page
            connection.execute(FULL)
        [found] = [f async for f in doctor._database(Settings.load(database_url=url), ()) if f.state != "ok"]
    assert found == ("wrong", "database", "PostgreSQL stores nothing (could not extend file). The disk of the PostgreSQL server is full.")


async def test_a_server_that_does_not_say_what_time_it_is_is_not_taken_for_right():
    """Where an operator forbids to ask, and nothing is stored; JetStream, which is allowed, tells as soon as there is a stream."""
    config = 'authorization { users: [{ user: a, password: b, permissions: { publish: { deny: ["$SYS.>"] } } }] }'
    with NatsServer(config, jetstream=True) as server:
        settings = Settings.load(nats_url=server.url.replace("//", "//a:b@"))
        unknown = "NATS does not say what time it is: whether its clock is right cannot be seen from here"
        assert await clocks(doctor._nats(settings, ())) == [("ok", unknown)]
        async with running(App("early"), settings=settings) as t:
            await t.emit("order.placed", 1)
        assert await clocks(doctor._nats(settings, ())) == [("ok", "NATS and this machine agree within 1 s")]


async def clocks(findings: AsyncIterator[doctor.Finding]) -> list[tuple[str, str]]:
    """Return what is said of clocks; a tenth of a second may pass on the way."""
    return [(f.state, re.sub(r"(89\.9|90\.1) s", "90.0 s", f.text)) async for f in findings if f.about == "clock"]


def test_what_may_become_of_acknowledged_events_is_told():
    """A power cut, where one server keeps them in production; an operator's limits, everywhere."""
    config = {"name": "EVENTS", "num_replicas": 1}
    [alone] = _kept(StreamInfo(config, StreamState()), production=True)
    assert "a power cut may lose what it acknowledged in its last two minutes; set jetstream { sync_interval: always }" in alone.text
    assert list(_kept(StreamInfo(config, StreamState()), production=False)) == []
    limited = {**config, "num_replicas": 3, "discard": "old", "max_msgs": 5, "max_age": 3600 * 10**9}
    assert [finding.text.partition(":")[0] for finding in _kept(StreamInfo(limited, StreamState()), production=True)] == [
        "EVENTS is kept by 3 servers",
        "EVENTS drops old events when it is full, handled or not",
        "EVENTS drops events after 1h, handled or not",
    ]


def test_an_extra_that_is_not_installed_is_named_as_it_is_installed(monkeypatch: pytest.MonkeyPatch):
    """Not by the module that is looked for, whose name says nothing to who reads it."""
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name in {"httpx2", "IPython"} else name)
    assert [finding.text for finding in doctor._versions() if finding.about == "extra"] == [
        'without cliffracer[oidc] there is no sign-in by an issuer: pip install "cliffracer[oidc]"',
        'without ipython there is no better prompt in `cliffracer shell`: pip install "ipython"',
    ]
