"""How the last calls of a process went, kept in memory until somebody asks for one trace; no collector is needed.

Remembering a call is one tuple in a ring (0.15 µs). The many that went well push each other out; those that failed or took long
have a ring of their own, since they are what is asked for later. Ids are those of W3C Trace Context.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from cliffracer.wire.calls import read_trace

RECENT = 2000
KEPT = 1000
SLOW = 0.1  # seconds from which a call is worth keeping
MOST = 500  # spans in one answer
SHORTEST = 8
"""Characters of an id that say enough. A correlation id that is shorter has to be given whole."""


class Named(Protocol):
    """What ran: a handler, or a call on its way out."""

    @property
    def service(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...


Noted = tuple[Named, str | None, str | None, str | None, float, float, str, bytes | None]
"""What ran, traceparent received and sent on, correlation id, when it began (monotonic), seconds, outcome; headers where ids may be."""


class Span(msgspec.Struct, omit_defaults=True):
    """One call, as it is told to who asks."""

    service: str
    name: str
    kind: str
    trace: str
    """32 hex digits; empty for a call that belongs to no trace."""
    id: str
    """16 hex digits; empty for a call that called nothing, which is nobody's parent."""
    parent: str
    """The id of the call that made this one; empty for the first."""
    correlation: str
    began: float
    """Seconds since 1970, by the clock of the process."""
    ms: float
    outcome: str = "ok"
    """``ok``, or the class of the error."""


class Outgoing(msgspec.Struct, frozen=True):
    """A call on its way out that never became a call elsewhere: nobody answered."""

    service: str
    name: str
    kind: str = "call"


class Spans:
    """The last calls of one service."""

    __slots__ = ("_kept", "_recent", "kept", "recent")

    def __init__(self, recent: int = RECENT, kept: int = KEPT) -> None:
        self._recent: deque[Noted] = deque(maxlen=recent)
        self._kept: deque[Noted] = deque(maxlen=kept)
        self.recent: Callable[[Noted], None] = self._recent.append
        """Remembers a call that went as it should."""
        self.kept: Callable[[Noted], None] = self._kept.append
        """Remembers a call that failed or took long."""

    def spoil(self, what: Named, correlation: str | None, block: bytes | None, outcome: str) -> None:
        """Say of a call that was remembered just now, as one that went well, how it ended after all."""
        for ring in (self._recent, self._kept):
            for place, one in enumerate(reversed(ring), 1):
                if one[0] is what and (one[3] == correlation if one[7] is None else one[7] is block):
                    del ring[-place]  # `remove` would compare it with all before it: a tenth of a millisecond for each response
                    self.kept((*one[:6], outcome, one[7]))
                    return

    def find(self, wanted: str) -> list[Span]:
        """Return the calls of a trace or correlation id, or of one that begins so; the newest `MOST`, oldest first."""
        if not wanted:
            return self._told(self._all())
        if len(wanted) < SHORTEST:
            return self._told(one for one in self._all() if one[3] == wanted)
        return self._told(one for one in self._all() if (one[1] or "")[3:35].startswith(wanted) or (one[3] or "").startswith(wanted))

    def _all(self) -> Iterable[Noted]:
        for one in (*self._recent, *self._kept):
            what, received, sent, correlation, began, seconds, outcome, block = one
            if block is not None and (received is None or correlation is None):
                identity, trace = read_trace(block)
                yield what, received or trace, sent, correlation or identity, began, seconds, outcome, None
            else:
                yield one

    def _told(self, noted: Iterable[Noted]) -> list[Span]:
        began = time.time() - time.monotonic()
        found = sorted(noted, key=lambda one: one[4])[-MOST:]
        return [_span(one, began) for one in found]


def _span(noted: Noted, since: float) -> Span:
    what, received, sent, correlation, began, seconds, outcome, _ = noted
    first = received is None or received is sent
    return Span(
        what.service,
        what.name,
        what.kind,
        trace=(received or "")[3:35],
        id=(sent or "")[36:52],
        parent="" if first else (received or "")[36:52],
        correlation=correlation or "",
        began=began + since,
        ms=round(seconds * 1000, 3),
        outcome=outcome,
    )


def summary(spans: Iterable[Span]) -> dict[str, Any]:
    """Return what is said of a whole trace: its ids, services, duration in milliseconds and whether all went well."""
    found = list(spans)
    begin = min(span.began for span in found)
    return {
        "trace": next((span.trace for span in found if span.trace), ""),
        "correlation": next((span.correlation for span in found if span.correlation), ""),
        "services": sorted({span.service for span in found}),
        "spans": len(found),
        "ms": round(max((span.began - begin) * 1000 + span.ms for span in found), 3),
        "failed": sum(span.outcome != "ok" for span in found),
    }


FORGETFUL = Spans(0, 0)
"""Remembers nothing."""
