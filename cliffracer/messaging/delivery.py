"""One message as a consumer delivers it, with what its ack subject says (``$JS.ACK``, ADR-15), and the answers to it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from cliffracer.wire.headers import Headers

PREFIX = b"$JS.ACK."

ACK = b"+ACK"
TERM = b"+TERM"
PROGRESS = b"+WPI"
LEFT = b"-"
"""Marks a delivery that is not to be answered any more."""

Answer = Callable[["Delivery", bytes], None]
"""``answer(delivery, words)``: sends the acknowledgement to the consumer, and releases the message."""


class Delivery(msgspec.Struct, eq=False):
    """A message in hand: answer it once, by `ack`, `nak` or `term`; until then its consumer is told that it is being worked on.

    Ack subject and headers are parsed when first asked for, since most handlers do not ask. (A Struct, since msgspec creates
    one in a quarter of the time of a Python class.)
    """

    stored_on: bytes
    """The subject that the message was published on, as it came."""
    reply: bytes
    """The ack subject."""
    payload: bytes
    sent: bytes
    """The payload of the message itself; ``payload`` may come from the object store."""
    block: bytes | None
    """The header block, as it came."""
    attempt: int
    """1 at first; counts deliveries, also those that nobody finished."""
    key: bytes
    """What tells the message from any other of its stream, also after the stream was made anew."""
    parts: Sequence[bytes]
    """What the ack subject says: attempt, number in the stream, number in the consumer, when it was stored, how many more there are."""
    answer: Answer
    settled: bytes = b""
    """The answer that was given, if any."""
    found_headers: Headers | None = None
    found_subject: str | None = None

    @property
    def headers(self) -> Headers:
        """The headers of the message; look-up ignores case."""
        if self.found_headers is None:
            self.found_headers = Headers(self.block)
        return self.found_headers

    @property
    def subject(self) -> str:
        """The subject that the message was published on."""
        if self.found_subject is None:
            self.found_subject = self.stored_on.decode("utf-8", "backslashreplace")
        return self.found_subject

    @subject.setter
    def subject(self, subject: str) -> None:
        self.found_subject = subject

    @property
    def stream(self) -> str:
        """The stream that holds it."""
        return words_of(self.reply)[2].decode()

    @property
    def consumer(self) -> str:
        """The consumer that delivers it."""
        return words_of(self.reply)[3].decode()

    @property
    def stream_seq(self) -> int:
        """Its number in the stream."""
        return int(self.parts[1])

    @property
    def consumer_seq(self) -> int:
        """The number of this delivery in its consumer."""
        return int(self.parts[2])

    @property
    def timestamp(self) -> int:
        """When the stream stored it, nanoseconds since 1970."""
        return int(self.parts[3])

    @property
    def pending(self) -> int:
        """How many more fit the consumer's filter and were not delivered yet."""
        return int(self.parts[4])

    @property
    def stored(self) -> datetime:
        """When the stream stored it."""
        return datetime.fromtimestamp(self.timestamp / 1e9, UTC)

    def ack(self) -> None:
        """Say that it is done: it is never delivered to this consumer again."""
        if not self.settled:
            self.settled = ACK
            self.answer(self, ACK)

    def nak(self, delay: float = 0.0) -> None:
        """Give it back, to be delivered again after ``delay`` seconds."""
        self._settle(b'-NAK {"delay": %d}' % int(delay * 1_000_000_000) if delay > 0 else b"-NAK")

    def term(self) -> None:
        """Say that it is never to be delivered to this consumer again, although it is not done: park it first."""
        self._settle(TERM)

    @property
    def delay(self) -> float:
        """Seconds after which it is to be delivered again; 0 if at once, or if it is not."""
        _, _, told = self.settled.partition(b": ")
        return int(told.rstrip(b"}")) / 1_000_000_000 if told else 0.0

    def empty(self) -> None:
        """Drop everything that is not needed for the answer."""
        self.payload = self.sent = b""
        self.block = self.found_headers = None

    def _settle(self, words: bytes) -> None:
        if not self.settled:
            self.settled = words
            self.answer(self, words)

    def __repr__(self) -> str:
        return f"<Delivery {self.subject} {self.stream}:{self.stream_seq} attempt {self.attempt}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show no more than `__repr__` does: Rich would print every field of a struct, and headers have tokens."""
        return [("subject", self.subject), ("stream_seq", self.stream_seq), ("attempt", self.attempt)]


def words_of(reply: bytes) -> list[bytes]:
    """Return the tokens of an ack subject in the form without a domain; ValueError if it is not one of a consumer."""
    words = reply.split(b".")
    if len(words) == 9:
        return words
    if len(words) < 11:
        raise ValueError(f"{reply!r} is not the ack subject of a consumer")
    return [*words[:2], *words[4:11]]  # without domain and account, and the random token at the end
