"""RPC over a real NATS: calls, errors, deadlines, cancellation, streams, limits, and what strangers send."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from loguru import logger

from cliffracer import (
    App,
    Cancelled,
    Conflict,
    Context,
    DeadlineExceeded,
    Internal,
    InvalidInput,
    NotFound,
    Overloaded,
    Rejected,
    Settings,
    SetupError,
    TooLarge,
    Unavailable,
    connect_async,
    provided,
    runtime,
)
from cliffracer.messaging import chunked, directory
from cliffracer.messaging.directory import Endpoint, Info, nobody_answers
from cliffracer.testing import running
from cliffracer.wire.calls import read_chunk, write_call
from cliffracer.wire.headers import Headers
from tests.support.inside import handler_of
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports
ENDED = "the time for this call is over"
"""What a service says of a call that it has ended; who waits in vain for its answer has other words for that."""


class Item(msgspec.Struct):
    name: str
    count: int = 1


class Shelf:
    """What the handlers of this file share with their test."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.let = asyncio.Event()
        self.ended: list[str] = []
        self.seen: list[Context] = []


app = App("store", version="1.2.3", description="keeps things")


@app.provide
def shelf() -> Shelf:
    return Shelf()


@app.rpc
async def put(name: str, count: int = 1) -> Item:
    return Item(name, count)


@app.rpc
async def take(item: Item, *, context: Context = provided) -> Item:
    return Item(f"{item.name} for {context.correlation_id}", item.count)


@app.rpc
def threaded(item: Item, *, context: Context) -> str:
    return f"{item.name} {context.handler}"


@app.rpc
async def fail(kind: str) -> None:
    raise {
        "missing": NotFound("no such item", item=7),
        "twice": Conflict("twice"),
        "bug": ValueError("a secret"),
        "own": Internal("a secret", item=7),
    }[kind]


@app.rpc
async def odd() -> object:
    return object()


@app.rpc
async def leaks_cancel() -> None:
    raise asyncio.CancelledError


@app.rpc
async def exits() -> None:
    raise SystemExit(3)


@app.rpc
async def wait(seconds: float, *, shelf: Shelf) -> str:
    shelf.entered.set()
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        shelf.ended.append("cancelled")
        raise
    return "waited"


@app.rpc(limit=2)
async def narrow(*, shelf: Shelf) -> str:
    await shelf.let.wait()
    return "through"


@app.rpc(deadline=0.2)
async def hasty() -> None:
    await asyncio.sleep(600)


@app.rpc
async def large(times: int) -> AsyncIterator[str]:
    for _ in range(times):
        yield "x" * 900_000


@app.rpc
async def count(upto: int, *, shelf: Shelf) -> AsyncIterator[int]:
    try:
        for number in range(upto):
            shelf.ended.append(str(number))
            yield number
    finally:
        shelf.ended.append("closed")


@app.rpc
def count_plainly(upto: int) -> Iterator[Item]:
    for number in range(upto):
        yield Item(str(number), number)


@app.rpc
async def leaves_off() -> AsyncIterator[int]:
    yield 1
    raise SystemExit(3)


@app.rpc
async def breaks_off() -> AsyncIterator[int]:
    yield 1
    raise NotFound("no second")


@app.rpc
async def remaining(*, context: Context) -> float:
    return context.remaining()


@app.rpc
async def relay(*, context: Context) -> list[object]:
    return [context.remaining(), await app.call(remaining)]


@pytest.fixture
async def t():
    async with running(app) as t:
        yield t


@pytest.fixture
async def shared():
    shelf = Shelf()
    async with running(app, overrides={Shelf: shelf}) as t:
        yield t, shelf


async def test_arguments_by_name_and_by_position(t):
    """A call carries an object or an array; both reach the same parameters."""
    store = t.app.service("store")
    assert await store.put(name="pen", count=3) == await store.put("pen", 3) == {"name": "pen", "count": 3}


async def test_a_function_is_called_with_its_types(t):
    """`app.call(function)` converts the reply to the function's return type."""
    assert await app.call(put, name="pen") == Item("pen", 1)


async def test_a_plain_function_runs_in_a_thread_with_its_context(t):
    """A `def` handler sees the same context as an async one."""
    assert await t.call("threaded", item={"name": "pen"}) == "pen threaded"


async def test_message_pack_is_answered_in_kind(t):
    """A request in MessagePack gets its result or its error in MessagePack that says so."""
    block = write_call("abc", None, 2.0, msgpack=True)
    subjects = t.up.services[0].subjects

    async def asked(method, **arguments):
        subject = subjects.rpc("store", method).encode()
        reply = await t.up.bus.request(subject, msgspec.msgpack.encode(arguments), block, timeout=20)
        assert Headers(reply.block)["content-type"] == "application/msgpack"
        return msgspec.msgpack.decode(reply.payload)

    assert await asked("put", name="pen") == {"name": "pen", "count": 1}
    assert await asked("fail", kind="missing") == {"code": 404, "message": "no such item", "details": {"item": 7}}
    assert (await asked("put", name=1))["details"]["errors"] == [{"path": "name", "message": "expected a string, got an integer"}]


async def test_all_errors_of_an_input_come_back(t):
    """Every wrong field is listed with its path, and the handler is not entered."""
    with pytest.raises(InvalidInput) as caught:
        await t.call("take", item={"name": 3, "count": "x"}, more=1)
    assert {error["path"] for error in caught.value.errors} == {"item.name", "item.count", "more"}


async def test_an_error_keeps_its_class_and_details(t):
    """What a handler raises on purpose reaches the caller as it was."""
    with pytest.raises(NotFound, match="no such item") as caught:
        await t.call("fail", kind="missing")
    assert caught.value.details == {"item": 7}
    with pytest.raises(Conflict):
        await t.call("fail", kind="twice")


@pytest.mark.parametrize("method", ["odd", "leaks_cancel", "exits"])
async def test_a_defect_is_an_internal_error_and_the_service_goes_on(t, method):
    """A result without a JSON form, a stray CancelledError and SystemExit are answered, and the next call works."""
    with pytest.raises(Internal) as caught:
        await t.call(method)
    assert caught.value.error_id
    assert await t.call("put", name="pen") == {"name": "pen", "count": 1}


async def test_nothing_of_an_unknown_exception_leaves_the_service(t):
    """The caller of a handler that has a bug sees an error id and no text of it."""
    with pytest.raises(Internal) as caught:
        await t.call("fail", kind="bug")
    assert "secret" not in str(caught.value)
    assert "secret" not in str(caught.value.details)


async def test_the_text_of_an_internal_stays_in_the_log(t):
    """An `Internal` that a handler raises itself tells its caller an id and its details, and the text only the log."""
    with pytest.raises(Internal) as caught:
        await t.call("fail", kind="own")
    assert (str(caught.value), caught.value.details["item"]) == ("Internal Error", 7)
    assert caught.value.error_id
    assert f"under error_id {caught.value.error_id}." in caught.value.__notes__[0]  # what a traceback shows below the error


async def test_a_call_to_nobody_fails_at_once_and_says_what_was_perhaps_meant(t):
    """Nobody answers: `Unavailable`, with what runs and a near name."""
    with pytest.raises(Unavailable, match=r"No service answers store.putt. Running: store. Did you mean store.put\?"):
        await t.call("store.putt", name="x")


def test_an_error_lists_some_of_many_services():
    """Three hundred names in each error of a storm would hide what it says."""
    infos = [Info(name=f"service{number:03}", endpoints=[Endpoint(name="put")]) for number in range(300)]
    told = nobody_answers("service299", "putt", infos)
    assert told.endswith("service018, service019 and 280 more. Did you mean service299.put?")


async def test_a_storm_of_calls_to_nobody_looks_once_for_what_was_meant(t, monkeypatch):
    """Among thousands of methods that takes a tenth of a second, in which nothing else runs; anew where other services run by then."""
    looked = []

    def look(service, method, infos):
        looked.append(method)
        return nobody_answers(service, method, infos)

    monkeypatch.setattr(directory, "nobody_answers", look)
    methods = ["putt", "gett"] * 100
    answers = await asyncio.gather(*(t.call(f"store.{method}") for method in methods), return_exceptions=True)
    assert [str(answer) for answer in answers] == [str(answers[0]), str(answers[1])] * 100
    assert "Did you mean store.put?" in str(answers[0])
    assert sorted(looked) == ["gett", "putt"]

    known = t._link.directory
    known._until = 0.0
    with pytest.raises(Unavailable, match=r"Running: store\."):
        await t.call("store.putt")
    assert len(looked) == 2
    known._until, known._known = 0.0, []
    with pytest.raises(Unavailable, match=r"Running: store\."):
        await t.call("store.putt")
    assert len(looked) == 3


async def test_calls_run_at_once(t):
    """Fifty calls that wait a tenth of a second do not wait for each other."""
    began = time.monotonic()
    assert await asyncio.gather(*(t.call("wait", seconds=0.1) for _ in range(50))) == ["waited"] * 50
    assert time.monotonic() - began < 50 * 0.1 / 2


async def test_a_caller_that_gives_up_cancels_the_handler(shared):
    """Cancelling the task of a call ends the handler's task on the other side."""
    t, shelf = shared
    call = asyncio.create_task(t.call("wait", seconds=30))
    await shelf.entered.wait()
    call.cancel()
    await eventually(lambda: shelf.ended == ["cancelled"])
    assert call.cancelled() or call.cancelling()


async def test_a_deadline_ends_the_call_on_both_sides(shared, monkeypatch: pytest.MonkeyPatch):
    """The caller gets `DeadlineExceeded`, and the handler is cancelled by its own clock: nobody tells it that the caller gave up."""
    t, shelf = shared
    monkeypatch.setattr(t.up.services[0].link, "_give_up", lambda *_: None)
    with pytest.raises(DeadlineExceeded):
        await t.app.service("store", timeout=1.0).wait(seconds=30)
    await eventually(lambda: shelf.ended == ["cancelled"])


async def test_a_handler_may_have_a_deadline_of_its_own(t):
    """The shorter of the caller's and the handler's time counts: the one is told by the other, long before his own is over."""
    async with asyncio.timeout(60):
        with pytest.raises(DeadlineExceeded, match=ENDED):
            await t.app.service("store", timeout=600).hasty()


async def test_deadlines_shrink_hop_by_hop(t):
    """The second hop has no more time than the first has left."""
    first, second = await t.app.service("store", timeout=3).relay()
    assert second <= first <= 3


async def test_expired_work_is_not_started(shared):
    """A request whose time is over when it is received is answered and not run."""
    t, shelf = shared
    await t.app.service("store", timeout=5).put(name="warm")
    handler = handler_of(t, "wait")
    late = handler.context(timeout=0.0)
    from cliffracer.invoke import invoke

    handler.gate.admit(None)
    with pytest.raises(DeadlineExceeded):
        await invoke(handler, late, (1.0,))
    assert not shelf.entered.is_set()


async def test_beyond_limit_and_queue_calls_are_refused_at_once(shared):
    """A handler with limit 2 queues twenty calls and refuses the rest with `Overloaded`."""
    t, shelf = shared
    calls = [asyncio.create_task(t.call("narrow")) for _ in range(40)]
    await eventually(lambda: sum(call.done() for call in calls) == 18)
    refused = [call.exception() for call in calls if call.done()]
    assert {type(error) for error in refused} == {Overloaded}
    assert refused[0].retry_after > 0
    shelf.let.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results.count("through") == 22


async def test_a_call_whose_time_would_be_over_before_its_turn_is_refused_at_once(shared):
    """By how long calls took of late; one that has the time for it waits."""
    t, shelf = shared
    gate = next(handler.gate for declared, handler in t.up.services[0].assembly.handlers if declared.record.name == "narrow")
    calls = [asyncio.create_task(t.app.service("store").narrow()) for _ in range(2)]
    await eventually(lambda: gate.admitted == 2)
    gate.average = 6.0
    with pytest.raises(Overloaded) as refused:
        await t.app.service("store", timeout=2).narrow()
    assert refused.value.retry_after == 3.0
    calls.append(asyncio.create_task(t.app.service("store", timeout=9).narrow()))
    await eventually(lambda: gate.admitted == 3)
    shelf.let.set()
    assert await asyncio.gather(*calls) == ["through"] * 3
    assert gate.average < 5  # each that took less has made it less


async def test_a_stream_arrives_whole_and_in_order(t):
    """More items than the window holds come one after another."""
    assert [n async for n in t.app.service("store").stream.count(upto=500)] == list(range(500))
    assert [item.count async for item in app.stream(count_plainly, upto=3)] == [0, 1, 2]


async def test_a_stream_may_have_nothing(t):
    """It ends at once, with a window or without."""
    assert [item async for item in t.app.service("store").stream.count(upto=0)] == []
    assert await t.call("count", upto=0) == []


async def test_leaving_a_stream_early_closes_the_generator(shared):
    """After a break the handler is ended, having run ahead by no more than the window."""
    t, shelf = shared
    stream = t.app.service("store").stream.count(upto=100_000)
    async for number in stream:
        if number == 3:
            break
    await stream.aclose()
    await eventually(lambda: shelf.ended[-1:] == ["closed"])
    assert len(shelf.ended) < 100


async def test_an_error_in_a_stream_comes_after_what_was_yielded(t):
    """The items before a failure arrive, then the failure itself."""
    stream = t.app.service("store").stream.breaks_off()
    assert await anext(stream) == 1
    with pytest.raises(NotFound, match="no second"):
        await anext(stream)


async def test_a_stream_of_large_items_goes_as_fast_as_nats_takes_them(t):
    """More than may be held while nothing can be written is on its way at once, by the window of the reader."""
    t.up.bus._held._limit = 2_000_000
    sizes = [len(item) async for item in t.app.service("store").stream.large(times=33)]
    assert sizes == [900_000] * 33


async def test_a_stream_that_a_stray_exit_breaks_off_is_not_told_as_whole(t):
    """The items before it arrive, then an error; the service goes on."""
    stream = t.app.service("store").stream.leaves_off()
    assert await anext(stream) == 1
    with pytest.raises(Internal):
        await anext(stream)
    assert await t.call("count", upto=2) == [0, 1]


async def test_a_stream_without_a_window_is_one_array(t):
    """A client that knows nothing of streams gets all items in one reply."""
    assert await t.call("count", upto=4) == [0, 1, 2, 3]


async def test_a_stream_of_nobody_is_unavailable(t):
    """Streaming from a method that is not there fails like a call."""
    with pytest.raises(Unavailable, match=r"No service answers store\.nothing"):
        await anext(t.app.service("store").stream.nothing())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"nonsense",
        b'{"name":',
        b"\xff\xfe",
        b"[" * 10_000,
        b'{"name":1}',
        b'{"name":"a","name":"b"}',
        b'{"count":1e400}',
        b"\x00",
        b"[1,2,3,4]",
    ],
)
async def test_garbage_is_refused_and_the_next_call_works(t, payload):
    """Whatever a stranger sends, it gets an error reply at once."""
    subject = t.up.services[0].subjects.rpc("store", "put").encode()
    reply = await t.up.bus.request(subject, payload, timeout=20)
    assert Headers(reply.block)["Nats-Service-Error-Code"] == "400"
    assert msgspec.json.decode(reply.payload)["code"] == 400
    assert await t.call("put", name="pen")


async def test_a_reply_goes_to_an_inbox_only(t):
    """A request that names another subject for its reply is not answered there, so nobody publishes through us, or fills the log."""
    heard, lines, subjects = [], [], t.up.services[0].subjects
    sink = logger.add(lines.append, level="WARNING")
    for place in (f"{t.settings.namespace}.elsewhere", f"_INBOXES.of.{t.settings.namespace}"):
        await t.up.bus.subscribe(place, lambda *message: heard.append(message))
        for subject in (subjects.rpc("store", "put"), subjects.discovery("PING", "store")):
            t.up.bus.publish(subject.encode(), b'{"name":"x"}', None, place.encode())
    await t.call("put", name="pen")
    await t.up.bus.flush()
    logger.remove(sink)
    assert heard == []
    assert len(lines) == 1


async def test_a_caller_of_another_account_is_answered():
    """Where an operator exports a service: nats-server puts a subject of its own in the place of the caller's inbox."""
    shop = App("shop")

    @shop.rpc
    async def double(number: int) -> int:
        return 2 * number

    accounts = """accounts {
      ONE { users: [{user: one, password: one}], jetstream: enabled, exports: [{service: "shop.>"}, {service: "$SRV.>"}] }
      TWO { users: [{user: two, password: two}], imports: [
        {service: {account: ONE, subject: "shop.>"}}, {service: {account: ONE, subject: "$SRV.>"}}] }
    }"""
    with NatsServer(accounts, jetstream=True) as server:
        one, two = (Settings(env="test", nats_url=server.url.replace("//", f"//{who}:{who}@"), http_port=0) for who in ("one", "two"))
        async with runtime.running(shop, one), connect_async(settings=two) as c:
            assert await c.call("shop.double", number=2) == 4
            assert [info.name for info in await c._link.directory.ask("INFO", "shop", expected=1)] == ["shop"]


async def test_two_calls_may_have_one_reply_subject(shared):
    """Each gets its reply, as a peer wants it that gathers them in one inbox, and neither ends with an error."""
    t, shelf = shared
    replies, errors = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: errors.append(about))
    inbox = t.up.bus.inbox(lambda _, __, ___, payload: replies.append(payload))
    subject = t.up.services[0].subjects.rpc("store", "narrow").encode()
    for _ in range(2):
        t.up.bus.publish(subject, b"{}", None, inbox.subject)
    await eventually(lambda: t.up.services[0]._rpc.busy == 2)
    shelf.let.set()
    await eventually(lambda: len(replies) == 2)
    await eventually(lambda: not t.up.services[0].busy)
    assert (replies, errors) == ([b'"through"'] * 2, [])


async def test_a_reply_repeats_no_request_header(t):
    """A token in the request's headers does not come back."""
    subject = t.up.services[0].subjects.rpc("store", "put").encode()
    block = b"NATS/1.0\r\nAuthorization: Bearer token\r\nX-Other: 1\r\n\r\n"
    reply = await t.up.bus.request(subject, b'{"name":"x"}', block, timeout=20)
    assert reply.block is None


async def test_an_odd_correlation_id_is_replaced(t):
    """An id with characters that do not belong into logs is not taken over."""
    subject = t.up.services[0].subjects.rpc("store", "take").encode()
    for bad in (b"a b", b"\x1b[31m", b"x" * 200, b"", b"<script>"):
        reply = await t.up.bus.request(subject, b'{"item":{"name":"a"}}', b"NATS/1.0\r\nX-Correlation-ID: " + bad + b"\r\n\r\n", timeout=20)
        assert bad.decode() not in msgspec.json.decode(reply.payload)["name"] or not bad


async def test_a_thousand_interleaved_calls_never_share_a_context(t):
    """With and without an id of their own, no call sees another's."""

    async def one(number):
        subject = t.up.services[0].subjects.rpc("store", "take").encode()
        block = write_call(f"call-{number}", None, 5.0) if number % 2 else None
        reply = await t.up.bus.request(subject, b'{"item":{"name":"a"}}', block, timeout=5)
        return msgspec.json.decode(reply.payload)["name"].removeprefix("a for ")

    ids = await asyncio.gather(*(one(number) for number in range(1000)))
    assert len(set(ids)) == 1000
    assert all(ids[n] == f"call-{n}" for n in range(1, 1000, 2))


async def test_discovery_tells_what_nats_micro_asks(t):
    """PING, INFO and STATS answer with the fields of ADR-32."""
    directory = t.up.services[0].link.directory
    (info,) = await directory.ask("INFO", "store")
    assert (info.name, info.version, info.description) == ("store", "1.2.3", "keeps things")
    put_info = next(e for e in info.endpoints if e.name == "put")
    assert put_info.queue_group == "store"
    assert msgspec.json.decode(put_info.metadata["request_schema"])
    assert put_info.metadata["schema_hash"]
    (raw,) = await directory.ask("STATS", "store", kind=dict)
    assert raw["type"] == "io.nats.micro.v1.stats_response"
    assert {"num_requests", "num_errors", "last_error", "processing_time", "average_processing_time"} <= set(raw["endpoints"][0])
    (pong,) = await directory.ask("PING", kind=dict)
    assert pong["type"] == "io.nats.micro.v1.ping_response"


async def test_a_call_is_not_run_twice_by_two_replicas(t):
    """Replicas share a queue group: one of them runs each call."""
    shelf = Shelf()
    other = App("store")

    @other.rpc(name="put")
    async def put_too(name: str, count: int = 1) -> Item:
        shelf.ended.append(name)
        return Item(name, count)

    async with running(other, settings=t.settings.changed(http_port=0)):
        await asyncio.gather(*(t.call("put", name=str(n)) for n in range(50)))
    stats = handler_of(t, "put").stats
    assert len(shelf.ended) + stats.calls == 50


async def test_positional_and_named_arguments_do_not_mix(t):
    """A call carries an object or an array, and says so when asked for both."""
    with pytest.raises(TypeError, match="all arguments by name, or all by position"):
        await t.app.service("store").put("pen", count=1)


async def test_a_call_outside_a_running_app_says_so():
    """Calling before the app runs names the cure."""
    with pytest.raises(SetupError, match="is not running"):
        await App("idle").call("store.put")


async def test_a_caller_whose_time_is_up_says_so_to_whoever_holds_the_call(shared):
    """It has given up as well: its reply subject is on the cancel subject, and the call that it was ends as one out of time."""
    t, shelf = shared
    bus, subjects, told = t.up.bus, t.up.services[0].subjects, []
    await bus.subscribe(subjects.cancel("store"), lambda _subject, _reply, _block, payload: told.append(payload))
    with pytest.raises(DeadlineExceeded):
        await app.service("store", timeout=0.2).wait(seconds=60)
    await eventually(lambda: shelf.ended == ["cancelled"] and len(told) == 1)
    assert told[0].startswith(b"_INBOX.")
    shelf.entered.clear()
    got = []
    inbox = bus.inbox(lambda _subject, _reply, block, _payload: got.append(Headers(block)["Nats-Service-Error-Code"]))
    bus.publish(subjects.rpc("store", "wait").encode(), b'{"seconds": 60}', write_call("abc", None, 0.09), inbox.subject)
    bus.publish(subjects.cancel("store").encode(), inbox.subject)
    await eventually(lambda: got == ["504"])


async def test_cancelled_is_what_a_raw_caller_gets(shared):
    """A caller that publishes its reply subject on the cancel subject gets `Cancelled` as the one reply."""
    t, shelf = shared
    got = asyncio.get_running_loop().create_future()
    inbox = t.up.bus.inbox(lambda _s, _r, block, payload: got.set_result((block, payload)))
    subjects = t.up.services[0].subjects
    t.up.bus.publish(subjects.rpc("store", "wait").encode(), b'{"seconds":30}', None, inbox.subject)
    await shelf.entered.wait()
    t.up.bus.publish(subjects.cancel("store").encode(), inbox.subject)
    block, _ = await got
    assert Headers(block)["Nats-Service-Error-Code"] == str(Cancelled.code)


async def test_a_stream_whose_reader_is_gone_ends(shared):
    """A reader that vanished without a word is noticed at the next chunk, since nobody listens on its inbox."""
    t, shelf = shared
    from cliffracer.messaging.bus import connect as connect_bus

    reader = await connect_bus(t.settings, name="reader")
    got = []
    inbox = reader.inbox(lambda _s, reply, _b, _p: got.append(reply))
    subject = t.up.services[0].subjects.rpc("store", "count").encode()
    reader.publish(subject, b'{"upto":100000}', write_call("a", None, None, window=4), inbox.subject)
    await eventually(lambda: len(got) == 4)
    await reader.close()
    t.up.bus.publish(got[0], b"10")  # room for more, which nobody takes
    await eventually(lambda: shelf.ended[-1:] == ["closed"])
    assert len(shelf.ended) < 50


@pytest.mark.parametrize("lost", ["opening", "chunk", "last", "end"])
async def test_what_a_stream_loses_with_a_connection_does_not_hang_it(t, monkeypatch: pytest.MonkeyPatch, lost: str):
    """The window is opened again, a missing chunk is told at the latest when the sender waits, and a missing end when it is gone."""
    monkeypatch.setattr(chunked, "PROBE", 0.05)
    send, dropped = t.up.bus.publish, []

    def losing(subject: bytes, payload: bytes, block: bytes | None = None, reply: bytes = b"", **options: Any) -> None:
        number, end = read_chunk(block)
        kind = "end" if end else {30: "chunk", 100: "last"}.get(number, "opening" if block is None and payload.isdigit() else "")
        if kind == lost and not dropped:
            dropped.append(kind)
        else:
            send(subject, payload, block, reply, **options)

    monkeypatch.setattr(t.up.bus, "publish", losing)
    got: list[int] = []
    lacking = Internal, "part of the stream is lost"
    errors = dict.fromkeys(("chunk", "last"), lacking) | {"end": (Unavailable, "went away in the middle of store.count")}
    kind, text = errors.get(lost, (None, ""))
    with nullcontext() if kind is None else pytest.raises(kind, match=text):
        async for number in t.app.service("store").stream.count(upto=100):
            got += [number]
    assert dropped
    assert got == list(range({"chunk": 29, "last": 99}.get(lost, 100)))


async def test_both_ends_of_a_stream_that_lasts_name_new_inboxes(t, monkeypatch: pytest.MonkeyPatch):
    """Where NATS lets a service answer only for some time after it was asked, the later chunks are allowed by the later inboxes."""
    monkeypatch.setattr(chunked, "RENEWED", -1.0)
    inbox, made = t.up.bus.inbox, []
    monkeypatch.setattr(t.up.bus, "inbox", lambda receive: made.append(inbox(receive)) or made[-1])
    send, places = t.up.bus.publish, set()

    def noting(subject: bytes, payload: bytes, block: bytes | None = None, reply: bytes = b"", **options: Any) -> None:
        if read_chunk(block)[0] > 0:
            places.add(subject)
        send(subject, payload, block, reply, **options)

    monkeypatch.setattr(t.up.bus, "publish", noting)
    assert [number async for number in t.app.service("store").stream.count(upto=100)] == list(range(100))
    assert len(places) > 1
    assert len(made) > len(places) + 100  # the sender named one with each chunk


async def test_a_stream_that_does_not_fit_into_one_reply_is_refused(t):
    """Who wants it whole is told to ask for it in chunks, before all of it is collected here."""
    with pytest.raises(TooLarge, match="does not fit into one reply: ask for it in chunks"):
        await t.call("large", times=1_000_000)
    assert len(await t.call("large", times=1)) == 1


async def test_a_stream_that_says_nothing_ends_at_its_readers_deadline(t):
    """Whoever took the call need not say a word; a reader with a time has no more than that."""
    await t.up.bus.subscribe(t.up.services[0].subjects.rpc("mute", "say"), lambda *_: None)
    async with asyncio.timeout(30):
        with pytest.raises(DeadlineExceeded, match="the time for this stream is over"):
            async for _ in t.app.service("mute", timeout=0.2).stream.say():
                pass


async def test_a_stream_whose_reader_left_unheard_ends(shared, monkeypatch: pytest.MonkeyPatch):
    """As when NATS was away just then: the reader's process lives, and answers that nobody there reads it."""
    monkeypatch.setattr(chunked, "PROBE", 0.05)
    t, shelf = shared
    monkeypatch.setattr(t.up.services[0].link, "_give_up", lambda *_: None)
    stream = t.app.service("store").stream.count(upto=100_000)
    assert await anext(stream) == 0
    await stream.aclose()
    await eventually(lambda: shelf.ended[-1:] == ["closed"])


async def test_a_stream_wanted_as_one_reply_has_the_time_of_a_call(t):
    """An endless stream without a window ends at the deadline of an ordinary call."""
    endless = App("endless")

    @endless.rpc
    async def forever() -> AsyncIterator[int]:
        while True:
            await asyncio.sleep(0.01)
            yield 1

    async with running(endless, deadline=0.3) as other:
        with pytest.raises(DeadlineExceeded, match=ENDED):
            await other.app.service("endless", timeout=5).forever()


class Fussy(msgspec.Struct):
    number: int

    def __post_init__(self) -> None:
        if self.number == 13:
            raise KeyError("a secret")


async def test_a_type_that_breaks_while_it_is_decoded_is_answered():
    """Code of the user's own that fails in the decoding is a defect like any other: one reply, nothing of it sent."""
    fussy = App("fussy")

    @fussy.rpc
    async def take(item: Fussy) -> int:
        return item.number

    async with running(fussy) as t:
        with pytest.raises(Internal) as caught:
            await t.call("take", item={"number": 13})
        assert "secret" not in str(caught.value.details)
        assert await t.call("take", item={"number": 7}) == 7


async def test_a_reply_of_another_type_than_the_caller_expects_is_told(t):
    """As by a service of another version: with what is wrong and where, whichever way the reply came."""
    for size in (1, t.up.bus.max_payload):
        with pytest.raises(Internal, match="the reply does not have the type that was expected") as caught:
            await t.up.services[0].link.call("store", "put", {"name": "x" * size}, returns=list[int], timeout=20)
        assert caught.value.details["errors"] == [{"path": "", "message": "expected an array, got an object"}]


async def test_who_wants_no_reply_gets_none(shared, monkeypatch: pytest.MonkeyPatch):
    """What is published without a reply subject is done, well or not, and nothing is sent for it."""
    t, shelf = shared
    bus, subjects, sent = t.up.bus, t.up.services[0].subjects, []
    publish, stats = bus.publish, {d.record.name: h.stats for d, h in t.up.services[0].assembly.handlers}
    with monkeypatch.context() as patch:
        patch.setattr(bus, "publish", lambda *given, **_: sent.append(given))
        patch.setattr(bus, "answer", lambda *given: sent.append(given))
        for method, payload in (("wait", b'{"seconds":0}'), ("fail", b'{"kind":"missing"}'), ("put", b"{}"), ("count", b'{"upto":1}')):
            publish(subjects.rpc("store", method).encode(), payload)
        await eventually(lambda: (stats["wait"].calls, stats["fail"].errors, stats["put"].errors, stats["count"].calls) == (1, 1, 1, 1))
    assert sent == []
    assert shelf.ended == ["0", "closed"]


async def test_an_error_that_is_too_large_for_a_message_is_told_in_short(t):
    """The caller is not left to wait for what cannot be sent."""
    verbose = App("verbose")

    @verbose.rpc
    async def tell(kind: str) -> None:
        text = "x" * t.up.bus.max_payload
        raise NotFound("no " + text, item=text) if kind == "missing" else InvalidInput(text, errors=[{"path": "kind", "message": text}])

    async with running(verbose) as other:
        with pytest.raises(NotFound, match="no xxx") as missing:
            await other.call("tell", kind="missing")
        with pytest.raises(InvalidInput, match="xxx") as wrong:
            await other.call("tell", kind="wrong")
    assert len(missing.value.message) == len(wrong.value.message) == 200
    assert missing.value.details == {}


async def test_what_another_service_answered_wrongly_stays_in_the_log(t):
    """Whose reply a handler cannot read, and what was in it, is nothing for the handler's own caller."""
    later, front = App("store"), App("front")

    @later.rpc
    async def put(name: str) -> int: ...

    @front.rpc
    async def ask() -> int:
        return await front.call(put, name="a secret")

    async with running(front, settings=t.settings) as other:
        with pytest.raises(Internal) as caught:
            await other.call("ask")
    assert set(caught.value.details) == {"error_id"}


@pytest.mark.parametrize("payload", [b' \n["pen"]', b' {"name":"pen"} '])
async def test_blanks_around_arguments_are_nothing(t, payload: bytes):
    """As JSON has it (RFC 8259)."""
    reply = await t.up.bus.request(t.up.services[0].subjects.rpc("store", "put").encode(), payload, timeout=20)
    assert msgspec.json.decode(reply.payload) == {"name": "pen", "count": 1}


async def test_a_typed_call_may_mix_positional_and_named_arguments(t):
    """`app.call(function)` knows the names, so it is called as any function is."""
    assert await app.call(put, "pen", count=3) == Item("pen", 3)
    with pytest.raises(TypeError, match="two values for name"):
        await app.call(put, "pen", name="ink")


async def test_a_refused_request_is_counted_as_a_request(t):
    """STATS never has more errors than requests."""
    await t.call("put", name="pen")
    for _ in range(2):
        with pytest.raises(InvalidInput):
            await t.call("put", nome="pen")
    (raw,) = await t.up.services[0].link.directory.ask("STATS", "store", kind=dict)
    figures = next(e for e in raw["endpoints"] if e["name"] == "put")
    assert (figures["num_requests"], figures["num_errors"]) == (3, 2)


async def test_a_schema_says_nothing_of_where_its_function_stands(t):
    """The schemas in discovery hold no path, show defaults, and so hash alike wherever the service is installed."""
    (info,) = await t.up.services[0].link.directory.ask("INFO", "store")
    texts = "".join(text for endpoint in info.endpoints for text in (endpoint.metadata or {}).values())
    assert ".py" not in texts
    described = msgspec.json.decode(next(e for e in info.endpoints if e.name == "put").metadata["request_schema"])
    assert '"default":1' in msgspec.json.encode(described).decode()


async def test_a_trace_goes_along_with_every_call(t):
    """A call that belongs to no trace begins one (W3C trace context), and what it calls is in it."""
    traced = App("traced")

    @traced.rpc
    async def first(*, context: Context) -> list[str | None]:
        inner = await traced.call(second)
        return [context.traceparent, inner]

    @traced.rpc
    async def second(*, context: Context) -> str | None:
        return context.traceparent

    async with running(traced) as other:
        one, two = await other.call("first")
    assert one is not None
    assert two is not None
    assert one[:35] == two[:35]
    assert one[36:52] != two[36:52]  # the call that made it is the parent, not that one's own
    assert len(one) == len(two) == 55


async def test_what_is_meant_for_batches_is_answered_as_a_defect_elsewhere():
    """A method that goes through a batch handler's code: its caller waited for the whole of its time."""
    app = App("s")

    @app.rpc
    async def work() -> None:
        raise Rejected({0: "odd"})

    async with running(app) as t:
        with pytest.raises(Internal):
            await t.call("work")
