"""Every way in which a call can end: its place is given back once, it is counted once, and nothing keeps it."""

import asyncio
import contextlib
import gc
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from cliffracer import App, Database, runtime
from cliffracer.context import Context
from cliffracer.eager import Starts
from cliffracer.errors import Cancelled, DeadlineExceeded, Internal, NotFound, ServiceError
from cliffracer.handler import Handler
from cliffracer.invoke import invoke
from cliffracer.resilience.deadlines import TICK, Watch
from cliffracer.resilience.gate import Gate
from cliffracer.resilience.threads import Threads
from cliffracer.testing import running
from tests.support.signals import heard
from tests.support.waiting import eventually


class Mapped(Exception):
    """What the handler below has a reply for."""


class Desk:
    """One handler, and what became of the calls that were begun at it as an endpoint begins them."""

    def __init__(self, function: Callable[..., Awaitable[Any]], *, limit: int = 2, mapping: Callable[[Any], Any] = str) -> None:
        self.watch = Watch()
        self.gate = Gate(limit, 1000)
        self.handler = Handler(
            function, service="s", name="h", kind="rpc", gate=self.gate, watch=self.watch, deadline=None, mappings={Mapped: mapping}
        )
        self.starts = Starts(asyncio.get_running_loop(), self.watch)
        self.ends: list[Any] = []
        self.begun = self.cancelling = 0

    def begin(self, *arguments: Any, deadline: float | None = None) -> Context:
        """Admit and begin one call; what it ends with goes to ``ends``."""
        context = Context("s", "h", "rpc", deadline=deadline)
        self.gate.admit(None)
        self.begun += 1
        self.starts.add(self._answer(context, arguments), context)
        return context

    async def _answer(self, context: Context, arguments: tuple[Any, ...]) -> None:
        end: Any = "left"
        try:
            end = await invoke(self.handler, context, arguments)
        except ServiceError as error:
            end, task = type(error), asyncio.current_task()
            self.cancelling += 0 if task is None else task.cancelling()
        except asyncio.CancelledError:
            end = asyncio.CancelledError
            raise
        finally:
            self.ends.append(end)

    async def ended(self) -> None:
        """Wait for all of them; then nothing is left of any."""
        await eventually(lambda: len(self.ends) == self.begun)
        await asyncio.sleep(0)
        self.empty()

    def empty(self) -> None:
        gate, watch = self.gate, self.watch
        assert (gate.admitted, gate.free, len(gate.waiting)) == (0, gate.limit, 0)
        assert (watch.begun, watch.running) == (None, set())
        assert self.handler.stats.calls == self.begun


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    threads = Threads()
    yield threads
    threads.close()


async def _nothing() -> None:
    pass


async def _stubborn() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0.03)


async def _group() -> None:
    async with asyncio.timeout(1), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0.001))


async def _refuses() -> None:
    raise NotFound("no")


async def _breaks() -> None:
    raise Mapped("no")


async def _told(error: Exception) -> str:
    await asyncio.sleep(0.01)
    return str(error)


async def test_whatever_calls_do_and_whoever_ends_them_each_leaves_once(threads: Threads):
    """Hundreds of calls of all kinds, begun in bursts and ended at any moment: each ends once, and no place or context is left behind."""
    rng, loop = random.Random(7), asyncio.get_running_loop()

    async def hands_over() -> None:
        await threads.run(int)
        await asyncio.sleep(0)
        await threads.run(int)

    def waits(seconds: float) -> Callable[[], Awaitable[None]]:
        return lambda: asyncio.sleep(seconds)

    async def work(step: Callable[[], Awaitable[None]]) -> None:
        await step()

    kinds = [_nothing, _nothing, waits(0), waits(0.01), waits(60), hands_over, _stubborn, _group, _refuses, _breaks]
    desk = Desk(work, mapping=_told)
    contexts: list[Context] = []

    def burst() -> None:
        lasts = [rng.choice([-1, 0, 0.01, 0.03, 0.3, 0.3]) for _ in range(rng.randrange(1, 12))]
        contexts.extend(desk.begin(rng.choice(kinds), deadline=loop.time() + last) for last in lasts)
        for context in rng.sample(contexts, min(4, len(contexts))):
            if not rng.randrange(3):
                desk.watch.end(context, rng.choice(["cancelled", "stopping"]))
            elif context.task is not None and not rng.randrange(3):
                context.task.cancel()

    for _ in range(80):
        loop.call_soon(burst)
        await asyncio.sleep(rng.choice([0, 0, 0.002, 0.01]))
    await desk.ended()
    assert {context.task for context in contexts} == {None}
    assert "left" not in desk.ends


@pytest.mark.parametrize("waits", [False, True])
async def test_a_mapping_that_outlasts_its_call_is_answered_for_by_the_deadline(*, waits: bool):
    """Somebody waits for an answer, also where what the app makes of an error takes longer than there is time."""

    async def work() -> None:
        if waits:
            await asyncio.sleep(0)
        raise Mapped("no")

    async def told(_: Exception) -> str:
        await asyncio.sleep(60)
        return "too late"

    desk = Desk(work, mapping=told)
    desk.begin(deadline=asyncio.get_running_loop().time() + 0.01)
    await desk.ended()
    assert desk.ends == [DeadlineExceeded]
    assert desk.handler.stats.errors == 1


async def _late() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise NotFound("it was taken back meanwhile") from None


@pytest.mark.parametrize(("work", "end"), [(_stubborn, DeadlineExceeded), (_late, NotFound)])
async def test_a_handler_that_goes_on_after_its_call_was_ended_is_too_late(work: Callable[[], Awaitable[None]], end: type[ServiceError]):
    """What it returns is nobody's; an error of its own says more than that. Whoever answers is not taken for cancelled."""
    desk = Desk(work)
    desk.begin(deadline=asyncio.get_running_loop().time() + 0.01)
    await desk.ended()
    assert (desk.ends, desk.cancelling, desk.handler.stats.errors) == ([end], 0, 1)


async def test_who_waits_for_a_place_that_is_taken_away_was_not_broken():
    """Calls cancelled together, the running one and those in the queue: none fails of its own accord, and the figures say so."""

    async def work() -> None:
        await asyncio.sleep(60)

    desk = Desk(work, limit=1)
    contexts = [desk.begin() for _ in range(4)]
    await eventually(lambda: len(desk.gate.waiting) == 3)
    for context in contexts:
        context.task.cancel()
    await desk.ended()
    assert desk.ends == [asyncio.CancelledError] * 4
    assert (desk.handler.stats.cancelled, desk.handler.stats.errors) == (4, 0)


@pytest.fixture
def keyboard() -> Iterator[None]:
    """Python itself hears Ctrl-C, as it does unless who started the tests has it ignored."""
    with heard(signal.SIGINT, signal.default_int_handler):
        yield


@pytest.mark.usefixtures("keyboard")
@pytest.mark.parametrize("how", [KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("ended", [False, True])
async def test_what_ends_the_process_is_no_answer(how: type[BaseException], *, ended: bool):
    """Whether the call was told to end before or not, it goes on to whoever drives it."""

    async def work() -> None:
        await asyncio.sleep(60)

    desk = Desk(work)
    context = Context(deadline=None)
    desk.gate.admit(None)
    call = invoke(desk.handler, context, ())
    call.send(None)
    if ended:
        context.ended = "deadline"
    with pytest.raises(how):
        call.throw(how())
    desk.begun = 1
    desk.empty()


async def test_a_call_ended_before_it_begins_is_not_entered():
    """Its function never runs, and who waits hears that it was cancelled."""
    entered: list[int] = []

    async def work() -> None:
        entered.append(1)

    desk = Desk(work)
    context = Context()
    desk.watch.end(context, "cancelled")
    desk.gate.admit(None)
    desk.begun = 1
    asyncio.get_running_loop().call_soon(lambda: desk.starts.add(desk._answer(context, ()), context))
    await desk.ended()
    assert (desk.ends, entered) == ([Cancelled], [])


@pytest.mark.parametrize("durable", [True, False])
async def test_an_interrupt_that_no_keyboard_raised_is_a_failure_of_its_call(*, durable: bool):
    """A handler that raises `KeyboardInterrupt`, while the loop has the signal: it is answered, and the connection to NATS stays."""
    app, got = App("interrupting"), []

    @app.rpc
    @app.get("/stop")
    async def stop(wait: float = 0) -> None:
        await asyncio.sleep(wait) if wait else None
        raise KeyboardInterrupt

    @app.on("stop", durable=durable, **({"retry": [0.01]} if durable else {}))
    async def hear() -> None:
        got.append(1)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        async with running(app) as t:
            client = t.up.bus.link.client
            for wait in (0, 0.01):
                with pytest.raises(Internal):
                    await t.call("stop", wait=wait)
                assert (await t.http.get(f"/stop?wait={wait}")).json()["error_id"]
            await t.emit("stop", durable=durable)
            await eventually(lambda: len(got) == (2 if durable else 1))
            assert t.up.bus.link.client is client
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("keyboard")
async def test_a_process_that_is_told_to_end_in_the_first_step_finds_the_handler_as_it_was():
    """Ctrl-C in a handler that runs where its message was read: the reader has it, and no call is left begun."""

    async def work() -> None:
        raise KeyboardInterrupt

    desk = Desk(work)
    raised: list[BaseException] = []

    def arrive() -> None:
        try:
            desk.begin()
        except KeyboardInterrupt as error:
            raised.append(error)

    asyncio.get_running_loop().call_soon(arrive)
    await eventually(lambda: bool(raised))
    desk.empty()


async def test_nothing_keeps_a_context_when_its_call_is_over():
    """Not the watch, not a task, not a frame: it is gone without the collector, which is told of all that have waited."""
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()

    desk = Desk(work, limit=50)
    gc.collect()
    gc.disable()
    try:
        before = _contexts()
        for _ in range(50):
            desk.begin()
        await eventually(lambda: len(desk.watch.running) == 50)
        assert _contexts() == before + 50
        go.set()
        await desk.ended()
        await asyncio.sleep(2 * TICK)
        assert _contexts() <= before + 1  # the loop's own handle may still have the last one
    finally:
        gc.enable()


app = App("endings")


@app.on_error(Mapped)
async def mapped(error: Mapped) -> str:
    return await _told(error)


@app.rpc(limit=3)
@app.get("/act", limit=3)
async def act(how: int) -> object:
    await asyncio.sleep([0, 0.01, 60][how % 3])
    if how > 2:
        raise [NotFound("no"), Mapped("no"), SystemExit(1), asyncio.CancelledError(), ValueError("no")][how - 3]
    return object() if how == 1 else how


@app.rpc(limit=3)
def act_plainly(how: int) -> None:
    time.sleep([0, 0.01, 0.4][how % 3])
    if how > 5:
        raise NotFound("no")


@app.rpc
async def act_for_long(how: int) -> AsyncIterator[int]:
    for number in range(10 * how):
        if number == 40:
            raise NotFound("no")
        yield number


@app.on("act", durable=False)
@app.on("act.surely", retry=())
async def hear(how: int) -> None:
    await act(how if how % 3 < 2 else 0)  # an event has no deadline


async def test_whatever_is_called_in_whatever_way_a_service_is_empty_afterwards():
    """Calls, streams, requests and events, ended by all that can end them: no place is lost, nothing is watched, no reply is owed."""
    rng = random.Random(11)

    async def read(how: int) -> None:
        async for _ in app.service("endings").stream.act_for_long(how):
            if rng.random() < 0.05:
                break

    async with running(app, log_level="CRITICAL", deadline=0.3) as t:
        ways: list[Callable[[int], Awaitable[Any]]] = [
            lambda how: t.call("act", how=how),
            lambda how: t.call("act_plainly", how=how),
            read,
            lambda how: t.http.get(f"/act?how={how}"),
            lambda how: t.emit("act", how, durable=False),
            lambda how: t.emit("act.surely", how),
        ]

        async def one(how: int) -> None:
            with contextlib.suppress(ServiceError, TimeoutError, httpx.HTTPError):
                await asyncio.wait_for(rng.choice(ways)(how), rng.choice([0.001, 0.03, 10]))

        for _ in range(5):
            await asyncio.gather(*(one(number % 8) for number in range(48)))
        await t.settled()
        (service,) = t.up.services
        assembly = service.assembly
        await eventually(lambda: not service.busy)
        places = {handler.name: (handler.gate.admitted, handler.gate.limit - handler.gate.free) for _, handler in assembly.handlers}
        assert set(places.values()) == {(0, 0)}, places
        assert (assembly.watch.begun, assembly.watch.running, service._rpc._running) == (None, set(), {})


def _contexts() -> int:
    return sum(isinstance(one, Context) for one in gc.get_objects())


async def test_a_stop_that_is_cancelled_leaves_nothing_at_work():
    """At none of its turns: neither events, timers and leaders nor what relays the outbox."""
    app, other = App("ending"), App("other")

    @app.on("thing.made")
    async def made(name: str) -> None: ...

    @app.every("1h")
    async def tick() -> None: ...

    @app.leader
    async def lead() -> None:
        await asyncio.Event().wait()

    @app.rpc
    @other.rpc
    async def use(*, db: Database) -> None: ...

    async with running(other) as t:

        async def run() -> None:
            async with runtime.running(app, t.settings):
                up.set()

        for turns in (0, 1, 3, 6, 12):
            before, up = asyncio.all_tasks(), asyncio.Event()
            task = asyncio.create_task(run())
            await up.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await eventually(lambda before=before: asyncio.all_tasks() <= before)


async def test_a_call_that_somebody_outside_cancels_is_answered():
    """Its caller does not wait until his time is over."""
    app = App("ending")

    @app.rpc
    async def stray() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with running(app, deadline=600) as t, asyncio.timeout(30):
        with pytest.raises(Cancelled):
            await t.call("stray")
