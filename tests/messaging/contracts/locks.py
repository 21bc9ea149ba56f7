"""What any backend does about locks."""

import asyncio

import pytest

from cliffracer.errors import Unavailable
from cliffracer.messaging.broker import Backend


class LocksContract:
    """One holder at a time, with a token that rises."""

    async def test_one_holds_a_lock_at_a_time_and_tokens_rise(self, backend: Backend) -> None:
        """Many contenders, each in turn."""
        held, most, tokens = 0, 0, []

        async def work() -> None:
            nonlocal held, most
            for _ in range(4):
                async with backend.lock("job") as lock:
                    held += 1
                    most = max(most, held)
                    tokens.append(lock.token)
                    await asyncio.sleep(0.002)
                    held -= 1

        await asyncio.gather(*(work() for _ in range(4)))
        assert (most, len(tokens)) == (1, 16)
        assert tokens == sorted(set(tokens))

    async def test_who_waits_too_long_for_a_lock_is_told(self, backend: Backend) -> None:
        """Another one, also of any name, is free."""
        async with backend.lock("user:7 *.>"):
            with pytest.raises(Unavailable, match="is held by somebody else"):
                async with backend.lock("user:7 *.>", wait=0.1):
                    raise AssertionError
            async with backend.lock("user:8", wait=5):
                pass

    async def test_a_lock_that_is_free_is_had_by_who_does_not_wait(self, backend: Backend) -> None:
        """With ``wait=0`` it is asked for once; who finds it held is told."""
        async with backend.lock("job", wait=0):
            with pytest.raises(Unavailable, match="held by somebody else"):
                async with backend.lock("job", wait=0):
                    pass

    async def test_a_block_that_fails_gives_its_lock_back(self, backend: Backend) -> None:
        """At once."""
        with pytest.raises(ValueError, match="no"):
            async with backend.lock("job", ttl=60):
                raise ValueError("no")
        async with backend.lock("job", ttl=60, wait=5):
            pass

    async def test_names_and_times_that_make_no_lock_are_refused(self, backend: Backend) -> None:
        """As what they are."""
        for name, ttl in (("", 20), ("x" * 257, 20), ("job", 0)):
            with pytest.raises(ValueError, match=r"is no (name of a lock|time to hold)"):
                backend.lock(name, ttl=ttl)
