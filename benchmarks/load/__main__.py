"""A load process: one command per line of JSON on its input, one result per line on its output."""

import asyncio
import os
import sys

import msgspec
import uvloop

from benchmarks.load.http import Crowd
from benchmarks.load.nats import Connection, Publisher, Requester, connect
from benchmarks.load.result import Result
from benchmarks.load.websocket import Audience


class Command(msgspec.Struct):
    """What to do: request, publish, http or broadcast."""

    do: str
    subject: str = ""
    inflight: int = 1
    seconds: float = 1.0
    calls: int = 0
    headers: bool = False
    progress: str = ""
    window: int = 2000
    port: int = 0
    method: str = "GET"
    path: str = "/"


audiences: dict[int, tuple[Audience, Connection]] = {}
"""By port: their connections stay open from command to command, so that only broadcasts are measured."""


async def request(command: Command) -> Result:
    """Keep requests in flight."""
    requester = Requester(command.subject, command.inflight, headers=command.headers)
    await connect(os.environ["NATS_URL"], requester)
    result = await requester.run(command.seconds, command.calls)
    requester.transport.close()
    return result


async def publish(command: Command) -> Result:
    """Feed a consumer."""
    publisher = Publisher(command.subject, command.progress, window=command.window)
    await connect(os.environ["NATS_URL"], publisher)
    result = await publisher.run(command.calls)
    publisher.transport.close()
    return result


async def http(command: Command) -> Result:
    """Keep connections busy."""
    return await Crowd(command.port, command.method, command.path).run(command.inflight, command.seconds)


async def broadcast(command: Command) -> Result:
    """Publish to everybody who watches a WebSocket."""
    if command.port not in audiences:
        audience, connection = Audience(command.port, command.path), Connection()
        await connect(os.environ["NATS_URL"], connection)
        await audience.gather(command.inflight)
        await audience.settle(connection, command.subject)
        audiences[command.port] = audience, connection
    audience, connection = audiences[command.port]
    return await audience.watch(connection, command.subject, command.seconds)


COMMANDS = {"request": request, "publish": publish, "http": http, "broadcast": broadcast}


async def main() -> None:
    """Serve commands until the input ends."""
    print("ready", file=sys.stderr, flush=True)
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        command = msgspec.json.decode(line, type=Command)
        try:
            result = await COMMANDS[command.do](command)
        except (OSError, TimeoutError) as error:
            result = Result(0, 0.0, 1, repr(error))
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
