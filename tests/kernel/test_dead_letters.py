"""``cliffracer dead``: what could not be handled is listed, shown, edited, replayed and discarded from the command line."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cliffracer import App, requires
from cliffracer.cli import dead
from cliffracer.messaging.broker import Parked
from cliffracer.testing import running
from tests.support.waiting import eventually


async def command(settings: Any, *arguments: str, fails: bool = False, **environment: str) -> Any:
    """Run ``cliffracer dead`` against the servers of a test and return what it printed as JSON."""
    given = {**os.environ, "NATS_URL": settings.nats_url, "CLIFFRACER_NAMESPACE": settings.namespace, **environment}
    line = [sys.executable, "-m", "cliffracer", "dead", *arguments, "--json"]
    done = await asyncio.to_thread(subprocess.run, line, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (1 if fails else 0), done.stderr
    return json.loads(done.stdout)


async def test_dead_letters_from_the_command_line(tmp_path: Path):
    """Filters, a dry run that changes nothing, an edited replay to the function that failed, and a discard."""
    app, got = App("shop"), []

    @app.on("order.placed", retry=[])
    async def bill(order: dict[str, int]) -> None:
        if order["number"] < 0:
            raise ValueError("there is no such order")
        got.append(order["number"])

    @app.on("order.placed", retry=[])
    async def ship(order: dict[str, int]) -> None:
        if order["number"] == -2:
            raise ValueError("too heavy")

    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/-1/7/' \"$1\"\n")
    editor.chmod(0o755)
    async with running(app) as t:
        await t.emit("order.placed", {"number": -1})
        await t.emit("order.placed", {"number": -2})
        await t.settled()
        listed = await command(t.settings, "ls", "--function", "bill")
        assert [letter["error"] for letter in listed] == ["ValueError: there is no such order"] * 2
        assert len(await command(t.settings, "ls")) == 3
        number = str(next(letter["id"] for letter in listed if letter["data"] == {"number": -1}))
        assert "no such order" in (await command(t.settings, "show", number))["traceback"]
        assert await command(t.settings, "replay", "--all", "--dry-run", "--function", "bill") == {"would_be": [x["id"] for x in listed]}
        assert await command(t.settings, "replay", number, "--edit", EDITOR=str(editor)) == {"replayed": [int(number)]}
        await eventually(lambda: got == [7])
        assert len((await command(t.settings, "discard", "--all"))["discarded"]) == 2
        assert await command(t.settings, "ls") == []


def test_all_dead_letters_are_replayed_without_holding_what_is_in_them(monkeypatch: pytest.MonkeyPatch):
    """Thousands that are large would not fit into the memory of the machine on which the command runs."""
    alive, most, replayed = 0, 0, []

    class Large(bytes):
        def __init__(self, *_: Any) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    class Letters:
        async def ls(self, **_: str) -> AsyncIterator[Parked]:
            texts = dict.fromkeys(("subject", "service", "function", "consumer", "error", "traceback", "stream"), "")
            for number in range(1, 101):
                facts = {"id": number, "attempts": 1, "sequence": number, "parked": datetime.now(UTC), "headers": {}}
                yield Parked(**texts, **facts, payload=Large(b"much"))

        async def replay_some(self, numbers: list[int], **_: Any) -> dict[int, str]:
            replayed.extend(numbers)
            return {}

    monkeypatch.setattr(dead, "_with_letters", lambda work: asyncio.run(work(Letters())))
    dead.replay(
        numbers=(), everything=True, subject="", function="", service="", data=None, edit=False, token=None, dry_run=False, as_json=True
    )  # fmt: skip
    assert replayed == list(range(1, 101))
    assert most <= 2


async def test_a_dead_letter_of_a_group_says_which_function_failed():
    """The group shares the events, and a function fails: it is looked for by its name, and its letter replayed to the group."""
    app, got = App("shop"), []

    @app.on("order.placed", group="till", retry=[])
    async def bill(number: int) -> None:
        got.append(number)
        if len(got) == 1:
            raise ValueError("there is no such order")

    async with running(app) as t:
        await t.emit("order.placed", 1)
        await t.settled()
        (letter,) = await t.parked()
        assert (letter.service, letter.function, letter.consumer.endswith("till")) == ("shop", "bill", True)
        assert await command(t.settings, "replay", "--all", "--function", "bill") == {"replayed": [letter.id]}
        await t.settled()
    assert got == [1, 1]


async def test_a_dead_one_way_call_is_filed_under_its_method_and_replayed():
    """To the service that it was sent to, with other arguments where those were wrong; what cannot be replayed is named."""
    app, charged = App("payments"), []

    @app.rpc
    async def charge(amount: int) -> None:
        charged.append(amount)

    async with running(app) as t:
        payments: Any = app.service("payments")
        await payments.send.charge(amount="ten")
        await t.settled()
        [letter] = await command(t.settings, "ls", "--function", "charge", "--subject", "send.payments.*")
        assert (letter["subject"], letter["service"], letter["data"]) == ("send.payments.charge", "payments", {"amount": "ten"})
        assert await command(t.settings, "ls", "--subject", "send.other.*") == []
        number = letter["id"]
        told = await command(t.settings, "replay", str(number), str(number + 7), "--data", '{"amount": 10}', fails=True)
        assert told == {"replayed": [number], "failed": {str(number + 7): f"there is no dead letter {number + 7}"}}
        await eventually(lambda: charged == [10])
        assert await command(t.settings, "ls") == []


async def test_a_replay_may_be_somebody_elses():
    """The token of who emitted the event may have expired, or never sufficed: the one who replays it gives his own."""
    app, got = App("shop"), []

    @app.on("order.placed")
    @requires("orders:write")
    async def bill(number: int) -> None:
        got.append(number)

    async with running(app) as t:
        with t.acting("eve"):
            await t.emit("order.placed", 7)
        await t.settled()
        [letter] = await command(t.settings, "ls")
        assert letter["error"].startswith("Forbidden")
        token = t.token("ada", permissions=["orders:write"])
        await command(t.settings, "replay", str(letter["id"]), "--token", token)
        await eventually(lambda: got == [7])
        await t.settled()
        assert await command(t.settings, "ls") == []


async def test_many_are_listed_and_discarded_some_at_a_time():
    """In their order, each once, also where many between them are gone."""
    app = App("shop")

    @app.on("order.placed", retry=[])
    async def bill(order: int) -> None:
        raise ValueError("no")

    async with running(app) as t:
        for number in range(300):
            await t.emit("order.placed", number)
        await t.settled()
        letters = t.up.services[0].backend.dead
        numbers = [letter.id async for letter in letters.ls()]
        assert numbers == list(range(1, 301))
        gone = [number for number in numbers if number % 50 and number > 60]
        assert await command(t.settings, "discard", *map(str, [*gone, gone[0]])) == {"discarded": gone}
        left = [number for number in numbers if number not in gone]
        assert [letter.id async for letter in letters.ls()] == left
        assert [letter.id async for letter in letters.ls(after=55)] == [56, 57, 58, 59, 60, 100, 150, 200, 250, 300]
        assert await command(t.settings, "discard", "--all") == {"discarded": left}
        assert [letter async for letter in letters.ls()] == []
