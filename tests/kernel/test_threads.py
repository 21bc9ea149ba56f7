"""Threads of plain handlers: results, errors, contexts, growth, and their end."""

import asyncio
import sys
import threading
import time
from contextvars import ContextVar

import pytest

from cliffracer.resilience.threads import MAX_THREADS, Threads

seen: ContextVar[str] = ContextVar("seen", default="nothing")


@pytest.fixture
async def threads():
    threads = Threads()
    yield threads
    threads.close()


async def test_a_function_runs_in_a_thread_and_its_result_comes_back(threads):
    """Arguments go in, the result comes out, and the loop's thread is another."""
    result = await threads.run(lambda a, b: (a + b, threading.current_thread().name), 1, b=2)
    assert result[0] == 3
    assert result[1].startswith("handler_")


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), StopIteration(1)])
async def test_whatever_a_function_raises_is_raised_where_it_is_awaited(threads, error):
    """A thread survives every exception of its functions."""

    def fails():
        raise error

    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
        await threads.run(fails)
    assert await threads.run(len, "abc") == 3


async def test_context_variables_go_along_and_do_not_come_back(threads):
    """Each function sees the context of its call; what it sets is its own."""

    def sets(value):
        before = seen.get()
        seen.set(value)
        return before

    seen.set("caller")
    assert await asyncio.gather(*(threads.run(sets, str(n)) for n in range(50))) == ["caller"] * 50
    assert seen.get() == "caller"


async def test_blocking_functions_get_more_threads_up_to_a_bound(threads):
    """A hundred functions that block run side by side, thirty-two at once."""
    at_once, most = 0, 0
    lock = threading.Lock()

    def blocks():
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with lock:
            at_once -= 1

    await asyncio.gather(*(threads.run(blocks) for _ in range(100)))
    assert 8 < most <= MAX_THREADS


async def test_quick_functions_get_no_more_threads_however_busy_the_loop_is(threads):
    """A thread that waits for the interpreter is not held up: others would wait for it, too."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)  # nobody else runs while this function does not wait
    try:
        for _ in range(50):
            waiting = [threads.run(len, "abc") for _ in range(100)]
            for _ in range(3):
                threads._look()
            assert await asyncio.gather(*waiting) == [3] * 100
    finally:
        sys.setswitchinterval(before)
    assert len(threads._threads) == 1


async def test_a_task_that_waits_for_a_thread_shows_no_arguments(threads):
    """Asyncio prints what a task waits for, into logs: the function, not what it was called with."""
    release = threading.Event()

    def checks(password, *, token):
        return release.wait(10)

    handed = threads.run(checks, "hunter2", token="s3cret")

    async def waits():
        await handed

    task = asyncio.create_task(waits())
    await asyncio.sleep(0.01)
    try:
        shown = f"{task!r} {handed!r} {handed.__rich_repr__()}"
        assert "checks" in shown
        assert "hunter2" not in shown
        assert "s3cret" not in shown
    finally:
        release.set()
        await task


async def test_a_cancelled_call_is_answered_at_once_and_the_thread_goes_on(threads):
    """Cancelling the awaiting task does not wait for the function."""
    release, ended = threading.Event(), threading.Event()

    def blocks():
        release.wait(10)
        ended.set()

    async def call():
        await threads.run(blocks)

    task = asyncio.create_task(call())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not ended.is_set()
    release.set()
    assert await asyncio.to_thread(ended.wait, 5)
    assert await threads.run(len, "abc") == 3


async def test_closing_ends_the_threads():
    """No thread is left after the pool was closed."""
    threads = Threads()
    await threads.run(len, "abc")
    mine = [t for t in threading.enumerate() if t.name.startswith("handler_")]
    threads.close()
    for thread in mine:
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()
