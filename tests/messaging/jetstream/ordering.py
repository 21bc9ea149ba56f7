"""A consumer in order as a process of its own: notes ``key number process`` of each event that it handles in a file; some fail at first.

python -m tests.messaging.jetstream.ordering URL FILE
"""

import asyncio
import os
import sys

from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.ordered import Ordered
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.worker import Note, consume


def in_order(jetstream: JetStream, note: Note) -> Ordered:
    """Return the consumer."""

    async def handle(delivery: Delivery) -> None:
        await asyncio.sleep(0.002)
        if int(delivery.payload.split()[1]) % 50 == 7 and delivery.attempt == 1:
            raise ValueError("at first")
        note(b"%s %d" % (delivery.payload, os.getpid()))

    return Ordered(jetstream, Subjects(), "users", "welcome", "user.created", handle, retry=(0.2,) * 20, ack_wait=3.0, lease=1.5)


if __name__ == "__main__":
    asyncio.run(consume(sys.argv[1], sys.argv[2], in_order))
