"""The promises about durable events, kept by real processes that are killed while they work."""

import asyncio
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cliffracer.errors import DeadlineExceeded, Unavailable
from cliffracer.messaging.jetstream import JetStream
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.processes import Processes
from tests.messaging.jetstream.support import publisher
from tests.support.nats import NatsServer
from tests.support.sizes import sized
from tests.support.waiting import eventually


class Workers(Processes):
    """Consumers that note the number of each event."""

    def __init__(self, url: str, notes: Path, milliseconds: float = 0) -> None:
        super().__init__("worker", url, notes, milliseconds)

    async def replace(self, process: subprocess.Popen[bytes], number: signal.Signals) -> subprocess.Popen[bytes]:
        """End one by a signal, wait for its end, and start another."""
        process.send_signal(number)
        await asyncio.to_thread(process.wait, 30)
        self.running.remove(process)
        return await self.start()

    def handled(self) -> Counter[int]:
        """Return how often each event was handled."""
        return Counter(int(line) for line in self.lines() if line.isdigit())


@pytest.fixture
def workers(server: NatsServer, tmp_path: Path) -> Iterator[Workers]:
    made = Workers(server.url, tmp_path / "notes")
    yield made
    made.close()


async def emit(jetstream: JetStream, subjects: Subjects, numbers: range, lanes: int = 32) -> set[int]:
    """Emit events, many in flight, and return those that were acknowledged."""
    publish, acknowledged = publisher(jetstream, subjects), set()

    async def lane(first: int) -> None:
        for number in numbers[first::lanes]:
            try:
                await publish.publish("events.user.created", b"%d" % number, message_id=f"id-{number}", timeout=30)
            except (Unavailable, DeadlineExceeded):
                continue
            acknowledged.add(number)

    await asyncio.gather(*(lane(first) for first in range(lanes)))
    return acknowledged


async def test_every_event_is_handled_whoever_is_killed(jetstream: JetStream, subjects: Subjects, server: NatsServer, workers: Workers):
    """20,000 events, three consumer processes; the server is killed three times, a consumer five times, all while they work."""
    total = 20_000
    running = [await workers.start() for _ in range(3)]
    emitting = asyncio.create_task(emit(jetstream, subjects, range(total)))
    victims = [
        ("server", 0.1),
        ("worker", 0.2),
        ("worker", 0.3),
        ("server", 0.4),
        ("worker", 0.5),
        ("server", 0.6),
        ("worker", 0.7),
        ("worker", 0.8),
    ]
    for victim, share in victims:
        await eventually(lambda share=share: emitting.done() or len(workers.handled()) >= share * total, within=120)
        if victim == "server":
            await asyncio.to_thread(server.restart)
        else:
            running[0] = await workers.replace(running[0], signal.SIGKILL)
    acknowledged = await emitting
    await eventually(lambda: set(workers.handled()) >= acknowledged, within=120)
    repeated = sum(count - 1 for count in workers.handled().values())
    assert len(acknowledged) == total
    assert repeated < total  # a killed server forgets the acks of its last moments: the longer, the busier the machine


async def test_stopping_consumers_in_order_repeats_nothing(jetstream: JetStream, subjects: Subjects, server: NatsServer, tmp_path: Path):
    """SIGTERM under load, six times: every event is handled exactly once."""
    total, workers = 4000, Workers(server.url, tmp_path / "notes", 1)
    try:
        running = [await workers.start() for _ in range(2)]
        emitting = asyncio.create_task(emit(jetstream, subjects, range(total)))
        for share in (0.1, 0.25, 0.4, 0.55, 0.7, 0.85):
            await eventually(lambda share=share: len(workers.handled()) >= share * total, within=60)
            running.append(await workers.replace(running.pop(0), signal.SIGTERM))
        acknowledged = await emitting
        await eventually(lambda: len(workers.handled()) == total, within=60)
    finally:
        workers.close()
    assert len(acknowledged) == total
    assert set(workers.handled().values()) == {1}


async def test_an_event_of_a_killed_replica_goes_to_another(jetstream: JetStream, subjects: Subjects, server: NatsServer, tmp_path: Path):
    """A replica killed in the middle of a handler: another has the event after the ack wait, with a higher attempt."""
    slow, fast = Workers(server.url, tmp_path / "slow", 60_000), Workers(server.url, tmp_path / "fast")
    try:
        victim = await slow.start()
        await publisher(jetstream, subjects).publish("events.user.created", b"1")
        info = await jetstream.consumer("EVENTS", "users-welcome")
        while not info.num_ack_pending:
            info = await jetstream.consumer("EVENTS", "users-welcome")
        victim.kill()
        victim.wait(10)
        await fast.start()
        await eventually(lambda: fast.handled() == {1: 1}, within=15)
    finally:
        slow.close()
        fast.close()


async def test_a_flood_is_taken_at_the_pace_of_the_handler(jetstream: JetStream, subjects: Subjects, server: NatsServer, tmp_path: Path):
    """Ten times what the handler can do, in a long run for a minute: memory stays flat, the lag is seen, nothing is lost."""
    milliseconds, limit, seconds = 200, 100, sized(2, 60)
    pace = 10 * limit * 1000 // milliseconds  # events per second
    slow, quick = Workers(server.url, tmp_path / "slow", milliseconds), Workers(server.url, tmp_path / "quick")

    def resident() -> int:
        return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096

    try:
        process = await slow.start()
        before, most, lag = resident(), 0, 0
        for second in range(seconds):
            began = asyncio.get_running_loop().time()
            acknowledged = await emit(jetstream, subjects, range(second * pace, (second + 1) * pace))
            assert len(acknowledged) == pace
            info = await jetstream.consumer("EVENTS", "users-welcome")
            assert info.num_ack_pending <= limit
            most, lag = max(most, resident()), max(lag, info.num_pending)
            await asyncio.sleep(max(0.0, began + 1 - asyncio.get_running_loop().time()))
        assert lag > limit
        assert most - before < 16 * 1024 * 1024
        await quick.start()
        notes = slow.notes, quick.notes
        await eventually(lambda: sum(file.read_bytes().count(b"\n") for file in notes) >= seconds * pace + 2, within=sized(60, 600))
        assert slow.handled() | quick.handled() == Counter(range(seconds * pace))
        assert resident() - before < 16 * 1024 * 1024
    finally:
        slow.close()
        quick.close()
