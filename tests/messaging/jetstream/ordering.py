"""A consumer in order as a process of its own: notes ``key number process`` of each event that it handles in a file; some fail at first.

python -m tests.messaging.jetstream.ordering URL FILE
"""

import asyncio
import os
import signal
import sys

from cliffracer.messaging.bus import connect
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.ordered import Ordered
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects


async def main(url: str, file: str) -> None:
    """Consume until told to stop."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    notes = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def handle(delivery: Delivery) -> None:
        await asyncio.sleep(0.002)
        if int(delivery.payload.split()[1]) % 50 == 7 and delivery.attempt == 1:
            raise ValueError("at first")
        os.write(notes, b"%s %d\n" % (delivery.payload, os.getpid()))

    bus = await connect(Settings(nats_url=url, wait=20.0), name="worker")
    consumption = Ordered(
        JetStream(bus), Subjects(), "users", "welcome", "user.created", handle, retry=(0.2,) * 20, ack_wait=3.0, lease=1.5
    )  # fmt: skip
    await consumption.start()
    os.write(notes, b"ready\n")
    await stopped.wait()
    await consumption.drain(10)
    await bus.close()
    os.close(notes)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
