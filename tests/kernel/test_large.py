"""Calls and events over the server's limit for one message: through the object store, and nobody notices."""

import asyncio

import pytest

from cliffracer import App, DeadlineExceeded, TooLarge, Unavailable
from cliffracer.runtime import running as served
from cliffracer.settings import Settings
from cliffracer.testing import running
from cliffracer.wire.headers import Headers
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports

SIZE = 3_000_000


def make() -> tuple[App, list[tuple[str, int]]]:
    app, got = App("files"), []

    @app.rpc
    async def measure(text: str) -> int:
        return len(text)

    @app.rpc
    async def make_text(size: int) -> str:
        return "x" * size

    @app.rpc
    async def note(text: str) -> None:
        got.append(("note", len(text)))

    @app.on("file.stored")
    async def durable(text: str) -> None:
        got.append(("durable", len(text)))

    @app.on("file.stored", each=True)
    async def everywhere(text: str) -> None:
        got.append(("everywhere", len(text)))

    return app, got


async def test_large_arguments_and_results_travel():
    """In either direction, and both at once."""
    app, _ = make()
    async with running(app) as t:
        assert await t.call("measure", text="x" * SIZE) == SIZE
        assert len(await t.call("make_text", size=SIZE)) == SIZE
        assert await t.call("measure", text="small") == 5
        for size in (t.up.bus.max_payload - room for room in (300, 100, 20, 0)):  # which leaves no room for headers, or not even for quotes
            assert await t.call("measure", text="x" * size) == size
        assert not any(endpoint._held for endpoint in t.up.services[0]._rpc.endpoints)


async def test_large_one_way_calls_and_events_travel():
    """To durable functions, to every replica, and to feeds."""
    app, got = make()
    fed: list[int] = []

    async def feed() -> None:
        async for event in app.events("file.*", str):
            fed.append(len(event.data))  # noqa: PERF401 - it has no end

    async with running(app) as t:
        feeding = asyncio.create_task(feed())
        while not fed:
            await app.emit("file.seen", "x", durable=False)
            await t.up.bus.flush()
        await app.emit("file.stored", "x" * SIZE)
        await app.service("files").send.note(text="x" * SIZE)
        await eventually(lambda: len(got) == 3 and fed[-1] == SIZE)
        feeding.cancel()
    assert sorted(got) == [("durable", SIZE), ("everywhere", SIZE), ("note", SIZE)]


async def test_what_is_not_kept_is_no_larger_than_a_message():
    """Whoever emits it is told: nobody would remove from the object store what nobody fetched."""
    async with running(App("s")) as t:
        with pytest.raises(TooLarge, match="headers and payload take"):
            await t.emit("file.seen", "x" * SIZE, durable=False)


async def test_there_is_a_limit_of_ours():
    """A setting; the caller is told, whichever way it was too much."""
    app, _ = make()
    async with running(app, nats_max_message="4MB") as t:
        assert await t.call("measure", text="x" * 3_900_000) == 3_900_000
        with pytest.raises(TooLarge, match="NATS_MAX_MESSAGE is 4000000"):
            await t.call("measure", text="x" * 4_000_001)
        with pytest.raises(TooLarge, match="NATS_MAX_MESSAGE is 4000000"):
            await t.call("make_text", size=4_000_001)


async def test_a_large_call_ends_by_its_deadline(monkeypatch: pytest.MonkeyPatch):
    """Where its arguments cannot be stored, or its result not be read, in that time."""
    app, _ = make()

    async def hanging(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    async with running(app) as t:
        files = t.app.service("files", timeout=0.5)
        store = t.up.services[0].link._claims._store
        async with asyncio.timeout(30):
            monkeypatch.setattr(store, "read", hanging)
            with pytest.raises(DeadlineExceeded, match="could not be read in time"):
                await t.app.service("files", timeout=3).make_text(size=SIZE)
            monkeypatch.setattr(store, "put", hanging)
            with pytest.raises(Unavailable, match="could not be stored in time"):
                await files.measure(text="x" * SIZE)
            with pytest.raises(Unavailable, match="could not be stored in time"):
                await anext(files.stream.measure(text="x" * SIZE))


async def test_a_large_call_is_cancelled_as_any_other():
    """Its caller gives up while the handler is at work: that one ends, too."""
    app, entered, ended = App("files"), asyncio.Event(), asyncio.Event()

    @app.rpc(deadline=600)
    async def keep(text: str) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with running(app) as t:
        call = asyncio.create_task(t.app.service("files", timeout=600).keep(text="x" * SIZE))
        async with asyncio.timeout(30):
            await entered.wait()
            call.cancel()
            await ended.wait()


async def test_a_large_or_delayed_event_ends_by_its_deadline(monkeypatch: pytest.MonkeyPatch):
    """Where it cannot be stored in that time."""
    app, _ = make()

    async def hanging(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    async with running(app, deadline=0.5) as t:
        emitter = t.up.services[0].backend
        async with asyncio.timeout(30):
            monkeypatch.setattr(emitter._ensuring_later, "_work", hanging)
            with pytest.raises(Unavailable, match="could be set up in time"):
                await app.emit("file.seen", "small", delay=60)
            monkeypatch.setattr(emitter._claims._store, "put", hanging)
            with pytest.raises(Unavailable, match="could not be stored in time"):
                await app.emit("file.seen", "x" * SIZE)


async def test_a_claim_that_is_not_there_is_answered():
    """A client that makes one up gets an error, and the next call works."""
    app, _ = make()
    async with running(app) as t:
        subject = f"{t.settings.namespace}.files.measure".encode() if t.settings.namespace else b"files.measure"
        reply = await t.up.bus.request(subject, b"", b"NATS/1.0\r\nCliffracer-Claim: nothing\r\n\r\n", timeout=5)
        assert Headers(reply.block)["Nats-Service-Error-Code"] == "404"
        assert await t.call("measure", text="small") == 5


async def test_without_jetstream_the_limit_is_the_servers():
    """And the error says so."""
    with NatsServer() as server:
        app = App("files")

        @app.rpc
        async def measure(text: str) -> int:
            return len(text)

        async with served(app, Settings(nats_url=server.url, wait=5.0)):
            assert await app.call(measure, text="small") == 5
            with pytest.raises(TooLarge, match="without JetStream 1048576 is the limit"):
                await app.call(measure, text="x" * SIZE)
