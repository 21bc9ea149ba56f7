"""What every server contestant shares: its place in the run, its ready line, and the count it tells a publisher."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

NATS_URL = os.environ.get("NATS_URL", "")
PORT = int(os.environ.get("HTTP_PORT", "0"))
PROGRESS = "progress.bench"
STEP = 500


async def forever() -> None:
    """Say ready and serve until the harness ends the process."""
    print("ready", file=sys.stderr, flush=True)
    await asyncio.Event().wait()


class Counter:
    """Counts consumed messages and tells the publisher each 500, so that it need not flood."""

    def __init__(self, tell: Callable[[bytes], Awaitable[object]]) -> None:
        self.count = 0
        self.tell = tell

    async def one_more(self) -> None:
        self.count += 1
        if self.count % STEP == 0:
            await self.tell(b"%d" % self.count)
