"""A coroutine that is returned where somebody should have awaited it: nothing of it has run, so nothing was done."""

from collections.abc import AsyncIterator
from functools import wraps

import pytest

from cliffracer import App, Internal, SetupError
from cliffracer.testing import running

SAYS = r"returned a coroutine that nobody awaits, so nothing of it has run\. Await it, in an async def\."


async def work(number: int = 0) -> int:
    raise AssertionError("nobody awaits this")


async def test_an_event_or_one_way_call_is_not_done_by_a_coroutine_that_nobody_awaits():
    """It is tried again and parked as after any other failure, whose text says what to write; a method that is called fails."""
    app = App("s")

    @app.on("a", retry=[])
    def plain(number: int) -> object:
        return work(number)

    @app.on("a", retry=[])
    async def waiting(number: int) -> object:
        return work(number)

    @app.on("a", retry=[], batch=2)
    async def together(numbers: list[int]) -> object:
        return work(*numbers)

    @app.rpc(retry=[])
    async def method(number: int) -> object:
        return work(number)

    async with running(app) as t:
        await t.emit("a", 1)
        await app.service("s").send.method(number=1)
        await t.settled()
        parked = {event.function: event.error for event in await t.parked()}
    assert set(parked) == {"plain", "waiting", "together", "method"}
    for function, error in parked.items():
        assert f"{function} (" in error
        assert "returned a coroutine that nobody awaits" in error


async def test_middleware_that_does_not_await_its_handler_fails_every_call():
    """A stream would be empty, and an event acknowledged, with nothing done."""
    app = App("s")

    @app.middleware
    async def forgetful(context, proceed):
        return proceed()

    @app.rpc
    async def items() -> AsyncIterator[int]:
        yield 1

    @app.on("a", retry=[])
    async def handle(number: int) -> None: ...

    async with running(app) as t:
        with pytest.raises(Internal):
            await t.call("items")
        await t.emit("a", 1)
        await t.settled()
        (parked,) = await t.parked()
    assert "forgetful (" in parked.error


@pytest.mark.parametrize("kind", ["hook", "check"])
async def test_a_hook_or_check_that_only_makes_a_coroutine_fails(kind):
    """It would count as run, and the check as passed."""
    app = App("s")
    app.get("/")(lambda: 1)

    @(app.on_startup if kind == "hook" else app.health_check("work"))
    def begin() -> object:
        return work()

    if kind == "hook":
        with pytest.raises(SetupError, match=SAYS):
            async with running(app):
                pass
    else:
        async with running(app) as t:
            assert (await t.http.get("/health/ready")).json()["reasons"] == ["work: raised TypeError"]


def awaited(function):
    @wraps(function)
    async def wrapper(*given, **named):
        return function(*given, **named)

    return wrapper


def doubled(function):
    @wraps(function)
    async def wrapper(*given, **named):
        async for item in function(*given, **named):
            yield 2 * item

    return wrapper


def gathered(function):
    @wraps(function)
    async def wrapper(*given, **named):
        return [item async for item in function(*given, **named)]

    return wrapper


def handed_on(function):
    @wraps(function)
    def wrapper(*given, **named):
        return function(*given, **named)

    return wrapper


@pytest.mark.parametrize(("wrapper", "result"), [(doubled, [2, 4]), (gathered, [1, 2]), (handed_on, [1, 2])])
async def test_a_wrapper_is_called_as_what_it_is_itself(wrapper, result):
    """What it wraps may be of another kind: only a ``def`` hands on what that makes."""
    app = App("s")

    @app.rpc
    @wrapper
    async def items() -> AsyncIterator[int]:
        yield 1
        yield 2

    @app.rpc
    @awaited
    def plain() -> int:
        return 3

    async with running(app) as t:
        assert await t.call("items") == result
        assert await t.call("plain") == 3
