"""nats-py, JetStream pull consumer in batches of 100, each message acknowledged."""

import asyncio

import nats
import nats.errors
import uvloop

from benchmarks.contestants.serving import NATS_URL, PROGRESS, Counter, forever
from benchmarks.payload import decode_order, receipt


async def main() -> None:
    client = await nats.connect(NATS_URL)
    counter = Counter(lambda data: client.publish(PROGRESS, data))
    subscription = await client.jetstream().pull_subscribe("bench.pull", durable="raw_pull")

    async def pull() -> None:
        while True:
            try:
                messages = await subscription.fetch(100, timeout=1.0)
            except (nats.errors.Error, TimeoutError):  # nothing came in time, which nats-py says in both ways
                continue
            for message in messages:
                receipt(decode_order(message.data))
                await message.ack()
                await counter.one_more()

    await asyncio.gather(forever(), pull())


uvloop.run(main())
