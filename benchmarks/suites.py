"""What is compared with what: every suite is a table of contestants and the command that loads each."""

from typing import Any

import msgspec

from benchmarks.contestants.serving import PROGRESS
from benchmarks.measure import Measured

OURS_PROGRESS = "core.events.progress"


class Contender(msgspec.Struct, frozen=True):
    """One row: who serves, who drives, and the command for the driver."""

    label: str
    server: str = ""
    """A module of `benchmarks.contestants`; ``web:`` before it for HTTP, ``ours:`` for one that `cliffracer run` serves."""
    driver: str = "load"
    command: dict[str, Any] = {}


class Suite(msgspec.Struct, frozen=True):
    """One table."""

    key: str
    title: str
    baseline: str
    measured: Measured
    contenders: list[Contender]
    note: str = ""

    @property
    def web(self) -> bool:
        """Whether NATS has no part in it."""
        return self.key.startswith("http")


def _requests(rows: dict[str, tuple[str, str]], **command: Any) -> list[Contender]:
    return [Contender(label, server, command={"do": "request", "subject": subject, **command}) for label, (server, subject) in rows.items()]


RAW = "nats-py callback"
SERVERS = {
    RAW: ("raw", "raw.place"),
    "nats-py, a task per message": ("raw_task", "raw_task.place"),
    "NATS micro (nats-py)": ("micro", "micro.place"),
    "FastStream": ("faststream_server", "faststream.place"),
    "Cliffracer, async def": ("ours:ours", "ours.place"),
    "Cliffracer, def": ("ours:ours", "ours.place_def"),
    "Cliffracer, async def, stock transport": ("ours:ours@stock", "stock.ours.place"),
}
WAITING = {
    "nats-py, a task per message": ("raw_task", "raw_task.wait"),
    "FastStream, max_workers=64": ("faststream_server", "faststream.wait"),
    "Cliffracer": ("ours:ours", "ours.wait"),
}

ONE_PROCESS = "Cliffracer, one process"
WORKERS = {ONE_PROCESS: ("ours:ours", "ours.place"), "Cliffracer, --workers 2": ("ours:ours@workers", "workers.ours.place")}
WORKERS_NOTE = "Broker and load share the cores with the workers, so that on two cores a second one adds little; CPU per call should stay."


def _pick(*labels: str) -> dict[str, tuple[str, str]]:
    return {label: SERVERS[label] for label in labels}


def _clients(subjects: dict[str, tuple[str, str, str]], **command: Any) -> list[Contender]:
    return [
        Contender(label, server, driver, {"do": "request", "subject": subject, **command})
        for label, (server, driver, subject) in subjects.items()
    ]


BOTH_ENDS = {
    "nats-py both ends": ("raw", "raw_client", "raw.place"),
    "FastStream both ends": ("faststream_server", "faststream_client", "faststream.place"),
    "Cliffracer both ends": ("ours:ours", "ours_client", "ours.place"),
    "Cliffracer both ends, def": ("ours:ours", "ours_client", "ours.place_def"),
}
CLIENTS = {
    "nats-py request": ("echo", "raw_client", "echo.place"),
    "FastStream": ("echo", "faststream_client", "echo.place"),
    "Cliffracer": ("echo", "ours_client", "echo.place"),
}


def _consumers(rows: dict[str, tuple[str, str, str]], window: int) -> list[Contender]:
    return [
        Contender(label, server, command={"do": "publish", "subject": subject, "progress": progress, "window": window})
        for label, (server, subject, progress) in rows.items()
    ]


CORE = {
    RAW: ("raw", "raw.event", PROGRESS),
    "FastStream": ("faststream_server", "faststream.event", PROGRESS),
    "Cliffracer": ("ours:ours_core@core", "core.events.order", OURS_PROGRESS),
}
DURABLE = {
    "nats-py push": ("durable_push", "bench.push", PROGRESS),
    "nats-py pull, fetch(100)": ("durable_pull", "bench.pull", PROGRESS),
    "FastStream push": ("faststream_server", "bench.faststream_push", PROGRESS),
    "FastStream pull": ("faststream_server", "bench.faststream_pull", PROGRESS),
    "Cliffracer": ("ours:ours_durable@durable", "durable.events.order", "durable.events.progress"),
}
PUBLISH = {
    "nats-py js.publish": ("raw_client", "durable", "bench.stored"),
    "nats-py publish_async": ("raw_client", "durable_async", "bench.stored"),
    "FastStream": ("faststream_client", "durable", "bench.stored"),
    "Cliffracer": ("ours_client", "durable", "order.stored"),
}
HTTP = {
    "Starlette + msgspec by hand": "web:http_starlette",
    "FastAPI": "web:http_fastapi",
    "Litestar": "web:http_litestar",
    "BlackSheep + msgspec by hand": "web:http_blacksheep",
    "Cliffracer": "ours:ours_http",
}


BROADCAST = {"do": "broadcast", "inflight": 1000}
FEEDS = {
    "Cliffracer, a room": ("room", "order", "/room"),
    "Cliffracer, a generator per client, frozen events": ("frozen", "tick", "/frozen"),
    "Cliffracer, a generator per client": ("feed", "tick", "/feed"),
}


def _http(method: str, path: str) -> list[Contender]:
    command = {"do": "http", "method": method, "path": path, "inflight": 64}
    return [Contender(label, server, command=command) for label, server in HTTP.items()]


SUITES = [
    Suite("rpc", "RPC server, 64 in flight", RAW, "server", _requests(SERVERS, inflight=64)),
    Suite(
        "rpc_headers",
        "RPC server, 64 in flight, correlation id and traceparent on every call",
        RAW,
        "server",
        _requests(_pick(RAW, "NATS micro (nats-py)", "FastStream", "Cliffracer, async def", "Cliffracer, def"), inflight=64, headers=True),
    ),
    Suite("rpc_wait", "RPC server, the handler awaits 2 ms, 64 in flight", next(iter(WAITING)), "server", _requests(WAITING, inflight=64)),
    Suite(
        "workers", "RPC server, one process and two, 128 in flight", ONE_PROCESS, "server", _requests(WORKERS, inflight=128), WORKERS_NOTE
    ),
    Suite("client", "RPC client, 64 in flight", "nats-py request", "driver", _clients(CLIENTS, inflight=64)),
    Suite("both", "RPC both ends, 64 in flight", "nats-py both ends", "both", _clients(BOTH_ENDS, inflight=64)),
    Suite("one", "RPC both ends, one in flight", "nats-py both ends", "both", _clients(BOTH_ENDS, inflight=1)),
    Suite("core", "Core events consumed", RAW, "server", _consumers(CORE, 2000)),
    Suite("durable", "Durable events consumed, each acknowledged", "nats-py push", "server", _consumers(DURABLE, 2000)),
    Suite(
        "publish",
        "Durable events published, 64 in flight, each acknowledged by the stream",
        "nats-py js.publish",
        "driver",
        [
            Contender(label, driver=driver, command={"do": do, "subject": subject, "inflight": 64})
            for label, (driver, do, subject) in PUBLISH.items()
        ],
    ),
    Suite("http_get", "HTTP GET, 64 connections", next(iter(HTTP)), "server", _http("GET", "/orders/7")),
    Suite("http_post", "HTTP POST of JSON, validated, 64 connections", next(iter(HTTP)), "server", _http("POST", "/orders")),
    Suite(
        "broadcast",
        "WebSocket broadcast to 1,000 clients",
        "bare ASGI loop",
        "server",
        [
            Contender("bare ASGI loop", "web:feed_bare", command={**BROADCAST, "subject": "feed_bare.tick", "path": "/"}),
            *(
                Contender(label, f"ours:ours_feed@{variant}", command={**BROADCAST, "subject": f"{variant}.events.{subject}", "path": path})
                for label, (variant, subject, path) in FEEDS.items()
            ),
        ],
        note="A call is one message to all of them; p50 is the time until the last of them has it.",
    ),
]
