"""A consumer as a process of its own: notes each event that it handles in a file, and drains on SIGTERM.

python -m tests.messaging.jetstream.worker URL FILE MILLISECONDS
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

from cliffracer.messaging.bus import connect
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.jetstream import JetStream
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects

Note = Callable[[bytes], object]
"""Writes a line into the file."""


async def consume(url: str, file: str, made: Callable[[JetStream, Note], Consumption]) -> None:
    """Run a consumer until told to stop."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    notes = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(line: bytes) -> None:
        os.write(notes, line + b"\n")

    bus = await connect(Settings(nats_url=url, wait=20.0), name="worker")
    consumption = made(JetStream(bus), note)
    await consumption.start()
    note(b"ready")
    await stopped.wait()
    await consumption.drain(10)
    await bus.close()
    os.close(notes)


def slow(milliseconds: float, jetstream: JetStream, note: Note) -> Consumption:
    """Return a consumer that takes its time for each event."""

    async def handle(delivery: Delivery) -> None:
        if milliseconds:
            await asyncio.sleep(milliseconds / 1000)
        note(delivery.payload)

    return Consumption(jetstream, Subjects(), "users", "welcome", "user.created", handle, ack_wait=5.0)


if __name__ == "__main__":
    asyncio.run(consume(sys.argv[1], sys.argv[2], partial(slow, float(sys.argv[3]))))
