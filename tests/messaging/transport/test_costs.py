"""What the hot path costs, in calls and instructions instead of time: it fails on a jump, not on a slow machine."""

import asyncio
import contextlib
import dis
import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from cliffracer.messaging.bus import Bus
from cliffracer.messaging.transport.dial import Dialer
from cliffracer.messaging.transport.fast import FastBus
from cliffracer.messaging.transport.parser import Parser
from cliffracer.messaging.transport.writer import Writer
from tests.messaging.transport.conftest import settings

MANY = 200
PAYLOAD = b"x" * 206
UNCOUNTED = dis.opmap.get("NOT_TAKEN")  # of Python 3.14: it marks a branch for monitoring, and does nothing
BLOCK = b"NATS/1.0\r\nX-Correlation-ID: 0123456789abcdef00000001\r\n\r\n"


class Sink(asyncio.Transport):
    """A socket that takes everything."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass


@pytest.fixture
async def idle() -> FastBus:
    """A bus that believes itself connected."""
    bus = FastBus(Dialer(lambda: settings("nats://127.0.0.1:1"), "test", 5), "test", "_INBOX", on_lost=print, on_back=print)
    bus._writer = Writer(Sink())
    bus._writer.most = 10_000  # frames are counted here, not writes
    bus.open = True
    return bus


def cost(work: Callable[[], None], repetitions: int = MANY) -> tuple[float, float]:
    """Return the Python calls and the bytecode instructions of one repetition."""
    seen: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        seen[event] += event != "opcode" or frame.f_code.co_code[frame.f_lasti] != UNCOUNTED
        return trace

    work()  # warm
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return seen["call"] / repetitions, seen["opcode"] / repetitions


async def test_a_message_costs_one_call(idle: FastBus) -> None:
    """That of its receiver, and the parsing a hundred and some instructions; headers hardly more."""

    def receive(_subject: bytes, _reply: bytes, _block: bytes | None, _payload: bytes) -> None:
        pass

    parser = Parser({b"12": receive}, lambda _: None, lambda *_: None)
    for head, block in ((b"MSG", b""), (b"HMSG", BLOCK)):
        sizes = b"%d %d" % (len(block), len(block) + 206) if block else b"206"
        stream = b"%b users.get 12 _INBOX.abc.1 %b\r\n%b%b\r\n" % (head, sizes, block, PAYLOAD) * MANY

        def work(stream: bytes = stream) -> None:
            more = parser.feed(stream)
            while more:
                more = parser.resume()

        calls, instructions = cost(work)
        assert calls < 1.2
        assert instructions < 170


async def test_a_publish_costs_one_call(idle: FastBus) -> None:
    """Nothing else runs, whether it is a reply, a message with headers, or a request's."""
    idle._writer.due = True
    for arguments, most in (
        ((b"_INBOX.a.1", PAYLOAD), 1.1),
        ((b"_INBOX.a.1", PAYLOAD, BLOCK), 1.1),
        ((b"users.get", PAYLOAD, BLOCK, b"_INBOX.b.1"), 2.1),
    ):

        def work(arguments: tuple[Any, ...] = arguments) -> None:
            for _ in range(MANY):
                idle.publish(*arguments)
            idle._writer.parts.clear()

        calls, instructions = cost(work)
        assert calls < most
        assert instructions < 130


async def test_an_answer_costs_one_call(idle: FastBus) -> None:
    """Fewer instructions than a publish: its subject came over the bus."""
    idle._writer.due = True

    def work() -> None:
        for _ in range(MANY):
            idle.answer(b"_INBOX.a.1", PAYLOAD)
        idle._writer.parts.clear()

    calls, instructions = cost(work)
    assert calls < 1.1
    assert instructions < 75


@pytest.mark.parametrize(("block", "most"), [(None, 380), (BLOCK, 300)], ids=["bare", "headers"])
async def test_a_request_costs_few_calls_and_no_task(idle: FastBus, block: bytes | None, most: int) -> None:
    """The caller's coroutine, a publish, a reply: no task, no timer of its own, nothing left over."""
    tasks = asyncio.all_tasks()

    def work() -> None:
        for _ in range(MANY):
            waiting = idle.request(b"users.get", PAYLOAD, block, timeout=10)
            waiting.send(None)
            token = next(iter(idle._mux._waiting))
            idle._mux.receive(idle._mux.prefix + token, b"", None, PAYLOAD)
            with contextlib.suppress(StopIteration):
                waiting.send(None)
        idle._writer.parts.clear()

    calls, instructions = cost(work)
    assert calls < 13
    assert instructions < most
    assert asyncio.all_tasks() == tasks
    assert len(idle._mux) == 0


async def test_memory_stays_flat(bus: Bus) -> None:
    """After 1,000 requests to warm up, 4,000 more with a deadline far away leave nothing behind."""
    await bus.subscribe("echo", lambda _, reply, block, payload: bus.publish(reply, payload, block))
    await bus.flush()

    async def ask(count: int) -> None:
        for _ in range(count // 100):
            await asyncio.gather(*(bus.request(b"echo", PAYLOAD, BLOCK, timeout=600) for _ in range(100)))

    tracemalloc.start()
    try:
        await ask(1_000)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        await ask(4_000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 60_000
