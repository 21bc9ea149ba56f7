"""The server for clients: raw sockets, the same answer for all."""

import uvloop

from benchmarks.contestants.serving import NATS_URL, forever
from benchmarks.load.nats import Responder, connect


async def main() -> None:
    responder = Responder()
    await connect(NATS_URL, responder)
    responder.transport.write(b"SUB echo.place 1\r\n")
    await responder.flush()
    await forever()


uvloop.run(main())
