"""nats-py as a client: request, publish and JetStream publish, msgspec by hand, uvloop."""

import nats
import uvloop

from benchmarks.contestants.driver import serve
from benchmarks.contestants.serving import NATS_URL
from benchmarks.payload import ORDER, decode_receipt, encode


async def main() -> None:
    client = await nats.connect(NATS_URL)
    jetstream = client.jetstream()
    asynchronous = client.jetstream(publish_async_max_pending=64)

    async def request(subject: str) -> bool:
        reply = await client.request(subject, encode(ORDER), timeout=10)
        return decode_receipt(reply.data).id == ORDER.id

    async def durable(subject: str) -> bool:
        return (await jetstream.publish(subject, encode(ORDER))).seq > 0

    async def durable_async(subject: str) -> bool:
        return (await (await asynchronous.publish_async(subject, encode(ORDER)))).seq > 0

    await serve({"request": request, "durable": durable, "durable_async": durable_async})


uvloop.run(main())
