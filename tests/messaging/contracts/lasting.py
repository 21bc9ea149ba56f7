"""What any backend does about timers and leaders."""

import asyncio

from cliffracer.messaging.broker import Backend
from cliffracer.messaging.plans import Every
from tests.support.waiting import eventually


class LastingContract:
    """Functions that run by themselves, in one replica."""

    async def test_a_timer_runs_once_in_all_replicas_and_not_beside_itself(self, backend: Backend) -> None:
        """Also one that takes longer than from one time to the next; what it raises ends nothing."""
        runs = together = most = 0

        async def purge() -> None:
            nonlocal runs, together, most
            together += 1
            runs, most = runs + 1, max(most, together)
            await asyncio.sleep(0.3)
            together -= 1
            if runs == 1:
                raise ValueError("no")

        timers = [backend.timer("reports", "purge", Every(0.2), purge) for _ in range(3)]
        await asyncio.gather(*(timer.start() for timer in timers))
        await eventually(lambda: runs >= 3)
        await asyncio.gather(*(timer.drain(5) for timer in timers))
        assert most == 1

    async def test_timers_go_on_in_another_replica_and_each_has_its_own_times(self, backend: Backend) -> None:
        """One that stops in order costs no run."""
        one, other, slow = [], [], []

        def noting(notes: list[int]) -> object:
            async def note() -> None:
                notes.append(1)

            return note

        first, second = (backend.timer("reports", "purge", Every(0.2), noting(notes)) for notes in (one, other))
        yearly = backend.timer("reports", "yearly", Every(365 * 86_400.0), noting(slow))
        await first.start()
        await eventually(lambda: one)
        await asyncio.gather(second.start(), yearly.start())
        await first.drain(5)
        before = len(one)
        await eventually(lambda: len(other) >= 2)
        assert (len(one), slow) == (before, [])
        assert yearly.following > first.following
        assert await yearly.due() is False
        await asyncio.gather(second.drain(5), yearly.drain(5))

    async def test_a_leader_runs_in_one_replica_and_in_another_when_that_one_stops(self, backend: Backend) -> None:
        """Where it runs it is ended by that."""
        running: list[str] = []

        def leading(name: str) -> object:
            async def lead() -> None:
                running.append(name)
                try:
                    await asyncio.Event().wait()
                finally:
                    running.remove(name)

            return lead

        leaders = {name: backend.leader("feeds", "follow", leading(name)) for name in ("one", "other")}
        await asyncio.gather(*(leader.start() for leader in leaders.values()))
        await eventually(lambda: running)
        first = leaders.pop(running[0])
        assert first.leading
        await first.drain(2)
        [(name, left)] = leaders.items()
        await eventually(lambda: running == [name])
        assert left.leading
        assert not first.leading
        await left.drain(2)
        assert running == []
