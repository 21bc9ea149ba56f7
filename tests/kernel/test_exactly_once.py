"""At least once on the wire, exactly once in the database: processes and servers killed while they work."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cliffracer import App, Database
from cliffracer.messaging.bus import connect
from cliffracer.messaging.jetstream import JetStream
from cliffracer.settings import Settings
from cliffracer.testing import running
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.support import publisher
from tests.support.nats import NatsServer
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

LEDGER = """
from cliffracer import App, Database
app = App("ledger")

@app.on("paid", once=True, limit=20)
async def book(number: int, *, db: Database) -> None:
    await db.execute("insert into effects (number) values (%s)", number)
"""


class Replicas:
    """Processes that run an app."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        (folder / "ledger.py").write_text(LEDGER)
        self._folder = folder
        self._environment = {**os.environ, **environment, "PYTHONPATH": str(Path.cwd()), "CLIFFRACER_WAIT": "30"}
        self.log = folder / "log"
        self.processes: list[subprocess.Popen[bytes]] = []

    async def start(self) -> None:
        """Start one and return once it serves."""
        ready = self.log.read_text().count("ready") if self.log.exists() else 0
        with self.log.open("ab") as log:
            line = [sys.executable, "-m", "cliffracer", "run", "ledger:app"]
            self.processes.append(
                await asyncio.to_thread(subprocess.Popen, line, cwd=self._folder, env=self._environment, stdout=log, stderr=log)
            )
        await eventually(lambda: self.log.read_text().count("ready") > ready, within=60)

    async def replace_first(self) -> None:
        """Kill the oldest and start another."""
        victim = self.processes.pop(0)
        victim.kill()
        await asyncio.to_thread(victim.wait, 20)
        await self.start()

    def close(self) -> None:
        """End all."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(30)


async def reached(t: Any, which: int, wanted: int) -> None:
    """Return when there are so many rows (0), or different ones (1)."""
    async with asyncio.timeout(240):
        while (await t.call("rows"))[which] < wanted:  # noqa: ASYNC110 - another process writes them
            await asyncio.sleep(0.03)


async def test_the_effect_of_every_event_is_had_exactly_once(tmp_path: Path):
    """20,000 events, three replicas, the server killed three times and a replica five times: every row is there, each once."""
    total, app = 20_000, App("probe")

    @app.rpc
    async def rows(*, db: Database) -> Any:
        return await db.fetch_value(int, "select count(*)::int from effects"), await db.fetch_value(
            int, "select count(distinct number)::int from effects"
        )

    @app.rpc
    async def prepare(*, db: Database) -> None:
        await db.execute("create table effects (number integer not null)")

    async def emit(jetstream: JetStream) -> None:
        publish = publisher(jetstream, Subjects())

        async def lane(first: int) -> None:
            for number in range(first, total, 16):
                headers = {"ce-id": f"id-{number}"}
                await publish.publish("events.paid", b"%d" % number, headers, message_id=f"id-{number}", timeout=120)

        await asyncio.gather(*(lane(first) for first in range(16)))

    with NatsServer(jetstream=True) as server:
        async with running(app) as t:
            await t.call("prepare")
            replicas = Replicas(tmp_path, {"NATS_URL": server.url, "DATABASE_URL": t.settings.database_url or ""})
            try:
                for _ in range(3):
                    await replicas.start()
                bus = await connect(Settings(nats_url=server.url, wait=10.0), name="test")
                emitting = asyncio.create_task(emit(JetStream(bus)))
                victims = ["server", "replica", "replica", "server", "replica", "replica", "server", "replica"]
                for number, victim in enumerate(victims, 1):
                    await reached(t, 0, number * total // 10)
                    await (asyncio.to_thread(server.restart) if victim == "server" else replicas.replace_first())
                await emitting
                await reached(t, 1, total)
                await bus.close()
            finally:
                await asyncio.to_thread(replicas.close)
            assert await t.call("rows") == [total, total], replicas.log.read_text()[-3000:]


async def test_replica_that_is_cut_off_from_nats_leaves_its_events_to_others() -> None:
    """What it commits is published by a replica that can, at once: it does not take the turn of the outbox to try in vain."""
    app, other, seen = App("cut"), App("whole"), []

    @app.rpc
    async def anything(*, db: Database) -> None: ...

    @other.on("booked")
    async def see(number: int, *, db: Database) -> None:
        seen.append(number)

    async with running(other) as t:
        where = urlsplit(t.settings.nats_url)
        async with Proxy(where.port or 0) as proxy:
            url = where._replace(netloc=where.netloc.replace(str(where.port), str(proxy.port))).geturl()
            async with running(app, settings=t.settings.changed(nats_url=url)) as cut:
                proxy.refuse()
                await eventually(lambda: not cut.up.bus.connected)
                async with app.databases[-1].transaction():
                    await app.emit("booked", 7)
                await eventually(lambda: seen == [7])
                assert [relay.failed for relay in app.databases[-1].relays] == [0]
                proxy.heal()
