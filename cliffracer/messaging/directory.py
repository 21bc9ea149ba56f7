"""Finds the services that run, by discovery (ADR-32), when somebody needs to know."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import msgspec

from cliffracer.errors import ServiceError, Unavailable
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.jetstream import NO_JSON
from cliffracer.messaging.singleflight import SingleFlight
from cliffracer.nearest import nearest
from cliffracer.observability.spans import Span
from cliffracer.observability.stats import LASTING
from cliffracer.wire.subjects import Subjects

IDEMPOTENT = "idempotent"
"""Of an endpoint's metadata: ``true`` if a call may be done twice."""
KEPT = 5.0  # seconds: a storm of calls to nobody asks once
PATIENCE = 0.1
_CONFIRMED = 1.0  # seconds within which a server that lives says so
_MOST = 1000  # services that are remembered
_SHOWN = 20  # names that an error message lists
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_SLOWEST = 1e12  # milliseconds that are a duration
LONGEST = 10.0  # seconds: somebody who answers again and again is no reason to wait for ever


class Endpoint(msgspec.Struct):
    """One method of a service, as INFO tells."""

    name: str = ""
    subject: str = ""
    queue_group: str = ""
    metadata: dict[str, str] | None = None


class Info(msgspec.Struct):
    """One replica of a service, as INFO tells."""

    name: str = ""
    id: str = ""
    version: str = ""
    description: str = ""
    metadata: dict[str, str] | None = None
    endpoints: list[Endpoint] = []


class Figures(msgspec.Struct):
    """The figures of one method, as STATS tells."""

    name: str = ""
    num_requests: _Count = 0
    num_errors: _Count = 0
    last_error: str = ""
    processing_time: int = 0
    average_processing_time: int = 0
    data: Any = None
    kind: str = "rpc"
    """``rpc``, or for other handlers ``http``, ``event``, ``websocket``, ``timer``, ``leader``."""

    @property
    def lasting(self) -> bool:
        """Whether its calls last as long as their client likes, so that their duration says nothing about the service."""
        return self.kind in LASTING or (isinstance(self.data, dict) and self.data.get("lasting") is True)

    def ms(self, name: str) -> float:
        """Return one of the durations in ``data``, such as ``p95_ms``; 0 if there is none: other implementations have other data."""
        found = self.data.get(name) if isinstance(self.data, dict) else None
        return float(found) if isinstance(found, int | float) and 0 <= found < _SLOWEST else 0.0


class Stats(msgspec.Struct):
    """The figures of one replica, as STATS tells."""

    name: str = ""
    id: str = ""
    started: str = ""
    endpoints: list[Figures] = []
    handlers: list[Figures] = []
    """Its handlers beside RPC; only our own services answer that."""


class Remembered(msgspec.Struct):
    """What one replica remembers of a trace, as TRACE tells."""

    name: str = ""
    id: str = ""
    version: str = ""
    spans: list[Span] = []


class _Schemas(msgspec.Struct):
    endpoints: dict[str, dict[str, str]] = {}


class Directory:
    """Asks services by discovery, and makes the error for a call that nobody answers."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self.place = ""
        """Which NATS this is, as in ``on nats://host:4222 (NATS_URL, environment)``: a script may have meant another one."""
        self._bus = bus
        self._subjects = subjects
        self._lock = asyncio.Lock()
        self._known: list[Info] = []
        self._until = 0.0
        self._words: dict[tuple[str, str], str] = {}  # the suggestion for each method that nobody answers, while the same services run
        self._looking: asyncio.Task[list[Info]] | None = None
        self._harmless: dict[str, frozenset[str]] = {}
        self._asked: dict[str, float] = {}
        self._learning: dict[str, SingleFlight] = {}

    async def ask(
        self,
        verb: str,
        name: str = "",
        *,
        patience: float = PATIENCE,
        kind: type[Any] = Info,
        payload: bytes = b"",
        expected: int | None = None,
        sure: bool = True,
    ) -> list[Any]:
        """Return the answers to ``$SRV.<verb>[.<name>]`` that come in, until none has come for ``patience`` seconds.

        With as many as are ``expected`` it returns at once. NATS itself says if nobody is there; if it is silent as well, that is
        `Unavailable` if it must be ``sure``.
        """
        answers: list[Any] = []
        came = asyncio.Event()
        decoder = msgspec.json.Decoder(kind)

        def receive(_subject: bytes, _reply: bytes, block: bytes | None, answer: bytes) -> None:
            if block is None or not block.startswith(b"NATS/1.0 503"):
                try:
                    answers.append(decoder.decode(answer))
                except NO_JSON:
                    return  # an odd answer is no reason to miss the others
            came.set()

        inbox = self._bus.inbox(receive)
        try:
            self._bus.publish(self._subjects.discovery(verb, name).encode(), payload, None, inbox.subject)
            until = time.monotonic() + LONGEST
            while time.monotonic() < until:
                came.clear()
                try:
                    async with asyncio.timeout(patience):
                        await came.wait()
                except TimeoutError:
                    if sure and not answers:
                        await self._lives()
                    return answers
                if not answers or (expected is not None and len(answers) >= expected):
                    return answers  # no responders, or all of them
            return answers
        finally:
            inbox.close()

    async def _lives(self) -> None:
        """Raise `Unavailable` if NATS itself does not answer: a connection to a server that hangs is only closed after a while."""
        try:
            await self._bus.flush(_CONFIRMED)
        except Unavailable:
            raise Unavailable("NATS does not answer", reason="away") from None

    async def known(self) -> list[Info]:
        """Return the services that run, as of some seconds ago at most."""
        async with self._lock:
            if time.monotonic() >= self._until:
                found = await self.ask("INFO", sure=False)
                if _callable(found) != _callable(self._known):
                    self._words.clear()
                self._known = found
                self._until = time.monotonic() + KEPT
            return self._known

    async def learn(self, service: str) -> None:
        """Ask one replica of a service which of its methods are idempotent, unless that is known, or nobody answered just now."""
        now = time.monotonic()
        if service in self._harmless or self._asked.get(service, 0.0) + KEPT > now:
            return
        if len(self._asked) >= _MOST:
            self._asked.clear()
        self._asked[service] = now
        await self._learn(service)

    async def idempotent(self, service: str, method: str) -> bool:
        """Say whether a method is idempotent, as its service last declared."""
        if method not in self._harmless.get(service, ()):
            await self._learn(service)
        return method in self._harmless.get(service, ())

    async def _learn(self, service: str) -> None:
        """Ask a service, once for all callers that want to know: it may be overloaded already."""
        await self._learning.setdefault(service, SingleFlight(partial(self._hear, service)))()

    async def _hear(self, service: str) -> None:
        try:
            for info in await self.ask("INFO", service, expected=1, sure=False):
                if len(self._harmless) < _MOST or service in self._harmless:
                    said = (e.name for e in info.endpoints if (e.metadata or {}).get(IDEMPOTENT) == "true")
                    self._harmless[service] = frozenset(said)
        except ServiceError:
            return  # not known, so nothing is repeated
        finally:
            self._learning.pop(service, None)  # it may be another round's, which was begun when all callers of this one had given up

    def at_hand(self) -> list[Info]:
        """Return the services that are known, without waiting, and begin to look for others: for completion."""
        if time.monotonic() >= self._until and (self._looking is None or self._looking.done()):
            with suppress(RuntimeError):  # no event loop here: return what is known
                self._looking = asyncio.get_running_loop().create_task(self.known(), name="who is there")
        return self._known

    async def schemas(self, service: str, method: str = "", *, timeout: float = 2.0) -> dict[str, dict[str, str]]:
        """Return the JSON Schemas, as text, of a method or of all methods of a service; empty if it has none or nobody is there."""
        subject = self._subjects.discovery("SCHEMA", service).encode()
        try:
            reply = await self._bus.request(subject, method.encode(), timeout=timeout)
            return msgspec.json.decode(reply.payload, type=_Schemas).endpoints
        except (ServiceError, *NO_JSON):
            return {}

    async def nobody(self, service: str, method: str) -> Unavailable:
        """Return the error for a call that nobody answers: what runs, and what may have been meant."""
        try:
            infos = await self.known()
        except ServiceError:
            error = Unavailable(nobody_answers(service, method, []))
        else:
            error = Unavailable(self._words.get((service, method)) or self._word(service, method, infos))
        if self.place:
            error.add_note(f"That was {self.place}.")  # not part of the message, which may be sent to a caller
        return error

    def _word(self, service: str, method: str, infos: list[Info]) -> str:
        """Find what may have been meant: once for many calls, since it takes a tenth of a second among thousands of methods."""
        words = nobody_answers(service, method, infos)
        if len(self._words) < _MOST:
            self._words[service, method] = words
        return words


def _callable(infos: list[Info]) -> set[tuple[str, str]]:
    """Return the methods that can be called, and services without any."""
    return {(info.name, name) for info in infos for name in ("", *(endpoint.name for endpoint in info.endpoints))}


def nobody_answers(service: str, method: str, infos: list[Info]) -> str:
    """Return ``No service answers user_servce.get_user. Running: user_service. Did you mean user_service.get_user?``."""
    names = sorted({info.name for info in infos})
    methods = sorted({f"{info.name}.{endpoint.name}" for info in infos for endpoint in info.endpoints})
    text = f"No service answers {service}.{method}."
    text += running(names) or " No service is running."
    near = nearest(f"{service}.{method}", methods)
    return f"{text} Did you mean {near}?" if near else text


def running(names: Sequence[str]) -> str:
    """Return `` Running: orders, users.``, of many only the first: it may be in very many errors and log lines."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f" Running: {', '.join(names[:_SHOWN])}{more}." if names else ""
