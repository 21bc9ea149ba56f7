"""A load process: one command per line of JSON on its input, one result per line on its output."""

import os
import sys

import msgspec
import uvloop

from benchmarks.load.http import Crowd
from benchmarks.load.nats import Connection, Publisher, Requester, connect
from benchmarks.load.result import Result


class Command(msgspec.Struct):
    """What to do: request, publish or http."""

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


async def run(command: Command) -> Result:
    """Do one command over fresh connections."""
    if command.do == "http":
        return await Crowd(command.port, command.method, command.path).run(command.inflight, command.seconds)
    connection: Connection
    if command.do == "request":
        connection = requester = Requester(command.subject, command.inflight, headers=command.headers)
        await connect(os.environ["NATS_URL"], connection)
        result = await requester.run(command.seconds, command.calls)
    else:
        connection = publisher = Publisher(command.subject, command.progress, window=command.window)
        await connect(os.environ["NATS_URL"], connection)
        result = await publisher.run(command.calls)
    connection.transport.close()
    return result


def main() -> None:
    """Serve commands until the input ends."""
    print("ready", file=sys.stderr, flush=True)
    for line in sys.stdin.buffer:
        result = uvloop.run(run(msgspec.json.decode(line, type=Command)))
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
