"""The replicas that share a consumer of events: while one version replaces another, they need not all subscribe to the same.

The filter of a consumer is what any of them subscribes to that lives. Who starts adds its patterns; who is handed what it does not
subscribe to passes it on. What nobody has subscribed to for some time, in which whoever does may be starting anew, is left out of the
filter again. They know of each other by discovery; as long as that does not tell who lives, all is taken to be wanted.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

import msgspec
from loguru import logger

from cliffracer.errors import CliffracerError, Forbidden
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.configurations import include
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.directory import Directory
from cliffracer.messaging.ensuring import filters_in, refilter
from cliffracer.messaging.jetstream import ConsumerInfo, JetStream
from cliffracer.messaging.singleflight import SingleFlight
from cliffracer.messaging.streams import Source, filters_of
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


class _Roster:
    """What the replicas of a service tell, or those of all services: asked for once for all functions of a process."""

    def __init__(self, bus: Bus, subjects: Subjects, service: str) -> None:
        self._directory, self._service = Directory(bus, subjects), service
        self._looking = SingleFlight(self._look)
        self.at = 0.0
        self.replicas: list[dict[str, list[str]]] = []
        self.complete = False
        """Whether all of them tell."""

    async def look(self, age: float) -> None:
        """Return once what is known is no older than so many seconds."""
        if time.monotonic() >= self.at + age:
            await self._looking()

    async def _look(self) -> None:
        self.replicas, self.complete = [], False
        try:
            answers = await self._directory.ask("PING", self._service, kind=_Replica, patience=PATIENCE, sure=False)
            told = [msgspec.json.decode(one.metadata.get(TOLD, "{}"), type=dict[str, list[str]]) for one in answers]
            self.replicas, self.complete = told, not self._service or all(TOLD in one.metadata for one in answers)
        except (CliffracerError, msgspec.MsgspecError) as error:
            logger.debug("which consumers the replicas of {service} have is not known: {error}", service=self._service, error=error)
        self.at = time.monotonic()


_rosters: WeakValueDictionary[tuple[int, str, str], _Roster] = WeakValueDictionary()


def _roster(bus: Bus, subjects: Subjects, service: str) -> _Roster:
    key = id(bus), subjects.namespace, service
    if (found := _rosters.get(key)) is None:
        found = _rosters[key] = _Roster(bus, subjects, service)
    return found


class Siblings:
    """Those of one consumer, ours included; ``alone``: only replicas of our service have it."""

    def __init__(self, jetstream: JetStream, subjects: Subjects, member: Member, source: Source, *, alone: bool) -> None:
        self._jetstream, self._subjects = jetstream, subjects
        self._member, self._own, self._source = member, set(member.patterns), source
        self._roster = _roster(jetstream.bus, subjects, member.service if alone else "")
        self._found: list[set[str]] | None = None
        self._at = 0.0  # as of when
        self._since = 0.0  # when it became as it is
        self._mixed = 0.0  # until when something may come that another version passed on
        self._told, self._may = False, True

    async def look(self, age: float | None = None) -> None:
        """Look who is there; what is known is kept, and asked for anew when it is too old."""
        await self._roster.look(KEPT if age is None else age)
        if self._roster.at == self._at:
            return
        before, found = self._found, [set(replica.get(self._member.name, ())) for replica in self._roster.replicas]
        self._found = found if self._roster.complete and self._own in found else None
        now, last, self._at = self._roster.at, self._at, self._roster.at
        if any(each and each != self._own for each in found):
            self._mixed = now + MEMORY
        if now > last + KEPT + QUIET or set().union(*before or ()) != set().union(*self._found or ()):
            self._since = now

    async def differ(self) -> bool:
        """Say whether some subscribe, or did of late, to something else than we do."""
        await self.look()
        return time.monotonic() < self._mixed

    async def pass_on(self, delivery: Delivery) -> None:
        """Give back an event that we do not subscribe to, for others; leave it alone if no other does, nor has of late."""
        subject = self._subjects.event_name(delivery.subject)
        wanted = self._wanted(await self._known(), subject)
        if not wanted and not self._quiet:  # who wants it has perhaps come just now
            wanted = self._wanted(await self._known(PATIENCE), subject)
        if not wanted:
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

    async def _known(self, age: float | None = None) -> list[set[str]] | None:
        """Return the patterns of each; None where some do not tell, or not even we were heard."""
        await self.look(age)
        return self._found

    @staticmethod
    def _wanted(known: list[set[str]] | None, subject: str) -> bool:
        return known is None or any(matches(pattern, subject) for each in known for pattern in each)


def fitting(patterns: Sequence[str]) -> Callable[[bytes], object]:
    """Return what says of a subject whether one of the patterns fits it; without any, all do."""
    words = {"*": "[^.]+", ">": ".+"}
    if patterns and words.keys().isdisjoint(".".join(patterns).split(".")):
        return frozenset(pattern.encode("utf-8", "surrogatepass") for pattern in patterns).__contains__
    each = (r"\.".join(words.get(word) or re.escape(word) for word in pattern.split(".")) for pattern in patterns)
    return re.compile("|".join(rf"{one}\Z" for one in each).encode("utf-8", "surrogatepass"), re.DOTALL).match
