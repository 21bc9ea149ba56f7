"""Order per key: what is kept through failures, poison, replicas that stop, are killed or paused, and deliveries that went elsewhere."""

import asyncio
import itertools
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from cliffracer.errors import InvalidInput, SetupError
from cliffracer.messaging import ordered
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.delivery import ACK, Delivery
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.pull import Pull
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.conftest import Join
from tests.messaging.jetstream.processes import Processes
from tests.messaging.jetstream.support import consuming, publisher
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

KEYS = [b"a", b"b", b"c", b"d", b"e"]


async def emit(jetstream: JetStream, subjects: Subjects, key: bytes, *numbers: int) -> None:
    for number in numbers:
        await publisher(jetstream, subjects).publish(
            "events.user.created", b"%s %d" % (key or b"none", number), {"Ce-Partitionkey": key.decode()} if key else {}
        )


class Notes:
    """What was handled per key, in order; ``fails(key, number, attempt)`` decides what is raised."""

    def __init__(self, fails: object = lambda *_: None) -> None:
        self.done: dict[bytes, list[int]] = defaultdict(list)
        self.attempts: dict[tuple[bytes, int], int] = {}
        self._fails = fails

    async def __call__(self, delivery: Delivery) -> None:
        key, number = delivery.payload.split()
        await asyncio.sleep(0)
        self.attempts[key, int(number)] = delivery.attempt
        error = self._fails(key, int(number), delivery.attempt)
        if error is not None:
            raise error
        self.done[key].append(int(number))


async def test_events_of_different_keys_are_handled_side_by_side_and_those_of_one_in_order(jetstream: JetStream, subjects: Subjects):
    """A key whose first event takes long holds up no other; events without a key are in order among themselves."""
    first, notes = asyncio.Event(), Notes()

    async def handle(delivery: Delivery) -> None:
        if delivery.payload == b"a 0":
            await first.wait()
        await notes(delivery)

    async with consuming(jetstream, subjects, handle, ordered=True):
        for number in range(20):
            for key in (b"a", b"b", b""):
                await emit(jetstream, subjects, key, number)
        await eventually(lambda: len(notes.done[b"b"]) == 20 and len(notes.done[b"none"]) == 20)
        assert notes.done[b"a"] == []
        first.set()
        await eventually(lambda: len(notes.done[b"a"]) == 20)
    assert all(numbers == list(range(20)) for numbers in notes.done.values())


@pytest.mark.parametrize(("limit", "aside"), [(4, ordered.ASIDE), (4, 0), (100, 0), (4, 500)])
async def test_a_failing_event_holds_up_its_own_key_only(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch, limit: int, aside: int
):
    """However many of its key wait behind it, also more than may be in hand, or kept at all; for them it is no attempt."""
    monkeypatch.setattr(ordered, "ASIDE", aside)
    failing, notes = True, Notes(lambda key, number, _: ValueError("no") if failing and (key, number) == (b"a", 3) else None)
    async with consuming(jetstream, subjects, notes, ordered=True, retry=(0.2,) * 50, limit=limit) as consumption:
        for number in range(150):
            await emit(jetstream, subjects, b"a", number)
        for number in range(40):
            await emit(jetstream, subjects, b"b", number)
            await emit(jetstream, subjects, b"c", number)
        await eventually(lambda: len(notes.done[b"b"]) == 40 and len(notes.done[b"c"]) == 40)
        assert notes.done[b"a"] == [0, 1, 2]
        failing = False
        await eventually(lambda: len(notes.done[b"a"]) == 150)
        await eventually(lambda: not consumption.pull.held)
        assert (consumption._kept, consumption._lanes.slim, consumption._lanes.known) == (0, 0, {})
    assert all(numbers == list(range(len(numbers))) for numbers in notes.done.values())
    assert {attempt for (key, number), attempt in notes.attempts.items() if (key, number) != (b"a", 3)} == {1}
    assert (await jetstream.consumer("EVENTS", "users-welcome")).num_ack_pending == 0


async def test_events_behind_a_slow_one_leave_room_for_those_of_other_keys(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """More of its key wait than may be in hand: they are set aside, and come in their order once it is done."""
    monkeypatch.setattr(ordered, "SLOW", 0.1)
    first, notes = asyncio.Event(), Notes()

    async def handle(delivery: Delivery) -> None:
        if delivery.payload == b"a 0":
            await first.wait()
        await notes(delivery)

    async with consuming(jetstream, subjects, handle, ordered=True, limit=4):
        await emit(jetstream, subjects, b"a", *range(20))
        await emit(jetstream, subjects, b"b", *range(5))
        await eventually(lambda: len(notes.done[b"b"]) == 5)
        assert notes.done[b"a"] == []
        first.set()
        await eventually(lambda: len(notes.done[b"a"]) == 20)
    assert (notes.done[b"a"], notes.done[b"b"]) == (list(range(20)), list(range(5)))


async def test_a_replica_that_could_not_begin_tries_again(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """Whatever was in its way: without it nobody would take these events."""
    notes, start = Notes(), Pull.start

    async def once(self: Pull) -> None:
        monkeypatch.setattr(Pull, "start", start)
        raise SetupError("a stranger's consumer")

    monkeypatch.setattr(Pull, "start", once)
    async with consuming(jetstream, subjects, notes, ordered=True):
        await emit(jetstream, subjects, b"a", 0, 1)
        await eventually(lambda: notes.done[b"a"] == [0, 1])


async def test_poison_and_what_fails_for_good_are_parked_and_their_keys_go_on(jetstream: JetStream, subjects: Subjects):
    """After the last attempt, or at once; no other key notices."""

    def fails(key: bytes, number: int, _: int) -> Exception | None:
        bad = {(b"a", 5): InvalidInput("poison"), (b"b", 6): ValueError("never")}
        return bad.get((key, number))

    notes = Notes(fails)
    async with consuming(jetstream, subjects, notes, ordered=True, retry=(0.1, 0.1)) as consumption:
        for number in range(20):
            for key in KEYS:
                await emit(jetstream, subjects, key, number)
        await eventually(lambda: consumption.counts.handled == 98 and consumption.counts.parked == 2)
    assert notes.done[b"a"] == [n for n in range(20) if n != 5]
    assert notes.done[b"b"] == [n for n in range(20) if n != 6]
    assert all(notes.done[key] == list(range(20)) for key in KEYS[2:])
    letters = {letter.payload: letter.attempts async for letter in DeadLetters(jetstream, subjects).ls()}
    assert letters == {b"a 5": 1, b"b 6": 3}


async def test_another_replica_goes_on_at_once_where_one_stops(join: Join, subjects: Subjects):
    """One that stops in order gives back what it has not begun; that is no attempt either."""
    first, second, block = JetStream(await join()), JetStream(await join()), asyncio.Event()
    one, other = Notes(), Notes()

    async def handle(delivery: Delivery) -> None:
        await one(delivery)
        if len(one.done[b"a"]) == 5:
            await block.wait()

    stopping = consuming(first, subjects, handle, ordered=True).consumption
    await stopping.start()
    await eventually(lambda: stopping.leading)
    async with consuming(second, subjects, other, ordered=True):
        for number in range(50):
            await emit(first, subjects, b"a", number)
        await eventually(lambda: len(one.done[b"a"]) == 5)
        assert other.done == {}
        draining = asyncio.create_task(stopping.drain(5.0))
        await asyncio.sleep(0.1)
        block.set()
        await draining
        await eventually(lambda: len(other.done[b"a"]) == 45, within=8)
    assert one.done[b"a"] + other.done[b"a"] == list(range(50))


async def test_nothing_is_begun_while_an_earlier_event_may_be_elsewhere(jetstream: JetStream, join: Join, subjects: Subjects):
    """A delivery that went to somebody else is noticed by its number, and waited for."""
    notes, thief, block = Notes(), await join(), asyncio.Event()
    stolen: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        await notes(delivery)
        await block.wait()

    async with consuming(jetstream, subjects, handle, ordered=True, limit=1, ack_wait=2.0) as consumption:
        await emit(jetstream, subjects, b"a", 0)
        await eventually(lambda: notes.done[b"a"] == [0])  # and has no room for another
        await emit(jetstream, subjects, b"a", 1, 2)
        await thief.subscribe("thief", lambda *message: stolen.append(message[3]))
        thief.publish(b"$JS.API.CONSUMER.MSG.NEXT.EVENTS.users-welcome", b'{"batch":1,"expires":5000000000}', None, b"thief")
        await eventually(lambda: stolen == [b"a 1"])
        block.set()
        await eventually(lambda: any(delivery.payload == b"a 2" for delivery in consumption.pull.held.values()))
        await asyncio.sleep(0.3)
        assert notes.done[b"a"] == [0]
        await eventually(lambda: len(notes.done[b"a"]) == 3)
    assert notes.done[b"a"] == [0, 1, 2]


async def test_what_somebody_else_answered_or_removed_is_not_waited_for_for_ever(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """A failed event that never comes again, since a paused replica acknowledged it or an operator removed it from the stream."""
    monkeypatch.setattr(ordered, "_GRACE", 0.2)
    replies: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        if delivery.payload == b"a 0":
            replies.append(delivery.reply)
        await notes(delivery)

    notes = Notes(lambda key, number, _: ValueError("once") if (key, number) == (b"a", 0) else None)
    async with consuming(jetstream, subjects, handle, ordered=True, retry=(1.0,) * 5):
        await emit(jetstream, subjects, b"a", 0, 1, 2)
        await eventually(lambda: replies)
        jetstream.bus.publish(replies[0], ACK)
        await eventually(lambda: notes.done[b"a"] == [1, 2])


class Workers(Processes):
    """Consumers in order, which note key, number and who they are."""

    def __init__(self, url: str, notes: Path) -> None:
        super().__init__("ordering", url, notes)

    def handled(self) -> dict[bytes, list[int]]:
        """Return the numbers of each key as they were handled, by whichever process."""
        found: dict[bytes, list[int]] = defaultdict(list)
        for key, number, _ in self.facts():
            found[key].append(int(number))
        return found

    def facts(self) -> list[list[bytes]]:
        """Return key, number and process of each event, as they were handled."""
        return [words for line in self.lines() if len(words := line.split()) == 3]

    def count(self) -> int:
        """Return how many events were handled."""
        return sum(len(set(numbers)) for numbers in self.handled().values())

    def at_work(self) -> subprocess.Popen[bytes]:
        """Return the process that handled the latest."""
        pid = int(self.facts()[-1][2])
        return next(process for process in self.running if process.pid == pid)


@pytest.fixture
def workers(server: NatsServer, tmp_path: Path) -> Iterator[Workers]:
    made = Workers(server.url, tmp_path / "notes")
    yield made
    made.close()


async def test_order_per_key_is_kept_whoever_is_killed_or_paused(
    jetstream: JetStream, subjects: Subjects, server: NatsServer, workers: Workers
):
    """Of three replicas the one at work is stopped in order, then killed, then paused until another has taken over; then NATS is killed."""
    total = 200
    for _ in range(3):
        await workers.start()

    async def emitting() -> None:
        for number in range(total):
            for key in KEYS:
                await emit(jetstream, subjects, key, number)

    task = asyncio.create_task(emitting())
    await eventually(lambda: workers.count() >= 100, within=60)
    workers.at_work().terminate()
    await eventually(lambda: workers.count() >= 300, within=60)
    workers.at_work().kill()
    await workers.start()
    await eventually(lambda: workers.count() >= 500, within=60)
    paused = workers.at_work()
    paused.send_signal(signal.SIGSTOP)
    await eventually(lambda: workers.at_work() is not paused, within=60)
    before = len(workers.facts())
    paused.send_signal(signal.SIGCONT)
    await eventually(lambda: workers.count() >= 700, within=60)
    latest: dict[bytes, int] = {}
    late: list[bytes] = []
    for place, (key, number, pid) in enumerate(workers.facts()):
        if int(number) < latest.get(key, -1):  # the one that a paused replica was at goes on where it was
            assert (int(pid), place >= before) == (paused.pid, True)
            late.append(key)
        else:
            latest[key] = int(number)
    assert len(late) == len(set(late))
    so_far = {key: len(numbers) - 1 for key, numbers in workers.handled().items()}
    await asyncio.to_thread(server.restart)
    await task
    await eventually(lambda: workers.count() == total * len(KEYS), within=60)
    for key, numbers in workers.handled().items():  # what the server forgot comes again from there on, in order
        assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(numbers[so_far[key] :]))
    assert {key: list(dict.fromkeys(numbers)) for key, numbers in workers.handled().items()} == {key: list(range(total)) for key in KEYS}


@pytest.mark.parametrize("what", ["consumer", "stream"])
async def test_order_goes_on_where_the_consumer_or_the_stream_is_made_anew(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch, what: str
):
    """What failed before, and went with the stream, holds up nothing of its key afterwards."""
    monkeypatch.setattr(ordered, "_GRACE", 0.2)
    notes = Notes(lambda key, number, attempt: ValueError("once") if (key, number, attempt) == (b"a", 2, 1) else None)
    async with consuming(jetstream, subjects, notes, ordered=True, retry=(1.0,)) as consumption:
        await emit(jetstream, subjects, b"a", *range(5))
        await eventually(lambda: consumption.counts.failed == 1)
        if what == "consumer":
            await jetstream.delete_consumer("EVENTS", "users-welcome")
        else:
            await jetstream.delete_stream("EVENTS")
        await eventually(lambda: consumption.pull.resets > 0)
        await emit(jetstream, subjects, b"a", *range(5, 10))
        await eventually(lambda: 9 in notes.done[b"a"])
    first = list(dict.fromkeys(notes.done[b"a"]))
    assert first == (list(range(10)) if what == "consumer" else [0, 1, *range(3, 10)])


async def test_what_is_new_where_the_server_went_back_is_handled(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """It has the numbers of events that are done, and is not taken for them: a power cut costs what was not on disk, nothing after."""
    notes = Notes()
    async with consuming(jetstream, subjects, notes, ordered=True, lease=0.5):
        await emit(jetstream, subjects, b"a", 0)
        await asyncio.to_thread(server.keep)
        await emit(jetstream, subjects, b"a", *range(1, 6))
        await eventually(lambda: notes.done[b"a"][-1:] == [5])
        await asyncio.to_thread(server.go_back)
        await emit(jetstream, subjects, b"a", *range(10, 13))
        await eventually(lambda: notes.done[b"a"][-3:] == [10, 11, 12])
