"""What holds the event loop is named, and nothing else is."""

import asyncio
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from cliffracer.handler import Handler
from cliffracer.invoke import invoke
from cliffracer.observability.blocking import watching
from cliffracer.observability.incident import Incident
from cliffracer.resilience.deadlines import Watch
from cliffracer.resilience.gate import Gate

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def blocks(seconds: float) -> None:
    """What a handler should not call."""
    time.sleep(seconds)


async def handler() -> str:
    """A handler that blocks."""
    blocks(0.4)
    return "done"


def seen_while(
    work: Callable[[], Awaitable[object]], *, new_loop: Callable[[], asyncio.AbstractEventLoop] = LOOPS[0], threshold: float = 0.1
) -> list[Incident]:
    """Run some work on a watched loop and return what was reported, waiting for one report that is on its way."""
    found: list[Incident] = []

    async def main() -> None:
        with watching(asyncio.get_running_loop(), threshold, found.append):
            await asyncio.sleep(threshold)
            await work()
            await asyncio.sleep(2 * threshold)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    return found


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_blocking_handler_is_named(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The stack begins with the user's innermost frame and has none of ours, and the call is the one that blocks."""
    named = Handler(handler, service="users", name="create", kind="rpc", gate=Gate(1), watch=Watch(), deadline=None)

    async def call() -> None:
        assert await invoke(named, named.context(correlation_id="c-1"), ()) == "done"

    (incident,) = seen_while(call, new_loop=new_loop)
    first, second, *_ = incident.held.rows
    assert [first.function, second.function] == ["blocks", "handler"]
    assert {Path(row.file).name for row in incident.held.rows} == {"test_blocking.py"}
    assert re.fullmatch(r".*test_blocking\.py:\d+ in blocks: time\.sleep\(seconds\)", str(first))
    assert incident.held.context is not None
    assert (incident.held.context.handler, incident.held.context.correlation_id) == ("create", "c-1")
    assert incident.ended
    assert incident.seconds >= 0.1


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_loop_that_waits_is_left_alone(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Sleeping by ``await``, and work in a thread, hold nothing."""

    async def wait() -> None:
        await asyncio.gather(asyncio.sleep(0.4), asyncio.to_thread(blocks, 0.4))

    assert seen_while(wait, new_loop=new_loop, threshold=0.2) == []


def test_many_short_callbacks_are_load() -> None:
    """A turn of the loop that is long because many take part blames none of them."""

    async def short() -> None:
        until = time.monotonic() + 0.005
        while time.monotonic() < until:
            pass

    async def load() -> None:
        await asyncio.gather(*(short() for _ in range(250)))

    assert seen_while(load, threshold=0.5) == []


def test_what_keeps_the_interpreter_to_itself_is_named() -> None:
    """A slow regular expression lets no other thread run, and is found as soon as it ends."""

    async def work() -> None:
        for _ in range(3):  # where the machine is busy the look may come too late once
            re.match(r"(a*)*b", "a" * 24)
            await asyncio.sleep(0.1)

    incidents = seen_while(work)
    assert incidents
    assert {incident.place.function for incident in incidents} == {"work"}


def test_what_does_not_end_is_reported_meanwhile() -> None:
    """After a second the incident is told though it goes on."""

    async def work() -> None:
        blocks(2.0)

    (incident,) = seen_while(work)
    assert not incident.ended
    assert incident.seconds < 2.0
    assert incident.place.function == "blocks"


def test_each_incident_is_reported_once() -> None:
    """Blocking twice is two incidents, however often the thread looks."""

    async def work() -> None:
        for _ in range(2):
            blocks(0.4)
            await asyncio.sleep(0.1)

    assert len(seen_while(work)) == 2


def test_a_debugger_is_left_alone() -> None:
    """Somebody who stands at a breakpoint is not told so."""
    space: dict[str, object] = {"time": time}
    exec(compile("def interaction():\n    time.sleep(0.4)\n", "/usr/lib/python3/bdb.py", "exec"), space)

    async def work() -> None:
        space["interaction"]()  # type: ignore[operator]

    assert seen_while(work) == []


async def test_nothing_is_left_behind() -> None:
    """After the block, also one that raised, there is no thread and no timer."""

    def watched_until_it_raises() -> None:
        with watching(asyncio.get_running_loop(), 0.1, [].append):
            assert any(thread.name == "cliffracer-blocking" for thread in threading.enumerate())
            raise KeyError

    with pytest.raises(KeyError):
        watched_until_it_raises()
    assert not any(thread.name == "cliffracer-blocking" for thread in threading.enumerate())


STOPPED = """
import asyncio
from cliffracer.observability.blocking import watching

async def main():
    with watching(asyncio.get_running_loop(), 0.3, lambda incident: print("incident", flush=True)):
        print("ready", flush=True)
        for _ in range(200):
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


def test_a_machine_that_slept_is_no_incident() -> None:
    """A process that was stopped for a while, as by a closed laptop, blames no handler."""
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=60)[0] == ""
