"""Our parser and nats-py's read the same from the same bytes, wherever they are cut; ours is fair, and gives nothing away."""

import asyncio
import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.protocol.parser import Parser as NatsParser

from cliffracer.messaging.transport.guard import StrictParser
from cliffracer.messaging.transport.parser import Parser, ProtocolError

Seen = list[tuple[Any, ...]]
BLANKS = b" \t\r\n\x0b\x0c\x85\xa0\x1c\x1d\x1e\x1f"  # what somebody or other takes for a blank

words = st.binary(min_size=1, max_size=12).map(lambda raw: bytes(byte for byte in raw if byte not in BLANKS) or b"w")
odd_words = st.binary(min_size=1, max_size=12).map(lambda raw: bytes(byte for byte in raw if byte not in b" \t\n") or b"w")
payloads = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\r\n", b"MSG a 1 5\r\nhello\r\n", b"PING\r\n", b"\r", b"-ERR 'x'\r\n", b"\r\n\r\n", b"x" * 300]),
)
blocks = st.one_of(st.binary(min_size=2, max_size=30), st.just(b"NATS/1.0\r\n\r\n"), st.just(b"NATS/1.0 503\r\n\r\n"))
"""No shorter ones: nats-py loses an empty message whose block is one byte, and no server sends one."""
numbers = st.integers(min_value=1, max_value=3)


def message(subject: bytes, number: int, reply: bytes, block: bytes | None, payload: bytes) -> bytes:
    middle = b"%b %d %b" % (subject, number, reply + b" " if reply else b"")
    if block is None:
        return b"MSG %b%d\r\n%b\r\n" % (middle, len(payload), payload)
    return b"HMSG %b%d %d\r\n%b%b\r\n" % (middle, len(block), len(block) + len(payload), block, payload)


def operations(word: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    control = st.sampled_from(
        [b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'Slow Consumer'\r\n", b'INFO {"ldm":true}\r\n', b'INFO {"a":"\xc3\xa9"} \r\n']
    )
    return st.one_of(st.builds(message, word, numbers, st.one_of(st.just(b""), word), st.one_of(st.none(), blocks), payloads), control)


class Listener:
    """Stands where nats-py's client would, and notes what its parser calls."""

    def __init__(self) -> None:
        self.seen: Seen = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.seen.append((sid, subject, reply, headers, data))

    async def _process_ping(self) -> None:
        self.seen.append(("PING",))

    async def _process_pong(self) -> None:
        self.seen.append(("PONG",))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.seen.append(("INFO", json.dumps(info)))

    async def _process_err(self, text: str) -> None:
        self.seen.append(("ERR", text))


def theirs(kind: type[NatsParser], chunks: list[bytes]) -> Seen:
    listener = Listener()
    parser = kind(listener)

    async def run() -> None:
        for chunk in chunks:
            await parser.parse(chunk)

    coroutine = run()
    with pytest.raises(StopIteration):  # it never waits, so no loop is needed
        coroutine.send(None)
    return listener.seen


def ours(chunks: list[bytes]) -> Seen:
    seen: Seen = []

    def receiver(number: int) -> Any:
        return lambda subject, reply, block, payload: seen.append((number, subject, reply, block, payload))

    def control(line: bytes) -> None:
        name, _, rest = line.strip().partition(b" ")
        if name == b"INFO":
            seen.append(("INFO", json.dumps(json.loads(rest))))
        elif name == b"-ERR":
            seen.append(("ERR", rest.decode().lower()))
        elif name != b"+OK":
            seen.append((name.decode(),))

    parser = Parser({b"%d" % number: receiver(number) for number in (1, 2, 3)}, control, lambda *_: None)
    for chunk in chunks:
        more = parser.feed(chunk)
        while more:
            more = parser.resume()
    return seen


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges) if start < end]


@settings(max_examples=150, deadline=None)
@given(st.lists(operations(words), min_size=1, max_size=5))
def test_the_same_messages_cut_at_every_position(parts: list[bytes]) -> None:
    """Both parsers, the stream in two chunks cut at each of its bytes, and byte by byte."""
    stream = b"".join(parts)
    expected = ours([stream])
    assert theirs(NatsParser, [stream]) == expected
    for place in range(1, len(stream)):
        chunks = [stream[:place], stream[place:]]
        assert ours(chunks) == expected
        assert theirs(NatsParser, chunks) == expected
    single = [stream[place : place + 1] for place in range(len(stream))]
    assert ours(single) == theirs(NatsParser, single) == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(operations(odd_words), min_size=1, max_size=30), st.data())
def test_the_same_messages_cut_anywhere_with_any_subject(parts: list[bytes], data: st.DataObject) -> None:
    """Longer streams, several cuts, and subjects with bytes that regular expressions take for blanks: the guarded parser agrees."""
    stream = b"".join(parts)
    places = data.draw(st.lists(st.integers(min_value=0, max_value=len(stream)), max_size=8))
    chunks = cut(stream, places)
    assert ours(chunks) == theirs(StrictParser, chunks) == ours([stream])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_nonsense_never_hangs(stream: bytes) -> None:
    """Bytes that are no protocol are refused or waited on, never run in circles."""
    parser = Parser({}, lambda _: None, lambda *_: None)
    try:
        while parser.feed(stream):
            pass
    except (ProtocolError, ValueError, IndexError):
        return


@pytest.mark.parametrize(
    "line", [b"MSG a 1 -200\r\n", b"HMSG a 1 50 20\r\n", b"HMSG a 1 -5 20\r\n", b"MSG a 1 x\r\n", b"MSG\r\n", b"HMSG 1\r\n"]
)
def test_sizes_that_cannot_be(line: bytes) -> None:
    """They are an error, not a jump back in the buffer."""
    parser = Parser({}, lambda _: None, lambda *_: None)
    with pytest.raises((ProtocolError, ValueError, IndexError)):
        parser.feed(b"PING\r\n" * 50 + line + b"x" * 300)


def test_a_line_without_end() -> None:
    """It is not gathered for ever."""
    parser = Parser({}, lambda _: None, lambda *_: None)
    for _ in range(15):
        parser.feed(b"x" * 65_536)
    with pytest.raises(ProtocolError):
        parser.feed(b"x" * 131_072)


def test_a_large_message_in_small_chunks() -> None:
    """8 MB in chunks of 1 kB are joined once."""
    payload = bytes(range(256)) * 32_768
    stream = message(b"big", 1, b"", b"NATS/1.0\r\n\r\n", payload) + message(b"next", 1, b"r", None, b"x")
    seen = ours([stream[place : place + 1024] for place in range(0, len(stream), 1024)])
    assert seen == [(1, b"big", b"", b"NATS/1.0\r\n\r\n", payload), (1, b"next", b"r", None, b"x")]


def test_a_receiver_that_raises_is_reported() -> None:
    """The messages after it are delivered."""
    seen: list[bytes] = []
    failures: list[tuple[bytes, Exception]] = []

    def receive(_subject: bytes, _reply: bytes, _block: bytes | None, payload: bytes) -> None:
        seen.append(payload)
        raise RuntimeError

    parser = Parser({b"1": receive}, lambda _: None, lambda *failure: failures.append(failure))
    parser.feed(message(b"a", 1, b"", None, b"x") * 3)
    assert len(seen) == len(failures) == 3
    assert failures[0][0] == b"a"


def test_a_receiver_that_ends_the_process_has_had_its_message() -> None:
    """SystemExit goes on to whoever feeds; what followed is still there, and nothing is received twice."""
    seen: list[bytes] = []

    def receive(subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        seen.append(payload)
        if payload == b"b":
            raise SystemExit(3)

    parser = Parser({b"1": receive}, print, print)
    with pytest.raises(SystemExit):
        parser.feed(b"".join(b"MSG a 1 1\r\n%b\r\n" % payload for payload in (b"a", b"b", b"c")))
    parser.feed(b"MSG a 1 1\r\nd\r\n")
    assert seen == [b"a", b"b", b"c", b"d"]


def test_a_burst_is_cut_into_turns() -> None:
    """A chunk with ten thousand messages for a slow receiver is not handled in one go, and nothing is lost or moved."""
    seen: list[bytes] = []

    def receive(_subject: bytes, _reply: bytes, _block: bytes | None, payload: bytes) -> None:
        seen.append(payload)
        until = time.monotonic() + 0.0001
        while time.monotonic() < until:
            pass

    parser = Parser({b"1": receive}, lambda _: None, lambda *_: None)
    stream = b"".join(message(b"a", 1, b"", None, b"%d" % number) for number in range(2000))
    turns, more, longest = 1, parser.feed(stream[:-3]), len(seen)
    while more:
        before = len(seen)
        more = parser.resume()
        turns, longest = turns + 1, max(longest, len(seen) - before)
    parser.feed(stream[-3:])
    assert seen == [b"%d" % number for number in range(2000)]
    assert longest <= 100
    assert turns >= 20


async def test_chunks_that_come_while_a_burst_is_handled() -> None:
    """They are handled after it, in order."""
    seen: list[bytes] = []

    def receive(_subject: bytes, _reply: bytes, _block: bytes | None, payload: bytes) -> None:
        seen.append(payload)
        until = time.monotonic() + 0.0001
        while time.monotonic() < until:
            pass

    parser = Parser({b"1": receive}, lambda _: None, lambda *_: None)
    stream = b"".join(message(b"a", 1, b"", None, b"%d" % number) for number in range(600))
    parser.feed(stream[:6000])
    more = parser.feed(stream[6000:])
    while more:
        await asyncio.sleep(0)
        more = parser.resume()
    assert seen == [b"%d" % number for number in range(600)]
