"""What the rest of the package knows of the connection to NATS: names and promises, no implementation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from cliffracer.errors import Unavailable

Receive = Callable[[bytes, bytes, bytes | None, bytes], None]
"""``receive(subject, reply, block, payload)``: one message, called in the read loop, so it must not block.

``reply`` is empty without one; ``block`` is the raw ``NATS/1.0`` header block or None. All are bytes as they came: a peer may
put anything into them.
"""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What a request got back."""

    block: bytes | None
    """The raw header block, or None."""
    payload: bytes


class Inbox:
    """A private subject that others send to, any number of messages; no subscription of its own on the server."""

    __slots__ = ("_forget", "subject")

    def __init__(self, subject: bytes, forget: Callable[[], object]) -> None:
        self.subject = subject
        self._forget = forget

    def close(self) -> None:
        """Receive nothing more; what still comes is dropped."""
        self._forget()


class Subscription(ABC):
    """One subscription; it survives reconnects."""

    subject: str
    queue: str

    @abstractmethod
    async def drain(self) -> None:
        """End it so that nothing is lost: when this returns, all that the server had sent for it has been received.

        Bounded: against a server that does not answer it gives up after some seconds.
        """

    @abstractmethod
    async def close(self) -> None:
        """End it at once; what is under way is dropped."""


class Bus(ABC):
    """The connection to NATS of one app; see `connect`.

    Nothing here outlives its deadline, and nothing that a peer sends or that we ask for ends the connection.
    """

    name: str
    """What the server shows as the name of this connection."""
    info: dict[str, Any]
    """What the server last said of itself (its INFO)."""
    refusals: set[str]
    """What the server did not permit so far, in its words; some of many."""
    max_payload: int
    """Bytes of headers and payload that one message may have."""
    exact: bool = True
    """Whether header blocks arrive as they were sent; nats-py keeps one header of a name."""
    replicas: int = 1
    """How many servers of a cluster are to keep what is stored over this connection."""
    largest: int = 64 * 1024 * 1024
    """Bytes of one payload, which goes through the object store where the server's limit is lower."""
    returned: set[Callable[[], None]]
    """Called when there is a connection again after an outage, over which all is subscribed to by then."""
    closed: set[Callable[[], None]]
    """Called when it is closed: whoever waits for what comes without being asked for again is told by them that nothing will."""
    open: bool
    """Whether what is published now is written now: connected, and the server takes what we send."""

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the server that it is connected to: ``(2, 15, 1)``."""
        text = str(self.info.get("version", "0")).partition("-")[0]
        return tuple(int(part) for part in text.split(".") if part.isdigit())

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether there is a connection now."""

    @property
    @abstractmethod
    def silent(self) -> float:
        """Seconds in which the server has not said a word although it was asked for one; 0 where a transport cannot tell."""

    @abstractmethod
    def probe(self) -> None:
        """Ask the server for a sign of life if there was none of late: `silent` tells whether one comes."""

    @abstractmethod
    async def ready(self, deadline: float) -> None:
        """Return when `open`; `Unavailable` when it is not by ``deadline`` (`time.monotonic`)."""

    @abstractmethod
    async def subscribe(self, subject: str, receive: Receive, *, queue: str = "") -> Subscription:
        """Subscribe, now and after each reconnect. The server knows of it after the next `flush`: announce nothing before."""

    @abstractmethod
    def publish(
        self,
        subject: bytes,
        payload: bytes,
        block: bytes | None = None,
        reply: bytes = b"",
        *,
        deadline: float | None = None,
    ) -> None:
        """Queue a message; what one loop turn or one received chunk publishes is written in one go, or two.

        While NATS is away it is held, within bounds, and never sent after ``deadline`` (`time.monotonic`). Give one whenever the
        receiver will act on the message for somebody who waits.
        `TooLarge` when the server would cut the connection for it, `Unavailable` when there is no room to hold it.
        """

    @abstractmethod
    def answer(self, subject: bytes, payload: bytes, block: bytes | None = None, deadline: float | None = None) -> None:
        """Publish to the reply subject of a message that the bus has delivered: no need to look whether it is one."""

    @abstractmethod
    def request(
        self,
        subject: bytes,
        payload: bytes,
        block: bytes | None = None,
        *,
        timeout: float,
        abandoned: Callable[[bytes], None] | None = None,
    ) -> Coroutine[Any, Any, Reply]:
        """Ask and return the first reply.

        `Unavailable` at once when nobody subscribes to the subject, or when NATS was away for all of ``timeout`` (details
        ``reason``: ``nobody``, ``away``); `DeadlineExceeded` when no reply came in time; `TooLarge`; `Forbidden` when the server
        does not let us publish there. It is never sent late. Cancelling it frees all it held. Of one that was sent and is cancelled, or
        out of time, ``abandoned(reply subject)`` is called, so that whoever works on it can be told.
        """

    @abstractmethod
    def inbox(self, receive: Receive) -> Inbox:
        """Return a private subject for replies. JetStream deliveries keep their own subject, so they need `private_subject`."""

    @abstractmethod
    def private_subject(self) -> str:
        """Return a new subject under our inbox prefix, to `subscribe` to."""

    @abstractmethod
    async def flush(self, timeout: float = 5.0) -> None:
        """Return when the server has taken all that was published and subscribed before; `Unavailable` after ``timeout``."""

    @abstractmethod
    async def close(self) -> None:
        """Write all that was published, then close; bounded, also against a server that hangs."""


def closed() -> Unavailable:
    """Return the error for whoever wants something of a connection that was closed here."""
    return Unavailable("the connection to NATS is closed", reason="closed")


def is_closed(error: object) -> bool:
    """Say whether an error is of a connection that was closed here: over that one nothing need be tried again."""
    return isinstance(error, Unavailable) and error.details.get("reason") == "closed"
