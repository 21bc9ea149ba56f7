"""What any backend does with durable events, now and later, and with those that could not be handled."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cliffracer.errors import InvalidInput, NotFound, Overloaded
from cliffracer.events import Rejected
from cliffracer.messaging.broker import Backend, Consuming, Delivered
from tests.messaging.notes import Notes
from tests.support.events import event_headers
from tests.support.waiting import eventually


@asynccontextmanager
async def consuming(
    backend: Backend, handle: Any, function: str = "welcome", pattern: Any = "user.created", **options: Any
) -> AsyncIterator[Consuming]:
    """Consume while the block runs."""
    found = backend.consume("users", function, pattern, handle, **options)
    await found.start()
    try:
        yield found
    finally:
        await found.drain(5.0)


async def emit(backend: Backend, payload: bytes, *, subject: str = "user.created", event_id: str = "", key: str = "") -> None:
    """Store an event."""
    name = event_id or f"{subject}-{payload.decode()}"
    await backend.store(f"events.{subject}", payload, event_headers(name, subject, "test", key=key))


class EventsContract:
    """What any backend of durable events has to do."""

    async def test_an_event_reaches_each_function_once(self, backend: Backend) -> None:
        """Overlapping patterns, wildcards, and no events of others."""
        one, other, both = Notes(), Notes(), Notes()
        async with (
            consuming(backend, one, "audit", "user.>"),
            consuming(backend, other, "welcome", ["user.*", "user.created"]),
            consuming(backend, both, "both", ["user.*", "*.created", "*.placed"]),
        ):
            await emit(backend, b"1")
            await emit(backend, b"2", subject="order.placed")
            await emit(backend, b"3", subject="user.mail.changed")
            await eventually(lambda: len(one.seen) == 2 and other.seen and len(both.seen) == 2)
        assert (sorted(one.payloads), other.payloads) == ([b"1", b"3"], [b"1"])
        assert both.payloads == [b"1", b"2"]
        assert other.seen[0] == ("events.user.created", b"1", 1)

    async def test_headers_arrive(self, backend: Backend) -> None:
        """CloudEvents attributes among them."""
        found: list[dict[str, str]] = []

        async def handle(delivery: Delivered) -> None:
            found.append(dict(delivery.headers))

        async with consuming(backend, handle):
            await emit(backend, b"1", event_id="e1")
            await eventually(lambda: found)
        assert (found[0]["ce-id"], found[0]["ce-type"], found[0]["ce-source"]) == ("e1", "user.created", "test")

    async def test_events_wait_for_a_function_that_is_down(self, backend: Backend) -> None:
        """Once it has subscribed."""
        notes = Notes()
        async with consuming(backend, notes):
            pass
        for number in range(5):
            await emit(backend, b"%d" % number)
        async with consuming(backend, notes) as consumer:
            await eventually(lambda: len(notes.seen) == 5)
        assert notes.payloads == [b"0", b"1", b"2", b"3", b"4"]
        assert consumer.counts.handled == 5

    async def test_a_new_function_starts_where_it_says(self, backend: Backend) -> None:
        """With what comes, or with all there is."""
        new, whole = Notes(), Notes()
        await emit(backend, b"before")
        async with consuming(backend, new, "new"), consuming(backend, whole, "whole", start="all"):
            await emit(backend, b"after")
            await eventually(lambda: new.seen and len(whole.seen) == 2)
        assert (new.payloads, whole.payloads) == ([b"after"], [b"before", b"after"])

    async def test_one_id_is_stored_once(self, backend: Backend) -> None:
        """Duplicates are suppressed."""
        notes = Notes()
        async with consuming(backend, notes) as consumer:
            for _ in range(3):
                await emit(backend, b"1", event_id="same")
            await emit(backend, b"2")
            await eventually(lambda: b"2" in notes.payloads)
            while await consumer.waiting():  # noqa: ASYNC110 - it is the broker that knows
                await asyncio.sleep(0.01)
        assert notes.payloads == [b"1", b"2"]

    async def test_replicas_share_the_events(self, backend: Backend) -> None:
        """Each goes to one of them."""
        one, other = Notes(), Notes()
        async with consuming(backend, one, limit=2), consuming(backend, other, limit=2):
            for number in range(50):
                await emit(backend, b"%d" % number)
            await eventually(lambda: len(one.seen) + len(other.seen) == 50)
        assert sorted(one.payloads + other.payloads) == sorted(b"%d" % number for number in range(50))

    async def test_no_more_than_the_limit_are_in_hand(self, backend: Backend) -> None:
        """The rest waits with the broker."""
        running = most = done = 0

        async def handle(delivery: Delivered) -> None:
            nonlocal running, most, done
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.003 * (1 + int(delivery.payload) % 4))  # so that places do not all become free at once
            running -= 1
            done += 1

        for number in range(30):  # before anybody handles them, so that more than the limit wait however slow this machine is
            await emit(backend, b"%d" % number)
        async with consuming(backend, handle, limit=3, start="all"):
            await eventually(lambda: done == 30)
        assert most == 3

    async def test_a_failure_is_tried_again_and_then_parked(self, backend: Backend) -> None:
        """By its schedule; the letter says everything."""
        notes = Notes(lambda _: ValueError("no such user"))
        async with consuming(backend, notes, retry=(0.05, 0.05)) as consumer:
            await emit(backend, b"1")
            await eventually(lambda: consumer.counts.parked == 1)
        assert [attempt for _, _, attempt in notes.seen] == [1, 2, 3]
        [letter] = [letter async for letter in backend.dead.ls()]
        assert (letter.subject, letter.service, letter.function, letter.attempts) == ("user.created", "users", "welcome", 3)
        assert (letter.payload, letter.error, letter.headers["ce-id"]) == (b"1", "ValueError: no such user", "user.created-1")
        assert "Traceback" in letter.traceback

    async def test_an_overloaded_handler_is_asked_again_and_nothing_is_parked_for_it(self, backend: Backend) -> None:
        """However often: nothing was tried, so it counts as no attempt."""
        notes = Notes(lambda _: Overloaded("busy", retry_after=0.01) if len(notes.seen) < 6 else None)
        async with consuming(backend, notes, retry=()) as consumer:
            await emit(backend, b"1")
            await eventually(lambda: consumer.counts.handled == 1)
        assert [attempt for _, _, attempt in notes.seen] == [1] * 6
        assert [letter async for letter in backend.dead.ls()] == []

    async def test_dead_letters_are_found_and_filtered(self, backend: Backend) -> None:
        """By service, function, and a pattern of subjects; one that is not there is `NotFound`."""
        broken = Notes(lambda _: ValueError("no"))
        async with consuming(backend, broken, "welcome", "user.>", retry=()) as one, consuming(backend, broken, "audit", retry=()) as other:
            await emit(backend, b"1")
            await emit(backend, b"2", subject="user.mail.changed")
            await eventually(lambda: one.counts.parked == 2 and other.counts.parked == 1)
        assert await backend.dead.count() == 3
        for filters, count in (({"function": "welcome"}, 2), ({"subject": "user.*"}, 2), ({"service": "shop"}, 0), ({}, 3)):
            assert len([letter async for letter in backend.dead.ls(**filters)]) == count
        with pytest.raises(NotFound):
            await backend.dead.show(99)
        with pytest.raises(NotFound):
            await backend.dead.discard(99)

    async def test_poison_is_parked_at_once_and_nothing_else_is_touched(self, backend: Backend) -> None:
        """Among a hundred good ones."""
        notes = Notes(lambda delivery: InvalidInput("poison") if delivery.payload == b"50" else None)
        async with consuming(backend, notes, retry=(60,)) as consumer:
            for number in range(100):
                await emit(backend, b"%d" % number)
            await eventually(lambda: consumer.counts.handled == 99 and consumer.counts.parked == 1)
        assert sorted(notes.payloads) == sorted(b"%d" % number for number in range(100))
        assert [letter.payload async for letter in backend.dead.ls()] == [b"50"]

    async def test_a_replay_goes_to_the_function_that_failed(self, backend: Backend) -> None:
        """And to no other; then the letter is gone. A discard removes one as well."""
        broken = True
        failing, other = Notes(lambda _: ValueError("no") if broken else None), Notes()
        async with consuming(backend, failing, retry=()) as consumer, consuming(backend, other, "audit"):
            await emit(backend, b"1")
            await emit(backend, b"2")
            await eventually(lambda: consumer.counts.parked == 2 and len(other.seen) == 2)
            broken = False
            letters = [letter async for letter in backend.dead.ls()]
            await backend.dead.replay(letters[0].id)
            await backend.dead.discard(letters[1].id)
            await eventually(lambda: len(failing.seen) == 3)
        assert failing.seen[2] == ("events.user.created", letters[0].payload, 1)
        assert len(other.seen) == 2
        assert [letter async for letter in backend.dead.ls()] == []

    async def test_several_are_replayed_in_the_order_in_which_they_are_named(self, backend: Backend) -> None:
        """Those that are there; of the others it is said why not."""
        broken = True
        failing = Notes(lambda _: ValueError("no") if broken else None)
        async with consuming(backend, failing, retry=(), ordered=True) as consumer:
            for number in range(40):
                await emit(backend, b"%d" % number)
            await eventually(lambda: consumer.counts.parked == 40)
            broken = False
            numbers = [letter.id async for letter in backend.dead.ls()]
            turned = numbers[::-1]
            assert await backend.dead.replay_some([turned[0], 99, *turned[1:]]) == {99: "there is no dead letter 99"}
            await eventually(lambda: len(failing.seen) == 80)
        assert failing.payloads[40:] == [b"%d" % number for number in reversed(range(40))]
        assert [letter async for letter in backend.dead.ls()] == []

    async def test_ordered_events_keep_their_order_through_a_failure(self, backend: Backend) -> None:
        """One that fails holds up those behind it."""
        done: list[bytes] = []

        async def handle(delivery: Delivered) -> None:
            if delivery.payload == b"5" and delivery.attempt == 1:
                raise ValueError("once")
            done.append(delivery.payload)

        async with consuming(backend, handle, ordered=True, retry=(0.05,)):
            for number in range(20):
                await emit(backend, b"%d" % number)
            await eventually(lambda: len(done) == 20)
        assert done == [b"%d" % number for number in range(20)]

    async def test_a_failure_holds_up_those_of_its_key_only(self, backend: Backend) -> None:
        """The others are handled meanwhile, each key in order; what is parked holds up nobody any more."""
        done: list[bytes] = []
        mended = False

        async def handle(delivery: Delivered) -> None:
            if delivery.payload == b"a3":
                raise InvalidInput("poison")
            if delivery.payload == b"a5" and not mended:
                raise ValueError("not yet")
            done.append(delivery.payload)

        async with consuming(backend, handle, ordered=True, limit=4, retry=(0.05,) * 1000) as consumer:
            for number in range(20):
                for key in ("a", "b"):
                    await emit(backend, b"%s%d" % (key.encode(), number), key=key)
            await eventually(lambda: done.count(b"b19"))
            assert [payload for payload in done if payload.startswith(b"a")] == [b"a0", b"a1", b"a2", b"a4"]
            mended = True
            await eventually(lambda: consumer.counts.handled == 39)
        for key, missing in ((b"a", [3]), (b"b", [])):
            assert [p for p in done if p.startswith(key)] == [b"%s%d" % (key, n) for n in range(20) if n not in missing]

    async def test_events_come_in_batches(self, backend: Backend) -> None:
        """As lists, of which a part can be rejected."""
        sizes: list[int] = []

        async def handle(deliveries: list[Delivered]) -> None:
            sizes.append(len(deliveries))
            wrong = {n: "odd" for n, delivery in enumerate(deliveries) if delivery.payload == b"3"}
            if wrong:
                raise Rejected(wrong)

        async with consuming(backend, handle, batch=5, within=0.05, retry=()) as consumer:
            for number in range(12):
                await emit(backend, b"%d" % number)
            await eventually(lambda: consumer.counts.handled == 11 and consumer.counts.parked == 1)
        assert max(sizes) <= 5
        assert [letter.payload async for letter in backend.dead.ls()] == [b"3"]

    async def test_a_drain_gives_back_what_is_not_finished(self, backend: Backend) -> None:
        """Another replica has it at once."""
        started, notes = asyncio.Event(), Notes()

        async def endless(_: Delivered) -> None:
            started.set()
            await asyncio.Event().wait()

        stopping = backend.consume("users", "welcome", "user.created", endless)
        await stopping.start()
        await emit(backend, b"1")
        await started.wait()
        await stopping.drain(0.1)
        async with consuming(backend, notes):
            await eventually(lambda: notes.payloads == [b"1"], within=20)

    async def test_a_delayed_event_comes_when_it_is_due_unless_it_is_taken_back(self, backend: Backend) -> None:
        """Under its own subject."""
        came: list[tuple[bytes, float]] = []

        async def handle(delivery: Delivered) -> None:
            came.append((delivery.payload, time.time()))

        async with consuming(backend, handle):
            due = time.time() + 1.5
            for name in ("kept", "cancelled"):
                headers = event_headers(name, "user.created", "test")
                await backend.store_later("events.user.created", name.encode(), headers, at=due, event_id=name)
            waiting = [event async for event in backend.delayed()]
            assert [(event.id, event.subject, event.size) for event in waiting] == [
                ("kept", "user.created", 4), ("cancelled", "user.created", 9),
            ]  # fmt: skip
            assert abs(waiting[0].due.timestamp() - due) < 0.001
            assert await backend.cancel("cancelled") is True
            assert await backend.cancel("unknown") is False
            await eventually(lambda: came)
        assert [payload for payload, _ in came] == [b"kept"]
        assert [event async for event in backend.delayed()] == []
        assert came[0][1] >= due - 0.05

    async def test_what_is_stored_can_be_looked_at(self, backend: Backend) -> None:
        """In order, from where one says, by any patterns; nobody else notices, and large payloads are to be had."""
        notes = Notes()
        with pytest.raises(NotFound, match="there are no events"):
            [event async for event in backend.stored(["user.*"])]
        async with consuming(backend, notes):
            for number in range(3):
                await emit(backend, b"%d" % number)
            await emit(backend, b"3", subject="order.created")
            await emit(backend, b"4", subject="order.placed")
            await eventually(lambda: len(notes.seen) == 3)
            found = [event async for event in backend.stored(["user.*", "*.created"])]
            assert [(event.subject, event.payload) for event in found][2:] == [
                ("events.user.created", b"2"),
                ("events.order.created", b"3"),
            ]
            later = [event.payload async for event in backend.stored(["user.*"], found[1].stream_seq)]
            assert later == [b"1", b"2"]
            large = b"x" * 2_000_000
            await backend.store("events.big.one", large, event_headers("big", "big.one", "test"))
            [event] = [event async for event in backend.stored(["big.*"])]
            await backend.whole(event)
            assert event.payload == large
        assert len(notes.seen) == 3

    async def test_a_large_event_arrives_whole(self, backend: Backend) -> None:
        """Whatever the broker's limit for one message is."""
        payload, notes = b"x" * 3_000_000, Notes()
        async with consuming(backend, notes):
            await backend.store("events.user.created", payload, event_headers("large", "user.created", "test"))
            await eventually(lambda: notes.seen)
        assert notes.payloads == [payload]
