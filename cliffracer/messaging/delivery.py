"""One message as a consumer delivers it, with what its ack subject says (``$JS.ACK``, ADR-15), and the four answers to it."""

from collections.abc import Callable
from datetime import UTC, datetime

from cliffracer.wire.headers import Headers

PREFIX = b"$JS.ACK."

ACK = b"+ACK"
TERM = b"+TERM"
PROGRESS = b"+WPI"

Answer = Callable[["Delivery", bytes, bool], None]
"""``answer(delivery, words, final)``: sends the words to the consumer; final: the message is no longer in hand."""


class Delivery:
    """A message in hand: answer it once, by `ack`, `nak` or `term`; until then its consumer is told that it is being worked on."""

    __slots__ = (
        "_answer", "attempt", "consumer", "consumer_seq", "headers", "payload", "pending", "reply", "sent", "settled", "stream",
        "stream_seq", "subject", "timestamp",
    )  # fmt: skip

    def __init__(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes, answer: Answer) -> None:
        """Take a message apart; ValueError if its reply subject is not one of a consumer."""
        parts = reply.split(b".")
        if len(parts) == 9:
            _, _, stream, consumer, attempt, stream_seq, consumer_seq, timestamp, pending = parts
        elif len(parts) >= 11:  # with domain and account, and a random token at the end
            _, _, _, _, stream, consumer, attempt, stream_seq, consumer_seq, timestamp, pending = parts[:11]
        else:
            raise ValueError(f"{reply!r} is not the ack subject of a consumer")
        self.subject = subject.decode("utf-8", "backslashreplace")
        self.payload = payload
        self.headers = Headers(block)
        self.stream = stream.decode()
        self.consumer = consumer.decode()
        self.attempt = int(attempt)
        """1 at first; counts deliveries, also those that nobody finished."""
        self.stream_seq = int(stream_seq)
        self.consumer_seq = int(consumer_seq)
        self.timestamp = int(timestamp)
        """When the stream stored it, nanoseconds since 1970."""
        self.pending = int(pending)
        """How many more fit the consumer's filter and were not delivered yet."""
        self.reply = reply
        self.settled = False
        self.sent = payload
        """The payload as the message has it; ``payload`` may have been fetched from elsewhere since."""
        self._answer = answer

    @property
    def stored(self) -> datetime:
        """When the stream stored it."""
        return datetime.fromtimestamp(self.timestamp / 1e9, UTC)

    @property
    def key(self) -> tuple[int, int]:
        """What tells the message from any other of its stream, also after the stream was made anew."""
        return self.stream_seq, self.timestamp

    def ack(self) -> None:
        """Say that it is done: it is never delivered to this consumer again."""
        self._settle(ACK)

    def nak(self, delay: float = 0.0) -> None:
        """Give it back, to be delivered again after ``delay`` seconds."""
        self._settle(b'-NAK {"delay": %d}' % int(delay * 1_000_000_000) if delay > 0 else b"-NAK")

    def term(self) -> None:
        """Say that it is never to be delivered to this consumer again, although it is not done: park it first."""
        self._settle(TERM)

    def in_progress(self) -> None:
        """Start the consumer's ack wait anew."""
        if not self.settled:
            self._answer(self, PROGRESS, False)

    def _settle(self, words: bytes) -> None:
        if not self.settled:
            self.settled = True
            self._answer(self, words, True)

    def __repr__(self) -> str:
        return f"<Delivery {self.subject} {self.stream}:{self.stream_seq} attempt {self.attempt}>"
