"""The way from a message to the user's function: how many frames of ours, and which."""

import sys
from pathlib import Path

import cliffracer
from cliffracer import App, Event
from cliffracer.testing import running

OURS = str(Path(cliffracer.__file__).parent)


def frames() -> list[str]:
    """Return the functions of this package on the stack of a handler, innermost first."""
    found = []
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(OURS):
            found.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}")
        frame = frame.f_back
    return found


app = App("hops")


@app.rpc
async def by_rpc() -> list[str]:
    return frames()


@app.get("/hops")
async def by_http() -> list[str]:
    return frames()


seen: list[list[str]] = []


@app.on("hop")
async def by_event(data: int) -> None:
    seen.append(frames())


@app.on("hop.core", durable=False)
async def by_core_event(data: int, *, event: Event) -> None:
    seen.append(frames())


async def test_rpc_takes_two_steps_to_the_users_function():
    """`RpcEndpoint.receive` admits the call and has it begun: `answer` awaits `invoke`, which calls the function."""
    async with running(app) as t:
        hops = await t.call("by_rpc")
    assert hops[:2] == ["invoke.py:invoke", "rpc.py:answer"]
    begun = hops[2:] if sys.version_info >= (3, 12) else hops[3:]
    assert begun == hops[2:] or hops[2] == "eager.py:_drive"
    assert begun[0] == "eager.py:_begin"
    assert begun[1:3] in (["eager.py:add", "rpc.py:receive"], ["eager.py:_turn"])  # the stock transport receives in tasks of nats-py's


async def test_http_takes_three_steps_at_most():
    """The site finds the endpoint, the endpoint awaits `invoke`, which calls the function."""
    async with running(app) as t:
        hops = (await t.http.get("/hops")).json()
    assert hops[:2] == ["invoke.py:invoke", "routes.py:__call__"]
    assert len(hops) <= 3


async def test_events_pass_the_same_invoke():
    """Durable or not, an event reaches its function through `invoke`."""
    seen.clear()
    async with running(app) as t:
        await t.emit("hop", 1)
        await t.settled()
        await t.emit("hop.core", 1, durable=False)
        await t.settled()
    durable, core = seen
    assert "invoke.py:invoke" in durable
    assert core[:2] == ["assembly.py:_enter", "invoke.py:invoke"]
