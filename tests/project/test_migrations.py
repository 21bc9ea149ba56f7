"""The guides for migrants: their side's code and ours do the same, in the framework that each is for."""

import contextlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.project.places import ROOT
from tests.project.snippets import snippets
from tests.support.nats import NatsServer
from tests.support.tools import nameko

FLASK = """
    import sqlite3
    sqlite3.connect("notes.db").execute("create table notes (id integer primary key, text text)")
    from flask_notes import app
    client = app.test_client()
    assert client.post("/notes", json={"text": ""}).status_code == 422
    made = client.post("/notes", json={"text": "milk"})
    assert (made.status_code, client.get(f"/notes/{made.json['id']}").json["text"]) == (201, "milk")
    assert client.get("/notes/99").status_code == 404
"""
FASTAPI = """
    from fastapi.testclient import TestClient
    from fastapi_items import app
    client = TestClient(app)
    assert client.post("/items", json={"name": "", "price": -1}).status_code == 422
    made = client.post("/items", json={"name": "pen", "price": 2})
    assert (made.status_code, made.json(), client.get("/items/1").json()) == (201, 1, {"name": "pen", "price": 2})
    assert client.get("/items/2").status_code == 404
"""
FASTSTREAM = """
    import asyncio
    from faststream_orders import books, broker, place

    async def main():
        await broker.start()
        await place(1)
        async with asyncio.timeout(20):
            while books.total != 10:
                await asyncio.sleep(0.02)
        assert await place(2) in (10, 20)
        await broker.stop()

    asyncio.run(main())
"""
NAMEKO = """
    from nameko.testing.services import worker_factory
    from nameko_billing import BillingService
    service = worker_factory(BillingService, ledger=[])
    service.customers.get.return_value = {"name": "Ada"}
    assert (service.charge(7, 10), service.charge(7, 20)) == (1, 2)
    service.dispatch.assert_called_with("charged", {"customer_id": 7, "amount": 20})
    assert service.line(None, 1) == "('Ada', 20)"
    service.forget({})
    assert service.ledger == []
"""
THEIRS = {"flask": FLASK, "fastapi": FASTAPI, "faststream": FASTSTREAM, "nameko": NAMEKO}
OURS = """
    import asyncio

    import items
    import ledgers
    import notes
    import orders
    from cliffracer.testing import running


    async def test_flask():
        async with running(notes.app) as t:
            assert (await t.http.post("/notes", json={"text": ""})).status_code == 422
            made = await t.http.post("/notes", json={"text": "milk"})
            found = await t.http.get(f"/notes/{made.json()['id']}")
            assert (made.status_code, found.json()["text"]) == (201, "milk")
            assert (await t.http.get("/notes/0190e7a0-0000-7000-8000-000000000000")).status_code == 404


    async def test_fastapi():
        async with running(items.app) as t:
            assert (await t.http.post("/items", json={"name": "", "price": -1})).status_code == 422
            made = await t.http.post("/items", json={"name": "pen", "price": 2})
            assert (made.status_code, made.json()) == (201, 1)
            assert (await t.http.get("/items/1")).json() == {"name": "pen", "price": 2}
            assert (await t.http.get("/items/2")).status_code == 404


    async def test_faststream():
        async with running(orders.app) as t:
            await t.call("place", number=1)
            await t.settled()
            assert await t.call("total") == 10
            assert t.emitted("orders.booked")[0].data == {"number": 1, "total": 10}


    async def test_nameko():
        async with running(ledgers.app) as t:
            t.stub("customers.get", returns={"name": "Ada"})
            assert [await t.call("charge", customer_id=7, amount=amount) for amount in (10, 20)] == [1, 2]
            assert t.emitted("ledgers.charged")[1].data == {"customer_id": 7, "amount": 20}
            assert (await t.http.get("/ledger/1")).json() == {"name": "Ada", "amount": 20}
            await t.emit("customers.removed", {})
            await t.settled()
            assert (await t.http.get("/ledger/0")).status_code == 404
"""


def _saved(framework: str, folder: Path, *, theirs: bool) -> None:
    """Save what a guide shows of one side."""
    for snippet in snippets((ROOT / "docs" / "migrate" / f"{framework}.md").read_text()):
        if snippet.file and snippet.language == "python" and ("needs" in snippet.options) == theirs:
            (folder / snippet.file).write_text(snippet.text)


def _python(folder: Path, *arguments: str, path: Path | None = None) -> None:
    env = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("framework", THEIRS)
def test_the_code_to_come_from_works(framework: str, tmp_path: Path) -> None:
    """What the guide shows of the other framework runs in it: who knows that framework has to recognise it."""
    path = nameko() if framework == "nameko" else None
    _saved(framework, tmp_path, theirs=True)
    with contextlib.ExitStack() as stack:
        if framework == "faststream":
            server = NatsServer(jetstream=True).start()
            stack.callback(server.stop)
            place = tmp_path / "faststream_orders.py"
            place.write_text(place.read_text().replace("nats://localhost:4222", server.url))
        _python(tmp_path, "-c", textwrap.dedent(THEIRS[framework]), path=path)


def test_the_code_to_go_to_does_the_same(tmp_path: Path) -> None:
    """The same requests, calls and events have the same answers and effects here."""
    for framework in THEIRS:
        _saved(framework, tmp_path, theirs=False)
    (tmp_path / "test_ours.py").write_text(textwrap.dedent(OURS))
    _python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
