"""One process that runs others of ``cliffracer run``, and the line between them.

The line is a socket. Down it goes a word, stop, or now for at once, or its end when the parent is gone; up comes one message: once
everything is bound and connected, and with it the listening sockets, which the parent keeps for the next child, so that no client is
refused in between; or why nothing will be. A child is in its parent's process group: Ctrl-C reaches it by itself, and being told to
stop as well is no second signal, whichever comes first.
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

import msgspec

from cliffracer.stop import Stop

log = logging.getLogger("cliffracer")
LINE = "_CLIFFRACER_LINE"
SOCKETS = "_CLIFFRACER_SOCKETS"
RELOADS = "_CLIFFRACER_RELOADS"
WORKER = "_CLIFFRACER_WORKER"
PATIENCE = 5.0  # seconds for what is accepted to finish in one that reloads; who saves a file does not wait longer
_NOW = b"now"
_LAST_WORDS = 1.0  # seconds that one that is ended at once has for them
_LONGEST = 1_000_000
_MOST_SOCKETS = 16


class Ready(msgspec.Struct, tag=True):
    """What a process says of itself once it serves."""

    names: str
    env: str
    addresses: list[str]
    lines: list[str]
    """What is served where, for people."""
    embedded: list[str]
    """The settings that name embedded servers."""


class Failed(msgspec.Struct, tag=True):
    """What a process says that will not serve."""

    trouble: str


class Parent:
    """The child's end of the line."""

    def __init__(self, line: socket.socket, sockets: list[socket.socket], *, reloads: bool, worker: str) -> None:
        self.sockets = sockets
        """That listen already."""
        self.reloads = reloads
        self.worker = worker
        """Which of several this is, ``1`` and so on; empty where there is one."""
        self._line = line

    @classmethod
    def found(cls) -> Self | None:
        """Return the line if this process is a child; it is taken out of the environment, since its own children are none."""
        line, sockets, reloads, worker = (os.environ.pop(name, "") for name in (LINE, SOCKETS, RELOADS, WORKER))
        if not line:
            return None
        listening = [_inherited(number) for number in sockets.split(",") if number]
        return cls(_inherited(line), listening, reloads=bool(reloads), worker=worker)

    def fileno(self) -> int:
        """Return what can be read when the parent says something, or is gone."""
        return self._line.fileno()

    def heard(self, loop: asyncio.AbstractEventLoop, stop: Stop) -> None:
        """Do what it said: stop, also where it is gone, or at once."""
        try:
            words = self._line.recv(64)
        except OSError:  # it was killed
            words = b""
        if not words:
            loop.remove_reader(self)
            if not stop.asked.is_set():
                log.warning("the process that runs this one is gone: stopping")
        stop.asked.set()
        if _NOW in words:
            loop.call_soon(stop.at_once)

    def ready(self, told: Ready, sockets: Sequence[socket.socket]) -> None:
        """Tell the parent that we serve, and give it the sockets."""
        self._say(told, sockets)

    def failed(self, trouble: str) -> None:
        """Tell the parent why we do not serve, unless it is gone."""
        with suppress(OSError):
            self._say(Failed(trouble), ())

    def _say(self, told: Ready | Failed, sockets: Sequence[socket.socket]) -> None:
        message = msgspec.json.encode(told)
        self._line.setblocking(True)
        socket.send_fds(self._line, [len(message).to_bytes(4)], [each.fileno() for each in sockets])
        self._line.sendall(message)


class Child:
    """One process, for as long as it runs."""

    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket) -> None:
        self.process = process
        self.ready: asyncio.Future[tuple[Ready, list[socket.socket]] | None] = asyncio.get_running_loop().create_future()
        """What it said, and its listening sockets; None if it ended, or will, without serving."""
        self.trouble = ""
        """Why it does not serve, if it said so."""
        self._line = line
        self._heard = b""
        self._sockets: list[socket.socket] = []
        asyncio.get_running_loop().add_reader(line, self._hear)

    @classmethod
    async def start(
        cls, arguments: Sequence[str], sockets: Sequence[socket.socket] = (), *, reloads: bool = False, worker: str = ""
    ) -> Self:
        """Start ``cliffracer run`` with these arguments, on sockets that listen already if there are some."""
        ours, theirs = socket.socketpair()
        numbers = [each.fileno() for each in sockets]
        known = {LINE: str(theirs.fileno()), SOCKETS: ",".join(map(str, numbers)), RELOADS: "1" if reloads else "", WORKER: worker}
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *_flags(), "-m", "cliffracer", "run", *arguments),
                pass_fds=(theirs.fileno(), *numbers),
                env={**os.environ, **known},
            )
        ours.setblocking(False)
        return cls(process, ours)

    def stop(self) -> None:
        """Ask it to finish what it accepted and end."""
        self._tell(b"stop")

    async def ended(self, within: float | None = None) -> int:
        """Return its exit code once it has ended; it is killed if it does not within some seconds."""
        try:
            async with asyncio.timeout(within):
                code = await self.process.wait()
        except TimeoutError:
            self.kill()
            code = await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._line)
        self._line.close()
        if not self.ready.done():
            self.ready.set_result(None)
        return code

    def drop(self) -> None:
        """End it now, at which it says what it had not finished; a moment later whatever it does."""
        if self.process.returncode is None:
            self._tell(_NOW)
            self.process.send_signal(signal.SIGTERM)  # which is heard also where it has not begun to listen
            asyncio.get_running_loop().call_later(_LAST_WORDS, self.kill)

    def kill(self) -> None:
        """End it at once."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)

    def _tell(self, word: bytes) -> None:
        with suppress(OSError):  # it has ended
            self._line.send(word)

    def _hear(self) -> None:
        """Take what came up the line; the reader of the loop calls this."""
        try:
            part, numbers, _, _ = socket.recv_fds(self._line, _LONGEST, _MOST_SOCKETS)
        except BlockingIOError:
            return
        except OSError:  # it ended without a word
            part, numbers = b"", []
        self._heard += part
        self._sockets += [socket.socket(fileno=number) for number in numbers]
        size = 4 + int.from_bytes(self._heard[:4])
        if part and (len(self._heard) < 4 or len(self._heard) < size):
            return
        asyncio.get_running_loop().remove_reader(self._line)
        told = msgspec.json.decode(self._heard[4:], type=Ready | Failed) if part else Failed("")
        if isinstance(told, Failed):
            self.trouble = told.trouble
        if not self.ready.done():
            self.ready.set_result((told, self._sockets) if isinstance(told, Ready) else None)


def _flags() -> list[str]:
    """Return the flags that this interpreter was given (``-X dev``, ``-W error``, ``-O``...), as `multiprocessing` hands them on."""
    given: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way
    return [*given, *(["-u"] if getattr(sys.__stdout__, "write_through", False) else [])]


def _inherited(number: str) -> socket.socket:
    found = socket.socket(fileno=int(number))
    found.set_inheritable(False)
    found.setblocking(False)
    return found
