"""The bus that reconnects, which both transports are: subscriptions that survive reconnects, requests, what is held while NATS is away."""

import asyncio
import re
import secrets
import time
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from itertools import count
from math import inf
from typing import Any, NamedTuple

from loguru import logger

from cliffracer.errors import ServiceError, TooLarge, Unavailable, Unsendable
from cliffracer.messaging.transport.dial import Dialer
from cliffracer.messaging.transport.guard import GuardedClient
from cliffracer.messaging.transport.held import Held
from cliffracer.messaging.transport.interface import Bus, Inbox, Receive, Reply, Subscription, closed
from cliffracer.messaging.transport.link import Link
from cliffracer.messaging.transport.mux import Mux
from cliffracer.shielding import shielded
from cliffracer.wire.subjects import check_name, check_pattern

MAX_CONTROL = 4000  # bytes of subject and reply; nats-server cuts a connection at a control line of 4,096
_CONFIRMED_WITHIN = 2.0  # seconds that a new connection has for its first answer
PATIENCE = 5.0  # seconds that a drain waits for the server
SILENT = 1.0  # seconds of these, and of a close, in which it says nothing at all although it was asked: it hangs, and is not waited for
_KEPT = 100  # refusals that are remembered
_REFUSED_PUBLISH = re.compile(r'publish to "([^"]+)"', re.IGNORECASE)
_QUEUE = re.compile(r"[^\x00-\x20\x7f]{0,256}")


class Interest(NamedTuple):
    """One subscription as it is repeated after a reconnect."""

    number: int
    subject: str
    queue: str
    receive: Receive


class ReconnectingBus(Bus):
    """A `Bus` over one `Link`; the two transports say how to read and write."""

    def __init__(
        self, dialer: Dialer, name: str, inbox_prefix: str, *, on_lost: Callable[[str], None], on_back: Callable[[float], None]
    ) -> None:
        self.name = name
        self.info = {}
        self.refusals, self.returned, self.closed = set(), set(), set()
        self.max_payload = 1_048_576
        self.open = False
        self._ping = dialer.ping
        self._opened = asyncio.Event()
        self._closing = False
        self._held = Held()
        self._numbers = count(1)
        self._interests: dict[int, Interest] = {}
        self._inbox_prefix = inbox_prefix
        self._mux = Mux(self, f"{inbox_prefix}.{secrets.token_hex(10)}", self.ask)
        self._interest(self._mux.subject, "", self._mux.receive)
        self.request = self._mux.request  # type: ignore[method-assign]  # one call less on the way of every request
        self.link = Link(dialer, self._attach, self._detach, confirm=self._confirm, on_lost=on_lost, on_back=self._back)
        self._on_back = on_back

    @property
    def connected(self) -> bool:
        return self.link.connected

    async def ready(self, deadline: float) -> None:
        while not self.open:
            if self._closing:
                raise closed()
            try:
                async with asyncio.timeout(None if deadline == inf else deadline - time.monotonic()):
                    await self._opened.wait()
            except TimeoutError:
                raise Unavailable("NATS is away", reason="away") from None

    async def subscribe(self, subject: str, receive: Receive, *, queue: str = "") -> Subscription:
        check_pattern(subject)
        if not _QUEUE.fullmatch(queue):
            raise Unsendable(f"{queue[:80]!r} cannot be a queue group: no blanks or control characters")
        if self._closing:
            raise closed()
        interest = self._interest(subject, queue, receive)
        try:
            if self.link.client is not None:
                await self._begin(interest)
        except BaseException:  # cancelled, too: the caller gets nothing that it could end
            await self.end(interest, drained=False)
            raise
        return _Subscription(self, interest)

    def request(
        self,
        subject: bytes,
        payload: bytes,
        block: bytes | None = None,
        *,
        timeout: float,
        abandoned: Callable[[bytes], None] | None = None,
    ) -> Coroutine[Any, Any, Reply]:
        return self._mux.request(subject, payload, block, timeout=timeout, abandoned=abandoned)

    def ask(self, subject: bytes, payload: bytes, block: bytes | None, token: bytes, deadline: float) -> None:
        """Publish a request of the mux, to be answered at its token."""
        self.publish(subject, payload, block, self._mux.prefix + token, deadline=deadline)

    def inbox(self, receive: Receive) -> Inbox:
        return self._mux.inbox(receive)

    def private_subject(self) -> str:
        return f"{self._inbox_prefix}.{secrets.token_hex(10)}"

    async def close(self) -> None:
        """Write all that was published, then close; bounded, also against a server that hangs. Who is cancelled leaves it to that."""
        if not self._closing:
            await shielded(self._close(), f"close of {self.name}")

    async def _close(self) -> None:
        try:
            if self.connected:
                deadline = time.monotonic() + PATIENCE / 2
                await self.ready(deadline)
                await self._round_trip(deadline - time.monotonic(), SILENT)
        except Unavailable as error:
            logger.warning("NATS connection closed with messages that may not have been sent: {reason}", reason=error.message)
        self._closing = True
        if self._held:
            logger.warning("{count} messages could not be sent: NATS is away", count=len(self._held))
        client = await self.link.close()
        self._block()
        if client is not None:
            client.hush()
            await self._hang_up()
        self._detach()
        self._opened.set()  # whoever waits for it learns that it is closed
        self._mux.close()
        for listener in tuple(self.closed):
            listener()
        if client is not None:
            await client.bury()

    def check(self, subject: bytes, reply: bytes, size: int) -> None:
        """Raise what stands against a message: a server would end the connection for each of these."""
        if size > self.max_payload:
            raise TooLarge(f"headers and payload take {size} bytes; NATS allows {self.max_payload}", size=size, limit=self.max_payload)
        if len(subject) + len(reply) > MAX_CONTROL:
            raise TooLarge(f"the subjects take {len(subject) + len(reply)} bytes; {MAX_CONTROL} is the limit", limit=MAX_CONTROL)
        if not fits(subject) or (reply and not fits(reply)):
            raise Unsendable(f"{(subject + b' ' + reply)[:80]!r}: a subject is not empty and has no blanks or line breaks")

    def hold(self, message: tuple[bytes, bytes, bytes | None, bytes], deadline: float | None) -> None:
        """Keep a message until something can be written again."""
        if self._closing:
            raise closed()
        self._held.add(message, deadline)

    def deliver(self, receive: Receive, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Call a receiver, whose failure is its own and ends neither the reader nor the subscription."""
        try:
            receive(subject, reply, block, payload)
        except Exception as error:  # noqa: BLE001 - see above
            self.failed(subject, error)

    def failed(self, subject: bytes, error: Exception) -> None:
        """Take note of a receiver that raised."""
        logger.opt(exception=error).error("the receiver of {subject!r} failed", subject=subject)

    def _interest(self, subject: str, queue: str, receive: Receive) -> Interest:
        number = next(self._numbers)
        interest = self._interests[number] = Interest(number, subject, queue, receive)
        return interest

    def _refused(self, text: str) -> None:
        if len(self.refusals) < _KEPT:
            self.refusals.add(text)
        found = _REFUSED_PUBLISH.search(text)
        if found is not None:
            self._mux.refuse(found[1])

    async def _attach(self, client: GuardedClient) -> None:
        client.refused = self._refused
        self.info = client.server
        self.max_payload = client.max_payload
        await self._take(client)
        begun: set[int] = set()
        while missing := [interest for number, interest in self._interests.items() if number not in begun]:
            for interest in missing:
                begun.add(interest.number)
                await self._begin(interest)
        self._unblock()

    def _back(self, after: float) -> None:
        for listener in self.returned:
            listener()
        self._on_back(after)

    async def _confirm(self) -> None:
        await self._round_trip(_CONFIRMED_WITHIN)

    def _informed(self, client: GuardedClient, info: dict[str, Any]) -> None:
        self.info.update(info)
        self.max_payload = info.get("max_payload", self.max_payload)
        client.discovered(info.get("connect_urls") or ())
        if info.get("ldm"):
            client.leaving()

    def _unblock(self) -> None:
        self.open = True
        self._opened.set()
        for message, deadline in self._held.take():
            try:
                self.publish(*message, deadline=deadline)
            except ServiceError as error:  # this server takes less than the last one did
                logger.warning("a message to {subject!r} was not sent: {reason}", subject=message[0], reason=error.message)

    def _block(self) -> None:
        self.open = False
        self._opened.clear()

    def _detach(self) -> None:
        self._block()
        self._drop()

    async def flush(self, timeout: float = 5.0) -> None:
        deadline = time.monotonic() + timeout
        await self.ready(deadline)
        await self._round_trip(deadline - time.monotonic())

    @abstractmethod
    async def _take(self, client: GuardedClient) -> None:
        """Put a new connection to use."""

    @abstractmethod
    def _drop(self) -> None:
        """Forget the present connection, which is lost."""

    @abstractmethod
    async def _round_trip(self, timeout: float, silent: float = inf) -> None:
        """Return when the server has handled all that was written; `Unavailable` when it does not, or the connection ends.

        Also once it has been ``silent`` for so long, as far as the transport can tell.
        """

    @abstractmethod
    async def _hang_up(self) -> None:
        """Close the present connection in order, within a second or so."""

    @abstractmethod
    async def _begin(self, interest: Interest) -> None:
        """Tell the server of a subscription."""

    @abstractmethod
    async def end(self, interest: Interest, *, drained: bool) -> None:
        """End a subscription; ``drained``: after all that the server has sent for it was received."""


class _Subscription(Subscription):
    """A handle on one interest of a `ReconnectingBus`."""

    def __init__(self, bus: ReconnectingBus, interest: Interest) -> None:
        self.subject = interest.subject
        self.queue = interest.queue
        self._bus = bus
        self._interest = interest

    async def drain(self) -> None:
        await self._bus.end(self._interest, drained=True)

    async def close(self) -> None:
        await self._bus.end(self._interest, drained=False)


def fits(subject: bytes) -> bool:
    """Say whether a subject is one word of the protocol: not empty, and nothing in it that ends a word or a line."""
    return not (not subject or 32 in subject or 10 in subject or 13 in subject or 9 in subject)


def check_inbox_prefix(prefix: str) -> str:
    """Return an inbox prefix of ours: ``_INBOX.<name>``, since permissions let services answer beneath ``_INBOX.`` and nowhere else."""
    root, dot, name = prefix.partition(".")
    if root != "_INBOX":
        raise ValueError(f"{prefix[:80]!r} cannot be an inbox prefix: it must be _INBOX, or begin with _INBOX. as in _INBOX.payments")
    if dot:
        check_name(name)
    return prefix
