"""FastStream as a client: request and JetStream publish, logging off."""

import uvloop
from faststream.nats import NatsBroker

from benchmarks.contestants.driver import serve
from benchmarks.contestants.serving import NATS_URL
from benchmarks.payload import ORDER, encode
from benchmarks.payload_pydantic import Order, Receipt

order = Order.model_validate_json(encode(ORDER))


async def main() -> None:
    broker = NatsBroker(NATS_URL, logger=None)
    await broker.start()

    async def request(subject: str) -> bool:
        reply = await broker.request(order, subject, timeout=10)
        return Receipt.model_validate(await reply.decode()).id == order.id

    async def durable(subject: str) -> bool:
        found = await broker.publish(order, subject, stream="BENCH")
        return found is not None and found.seq > 0

    await serve({"request": request, "durable": durable})


uvloop.run(main())
