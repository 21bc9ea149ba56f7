"""The messages of a stream in order, without a consumer: in batches (a direct get of ADR-31), or one by one where there are none.

Batches are of nats-server 2.11. Whoever may not ask for them, or whose stream was made without direct gets, gets along without, and
so does the end of a stream: a direct get may be answered by a follower that lags, so that its leader says what is the last. What the
server tells stands among the headers of a message, so that they must arrive as they were sent.
"""

import asyncio
import time
from collections.abc import AsyncGenerator

import msgspec

from cliffracer.errors import DeadlineExceeded, Forbidden, Unavailable
from cliffracer.messaging.jetstream import AGAIN, API, JetStream, Stored

SINCE = (2, 11)
MOST = 256
"""Messages of a batch."""
BYTES = 4 * 2**20
"""Bytes of a batch; its last message may go over it."""
_AT_ONCE = 32  # messages that are asked for at once, where each is asked for by itself
_HEADERS = frozenset(
    {
        b"Nats-Stream",
        b"Nats-Subject",
        b"Nats-Sequence",
        b"Nats-Time-Stamp",
        b"Nats-Num-Pending",
        b"Nats-Last-Sequence",
        b"Nats-UpTo-Sequence",
    }
)


async def messages(jetstream: JetStream, stream: str, subject: str, *, after: int = 0) -> AsyncGenerator[Stored, None]:
    """Yield what is stored on a subject, oldest first, from number ``after`` + 1; `NotFound` if there is no such stream.

    A batch is held at a time, of twice as many as the one before: who wants but a few does not pay for all.
    """
    number, ahead, batched = after, 1, jetstream.version >= SINCE and jetstream.bus.exact
    while True:
        found = await _batch(jetstream, stream, subject, number + 1, ahead) if batched else []
        if batched and not found:
            batched, ahead = False, 1
        if not batched:
            asked = range(number + 1, number + 1 + ahead)
            each = await asyncio.gather(*(jetstream.next_message(stream, first, subject) for first in asked))
            found = sorted({one.seq: one for one in each if one is not None}.values(), key=lambda one: one.seq)
        if not found:
            return
        for one in found:
            yield one
        number = found[-1].seq
        grows = batched or len(found) == ahead  # single ones: few may be left between many that are gone
        ahead = min(2 * ahead, MOST if batched else _AT_ONCE) if grows else 1


async def _batch(jetstream: JetStream, stream: str, subject: str, first: int, number: int) -> list[Stored]:
    """Return up to so many messages from a number on: fewer if they are large, or none came for a while; none where none can be had."""
    asked, place = {"seq": first, "next_by_subj": subject}, f"{API}DIRECT.GET.{stream}".encode()
    if number == 1:  # the first, which shows whether there is an answer at all
        try:
            reply = await jetstream.bus.request(place, msgspec.json.encode(asked), timeout=AGAIN)
        except (DeadlineExceeded, Forbidden, Unavailable):
            return []
        only = read(reply.block, reply.payload)
        return [] if only is None else [only]
    taken, came, ended = list[Stored](), asyncio.Event(), False

    def receive(_subject: bytes, _reply: bytes, block: bytes | None, payload: bytes) -> None:
        nonlocal ended
        one = read(block, payload)
        ended = ended or one is None or one.seq < (taken[-1].seq + 1 if taken else first)
        if one is not None and not ended:
            taken.append(one)
            ended = len(taken) == number
        came.set()

    inbox = jetstream.bus.inbox(receive)
    try:
        body = msgspec.json.encode({**asked, "batch": number, "max_bytes": BYTES})
        jetstream.bus.publish(place, body, None, inbox.subject, deadline=time.monotonic() + AGAIN)
        while not ended:
            came.clear()
            async with asyncio.timeout(AGAIN):
                await came.wait()
    except (TimeoutError, Unavailable):  # the connection was lost: what came is in order, and the rest is asked for again
        return taken
    finally:
        inbox.close()
    return taken


def read(block: bytes | None, payload: bytes) -> Stored | None:
    """Return the message that a direct get was answered with; None for a status, such as that there are no more.

    What the server says of it stands behind its own headers, which may have the same names, or look like a status.
    """
    lines = (block or b"").removesuffix(b"\r\n\r\n").split(b"\r\n")
    told: dict[bytes, str] = {}
    while len(lines) > 1:
        name, _, value = lines[-1].partition(b": ")
        if name not in _HEADERS or name in told:
            break
        told[name] = value.decode("utf-8", "replace")
        del lines[-1]
        if name == b"Nats-Stream":
            break  # the first of the server's
    sequence = told.get(b"Nats-Sequence", "")
    if not sequence.isdecimal() or not told.keys() >= {b"Nats-Subject", b"Nats-Time-Stamp"}:
        return None
    hdrs = b"\r\n".join([*lines, b"", b""]) if len(lines) > 1 or lines[0] != b"NATS/1.0" else None
    return Stored(told[b"Nats-Subject"], int(sequence), told[b"Nats-Time-Stamp"], payload, hdrs)
