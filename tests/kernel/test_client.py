"""Scripts: the blocking client, the async one, and an app that is only connected."""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import AsyncMock, Mock

import pytest

import cliffracer
from cliffracer import (
    App,
    Breaker,
    Bucket,
    Event,
    Internal,
    InvalidInput,
    NotFound,
    Retry,
    Settings,
    SetupError,
    Unavailable,
    connect,
    connect_async,
)
from cliffracer.calling import emission
from cliffracer.client import place_of
from cliffracer.stop import Stop, serve
from cliffracer.testing import running
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports

app = App("shelf")


@app.rpc
async def get(item: int) -> dict[str, int]:
    if item == 404:
        raise NotFound("no such item", item=item)
    return {"item": item}


@app.rpc
async def count(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


@app.rpc
def letters(word: str, times: int = 1) -> Iterator[str]:
    yield from word * times


@app.rpc
async def endless() -> AsyncIterator[int]:
    yield 0
    await asyncio.Event().wait()


@app.on("item.asked")
async def asked(item: int) -> None: ...


@pytest.fixture
async def t():
    async with running(app) as t:
        yield t


async def used(t, work):
    """Use a blocking client in a thread, on the server and in the namespace of the test."""

    def run():
        with connect(settings=Settings(nats_url=t.settings.nats_url, namespace=t.settings.namespace)) as client:
            return work(client)

    return await asyncio.to_thread(run)


async def test_services_are_attributes_of_the_client(t):
    """A call is a method call; errors keep their class."""

    def work(client):
        with pytest.raises(NotFound, match="no such item"):
            client.shelf.get(item=404)
        with pytest.raises(InvalidInput):
            client.shelf.get(item="x")
        with pytest.raises(Unavailable, match=r"Did you mean shelf.get\?"):
            client.shelf.gett(item=1)
        return [client.shelf.get(item=1), client.shelf.get(2), client.call("shelf.get", item=3), client.service("shelf")["get"](item=4)]

    assert await used(t, work) == [{"item": n} for n in (1, 2, 3, 4)]


async def test_streams_and_events_are_iterators(t):
    """A stream is read item by item, and may be left early."""

    def work(client):
        early = []
        for number in client.shelf.stream.count(upto=1000):
            early.append(number)
            if number == 2:
                break
        client.emit("item.asked", 7)
        client.emit("item.asked", 8, durable=False)
        return list(client.shelf.stream.count(upto=3)), early

    assert await used(t, work) == ([0, 1, 2], [0, 1, 2])
    await t.settled()
    assert [event.data for event in t.emitted("item.asked")] == [7, 8]


async def test_a_method_that_answers_once_is_not_streamed(t):
    """Who tries is told to call it; the error was about a type that a reply does not have."""
    with pytest.raises(Internal, match=r"shelf\.get answers with one value, .*: call it, and do not stream it"):
        await used(t, lambda c: list(c.shelf.stream.get(item=1)))
    with pytest.raises(NotFound, match="no such item"):
        await used(t, lambda c: list(c.shelf.stream.get(item=404)))


async def test_one_client_serves_many_threads(t):
    """Calls of several threads run at once over one connection, and each gets its own reply."""

    def work(client):
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(lambda n: client.shelf.get(item=n)["item"], range(300)))

    assert await used(t, work) == list(range(300))


async def test_a_declared_function_is_called_as_it_is_written(t):
    """Arguments by position and by name together, whoever calls; one that streams, called, gives a list of what it yields."""

    def work(client):
        return client.call(count, 3), client.call(letters, "ab", times=2), list(client.stream(letters, "ab", times=2))

    assert await used(t, work) == ([0, 1, 2], list("abab"), list("abab"))
    for calls in (app, t):
        assert await calls.call(count, 3) == await calls.call("shelf.count", upto=3) == [0, 1, 2]
        assert await calls.call(letters, "ab", times=2) == list("abab")
        assert [letter async for letter in calls.stream(letters, "ab", times=2)] == list("abab")


async def test_a_mock_in_place_of_a_function_is_no_rpc(t):
    """Somebody patched the function of another service, which is called over the network: it is said, whatever the mock claims to be."""
    for mock in (AsyncMock(), Mock()):
        with pytest.raises(SetupError, match=r"Mock\b.* is no RPC\. Put @app\.rpc on it, or call by name"):
            await app.call(mock, item=1)


async def test_a_forked_child_is_told_to_connect_for_itself(t):
    """The thread of a connection stays with the parent: a child says so at once, where it would wait for ever, and the parent goes on."""
    script = f"""
        import os, signal, cliffracer
        settings = cliffracer.Settings(nats_url={t.settings.nats_url!r}, namespace={t.settings.namespace!r})
        with cliffracer.connect(settings=settings) as client:
            client.shelf.get(item=1)
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                try:
                    client.shelf.get(item=2)
                except cliffracer.SetupError as error:
                    print(error, dir(client.shelf))
            else:
                print(os.waitpid(child, 0)[1], client.shelf.get(item=3))
    """
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", textwrap.dedent(script)]  # Python 3.12 warns of forks
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    child, parent = done.stdout.splitlines()
    assert child.startswith("This connection was opened before the process was forked")
    assert (child.endswith("['send', 'stream']"), parent, done.stderr) == (True, "0 {'item': 3}", "")


async def test_a_program_ends_whose_client_nobody_closed(t, tmp_path):
    """As in a notebook, or a module that opens one for all: it is closed in time, where the end of the interpreter waited for ever.

    The embedded server, which it may use as well, is given back.
    """
    script = f"""
        import contextlib, cliffracer
        settings = cliffracer.Settings(nats_url={t.settings.nats_url!r}, namespace={t.settings.namespace!r})
        opened = contextlib.ExitStack()
        client = opened.enter_context(cliffracer.connect(settings=settings))
        items = client.shelf.stream.count(upto=1000)
        print(client.shelf.get(item=1), next(items))
        embedded = contextlib.ExitStack()
        embedded.enter_context(cliffracer.connect()).emit("opened", 1, durable=False)
    """
    command, own = [sys.executable, "-c", textwrap.dedent(script)], {"CLIFFRACER_HOME": str(tmp_path), "CLIFFRACER_DEV_GRACE": "0"}
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **own}
    )
    assert (done.stdout, done.stderr, done.returncode) == ("{'item': 1} 0\n", "", 0)


async def test_nothing_of_a_client_is_left(t):
    """Its thread ends with its block, also after an error."""

    def work():
        with pytest.raises(ZeroDivisionError), connect(settings=Settings(nats_url=t.settings.nats_url)):
            raise ZeroDivisionError
        return [thread.name for thread in threading.enumerate() if thread.name == "cliffracer-client"]

    assert await asyncio.to_thread(work) == []


async def test_a_client_after_its_block_says_that_it_is_closed(t):
    """Whatever is asked of it, and without a word of coroutines or event loops."""
    client = await used(t, lambda client: client)
    acts = (
        lambda: client.shelf.get(item=1), lambda: client.call("shelf.get", item=1), lambda: client.shelf.send.get(item=1),
        lambda: list(client.shelf.stream.count(upto=2)), lambda: client.emit("item.asked", 1), lambda: next(client.events("item.*")),
    )  # fmt: skip
    for act in acts:
        with pytest.raises(Unavailable, match="the connection to NATS is closed"):
            act()
    assert "shelf" not in dir(client)


async def test_a_client_that_nothing_holds_open_says_so(t):
    """As where a function entered it by an ExitStack of its own, which is collected when that returns: nobody has closed it."""

    def work():
        client = contextlib.ExitStack().enter_context(connect(settings=Settings(nats_url=t.settings.nats_url)))
        gc.collect()
        with pytest.raises(Unavailable, match="the connection to NATS is closed: what held it open is no more"):
            client.shelf.get(item=1)

    await asyncio.to_thread(work)


async def test_threads_that_still_wait_for_a_client_are_told_that_it_is_closed(t):
    """Whoever follows events or a stream while another thread leaves the block: they would wait for ever, and the script never end."""

    def work(client):
        began = threading.Event()

        def follow(items):
            for _ in items:
                began.set()

        pool = ThreadPoolExecutor(2)
        waiting = [pool.submit(follow, items) for items in (client.events("item.*"), client.stream(endless))]
        assert began.wait(60)
        return waiting

    for waiting in await used(t, work):
        with pytest.raises(Unavailable):
            await asyncio.to_thread(waiting.result, 60)


async def test_an_iterator_that_is_garbage_is_left_by_whichever_thread_collects_it(t):
    """It may be the client's own, which does not wait for itself: every call hung from then on."""

    class Collects:
        def __str__(self):  # as the event is made, in that thread
            gc.collect()
            return "a"

    def work(client):
        gc.disable()
        circle = [client.stream(endless)]
        assert next(circle[0]) == 0
        circle.append(circle)
        del circle
        client.emit("item.kept", 1, id=Collects())
        gc.enable()
        return client.shelf.get(item=1)

    assert await asyncio.wait_for(used(t, work), 60) == {"item": 1}


async def test_the_async_client_does_the_same(t):
    """`connect_async` has the same calls with ``await``."""
    settings = Settings(nats_url=t.settings.nats_url, namespace=t.settings.namespace)
    async with connect_async(settings=settings, timeout="2s") as client:
        assert await client.shelf.get(item=1) == {"item": 1}
        assert await client.call(get, item=2) == {"item": 2}
        assert [n async for n in client.stream(count, upto=3)] == [0, 1, 2]


async def test_an_app_that_is_connected_calls_and_serves_nothing(t):
    """`app.connected()` is for scripts that import a service's module."""
    settings = Settings(nats_url=t.settings.nats_url, namespace=t.settings.namespace)
    other = App("script")

    @other.rpc
    async def never() -> None: ...

    async with other.connected(settings):
        assert await other.call("shelf.get", item=5) == {"item": 5}
        with pytest.raises(Unavailable):
            await other.call(never)
    with pytest.raises(SetupError, match="is not running"):
        await other.call("shelf.get", item=5)


async def test_each_thread_that_connects_an_app_uses_its_own_connection(t):
    """All used that of the last one, which belongs to another event loop: a RuntimeError of asyncio, or worse."""
    settings, together = Settings(nats_url=t.settings.nats_url, namespace=t.settings.namespace), threading.Barrier(2)

    def work(item: int) -> list[dict[str, int]]:
        async def script() -> list[dict[str, int]]:
            async with app.connected(settings):
                together.wait(30)
                found = [await app.call(get, item=item) for _ in range(3)]
                together.wait(30)
                return found

        return asyncio.run(script())

    found = await asyncio.gather(asyncio.to_thread(work, 1), asyncio.to_thread(work, 2))
    assert found == [[{"item": 1}] * 3, [{"item": 2}] * 3]


async def test_a_timeout_that_cannot_be_read_is_a_set_up_error():
    """It says which one, also where an app asks another service."""
    with pytest.raises(SetupError, match=r"connect\(timeout=...\): 'soon' is no length of time"):
        async with connect_async(timeout="soon"):
            pass
    with pytest.raises(SetupError, match=r"service\('shelf', timeout=...\): 'soon' is no length of time"):
        App("script").service("shelf", timeout="soon")


async def test_a_server_that_is_not_there_is_named():
    """The error of a connection names the address."""
    with pytest.raises(Unavailable, match=r"nats://127\.0\.0\.1:1"):
        async with connect_async(settings=Settings(nats_url="nats://127.0.0.1:1", wait=0.2)):
            pass


def test_a_script_needs_no_server_of_its_own(tmp_path):
    """Without NATS_URL a script uses the embedded server of its folder, and leaves no traceback behind."""
    script = textwrap.dedent("""
        import cliffracer
        with cliffracer.connect() as c:
            c.emit("hello.there", {"name": "Ada"})
            try:
                c.nobody.home()
            except cliffracer.Unavailable as error:
                print(error)
    """)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "No service answers nobody.home" in done.stdout
    assert "Traceback" not in done.stderr


async def test_a_connection_that_is_not_entered_as_it_should_be_says_how():
    """By its own words, not by those of Python about the classes that it is made of; nothing is connected, or left behind."""
    asynchronous = r"Write: async with cliffracer\.connect_async\(\) as c: await c\."
    with pytest.raises(SetupError, match=rf"connect\(\) is not for async with\. {asynchronous}"):
        async with connect():
            pass
    with (
        pytest.raises(SetupError, match=rf"connect_async\(\) is for async with\. {asynchronous}.*: with cliffracer\.connect\(\) as c: c\."),
        connect_async(),
    ):
        pass
    with pytest.raises(SetupError, match=rf"connect_async\(\) is entered, not awaited\. {asynchronous}"):
        await connect_async()
    with pytest.raises(AttributeError, match=r"connect\(\) has no users before it is entered\. Write: with cliffracer\.connect\(\) as c: "):
        connect().users.get()
    with pytest.raises(AttributeError, match=rf"connect_async\(\) has no users before it is entered\. {asynchronous}"):
        connect_async().users.get()


async def test_a_connection_is_entered_once(t):
    """A second time says so, also after the block; the first is not disturbed by it."""
    once, later = connect(t.settings.nats_url), connect_async(t.settings.nats_url)
    with once, pytest.raises(SetupError, match=r"connect\(\) returned is entered once\. Call connect\(\) again"), once:
        pass
    async with later:
        pass
    with pytest.raises(SetupError, match=r"connect_async\(\) returned is entered once\. Call connect_async\(\) again"):
        await later.__aenter__()


def test_the_traceback_of_a_script_is_its_own(tmp_path):
    """Where it called, what came of it, and on which NATS: nothing of the way that the error took in here."""
    (tmp_path / "ask.py").write_text("import cliffracer\nwith cliffracer.connect() as c:\n    c.nobody.home()\n")
    done = subprocess.run([sys.executable, "ask.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    *frames, error, place = done.stderr.splitlines()
    assert error == "cliffracer.errors.Unavailable: No service answers nobody.home. No service is running."
    assert place.startswith("That was on the embedded NATS of ")
    files = [line.split('"')[1].rpartition("/")[2] for line in frames if line.startswith("  File ")]
    assert files == ["ask.py", "blocking.py", "blocking.py"]


async def test_where_nobody_answered_is_no_part_of_the_message(t):
    """It goes on to whoever called the one who called: a note, for a traceback, has the address, without its password."""
    async with connect_async(t.settings.nats_url) as c:
        with pytest.raises(Unavailable) as caught:
            await c.nobody.home()
    assert "nats://" not in caught.value.message
    (note,) = caught.value.__notes__
    assert note.startswith("That was on nats://")
    assert place_of(Settings.load(nats_url="nats://ada:pw@host:4222")) == "on nats://ada:***@host:4222 (nats_url, argument)"


def test_importing_is_light():
    """`from cliffracer import App` imports neither NATS, PostgreSQL, the web server, authlib nor loguru."""
    heavy = ("nats", "psycopg", "starlette", "uvicorn", "authlib", "joserfc", "loguru", "httpx", "uvloop", "click")
    script = f"import sys; from cliffracer import App, Model; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_facade_has_all_that_it_names():
    """Every name in ``__all__`` can be imported, and the list is sorted."""
    assert cliffracer.__all__ == sorted(cliffracer.__all__)
    assert all(getattr(cliffracer, name) is not None for name in cliffracer.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = cliffracer.Nothing


async def test_a_script_takes_back_what_it_delayed(t):
    """By the id that emitting returned; blocking or not."""

    def work(client):
        made = client.emit("item.asked", 7, delay="1h")
        return client.cancel(made), client.cancel(made)

    assert await used(t, work) == (True, False)
    async with connect_async(settings=Settings(nats_url=t.settings.nats_url, namespace=t.settings.namespace)) as client:
        assert await client.cancel(await client.emit("item.asked", 7, delay="1h")) is True


async def test_proxies_complete_with_what_runs(t):
    """`dir` of a client has the services, of a service its methods: what an editor or a prompt offers. Nothing fails where nobody is."""
    settings = t.settings

    def looked() -> tuple[list[str], ...]:
        with connect(settings=settings) as c:
            return dir(c), dir(c.shelf), dir(c.nobody)

    services, methods, nothing = await asyncio.to_thread(looked)
    assert {"shelf", "call", "emit"} <= set(services)
    assert methods == ["count", "endless", "get", "letters", "send", "stream"]
    assert nothing == ["send", "stream"]
    async with connect_async(settings=settings) as c:
        dir(c)  # begins to look
        await eventually(lambda: "shelf" in dir(c))
        assert dir(c.shelf) == ["count", "endless", "get", "letters", "send", "stream"]
        assert dir(c.shelf.stream) == dir(c.shelf.send) == ["count", "endless", "get", "letters"]
    assert dir(App("idle").service("shelf")) == ["send", "stream"]


async def test_a_script_tries_again_as_well():
    """A client's proxies have the options of an app's: here a fallback, and a breaker that opens."""
    async with running(App("alone")) as t, connect_async(settings=t.settings) as c:
        nobody = c.service("nobody", retry=Retry(attempts=2, base=0.001), breaker=Breaker(failures=2), fallback=lambda *, error: str(error))
        assert await nobody.ask() == "No service answers nobody.ask. Running: alone."
        assert (await nobody.ask()).startswith("the breaker to nobody is open, next try in ")


class Asked(Event, subject="item.asked"):
    item: int


async def test_a_typed_event_says_what_a_script_follows(t):
    """Its subject and its type at once, as `App.events` and `emit` take it."""
    async with connect_async(settings=Settings(nats_url=t.settings.nats_url, namespace=t.settings.namespace)) as client:
        feed = client.events(Asked)
        heard = asyncio.ensure_future(anext(feed))
        while not heard.done():
            await t.emit("item.asked", {"item": 7})
            await asyncio.wait([heard], timeout=0.1)
        assert (await heard).data == Asked(7)
        await feed.aclose()
        with pytest.raises(SetupError, match="Event has no subject"):
            client.events(Event)


async def test_tasks_that_still_read_are_told_that_the_connection_is_closed(t):
    """Those that follow events, a stream or a bucket: each waited for good, the stream for its minute of silence."""
    settings, others, over = Settings(nats_url=t.settings.nats_url, namespace=t.settings.namespace), App("others"), asyncio.Event()

    @others.rpc
    async def numbers() -> AsyncIterator[int]:
        yield 0
        await over.wait()

    got: set[int] = set()

    async def read(number, items):
        async for _ in items:
            got.add(number)

    async with running(others, settings=settings):
        async with connect_async(settings=settings) as c:
            kept = c.link.backend.values(Bucket("kept"), int)
            await kept.put("a", 1)
            sources = c.events("item.*"), c.events("item.*"), c.events("item.*", int), c.stream(numbers), kept.watch()
            reads = [asyncio.create_task(read(number, items)) for number, items in enumerate(sources)]
            while len(got) < 5:
                await c.emit("item.made", 1, durable=False)
                await asyncio.sleep(0.01)
        told = await asyncio.wait_for(asyncio.gather(*reads, return_exceptions=True), 30)
        over.set()
    assert [(type(error), error.message) for error in told] == [(Unavailable, "the connection to NATS is closed")] * 5
    assert not c.link.feeds._feeds
    assert len(c.link.bus.closed) == 1


async def test_a_reader_that_is_busy_as_its_connection_is_closed_takes_what_came(t):
    """Then it is told, and so is who would join its feed."""
    settings = Settings(nats_url=t.settings.nats_url, namespace=t.settings.namespace)
    async with connect_async(settings=settings) as c:
        items = c.events("item.*")
        first = asyncio.ensure_future(anext(items))
        await eventually(lambda: "item.*" in c.link.feeds._feeds and c.link.feeds._feeds["item.*"].asleep)
        for number in range(3):
            await c.emit("item.made", number, durable=False)
        assert (await first).data == 0
        await c.link.bus.flush()
    assert [(await anext(items)).data for _ in range(2)] == [1, 2]
    for late in (c.events("item.*"), items):
        with pytest.raises(Unavailable, match="the connection to NATS is closed"):
            await anext(late)


async def test_nothing_is_tried_again_over_a_connection_that_is_closed(t):
    """Who waited for a lock waited for good, and who emitted for the ten seconds of a call."""
    settings, one = Settings(nats_url=t.settings.nats_url, namespace=t.settings.namespace), App("one")

    async def wants():
        async with one.lock("held"):
            raise AssertionError("it is another's")

    async with app.lock("held"):
        async with one.connected(settings):
            link = one.link()
            waits = asyncio.create_task(wants())
            await eventually(lambda: any("locks.held" in n.subject for n in link.bus._interests.values()))
            await one.emit("item.made", 1)
        told = await asyncio.wait_for(asyncio.gather(waits, return_exceptions=True), 5)
    async with one.connected(settings):
        fresh = one.link()
    for closed in (link, fresh):  # streams that are known, and streams that are not
        with pytest.raises(Unavailable) as refused:
            await asyncio.wait_for(closed.emit(emission("item.made", 2)), 5)
        told.append(refused.value)
    assert [error.message for error in told] == ["the connection to NATS is closed"] * 3


async def test_a_task_that_ends_with_its_service_is_no_error(t, caplog):
    """One of the user's that nobody cancels is ended by the end of the connection, the last of the stop; the log tells of other errors."""
    settings, one, stop = Settings(nats_url=t.settings.nats_url, namespace=t.settings.namespace), App("follower"), Stop()
    tasks: list[asyncio.Task[None]] = []
    order: list[str] = []

    @one.on_startup
    async def begin() -> None:
        async def follow() -> None:
            try:
                async for _ in one.events("item.*"):
                    stop.asked.set()
            finally:
                order.append("task")

        async def fail() -> None:
            raise ZeroDivisionError

        tasks.extend((asyncio.create_task(follow()), asyncio.create_task(fail())))

    @one.on_shutdown
    def end() -> None:
        order.append("hook")

    async def say() -> None:
        while not stop.asked.is_set():
            await t.emit("item.made", 1, durable=False)
            await asyncio.sleep(0.01)

    saying = asyncio.create_task(say())
    await serve([one], settings, stop=stop)
    await asyncio.gather(saying, asyncio.wait(tasks))
    tasks.clear()
    await asyncio.sleep(0)  # this turn's handle has what was gathered
    gc.collect()
    assert order == ["hook", "task"]
    assert [record.exc_info[0] for record in caplog.records if record.name == "asyncio"] == [ZeroDivisionError]
