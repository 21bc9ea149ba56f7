"""nats-py, JetStream push consumer, each message acknowledged."""

import nats
import uvloop
from nats.aio.msg import Msg

from benchmarks.contestants.serving import NATS_URL, PROGRESS, Counter, forever
from benchmarks.payload import decode_order, receipt


async def main() -> None:
    client = await nats.connect(NATS_URL)
    counter = Counter(lambda data: client.publish(PROGRESS, data))

    async def consume(message: Msg) -> None:
        receipt(decode_order(message.data))
        await message.ack()
        await counter.one_more()

    await client.jetstream().subscribe("bench.push", durable="raw_push", cb=consume, manual_ack=True)
    await client.flush()
    await forever()


uvloop.run(main())
