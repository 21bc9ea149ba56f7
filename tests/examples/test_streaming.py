"""examples/streaming.py: the same generator over RPC, as events and as lines."""

import json

from cliffracer.testing import running
from examples.streaming import app

FIRST = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]


async def test_a_stream_comes_item_by_item_over_rpc():
    """All chunks arrive, in order, also when there are more than one window of them."""
    async with running(app) as t:
        found = [number async for number in t.stream("primes", below=2000)]
        assert found[:10] == FIRST
        assert len(found) == 303


async def test_a_stream_comes_as_events_or_lines_over_http():
    """The Accept header chooses."""
    async with running(app) as t:
        lines = await t.http.get("/primes", params={"below": 30}, headers={"Accept": "application/x-ndjson"})
        assert [json.loads(line) for line in lines.text.splitlines()] == FIRST
        events = await t.http.get("/primes", params={"below": 30}, headers={"Accept": "text/event-stream"})
        assert [int(line.removeprefix("data: ")) for line in events.text.splitlines() if line] == FIRST


async def test_leaving_an_endless_stream_ends_it():
    """The consumer that breaks off cancels the generator: nothing of it runs on."""
    async with running(app) as t:
        async for tick in t.stream("clock", interval=0.01):
            if tick["number"] == 2:
                break
        assert 0 < await t.call("three_ticks") < 5
        await t.settled()
