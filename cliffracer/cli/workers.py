"""``cliffracer run --workers N``: processes that share the HTTP port; one that dies is started again."""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import click

from cliffracer.cli.children import PATIENCE, Child, Ready
from cliffracer.ending import Asked, asked_by_signals
from cliffracer.errors import SetupError
from cliffracer.settings import Settings

log = logging.getLogger("cliffracer")
_FIRST_PAUSE = 0.5  # seconds before a worker that died is started again; doubles
_LONGEST_PAUSE = 30.0
_STABLE = 20.0  # seconds of life after which the pause begins anew
_GRACE = 9.0  # beyond the drain, before a worker is killed: what it takes to let go of servers that hang


async def working(arguments: Sequence[str], settings: Settings, number: int, tell: Callable[[Ready, str], None]) -> None:
    """Run so many workers until a signal asks to end, then drain all of them; SetupError if the first does not come up."""
    crew = Crew(arguments, settings.drain + _GRACE)
    with closing(crew), asked_by_signals(crew.stop, crew.drop):
        ready = await crew.first()
        if ready is not None:
            tending = [asyncio.create_task(crew.tend(index)) for index in range(number)]
            if await crew.all_ready(number):
                tell(ready, f"{number} workers")
            await asyncio.gather(*tending)
        if crew.dropped:
            raise click.exceptions.Exit(130)
        if crew.failed:
            raise click.exceptions.Exit(1)
        crew.word.tell(f"{ready.names}, {number} workers," if ready else f"{number} workers", served=ready is not None)


class Crew:
    """The workers of one run, the sockets that they share, and the word that ends them."""

    def __init__(self, arguments: Sequence[str], patience: float) -> None:
        self._arguments = arguments
        self._patience = patience
        self._stopped = asyncio.Event()
        self._children: dict[int, Child] = {}
        self._ready: set[int] = set()
        self._changed = asyncio.Event()
        self._sockets: list[socket.socket] = []
        self.word = Asked()
        self.dropped = False
        """Whether they were ended at once."""
        self.failed = False
        """Whether one of them did not end in order."""

    def stop(self, by: str) -> None:
        """Let all finish what they accepted."""
        self.word.note(by)
        for child in self._children.values():
            child.stop()
        self._stopped.set()
        self._changed.set()

    def drop(self) -> None:
        """End them at once."""
        self.dropped = True
        for child in self._children.values():
            child.drop()

    def close(self) -> None:
        """End what is left and give the port back."""
        for child in self._children.values():
            child.kill()
        for each in self._sockets:
            each.close()

    async def first(self) -> Ready | None:
        """Start the first worker, which binds the port for all; None if it was told to stop meanwhile."""
        child = await self._begun(0)
        told = await child.ready
        if told is None:
            code = await child.ended(PATIENCE)
            if self._stopped.is_set():
                return None
            ended = "did not start, nor end by itself" if child.trouble and code < 0 else f"ended with {_worded(code)}"
            raise SetupError(f"the first worker {ended}; see above.")
        ready, self._sockets = told
        return ready

    async def all_ready(self, number: int) -> bool:
        """Return once so many serve; False if they are told to stop before."""
        while len(self._ready) < number and not self._stopped.is_set():
            self._changed.clear()
            await self._changed.wait()
        return not self._stopped.is_set()

    async def tend(self, index: int) -> None:
        """Keep one worker running until all are told to stop."""
        pause, again = _FIRST_PAUSE, False
        while not self._stopped.is_set():
            began = time.monotonic()
            child = self._children.get(index) or await self._begun(index)
            if served := await child.ready is not None:
                self._ready.add(index)
                self._changed.set()
                if again:
                    log.info("worker %d (pid %d) serves again", index + 1, child.process.pid)
            code = await self._end_of(child) if served else await child.ended(PATIENCE)
            del self._children[index]
            if self._stopped.is_set():
                if served and code and not self.dropped:
                    self.failed = True
                    log.warning("worker %d (pid %d) did not stop in order: it ended with %s", index + 1, child.process.pid, _worded(code))
                return
            pause = _FIRST_PAUSE if time.monotonic() - began > _STABLE else pause
            log.warning("worker %d (pid %d) ended with %s; starting it again in %g s", index + 1, child.process.pid, _worded(code), pause)
            await self._rest(pause)
            pause, again = min(pause * 2, _LONGEST_PAUSE), True

    async def _begun(self, index: int) -> Child:
        child = self._children[index] = await Child.start(self._arguments, self._sockets, worker=str(index + 1))
        if self._stopped.is_set():
            child.stop()  # it was not there yet when all were told
        return child

    async def _end_of(self, child: Child) -> int:
        ending, stopping = asyncio.create_task(child.process.wait()), asyncio.create_task(self._stopped.wait())
        await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        return await child.ended(self._patience)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return


def _worded(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
