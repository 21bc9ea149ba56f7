"""What one call costs, counted instead of timed: bytecode instructions of ours and tasks, from the socket and back.

The figures are those of the code as it is, with room for another Python version. When a change of yours passes a limit, either
it has put something on the path of every call that need not be there, or it is worth its price: then say so and raise it.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from types import FrameType
from typing import Any, Self

import pytest

from benchmarks.contestants.ours import app
from benchmarks.contestants.ours_core import app as core
from benchmarks.contestants.ours_durable import app as durable
from benchmarks.contestants.ours_feed import app as feeds
from benchmarks.contestants.serving import STEP
from benchmarks.load.nats import Connection, Publisher, Requester, Responder, connect
from benchmarks.load.websocket import Audience
from benchmarks.payload import ORDER
from cliffracer import App
from cliffracer.testing import Running, running
from tests.project.places import PACKAGE

pytestmark = pytest.mark.parametrize("_transport", ["fast"], indirect=True)  # the stock one costs more
CALLS = 50
CLIENTS = 30


class Meter:
    """Counts bytecode instructions that run in our package, and tasks that are started, while it is switched on."""

    def __init__(self) -> None:
        self.instructions = 0
        self.tasks = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(self._task)
        sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at this once, when tracing starts
        sys.settrace(self._entered)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        self._loop.set_task_factory(None)

    def _entered(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(str(PACKAGE)):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._ran

    def _ran(self, _: FrameType, event: str, __: object) -> Any:
        self.instructions += event == "opcode"
        return self._ran

    def _task(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        self.tasks += 1
        return asyncio.Task(coroutine, loop=loop, **options)


@pytest.fixture
async def service() -> AsyncIterator[tuple[str, str]]:
    """Run the benchmark's app and give the address of NATS and the prefix of its subjects."""
    async with running(app) as t:
        yield t.settings.nats_url, f"{t.settings.namespace}.ours"


async def _cost(url: str, subject: str, *, headers: bool = False) -> tuple[float, float]:
    """Return the instructions and tasks of one call, one at a time: the least of some runs, since a busy machine has timers run, too."""
    costs = []
    for _ in range(4):  # the first warms up
        requester = Requester(subject, 1, headers=headers)
        await connect(url, requester)
        with Meter() as meter:
            result = await requester.run(60.0, CALLS)
        requester.transport.close()
        assert not result.errors, result.reason
        costs.append((meter.instructions / CALLS, meter.tasks / CALLS))
    return min(costs[1:])


@pytest.mark.parametrize(
    ("method", "headers", "limit"),
    [("place", False, 905), ("place", True, 1010), ("place_def", False, 1240)],
    ids=["async", "headers", "def"],
)
async def test_a_call_costs_what_it_did(service: tuple[str, str], method: str, limit: int, *, headers: bool) -> None:
    """One call runs no more instructions of ours than it used to, and starts one task at most."""
    url, prefix = service
    instructions, tasks = await _cost(url, f"{prefix}.{method}", headers=headers)
    assert 0 < instructions <= limit
    assert tasks <= 1


async def test_a_call_that_we_make_costs_what_it_did() -> None:
    """Many at once, outside any other: each runs no more instructions of ours than it used to, its reply among them, and starts no task."""
    caller = App("caller")
    place = caller.service("echo", timeout=10).place
    responder = Responder()

    async def some() -> None:
        for _ in range(CALLS // 10):
            answer = await place(id=ORDER.id, customer=ORDER.customer, lines=ORDER.lines, note=ORDER.note, paid=ORDER.paid)
            assert answer["id"] == ORDER.id

    async with running(caller) as t:
        await connect(t.settings.nats_url, responder)
        responder.transport.write(f"SUB {t.settings.namespace}.echo.place 1\r\n".encode())
        await responder.flush()
        for _ in range(2):  # the first warms up
            async with asyncio.TaskGroup() as group:
                callers = [group.create_task(some()) for _ in range(CALLS)]
                with Meter() as meter:
                    await asyncio.wait(callers)
        responder.transport.close()
    assert 0 < meter.instructions / CALLS / (CALLS // 10) <= 495
    assert not meter.tasks


@pytest.mark.parametrize(("app", "limit"), [(core, 790), (durable, 1160)], ids=["core", "durable"])
async def test_an_event_costs_what_it_did(app: App, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One event runs no more instructions of ours than it used to, those of its acknowledgement among them, and starts no task."""
    monkeypatch.setattr(Running, "_record", lambda *_: None)  # what only a test does
    async with running(app, log_level="ERROR") as t:
        prefix = f"{t.settings.namespace}.events"
        for _ in range(2):  # the first warms up
            publisher = Publisher(f"{prefix}.order", f"{prefix}.progress", window=STEP)
            await connect(t.settings.nats_url, publisher)
            with Meter() as meter:
                result = await publisher.run(STEP)
            publisher.transport.close()
            assert not result.errors, result.reason
    assert 0 < meter.instructions / STEP <= limit
    assert meter.tasks / STEP < 0.1


async def test_an_emit_costs_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """One durable emit runs no more instructions of ours than it used to, its acknowledgement among them, and starts no task."""
    monkeypatch.setattr(Running, "_record", lambda *_: None)  # what only a test does
    client = App("emitting")
    async with running(core) as t, client.connected(t.settings):
        await client.emit("order.stored", ORDER)  # makes the stream
        with Meter() as meter:
            for _ in range(CALLS):
                await client.emit("order.stored", ORDER)
    assert 0 < meter.instructions / CALLS <= 1430
    assert not meter.tasks


@pytest.mark.parametrize(
    ("path", "subject", "limit"),
    [("/room", "order", 155), ("/frozen", "tick", 355), ("/feed", "tick", 365)],
    ids=["room", "frozen", "generator"],
)
async def test_a_broadcast_costs_each_client_what_it_did(path: str, subject: str, limit: int) -> None:
    """One more client adds no more instructions of ours than it used to, no task, and a broadcast no encoding for each of them."""
    async with running(feeds, log_level="ERROR") as t:
        port = int(t.url.rpartition(":")[2])
        costs = []
        for size in (CLIENTS, 2 * CLIENTS):
            audience, publisher = Audience(port, path), Connection()
            await connect(t.settings.nats_url, publisher)
            await audience.gather(size)
            await audience.settle(publisher, f"{t.settings.namespace}.events.{subject}")
            with Meter() as meter:
                result = await audience.watch(publisher, f"{t.settings.namespace}.events.{subject}", 0.0)
            assert not result.errors, result.reason
            costs.append((meter.instructions, meter.tasks))
            for watcher in audience.watchers:
                watcher.transport.close()
            publisher.transport.close()
    (few, tasks), (many, more_tasks) = costs
    assert 0 < (many - few) / CLIENTS <= limit
    assert more_tasks == tasks
