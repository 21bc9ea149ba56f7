"""More calls than an app can do: those it cannot take are refused, not dropped, and whatever else it does goes on."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from benchmarks.load.nats import Connection, connect
from cliffracer import App, Context
from cliffracer.messaging.bus import connect as connect_bus
from cliffracer.messaging.transport.stock import StockBus
from cliffracer.testing import running
from tests.messaging.transport.test_floods import resident
from tests.support.inside import handler_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports
FLOOD = 4_000
BURST = 15_000


class Crowd(Connection):
    """A raw client that asks without waiting, and counts what it is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: Counter[str] = Counter()

    async def ask(self, subject: str, number: int, payload: bytes) -> None:
        self.transport.write(b"SUB _INBOX.crowd.* 1\r\n")
        for start in range(0, number, 500):
            self.transport.write(
                b"".join(
                    b"PUB %b _INBOX.crowd.%d %d\r\n%b\r\n" % (subject.encode(), n, len(payload), payload) for n in range(start, start + 500)
                )
            )
            await asyncio.sleep(0)

    def message(self, words: list[bytes], header: bytes, payload: bytes) -> None:
        self.answers["refused" if b"Nats-Service-Error-Code: 429" in header else "done" if payload == b"1" else "else"] += 1


def make() -> tuple[App, asyncio.Event]:
    app, let = App("s"), asyncio.Event()

    @app.rpc(limit=10, deadline=60)
    async def stuck(text: str) -> int:
        await let.wait()
        return 1

    @app.rpc(limit=BURST)
    async def busy(text: str) -> int:
        until = time.monotonic() + 0.00003
        while time.monotonic() < until:
            pass
        return 1

    @app.rpc
    async def other(*, context: Context) -> str:
        return "here"

    @app.get("/here")
    async def here() -> str:
        return "here"

    return app, let


async def crowd_of(t: Any) -> Crowd:
    crowd = Crowd()
    await connect(t.settings.nats_url, crowd)
    return crowd


async def test_every_call_of_a_flood_is_answered():
    """A handler that is busy refuses (429) what is over its limit and queue; nothing is dropped, and nothing of it stays."""
    app, let = make()
    async with running(app) as t:
        handler = handler_of(t, "stuck")
        crowd = await crowd_of(t)
        before = resident()
        await crowd.ask(f"{t.settings.namespace}.s.stuck", FLOOD, b'{"text":"%b"}' % (b"x" * 1000))
        await eventually(lambda: handler.gate.refused + handler.gate.admitted == FLOOD, within=60)
        assert resident() - before < 32  # MB
        kept = handler.gate.admitted
        await eventually(lambda: crowd.answers["refused"] == FLOOD - kept)
        let.set()
        await eventually(lambda: crowd.answers["done"] == kept)
        assert sum(crowd.answers.values()) == FLOOD
        assert not handler.gate.admitted
        crowd.transport.close()


async def test_a_method_that_hangs_starves_nothing_else():
    """While all its places are taken and thousands more ask, other methods, HTTP and health checks are answered."""
    app, let = make()
    async with running(app) as t:
        crowd = await crowd_of(t)
        await crowd.ask(f"{t.settings.namespace}.s.stuck", FLOOD, b'{"text":"x"}')
        assert await t.call("other") == "here"
        assert (await t.http.get("/here")).json() == "here"
        assert (await t.http.get("/health/ready")).status_code == 200
        assert not crowd.answers["done"]
        let.set()
        await eventually(lambda: sum(crowd.answers.values()) == FLOOD)
        crowd.transport.close()


async def test_a_burst_that_keeps_the_processor_busy_does_not_hold_the_loop():
    """Health checks and HTTP are answered between its calls; a call that was sent after the burst arrives after it."""
    app, _ = make()
    async with running(app) as t:
        crowd = await crowd_of(t)
        asked = asyncio.create_task(crowd.ask(f"{t.settings.namespace}.s.busy", BURST, b'{"text":"x"}'))
        between = 0
        async with asyncio.timeout(60):
            while (done := crowd.answers["done"]) < BURST:
                assert (await t.http.get("/health/ready")).status_code == 200
                between += done > 0 and crowd.answers["done"] < BURST
        await asked
        assert await t.call("other") == "here"
        assert crowd.answers["done"] == BURST
        assert between > 0 or isinstance(t.up.bus, StockBus)  # nats-py hands over in one go what is there
        crowd.transport.close()


async def test_a_fast_publisher_of_core_events_is_kept_up_with():
    """What is read is begun before more is read: 2,000 events ahead of a handler with a hundred places lose none."""
    app, seen = App("fast"), Counter[str]()

    @app.on("order", durable=False)
    async def order(number: int) -> None:
        seen["events"] += 1

    async with running(app) as t:
        bus = await connect_bus(t.settings, name="publisher")
        try:
            subject = f"{t.settings.namespace}.events.order".encode()
            ahead = 1000 if isinstance(bus, StockBus) else 2000  # nats-py hands over in one go what it has
            for burst in range(1, 11):
                for number in range(ahead):
                    bus.publish(subject, b"%d" % number)
                await eventually(lambda: seen["events"] == ahead * burst)  # noqa: B023 - looked at before the next
        finally:
            await bus.close()
