"""Calls begin without a task of asyncio's: what handlers see of it, which is nothing."""

import asyncio
import contextlib
import gc
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from typing import Any
from weakref import WeakKeyDictionary, ref

import pytest

from cliffracer.context import Context
from cliffracer.eager import Starts
from cliffracer.errors import DeadlineExceeded
from cliffracer.handler import Handler
from cliffracer.invoke import invoke
from cliffracer.resilience.deadlines import Watch
from cliffracer.resilience.gate import Gate
from cliffracer.resilience.threads import Threads
from tests.support.waiting import eventually

variable: ContextVar[str] = ContextVar("variable", default="unset")


class Thing:
    """What somebody keeps."""


@pytest.fixture
async def starts() -> Starts:
    return Starts(asyncio.get_running_loop(), Watch())


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads()
    yield threads
    threads.close()


async def until(condition, turns: int = 1000) -> None:
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never happened")


async def test_a_call_that_waits_has_one_and_the_same_task_throughout(starts: Starts):
    """`current_task` is the same object before and after the first wait, and one that `all_tasks` knows by then."""
    seen = []

    async def work() -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        seen.append(asyncio.current_task() in asyncio.all_tasks())

    starts.add(work())
    await until(lambda: len(seen) == 3)
    assert seen[0] is seen[1]
    assert seen[2] is True


async def test_a_call_begins_where_it_arrives_unless_a_task_runs_there(starts: Starts):
    """In a callback of the loop it has made its first step when `add` returns; in somebody's task it waits for the next turn.

    From Python 3.12 on asyncio itself begins a task where another one runs.
    """
    begun: list[str] = []
    counted: list[int] = []

    async def work(name: str) -> None:
        begun.append(name)

    def arrive() -> None:
        starts.add(work("in a callback"))
        counted.append(len(begun))

    asyncio.get_running_loop().call_soon(arrive)
    await until(lambda: bool(counted))
    assert counted == [1]
    starts.add(work("in a task"))
    assert len(begun) == (1 if sys.version_info < (3, 12) else 2)
    await until(lambda: len(begun) == 2)


@pytest.mark.parametrize("waits", [{0}, {3, 50}, set(range(0, 100, 7)), set(range(100))], ids=["first", "two", "some", "all"])
async def test_calls_begin_in_the_order_in_which_they_arrive(starts: Starts, waits: set[int]):
    """Whichever of them wait, and in whatever kind of task each begins: over several bursts, later ones begin later."""
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        if number in waits:
            await asyncio.sleep(0)

    def arrive(first: int) -> None:
        for number in range(first, first + 20):
            starts.add(work(number))

    for first in range(0, 100, 20):
        asyncio.get_running_loop().call_soon(arrive, first)
    await until(lambda: len(begun) == 100)
    assert begun == list(range(100))


@pytest.mark.parametrize("waits", [{0}, {0, 33, 34}, {5, 99}, set(range(100))], ids=["first", "after the tasks", "last", "all"])
async def test_calls_that_wait_for_their_turn_begin_in_the_order_in_which_they_arrive(starts: Starts, waits: set[int]):
    """More of them than become tasks because one has waited, and more that come meanwhile: later ones begin later, and all do."""
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        if number in waits:
            await asyncio.sleep(0)

    for number in range(70):
        starts.add(work(number))  # in a task: here
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(lambda: [starts.add(work(number)) for number in range(70, 100)])
    await until(lambda: len(begun) == 100)
    assert begun == list(range(100))


async def test_two_calls_have_two_tasks(starts: Starts):
    """Calls that are over at once do not share what libraries keep by task."""
    seen: list[object] = []

    async def work() -> None:
        seen.append(asyncio.current_task())

    starts.add(work())
    starts.add(work())
    await until(lambda: len(seen) == 2)
    assert seen[0] is not None
    assert seen[0] is not seen[1]


async def test_what_is_kept_by_task_is_not_found_by_the_next_call(starts: Starts):
    """Neither in a dict that keeps tasks alive nor in one that does not, though calls that nobody heard of share one task."""
    weak: WeakKeyDictionary[object, int] = WeakKeyDictionary()
    strong: dict[object, int] = {}
    seen: list[tuple[int | None, int | None]] = []

    async def work(number: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        seen.append((weak.get(task), strong.get(task)))
        if number % 3 == 1:
            weak[task] = number
        elif number % 3 == 2:
            strong[task] = number

    asyncio.get_running_loop().call_soon(lambda: [starts.add(work(number)) for number in range(9)])
    await until(lambda: len(seen) == 9)
    assert seen == [(None, None)] * 9


async def test_an_attribute_of_a_task_is_not_found_by_the_next_call(starts: Starts):
    """Some keep there who asks; the call that did so finds it again after it has waited."""
    seen: list[object] = []

    async def work(number: int) -> None:
        task: Any = asyncio.current_task()
        seen.append(getattr(task, "user", None))
        if number:
            task.user = number
        if number > 1:
            await asyncio.sleep(0)
            seen.append(task.user)

    asyncio.get_running_loop().call_soon(lambda: [starts.add(work(number)) for number in (0, 1, 0, 2, 0)])
    await until(lambda: len(seen) == 6)
    assert sorted(seen, key=str) == [2, None, None, None, None, None]


@pytest.mark.parametrize("how", ["unknown", "weak", "kept"])
async def test_nothing_of_a_call_stays_once_its_task_is_gone(starts: Starts, how: str):
    """Its variables go with the last who knows its task, not with the next garbage collection."""
    values: list[ref[Thing]] = []
    weak: WeakKeyDictionary[object, int] = WeakKeyDictionary()
    kept: list[object] = []
    things: ContextVar[Thing] = ContextVar("things")

    async def work() -> None:
        thing = Thing()
        values.append(ref(thing))
        things.set(thing)
        if how == "weak":
            weak[asyncio.current_task()] = 1
        if how == "kept":
            kept.append(asyncio.current_task())

    gc.disable()
    try:
        asyncio.get_running_loop().call_soon(lambda: [starts.add(work()) for _ in range(3)])
        await until(lambda: len(values) == 3)
        kept.clear()
        await until(lambda: not any(value() for value in values))
    finally:
        gc.enable()


async def test_variables_of_one_call_are_not_seen_by_the_next(starts: Starts):
    """A context variable that a call sets stays its own, whether it waits afterwards or not, and its token stays valid."""
    seen = []

    async def work(name: str, *, waits: bool) -> None:
        seen.append(variable.get())
        token = variable.set(name)
        if waits:
            await asyncio.sleep(0)
        seen.append(variable.get())
        variable.reset(token)

    starts.add(work("one", waits=False))
    starts.add(work("two", waits=True))
    starts.add(work("three", waits=False))
    await until(lambda: len(seen) == 6)
    assert seen == ["unset", "one", "unset", "unset", "three", "two"]


@pytest.mark.parametrize("waits", [False, True])
async def test_variables_of_one_call_are_not_those_of_another_that_it_begins(starts: Starts, *, waits: bool):
    """An event that is handled again begins in the call before, and others arrive in the same turn: each has variables of its own."""
    seen: list[tuple[str, str]] = []

    async def work(name: str) -> None:
        seen.append((name, variable.get()))
        if name == "first":
            variable.set("the first one's")
            if waits:
                await asyncio.sleep(0)
            starts.add(work("again"))
            asyncio.get_running_loop().call_soon(lambda: starts.add(work("another")), context=outside)

    outside = copy_context()
    asyncio.get_running_loop().call_soon(lambda: starts.add(work("first")))
    await until(lambda: len(seen) == 3)
    assert sorted(seen) == [("again", "unset"), ("another", "unset"), ("first", "unset")]


async def test_timeouts_and_task_groups_work_from_the_first_step_on(starts: Starts):
    """`asyncio.timeout` and `asyncio.TaskGroup` entered before the first wait end what they should."""
    seen = []

    async def late() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            seen.append("timeout")

    async def failing() -> None:
        raise ValueError("no")

    async def group() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(failing())
                await asyncio.sleep(60)
        except* ValueError:
            seen.append("group")

    starts.add(late())
    starts.add(group())
    await eventually(lambda: len(seen) == 2)
    assert sorted(seen) == ["group", "timeout"]


async def test_what_a_task_can_be_asked_it_can_be_asked_in_the_first_step(starts: Starts):
    """Name, loop, coroutine, stack and callbacks: a callback that is added before the first wait runs when the call is over."""
    seen = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("mine")
        task.add_done_callback(lambda done: seen.append(done.get_name()))
        assert task.get_loop() is asyncio.get_running_loop()
        assert task.get_coro().__name__ == "work"
        assert "mine" in repr(task)
        assert not task.done()

    starts.add(work())
    await until(lambda: seen == ["mine"])


async def test_a_task_that_somebody_kept_can_be_awaited(starts: Starts):
    """Whoever keeps the task of a call that never waited is told that it is done."""
    kept: list[asyncio.Task[None]] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        kept.append(task)

    starts.add(work())
    await until(lambda: bool(kept))
    async with asyncio.timeout(5):
        await kept[0]
    assert kept[0].done()


@pytest.mark.parametrize("how", ["kept", "joined", "failed", "waited"])
async def test_what_becomes_of_a_call_is_nothing_to_the_next(starts: Starts, how: str):
    """However one ended, also one whose task is dropped before asyncio has seen that it is over, those that follow run to their end."""
    kept: list[object] = []
    over: list[int] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _what: None)

    async def odd() -> None:
        task = asyncio.current_task()
        assert task is not None
        kept.append(task)
        if how == "joined":
            task.set_name("mine")
        if how == "failed":
            raise ValueError("no")
        if how == "waited":
            await asyncio.sleep(0)

    async def even(number: int) -> None:
        over.append(number)

    def arrive() -> None:
        for number in range(4):
            starts.add(odd())
            kept.clear()
            starts.add(even(number))

    asyncio.get_running_loop().call_soon(arrive)
    await until(lambda: len(over) == 4 and not len(starts))
    assert over == [0, 1, 2, 3]


@pytest.mark.parametrize("when", ["before its second step", "while it waits"])
async def test_a_call_that_waits_can_be_cancelled(starts: Starts, when: str):
    """Cancelling reaches the coroutine and what it awaits, also before asyncio made the second step."""
    seen = []
    held: set[asyncio.Task[None]] = set()
    inner = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await inner
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    starts.add(work(), None, held)
    await until(lambda: bool(held))
    (task,) = held
    if when == "while it waits":
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]
    assert inner.cancelled()
    assert task.cancelled()


@pytest.mark.parametrize("joined", [False, True], ids=["kept", "kept and asked"])
async def test_a_kept_task_whose_first_step_ends_by_a_cancellation_is_cancelled(starts: Starts, *, joined: bool):
    """As where it waits on what was cancelled already: whoever asks the task is told so, and the log says nothing."""
    kept: list[asyncio.Task[None]] = []
    told: list[object] = []
    loop, gone = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
    loop.set_exception_handler(lambda _loop, what: told.append(what))
    gone.cancel()

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        kept.append(task)
        if joined:
            task.add_done_callback(lambda done: told.append(done.cancelled()))
        await gone

    starts.add(work())
    await until(lambda: bool(kept))
    with pytest.raises(asyncio.CancelledError):
        await kept[0]
    assert kept[0].cancelled()
    await asyncio.sleep(0)
    assert told == ([True] if joined else [])


async def test_what_is_awaited_may_fail(starts: Starts):
    """An exception of what the first step waits for is raised where it is awaited."""
    seen = []
    inner = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await inner
        except ValueError as error:
            seen.append(str(error))
        await asyncio.sleep(0)
        seen.append("went on")

    starts.add(work())
    await until(lambda: not len(starts))
    inner.set_exception(ValueError("no"))
    await until(lambda: seen == ["no", "went on"])


async def test_a_call_that_waits_is_looked_after_until_its_deadline():
    """The context of a call that waits knows the task that ends it; that of one which did not wait holds nothing."""
    watch = Watch()
    starts = Starts(asyncio.get_running_loop(), watch)
    waiting, quick = Context(deadline=0.0), Context()
    ended = []

    async def work(seconds: float) -> None:
        try:
            if seconds:
                await asyncio.sleep(seconds)
            watch.begun = None  # as `invoke` says that its call is over
        except asyncio.CancelledError:
            ended.append(waiting.ended)

    starts.add(work(60), waiting)
    starts.add(work(0), quick)
    await eventually(lambda: bool(ended))
    assert ended == ["deadline"]
    assert quick not in watch.running


@pytest.mark.parametrize("before", [False, True], ids=["made in the first step", "made later"])
async def test_a_call_whose_context_is_made_on_its_way_is_looked_after(*, before: bool):
    """One that waits is ended at its deadline, whether it was known of in the first step or not; those that do not wait leave nothing."""
    watch, gate, ended = Watch(), Gate(10), list[str]()
    starts = Starts(asyncio.get_running_loop(), watch)

    async def sleeps() -> None:
        await asyncio.sleep(60)

    async def is_over() -> None:
        pass

    async def comes_to_no_call() -> None:
        pass

    slow = Handler(sleeps, service="s", name="h", kind="event", gate=gate, watch=watch, deadline=0.05)
    quick = Handler(is_over, service="s", name="q", kind="event", gate=gate, watch=watch, deadline=0.05)

    async def work(handler: Handler) -> None:
        try:
            if before:
                await asyncio.sleep(0)
            context = handler.called(None)
            handler.gate.admit(None)
            await invoke(handler, context, ())
        except DeadlineExceeded:
            ended.append("deadline")

    def arrive() -> None:
        for one in (comes_to_no_call(), work(quick), work(slow), comes_to_no_call(), work(slow), work(quick)):
            starts.add(one)

    asyncio.get_running_loop().call_soon(arrive)  # as a reader does: in no task
    await eventually(lambda: ended == ["deadline", "deadline"])
    assert (watch.begun, watch.running) == (None, set())
    assert (quick.stats.calls, slow.stats.calls) == (2, 2)


async def test_a_defect_in_one_call_does_not_stop_the_others(starts: Starts):
    """An exception that leaves a call is told to the loop, as that of a task is, and the next call begins."""
    told, begun = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: told.append(what.get("exception")))

    async def broken() -> None:
        raise ValueError("no")

    async def fine() -> None:
        begun.append(None)

    starts.add(broken())
    starts.add(fine())
    await until(lambda: bool(begun))
    gc.collect()
    await until(lambda: bool(told))
    assert isinstance(told[0], ValueError)


async def test_a_call_that_waits_for_a_thread_stays_the_same_task(starts: Starts, threads: Threads):
    """Its task and its context variables are the same after one thread, another, and a wait in the loop."""
    seen = []

    async def work() -> None:
        task = asyncio.current_task()
        variable.set("mine")
        seen.append(await threads.run(variable.get))
        seen.append(variable.get())
        with pytest.raises(ValueError, match="invalid literal"):
            await threads.run(int, "x")
        await asyncio.sleep(0)
        seen.append(await threads.run(len, "abc"))
        seen.append(asyncio.current_task() is task)

    starts.add(work())
    await eventually(lambda: len(seen) == 4)
    assert seen == ["mine", "mine", 3, True]
    assert variable.get() == "unset"


@pytest.mark.parametrize("how", ["cancelled", "timeout"])
async def test_a_call_that_waits_for_a_thread_can_be_ended(starts: Starts, threads: Threads, how: str):
    """Whoever cancels it, or its own time-out, need not wait for the function, which goes on."""
    release, ended, seen = threading.Event(), threading.Event(), []
    held: set[asyncio.Task[None]] = set()

    def blocks() -> None:
        release.wait(10)
        ended.set()

    async def work() -> None:
        try:
            async with asyncio.timeout(0.01 if how == "timeout" else None):
                await threads.run(blocks)
        except (TimeoutError, asyncio.CancelledError) as error:
            seen.append(type(error))
        seen.append(await threads.run(len, "abc"))

    starts.add(work(), None, held)
    await eventually(lambda: bool(held))
    if how == "cancelled":
        held.pop().cancel()
    await eventually(lambda: bool(seen))
    assert not ended.is_set()
    release.set()
    await eventually(lambda: len(seen) == 2)
    assert seen == [TimeoutError if how == "timeout" else asyncio.CancelledError, 3]
    await eventually(ended.is_set)


@pytest.mark.parametrize("when", ["while a thread has it", "from inside"])
async def test_a_task_kept_from_a_call_that_waits_for_a_thread_can_be_awaited(starts: Starts, threads: Threads, when: str):
    """Whoever keeps it is told when the call is over, whenever it began to wait."""
    release, kept = threading.Event(), []

    async def work() -> None:
        if when == "from inside":
            kept.append(asyncio.current_task())
        await threads.run(release.wait, 10)

    held: set[asyncio.Task[None]] = set()
    starts.add(work(), None, held)
    await eventually(lambda: bool(held))
    task = kept[0] if kept else held.pop()
    asyncio.get_running_loop().call_later(0.02, release.set)
    async with asyncio.timeout(5):
        await task
    assert task.done()


async def test_what_a_thread_does_can_be_gathered(threads: Threads):
    """It is a future to asyncio: results and errors come in order, and who waits no longer is told so."""
    found = await asyncio.gather(threads.run(len, "abc"), threads.run(int, "x"), return_exceptions=True)
    assert found[0] == 3
    assert isinstance(found[1], ValueError)
    release = threading.Event()
    waiting = asyncio.ensure_future(threads.run(release.wait, 10))
    assert waiting.cancel()
    assert not waiting.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled()
