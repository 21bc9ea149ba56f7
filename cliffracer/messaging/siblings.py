"""The replicas that share a consumer of events: while one version replaces another, they need not all subscribe to the same.

The filter of a consumer is what any of them subscribes to that lives. Who starts adds its patterns; who is handed what it does not
subscribe to passes it on. What nobody has subscribed to for some time, in which whoever does may be starting anew, is left out of the
filter again. They know of each other by discovery; as long as that does not tell who lives, all is taken to be wanted.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec
from loguru import logger

from cliffracer.errors import CliffracerError, Forbidden
from cliffracer.messaging.configurations import include
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.directory import Directory
from cliffracer.messaging.ensuring import filters_in, refilter
from cliffracer.messaging.jetstream import ConsumerInfo, JetStream
from cliffracer.messaging.streams import Source, filters_of
from cliffracer.messaging.together import Together
from cliffracer.wire.subjects import Subjects, matches

TOLD = "consumers"
"""Of the metadata that discovery tells: the patterns that a replica subscribes to by each of its durable consumers, as JSON."""
PATIENCE = 1.0  # seconds of silence after which all have answered: a loop may be busy
KEPT = 5.0  # seconds for which an answer holds
QUIET = 30.0  # seconds in which nobody wanted it, before it is left out
AGAIN = 5.0  # seconds after which an event comes again that nobody wants
AT_ONCE = 10  # times that an event is passed on at once: the server asks one replica after the other
MEMORY = 600.0  # seconds for which it is known that there was another version: what it passed on may come only then
LONGEST = 30.0  # seconds after which it comes again, then


class Told(Protocol):
    """What a replica tells of a consumer: what it subscribes to by it."""

    name: str
    patterns: list[str]


class Member(Told, Protocol):
    """The part of a consumption that is known here."""

    service: str
    function: str

    async def ensure(self) -> str:
        """Make the consumer if it is absent, and add to its filter what it lacks."""


def told(members: Iterable[Told]) -> str:
    """Return what a replica tells of its consumers."""
    return msgspec.json.encode({member.name: member.patterns for member in members}).decode()


class _Replica(msgspec.Struct):
    metadata: dict[str, str] = {}


class Siblings:
    """Those of one consumer, ours included; ``alone``: only replicas of our service have it."""

    def __init__(self, jetstream: JetStream, subjects: Subjects, member: Member, source: Source, *, alone: bool) -> None:
        self._jetstream, self._subjects = jetstream, subjects
        self._member, self._own, self._source = member, set(member.patterns), source
        self._directory = Directory(jetstream.bus, subjects)
        self._service = member.service if alone else ""
        self._found: list[set[str]] | None = None
        self._until = 0.0
        self._looking = Together(self._look)
        self._since = 0.0  # when it became as it is
        self._mixed = 0.0  # until when something may come that another version passed on
        self._told, self._may = False, True

    async def look(self) -> None:
        """Look who is there; what is known is kept, and asked for anew when it is too old."""
        if time.monotonic() >= self._until:
            await self._looking()

    async def differ(self) -> bool:
        """Say whether some subscribe, or did of late, to something else than we do."""
        await self.look()
        return time.monotonic() < self._mixed

    async def pass_on(self, delivery: Delivery) -> None:
        """Give back an event that we do not subscribe to, for others; leave it alone if no other does, nor has of late."""
        known, subject = await self._known(), self._subjects.event_name(delivery.subject)
        if known is not None and not any(matches(pattern, subject) for each in known for pattern in each):
            if self._quiet and delivery.attempt > 2:  # at first, one who wants it may just be starting
                delivery.ack()
            else:
                delivery.nak(AGAIN)
            return
        if not self._told:
            self._told = True
            logger.info(
                "{service}.{function} leaves {subject} to replicas of another version: here it subscribes to {patterns}",
                service=self._member.service, function=self._member.function, subject=subject, patterns=", ".join(sorted(self._own)),
            )  # fmt: skip
        delivery.nak(min(LONGEST, 2.0 ** min(delivery.attempt - AT_ONCE, 10)) if delivery.attempt > AT_ONCE else 0.0)

    async def agree(self, info: ConsumerInfo) -> ConsumerInfo | None:
        """Add our patterns to a filter that has lost them, and leave out of it what nobody subscribes to any more."""
        if time.monotonic() < self._mixed:
            await self.look()
        present = filters_in(info.config)
        if not self._source.replay or present == set(self._source.filters):
            return None
        if not include(present, self._source.filters):
            await self._member.ensure()
            return None
        known = await self._known() if self._may else None
        if known is None or not self._quiet:
            return None
        patterns = self._own.union(*known)
        wanted = filters_of(self._subjects, self._member.name, patterns)
        if set(wanted) == present or not include(present, wanted):  # who lives and wants more adds it himself
            return None
        try:
            info = await refilter(self._jetstream, self._source.stream.name, self._member.name, wanted)
        except Forbidden:  # then whoever provisions consumers does
            self._may = False
            return None
        logger.info(
            "consumer {consumer} takes {patterns} from now on: no replica subscribes to more",
            consumer=self._member.name, patterns=", ".join(sorted(patterns)),
        )  # fmt: skip
        return info

    @property
    def _quiet(self) -> bool:
        """Whether it has been as it is for long enough."""
        return time.monotonic() - self._since >= QUIET

    async def _known(self) -> list[set[str]] | None:
        """Return the patterns of each; None where some do not tell, or not even we were heard."""
        await self.look()
        return self._found

    async def _look(self) -> None:
        before, self._found, now = self._found, None, time.monotonic()
        try:
            answers = await self._directory.ask("PING", self._service, kind=_Replica, patience=PATIENCE)
            found, now = [self._patterns(replica) for replica in answers], time.monotonic()
            if any(each and each != self._own for each in found):
                self._mixed = now + MEMORY
            if self._own in found and (not self._service or all(TOLD in replica.metadata for replica in answers)):
                self._found = found
        except (CliffracerError, msgspec.MsgspecError) as error:
            logger.debug("who else has consumer {consumer} is not known: {error}", consumer=self._member.name, error=error)
        if now > self._until + QUIET or set().union(*before or ()) != set().union(*self._found or ()):
            self._since = now
        self._until = now + KEPT

    def _patterns(self, replica: _Replica) -> set[str]:
        consumers = msgspec.json.decode(replica.metadata.get(TOLD, "{}"), type=dict[str, list[str]])
        return set(consumers.get(self._member.name, ()))


def fitting(patterns: Sequence[str]) -> Callable[[bytes], object]:
    """Return what says of a subject whether one of the patterns fits it; without any, all do."""
    words = {"*": "[^.]+", ">": ".+"}
    each = (r"\.".join(words.get(word) or re.escape(word) for word in pattern.split(".")) for pattern in patterns)
    return re.compile("|".join(rf"{one}\Z" for one in each).encode("utf-8", "surrogatepass"), re.DOTALL).match
