"""Floods: other subjects stay alive, memory stays bounded."""

import asyncio
import socket
import threading
import time
from pathlib import Path
from typing import Any

from cliffracer.messaging.bus import Bus
from tests.support.nats import NatsServer
from tests.support.waiting import eventually


class Flood(threading.Thread):
    """A client in a thread that publishes as fast as the server takes it."""

    def __init__(self, port: int, count: int, size: int) -> None:
        super().__init__(daemon=True)
        self.port, self.count, self.size = port, count, size

    def run(self) -> None:
        message = b"PUB flood %d\r\n%b\r\n" % (self.size, b"x" * self.size)
        with socket.create_connection(("127.0.0.1", self.port)) as raw:
            raw.recv(65_536)
            raw.sendall(b'CONNECT {"verbose":false}\r\n')
            for _ in range(self.count // 100):
                raw.sendall(message * 100)
            raw.sendall(b"PING\r\n")
            while b"PONG" not in raw.recv(65_536):
                pass


async def test_a_flood_on_one_subject_does_not_starve_another(bus: Bus, server: NatsServer, transport: str) -> None:
    """While 10,000 messages for a slow receiver come in, the loop turns, and what else arrives is handled in between."""
    got = turns = 0
    longest = 1000 if transport == "fast" else 10_001  # messages in one turn of the loop; nats-py has no such bound

    def slow(_subject: bytes, _reply: bytes, _block: bytes | None, _payload: bytes) -> None:
        nonlocal got
        got += 1
        until = time.monotonic() + 0.00005
        while time.monotonic() < until:
            pass

    await bus.subscribe("flood", slow)
    await bus.subscribe("health", lambda _, reply, __, payload: bus.publish(reply, payload))
    await bus.flush()
    flood = Flood(server.port, 10_000, 16)
    flood.start()
    answers = []
    async with asyncio.timeout(60):
        while got < 10_000:
            before = got
            await asyncio.sleep(0)
            turns += 1
            assert got - before < longest
            if turns % 5 == 1:
                answers.append((await bus.request(b"health", b"?", timeout=10)).payload)
    await asyncio.to_thread(flood.join)
    assert answers


async def test_memory_is_bounded_under_a_flood(connected: Any) -> None:
    """60 MB for a receiver that is slower than the sender wait in the kernel and in the server, not here."""
    with NatsServer("write_deadline: 60s, max_pending: 512MB") as server:
        bus = await connected(server.url)
        got = 0

        def slow(_subject: bytes, _reply: bytes, _block: bytes | None, payload: bytes) -> None:
            nonlocal got
            got += len(payload)
            until = time.monotonic() + 0.00002
            while time.monotonic() < until:
                pass

        await bus.subscribe("flood", slow)
        await bus.flush()
        before = resident()
        flood = Flood(server.port, 30_000, 2000)
        flood.start()
        peak = 0.0
        async with asyncio.timeout(60):
            while got < 60_000_000:
                await asyncio.sleep(0.01)
                peak = max(peak, resident() - before)
        await asyncio.to_thread(flood.join)
        await eventually(lambda: got == 60_000_000)
    assert peak < 24


async def test_a_loop_that_was_blocked_has_lost_nothing(bus: Bus, server: NatsServer, log: list[str]) -> None:
    """What came while a handler held the loop for a second waits in the kernel and in the server: all of it arrives, and is read."""
    got: list[int] = []
    await bus.subscribe("flood", lambda _, __, ___, payload: got.append(len(payload)))
    await bus.flush()
    flood = Flood(server.port, 20_000, 200)
    flood.start()
    time.sleep(1)  # noqa: ASYNC251 - the user's mistake that this is about
    await asyncio.to_thread(flood.join)
    await eventually(lambda: len(got) == 20_000)
    assert set(got) == {200}
    assert bus.connected
    assert not any("lost" in line or "dropped" in line for line in log)


def resident() -> float:
    """Return the resident memory of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
