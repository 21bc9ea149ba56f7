"""What many need done at once is done once."""

import asyncio

import pytest

from cliffracer.messaging.singleflight import SingleFlight


async def test_all_who_come_meanwhile_share_one_round():
    """Those who come afterwards have another."""
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        await asyncio.sleep(0.01)

    flight = SingleFlight(work)
    await asyncio.gather(*(flight() for _ in range(100)))
    assert rounds == 1
    await flight()
    assert rounds == 2


async def test_all_get_what_it_raises_and_the_next_round_may_do_better():
    """Nothing is remembered of a failure."""
    failures = [ValueError("no")]

    async def work() -> None:
        await asyncio.sleep(0)
        if failures:
            raise failures.pop()

    flight = SingleFlight(work)
    assert [str(end) for end in await asyncio.gather(flight(), flight(), return_exceptions=True)] == ["no", "no"]
    await flight()


async def test_one_that_gives_up_leaves_the_others_theirs_and_the_last_ends_it():
    """No work goes on for nobody."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    flight = SingleFlight(work)
    first, second = asyncio.create_task(flight()), asyncio.create_task(flight())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0.01)
    assert not ended.is_set()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await asyncio.wait_for(ended.wait(), 5)


async def test_one_that_comes_as_the_last_gives_up_has_a_round_of_its_own():
    """The work of the others is being cancelled, and he is not: he got their `CancelledError`, which nobody had meant for him."""
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            await asyncio.Event().wait()

    flight = SingleFlight(work)
    first = asyncio.create_task(flight())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert first.done()
    await flight()
    assert rounds == 2
