"""Calls share nothing, and few frames stand between the server and a handler."""

import asyncio
import json
import random
import sys
from typing import Any

from cliffracer import App
from cliffracer.context import Context, current


async def test_interleaved_requests_never_share_a_context(serve: Any, app: App) -> None:
    """1,000 requests at once, with and without ids: each sees its own, in its task and in its thread, before and after waiting."""
    numbers = random.Random(7)
    fresh: set[str] = set()

    def seen(context: Context) -> tuple[int, str]:
        found = current.get()
        assert found is context
        return id(context), context.correlation_id

    @app.get("/a/{n}")
    async def get_a(n: int, *, context: Context) -> list[Any]:
        before = seen(context)
        context.store()["n"] = n
        await asyncio.sleep(numbers.random() / 50)
        assert context.store() == {"n": n}
        assert seen(context) == before
        await asyncio.gather(*(asyncio.to_thread(lambda: None) for _ in range(n % 2)))
        assert seen(context) == before
        return [n, context.correlation_id, context.headers.get("x-n")]

    @app.get("/b/{n}")
    def get_b(n: int, *, context: Context) -> list[Any]:
        seen(context)
        return [n, context.correlation_id, context.headers.get("x-n")]

    def ask(n: int) -> bytes:
        mine = f"X-Correlation-ID: id-{n}\r\n" if n % 3 else ""
        return f"GET /{'ab'[n % 2]}/{n} HTTP/1.1\r\nHost: x\r\nX-N: {n}\r\n{mine}\r\n".encode()

    async def client(port: int, asked: range) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for n in asked:
            writer.write(ask(n))
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])
            number, correlation, header = json.loads(await reader.readexactly(int(headers["content-length"])))
            assert (number, header, correlation) == (n, str(n), headers["x-correlation-id"])
            if n % 3:
                assert correlation == f"id-{n}"
            else:
                assert not correlation.startswith("id-")
                fresh.add(correlation)
        writer.close()

    async with serve(app, limit=1000) as served:
        await asyncio.gather(*(client(served.port, range(first, 1000, 100)) for first in range(100)))
        assert len(fresh) == 334
        assert not served.assemblies[0].watch.running
        assert served.handler("get_a").gate.admitted == 0


async def test_pipelined_requests_share_nothing_either(serve: Any, app: App) -> None:
    """A request that waited behind another on its connection does not see that one's context."""

    @app.get("/a")
    async def get_a(*, context: Context) -> str:
        await asyncio.sleep(0)
        return context.correlation_id

    async with serve(app) as served:
        ids = [b"" if n % 2 else b"X-Correlation-ID: id-%d\r\n" % n for n in range(20)]
        requests = [b"GET /a HTTP/1.1\r\nHost: x\r\n%b\r\n" % each for each in ids]
        requests[-1] = requests[-1].replace(b"Host", b"Connection: close\r\nHost")
        answer = await served.raw(b"".join(requests))
        found = [part.partition(b"\r\n\r\n")[2].strip(b'"').decode() for part in answer.split(b"HTTP/1.1 200 OK")[1:]]
        assert len(found) == 20
        assert found[::2] == [f"id-{n}" for n in range(0, 20, 2)]
        assert len(set(found)) == 20
        assert not [one for one in found[1::2] if one.startswith("id-")]


async def test_three_frames_between_server_and_handler(serve: Any, app: App) -> None:
    """From uvicorn to the user's function it is the site, the endpoint and `invoke`, and nothing else."""

    @app.get("/a/{n}")
    async def get_a(n: int) -> list[str]:
        found: list[str] = []
        frame = sys._getframe().f_back
        while frame is not None:
            found.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
            frame = frame.f_back
        return found

    @app.post("/b")
    async def post_b(x: dict[str, int]) -> list[str]:
        return await get_a(0)

    async with serve(app) as served:
        for answer in (await served.http.get("/a/1"), await served.http.post("/b", json={"x": 1})):
            ours = [frame.rpartition("/cliffracer/")[2] for frame in answer.json() if "/cliffracer/" in frame and "/tests/" not in frame]
            assert ours == ["invoke.py:invoke", "web/routes.py:__call__", "web/site.py:__call__"]
