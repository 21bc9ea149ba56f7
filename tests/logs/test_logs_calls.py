"""The sampled line of a call."""

import asyncio
import io
import json
import random
import re
import sys
import threading

import pytest

from cliffracer.context import Context
from cliffracer.observability.calls import CallLog
from cliffracer.settings import Settings

TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
CALL = Context(service="users", handler="create", kind="rpc", found_id="c-1", found_trace=TRACEPARENT)


def test_a_call_is_a_line_of_json() -> None:
    """A line says which call, how long it took in milliseconds, and how it ended."""
    written: list[str] = []
    with CallLog(1.0, write=written.append) as calls:
        calls.record(CALL, 1.23456, "ok")
    line = json.loads("".join(written))
    assert line.pop("time").endswith("Z")
    assert line == {"level": "INFO", "message": "call", "service": "users", "handler": "create", "kind": "rpc", "correlation_id": "c-1",
                    "trace_id": "ab" * 16, "ms": 1.235, "outcome": "ok"}  # fmt: skip


def test_a_call_is_a_line_for_people() -> None:
    """For people the line is short, and what came from outside cannot break it."""
    written: list[str] = []
    with CallLog(1.0, human=True, write=written.append) as calls:
        calls.record(CALL, 12.3456, "NotFound")
        calls.record(Context(service="users", handler="x", found_id="a\nb\x1b"), 1234, "ok")
    first, second = "".join(written).splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} INFO     users\.create call NotFound ms=12\.3 c-1", first)
    assert second.endswith(r"users.x call ok ms=1.23e+03 a\nb\x1b")


def test_the_share_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of 0.1 logs about a tenth of the calls, 0 none, 1 all."""
    monkeypatch.setattr("cliffracer.observability.calls.random", random.Random(7).random)
    counts = []
    for share in (0.0, 0.1, 1.0):
        written: list[str] = []
        with CallLog(share, write=written.append) as calls:
            for _ in range(10_000):
                calls.record(CALL, 1, "ok")
        counts.append("".join(written).count("\n"))
    assert counts[0] == 0
    assert 900 < counts[1] < 1100
    assert counts[2] == 10_000


async def test_lines_are_written_together_and_soon() -> None:
    """Lines wait for one another, but none for long."""
    written: list[str] = []
    calls = CallLog(1.0, write=written.append)
    for _ in range(10):
        calls.record(CALL, 1, "ok")
    assert written == []
    for _ in range(200):
        if written:
            break
        await asyncio.sleep(0.02)
    assert [text.count("\n") for text in written] == [10]
    for _ in range(65):  # the last may still turn out otherwise
        calls.record(CALL, 1, "ok")
    assert [text.count("\n") for text in written] == [10, 64]


def test_threads_lose_no_line() -> None:
    """Calls that end in threads are written, each once."""
    written: list[str] = []

    def work() -> None:
        for number in range(500):
            calls.record(CALL, number, "ok")

    with CallLog(1.0, write=written.append) as calls:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "".join(written).count("\n") == 2000


def test_settings_say_whether_calls_are_logged() -> None:
    """Without a share there is nothing to call."""
    assert CallLog.of(Settings()) is None
    assert CallLog.of(Settings(log_calls="1%")) is not None


def test_a_closed_standard_error_stops_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls go on when their lines cannot be written."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    with CallLog(1.0) as calls:
        calls.record(CALL, 1, "ok")
