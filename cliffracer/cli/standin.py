"""Answers where an app should that could not start again: 503 (RFC 9110, section 15.6.4) with what is the matter.

It has the listening sockets for as long as no process of the app does: whoever asks is told at once, and does not wait for the next change.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from cliffracer.errors import Unavailable
from cliffracer.web.answers import document

_PATIENCE = 5.0  # seconds for a client to send its request, and to take the answer
_LARGEST = 65_536  # bytes of the head of a request
_BACKLOG = 2048


@asynccontextmanager
async def standing_in(sockets: Iterable[socket.socket], trouble: str) -> AsyncIterator[None]:
    """Answer every request on these sockets while the block runs; they listen on after it, and who comes then is the next one's."""
    body = document(Unavailable.status, Unavailable.title, trouble, Unavailable.code, {})
    head = [
        "HTTP/1.1 503 Service Unavailable",
        "content-type: application/problem+json",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        "connection: close",
    ]
    sent = "\r\n".join([*head, "", ""]).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(sent if request.startswith(b"HEAD ") else sent + body)
                writer.write_eof()
                while await reader.read(_LARGEST):  # closing on what was not read would reset the connection, and take the answer along
                    pass

    async with AsyncExitStack() as stack:
        for each in sockets:
            server = await asyncio.start_server(answer, sock=each.dup(), limit=_LARGEST, backlog=_BACKLOG)
            stack.callback(server.close)
        yield
