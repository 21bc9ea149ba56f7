"""NATS micro, the service framework inside nats-py."""

import nats
import nats.micro
import uvloop
from nats.micro.request import Request

from benchmarks.contestants.serving import NATS_URL, forever
from benchmarks.payload import decode_order, encode, receipt


async def place(request: Request) -> None:
    await request.respond(encode(receipt(decode_order(request.data))))


async def main() -> None:
    client = await nats.connect(NATS_URL)
    service = await nats.micro.add_service(client, name="micro", version="1.0.0")
    await service.add_group(name="micro").add_endpoint(name="place", handler=place)
    await client.flush()
    await forever()


uvloop.run(main())
