"""Stored events given to a function again, in this process, seen by nobody else."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cliffracer import App, Database, NotFound, Rejected, SetupError
from cliffracer.replaying import replay
from cliffracer.testing import running


def make() -> tuple[App, list[tuple[str, int]]]:
    app, got = App("shop"), []

    @app.on("order.*")
    async def bill(number: int) -> None:
        if number == 13:
            raise ValueError("unlucky")
        got.append(("bill", number))

    @app.on("order.placed", batch=10)
    async def count(numbers: list[int]) -> None:
        got.extend(("count", number) for number in numbers)

    return app, got


async def test_a_function_is_given_what_is_stored():
    """Every event of its subscription, in order, and a failure stops nothing; the other function sees none of it."""
    app, got = make()
    async with running(app) as t:
        for number in (1, 2, 3):
            await t.emit("order.placed", number)
        await t.emit("order.cancelled", 4)
        await t.emit("user.created", 5)
        await t.settled()
        again, seen = make()
        replayed = [event async for event in replay(again, "bill", t.settings)]
    assert [(event.subject, event.error) for event in replayed] == [("order.placed", None)] * 3 + [("order.cancelled", None)]
    assert seen == [("bill", 1), ("bill", 2), ("bill", 3), ("bill", 4)]
    assert got.count(("count", 1)) == 1


async def test_failures_are_told_and_a_dry_run_handles_nothing():
    """The error names what the function raised."""
    async with running(App("emitter")) as t:
        for number in (1, 13, 2):
            await t.emit("order.placed", number)
        app, seen = make()
        assert [event.error async for event in replay(app, "bill", t.settings, dry_run=True)] == [None] * 3
        assert seen == []
        assert [event.error async for event in replay(app, "bill", t.settings)] == [None, "ValueError: unlucky", None]
        assert [event.error async for event in replay(app, "count", t.settings, start="1h")] == [None] * 3
        assert [event.error async for event in replay(app, "count", t.settings, start=3)] == [None]
    assert seen == [("bill", 1), ("bill", 2), ("count", 1), ("count", 13), ("count", 2), ("count", 2)]


async def test_what_failed_is_told_as_dead_letters_have_it():
    """Not by the names of our own errors, nor by what was behind the one that the function meant to raise."""
    app = App("shop")

    @app.on("order.placed")
    async def bill(number: int) -> None:
        raise NotFound(f"no order {number}") from KeyError(number)

    @app.on("order.placed", batch=10)
    async def refuse(numbers: list[int]) -> None:
        raise Rejected({0: "not yet"})

    @app.on("order.placed", batch=10)
    async def fail(numbers: list[int]) -> None:
        raise ValueError("unlucky")

    async with running(App("emitter")) as t:
        await t.emit("order.placed", 1)
        told = {name: [event.error async for event in replay(app, name, t.settings)] for name in ("bill", "refuse", "fail")}
    assert told == {"bill": ["NotFound: no order 1"], "refuse": ["Rejected: not yet"], "fail": ["ValueError: unlucky"]}


async def test_a_replay_handles_again_what_is_handled_once():
    """Who replays wants the effect again, which a redelivery of the same event would not have."""
    app = App("shop")

    @app.on("order.placed", once=True)
    async def book(number: int, *, db: Database) -> None:
        await db.execute("insert into booked (number) values (%s)", number)

    @app.rpc
    async def booked(*, db: Database) -> int | None:
        return await db.fetch_value(int, "select count(*)::int from booked")

    @app.rpc
    async def prepare(*, db: Database) -> None:
        await db.execute("create table booked (number integer)")

    async with running(app) as t:
        await t.call("prepare")
        await t.emit("order.placed", 1)
        await t.settled()
        assert await t.call("booked") == 1
        assert [event.error async for event in replay(app, "book", t.settings)] == [None]
        assert await t.call("booked") == 2


async def test_a_payload_that_is_gone_is_told_and_stops_nothing():
    """As any failure."""
    async with running(App("emitter")) as t:
        await t.emit("order.placed", "x" * 1_500_000)
        await t.emit("order.placed", 1)
        service = t.up.services[0]
        await service.jetstream.delete_stream(f"OBJ_{t.settings.namespace}_claims_events")
        app, seen = make()
        told = [event.error async for event in replay(app, "bill", t.settings)]
    assert told[0] is not None
    assert told[0].startswith("NotFound: the payload")
    assert (told[1:], seen) == ([None], [("bill", 1)])


async def test_an_unknown_function_is_named_with_those_that_subscribe():
    """With the nearest one, if there is one."""
    async with running(App("emitter")) as t:
        with pytest.raises(SetupError, match="Did you mean bill"):
            [event async for event in replay(make()[0], "bil", t.settings)]


async def test_the_command_prints_what_became_of_each_event(tmp_path: Path):
    """As lines of JSON; it fails if any handling did."""
    (tmp_path / "shop.py").write_text(
        "from cliffracer import App\napp = App('shop')\n\n"
        "@app.on('order.*')\nasync def bill(number: int) -> None:\n    if number == 13:\n        raise ValueError('unlucky')\n"
    )
    async with running(App("emitter")) as t:
        for number in (1, 13):
            await t.emit("order.placed", number)
        environment = {
            **os.environ,
            "NATS_URL": t.settings.nats_url or "",
            "CLIFFRACER_NAMESPACE": t.settings.namespace,
            "PYTHONPATH": str(Path.cwd()),
        }
        command = [sys.executable, "-m", "cliffracer", "replay", "shop:app", "bill", "--since", "1h", "--json"]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1, done.stderr
    assert [json.loads(line)["error"] for line in done.stdout.splitlines()] == [None, "ValueError: unlucky"]
