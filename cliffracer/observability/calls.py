"""A line for a share of the calls, without the cost of a log record (loguru takes 33 µs, this 2)."""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from random import random
from typing import Self

import msgspec

from cliffracer.context import Context
from cliffracer.observability import logs
from cliffracer.observability.lines import escaped, trace_of
from cliffracer.settings import Settings

_AT_ONCE = 64  # lines that are written without waiting
_LATEST = 0.25  # seconds after which any line is written


class _Line(msgspec.Struct):
    time: datetime
    level: str
    message: str
    service: str
    handler: str
    correlation_id: str
    kind: str
    ms: float
    outcome: str
    trace_id: str | msgspec.UnsetType = msgspec.UNSET


_encode = msgspec.json.Encoder().encode


class CallLog:
    """Says how calls went, for the share of them that ``log_calls`` wants; lines are gathered and written a few at once.

    Leaving its ``with`` block writes what is left.
    """

    __slots__ = ("_due", "_lines", "_share", "_show", "_write")

    def __init__(self, share: float, *, human: bool = False, write: Callable[[str], None] = logs.write) -> None:
        self._share = share
        self._show = _human if human else _json
        self._write = write
        self._lines: deque[tuple[str, Context, float]] = deque()
        self._due: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, settings: Settings) -> "CallLog | None":
        """Return the log of calls that these settings want; None when they want none."""
        return cls(settings.log_calls, human=logs.is_human(settings)) if settings.log_calls > 0 else None

    def record(self, context: Context, milliseconds: float, outcome: str) -> None:
        """Note one call if its turn has come; ``outcome`` is ``ok`` or the class of the error."""
        if random() >= self._share:  # noqa: S311 - which calls are looked at is no secret
            return
        if len(self._lines) >= _AT_ONCE:
            self.flush()
        self._lines.append((self._show(context, milliseconds, outcome), context, milliseconds))
        if self._due is None:
            self._soon()

    def spoil(self, context: Context, outcome: str) -> None:
        """Say of a call that was noted just now, if it was, how it ended after all."""
        for index, (_, noted, milliseconds) in enumerate(self._lines):
            if noted is context:
                self._lines[index] = self._show(context, milliseconds, outcome), context, milliseconds

    def flush(self) -> None:
        """Write what was gathered."""
        due, self._due = self._due, None
        if due is not None:
            due.cancel()
        gathered = []
        while self._lines:
            gathered.append(self._lines.popleft()[0])
        try:
            self._write("".join(gathered))
        except (OSError, ValueError):  # standard error was closed: there is nobody to tell, and the calls go on
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def _soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # in a thread of a plain function
            self.flush()
        else:
            self._due = loop.call_later(_LATEST, self.flush)


def _json(context: Context, milliseconds: float, outcome: str) -> str:
    line = _Line(
        datetime.now(UTC),
        "INFO",
        "call",
        context.service,
        context.handler,
        context.correlation_id,
        context.kind,
        round(milliseconds, 3),
        outcome,
        trace_of(context) or msgspec.UNSET,
    )
    return _encode(line).decode() + "\n"


def _human(context: Context, milliseconds: float, outcome: str) -> str:
    place = f"{context.service}.{context.handler}"
    told = escaped(f"{place} call {outcome} ms={milliseconds:.3g} {context.correlation_id}")
    return f"{datetime.now().astimezone():%H:%M:%S.%f}"[:-3] + f" INFO     {told}\n"
