"""Services that are killed in the middle: what was committed is published, nothing else is, and it has its effect once."""

import asyncio
import os
import sys
from pathlib import Path

from cliffracer.database import Database, create_missing
from cliffracer.database.outbox import lag
from cliffracer.database.relay import relaying
from tests.support.waiting import eventually

ROUNDS = 25


async def test_kill_at_any_moment_loses_and_invents_nothing(db: Database, url: str, tmp_path: Path):
    """Over many SIGKILLs: each committed event is published, no other one, in order per key; a consumer with an inbox acts once."""
    await create_missing(db, [])
    await db.execute("create table counters (key text primary key, n int not null default 0)")
    await db.execute("insert into counters select 'k' || g from generate_series(0, 4) g")
    await db.execute("create table effects (id text primary key)")
    await db.execute("create table handled (id text)")
    stream = tmp_path / "stream"
    script = Path(__file__).with_name("dying.py")
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), url, str(stream), str(ROUNDS), env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 200)
    assert process.returncode == 0
    assert out.split() == [b"9"] * ROUNDS

    async def publish(subject: str, payload: bytes, headers: dict[str, str], message_id: str) -> None:
        with stream.open("ab") as file:
            file.write(message_id.encode() + b"\n")

    async with relaying(db, publish, every=0.05):
        await eventually(lambda: _empty(db), within=60)

    published = stream.read_text().split()
    committed = set(await db.fetch(str, "select id from effects"))
    assert len(committed) > ROUNDS
    assert set(published) == committed
    first = list(dict.fromkeys(published))  # the stream keeps one of each message id
    for key in {name.split(":")[0] for name in committed}:
        numbers = [int(name.split(":")[1]) for name in first if name.startswith(f"{key}:")]
        assert numbers == sorted(numbers)

    for name in published:  # deliveries, redeliveries among them
        async with db.transaction() as transaction:
            if await transaction.first_time("consumer", name):
                await db.execute("insert into handled values (%s)", name)
    assert sorted(await db.fetch(str, "select id from handled")) == sorted(committed)


async def _empty(db: Database) -> bool:
    found = await lag(db)
    assert found.parked == 0
    return found.pending == 0
