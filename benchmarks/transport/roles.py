"""One process of a measurement: ``python -m benchmarks.transport.roles ROLE KIND URL IN_FLIGHT COUNT``.

ROLE is what is measured: ``client`` asks COUNT requests, ``server`` echoes, ``sender`` publishes COUNT messages. KIND is what it
runs on: ``nats`` (plain nats-py), ``fast`` or ``stock``. A server answers ``bench.cpu`` with the CPU seconds it has used.
"""

import asyncio
import gc
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import nats
import uvloop

from cliffracer.messaging.bus import Bus, connect

HEADERS = {
    "X-Correlation-ID": "0123456789abcdef00000001",
    "traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
}
BLOCK = b"NATS/1.0\r\n%b\r\n" % b"".join(f"{name}: {value}\r\n".encode() for name, value in HEADERS.items())
PAYLOAD = b'{"text":"' + b"x" * 195 + b'"}'
WARM = 3_000
Ask = Callable[[], Awaitable[Any]]


def cpu() -> float:
    """Return the CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def bus(kind: str, url: str) -> Bus:
    names = ("user", "password", "token", "creds", "nkey", "tls_ca", "tls_cert", "tls_key")
    fields: dict[str, Any] = {f"nats_{name}": None for name in names}
    return await connect(SimpleNamespace(**fields, nats_url=url, nats_transport=kind, wait=5.0), name="bench")


async def asker(kind: str, url: str, headers: bool) -> Ask:
    """Return what asks one request."""
    if kind == "nats":
        client = await nats.connect(url)
        return lambda: client.request("echo", PAYLOAD, timeout=10, headers=HEADERS if headers else None)
    line = await bus(kind, url)
    block = BLOCK if headers else None
    return lambda: line.request(b"echo", PAYLOAD, block, timeout=10)


async def drive(ask: Ask, in_flight: int, count: int) -> list[float]:
    """Keep a number of requests in flight; return the seconds that each took."""
    left = count
    took: list[float] = []

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            since = time.perf_counter()
            await ask()
            took.append(time.perf_counter() - since)

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return took


async def client(kind: str, url: str, in_flight: int, count: int, headers: bool) -> dict[str, float]:
    ask = await asker(kind, url, headers)
    await drive(ask, in_flight, min(WARM, count))
    gc.collect()
    used, since = cpu(), time.perf_counter()
    took = sorted(await drive(ask, in_flight, count))
    wall, used = time.perf_counter() - since, cpu() - used
    return {"cpu_us": used / count * 1e6, "rate": count / wall, "p50_us": took[count // 2] * 1e6}


async def load(url: str, in_flight: int, count: int, headers: bool) -> dict[str, float]:
    """Measure a server from outside, with the cheapest client there is here: the fast transport."""
    line = await bus("fast", url)
    block = BLOCK if headers else None

    def ask() -> Awaitable[Any]:
        return line.request(b"echo", PAYLOAD, block, timeout=10)

    async def used() -> float:
        return float((await line.request(b"bench.cpu", b"", timeout=10)).payload)

    await drive(ask, in_flight, min(WARM, count))
    before, since = await used(), time.perf_counter()
    took = sorted(await drive(ask, in_flight, count))
    wall = time.perf_counter() - since
    return {"cpu_us": (await used() - before) / count * 1e6, "rate": count / wall, "p50_us": took[count // 2] * 1e6}


async def server(kind: str, url: str) -> None:
    """Echo for ever."""
    if kind == "nats":
        plain = await nats.connect(url)

        async def echo(message: Any) -> None:
            await message.respond(message.data)

        async def tell(message: Any) -> None:
            await message.respond(str(cpu()).encode())

        await plain.subscribe("echo", cb=echo)
        await plain.subscribe("bench.cpu", cb=tell)
        await plain.flush()
    else:
        line = await bus(kind, url)
        await line.subscribe("echo", lambda _, reply, __, payload: line.publish(reply, payload))
        await line.subscribe("bench.cpu", lambda _, reply, __, ___: line.publish(reply, str(cpu()).encode()))
        await line.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


async def sender(kind: str, url: str, count: int) -> dict[str, float]:
    """Publish without waiting for anybody; flushed at the end, and every thousand so that nothing is refused."""
    if kind == "nats":
        plain = await nats.connect(url)

        async def publish(number: int) -> None:
            for _ in range(number):
                await plain.publish("void", PAYLOAD)
            await plain.flush()
    else:
        line = await bus(kind, url)

        async def publish(number: int) -> None:
            for _ in range(number):
                line.publish(b"void", PAYLOAD)
            await line.flush()

    for _ in range(3):
        await publish(1000)
    used, since = cpu(), time.perf_counter()
    for _ in range(count // 1000):
        await publish(1000)
    wall, used = time.perf_counter() - since, cpu() - used
    return {"cpu_us": used / count * 1e6, "rate": count / wall, "p50_us": 0.0}


def main() -> None:
    role, kind, url, in_flight, count, headers = sys.argv[1:7]
    wanted = headers == "headers"
    work = {
        "client": lambda: client(kind, url, int(in_flight), int(count), wanted),
        "server": lambda: server(kind, url),
        "load": lambda: load(url, int(in_flight), int(count), wanted),
        "sender": lambda: sender(kind, url, int(count)),
    }[role]
    found = (asyncio.run if kind.endswith("asyncio") else uvloop.run)(work())
    if found is not None:
        print(msgspec.json.encode(found).decode(), flush=True)


if __name__ == "__main__":
    main()
