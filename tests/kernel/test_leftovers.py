"""What a call that failed had is freed when it is answered: none of it waits in a circle for the garbage collector, which comes late."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import websockets
from websockets.server import ServerProtocol

from cliffracer import App, Event, NotFound, ServiceError
from cliffracer.context import Context
from cliffracer.events import Rejected
from cliffracer.testing import running
from cliffracer.web.guard import GuardedProtocol
from cliffracer.web.websocket import ServedWebSocket
from tests.support.waiting import eventually

TIMES = 5


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def app() -> App:
    app = App("shop")

    @app.rpc
    @app.post("/refuse")
    async def refuse(text: str) -> None:
        raise NotFound("there is none")

    @app.rpc
    @app.post("/refuse_in_thread")
    def refuse_in_thread(text: str) -> None:
        raise NotFound("there is none")

    @app.rpc(deadline=0.01)
    @app.post("/late", deadline=0.01)
    async def late(text: str) -> None:
        await asyncio.Event().wait()

    @app.rpc
    @app.post("/ask_nobody")
    async def ask_nobody(text: str) -> None:
        await app.call("nobody.there", text=text)

    @app.rpc
    @app.post("/ask_late")
    async def ask_late(text: str) -> None:
        await app.call("shop.late", text=text)

    @app.cached("1h")
    async def look(text: str) -> int:
        raise NotFound("there is none")

    @app.rpc
    @app.post("/ask_cached")
    async def ask_cached(text: str) -> int:
        return await look(text)

    @app.rpc
    @app.post("/number")
    async def number(text: int) -> None: ...

    return app


async def grown(call: Callable[[], Awaitable[None]], kind: type = Context) -> int:
    """Return how many contexts of calls are in memory more than before: whoever holds one holds the arguments, too.

    What is made once, and what an open connection keeps of its last request, is there before.
    """

    def number() -> int:
        return sum(issubclass(type(found), kind) for found in gc.get_objects())

    async def steady() -> int:
        """Return the number once it stands still: the last of a call ends after its answer."""
        latest = [-1]
        while len(latest) < 5:
            await asyncio.sleep(0.02)
            found = number()
            latest = [*latest, found] if latest[-1] == found else [found]
        return found

    await call()
    before = await steady()
    for _ in range(TIMES):
        await call()
    with contextlib.suppress(AssertionError):
        await eventually(lambda: number() <= before, 5)
    return number() - before


@pytest.mark.parametrize("name", ["refuse", "refuse_in_thread", "late", "ask_nobody", "ask_late", "ask_cached", "number"])
async def test_nothing_of_a_call_that_failed_stays(app: App, name: str) -> None:
    """Neither over HTTP nor over NATS: bodies of a megabyte that were refused had added up to gigabytes."""
    async with running(app) as t:

        async def fail() -> None:
            assert (await t.http.post(f"/{name}", json={"text": "x"})).status_code >= 400
            with pytest.raises(ServiceError):
                await t.call(name, text="x")

        assert await grown(fail) == 0


async def test_nothing_of_a_refused_batch_stays() -> None:
    """Events of which some were refused are gone once they are parked."""
    app, seen = App("shop"), []

    class Made(Event, subject="item.made"):
        name: str

    @app.on(Made, batch=2, retry=())
    async def store(made: list[Made]) -> None:
        seen.extend(made)
        raise Rejected({0: "broken"})

    async with running(app) as t:

        async def fail() -> None:
            await app.emit(Made(name="lamp"))
            await t.settled()

        assert await grown(fail) == 0
    assert len(seen) > TIMES


@pytest.mark.parametrize("kind", [ServedWebSocket, GuardedProtocol, ServerProtocol])
@pytest.mark.parametrize("path", ["/feed", "/chat"])
async def test_nothing_of_a_socket_stays(path: str, kind: type) -> None:
    """A client that left leaves nothing, whether its handler was cancelled or came to its end."""
    app = App("shop")

    @app.websocket("/feed")
    async def feed() -> AsyncIterator[str]:
        yield "first"
        async for event in app.events("item.*", str):
            yield event.data

    @app.websocket("/chat")
    async def chat(incoming: AsyncIterator[str]) -> None:
        async with app.sockets.join("everybody"):
            await app.sockets.to("everybody").send("first")
            async for text in incoming:
                await app.sockets.to("everybody").send(text)

    async with running(app) as t:
        address = f"ws://{t.http.base_url.netloc.decode()}{path}"

        async def visit() -> None:
            async with websockets.connect(address, compression=None) as client:
                assert await client.recv() == '"first"'

        assert await grown(visit, kind) == 0
