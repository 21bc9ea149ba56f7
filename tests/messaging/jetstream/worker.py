"""A consumer as a process of its own: notes each event that it handles in a file, and drains on SIGTERM.

python -m tests.messaging.jetstream.worker URL FILE MILLISECONDS
"""

import asyncio
import os
import signal
import sys

from cliffracer.messaging.bus import connect
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.jetstream import JetStream
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects


async def main(url: str, file: str, milliseconds: float) -> None:
    """Consume until told to stop."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    notes = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def handle(delivery: Delivery) -> None:
        if milliseconds:
            await asyncio.sleep(milliseconds / 1000)
        os.write(notes, delivery.payload + b"\n")

    bus = await connect(Settings(nats_url=url, wait=20.0), name="worker")
    consumption = Consumption(JetStream(bus), Subjects(), "users", "welcome", "user.created", handle, ack_wait=5.0)
    await consumption.start()
    os.write(notes, b"ready\n")
    await stopped.wait()
    await consumption.drain(10)
    await bus.close()
    os.close(notes)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
