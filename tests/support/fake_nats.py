"""A scripted NATS server, for what a real one does not do on demand: last words, announcements, nonsense, silence."""

import asyncio
import contextlib
import json
from types import TracebackType
from typing import Any, Self


class FakeNats:
    """Greets, answers PING, and says what a test wants with `say`; `lines` has what clients sent."""

    def __init__(self, **info: Any) -> None:
        self.info = {"server_id": "fake", "version": "2.15.0", "headers": True, "max_payload": 1_048_576, "proto": 1, **info}
        self.greeting_error: str | None = None
        self.lines: list[bytes] = []
        self.connects = 0
        self.answers_pings = True
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"nats://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        self.hang_up()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def say(self, data: bytes) -> None:
        """Send bytes to every client."""
        for writer in self._writers:
            writer.write(data)

    def hang_up(self) -> None:
        """Cut every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connects += 1
        try:
            writer.write(b"INFO " + json.dumps(self.info).encode() + b"\r\n")
            await self._answer(reader, writer)
        except (OSError, asyncio.CancelledError):  # the client is gone, or the test is over
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            with contextlib.suppress(OSError):
                writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.lines.append(line.rstrip())
            if line.startswith(b"CONNECT") and self.greeting_error is not None:
                writer.write(f"-ERR '{self.greeting_error}'\r\n".encode())
                await writer.drain()
                return
            if line.startswith(b"PING") and self.answers_pings:
                writer.write(b"PONG\r\n")
            elif line.startswith((b"PUB", b"HPUB")):
                await reader.readexactly(int(line.split()[-1]) + 2)
