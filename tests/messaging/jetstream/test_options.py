"""The options of a subscription: order, batches, where it starts, groups, Overloaded."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from cliffracer.clock import Clock
from cliffracer.errors import InvalidInput, Overloaded, SetupError
from cliffracer.events import Rejected
from cliffracer.messaging.broker import PartlyFailedError
from cliffracer.messaging.configurations import distinct
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.policy import LEAST_WAIT
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.conftest import Join
from tests.messaging.jetstream.support import consuming, publisher
from tests.messaging.notes import Notes
from tests.support.waiting import eventually


async def emit(jetstream: JetStream, subjects: Subjects, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        await publisher(jetstream, subjects).publish("events.user.created", b"%d" % number)


async def parked(jetstream: JetStream, subjects: Subjects) -> list[bytes]:
    return [letter.payload async for letter in DeadLetters(jetstream, subjects).ls()]


async def test_ordered_events_keep_their_order_through_failures_and_replicas(join: Join, subjects: Subjects):
    """A thousand, one at a time in all replicas; one that fails holds up those behind it until it is done or parked."""
    done: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        await asyncio.sleep(0)
        if delivery.payload in (b"300", b"600") and delivery.attempt == 1:
            raise ValueError("once")
        if delivery.payload == b"700":
            raise InvalidInput("poison")
        done.append(delivery.payload)

    first, second = JetStream(await join()), JetStream(await join())
    async with (
        consuming(first, subjects, handle, ordered=True, retry=(0.1,)),
        consuming(second, subjects, handle, ordered=True, retry=(0.1,)),
    ):
        await emit(first, subjects, 1000)
        await eventually(lambda: len(done) == 999)
    assert done == [b"%d" % number for number in range(1000) if number != 700]
    assert await parked(first, subjects) == [b"700"]


async def test_without_order_a_failed_event_does_not_hold_up_the_others(jetstream: JetStream, subjects: Subjects):
    """It comes after those behind it."""
    handler = Notes(lambda delivery: ValueError("once") if delivery.payload == b"0" and delivery.attempt == 1 else None)
    async with consuming(jetstream, subjects, handler, retry=(1.5,)) as consumption:
        await emit(jetstream, subjects, 5)
        await eventually(lambda: consumption.counts.handled == 5)
    assert (handler.payloads[0], handler.payloads[-1]) == (b"0", b"0")


async def test_a_batch_is_handled_as_a_list(jetstream: JetStream, subjects: Subjects):
    """Full batches while there is enough, what there is after ``within`` seconds."""
    batches: list[list[bytes]] = []

    async def handle(deliveries: list[Delivery]) -> None:
        batches.append([delivery.payload for delivery in deliveries])

    async with consuming(jetstream, subjects, handle, start="all", batch=10, within=1.0) as consumption:
        pass
    await emit(jetstream, subjects, 25)
    async with consuming(jetstream, subjects, handle, batch=10, within=1.0) as consumption:
        await eventually(lambda: consumption.counts.handled == 25)
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert (await jetstream.consumer("EVENTS", "users-welcome")).num_ack_pending == 0


@pytest.mark.parametrize(("batch", "limit"), [(20, 20), (20, 22), (20, 30), (20, 100)])
async def test_no_full_batch_waits_for_its_time(
    jetstream: JetStream, subjects: Subjects, batch: int, limit: int, monkeypatch: pytest.MonkeyPatch
):
    """While there are events enough, the next batch is asked for as soon as the last is done, however few more may be in hand."""
    monkeypatch.setattr("cliffracer.messaging.pull.TICK", 60.0)  # nor for a look at whether all is well
    sizes: list[int] = []

    async def handle(deliveries: list[Delivery]) -> None:
        sizes.append(len(deliveries))

    async with consuming(jetstream, subjects, handle, start="all"):
        pass
    await emit(jetstream, subjects, 10 * batch)
    async with consuming(jetstream, subjects, handle, batch=batch, within=60.0, limit=limit) as consumption:
        await eventually(lambda: consumption.counts.handled == 10 * batch, within=10)
    assert sizes == [batch] * 10


async def test_part_of_a_batch_can_be_rejected(jetstream: JetStream, subjects: Subjects):
    """What is rejected is tried again and then parked; the others are done at once."""
    seen: list[bytes] = []

    async def handle(deliveries: list[Delivery]) -> None:
        seen.extend(delivery.payload for delivery in deliveries)
        wrong = {number: "odd" for number, delivery in enumerate(deliveries) if delivery.payload == b"3"}
        poison: dict[int, BaseException] = {
            number: InvalidInput("poison") for number, delivery in enumerate(deliveries) if delivery.payload == b"5"
        }
        if poison:
            raise PartlyFailedError({**poison, **{number: ValueError(reason) for number, reason in wrong.items()}})
        if wrong:
            raise Rejected(wrong)

    async with consuming(jetstream, subjects, handle, batch=10, retry=(0.1,)) as consumption:
        await emit(jetstream, subjects, 10)
        await eventually(lambda: consumption.counts.parked == 2 and consumption.counts.handled == 8)
    assert sorted(seen) == sorted([*(b"%d" % number for number in range(10)), b"3"])
    assert sorted(await parked(jetstream, subjects)) == [b"3", b"5"]


async def test_a_batch_that_raises_fails_whole(jetstream: JetStream, subjects: Subjects):
    """Every event of it is tried again."""
    calls = 0

    async def handle(_: list[Delivery]) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("no")

    await emit(jetstream, subjects, 5)
    async with consuming(jetstream, subjects, handle, start="all", batch=5, within=1.0, retry=(0.1,)) as consumption:
        await eventually(lambda: consumption.counts.handled == 5)
    assert (consumption.counts.failed, calls) == (5, 2)


@pytest.mark.parametrize(
    ("start", "expected"),
    [("all", [0, 1, 2, 3, 4, 5]), ("new", [5]), (4, [3, 4, 5]), (timedelta(hours=1), [0, 1, 2, 3, 4, 5]), ("1h", [0, 1, 2, 3, 4, 5])],
)
async def test_a_new_function_starts_where_it_says(jetstream: JetStream, subjects: Subjects, start: object, expected: list[int]):
    """At everything there is, at what comes, at a sequence, or some time ago."""
    await emit(jetstream, subjects, 5)
    handler = Notes()
    async with consuming(jetstream, subjects, handler, start=start):
        await emit(jetstream, subjects, 1, first=5)
        await eventually(lambda: len(handler.seen) == len(expected))
    assert handler.payloads == [b"%d" % number for number in expected]


@pytest.mark.parametrize("shown", [lambda moment: moment, lambda moment: moment.isoformat()])
async def test_a_new_function_starts_at_a_time(jetstream: JetStream, subjects: Subjects, shown: Callable[[datetime], object]):
    """As a datetime or as text: with what was stored at that moment or later."""
    await emit(jetstream, subjects, 3)
    stored = await jetstream.message("EVENTS", 3)
    handler = Notes()
    async with consuming(jetstream, subjects, handler, start=shown(datetime.fromisoformat(stored.time))):
        await emit(jetstream, subjects, 1, first=3)
        await eventually(lambda: len(handler.seen) == 2)
    assert handler.payloads == [b"2", b"3"]


async def test_a_consumer_keeps_its_place_whatever_start_says_later(jetstream: JetStream, subjects: Subjects):
    """Another start in the code is for functions that are new."""
    handler = Notes()
    async with consuming(jetstream, subjects, handler):
        await emit(jetstream, subjects, 3)
        await eventually(lambda: len(handler.seen) == 3)
    async with consuming(jetstream, subjects, handler, start="all"):
        await emit(jetstream, subjects, 1, first=3)
        await eventually(lambda: len(handler.seen) == 4)
    assert handler.payloads == [b"0", b"1", b"2", b"3"]


async def test_a_group_of_another_service_with_other_subjects_is_a_set_up_error(jetstream: JetStream, subjects: Subjects):
    """Both would have one consumer, and each start would take the other's events away; on the same subjects they share them."""
    async with consuming(jetstream, subjects, Notes(), "user.created", group="mail"):
        other = Consumption(jetstream, subjects, "shop", "mail", "order.placed", Notes(), group="mail")
        with pytest.raises(SetupError, match=r"Consumer mail is that of users\.mail, on .*; shop\.mail wants .*another group"):
            await other.start()
        same = Consumption(jetstream, subjects, "shop", "mail", "user.created", Notes(), group="mail")
        await same.start()
        await same.drain()


async def test_a_start_that_cannot_be_read_is_a_set_up_error(jetstream: JetStream, subjects: Subjects):
    """The message shows the forms there are."""
    with pytest.raises(SetupError, match="new, all, a sequence, a time"):
        await consuming(jetstream, subjects, Notes(), start="yesterday").consumption.start()


async def test_functions_of_one_group_share_the_events(jetstream: JetStream, subjects: Subjects):
    """The group is the consumer; what its members are called does not matter."""
    one, other = Notes(), Notes()
    async with (
        consuming(jetstream, subjects, one, function="a", group="mail", limit=1),
        consuming(jetstream, subjects, other, function="b", group="mail", limit=1),
    ):
        await emit(jetstream, subjects, 50)
        await eventually(lambda: len(one.seen) + len(other.seen) == 50)
    assert sorted(one.payloads + other.payloads) == sorted(b"%d" % number for number in range(50))


async def test_an_overloaded_handler_gets_the_event_again_and_never_parks_it_for_that(jetstream: JetStream, subjects: Subjects):
    """Nothing was tried, so nothing has failed, however often; the event stays in hand and is delivered once."""
    handler = Notes(lambda _: Overloaded("busy", retry_after=0.01) if len(handler.seen) < 10 else None)
    async with consuming(jetstream, subjects, handler, retry=()) as consumption:
        await emit(jetstream, subjects, 1)
        await eventually(lambda: consumption.counts.handled == 1)
    assert handler.seen == [("events.user.created", b"0", 1)] * 10
    assert await parked(jetstream, subjects) == []


async def test_an_overloaded_batch_comes_again_and_the_rest_of_it_is_done(jetstream: JetStream, subjects: Subjects):
    """Only what was refused, however often."""
    seen: list[list[bytes]] = []

    async def handle(deliveries: list[Delivery]) -> None:
        seen.append([delivery.payload for delivery in deliveries])
        if len(seen) == 1:
            raise PartlyFailedError({0: Overloaded("busy", retry_after=0.01), 1: Overloaded("busy", retry_after=0.01)})
        if len(seen) < 8:
            raise Overloaded("busy", retry_after=0.01)

    await emit(jetstream, subjects, 5)
    async with consuming(jetstream, subjects, handle, start="all", retry=(), batch=5, within=1.0) as consumption:
        await eventually(lambda: consumption.counts.handled == 5)
    assert seen == [[b"0", b"1", b"2", b"3", b"4"], *[[b"0", b"1"]] * 7]
    assert await parked(jetstream, subjects) == []


async def test_a_drain_gives_back_what_an_overloaded_handler_has_not_begun(join: Join, subjects: Subjects):
    """At once, to a replica that has room."""
    stuck, handler = Notes(lambda _: Overloaded("busy", retry_after=60)), Notes()
    first, second = JetStream(await join()), JetStream(await join())
    stopping = consuming(first, subjects, stuck).consumption
    await stopping.start()
    await emit(first, subjects, 1)
    await eventually(lambda: stuck.seen)
    await stopping.drain(0.1)
    async with consuming(second, subjects, handler):
        await eventually(lambda: handler.payloads == [b"0"], within=20)


async def test_an_overloaded_handler_is_asked_again_when_it_says_and_not_at_once(jetstream: JetStream, subjects: Subjects):
    """After the time that it names; one that names none is not asked in each turn of the loop."""
    waits = list[float]()

    class Noting(Clock):
        async def pause(self, seconds: float) -> None:
            waits.append(seconds)

    refusals = [3.0, 0.0]
    handler = Notes(lambda _: Overloaded("busy", retry_after=refusals.pop(0)) if refusals else None)
    async with consuming(jetstream, subjects, handler, clock=Noting()) as consumption:
        await emit(jetstream, subjects, 1)
        await eventually(lambda: consumption.counts.handled == 1)
    assert waits == [3.0, LEAST_WAIT]


@pytest.mark.parametrize("options", [{}, {"ordered": True}, {"batch": 5}])
async def test_a_drain_does_not_wait_for_what_an_overloaded_handler_has_not_begun(jetstream: JetStream, subjects: Subjects, options: Any):
    """However long it is to wait: it is given back, and the others of its replicas go on with it."""

    async def handle(_: object) -> None:
        nonlocal asked
        asked += 1
        raise Overloaded("busy", retry_after=3600)

    asked = 0
    stopping = consuming(jetstream, subjects, handle, **options).consumption
    await stopping.start()
    await emit(jetstream, subjects, 1)
    await eventually(lambda: asked)
    async with asyncio.timeout(60):
        await stopping.drain(3600)
    handler = Notes()
    async with consuming(jetstream, subjects, handler) as consumption:
        await eventually(lambda: consumption.counts.handled == 1)


async def test_what_cannot_work_together_is_a_set_up_error(subjects: Subjects, jetstream: JetStream):
    """Order and batches."""
    with pytest.raises(SetupError, match="ordered and batch exclude each other"):
        consuming(jetstream, subjects, Notes(), ordered=True, batch=10)


@pytest.mark.parametrize(
    ("asked", "filters"),
    [
        (["user.*", "*.created"], ["*.*"]),
        (["user.created", "user.*", "order.placed", "order.placed"], ["user.*", "order.placed"]),
        (["a.b.*", "a.*.c", "*.b.c"], ["*.*.*"]),
        (["user.>", "*.created"], ["*.>"]),
        (["a.*.c", "a.b.>", "x"], ["a.*.>", "x"]),
        (["a.b", "a.b.>", "a.*.>"], ["a.b", "a.*.>"]),
        (["a.*.z.q", "c.d", "*.b.>"], ["c.d", "*.*.>"]),
    ],
)
def test_patterns_that_overlap_become_the_narrowest_that_covers_them(asked: list[str], filters: list[str]):
    """The filters of one consumer may not overlap; those that do not are left as they are."""
    assert distinct(asked) == filters


@pytest.mark.parametrize("options", [{}, {"ordered": True}, {"batch": 5}])
async def test_a_function_whose_patterns_overlap_gets_each_event_once_and_no_other(
    jetstream: JetStream, subjects: Subjects, options: dict[str, Any]
):
    """Neither covers the other; what only comes by that is left alone, and does not wait; a replay comes all the same."""
    got: list[bytes] = []

    async def handle(given: Any) -> None:
        got.extend(delivery.payload for delivery in (given if isinstance(given, list) else [given]))

    async with consuming(jetstream, subjects, handle, ["user.*", "*.created", "*.deleted"], **options) as consumption:
        for subject in ("user.created", "user.renamed", "order.created", "order.placed", "order.deleted", "user.deleted", "user.mail.sent"):
            await publisher(jetstream, subjects).publish(f"events.{subject}", subject.encode())
        await publisher(jetstream, subjects).publish("cliffracer.replay.users-welcome.order.created", b"again")
        await eventually(lambda: len(got) == 6)
        async with asyncio.timeout(30):
            while await consumption.waiting():  # noqa: ASYNC110 - it is the server that knows
                await asyncio.sleep(0.01)
    assert sorted(got) == [b"again", b"order.created", b"order.deleted", b"user.created", b"user.deleted", b"user.renamed"]
