"""A service that stores rows with events and relays them, and is killed, again and again: ``python dying.py URL FILE ROUNDS``.

Each round is a forked process. It kills itself by SIGKILL at a random moment: while storing, right after a commit,
after a publish and before the outbox is marked. What is published is appended to FILE, which stands for the stream.
"""

import asyncio
import os
import random
import signal
import sys

from cliffracer.database import Database
from cliffracer.database.relay import relaying

KEYS = 5


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def work(url: str, path: str, seed: int) -> None:
    chance = random.Random(seed)
    publishes, commits = chance.randrange(1, 40), chance.randrange(1, 40)
    stream = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def publish(subject: str, payload: bytes, headers: dict[str, str], message_id: str) -> None:
        nonlocal publishes
        await asyncio.sleep(chance.random() * 0.002)
        os.write(stream, message_id.encode() + b"\n")
        publishes -= 1
        if publishes == 0:
            die()

    async def store(db: Database, key: str) -> None:
        nonlocal commits
        async with db.transaction() as transaction:
            number = await db.fetch_value(int, "update counters set n = n + 1 where key = %s returning n", key)
            await transaction.emit("stored", b"", {}, f"{key}:{number}", key)
            if chance.random() < 0.2:
                await db.execute("insert into effects values (%s)", f"{key}:{number}:undone")
                raise ZeroDivisionError
            await db.execute("insert into effects values (%s)", f"{key}:{number}")
        commits -= 1
        if commits == 0:
            die()

    async with Database.open(url, largest=6) as db, relaying(db, publish, batch=7, every=0.05):
        while True:
            await asyncio.gather(*(store(db, f"k{chance.randrange(KEYS)}") for _ in range(4)), return_exceptions=True)


def main() -> None:
    url, path, rounds = sys.argv[1:]
    for seed in range(int(rounds)):
        pid = os.fork()
        if pid == 0:
            signal.setitimer(signal.ITIMER_REAL, 30.0)  # should it never come to kill itself
            asyncio.run(work(url, path, seed))
            os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), status
        print(os.WTERMSIG(status), flush=True)


if __name__ == "__main__":
    main()
