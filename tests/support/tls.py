"""TLS in front of a PostgreSQL that has none: it answers the request for encryption, and passes on what was encrypted."""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator

SSL_REQUEST, GSS_REQUEST = 80_877_103, 80_877_104  # PostgreSQL's protocol, "SSLRequest" and "GSSENCRequest"


@contextlib.asynccontextmanager
async def encrypted(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Yield the port of a TLS end for the server on a port of loopback."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await _pass_on(port, context, reader, writer)
        finally:
            writer.transport.abort()
            tasks.discard(task)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as listening:
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks)


async def _pass_on(port: int, context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readexactly(8)
    while struct.unpack("!ii", head) == (8, GSS_REQUEST):
        writer.write(b"N")
        head = await reader.readexactly(8)
    if struct.unpack("!ii", head) == (8, SSL_REQUEST):
        writer.write(b"S")
        await writer.drain()
        await writer.start_tls(context)
        head = b""
    there, back = await asyncio.open_connection("127.0.0.1", port)
    back.write(head)
    try:
        pumps = [asyncio.create_task(_pump(reader, back)), asyncio.create_task(_pump(there, writer))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
    finally:
        back.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
