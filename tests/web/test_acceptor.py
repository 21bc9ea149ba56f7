"""Connections that come all at once."""

import asyncio
import errno
import socket
from typing import Any

import pytest
from loguru import logger

from cliffracer import App
from cliffracer.web.acceptor import Acceptor
from tests.support.waiting import eventually

uvloop = pytest.importorskip("uvloop")
MANY = 200


def test_clients_who_come_together_are_let_in_together(serve: Any, app: App) -> None:
    """Two hundred need few turns of the loop, one of which may be long: uvloop itself accepts one in each."""

    @app.get("/")
    async def hello() -> str:
        return "hello"

    async def main() -> int:
        loop = asyncio.get_running_loop()
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        async with serve(app) as served:
            clients = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(MANY)]
            turn()
            while len(served.server._state.connections) < MANY:  # noqa: ASYNC110 - turns are what is counted
                await asyncio.sleep(0)
            needed = turns
            clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await asyncio.to_thread(clients[-1].recv, 4096)
            assert answer.startswith(b"HTTP/1.1 200")
            for client in clients:
                client.close()
            await eventually(lambda: not served.server._state.connections)
            return needed

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) < MANY / 4


class Full:
    """A listener of a process that has as many open files as it may."""

    def setblocking(self, _: bool) -> None:
        """Do nothing."""

    def accept(self) -> None:
        """Accept nobody."""
        raise OSError(errno.EMFILE, "Too many open files")


async def test_a_process_that_can_accept_no_more_says_so() -> None:
    """Once in a while, with what to do: uvloop turns clients away without a word."""
    acceptor, lines = Acceptor(), list[str]()
    listener: Any = Full()
    acceptor.open([listener, listener], asyncio.Protocol)
    sink = logger.add(lines.append, format="{message}")
    try:
        for _ in range(3):
            acceptor.accepted()
            await asyncio.sleep(0)
    finally:
        logger.remove(sink)
        acceptor.close()
    [line] = lines
    assert line.startswith("no connection can be accepted (Too many open files); raise the limit")
