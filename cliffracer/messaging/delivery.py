"""One message as a consumer delivers it, with what its ack subject says (``$JS.ACK``, ADR-15), and the answers to it."""

from collections.abc import Callable
from datetime import UTC, datetime

from cliffracer.wire.headers import Headers

PREFIX = b"$JS.ACK."

ACK = b"+ACK"
TERM = b"+TERM"
PROGRESS = b"+WPI"

Answer = Callable[["Delivery", bytes], None]
"""``answer(delivery, words)``: sends the words to the consumer; the message is no longer in hand."""


class Delivery:
    """A message in hand: answer it once, by `ack`, `nak` or `term`; until then its consumer is told that it is being worked on.

    What the ack subject says is read when it is asked for: most handlers do not.
    """

    __slots__ = ("_answer", "_parts", "_subject", "attempt", "headers", "key", "payload", "reply", "sent", "settled", "source", "stored_on")

    def __init__(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes, answer: Answer) -> None:
        """Take a message apart; ValueError if its reply subject is not one of a consumer."""
        parts = reply.split(b".")
        if len(parts) != 9:
            if len(parts) < 11:
                raise ValueError(f"{reply!r} is not the ack subject of a consumer")
            parts = [*parts[:2], *parts[4:11]]  # without domain and account, and the random token at the end
        self._parts = parts
        self.stored_on = subject
        self._subject: str | None = None
        self.payload = payload
        self.headers = Headers(block)
        self.attempt = int(parts[4])
        """1 at first; counts deliveries, also those that nobody finished."""
        self.key = (parts[5], parts[7])
        """What tells the message from any other of its stream, also after the stream was made anew."""
        self.source = (parts[2], parts[3])
        """The stream that holds it and the consumer that delivers it."""
        self.reply = reply
        self.settled = b""
        """What it was answered, if it was."""
        self.sent = payload
        """The payload as the message has it; ``payload`` may have been fetched from elsewhere since."""
        self._answer = answer

    @property
    def subject(self) -> str:
        """The subject that the message was published on."""
        if self._subject is None:
            self._subject = self.stored_on.decode("utf-8", "backslashreplace")
        return self._subject

    @subject.setter
    def subject(self, subject: str) -> None:
        self._subject = subject

    @property
    def stream(self) -> str:
        """The stream that holds it."""
        return self._parts[2].decode()

    @property
    def consumer(self) -> str:
        """The consumer that delivers it."""
        return self._parts[3].decode()

    @property
    def stream_seq(self) -> int:
        """Its number in the stream."""
        return int(self._parts[5])

    @property
    def consumer_seq(self) -> int:
        """The number of this delivery in its consumer."""
        return int(self._parts[6])

    @property
    def timestamp(self) -> int:
        """When the stream stored it, nanoseconds since 1970."""
        return int(self._parts[7])

    @property
    def pending(self) -> int:
        """How many more fit the consumer's filter and were not delivered yet."""
        return int(self._parts[8])

    @property
    def stored(self) -> datetime:
        """When the stream stored it."""
        return datetime.fromtimestamp(self.timestamp / 1e9, UTC)

    def ack(self) -> None:
        """Say that it is done: it is never delivered to this consumer again."""
        if not self.settled:
            self.settled = ACK
            self._answer(self, ACK)

    def nak(self, delay: float = 0.0) -> None:
        """Give it back, to be delivered again after ``delay`` seconds."""
        self._settle(b'-NAK {"delay": %d}' % int(delay * 1_000_000_000) if delay > 0 else b"-NAK")

    def term(self) -> None:
        """Say that it is never to be delivered to this consumer again, although it is not done: park it first."""
        self._settle(TERM)

    @property
    def delay(self) -> float:
        """After how many seconds it was asked to come again; 0 where it was not, or at once."""
        _, _, told = self.settled.partition(b": ")
        return int(told.rstrip(b"}")) / 1_000_000_000 if told else 0.0

    def empty(self) -> None:
        """Keep no more of it than what it takes to answer."""
        self.payload = self.sent = b""
        self.headers = Headers(None)

    def _settle(self, words: bytes) -> None:
        if not self.settled:
            self.settled = words
            self._answer(self, words)

    def __repr__(self) -> str:
        return f"<Delivery {self.subject} {self.stream}:{self.stream_seq} attempt {self.attempt}>"
