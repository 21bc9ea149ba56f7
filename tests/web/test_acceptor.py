"""Connections that come all at once."""

import asyncio
import socket
from typing import Any

import pytest

from cliffracer import App
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
