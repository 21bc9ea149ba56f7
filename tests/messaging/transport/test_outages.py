"""Losing the server: crashes, hangs, partitions, rotated passwords; what is said, and the way back."""

import asyncio
import signal
import time
from contextvars import ContextVar
from typing import Any

import pytest

from cliffracer.errors import DeadlineExceeded, Unavailable
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.transport import fast, reconnecting
from cliffracer.messaging.transport.stock import StockBus
from tests.messaging.transport.conftest import settings
from tests.support.fake_nats import FakeNats
from tests.support.nats import NatsServer
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

PING = 0.1  # seconds, instead of 5, where a test waits for the verdict "dead"
who: ContextVar[str] = ContextVar("who", default="nobody")


async def test_an_outage_is_one_line_and_a_line_at_its_end(connected: Any, server: NatsServer, log: list[str]) -> None:
    """However many attempts it takes; listeners hear of it once too."""
    lost: list[str] = []
    back: list[float] = []
    bus = await connected(server.url, on_lost=lost.append, on_back=back.append)
    server.kill()
    await eventually(lambda: lost)
    await asyncio.sleep(0.5)  # several attempts
    assert len(log) == 1
    assert "NATS connection lost" in log[0]
    server.start()
    await eventually(lambda: back)
    assert bus.connected
    assert len(log) == 2
    assert "back after" in log[1]
    assert len(lost) == len(back) == 1
    assert back[0] >= 0.5


async def test_what_comes_over_a_new_connection_knows_nothing_of_who_lost_the_last(bus: Bus) -> None:
    """Context variables of a call that wrote to it when it was over, such as who asks, are not those of all calls afterwards."""
    seen: list[str] = []
    await bus.subscribe("who", lambda *_: seen.append(who.get()))

    async def call() -> None:
        who.set("Ada")
        bus.link.client.end("a call found out")  # type: ignore[attr-defined]  # both transports have one

    await asyncio.create_task(call())
    await eventually(lambda: bus.connected)
    bus.publish(b"who", b"")
    await eventually(lambda: seen)
    assert seen == ["nobody"]


async def test_listeners_that_raise_do_not_end_the_reconnection(connected: Any, server: NatsServer, log: list[str]) -> None:
    """Their failure is logged, and NATS comes back."""

    def fail(_: object) -> None:
        raise RuntimeError("a listener's mistake")

    bus = await connected(server.url, on_lost=fail, on_back=fail)
    for _ in range(2):
        server.kill()
        await eventually(lambda: not bus.connected)
        server.start()
        await eventually(lambda: bus.connected)
    assert sum("a listener's mistake" in line for line in log) == 4


async def test_many_restarts_under_load(connected: Any, server: NatsServer) -> None:
    """Requests go on through four kills; each ends by its deadline, and the last ones succeed."""
    bus = await connected(server.url)
    await bus.subscribe("echo", lambda _, reply, __, payload: bus.publish(reply, payload))
    await bus.flush()
    outcomes: list[str] = []
    stop = False

    async def caller() -> None:
        while not stop:
            try:
                await bus.request(b"echo", b"x", timeout=0.3)
            except (Unavailable, DeadlineExceeded) as error:
                outcomes.append(type(error).__name__)
            else:
                outcomes.append("ok")
            await asyncio.sleep(0)

    callers = [asyncio.create_task(caller()) for _ in range(8)]
    for _ in range(4):
        seen = outcomes.count("ok")
        await eventually(lambda seen=seen: outcomes.count("ok") > seen + 50)
        server.kill()
        await eventually(lambda: not bus.connected)
        server.start()
    await eventually(lambda: bus.connected)
    stop = True
    async with asyncio.timeout(30):
        await asyncio.gather(*callers)
    assert (await bus.request(b"echo", b"x", timeout=20)).payload == b"x"


async def test_nothing_outlives_its_deadline_on_a_hung_server(bus: Bus, server: NatsServer) -> None:
    """A request, a flush, a publish of megabytes, a drain and a cancellation against a stopped process."""
    got: list[bytes] = []
    subscription = await bus.subscribe("a", lambda _, __, ___, payload: got.append(payload))
    await bus.flush()
    server.pause()
    cancelled = asyncio.create_task(bus.request(b"a", b"", timeout=60))
    async with asyncio.timeout(30):
        with pytest.raises(DeadlineExceeded):
            await bus.request(b"a", b"", timeout=0.1)
        with pytest.raises(Unavailable):
            await bus.flush(0.1)
        await fill(bus)
        with pytest.raises((Unavailable, DeadlineExceeded)):
            await bus.request(b"a", b"", timeout=0.1)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    server.kill()
    await eventually(lambda: not bus.connected)
    await subscription.drain()


async def test_a_call_says_whether_nats_itself_hangs(bus: Bus, server: NatsServer) -> None:
    """What is slow is one thing, and a server that says nothing although it was asked for a sign of life is another."""
    if isinstance(bus, StockBus):
        pytest.skip("nats-py does not tell")
    await bus.subscribe("slow", lambda *_: None)
    await bus.flush()
    with pytest.raises(DeadlineExceeded, match=r"^slow did not answer in time$"):
        await bus.request(b"slow", b"", timeout=0.8)
    server.pause()
    with pytest.raises(DeadlineExceeded, match=r"^slow did not answer in time: NATS itself does not answer, for 0\.\d s$"):
        await bus.request(b"slow", b"", timeout=0.8)


async def test_a_hung_server_is_not_waited_for_when_everything_ends(
    bus: Bus, server: NatsServer, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing: neither the drains nor the close take the time that one has which is merely slow."""
    if isinstance(bus, StockBus):
        pytest.skip("nats-py does not tell")
    monkeypatch.setattr(fast, "PATIENCE", 3600.0)
    monkeypatch.setattr(reconnecting, "PATIENCE", 3600.0)
    subscriptions = [await bus.subscribe(name, lambda *_: None) for name in ("a", "b")]
    await bus.flush()
    server.pause()
    async with asyncio.timeout(30):
        for subscription in subscriptions:
            await subscription.drain()
        await bus.close()
    assert any("NATS does not answer" in line for line in log)


async def test_closing_is_bounded_on_a_hung_server(connected: Any, server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with megabytes unsent."""
    monkeypatch.setattr(reconnecting, "PATIENCE", 0.4)
    bus = await connected(server.url)
    server.pause()
    await fill(bus)
    async with asyncio.timeout(30):
        await bus.close()


async def test_a_hung_server_is_left_for_another(connected: Any, log: list[str]) -> None:
    """Pings find out, and bytes in flight do not hold the failover up."""
    with NatsServer() as hanging, NatsServer() as healthy:
        bus = await connected(hanging.url, ping=PING)
        hanging.pause()
        await fill(bus)
        bus.link._dialer._read = lambda: settings(healthy.url)
        await eventually(lambda: bus.info.get("port") == healthy.port and bus.connected)
        assert sum("lost" in line for line in log) == 1


async def test_a_partition_with_bytes_in_flight(connected: Any, server: NatsServer) -> None:
    """A black hole between us and one server: requests work again over the other, long before TCP gives up."""
    async with Proxy(server.port) as proxy:
        bus = await connected(proxy.url, ping=PING)
        await bus.subscribe("echo", lambda _, reply, __, payload: bus.publish(reply, payload))
        await bus.flush()
        proxy.blackhole()
        await fill(bus)
        await eventually(lambda: not bus.connected)
        proxy.heal()
        assert (await bus.request(b"echo", b"x", timeout=10)).payload == b"x"


async def test_a_path_that_is_broken_in_one_direction_is_noticed(connected: Any, server: NatsServer) -> None:
    """What we send does not arrive while events still come: the connection is made anew, and requests are answered again."""
    feed = await connected(server.url)
    async with Proxy(server.port) as proxy:
        bus = await connected(proxy.url, ping=PING)
        await bus.subscribe("tick", lambda *_: None)
        await bus.flush()
        proxy.swallow()
        while bus.connected:
            feed.publish(b"tick", b"x")
            await asyncio.sleep(PING / 4)
        proxy.heal()
        await eventually(lambda: bus.connected)
        await bus.flush()


async def test_requests_to_a_hung_server_are_not_run_later(connected: Any, server: NatsServer) -> None:
    """What still waits in our process when its caller gives up is never sent."""
    worker, caller = await connected(server.url), await connected(server.url)
    seen: list[bytes] = []
    await worker.subscribe("work", lambda _, __, ___, payload: seen.append(payload[:4]))
    await worker.flush()
    server.pause()
    await fill(caller)
    with pytest.raises((Unavailable, DeadlineExceeded)):
        await caller.request(b"work", b"late", timeout=0.1)
    server.resume()
    await caller.flush()
    caller.publish(b"work", b"then")
    await eventually(lambda: b"then" in seen)
    assert seen == [b"then"]


async def test_the_pings_of_the_server_are_answered(connected: Any) -> None:
    """Alone, twice in one chunk, and in pieces."""
    async with FakeNats() as fake:
        await connected(fake.url)
        for chunk in (b"PING\r\n", b"PING\r\nPING\r\n", b"PI", b"NG\r", b"\n"):
            fake.say(chunk)
            await asyncio.sleep(0.01)
        await eventually(lambda: fake.lines.count(b"PONG") == 4)


async def test_resets_and_refusals(connected: Any, server: NatsServer) -> None:
    """RST on every connection, then refused ones, then a healthy network."""
    async with Proxy(server.port) as proxy:
        bus = await connected(proxy.url)
        for _ in range(3):
            proxy.refuse()
            await eventually(lambda: not bus.connected)
            proxy.heal()
            await eventually(lambda: bus.connected)
        await bus.flush()


async def test_a_rotated_password_is_read_again(connected: Any, log: list[str]) -> None:
    """The server forgets the old password; we come back with the new one as soon as it is there."""
    password = {"now": "old"}
    with NatsServer("authorization { user: app, password: old }") as server:
        bus = await connected(
            server.url,
            nats_user="app",
            nats_password="old",
            refresh=lambda: settings(server.url, nats_user="app", nats_password=password["now"]),
        )
        server.configure("authorization { user: app, password: new }")
        server.reload()
        await eventually(lambda: any("refuses us" in line for line in log))
        password["now"] = "new"
        await eventually(lambda: bus.connected)
        await bus.flush()
    assert sum("refuses us" in line for line in log) == 1
    assert not any("old" in line or "new" in line for line in log)


@pytest.mark.parametrize("words", ["User Authentication Expired", "User Authentication Revoked", "Stale Connection", "Server Shutdown"])
async def test_a_server_that_ends_the_connection_says_why(connected: Any, log: list[str], words: str) -> None:
    """Its last words are in the log, and no such end is final: an expired JWT is read again."""
    async with FakeNats() as fake:
        bus = await connected(fake.url)
        await bus.flush()
        fake.say(f"-ERR '{words}'\r\n".encode())
        await bus.flush()
        fake.hang_up()
        await eventually(lambda: fake.connects == 2 and bus.connected)
    assert words.lower() in log[0].lower()


async def test_a_server_that_does_not_speak_nats_any_more(connected: Any) -> None:
    """Nonsense on the line ends that connection, not the bus."""
    async with FakeNats() as fake:
        bus = await connected(fake.url)
        for nonsense in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"MSG a 1 x\r\n"):
            connects = fake.connects
            fake.say(nonsense)
            await eventually(lambda connects=connects: fake.connects == connects + 1 and bus.connected)


async def test_a_server_in_lame_duck_mode_is_tried_last(connected: Any, log: list[str]) -> None:
    """The cluster's other members come first, those that we were only told of included."""
    async with FakeNats() as other, FakeNats(connect_urls=[f"127.0.0.1:{other.port}"]) as leaving:
        bus = await connected(leaving.url)
        leaving.say(b'INFO {"ldm": true}\r\n')
        await bus.flush()
        leaving.hang_up()
        await eventually(lambda: other.connects == 1 and bus.connected)
        assert leaving.connects == 1
    assert any("about to go away" in line for line in log)


async def test_a_lame_duck_of_the_real_server(connected: Any, server: NatsServer, log: list[str]) -> None:
    """SIGUSR2 is understood, and the connection goes on until the server ends it."""
    bus = await connected(server.url)
    server.lame_duck()
    await eventually(lambda: any("about to go away" in line for line in log))
    await bus.flush()
    server._signal(signal.SIGKILL)


async def test_attempts_spread_out(connected: Any) -> None:
    """A server that refuses is asked less and less often: five pauses, each twice as long, at half of it or more."""
    async with FakeNats() as fake:
        bus = await connected(fake.url)
        fake.greeting_error = "maximum connections exceeded"
        before, since = fake.connects, time.monotonic()
        fake.hang_up()
        await eventually(lambda: fake.connects >= before + 5)
        assert time.monotonic() - since > 0.3
        fake.greeting_error = None
        await eventually(lambda: bus.connected)


async def test_no_task_or_socket_is_left(connected: Any, server: NatsServer) -> None:
    """After outages and `close`, what was there before is there and nothing else."""
    before = asyncio.all_tasks()
    bus = await connected(server.url)
    for _ in range(2):
        server.kill()
        await eventually(lambda: not bus.connected)
        server.start()
        await eventually(lambda: bus.connected)
    await bus.close()
    await eventually(lambda: asyncio.all_tasks() == before)


async def fill(bus: Bus) -> None:
    """Publish until nothing more is taken by the socket, and stays so: the kernel makes more room for a while."""
    full = 0
    async with asyncio.timeout(30):
        while full < 20:
            while bus.open:
                full = 0
                bus.publish(b"void", b"x" * 100_000)
                await asyncio.sleep(0)
            full += 1
            await asyncio.sleep(0.005)
    bus.publish(b"void", b"x")
