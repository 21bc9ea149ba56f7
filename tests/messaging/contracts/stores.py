"""What any backend does about values under keys and large objects."""

import asyncio
import io
import os
from collections.abc import AsyncIterator

import msgspec
import pytest

from cliffracer.errors import Conflict, Internal, InvalidInput, NotFound
from cliffracer.messaging.broker import Backend
from cliffracer.messaging.duties import Values
from cliffracer.messaging.stores import Bucket, Entry
from tests.support.waiting import eventually


class Session(msgspec.Struct):
    user: str
    visits: int = 0


def sessions_of(backend: Backend, history: int = 5) -> Values[Session]:
    """A bucket of sessions."""
    return backend.values(Bucket("sessions", history=history), Session)


class StoresContract:
    """Buckets of values and of objects."""

    async def test_values_are_put_got_and_deleted(self, backend: Backend) -> None:
        """As the type they have; one that is not there is `NotFound`, or the default."""
        sessions = sessions_of(backend)
        with pytest.raises(NotFound, match="sessions has no ada"):
            await sessions.get("ada")
        assert await sessions.get("ada", None) is None
        revision = await sessions.put("ada", Session("Ada"))
        entry = await sessions.entry("ada")
        assert entry is not None
        assert (await sessions.get("ada"), entry.value, entry.revision) == (Session("Ada"), Session("Ada"), revision)
        await sessions.delete("ada")
        await sessions.delete("never")
        assert (await sessions.entry("ada"), await sessions.get("ada", None)) == (None, None)

    async def test_changes_compare_revisions(self, backend: Backend) -> None:
        """One of many creators wins, a stale update is a conflict, and counting by many loses nothing."""
        sessions = sessions_of(backend)
        made = await asyncio.gather(*(sessions.create("ada", Session("Ada")) for _ in range(10)), return_exceptions=True)
        assert sum(isinstance(one, int) for one in made) == 1
        assert sum(isinstance(one, Conflict) for one in made) == 9

        async def visit() -> None:
            while True:
                entry = await sessions.entry("ada")
                assert entry is not None
                assert entry.value is not None
                try:
                    await sessions.update("ada", Session("Ada", entry.value.visits + 1), entry.revision)
                except Conflict:
                    continue
                return

        await asyncio.gather(*(visit() for _ in range(8)))
        assert (await sessions.get("ada")).visits == 8
        with pytest.raises(Conflict):
            await sessions.delete("ada", revision=1)
        await sessions.delete("ada")
        await sessions.create("ada", Session("again"))

    async def test_keys_and_history(self, backend: Backend) -> None:
        """By patterns; as many values as the bucket keeps, deletions included, and none after a purge."""
        sessions = sessions_of(backend, history=3)
        for number in range(5):
            await sessions.put("user.ada", Session("Ada", number))
        await sessions.put("user.bob", Session("Bob"))
        await sessions.put("group.x", Session("X"))
        await sessions.delete("user.bob")
        assert sorted(await sessions.keys()) == ["group.x", "user.ada"]
        assert await sessions.keys("user.*") == ["user.ada"]
        assert [entry.value and entry.value.visits for entry in await sessions.history("user.ada")] == [2, 3, 4]
        assert [entry.deleted for entry in await sessions.history("user.bob")] == [False, True]
        await sessions.purge("user.ada")
        assert [entry.deleted for entry in await sessions.history("user.ada")] == [True]
        assert await sessions.keys("user.*") == []

    async def test_a_watch_sees_what_is_there_and_every_change(self, backend: Backend) -> None:
        """In order, deletions included, of the keys that fit."""
        sessions, seen = sessions_of(backend), []
        await sessions.put("user.ada", Session("Ada", 1))
        await sessions.put("group.x", Session("X"))

        async def watch() -> None:
            async for entry in sessions.watch("user.*"):
                seen.append((entry.key, None if entry.value is None else entry.value.visits, entry.deleted))  # noqa: PERF401

        watching = asyncio.create_task(watch())
        await eventually(lambda: seen)
        await sessions.put("user.ada", Session("Ada", 2))
        await sessions.put("user.bob", Session("Bob", 3))
        await sessions.delete("user.ada")
        await eventually(lambda: len(seen) == 4)
        watching.cancel()
        await asyncio.wait([watching])
        assert seen == [("user.ada", 1, False), ("user.ada", 2, False), ("user.bob", 3, False), ("user.ada", None, True)]

    @pytest.mark.parametrize("there", [0, 3])
    async def test_a_watch_says_when_it_knows_what_was_there(self, backend: Backend, there: int) -> None:
        """Once, when all of it was dealt with; also where there was nothing."""
        sessions, seen = sessions_of(backend), list[str]()
        for number in range(there):
            await sessions.put(f"user.{number}", Session("Ada", number))
        at = list[int]()

        async def watch() -> None:
            async for entry in sessions.watch(caught_up=lambda: at.append(len(seen))):
                seen.append(entry.key)

        watching = asyncio.create_task(watch())
        await eventually(lambda: at)
        await sessions.put("user.bob", Session("Bob"))
        await eventually(lambda: len(seen) == there + 1)
        watching.cancel()
        await asyncio.wait([watching])
        assert at == [there]

    async def test_a_value_is_gone_after_its_time(self, backend: Backend) -> None:
        """One of its own, in whole seconds; others stay."""
        sessions = sessions_of(backend)
        await sessions.put("ada", Session("Ada"), ttl=1)
        await sessions.put("bob", Session("Bob"))
        gone: list[Entry[Session] | None] = [await sessions.entry("ada")]
        assert gone[0] is not None
        async with asyncio.timeout(30):
            while await sessions.entry("ada") is not None:  # noqa: ASYNC110 - it is the broker that knows
                await asyncio.sleep(0.05)
        assert await sessions.keys() == ["bob"]

    async def test_keys_that_are_none_and_values_that_do_not_fit_are_refused(self, backend: Backend) -> None:
        """Keys as bad input; values as a defect, since somebody else put them there."""
        sessions = sessions_of(backend)
        for key in ("", "a b", ".a", "a..b", "*", "x" * 513):
            with pytest.raises(InvalidInput, match="is no key"):
                await sessions.put(key, Session("Ada"))
        await backend.values(Bucket("sessions", history=5), int).put("seven", 7)
        with pytest.raises(Internal, match="sessions has under seven does not fit"):
            await sessions.get("seven")

    async def test_objects_come_back_as_they_were(self, backend: Backend) -> None:
        """From bytes, an iterator or a file; with what is known of them; a new one in place of the old."""
        files, data = backend.objects(Bucket("files")), os.urandom(700_001)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 1000):
                yield data[start : start + 1000]

        for name, source in (("bytes", data), ("pieces", pieces()), ("file", io.BytesIO(data)), ("empty", b"")):
            info = await files.put(name, source, description="of May", metadata={"kind": "report"})
            whole = b"" if name == "empty" else data
            assert (await files.read(name), info.size, info.description, info.metadata) == (whole, len(whole), "of May", {"kind": "report"})
            assert await files.info(name) == info
        assert b"".join([chunk async for chunk in files.get("file")]) == data
        await files.put("bytes", b"short")
        assert await files.read("bytes") == b"short"
        assert sorted(info.name for info in await files.list()) == ["bytes", "empty", "file", "pieces"]
        await files.delete("bytes")
        assert sorted(info.name for info in await files.list()) == ["empty", "file", "pieces"]
        for asked in (files.read("bytes"), files.info("bytes"), files.delete("bytes")):
            with pytest.raises(NotFound, match="files has no bytes"):
                await asked

    async def test_an_object_whose_source_fails_is_not_there_and_the_old_one_is(self, backend: Backend) -> None:
        """No half of it either."""
        files = backend.objects(Bucket("files"))
        await files.put("a", b"old")

        async def failing() -> AsyncIterator[bytes]:
            yield b"x" * 300_000
            raise OSError("the disk is gone")

        for name in ("a", "b"):
            with pytest.raises(OSError, match="the disk is gone"):
                await files.put(name, failing())
        assert await files.read("a") == b"old"
        assert [info.name for info in await files.list()] == ["a"]
        with pytest.raises(InvalidInput, match="needs a name"):
            await files.put("", b"")

    async def test_a_bucket_that_is_destroyed_is_empty(self, backend: Backend) -> None:
        """And there again when it is used; one that never was can be destroyed as well."""
        sessions, files = sessions_of(backend), backend.objects(Bucket("files"))
        for store in (sessions, files):
            await store.destroy()
        await sessions.put("ada", Session("Ada"))
        await files.put("a", b"1")
        for store in (sessions, files):
            await store.destroy()
        assert (await sessions.keys(), await files.list()) == ([], [])
