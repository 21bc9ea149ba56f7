"""What an app gets from JetStream beside plain events: timers, one-way calls, one function on several subjects."""

import asyncio
import re
from typing import Annotated, Any

import msgspec
import pytest

from cliffracer import App, Bucket, Internal, InvalidInput, KeyValue, ObjectStore, Rejected, SetupError
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.streams import sends_stream
from cliffracer.testing import running
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports


async def test_a_timer_runs_while_the_app_does():
    """Once per cluster and in each replica, plain functions as well."""
    app, runs = App("reports"), []

    @app.every("200ms")
    async def purge() -> None:
        runs.append("cluster")

    @app.every(0.2, each=True)
    def refresh() -> None:
        runs.append("replica")

    async with running(app):
        await eventually(lambda: runs.count("cluster") > 1 and runs.count("replica") > 1)


async def test_a_bad_cron_expression_is_a_set_up_error():
    """It names the function and shows a good one."""
    app = App("reports")
    with pytest.raises(SetupError, match=r"nightly .*'\* \* \*' is no cron expression.*app\.cron"):

        @app.cron("* * *")
        async def nightly() -> None: ...


async def test_a_start_that_fails_says_why_and_leaves_nothing_behind():
    """Whatever else was about to start: timers that had not begun, consumers that were at it."""
    mail, other = App("mail"), App("other")

    @mail.on("user.created", group="mails")
    async def welcome(_: int) -> None: ...

    @other.on("order.placed", group="mails")
    async def confirm(_: int) -> None: ...

    @other.on("order.placed")
    async def count(_: int) -> None: ...

    @other.on("order.placed", ordered=True)
    async def sum_up(_: int) -> None: ...

    @other.every("1h")
    async def purge() -> None: ...

    async with running(mail) as t:
        before = asyncio.all_tasks()
        with pytest.raises(SetupError, match=r"is that of mail\.mails"):
            async with running(other, settings=t.settings):
                pass
        await eventually(lambda: asyncio.all_tasks() <= before)


async def test_a_one_way_call_is_handled():
    """The caller goes on at once; the method runs as if it had been called."""
    app, charged = App("payments"), []

    @app.rpc
    async def charge(amount: int) -> None:
        charged.append(amount)

    async with running(app) as t:
        payments = app.service("payments")
        for amount in range(3):
            await payments.send.charge(amount=amount)
        await eventually(lambda: len(charged) == 3)
        await t.settled()
    assert sorted(charged) == [0, 1, 2]


async def test_a_one_way_call_waits_for_a_service_that_is_down():
    """It is stored, and handled when the service starts for the first time."""
    payments, shop, charged = App("payments"), App("shop"), []

    @payments.rpc
    async def charge(amount: int) -> None:
        charged.append(amount)

    async with running(shop) as t:
        await shop.service("payments").send.charge(amount=10)
        async with running(payments, settings=t.settings.changed(http_port=0)):
            await eventually(lambda: charged == [10])


async def test_what_is_emitted_or_sent_is_stored_when_that_returns():
    """Whoever has it acknowledged may go: it is in its stream."""
    app = App("shop")

    async with running(app) as t:
        stream, subjects = JetStream(t.up.bus).stream, t.up.services[0].subjects
        for number in range(1, 4):
            await app.emit("order.placed", number)
            assert (await stream(subjects.stream)).state.messages == number
            await app.service("payments").send.charge(amount=number)
            assert (await stream(sends_stream(subjects).name)).state.messages == number


async def test_what_a_method_refuses_of_a_one_way_call_is_tried_again():
    """It is no fault of the arguments, which fit: the account that they name may be there by then."""
    app, attempts = App("payments"), []

    @app.rpc(retry=(0.05,))
    async def charge(amount: int) -> None:
        attempts.append(amount)
        raise InvalidInput("there is no such account")

    async with running(app) as t:
        await app.service("payments").send.charge(amount=1)
        await t.settled()
        [letter] = [letter async for letter in t.up.services[0].backend.dead.ls()]
    assert (attempts, letter.attempts) == ([1, 1], 2)
    assert "there is no such account" in letter.error


async def test_a_method_may_refuse_a_one_way_call_for_good():
    """It is parked at once, as an event would be; who waits for an answer has one, which tells nothing of the reason."""
    app, attempts = App("payments"), []

    @app.rpc(retry=(0.05,))
    async def charge(amount: int) -> None:
        attempts.append(amount)
        raise Rejected("the account was closed in 2019")

    async with running(app) as t:
        await app.service("payments").send.charge(amount=1)
        await t.settled()
        [letter] = [letter async for letter in t.up.services[0].backend.dead.ls()]
        with pytest.raises(Internal):
            await t.call("charge", amount=2)
    assert (attempts, letter.attempts, letter.function) == ([1, 2], 1, "charge")
    assert letter.error.endswith("the account was closed in 2019")


async def test_a_one_way_call_is_tried_as_often_as_its_method_says():
    """And then parked under the name of the method, which a call that is waited for knows nothing of."""
    app, attempts = App("payments"), []

    @app.rpc(retry=(0.05, "50ms"))
    async def charge(amount: int) -> None:
        attempts.append(amount)
        raise ValueError("the bank is closed")

    async with running(app) as t:
        await app.service("payments").send.charge(amount=1)
        await t.settled()
        dead = t.up.services[0].backend.dead
        [letter] = [letter async for letter in dead.ls()]
    assert (attempts, letter.function, letter.attempts) == ([1, 1, 1], "charge", 3)


@pytest.mark.parametrize("options", [{}, {"durable": False}, {"each": True}])
async def test_a_function_on_several_subjects_gets_each_event_once(options: dict[str, Any]):
    """Also where one pattern covers the other, or they overlap."""
    app, got = App("s"), []

    @app.on("user.created", **options)
    @app.on("user.*", **options)
    @app.on("*.created", **options)
    @app.on("order.placed", **options)
    async def note(payload: int) -> None:
        got.append(payload)

    async with running(app) as t:
        for number, subject in enumerate(
            ("user.created", "user.deleted", "order.placed", "order.created", "order.deleted", "user.created")
        ):
            await t.emit(subject, number)
        await eventually(lambda: 5 in got)
        await t.settled()
    assert sorted(got) == [0, 1, 2, 3, 5]


async def test_a_failure_holds_up_those_of_its_key_only():
    """With the app's own words, and its clock: ``ordered=True`` there, ``key=`` here."""
    app, done = App("prices"), []
    broken = True

    @app.on("price.changed", ordered=True, retry=("1h", "1h"))
    async def reprice(change: str) -> None:
        if change == "b1" and broken:
            raise ValueError("not yet")
        done.append(change)

    async with running(app) as t:
        for number in range(4):
            for key in ("a", "b"):
                await t.emit("price.changed", f"{key}{number}", key=key)
        await eventually(lambda: "a3" in done)
        assert sorted(done) == ["a0", "a1", "a2", "a3", "b0"]
        broken = False
        await t.clock.advance("1h")
        await t.settled()
    assert [change for change in done if change[0] == "b"] == ["b0", "b1", "b2", "b3"]


class Session(msgspec.Struct):
    user: str


async def test_stores_are_provided_by_annotation():
    """A bucket is named by its type or by a marker; objects have one of their own."""
    app = App("users")

    @app.rpc
    async def visit(
        user: str,
        *,
        sessions: KeyValue[Session],
        counts: Annotated[KeyValue[int], Bucket("visits", history=3)],
        files: ObjectStore,
    ) -> int:
        await sessions.put(user, Session(user))
        await files.put(user, user.encode())
        return await counts.put(user, 1)

    async with running(app) as t:
        assert [await t.call("visit", user="ada") for _ in range(2)] == [1, 2]


async def test_a_bucket_of_values_without_a_type_is_a_set_up_error():
    """The error shows how to say it."""
    app = App("users")

    @app.rpc
    async def visit(*, counts: KeyValue) -> None: ...

    with pytest.raises(SetupError, match=r"Write KeyValue\[Session\]"):
        async with running(app):
            pass


async def test_a_leader_runs_in_one_replica():
    """It ends with the app."""
    app, events = App("feeds"), []

    @app.leader
    async def follow() -> None:
        events.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            events.append("ended")

    async with running(app):
        await eventually(lambda: events == ["begun"])
    assert events == ["begun", "ended"]


async def test_a_lock_is_held_by_one_handler_at_a_time():
    """Shared by name; its tokens rise."""
    app, held, tokens = App("reports"), 0, []

    @app.rpc
    async def build() -> None:
        nonlocal held
        async with app.lock("build", ttl="10s") as lock:
            held += 1
            assert held == 1
            tokens.append(lock.token)
            await asyncio.sleep(0.01)
            held -= 1

    async with running(app) as t:
        await asyncio.gather(*(t.call("build") for _ in range(5)))
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 5


async def test_a_delayed_event_can_be_taken_back():
    """By the id that it was emitted with, or that `emit` returned."""
    app, got = App("shop"), []

    @app.on("reminder.*")
    async def remind(payload: int) -> None:
        got.append(payload)

    async with running(app) as t:
        assert await app.emit("reminder.cart", 1, delay="1500ms", id="cart-1") == "cart-1"
        made = await app.emit("reminder.cart", 3, delay="1500ms")
        await app.emit("reminder.cart", 2, delay="1550ms", id="cart-2")
        assert await app.cancel("cart-1") is True
        assert await app.cancel("cart-1") is False
        assert await app.cancel(made) is True
        await eventually(lambda: got)
        await t.settled()
    assert got == [2]


async def test_metrics_show_the_lag_of_a_flood(monkeypatch: pytest.MonkeyPatch):
    """Far more than the handler can do: it waits in the stream, which can be seen, and all of it is handled in the end."""
    monkeypatch.setattr("cliffracer.messaging.consumption.POLL", 0.1)
    app, handled, let = App("shop"), set(), asyncio.Event()

    @app.get("/ping")
    async def ping() -> None: ...

    @app.on("order.placed", limit=10)
    async def bill(number: int) -> None:
        await let.wait()
        handled.add(number)

    async def shown(t: Any, name: str) -> int:
        text = (await t.http.get("/metrics")).text
        return int(re.search(rf'cliffracer_events_{name}{{service="shop",handler="bill"}} (\d+)', text)[1])

    async with running(app) as t:
        await asyncio.gather(*(t.emit("order.placed", number) for number in range(2000)))
        async with asyncio.timeout(30):
            while (waiting := await shown(t, "waiting")) < 2000:
                assert await shown(t, "in_hand") <= 10
                await asyncio.sleep(0.02)
        let.set()
        await t.settled(within=60)
        assert await shown(t, "in_hand") == 0
    assert handled == set(range(2000))
    assert waiting == 2000


async def test_metrics_show_what_waits_and_what_was_given_up():
    """Of each function that subscribes, beside its calls."""
    app = App("shop")

    @app.get("/ping")
    async def ping() -> None: ...

    @app.on("order.placed", retry=[])
    async def bill(number: int) -> None:
        if number == 13:
            raise ValueError("unlucky")

    async with running(app) as t:
        for number in (1, 13):
            await t.emit("order.placed", number)
        await t.settled()
        text = (await t.http.get("/metrics")).text
    assert 'cliffracer_events_waiting{service="shop",handler="bill"} 0' in text
    assert 'cliffracer_events_in_hand{service="shop",handler="bill"} 0' in text
    assert 'cliffracer_events_parked_total{service="shop",handler="bill"} 1' in text
