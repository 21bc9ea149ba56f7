"""What `app.events` yields to many readers at once: one subscription, no reader in another's way, and everybody's data his own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from cliffracer import App, Overloaded
from cliffracer.eager import Starts
from cliffracer.messaging.feeds import LIMIT
from cliffracer.messaging.hearing import Hearing
from cliffracer.testing import running
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports


class Order(msgspec.Struct):
    id: int
    lines: list[str] = []


class Fixed(msgspec.Struct, frozen=True):
    id: int
    lines: tuple[str, ...] = ()


@pytest.fixture
async def t() -> AsyncIterator[Any]:
    """Run an app."""
    async with running(App("s")) as t:
        yield t


def reading(t: Any, kind: Any, into: list[Any], subject: str = "order.*") -> asyncio.Task[None]:
    """Read a feed in a task of its own."""

    async def read() -> None:
        async for event in t.app.events(subject, kind):
            into.append(event.data)  # noqa: PERF401 - it has no end

    return asyncio.create_task(read())


def feeds(t: Any) -> Any:
    return t.up.services[0].link.feeds._feeds


async def begun(t: Any, number: int, subject: str = "order.*") -> Any:
    """Return a feed once so many read it."""
    await eventually(lambda: subject in feeds(t) and len(feeds(t)[subject].asleep) == number)
    return feeds(t)[subject]


async def say(t: Any, *data: Any) -> None:
    for each in data:
        await t.emit("order.new", each, durable=False)
    await t.up.bus.flush()


async def test_readers_share_a_subscription_that_goes_with_the_last(t):
    """A thousand sockets on one feed are one subscription; each gets all, in order."""
    got: list[list[Any]] = [[] for _ in range(300)]
    tasks = [reading(t, Order, into) for into in got]
    feed = await begun(t, 300)
    assert len([n for n in t.up.bus._interests.values() if n.subject.endswith("events.order.*")]) == 1
    await say(t, *({"id": n} for n in range(20)))
    await eventually(lambda: all(len(into) == 20 for into in got))
    assert all([order.id for order in into] == list(range(20)) for into in got)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.wait(tasks[1:])
    await eventually(lambda: len(feed.readers) == 1)
    await say(t, {"id": 20})
    await eventually(lambda: got[0][-1].id == 20)
    tasks[0].cancel()
    await asyncio.wait(tasks)
    await eventually(lambda: not feeds(t))
    assert not [n for n in t.up.bus._interests.values() if n.subject.endswith("events.order.*")]


async def test_what_can_be_changed_is_everybodys_own(t):
    """A reader that changes its event changes nobody else's; what cannot be changed is one object for all."""
    mine: list[Any] = []
    others: list[Any] = []
    fixed: list[Any] = []
    tasks = [reading(t, Order, mine), reading(t, Order, others), reading(t, Fixed, fixed), reading(t, Fixed, fixed)]
    await begun(t, 4)
    await say(t, {"id": 1, "lines": ["a"]})
    await eventually(lambda: mine and others and len(fixed) == 2)
    mine[0].lines.append("mine")
    assert others[0].lines == ["a"]
    assert fixed[0] is fixed[1]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_readers_of_one_pattern_may_want_different_types(t):
    """What does not fit is left out for those whose type it is not."""
    orders: list[Any] = []
    numbers: list[Any] = []
    tasks = [reading(t, Order, orders), reading(t, int, numbers)]
    await begun(t, 2)
    await say(t, 1, {"id": 2}, "neither", 3, {"id": 4})
    await eventually(lambda: len(orders) == len(numbers) == 2)
    assert numbers == [1, 3]
    assert [order.id for order in orders] == [2, 4]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_reader_too_far_behind_is_ended_and_no_other(t, monkeypatch):
    """Memory is bounded by its queue; it is told how much it missed."""
    monkeypatch.setattr("cliffracer.backlog.PATIENCE", 0.0)
    got: list[Any] = []
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async for _ in t.app.events("order.*", Order):
            entered.set()
            await go_on.wait()

    tasks = [asyncio.create_task(slow()), reading(t, Order, got)]
    await begun(t, 2)
    await say(t, {"id": 0})
    await entered.wait()
    for _ in range(LIMIT // 100 + 1):
        await say(t, *({"id": n} for n in range(100)))
        await eventually(lambda: len(got) % 100 == 1)
    go_on.set()
    with pytest.raises(Overloaded, match="100 events were missed"):
        await tasks[0]
    assert len(got) == LIMIT + 101
    assert not tasks[1].done()
    tasks[1].cancel()
    await asyncio.wait(tasks)


async def test_an_event_that_comes_before_a_call_is_a_task_wakes_it(t):
    """A call that begins to read in the same turn, between two events, gets the second: nobody could wake it yet when that came."""
    got: list[Any] = []
    loop, other, held = asyncio.get_running_loop(), reading(t, Order, []), set()
    feed = await begun(t, 1)

    async def follow() -> None:
        async for event in t.app.events("order.*", Order):
            got.append(event.data.id)  # noqa: PERF401 - it has no end

    def arrive() -> None:  # as the reader of the connection has it in one piece
        subject = f"{t.settings.namespace}.events.order.new".encode()
        feed.receive(subject, b"", None, b'{"id": 1}')
        Starts(loop).add(follow(), held=held)
        feed.receive(subject, b"", None, b'{"id": 2}')

    loop.call_soon(arrive)
    await eventually(lambda: got == [2])
    await say(t, {"id": 3}, {"id": 4})
    await eventually(lambda: got == [2, 3, 4])
    for task in (other, *held):
        task.cancel()
    await asyncio.wait([other, *held])


async def test_sleeping_readers_can_be_cancelled_and_timed_out(t):
    """`asyncio.timeout` around a feed works as around anything; nothing of the reader is left."""

    async def read() -> None:
        async with asyncio.timeout(0.01):
            async for _ in t.app.events("order.*", Order):
                pass

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await read()
    await eventually(lambda: not feeds(t))


async def test_a_reader_that_is_cancelled_twice_leaves_no_subscription(t):
    """The second time while it leaves."""
    task = reading(t, Order, [])
    await begun(t, 1)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert not [n for n in t.up.bus._interests.values() if n.subject.endswith("order.*")]


async def test_who_is_cancelled_while_another_begins_to_read_goes_at_once(t, monkeypatch):
    """NATS may hang, and the other wait for it."""
    flush, hung = t.up.bus.flush, asyncio.Event()

    async def hanging() -> None:
        hung.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(t.up.bus, "flush", hanging)
    got: list[Any] = []
    first = reading(t, Order, [])
    await hung.wait()
    second, third = reading(t, Order, []), reading(t, Order, got)
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    assert not first.done()
    monkeypatch.setattr(t.up.bus, "flush", flush)
    first.cancel()
    await begun(t, 1)
    await say(t, {"id": 1})
    await eventually(lambda: got)
    third.cancel()
    await asyncio.wait([first, third])
    assert not feeds(t)


async def test_who_joins_a_feed_whose_first_reader_leaves_as_it_begins_has_no_gap(t, monkeypatch):
    """What the first has begun goes on: an event before it left was seen, and those until the next had begun anew were not."""
    flush, close, hung, closed = t.up.bus.flush, Hearing.close, asyncio.Event(), list[Hearing]()
    got: list[Any] = []

    async def hanging() -> None:
        hung.set()
        await asyncio.Event().wait()

    async def closing(self: Hearing) -> None:
        closed.append(self)
        await close(self)

    monkeypatch.setattr(Hearing, "close", closing)
    monkeypatch.setattr(t.up.bus, "flush", hanging)
    first = reading(t, Order, [])
    await hung.wait()
    second = reading(t, Order, got)
    await t.emit("order.new", {"id": 1}, durable=False)
    await flush()
    monkeypatch.setattr(t.up.bus, "flush", flush)
    first.cancel()
    await asyncio.wait([first])
    await say(t, {"id": 2})
    await eventually(lambda: len(got) == 2)
    assert [order.id for order in got] == [1, 2]
    assert closed == []
    second.cancel()
    await asyncio.wait([second])
    assert len(closed) == 1
    assert not feeds(t)


async def test_what_came_to_half_a_beginning_is_not_seen(t, monkeypatch):
    """The first reader leaves between its two subscriptions: who joined it begins anew, with what comes from then on."""
    hung, got = asyncio.Event(), list[Any]()

    async def half(_bus: object, _subjects: object, _pattern: str, receive: Any) -> None:
        receive(f"{t.settings.namespace}.events.order.new".encode(), b"", None, b'{"id": 1}')
        hung.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr("cliffracer.messaging.feeds.hear", half)
        first, second = reading(t, Order, []), reading(t, Order, got)
        await hung.wait()
        await asyncio.sleep(0)
    feeds(t)["order.*"].receive(f"{t.settings.namespace}.events.order.new".encode(), b"", None, b'{"id": 2}')
    first.cancel()
    await begun(t, 1)
    await say(t, {"id": 3})
    await eventually(lambda: got)
    assert [order.id for order in got] == [3]
    second.cancel()
    await asyncio.wait([first, second])


async def test_a_feed_that_is_left_early_is_closed(t):
    """``break`` ends the reading."""
    got: list[Any] = []

    async def first() -> None:
        async for event in t.app.events("order.*", Order):
            got.append(event.data)
            break

    task = asyncio.create_task(first())
    await begun(t, 1)
    await say(t, {"id": 1}, {"id": 2})
    await task
    assert [order.id for order in got] == [1]
    await eventually(lambda: not feeds(t))


async def test_large_events_without_a_stream_are_sent_as_fast_as_nats_takes_them(t: Any) -> None:
    """All that are emitted at once: more than may be held while nothing can be written."""
    t.up.bus._held._limit = 1_000_000
    got: list[Any] = []
    task = reading(t, str, got, "large.*")
    await asyncio.sleep(0.1)
    await asyncio.gather(*(t.app.emit("large.one", "x" * 500_000, durable=False) for _ in range(40)))
    await eventually(lambda: len(got) == 40)
    task.cancel()
    await asyncio.wait([task])
