"""Typed values under keys: revisions, expiry, history, and a watch that outlives the server."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest

from cliffracer import App
from cliffracer.errors import Conflict, DeadlineExceeded, Internal, InvalidInput, NotFound, SetupError
from cliffracer.messaging.bus import Bus, Reply
from cliffracer.messaging.jetstream import JetStream, StreamInfo
from cliffracer.messaging.keyvalue import KeyValue
from cliffracer.messaging.reading import Reader
from cliffracer.messaging.stores import Bucket, Entry, bucket_of
from cliffracer.testing import running
from cliffracer.wire.headers import Headers, encode_headers
from tests.support.nats import NatsServer
from tests.support.waiting import eventually


class Session(msgspec.Struct):
    user: str
    visits: int = 0


@pytest.fixture
def sessions(jetstream: JetStream) -> KeyValue[Session]:
    return KeyValue(jetstream, Bucket("sessions", history=5), Session)


async def test_a_value_is_there_after_it_was_put(sessions: KeyValue[Session]):
    """As the type it has."""
    revision = await sessions.put("ada", Session("Ada"))
    assert await sessions.get("ada") == Session("Ada")
    entry = await sessions.entry("ada")
    assert entry is not None
    assert (entry.key, entry.revision, entry.deleted) == ("ada", revision, False)


async def test_what_nobody_could_read_is_not_written(sessions: KeyValue[Session]):
    """Whoever writes it is told, and not everybody who reads it from then on."""
    wrong: Any = {"user": 7}
    for write in (sessions.put("ada", wrong), sessions.create("ada", wrong), sessions.update("ada", wrong, 0)):
        with pytest.raises(InvalidInput, match="that is no value of sessions") as told:
            await write
        assert [error["path"] for error in told.value.errors] == ["user"]
    assert await sessions.entry("ada") is None


async def test_a_key_that_is_not_there_is_not_found(sessions: KeyValue[Session]):
    """Or the default; also before the bucket was ever used."""
    with pytest.raises(NotFound, match="sessions has no ada"):
        await sessions.get("ada")
    assert await sessions.get("ada", None) is None
    assert await sessions.entry("ada") is None


async def test_a_bucket_is_made_once_for_all_who_look_into_it_first(
    jetstream: JetStream, sessions: KeyValue[Session], monkeypatch: pytest.MonkeyPatch
):
    """Thousands of callers of a service that has just begun look up as many keys; each asking for the bucket is too much for NATS."""
    asked: Counter[str] = Counter()
    ask = jetstream.ask

    async def counted(verb: str, *rest: Any) -> Any:
        asked[verb] += 1
        return await ask(verb, *rest)

    monkeypatch.setattr(jetstream, "ask", counted)
    assert await asyncio.gather(*(sessions.get(f"user{number}", None) for number in range(1000))) == [None] * 1000
    assert asked["STREAM.CREATE.KV_sessions"] == 1
    assert asked["STREAM.INFO.KV_sessions"] < 10


async def test_create_refuses_a_key_that_is_there(sessions: KeyValue[Session]):
    """It may be created again after it was deleted."""
    await sessions.create("ada", Session("Ada"))
    with pytest.raises(Conflict, match="has ada already"):
        await sessions.create("ada", Session("Eve"))
    await sessions.delete("ada")
    await sessions.create("ada", Session("Ada again"))
    assert (await sessions.get("ada")).user == "Ada again"


async def test_updates_compare_revisions(sessions: KeyValue[Session]):
    """A stale one is a conflict; counting by many loses nothing."""
    revision = await sessions.put("ada", Session("Ada"))
    await sessions.update("ada", Session("Ada", 1), revision)
    with pytest.raises(Conflict):
        await sessions.update("ada", Session("Ada", 9), revision)

    async def visit() -> None:
        while True:
            entry = await sessions.entry("ada")
            assert entry is not None and entry.value is not None  # noqa: PT018
            try:
                await sessions.update("ada", Session("Ada", entry.value.visits + 1), entry.revision)
            except Conflict:
                continue
            return

    await asyncio.gather(*(visit() for _ in range(10)))
    assert (await sessions.get("ada")).visits == 11


def losing(jetstream: JetStream, monkeypatch: pytest.MonkeyPatch, which: Callable[[bytes, list[bytes]], bool]) -> list[bytes]:
    """Have the answers to some requests lost, by subject and by what was lost before; return that."""
    ask, lost = jetstream.bus.request, []

    async def request(subject: bytes, *given: Any, **options: Any) -> Reply:
        reply = await ask(subject, *given, **options)
        if which(subject, lost):
            lost.append(subject)
            raise DeadlineExceeded("no answer in time")
        return reply

    monkeypatch.setattr(jetstream.bus, "request", request)
    return lost


async def test_whether_it_was_written_before_somebody_else_did_nobody_can_tell(
    sessions: KeyValue[Session], jetstream: JetStream, monkeypatch: pytest.MonkeyPatch
):
    """The answer was lost, and the key is another's when it is repeated: that is no success, and may have been one."""
    revision, request = await sessions.put("ada", Session("Ada")), jetstream.bus.request

    async def outdone(subject: bytes, *given: Any, **options: Any) -> Reply:
        monkeypatch.setattr(jetstream.bus, "request", request)
        await request(subject, *given, **options)
        await sessions.put("ada", Session("Eve"))
        raise DeadlineExceeded("no answer in time")

    monkeypatch.setattr(jetstream.bus, "request", outdone)
    with pytest.raises(Conflict) as caught:
        await sessions.update("ada", Session("Ada", 1), revision)
    assert caught.value.details["outcome"] == "unknown"
    assert await sessions.get("ada") == Session("Eve")


async def test_what_was_written_and_not_heard_of_is_no_conflict(
    sessions: KeyValue[Session], jetstream: JetStream, monkeypatch: pytest.MonkeyPatch
):
    """The answer was lost with the connection: the repetition finds the condition failed, for what it has written itself."""
    await sessions.put("there", Session("there"))
    lost = losing(jetstream, monkeypatch, lambda subject, lost: subject.startswith(b"$KV.") and subject not in lost)
    with pytest.raises(Conflict, match="has there already"):
        await sessions.create("there", Session("there"))
    for change in ("create", "update", "delete"):
        lost.clear()
        before = await sessions.entry("ada")
        if change == "create":
            assert await sessions.create("ada", Session("Ada")) == (await sessions.entry("ada")).revision
        elif change == "update":
            assert await sessions.update("ada", Session("Ada", 1), before.revision) == before.revision + 1
        else:
            await sessions.delete("ada", revision=before.revision)
    assert [entry.deleted for entry in await sessions.history("ada")] == [False, False, True]


async def test_a_value_whose_answer_is_lost_is_asked_for_again(
    sessions: KeyValue[Session], jetstream: JetStream, monkeypatch: pytest.MonkeyPatch
):
    """As where NATS restarts just then: it is back long before the time is over."""
    await sessions.put("ada", Session("Ada"))
    lost = losing(jetstream, monkeypatch, lambda subject, lost: b".DIRECT.GET." in subject and len(lost) < 2)
    assert await sessions.get("ada") == Session("Ada")
    assert len(lost) == 2


async def test_keys_are_listed_by_pattern(sessions: KeyValue[Session]):
    """Those that are there, not those that were."""
    assert await sessions.keys() == []
    for key in ("user.ada", "user.eve", "guest.1", "user.old"):
        await sessions.put(key, Session(key))
    await sessions.delete("user.old")
    assert sorted(await sessions.keys()) == ["guest.1", "user.ada", "user.eve"]
    assert sorted(await sessions.keys("user.*")) == ["user.ada", "user.eve"]


async def test_a_value_expires(jetstream: JetStream):
    """By the bucket's ttl, or by its own."""
    bucket: KeyValue[int] = KeyValue(jetstream, Bucket("short", ttl=1.0), int)
    lasting: KeyValue[int] = KeyValue(jetstream, Bucket("lasting"), int)
    await bucket.put("a", 1)
    await lasting.put("a", 1, ttl=1.0)
    await lasting.put("b", 2)
    for _ in range(200):
        if await bucket.get("a", None) is None and await lasting.get("a", None) is None:
            break
        await asyncio.sleep(0.05)
    assert await bucket.get("a", None) is None
    assert await lasting.get("a", None) is None
    assert await lasting.get("b") == 2


@pytest.mark.parametrize("key", ["", "a b", "a*", ">", ".a", "a.", "a..b", "ä", "a\r\nPUB x 0", "x" * 600])
async def test_a_bad_key_is_invalid_input(sessions: KeyValue[Session], key: str):
    """It never reaches the wire."""
    with pytest.raises(InvalidInput, match="is no key"):
        await sessions.put(key, Session("x"))
    with pytest.raises(InvalidInput, match="is no key"):
        await sessions.get(key)


async def test_a_value_of_another_shape_is_named(jetstream: JetStream, sessions: KeyValue[Session]):
    """Whoever wrote it: bucket, key and what does not fit."""
    other: KeyValue[Any] = KeyValue(jetstream, Bucket("sessions", history=5), Any)
    await other.put("ada", {"visits": "many"})
    with pytest.raises(Internal, match="what sessions has under ada does not fit"):
        await sessions.get("ada")


async def test_a_watch_sees_what_is_there_and_every_change(sessions: KeyValue[Session], server: NatsServer):
    """Also those made while it was cut off by a restart of the server, in order and each once."""
    await sessions.put("ada", Session("Ada"))
    seen: list[Entry[Session]] = []

    async def watch() -> None:
        async for entry in sessions.watch():
            seen.append(entry)  # noqa: PERF401 - it has no end

    watching = asyncio.create_task(watch())
    await eventually(lambda: len(seen) == 1)
    await sessions.put("eve", Session("Eve"))
    await eventually(lambda: len(seen) == 2)
    for number in range(3):
        await asyncio.to_thread(server.restart)
        await sessions.put("ada", Session("Ada", number))
        await eventually(lambda number=number: len(seen) == 3 + number)
    await sessions.delete("eve")
    await eventually(lambda: len(seen) == 6)
    watching.cancel()
    await asyncio.wait([watching])
    assert [(entry.key, entry.value.visits if entry.value else None) for entry in seen] == [
        ("ada", 0), ("eve", 0), ("ada", 0), ("ada", 1), ("ada", 2), ("eve", None),
    ]  # fmt: skip


async def test_a_value_is_not_gone_before_its_time(sessions: KeyValue[Session], jetstream: JetStream):
    """The server counts in whole seconds, so they are rounded up."""
    for ttl, told in ((0.2, "1s"), (1.4, "2s"), ("2500ms", "3s"), (60, "60s")):
        await sessions.put("ada", Session("Ada"), ttl=ttl)
        stored = await jetstream.last_message("KV_sessions", "$KV.sessions.ada")
        assert stored is not None
        assert Headers(stored.hdrs)["Nats-TTL"] == told


@pytest.mark.parametrize("history", [1, 3])
async def test_a_watch_that_was_cut_off_sees_what_is_kept(jetstream: JetStream, monkeypatch: pytest.MonkeyPatch, history: int):
    """Of each key as many of its latest changes as the bucket keeps."""
    store: KeyValue[int] = KeyValue(jetstream, Bucket("counts", history=history), int)
    await store.put("a", 1)
    seen: list[int | None] = []

    async def watch() -> None:
        async for entry in store.watch():
            seen.append(entry.value)  # noqa: PERF401 - it has no end

    watching = asyncio.create_task(watch())
    await eventually(lambda: seen == [1])
    ensure, let = Reader._ensure, asyncio.Event()

    async def held(reader: Reader) -> str:
        await let.wait()
        return await ensure(reader)

    monkeypatch.setattr(Reader, "_ensure", held)
    (info,) = await jetstream.consumers("KV_counts")
    await jetstream.delete_consumer("KV_counts", info.name)
    for number in range(2, 7):
        await store.put("a", number)
    let.set()
    await eventually(lambda: seen[-1] == 6)
    watching.cancel()
    await asyncio.wait([watching])
    assert seen == [1, *range(7 - history, 7)]


async def test_a_value_that_is_gone_by_its_time_is_no_change_to_a_watch(sessions: KeyValue[Session]):
    """The server removes it without a word; who asks for it does not find it."""
    seen: list[tuple[str, bool]] = []

    async def watch() -> None:
        async for entry in sessions.watch():
            seen.append((entry.key, entry.deleted))  # noqa: PERF401 - it has no end

    await sessions.put("eve", Session("Eve"))
    watching = asyncio.create_task(watch())
    await eventually(lambda: len(seen) == 1)
    await sessions.put("ada", Session("Ada"), ttl=1)
    while await sessions.entry("ada") is not None:  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.05)
    await sessions.put("bob", Session("Bob"))
    await eventually(lambda: seen[-1] == ("bob", False))
    watching.cancel()
    await asyncio.wait([watching])
    assert seen == [("eve", False), ("ada", False), ("bob", False)]


async def test_who_watches_is_told_that_all_is_seen_though_nats_restarted_while_the_watch_began(
    bus: Bus, sessions: KeyValue[Session], server: NatsServer, monkeypatch: pytest.MonkeyPatch
):
    """Who waits to have seen all, over the present connection, would wait for ever: the watch begins anew over that one."""
    await sessions.put("ada", Session("Ada"))
    ensure, restarts, told = sessions.ensure, [bus.info], asyncio.Event()

    async def interrupted() -> StreamInfo:
        if restarts:
            before = restarts.pop()
            await asyncio.to_thread(server.restart)
            await eventually(lambda: bus.info is not before)
        return await ensure()

    async def watch() -> None:
        async for _ in sessions.watch(caught_up=told.set):
            pass

    monkeypatch.setattr(sessions, "ensure", interrupted)
    watching = asyncio.create_task(watch())
    await eventually(told.is_set)
    watching.cancel()
    await asyncio.wait([watching])


async def test_a_bucket_is_one_that_other_clients_read(sessions: KeyValue[Session], server: NatsServer):
    """Stream, subjects and markers are those of ADR-8."""
    import nats

    await sessions.put("ada", Session("Ada"))
    client = await nats.connect(server.url)
    bucket = await client.jetstream().key_value("sessions")
    assert (await bucket.get("ada")).value == b'{"user":"Ada","visits":0}'
    await bucket.put("eve", b'{"user":"Eve"}')
    await bucket.delete("ada")
    await client.close()
    assert await sessions.get("eve") == Session("Eve")
    assert await sessions.get("ada", None) is None


async def test_namespaces_do_not_share_buckets(jetstream: JetStream):
    """The name on the server has the namespace in front."""
    one: KeyValue[int] = KeyValue(jetstream, Bucket("counts"), int, namespace="staging")
    other: KeyValue[int] = KeyValue(jetstream, Bucket("counts"), int)
    await one.put("a", 1)
    assert await other.get("a", None) is None
    assert one.bucket == "staging_counts"
    with pytest.raises(NotFound, match=r"^counts has no b$"):  # as it was declared: callers read it
        await one.get("b")


def test_a_bucket_is_named_by_its_type_or_a_marker():
    """A type of others has the names of all, and of where they are defined nothing; without a type, the error shows how."""
    assert bucket_of(KeyValue[Session]) == (Bucket("session"), Session)
    assert bucket_of(Annotated[KeyValue[dict[str, int]], Bucket("counts", ttl="1h")]) == (Bucket("counts", ttl="1h"), dict[str, int])
    assert bucket_of(KeyValue[int]) == (Bucket("int"), int)
    assert bucket_of(KeyValue[dict[str, list[Session] | None]])[0] == Bucket("dict_str_list_session_none")
    with pytest.raises(SetupError, match="Write KeyValue"):
        bucket_of(KeyValue)


@pytest.mark.parametrize(
    "given", [{"ttl": "soon"}, {"ttl": "-1s"}, {"ttl": 0}, {"history": 0}, {"history": 65}, {"max_bytes": 0}, {"max_bytes": -5}], ids=str
)
def test_a_bucket_that_cannot_be_is_refused_where_it_is_written(given):
    """It was an error of the first call, or another bucket than what was asked for."""
    with pytest.raises(SetupError, match=f"^Bucket\\('visits'\\): .*{next(iter(given))}"):
        Bucket("visits", **given)


async def test_values_of_plain_types_need_no_bucket_of_their_own():
    """``KeyValue[int]`` is provided as it stands."""
    app = App("counting")

    @app.rpc
    async def count(name: str, *, counts: KeyValue[int], words: KeyValue[dict[str, int]]) -> int:
        await words.put(name, {"a": 1})
        await counts.put(name, await counts.get(name, 0) + 1)
        return await counts.get(name)

    async with running(app) as t:
        assert [await t.call("count", name="a"), await t.call("count", name="a")] == [1, 2]


async def test_what_a_writer_says_of_itself_is_not_taken_for_the_servers(jetstream: JetStream, sessions: KeyValue[Session]):
    """Headers of the names that the server uses forge no revision and no time, and end no look-up."""
    await sessions.put("ada", Session("Ada"))
    for number in ("x", "1"):
        forged = {"Nats-Sequence": number, "Nats-Time-Stamp": "never", "Nats-Msg-Id": number}
        await jetstream.store("$KV.sessions.ada", b'{"user":"Eve"}', encode_headers(forged))
    entry = await sessions.entry("ada")
    assert entry is not None
    assert (entry.value, entry.revision) == (Session("Eve"), 3)
    assert await sessions.update("ada", Session("Ada"), entry.revision) == 4


@pytest.mark.parametrize("pattern", ["", "a b", "a..b", "a\r\nPUB x 0"])
async def test_a_bad_pattern_is_invalid_input(sessions: KeyValue[Session], pattern: str):
    """As a bad key is."""
    with pytest.raises(InvalidInput, match="no subject pattern"):
        await sessions.keys(pattern)


async def test_a_bucket_with_a_size_drops_the_oldest(jetstream: JetStream):
    """It never refuses a value for want of room."""
    small: KeyValue[str] = KeyValue(jetstream, Bucket("small", max_bytes=20_000), str)
    for number in range(50):
        await small.put(f"key.{number}", "x" * 1000)
    assert await small.get("key.49") == "x" * 1000
    assert await small.get("key.0", None) is None


async def test_a_deletion_leaves_nothing_after_its_time(jetstream: JetStream):
    """Where keys come and go, what is left of them would fill a bucket."""
    many: KeyValue[int] = KeyValue(jetstream, Bucket("many"), int)
    await many.put("key", 1)
    await many.delete("key", ttl=1)
    assert await many.get("key", None) is None

    async def empty() -> bool:
        return await many.history("key") == []

    async with asyncio.timeout(10):
        while not await empty():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.1)


async def test_a_watch_sees_what_changes_after_the_server_went_back(sessions: KeyValue[Session], server: NatsServer):
    """And what is there then, as it is by now."""
    seen: list[tuple[str, int]] = []

    async def watch() -> None:
        async for entry in sessions.watch():
            assert entry.value is not None
            seen.append((entry.key, entry.value.visits))

    watching = asyncio.create_task(watch())
    await sessions.put("ada", Session("Ada", 0))
    await asyncio.to_thread(server.keep)
    for visits in range(1, 6):
        await sessions.put("ada", Session("Ada", visits))
    await eventually(lambda: seen[-1:] == [("ada", 5)])
    await asyncio.to_thread(server.go_back)
    await eventually(lambda: seen[-1:] == [("ada", 0)])
    await sessions.put("bob", Session("Bob", 7))
    await eventually(lambda: seen[-1:] == [("bob", 7)])
    watching.cancel()
    await asyncio.wait([watching])
