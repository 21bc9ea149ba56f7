"""FastStream with its logging off: request/reply, core events, and durable events by push and by pull."""

import asyncio

import uvloop
from faststream import FastStream
from faststream.nats import JStream, NatsBroker, PullSub

from benchmarks.contestants.serving import NATS_URL, PROGRESS, Counter, forever
from benchmarks.payload_pydantic import Order, Receipt, receipt

broker = NatsBroker(NATS_URL, logger=None)
app = FastStream(broker, logger=None)
stream = JStream("BENCH", declare=False)
counter = Counter(lambda data: broker.publish(data, PROGRESS))


@broker.subscriber("faststream.place", queue="faststream")
async def place(order: Order) -> Receipt:
    return receipt(order)


@broker.subscriber("faststream.wait", queue="faststream", max_workers=64)
async def wait(order: Order) -> Receipt:
    await asyncio.sleep(0.002)
    return receipt(order)


@broker.subscriber("faststream.event", queue="faststream")
async def event(order: Order) -> None:
    receipt(order)
    await counter.one_more()


@broker.subscriber("bench.faststream_push", stream=stream, durable="faststream_push")
async def pushed(order: Order) -> None:
    receipt(order)
    await counter.one_more()


@broker.subscriber("bench.faststream_pull", stream=stream, durable="faststream_pull", pull_sub=PullSub(batch_size=100, timeout=1.0))
async def pulled(order: Order) -> None:
    receipt(order)
    await counter.one_more()


async def main() -> None:
    await app.start()
    await forever()


uvloop.run(main())
