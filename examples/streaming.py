"""Streams: an async generator answers with many values, over RPC, as Server-Sent Events and as lines of JSON.

```sh
cliffracer run examples.streaming:app
```

Then, in another terminal:

```sh
$ cliffracer call --stream streaming.primes below=12
2
3
5
7
11
$ curl -s -H 'Accept: application/x-ndjson' 'http://127.0.0.1:8000/primes?below=6'
2
3
5
$ curl -s -H 'Accept: text/event-stream' 'http://127.0.0.1:8000/primes?below=4'
data: 2
data: 3
```
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from cliffracer import App

app = App("streaming", description="answers in many parts")


class Tick(Struct):
    number: int
    at: datetime


# The consumer sets the pace: RPC sends a window of chunks and waits until they are taken, HTTP waits for the socket.
# However long the stream is, little of it is in memory.
@app.rpc
@app.get("/primes")
async def primes(below: Annotated[int, Meta(le=1_000_000)] = 100) -> AsyncIterator[int]:
    """Yield the primes below a number."""
    for candidate in range(2, below):
        if all(candidate % divisor for divisor in range(2, int(candidate**0.5) + 1)):
            yield candidate
        elif candidate % 1000 == 0:
            await asyncio.sleep(0)  # a loop that computes lets the other calls have their turn


# A stream without an end: it runs until the client goes away. Then the generator is cancelled, and its `finally` runs.
@app.rpc
@app.get("/clock")
async def clock(interval: Annotated[float, Meta(ge=0.01)] = 1.0) -> AsyncIterator[Tick]:
    """Yield the time, again and again."""
    number = 0
    while True:
        yield Tick(number, datetime.now(UTC))
        number += 1
        await asyncio.sleep(interval)


# The other side: this handler consumes a stream of another service (here its own). Leaving the loop ends the clock.
@app.rpc
async def three_ticks() -> float:
    """Return how many seconds three ticks of the clock took."""
    seen: list[Tick] = []
    async for tick in app.stream(clock, interval=0.05):
        seen.append(tick)
        if len(seen) == 3:
            break
    return (seen[-1].at - seen[0].at).total_seconds()
