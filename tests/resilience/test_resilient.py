"""``@resilient(...)`` on functions of any kind."""

import asyncio

import pytest
from loguru import logger

from cliffracer import (
    App,
    Breaker,
    Conflict,
    Context,
    DeadlineExceeded,
    Internal,
    Overloaded,
    Retry,
    SetupError,
    Unavailable,
    provided,
    resilient,
)
from cliffracer.testing import running

QUICK = Retry(attempts=3, base=0.001)


class Failing:
    """Fails as often as it is told, then returns what it is given."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self, value: str) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return value


async def test_async_and_plain_functions() -> None:
    """Both are tried again, and are called as before."""
    neighbour = Failing(Unavailable("down"), Overloaded("busy", retry_after=0.01))

    @resilient(retry=QUICK)
    async def ask(value: str) -> str:
        return neighbour(value)

    @resilient(retry=QUICK)
    def ask_plainly(value: str) -> str:
        return neighbour(value)

    assert await ask("a") == "a"
    neighbour.failures = [Unavailable("down")]
    assert await asyncio.to_thread(ask_plainly, value="b") == "b"
    assert neighbour.calls == 3 + 2


async def test_what_is_not_repeated() -> None:
    """A defect, an answer, and what may have been done: unless it may be done twice, or ``on`` says that it was not done."""
    for failure, options, calls in (
        (ValueError("a defect"), {}, 1),
        (Conflict("an answer"), {}, 1),
        (DeadlineExceeded(), {}, 1),
        (DeadlineExceeded(), {"idempotent": True}, 2),
        (ConnectionResetError(), {}, 1),
        (ConnectionResetError(), {"idempotent": True}, 2),
        (ConnectionResetError(), {"on": (ConnectionError,)}, 2),
        (ConnectionRefusedError(), {}, 2),
    ):
        neighbour = Failing(failure)
        ask = resilient(retry=Retry(base=0.001, **options))(lambda value, ask=neighbour: ask(value))
        if calls == 1:
            with pytest.raises(type(failure)):
                ask("a")
        else:
            assert ask("a") == "a"
        assert neighbour.calls == calls


async def test_an_attempt_has_its_own_time() -> None:
    """One that takes longer is ended, and counts as a time-out."""
    ended = []

    @resilient(retry=Retry(timeout="300ms", base=0.001, idempotent=True))
    async def slow() -> str:
        try:
            await asyncio.sleep(10 if len(ended) < 2 else 0)
        finally:
            ended.append("ended")
        return "done"

    assert await slow() == "done"
    assert len(ended) == 3


async def test_all_attempts_have_a_time_together() -> None:
    """With ``timeout`` the function is ended, and begun no more when there is no time left."""
    begun = []

    @resilient(Retry(attempts=100, base=0.001, cap=0.001, idempotent=True, budget=1), timeout="200ms", fallback="late")
    async def slow() -> str:
        begun.append(1)
        await asyncio.sleep(0.05 if len(begun) < 3 else 10)
        raise Unavailable("down")

    assert await slow() == "late"
    assert 1 < len(begun) < 5


async def test_a_fallback_stands_in_for_failures_only() -> None:
    """It gets the arguments; what the function decided is not replaced, and neither is a mistake in set-up."""
    neighbour = Failing(Unavailable("down"), ValueError("a defect"), Internal(), Conflict("an answer"), SetupError("not running"))

    @resilient(fallback=lambda value: f"{value}, or so")
    async def ask(value: str) -> str:
        return neighbour(value)

    assert [await ask("a"), await ask(value="b"), await ask("c")] == ["a, or so", "b, or so", "c, or so"]
    with pytest.raises(Conflict):
        await ask("d")
    with pytest.raises(SetupError):
        await ask("e")
    assert await ask("f") == "f"


async def test_a_fallback_hides_no_defect() -> None:
    """What it stands in for is in the log as an error with its traceback, whatever attributes it has; failures of services are not."""

    class Grumpy(Exception):
        details = "of a library"

    said = []
    sink = logger.add(lambda message: said.append(message.record), level="INFO")
    ask = resilient(fallback="nobody")(lambda value, ask=Failing(Grumpy(), Unavailable("down")): ask(value))
    try:
        assert [ask("a"), ask("a")] == ["nobody", "nobody"]
    finally:
        logger.remove(sink)
    assert [(record["level"].name, record["exception"].type) for record in said] == [("ERROR", Grumpy)]


async def test_a_breaker_of_a_function() -> None:
    """It opens, and is told under the name that it is given."""
    neighbour = Failing(ConnectionResetError(), RuntimeError("of a library"), ConnectionResetError())

    @resilient(breaker=Breaker(failures=3), name="the bank")
    def ask(value: str) -> str:
        return neighbour(value)

    for _ in range(3):
        with pytest.raises((ConnectionResetError, RuntimeError)):
            ask("a")
    with pytest.raises(Unavailable, match=r"the breaker to the bank is open, next try in 5\.0 s"):
        ask("a")
    assert neighbour.calls == 3


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("plain", [True, False])
async def test_it_holds_above_and_below_the_declaration(*, above: bool, plain: bool) -> None:
    """The order of decorators does not matter, and the function is still called by its name, with what it is provided."""
    app, neighbour = App("bank"), Failing(*[Unavailable("down")] * 2)
    guard = resilient(retry=QUICK)

    async def rate(value: str, *, context: Context = provided) -> str:
        return neighbour(f"{value} {context.kind}")

    def rate_plainly(value: str, *, context: Context = provided) -> str:
        return neighbour(f"{value} {context.kind}")

    function = rate_plainly if plain else rate
    declared = guard(app.rpc(function)) if above else app.rpc(guard(function))
    async with running(app) as t:
        assert await t.call(function.__name__, value="a") == "a rpc"
        assert await app.call(declared, value="b") == "b rpc"
    assert neighbour.calls == 4


async def test_it_ends_with_the_call_that_it_is_part_of() -> None:
    """No attempt is begun that could not end by the deadline of the call."""
    app, neighbour = App("bank"), Failing(*[Unavailable("down")] * 1000)

    @app.rpc(deadline=0.3)
    @resilient(retry=Retry(attempts=1000, base=0.02, cap=0.02, budget=1))
    async def rate() -> str:
        return neighbour("a")

    async with running(app) as t:
        with pytest.raises(Unavailable, match="down"):
            await t.call("rate")
    assert neighbour.calls > 3


def test_what_cannot_be_guarded() -> None:
    """Nothing to do, a stream, and a time for attempts that nothing can end are refused where they are written."""
    with pytest.raises(SetupError, match="does nothing"):
        resilient()
    with pytest.raises(SetupError, match=r"Write @resilient\(retry=Retry\(\)\)"):
        resilient(test_what_cannot_be_guarded)
    for made in (lambda: resilient(retry=3), lambda: App("a").service("bank", retry=3), lambda: App("a").service("bank", breaker=True)):
        with pytest.raises(SetupError, match=r"(retry=3 is no Retry\. Write retry=Retry\(attempts=3\)|breaker=True is no Breaker\. )"):
            made()
    with pytest.raises(SetupError, match=r"resilient\(timeout=\.\.\.\): 'soon' is no length of time"):
        resilient(timeout="soon")
    with pytest.raises(SetupError, match=r"rows \(.*test_resilient.py:\d+\): @resilient cannot begin a stream again"):

        @resilient(retry=QUICK)
        async def rows():
            yield 1

    with pytest.raises(SetupError, match=r"slow \(.*nothing can end a function that is not async"):

        @resilient(retry=Retry(timeout=1))
        def slow() -> None: ...
