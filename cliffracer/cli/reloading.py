"""``cliffracer run --reload``: runs anew when a file changes. The port and the embedded servers stay."""

import asyncio
import importlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

from cliffracer import embedded
from cliffracer.cli.children import PATIENCE, Child, Ready
from cliffracer.cli.output import bad, good, odd, printable, say, soft
from cliffracer.cli.pause import pausing
from cliffracer.cli.standin import standing_in
from cliffracer.client import in_thread
from cliffracer.ending import asked_by_signals
from cliffracer.errors import SetupError
from cliffracer.settings import Settings

WATCHED = {".py", ".toml", ".sql", ".env"}
_UNWATCHED = {"__pycache__", "node_modules", "site-packages", "build", "dist", "venv"}


async def reloading(arguments: Sequence[str], settings: Settings, tell: Callable[[Ready, str], None]) -> None:
    """Run and run anew at each change, until a signal asks to end."""
    try:
        watchfiles = importlib.import_module("watchfiles")  # of cliffracer[dev]
    except ImportError:
        raise SetupError('--reload needs cliffracer[dev]: pip install "cliffracer[dev]".') from None
    async with AsyncExitStack() as stack:
        watch = Reload(arguments, min(settings.drain, PATIENCE), tell, stack)
        stack.enter_context(asked_by_signals(watch.stop, watch.drop))
        changes = watchfiles.awatch(".", watch_filter=_is_watched, stop_event=watch.stopped, step=50, debounce=400)
        await watch.run(changes)
        if watch.dropped:
            raise click.exceptions.Exit(130)


class Reload:
    """The process that serves now, and what it left for the next one."""

    def __init__(self, arguments: Sequence[str], patience: float, tell: Callable[[Ready, str], None], stack: AsyncExitStack) -> None:
        self.stopped = asyncio.Event()
        self.dropped = False
        """Whether it was ended at once."""
        self._arguments = arguments
        self._patience = patience
        self._tell = tell
        self._stack = stack
        self._child: Child | None = None
        self._sockets: list[socket.socket] = []
        self._kept: list[str] = []
        self._began = 0.0
        self._changing = asyncio.Lock()
        self._instead = AsyncExitStack()

    def stop(self, _by: str) -> None:
        """Let it finish what it accepted."""
        if self._child is not None:
            self._child.stop()
        self.stopped.set()

    def drop(self) -> None:
        """End it at once."""
        if self._child is not None:
            self._child.drop()
            self.dropped = True

    async def run(self, changes: AsyncIterator[set[tuple[Any, str]]]) -> None:
        """Start, and start again at each change; return when stopped."""
        coming = asyncio.ensure_future(anext(changes, None))
        await asyncio.sleep(0)  # it looks from here on: a change while the first process starts is none too early
        await self._start()
        watching = asyncio.create_task(self._look())
        try:
            while (batch := await coming) is not None:
                files = sorted({_relative(path) for _, path in batch})
                if not _broken(files, runs=self._child is not None):
                    await self._anew(files)
                coming = asyncio.ensure_future(anext(changes, None))
        finally:
            watching.cancel()
            if self._child is not None:
                await self._child.ended(self._patience + 1.0)
            await self._instead.aclose()
            for each in self._sockets:
                each.close()

    async def _anew(self, files: list[str]) -> None:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        say(soft(f"{printable(files[0])}{more} changed: running anew"), err=True)
        child, self._child = self._child, None
        if child is not None:
            child.stop()
            await child.ended(self._patience + 1.0)
        await self._start()

    async def _start(self) -> None:
        async with self._changing:
            await self._instead.aclose()
            if not self.stopped.is_set():
                await self._started()

    async def _started(self) -> None:
        first, self._began = not self._sockets and not self._kept, time.monotonic()
        with pausing("`cliffracer run --reload` starts it just now: try again."):
            child = self._child = await Child.start(self._arguments, self._sockets, reloads=True)
            told = await child.ready
        if told is None:
            await self._gone(child)
            return
        ready, sockets = told
        self._sockets, old = sockets or self._sockets, self._sockets if sockets else []
        for each in old:
            each.close()
        if first:
            self._tell(ready, "watching for changes")
        else:
            say(f"{good('ready')} {soft(f'in {time.monotonic() - self._began:.2f} s')}", err=True)
        await self._keep(ready)

    async def _keep(self, ready: Ready) -> None:
        """Use the embedded servers that the child uses, so that they stay while it is away."""
        new = [name for name in ready.embedded if name not in self._kept]
        if new:
            self._kept += new
            nats, database = "nats_url" in new, "database_url" in new
            await in_thread(self._stack, lambda: embedded.servers(nats=nats, database=database))

    async def _look(self) -> None:
        """Say so when it ends by itself."""
        while True:
            child = self._child
            if child is not None and child.process.returncode is not None and child.ready.done() and not self.stopped.is_set():
                async with self._changing:
                    if self._child is child:
                        await self._gone(child)
            await asyncio.sleep(0.2)

    async def _gone(self, child: Child) -> None:
        """Say that nothing serves any more, to the terminal and to whoever asks meanwhile."""
        ended = f"It ended with exit code {await child.ended(self._patience + 1.0)}"  # a thread of the module's could keep it for ever
        self._child = None
        if self.stopped.is_set():
            return
        say(odd(f"{ended}: waiting for the next change."), err=True)
        trouble = child.trouble or f"{ended}; see what it printed."
        said = dict.fromkeys((*trouble.splitlines()[:1], *trouble.splitlines()[-1:]))  # without the frames between
        self._instead.enter_context(pausing(f"`cliffracer run --reload` waits here for the next change: {' '.join(said)}"))
        await self._instead.enter_async_context(standing_in(self._sockets, trouble))


def _broken(files: Sequence[str], *, runs: bool) -> bool:
    """Say whether a changed file is no Python, and show where: what runs, if anything does, keeps running."""
    for name in files:
        if not name.endswith(".py") or not Path(name).is_file():
            continue
        try:
            compile(Path(name).read_bytes(), name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = (getattr(error, "text", None) or "").rstrip()
            say(f"{bad('Error:')} {name}:{getattr(error, 'lineno', 0) or 0}: {error.args[0]}\n    {printable(line.strip())}", err=True)
            say(odd(f"{'What ran before still runs: w' if runs else 'W'}aiting for the next change."), err=True)
            return True
    return False


def _is_watched(_change: object, path: str) -> bool:
    parts = Path(_relative(path)).parts
    if any(part in _UNWATCHED or part.startswith(".") for part in parts[:-1]):
        return False
    return Path(path).suffix in WATCHED or parts[-1].startswith(".env")


def _relative(path: str) -> str:
    return os.path.relpath(path)
