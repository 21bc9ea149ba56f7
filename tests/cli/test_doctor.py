"""What ``cliffracer doctor`` says of streams and consumers."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from cliffracer import App
from cliffracer.cli.doctor import _kept
from cliffracer.messaging.jetstream import StreamInfo, StreamState
from cliffracer.testing import running

SERVICE = """
from cliffracer import App
app = App("shop")

@app.rpc
async def charge(amount: int) -> None: ...

@app.on("order.placed")
async def invoice(number: int) -> None: ...
"""


def old() -> App:
    app = App("shop")

    @app.rpc
    async def charge(amount: int) -> None: ...

    @app.on("order.placed")
    async def bill(number: int) -> None: ...

    @app.every("1h")
    async def tidy() -> None: ...

    return app


async def test_what_was_renamed_is_told_with_its_lag(tmp_path: Path):
    """Of subscriptions and of timers; what is there, and what other services have, is not. What to do about it is said."""
    (tmp_path / "shop.py").write_text(SERVICE)
    async with running(App("emitter")) as t:
        async with running(old(), settings=t.settings):
            await t.app.service("shop").send.charge(amount=1)
        for number in range(3):
            await t.emit("order.placed", number)
        names = {"NATS_URL": t.settings.nats_url or "", "CLIFFRACER_NAMESPACE": t.settings.namespace, "PYTHONPATH": str(Path.cwd())}
        line = [sys.executable, "-m", "cliffracer", "doctor", "shop:app", "--json"]
        done = await asyncio.to_thread(
            subprocess.run, line, cwd=tmp_path, env={**os.environ, **names}, capture_output=True, text=True, timeout=60, check=False
        )
    told = [finding["text"] for finding in json.loads(done.stdout) if finding["state"] == "look"]
    lost, prefix = "belongs to no function of these apps any more", f"{t.settings.namespace}_shop"
    assert [text.partition(";")[0] for text in told if lost in text] == [
        f"consumer {prefix}-bill of shop.bill {lost}: 3 wait for it for ever",
        f"consumer {prefix}-tidy-timer of shop.tidy-timer {lost}: nothing waits for it",
    ]
    assert any("group='shop-bill' on another function takes them over" in text for text in told)


def test_what_may_become_of_acknowledged_events_is_told():
    """A power cut, where one server keeps them in production; an operator's limits, everywhere."""
    config = {"name": "EVENTS", "num_replicas": 1}
    [alone] = _kept(StreamInfo(config, StreamState()), production=True)
    assert "a power cut may lose what it acknowledged in its last two minutes; set jetstream { sync_interval: always }" in alone.text
    assert list(_kept(StreamInfo(config, StreamState()), production=False)) == []
    limited = {**config, "num_replicas": 3, "discard": "old", "max_msgs": 5, "max_age": 3600 * 10**9}
    assert [finding.text.partition(":")[0] for finding in _kept(StreamInfo(limited, StreamState()), production=True)] == [
        "EVENTS is kept by 3 servers",
        "EVENTS drops old events when it is full, handled or not",
        "EVENTS drops events after 1h, handled or not",
    ]
