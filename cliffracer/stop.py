"""Serves until somebody asks for the end: a signal, or whoever has the `Stop`."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from loguru import logger

from cliffracer.app import App
from cliffracer.ending import Asked, asked_by_signals
from cliffracer.messaging.bus import is_closed
from cliffracer.resilience.deadlines import tell_unfinished
from cliffracer.runtime import Running, running
from cliffracer.settings import Settings

_UNSAID = 1.5  # seconds of a stop that nobody wonders about: clients of HTTP are given one of them to leave
_STOPPING = "stopping: accepted work is finished first, within {:g} s; a second signal ends it at once"


class Stop:
    """The word that ends what is served: one in order, a second signal at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        """Set it to end in order. A signal after that is the first all the same: both may come of one Ctrl-C, in either order."""
        self.word = Asked()
        """Which signal it was, if it was one."""
        self.served: list[Running] = []

    def signalled(self, name: str) -> None:
        """Take a signal that asks for the end in order."""
        self.word.note(name)
        self.asked.set()

    def at_once(self) -> None:
        """Say what is not finished, and exit."""
        tell_unfinished((service.assembly.watch for up in self.served for service in up.services), "at once")
        self.served.clear()  # told: a third signal may come before the end
        logging.getLogger("uvicorn.error").disabled = True  # a traceback for each request that ends now
        raise SystemExit(130)


async def serve(
    apps: Sequence[App],
    settings: Settings,
    *,
    sockets: Sequence[socket.socket] | None = None,
    ready: Callable[[Running], object] | None = None,
    stop: Stop | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then drain and return; a second signal exits at once. ``ready(running)`` is called once.

    ``stop`` is for others who may ask for the same. Before it is ready it has accepted nothing: the first word ends the start.
    """
    stop, loop = stop or Stop(), asyncio.get_running_loop()

    async def serving() -> None:
        with ExitStack() as said:
            async with running(apps, settings, sockets=sockets) as up:
                stop.served.append(up)
                if ready is not None:
                    ready(up)
                await stop.asked.wait()
                if loop.get_exception_handler() is None:
                    loop.set_exception_handler(_last_words)
                said.callback(loop.call_later(_UNSAID, lambda: logger.info(_STOPPING, settings.drain)).cancel)

    with asked_by_signals(stop.signalled, stop.at_once):
        starting, stopping = asyncio.create_task(serving()), asyncio.create_task(stop.asked.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not stop.served and starting.cancel():
            await asyncio.wait({starting})
        if not starting.cancelled():
            await starting


def _last_words(loop: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
    """Tell what a loop tells, except of a task of the user's that only the end of the connection has ended: it ends all of them."""
    if not is_closed(told.get("exception")):
        loop.default_exception_handler(told)
