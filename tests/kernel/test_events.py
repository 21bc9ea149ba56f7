"""Events through the app: durable and not, typed, wildcards, failures; the deeper guarantees have tests of their own beside JetStream."""

import asyncio
import contextlib
import re
from datetime import UTC, datetime

import msgspec
import pytest
from loguru import logger

from cliffracer import App, Context, Event, InvalidInput, NotFound, Overloaded, Received, Rejected, SetupError
from cliffracer.messaging.claimcheck import claiming
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.feeds import LIMIT
from cliffracer.observability.lines import call_fields
from cliffracer.testing import running
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports


class User(msgspec.Struct):
    name: str


class UserCreated(Event, subject="user.created"):
    name: str
    id: int = 0


async def test_a_durable_event_reaches_every_subscribing_function_once():
    """Overlapping patterns each get the event once."""
    app, got = App("s"), []

    @app.on("user.created")
    async def exact(user: User) -> None:
        got.append(("exact", user.name))

    @app.on("user.*")
    async def star(user: User) -> None:
        got.append(("star", user.name))

    @app.on(">")
    async def everything(user: dict) -> None:
        got.append(("all", user["name"]))

    async with running(app) as t:
        await t.emit("user.created", {"name": "Ada"})
        await t.settled()
    assert sorted(got) == [("all", "Ada"), ("exact", "Ada"), ("star", "Ada")]


async def test_an_event_says_what_it_is():
    """A handler that asks for `Event` is given id, subject, source, time, attempt, headers and data."""
    app, got = App("s"), []

    @app.on("user.*")
    async def handle(user: User, *, event: Event, context: Context) -> None:
        got.append((event, context))

    async with running(app) as t:
        await t.emit("user.created", User("Ada"), id="one")
        await t.settled()
        (event, context) = got[0]
        assert (event.id, event.subject, event.source, event.attempt) == ("one", "user.created", "s", 1)
        assert event.data == User("Ada")
        assert event.sequence >= 1
        assert event.time is not None
        assert context.correlation_id == event.headers["X-Correlation-ID"]


async def test_a_typed_event_has_its_subject_and_its_fields():
    """One class types both sides, also with fields called like an event's own."""
    app, got = App("s"), []

    @app.on(UserCreated)
    async def handle(event: UserCreated) -> None:
        got.append(event)

    async with running(app) as t:
        await t.emit(UserCreated("Ada", 7))
        await t.settled()
        assert got == [UserCreated("Ada", 7)]
        assert t.emitted(UserCreated)[0].data == {"name": "Ada", "id": 7}


async def test_the_correlation_id_goes_along_with_events_and_calls():
    """What a handler emits and calls carries the id under which it was asked."""
    app, seen = App("s"), []

    @app.rpc
    async def begin(*, context: Context) -> str:
        await app.emit("step.one", 1)
        return context.correlation_id

    @app.on("step.one")
    async def step(data: int, *, context: Context) -> None:
        seen.append(context.correlation_id)
        seen.append(await app.call(end))

    @app.rpc
    async def end(*, context: Context) -> str:
        return context.correlation_id

    async with running(app) as t:
        first = await t.call("begin")
        await t.settled()
    assert seen == [first, first]


@pytest.mark.parametrize("durable", [True, False])
async def test_a_handler_that_takes_no_payload_finds_it_in_the_event(durable):
    """Whatever it is: `Event` alone says all that came. What is no JSON is parked, as where an argument is made of it."""
    app, seen = App("s"), []

    @app.on("a.>", durable=durable)
    async def note(*, event: Event) -> None:
        seen.append((event.subject, event.data))

    async with running(app) as t:
        for subject, data in (("a.b", {"x": [1]}), ("a.c", None)):
            await t.emit(subject, data, durable=durable)
        t.up.bus.publish(t.up.services[0].subjects.event("a.d").encode(), b"no JSON")
        t.up.bus.publish(t.up.services[0].subjects.event("a.e").encode(), b"")
        await t.settled()
        await eventually(lambda: len(seen) == 3)
        assert sorted(seen, key=str) == [("a.b", {"x": [1]}), ("a.c", None), ("a.e", None)]
        assert [parked.attempts for parked in await t.parked()] == [1] * durable


async def test_a_received_of_some_type_has_a_payload_of_that_type():
    """Where the handler takes no other; what is none is parked, as where an argument is made of it."""
    app, seen = App("s"), []

    @app.on("user.*")
    async def typed(*, event: Received[User]) -> None:
        seen.append(event.data)

    @app.on("user.*")
    async def plain(*, event: Received) -> None:
        seen.append(event.data)

    async with running(app) as t:
        await t.emit("user.created", User("Ada"))
        await t.emit("user.counted", 7)
        await t.settled()
        assert sorted(seen, key=str) == [7, User("Ada"), {"name": "Ada"}]
        assert [parked.function for parked in await t.parked()] == ["typed"]


async def test_a_batch_has_a_list_and_no_event_of_its_own():
    """Neither one payload nor one `Event` could be given, so the decorator says so."""
    for given, problem in (
        (lambda one: None, "takes one list of events"),
        (lambda many, *, event: None, "there is no one Event"),
        (lambda many, *, received: None, "there is no one"),
    ):
        app = App("s")
        given.__annotations__ = {"one": User, "many": list[User], "event": Event, "received": Received[User]}
        given.__name__ = "handle"
        with pytest.raises(SetupError, match=problem):
            app.on("user.created", batch=10)(given)


async def test_a_failing_handler_is_tried_again_and_then_parked():
    """After its retries an event is in the dead-letter stream with what went wrong, and others are not touched."""
    app, attempts = App("s"), []

    @app.on("user.created", retry=[0, 0])
    async def handle(user: User, *, event: Event) -> None:
        attempts.append((user.name, event.attempt))
        if user.name == "Bob":
            raise NotFound("no Bob")

    async with running(app) as t:
        for name in ("Ada", "Bob", "Eve"):
            await t.emit("user.created", User(name))
        await t.settled()
        service = t.up.services[0]
        dead = [parked async for parked in DeadLetters(service.jetstream, service.subjects).ls()]
    assert [n for n in attempts if n[0] == "Bob"] == [("Bob", 1), ("Bob", 2), ("Bob", 3)]
    assert [(d.subject, d.function, d.attempts) for d in dead] == [("user.created", "handle", 3)]
    assert "no Bob" in dead[0].error


async def test_poison_is_parked_at_once_and_not_handled():
    """An event that does not decode never enters the handler and is not lost; the log says why, and how to look, without a traceback."""
    app, got, lines = App("s"), [], []

    @app.on("user.created")
    async def handle(user: User) -> None:
        got.append(user)

    async with running(app) as t:
        sink = logger.add(lambda line: lines.append((line.record, call_fields())), level="ERROR")
        await t.emit("user.created", {"nome": 1})
        await t.emit("user.created", {"name": "Ada"})
        await t.settled()
        logger.remove(sink)
        service = t.up.services[0]
        [letter] = [parked async for parked in DeadLetters(service.jetstream, service.subjects).ls()]
    assert got == [User("Ada")]
    assert letter.error == "InvalidInput: the input is not valid: name: is required"
    [(record, call)] = lines
    told = (
        rf"handle \(.*test_events\.py:\d+\) gave up on user\.created \(.*:1\) after attempt 1: {letter.error}; parked, see: .* dead show 1"
    )
    assert re.fullmatch(told, record["message"])
    assert (call["service"], call["handler"], record["extra"]["subject"], record["exception"]) == ("s", "handle", "user.created", None)
    assert letter.traceback == ""


async def test_what_does_not_fit_a_batch_or_a_method_is_told_as_theirs():
    """The line names the function, and is of its call."""
    app, told = App("s"), []

    @app.on("user.created", batch=2, within=0.1)
    async def handle(users: list[User]) -> None: ...

    @app.rpc
    async def charge(amount: int) -> None: ...

    async with running(app) as t:
        sink = logger.add(lambda line: told.append((line.record["message"].partition(" gave up")[0], call_fields())), level="ERROR")
        await t.emit("user.created", {"nome": 1})
        await t.settled()
        await app.service("s").send.charge(amount="much")
        await t.settled()
        logger.remove(sink)
    assert [(message.partition(" (")[0], call["handler"]) for message, call in told] == [("handle", "handle"), ("charge", "charge")]
    assert all("test_events.py:" in message for message, _ in told)


async def test_a_batch_that_is_not_full_is_handed_over_when_a_test_settles():
    """Once nothing else is left to be done, and all that was emitted is in it, also what other handlers emitted meanwhile."""
    app, got = App("s"), []

    @app.on("user.named")
    async def name(user: str) -> None:
        await app.emit("user.created", User(user))

    @app.on("user.created", batch=4, within=600)
    async def handle(users: list[User]) -> None:
        got.append([user.name for user in users])

    async with running(app) as t:
        for user in "abcdef":
            await t.emit("user.named", user)
        await t.settled()
        assert sorted(map(len, got)) == [2, 4]
        assert sorted(user for batch in got for user in batch) == list("abcdef")


async def test_events_that_are_emitted_at_once_are_stored_in_the_order_in_which_they_are_given():
    """None waits for the way there and back of the one before it."""
    app, got = App("s"), []

    @app.on("n", ordered=True)
    async def handle(number: int) -> None:
        got.append(number)

    async with running(app) as t:
        await asyncio.gather(*(app.emit("n", number) for number in range(2000)))
        await t.settled(60)
    assert got == list(range(2000))


async def test_a_test_does_not_see_a_duplicate():
    """What was not stored was not emitted; what is of core NATS was, every time."""
    app = App("s")
    async with running(app) as t:
        for durable in (True, True, False, False):
            await app.emit("n", durable, id="same", durable=durable)
        await app.emit("m", 1, id="same")
        await t.settled()
        assert [(event.subject, event.data) for event in t.emitted()] == [("n", True), ("n", False), ("n", False)]


async def test_a_test_sees_what_was_parked():
    """By subject or event, with what went wrong; an error of its own does not show the headers, which may have tokens."""
    app = App("s")

    class Created(Event, subject="user.created"):
        name: str

    @app.on(Created, retry=())
    async def handle(user: Created) -> None:
        raise ValueError(f"no {user.name}")

    async with running(app) as t:
        assert await t.parked() == []
        await t.emit(Created("Ada"))
        await t.settled()
        await t.emit("user.created", {"nome": "Ada"})
        await t.settled()
        first, second = await t.parked(Created)
        assert (first.function, first.error, first.attempts) == ("handle", "ValueError: no Ada", 1)
        assert repr(second) == "<Parked 2: user.created at s.handle: InvalidInput: the input is not valid: name: is required>"
        assert await t.parked("user.deleted") == []


async def test_what_a_handler_raised_is_logged_whole_once():
    """With its traceback when it happened; the line that says that it is parked says what it was, and under which id to find it."""
    app, records = App("s"), []

    @app.on("user.created", retry=())
    async def handle(user: User) -> None:
        raise ValueError(f"no {user.name}")

    async with running(app) as t:
        sink = logger.add(lambda line: records.append(line.record), level="ERROR")
        await t.emit("user.created", User("Bob"))
        await t.settled()
        logger.remove(sink)
    failed, parked = records
    assert (str(failed["exception"].value), parked["exception"]) == ("no Bob", None)
    assert " after attempt 1: ValueError: no Bob; parked, see: cliffracer dead show 1" in parked["message"]
    assert parked["extra"]["error_id"] == failed["extra"]["error_id"]


async def test_each_replica_gets_its_copy_and_a_shared_one_goes_to_one():
    """``each=True`` is everybody's, ``durable=False`` is shared by the replicas."""
    got = []

    def replica(number: int) -> App:
        app = App("s")

        @app.on("a", each=True)
        async def mine(data: int) -> None:
            got.append(("each", number))

        @app.on("a", durable=False)
        async def shared(data: int) -> None:
            got.append(("shared", number))

        return app

    apps = [replica(0), replica(1)]

    async with running(apps[0]) as t, running(apps[1], settings=t.settings) as other:
        await t.emit("a", 1, durable=False)
        await t.settled()
        await other.settled()
    assert sorted(n for n in got if n[0] == "each") == [("each", 0), ("each", 1)]
    assert len([n for n in got if n[0] == "shared"]) == 1


async def test_those_who_only_listen_hear_a_repetition_too():
    """A second emit of one id is stored once, so it is handled once; who takes events from core NATS hears both."""
    app, got = App("s"), []

    @app.on("order.paid")
    async def stored(data: int) -> None:
        got.append(("stored", data))

    @app.on("order.paid", each=True)
    async def every(data: int) -> None:
        got.append(("each", data))

    @app.on("order.paid", durable=False)
    async def shared(data: int) -> None:
        got.append(("shared", data))

    async with running(app) as t:
        await t.emit("order.paid", 1, id="order-7-paid")
        await t.emit("order.paid", 2, id="order-7-paid")
        await t.settled()
    assert sorted(got) == [("each", 1), ("each", 2), ("shared", 1), ("shared", 2), ("stored", 1)]


async def test_events_wait_while_their_service_is_down():
    """What was emitted while nobody ran is handled at the next start."""
    app, got = App("s"), []

    @app.on("user.created")
    async def handle(user: User) -> None:
        got.append(user.name)

    other = App("other")
    async with running(other) as t:
        async with running(app, settings=t.settings):
            pass
        await t.emit("user.created", User("Ada"))
        async with running(app, settings=t.settings) as again:
            await again.settled()
    assert got == ["Ada"]


async def test_a_batch_handler_gets_lists_and_may_reject_some():
    """The rejected ones are tried again, the others are done."""
    app, got = App("s"), []

    @app.on("n", batch=10, within=1.0, retry=[0])
    async def handle(numbers: list[int]) -> None:
        got.append(numbers)
        odd = {index: "odd" for index, number in enumerate(numbers) if number % 2}
        if odd and len(got) == 1:
            raise Rejected(odd)

    async with running(app) as t:
        await asyncio.gather(*(t.emit("n", number) for number in range(6)))
        await t.settled()
    assert sorted(got[0]) == [0, 1, 2, 3, 4, 5]
    assert sorted(n for batch in got[1:] for n in batch) == [1, 3, 5]


async def test_a_dead_letter_says_what_the_handler_raised():
    """By the user's own name of it, with its reason."""
    app = App("s")

    @app.on("n", batch=10, within=0.05, retry=[])
    async def reject(numbers: list[int]) -> None:
        raise Rejected(dict.fromkeys(range(len(numbers)), "odd"))

    @app.on("n", retry=[])
    async def refuse(number: int) -> None:
        raise InvalidInput("no such number")

    async with running(app) as t:
        await app.emit("n", 1)
        await t.settled()
        service = t.up.services[0]
        told = {letter.function: letter.error async for letter in service.backend.dead.ls()}
    assert told == {"reject": "Rejected: odd", "refuse": "InvalidInput: no such number"}


@pytest.mark.parametrize("batch", [False, True])
async def test_a_handler_may_refuse_an_event_for_good(batch):
    """Then it is parked at once, with the reason: what another attempt would not change is not tried again."""
    app, attempts = App("s"), []

    async def handle(given):
        attempts.extend(given if batch else [given])
        raise Rejected("no such user")

    handle.__annotations__["given"] = list[int] if batch else int
    app.on("n", **({"batch": 2, "within": 1.0} if batch else {}))(handle)
    async with running(app) as t:
        await asyncio.gather(app.emit("n", 1), app.emit("n", 1))
        await t.settled()
        told = [(letter.error, letter.attempts) async for letter in t.up.services[0].backend.dead.ls()]
    assert (told, attempts) == ([("Rejected: no such user", 1)] * 2, [1, 1])


async def test_a_feed_yields_what_comes_from_now_on():
    """`app.events` gives every reader its own copy, typed."""
    app, got = App("s"), []

    async with running(app) as t:

        async def read():
            async for event in app.events("user.*", User):
                got.append(event.data.name)
                if len(got) == 2:
                    return

        reading = asyncio.create_task(read())
        while not got:
            await t.emit("user.created", User("Ada"))
            await asyncio.sleep(0)
        await t.emit("user.gone", User("Bob"), durable=False)
        await asyncio.wait_for(reading, 30)
    assert got[0] == "Ada"


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("leaked", [asyncio.CancelledError, SystemExit])
async def test_a_handler_that_leaks_what_ends_tasks_ends_no_subscription(leaked: type[BaseException], *, durable: bool):
    """The failed event is tried again if it is durable, and the events after it are handled."""
    app, got = App("s"), []

    @app.on("number", durable=durable, **({"retry": [0.01]} if durable else {}))
    async def handle(number: int) -> None:
        got.append(number)
        if got == [1]:
            raise leaked

    async with running(app) as t:
        for number in (1, 2, 3):
            await t.emit("number", number, durable=durable)
        await eventually(lambda: sorted(got) == ([1, 1, 2, 3] if durable else [1, 2, 3]))


async def test_a_flood_of_events_that_do_not_fit_is_none_of_lines(capfd):
    """Of those of core NATS the 1st, 2nd, 4th, 8th and so on is told; all are counted."""
    app, got = App("s"), []

    @app.on("number", durable=False)
    async def handle(number: int) -> None:
        got.append(number)

    async with running(app) as t:
        for _ in range(20):
            await t.emit("number", "none", durable=False)
        await t.emit("number", 1, durable=False)
        await eventually(lambda: got == [1])
        (handler,) = (handler for _, handler in t.up.services[0].assembly.handlers)
        assert (handler.stats.requests, handler.stats.errors) == (21, 20)
    assert capfd.readouterr().err.count("event dropped: it does not fit") == 5


async def test_more_events_than_may_wait_are_dropped_and_counted_where_they_are_not_kept():
    """A flood of what nobody stores fills no memory, and the log is told of it once; what is let in is handled."""
    app, let, got, logged = App("s"), asyncio.Event(), [], []

    @app.on("number", durable=False, limit=2)
    async def handle(number: int) -> None:
        await let.wait()
        got.append(number)

    sink = logger.add(logged.append, level="WARNING", format="{message}")
    async with running(app) as t:
        for number in range(100):
            await t.emit("number", number, durable=False)
        handler = t.up.services[0]._events[0].handler
        await eventually(lambda: handler.gate.admitted + handler.gate.refused == 100)
        assert (handler.gate.admitted, handler.stats.errors, handler.stats.last_error) == (22, 78, "Overloaded 429")
        let.set()
        await eventually(lambda: len(got) == 22)
        assert handler.gate.admitted == 0
        await t.emit("number", 100, durable=False)
        await eventually(lambda: got[-1] == 100)
    logger.remove(sink)
    assert [line.partition(":")[0] for line in logged] == ["events dropped"]


async def test_what_becomes_of_an_event_that_is_not_kept_and_not_handled_is_told():
    """Refused by the function, or its payload gone: nobody else hears of it, and the next one is handled."""
    app, got, logged = App("s"), [], []

    @app.on("text", durable=False)
    async def handle(text: str) -> None:
        if text == "odd":
            raise Rejected({0: "an odd one"})
        got.append(len(text))

    sink = logger.add(logged.append, level="WARNING", format="{message}")
    async with running(app) as t:
        endpoint = t.up.services[0]._events[0]
        await t.emit("text", "odd", durable=False)
        t.up.bus.publish(t.up.services[0].subjects.event("text").encode(), b"", claiming(None, "gone"))
        await t.emit("text", "fine", durable=False)
        await eventually(lambda: got == [4] and len(logged) == 2)
        assert (endpoint.handler.gate.admitted, endpoint._held) == (0, set())
    logger.remove(sink)
    assert sorted(line.partition(":")[0] for line in logged) == ["event lost", "event lost"]
    assert any("refused it: 0: an odd one" in line for line in logged)


@pytest.mark.parametrize("named", [3, -1, "0"])
async def test_a_batch_that_rejects_what_is_not_in_it_fails_whole(named):
    """Which of its events the function means nobody knows, so none of them is done: they are tried again, and parked."""
    app = App("s")

    @app.on("number", batch=3, within=60, retry=())
    async def handle(numbers: list[int]) -> None:
        raise Rejected({named: "odd"})

    async with running(app) as t:
        for number in range(3):
            await t.emit("number", number)
        await t.settled()
        parked = await t.parked()
    assert sorted(letter.payload for letter in parked) == [b"0", b"1", b"2"]
    assert {letter.error for letter in parked} == {f"Rejected: it names {named!r}, and the events of the batch are 0 to 2"}


async def test_subscriptions_of_one_function_differ_in_their_subjects_only():
    """They have one consumer, which can be tried again in one way only."""
    app = App("s")

    @app.on("a", retry=[1])
    @app.on("b", retry=[2])
    async def handle(data: int) -> None: ...

    with pytest.raises(SetupError, match="b and a share the consumer handle and differ in more than the subject"):
        async with running(app):
            pass


async def test_a_delayed_event_comes_later():
    """With ``delay`` an event is kept by the server until it is due."""
    app, got = App("s"), []

    @app.on("later")
    async def handle(data: int) -> None:
        got.append(data)

    async with running(app) as t:
        await t.emit("later", 2, delay="1s")
        await t.emit("later", 1)
        for _ in range(500):
            if len(got) == 2:
                break
            await asyncio.sleep(0.02)
    assert got == [1, 2]


async def test_a_delayed_event_and_one_that_is_not_are_two():
    """Their id is one: it replaces a delayed one by a delayed one, and suppresses a stored one by a stored one."""
    app, got = App("s"), []

    @app.on("later")
    async def handle(data: int) -> None:
        got.append(data)

    async with running(app) as t:
        for number, delay in enumerate(("500ms", "500ms", None, None)):
            await t.emit("later", number, id="one", delay=delay)
        await eventually(lambda: len(got) == 2)
        await t.settled()
    assert got == [2, 1]


async def test_an_event_that_is_never_due_is_refused():
    """Times beyond those that the server counts are the past to it: it would be delivered at once."""
    async with running(App("s")) as t:
        for option in ({"delay": "200000d"}, {"delay": 9e15}, {"at": datetime.max.replace(tzinfo=UTC)}):
            with pytest.raises(ValueError, match="until 2262 at most"):
                await t.emit("later", 1, **option)


@pytest.mark.parametrize("at", [datetime(2030, 1, 1), "2030-01-01T00:00:00Z", 1893456000])  # noqa: DTZ001 - that is what is refused
async def test_a_time_that_is_no_moment_is_refused_and_says_what_to_write(at):
    """A text or a number, or whatever the clock on the wall of some replica shows."""
    with pytest.raises((TypeError, ValueError), match=r"datetime\.now\(timezone\.utc\) \+ \.\.\."):
        await App("s").emit("later", 1, at=at)


@pytest.mark.parametrize("subject", ["a b", "a.*", "", "a\r\nPUB x 0", "a..b", "é\u2028x x", ">"])
async def test_a_bad_subject_is_refused_before_it_is_sent(subject):
    """What is no literal subject raises where it is emitted."""
    async with running(App("s")) as t:
        with pytest.raises(ValueError, match="is no subject"):
            await t.emit(subject, 1)


async def test_a_subject_made_of_what_a_caller_sent_is_that_callers_mistake():
    """It gets `InvalidInput`, which is the `ValueError` that the handler can catch, not an `Internal`."""
    app = App("s")

    @app.rpc
    async def note(name: str) -> str:
        try:
            await app.emit(f"noted.{name}", 1)
        except ValueError:
            if name == "a b":
                return "caught"
            raise
        return "noted"

    async with running(app) as t:
        assert [await t.call("note", name="a b"), await t.call("note", name="ab")] == ["caught", "noted"]
        with pytest.raises(InvalidInput, match=r"'noted\.>' is no subject") as caught:
            await t.call("note", name=">")
        assert [error["path"] for error in caught.value.errors] == [""]


async def test_a_header_that_would_break_out_is_refused():
    """An event id with a line break never reaches the wire."""
    async with running(App("s")) as t:
        with pytest.raises(ValueError, match="control character"):
            await t.emit("a", 1, id="x\r\nNats-Rollup: all")


def test_a_typed_event_needs_a_literal_subject():
    """A pattern cannot be emitted."""
    with pytest.raises(SetupError, match="is no subject"):

        class Bad(Event, subject="user.*"):
            pass


async def test_what_is_emitted_with_an_id_twice_is_stored_once():
    """The stream drops the second event of one id."""
    app, got = App("s"), []

    @app.on("a")
    async def handle(data: int) -> None:
        got.append(data)

    async with running(app) as t:
        await t.emit("a", 1, id="same")
        await t.emit("a", 2, id="same")
        await t.settled()
    assert got == [1]


@pytest.mark.parametrize("patient", [True, False])
async def test_a_feed_bears_a_burst_and_ends_for_a_reader_that_does_not_get_on(monkeypatch: pytest.MonkeyPatch, patient: bool):
    """What was missed is told, instead of going on with a gap."""
    app = App("feeds")
    monkeypatch.setattr("cliffracer.backlog.PATIENCE", 60.0 if patient else -1.0)  # a busy machine says 4,000 in more than a second

    async with running(app) as t:
        feed = app.events("number.*", int)
        first = asyncio.create_task(anext(feed))
        while not first.done():
            await app.emit("number.said", -1, durable=False)
            await t.up.bus.flush()
        for number in range(4000):
            await app.emit("number.said", number, durable=False)
        await t.up.bus.flush()
        got = []
        with contextlib.suppress(Overloaded):
            async for event in feed:
                got += [event.data] if event.data >= 0 else []
                if event.data == 3999:
                    break
        assert got == list(range(len(got)))
        assert len(got) == 4000 if patient else len(got) <= LIMIT


async def test_a_delayed_event_comes_to_those_who_only_listen_too():
    """To feeds, to every replica and to core subscribers, under its own subject, once."""
    app, got = App("s"), []

    @app.on("user.*", each=True)
    async def each(name: str, *, event: Event) -> None:
        got.append(("each", event.subject, name))

    @app.on("user.created", durable=False)
    async def shared(name: str) -> None:
        got.append(("shared", "user.created", name))

    @app.on("user.*")
    async def durable(name: str, *, event: Event) -> None:
        got.append(("durable", event.subject, name))

    async def feed() -> None:
        async for event in app.events("user.>", str):
            got.append(("feed", event.subject, event.data))  # noqa: PERF401 - it has no end

    async with running(app) as t:
        feeding = asyncio.create_task(feed())
        await eventually(lambda: t.up.services[0].link.feeds._feeds)
        await t.up.bus.flush()
        await app.emit("user.created", "Ada", delay="300ms")
        await eventually(lambda: len(got) == 4)
        await t.settled()
        feeding.cancel()
        assert [event.data for event in t.emitted("user.created")] == ["Ada"]
    assert sorted(got) == [(how, "user.created", "Ada") for how in ("durable", "each", "feed", "shared")]
