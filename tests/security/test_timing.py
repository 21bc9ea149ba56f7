"""Whether there is an account cannot be told by what a sign-in costs: statistics over processor time, no clock on the wall."""

import math
import random
import time
from collections.abc import Awaitable, Callable

import pytest
from argon2 import PasswordHasher

from cliffracer import Accounts, App, Unauthenticated
from cliffracer.security import sessions as module
from cliffracer.security.passwords import Passwords
from cliffracer.security.sessions import Sessions
from cliffracer.testing import running
from tests.support.inside import value_of

app = App("members")
app.use(Accounts())
SURE = 3.9
"""Standard deviations: chance alone goes beyond them once in 10,000 runs."""


def deviation(differences: list[float]) -> float:
    """Return how far Wilcoxon's signed ranks are from what chance would give, in standard deviations."""
    ranked = sorted((difference for difference in differences if difference), key=abs)
    n = len(ranked)
    above = sum(rank for rank, difference in enumerate(ranked, 1) if difference > 0)
    return (above - n * (n + 1) / 4) / math.sqrt(n * (n + 1) * (2 * n + 1) / 24)


async def paired(pairs: int, one: Callable[[], Awaitable[None]], other: Callable[[], Awaitable[None]]) -> list[float]:
    """Return by how much processor time the first took more than the second, in pairs of random order."""
    differences = []
    for _ in range(pairs):
        costs = {}
        for work in random.sample((one, other), 2):
            began = time.process_time()
            await work()
            costs[work] = time.process_time() - began
        differences.append(costs[one] - costs[other])
    return differences


async def test_unknown_and_known_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 200 pairs a sign-in of nobody and one with a wrong password cost the same; the test would notice if one hashed less.

    The hash is a cheap one here, so that all the rest of the way shows, too.
    """
    hasher = PasswordHasher(time_cost=1, memory_cost=256, parallelism=1)
    monkeypatch.setattr("cliffracer.security.passwords._hasher", lambda: hasher)
    monkeypatch.setattr(module, "PER_ACCOUNT", 10**6)
    monkeypatch.setattr(module, "PER_ADDRESS", 10**6)
    async with running(app) as t:
        sessions: Sessions = value_of(t, Sessions)
        await sessions.create("ada", "correct horse battery", roles=("admin", "user"))

        async def tried(name: str) -> None:
            with pytest.raises(Unauthenticated, match="name or password is wrong"):
                await sessions.sign_in(name, "a wrong password", "192.0.2.1")

        async def known() -> None:
            await tried("ada")

        async def unknown() -> None:
            await tried("eve")

        for _ in range(5):
            await known()
            await unknown()
        found = deviation(await paired(200, known, unknown))
        assert abs(found) < SURE, found

        async def lazy(self: Passwords, password: str, hashed: str) -> bool:
            return False if hashed == self.nobody else await real(self, password, hashed)

        real = Passwords.check
        monkeypatch.setattr(Passwords, "check", lazy)
        assert deviation(await paired(30, known, unknown)) > SURE


async def test_both_are_hashed_alike() -> None:
    """What stands in for the hash of nobody has the parameters of everybody's: argon2id with 19 MiB, two passes, one lane (OWASP)."""
    passwords = Passwords()
    made = await passwords.hash("correct horse battery")
    passwords.close()
    for one in (made, passwords.nobody):
        assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert len(made) == len(passwords.nobody)
