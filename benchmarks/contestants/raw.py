"""nats-py as it comes: a callback per subscription, msgspec by hand, uvloop. The baseline."""

import nats
import uvloop
from nats.aio.msg import Msg

from benchmarks.contestants.serving import NATS_URL, PROGRESS, Counter, forever
from benchmarks.payload import decode_order, encode, receipt


async def place(message: Msg) -> None:
    await message.respond(encode(receipt(decode_order(message.data))))


async def main() -> None:
    client = await nats.connect(NATS_URL)
    counter = Counter(lambda data: client.publish(PROGRESS, data))

    async def consume(message: Msg) -> None:
        receipt(decode_order(message.data))
        await counter.one_more()

    await client.subscribe("raw.place", queue="raw", cb=place)
    await client.subscribe("raw.event", queue="raw", cb=consume)
    await client.flush()
    await forever()


uvloop.run(main())
