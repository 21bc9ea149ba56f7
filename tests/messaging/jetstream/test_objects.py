"""Large objects: streamed in and out with flat memory, digests checked, nothing half left behind."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cliffracer import shielding
from cliffracer.errors import Conflict, DeadlineExceeded, Internal, InvalidInput, NotFound, SetupError, Unavailable
from cliffracer.messaging.jetstream import JetStream, PubAck
from cliffracer.messaging.objects import CHUNK, SHARED, TOGETHER, WINDOW, ObjectStore
from cliffracer.messaging.reading import Reader
from cliffracer.messaging.stores import Bucket
from tests.messaging.jetstream.support import asked_of
from tests.support.nats import NatsServer
from tests.support.sizes import sized

MIB = 1024 * 1024
Change = Callable[[ObjectStore], Awaitable[object]]


@pytest.fixture
def files(jetstream: JetStream) -> ObjectStore:
    return ObjectStore(jetstream, Bucket("files"))


async def stored(jetstream: JetStream) -> int:
    return (await jetstream.stream("OBJ_files")).state.messages


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * MIB + 7])
async def test_an_object_comes_back_as_it_was(files: ObjectStore, size: int):
    """Of any size, empty and exact chunks among them."""
    data = os.urandom(size)
    info = await files.put("report.pdf", data, description="of May", metadata={"kind": "report"})
    assert await files.read("report.pdf") == await files.get("report.pdf") == data
    assert b"".join([chunk async for chunk in files.get("report.pdf")]) == data
    assert (info.size, info.chunks) == (size, -(-size // CHUNK))
    assert await files.info("report.pdf") == info


async def test_an_object_that_is_not_there_is_not_found(files: ObjectStore):
    """Awaited, or read chunk by chunk."""
    reading = files.get("nothing")
    with pytest.raises(NotFound):
        await reading
    with pytest.raises(NotFound):
        await anext(reading)
    await files.get("nothing").aclose()


@pytest.mark.parametrize("cancelled", [True, False])
async def test_who_cannot_store_an_object_is_not_kept_waiting(files: ObjectStore, monkeypatch: pytest.MonkeyPatch, cancelled: bool):
    """Nor told of something else, where the server hangs just then and what was stored cannot be removed."""
    hung = asyncio.Event()

    async def hanging(*_: object, **__: object) -> int:
        hung.set()
        await asyncio.Event().wait()
        return 0

    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * 300_000
        if cancelled:
            raise asyncio.CancelledError
        raise OSError("the disk is gone")

    monkeypatch.setattr(files._jetstream, "purge", hanging)
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError if cancelled else OSError):
            await files.put("a", failing())
        await hung.wait()
    for task in list(shielding._at_work):
        task.cancel()


@pytest.mark.parametrize("change", ["put", "delete"])
async def test_who_is_cancelled_at_the_last_moment_leaves_no_half(
    files: ObjectStore, jetstream: JetStream, monkeypatch: pytest.MonkeyPatch, change: str
):
    """What is known of an object is on its way to the server: it is changed as a whole, and keeps no chunks that nobody needs."""
    old, new = os.urandom(300_000), os.urandom(300_000)
    await files.put("report.pdf", old)
    publish = files._publisher.publish

    async def cancelling(subject: str, *given: Any, **options: Any) -> PubAck:
        if subject.startswith(files._metas):
            changing.cancel()
        return await publish(subject, *given, **options)

    monkeypatch.setattr(files._publisher, "publish", cancelling)
    changing = asyncio.create_task(files.put("report.pdf", new) if change == "put" else files.delete("report.pdf"))
    await asyncio.wait([changing])
    assert changing.cancelled()
    async with asyncio.timeout(30):
        while await stored(jetstream) != (4 if change == "put" else 1):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    if change == "put":
        assert await files.read("report.pdf") == new
    else:
        assert await files.list() == []


async def test_an_object_of_which_nobody_knows_whether_it_is_stored_is_whole_if_it_is(files: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    """The server has it, and could not say so in time."""
    new = os.urandom(300_000)
    await files.put("report.pdf", b"old")
    publish = files._publisher.publish

    async def unheard(subject: str, *given: Any, **options: Any) -> PubAck:
        ack = await publish(subject, *given, **options)
        if subject.startswith(files._metas):
            raise DeadlineExceeded("no answer in time")
        return ack

    monkeypatch.setattr(files._publisher, "publish", unheard)
    with pytest.raises(DeadlineExceeded):
        await files.put("report.pdf", new)
    assert await files.read("report.pdf") == new


async def test_a_reader_that_is_cancelled_as_it_leaves_is_ended(files: ObjectStore, jetstream: JetStream):
    """Nothing goes on asking for messages that nobody reads."""
    await files.put("report.pdf", b"text")
    entered = asyncio.Event()

    async def read() -> None:
        async with Reader(jetstream, "OBJ_files", ["$O.>"]):
            entered.set()

    task = asyncio.create_task(read())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    async with asyncio.timeout(30):
        while await jetstream.consumers("OBJ_files"):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    assert not [each for each in asyncio.all_tasks() if each.get_name().startswith("pull")]


async def test_objects_that_are_read_whole_come_a_few_at_a_time(jetstream: JetStream, files: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    """From all buckets together: a server cuts off whoever asks for hundreds and cannot read them at once."""
    others, reading, most, get = ObjectStore(jetstream, Bucket("others")), 0, 0, ObjectStore.get

    async def counted(self: ObjectStore, name: str) -> AsyncIterator[bytes]:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        async for chunk in get(self, name):
            yield chunk
        reading -= 1

    monkeypatch.setattr(ObjectStore, "get", counted)
    await files.put("one", b"1" * CHUNK)
    await others.put("one", b"2" * CHUNK)
    whole = await asyncio.gather(*(store.read("one") for store in (files, others) for _ in range(3 * TOGETHER)))
    assert {data[:1] for data in whole} == {b"1", b"2"}
    assert most == TOGETHER


async def test_many_who_read_at_once_have_fewer_chunks_on_their_way_each(
    jetstream: JetStream, files: ObjectStore, monkeypatch: pytest.MonkeyPatch
):
    """All of them together as many as a few; one who is alone again has as many as ever."""
    asked = asked_of(jetstream, monkeypatch)
    await files.put("film", b"1" * 40 * CHUNK)
    readers = [files.get("film") for _ in range(SHARED // 2)]
    await asyncio.gather(*(anext(reader) for reader in readers))
    assert max(request["batch"] for request in asked) == 2
    for reader in readers[1:]:
        await reader.aclose()
    assert len([chunk async for chunk in readers[0]]) == 39
    assert max(request["batch"] for request in asked) > WINDOW // 2


async def test_an_object_can_be_put_from_a_file_or_an_iterator(files: ObjectStore):
    """Pieces of any size make chunks of one size."""
    data = os.urandom(MIB)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    await files.put("one", pieces())
    await files.put("two", io.BytesIO(data))
    assert await files.read("one") == await files.read("two") == data
    assert (await files.info("one")).digest == (await files.info("two")).digest


async def test_a_new_object_takes_the_place_of_the_old(files: ObjectStore, jetstream: JetStream):
    """Of the old one nothing is left."""
    await files.put("a", os.urandom(3 * CHUNK))
    await files.put("a", b"short")
    assert await files.read("a") == b"short"
    assert await stored(jetstream) == 2


async def test_an_object_is_deleted(files: ObjectStore, jetstream: JetStream):
    """With its chunks; a second time it is not found."""
    await files.put("a", os.urandom(3 * CHUNK))
    await files.put("b", b"b")
    await files.delete("a")
    with pytest.raises(NotFound, match="files has no a"):
        await files.read("a")
    with pytest.raises(NotFound):
        await files.delete("a")
    assert [info.name for info in await files.list()] == ["b"]
    assert await stored(jetstream) == 3


async def test_of_those_who_write_one_object_at_once_nothing_is_left_behind(files: ObjectStore, jetstream: JetStream):
    """One of them was the last: the chunks of the others are nobody's, also where it is removed meanwhile."""
    made = [os.urandom(3 * CHUNK) for _ in range(6)]
    await asyncio.gather(*(files.put("a", data) for data in made))
    assert await files.read("a") in made
    assert await stored(jetstream) == 4
    await asyncio.gather(*(files.put("a", data) for data in made), *(files.delete("a") for _ in range(2)), return_exceptions=True)
    left = len(await files.list())
    assert await stored(jetstream) == 1 + 3 * left


async def test_a_bucket_that_is_full_refuses_and_can_be_emptied(jetstream: JetStream):
    """What was stored stays whole: none of its chunks makes room for another's. What is removed does, although that cannot be noted."""
    files = ObjectStore(jetstream, Bucket("files", max_bytes=4000))
    names = []

    async def fill() -> None:
        while True:
            await files.put(f"{len(names):03}", b"1")
            names.append(f"{len(names):03}")

    with pytest.raises(Unavailable, match="files has no room for this object: the bucket, or NATS, is full"):
        await files.put("large", bytes(5000))
    with pytest.raises(Unavailable, match="full"):
        await fill()
    assert [info.name for info in await files.list()] == names
    assert [await files.read(name) for name in names] == [b"1"] * len(names)
    for name in names:
        await files.delete(name)
    assert await files.list() == []
    await files.put("again", b"2")


async def test_a_source_that_fails_leaves_nothing_and_keeps_the_old(files: ObjectStore, jetstream: JetStream):
    """The error is the source's own."""

    async def breaks() -> AsyncIterator[bytes]:
        yield os.urandom(20 * CHUNK)
        raise OSError("the disk is gone")

    await files.put("a", b"old")
    with pytest.raises(OSError, match="the disk is gone"):
        await files.put("a", breaks())
    assert await files.read("a") == b"old"
    assert await stored(jetstream) == 2


async def test_a_damaged_object_is_noticed(files: ObjectStore, jetstream: JetStream):
    """The digest is checked when all is read."""
    info = await files.put("a", b"good")
    subject = f"$O.files.C.{info.nuid}"
    await jetstream.purge("OBJ_files", filter=subject)
    await jetstream.store(subject, b"evil")
    with pytest.raises(Internal, match="files/a is damaged"):
        await files.read("a")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda files: files.put("a", b"new"), Conflict, "files/a was replaced while it was read"),
        (lambda files: files.delete("a"), NotFound, "files has no a"),
        (lambda files: files.destroy(), NotFound, "files has no a"),
    ],
)
async def test_what_is_replaced_or_removed_is_not_waited_for(files: ObjectStore, change: Change, error: type[Exception], said: str):
    """Its chunks go with it: whoever was in the middle of it hears of that."""

    async def read() -> None:
        async for chunk in files.get("a"):
            got.append(chunk)
            if len(got) == 1:
                await change(files)

    got: list[bytes] = []
    await files.put("a", os.urandom(60 * CHUNK))
    with pytest.raises(error, match=said):
        await read()
    assert 0 < len(got) < 60


async def test_what_is_gone_of_an_object_is_not_waited_for(files: ObjectStore, jetstream: JetStream):
    """As where the chunks are older than the bucket keeps anything, and what names them is not yet."""
    info = await files.put("a", b"x")
    await jetstream.purge("OBJ_files", filter=f"$O.files.C.{info.nuid}")
    with pytest.raises(Internal, match="files/a is damaged: 0 of 1 chunks are there"):
        await files.read("a")


async def test_any_name_will_do(files: ObjectStore):
    """Names are not subjects; only an empty one and a huge one are refused."""
    for name in ("ä ö.txt", "a/b/../c", "*.>", "\r\n"):
        await files.put(name, name.encode())
        assert await files.read(name) == name.encode()
    for name in ("", "x" * 513):
        with pytest.raises(InvalidInput):
            await files.put(name, b"")


def test_a_history_of_objects_is_refused(jetstream: JetStream):
    """Nothing would be kept of it."""
    with pytest.raises(SetupError, match=r"Bucket\('files'\): an ObjectStore keeps the last object of each name, so leave out history"):
        ObjectStore(jetstream, Bucket("files", history=5))


async def test_what_is_no_data_is_a_type_error(files: ObjectStore):
    """It says what is; nothing of it is stored."""
    with pytest.raises(TypeError, match="str is no data of an object: give bytes"):
        await files.put("a", "text")  # type: ignore[arg-type]  # that is the mistake
    assert await files.list() == []


async def test_an_object_is_one_that_other_clients_read(files: ObjectStore, server: NatsServer):
    """Subjects, chunks and digest are those of ADR-20."""
    import nats

    data = os.urandom(CHUNK * 2 + 5)
    await files.put("ours", data)
    client = await nats.connect(server.url)
    bucket = await client.jetstream().object_store("files")
    assert (await bucket.get("ours")).data == data
    await bucket.put("theirs", data)
    await client.close()
    assert await files.read("theirs") == data


async def test_reading_survives_a_restart_of_the_server(files: ObjectStore, server: NatsServer):
    """In the middle of an object, without a byte twice."""
    data = os.urandom(20 * MIB)
    await files.put("a", data)
    read = bytearray()
    async for chunk in files.get("a"):
        read += chunk
        if len(read) == 40 * CHUNK:
            await asyncio.to_thread(server.restart)
    assert bytes(read) == data


async def test_writing_survives_a_restart_of_the_server(files: ObjectStore, server: NatsServer):
    """Chunks whose ack was lost are neither missing nor there twice."""
    data = os.urandom(20 * MIB)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), MIB):
            if start in (5 * MIB, 12 * MIB):
                restarts.append(asyncio.create_task(asyncio.to_thread(server.restart)))
            yield data[start : start + MIB]

    restarts: list[asyncio.Task[None]] = []
    await files.put("a", pieces())
    await asyncio.gather(*restarts)
    assert await files.read("a") == data


async def test_an_object_whose_bucket_is_lost_meanwhile_is_not_stored(files: ObjectStore, jetstream: JetStream):
    """Its first part went with it: the one who stores it is told, and can store it again."""
    data = os.urandom(WINDOW * CHUNK)

    async def pieces() -> AsyncIterator[bytes]:
        yield data
        await jetstream.delete_stream("OBJ_files")
        yield data

    with pytest.raises(Unavailable, match="files lost a part of the object while it was stored"):
        await files.put("a", pieces())
    with pytest.raises(NotFound):
        await files.info("a")
    await files.put("a", data)
    assert await files.read("a") == data


async def test_memory_stays_flat(files: ObjectStore):
    """256 MiB in and out, in a long run 1 GiB, with the growth of this process bounded."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(mebibytes):
            yield block

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    block, mebibytes = os.urandom(MIB), sized(256, 1024)
    await files.put("warm", block)
    before, most, size = resident(), 0, 0
    await files.put("large", pieces())
    most = resident()
    async for chunk in files.get("large"):
        size += len(chunk)
        most = max(most, resident())
    assert size == mebibytes * MIB
    assert most - before < 48 * MIB
