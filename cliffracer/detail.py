"""The details of one replica (``$SRV.DETAIL``): handlers and their figures, timers, health, settings."""

import inspect
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from cliffracer.assembly import KINDS, Assembly
from cliffracer.checking import Declared
from cliffracer.declarations import Leader, Record, Route, Rpc, Socket, Subscription, Timer, place_of
from cliffracer.durations import worded
from cliffracer.handler import Handler
from cliffracer.observability.health import Health
from cliffracer.settings import Settings


class Handled(msgspec.Struct, kw_only=True):
    """One handler and its figures in this replica."""

    kind: str = ""
    name: str = ""
    """The method, ``GET /users``, the subject, the path or the plan."""
    function: str = ""
    words: str = ""
    """The first line of its docstring."""
    place: str = ""
    streams: bool = False
    calls: int = 0
    errors: int = 0
    last_error: str = ""
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    running: int = 0


class Due(msgspec.Struct, kw_only=True):
    """One timer."""

    function: str = ""
    plan: str = ""
    each: bool = False
    next: str | None = None
    """When it is due, ISO 8601; None: never again."""


class Checked(msgspec.Struct, kw_only=True):
    """One health check; ``reason`` is empty if all is well."""

    name: str = ""
    critical: bool = True
    reason: str = ""


class Shown(msgspec.Struct, kw_only=True):
    """One setting, secrets masked."""

    name: str = ""
    value: str = ""
    origin: str = ""
    given: bool = False


class Detail(msgspec.Struct, kw_only=True):
    """The details of one replica."""

    name: str = ""
    id: str = ""
    version: str = ""
    env: str = ""
    handlers: list[Handled] = []
    timers: list[Due] = []
    health: list[Checked] = []
    settings: list[Shown] = []
    draining: bool = False
    error: str = ""


class Scheduled(Protocol):
    """A timer that runs, as far as it is asked here."""

    @property
    def following(self) -> float: ...


async def detail(assembly: Assembly, health: Health, settings: Settings, scheduled: Sequence[Scheduled]) -> dict[str, Any]:
    """Return the fields of `Detail`. Secrets are masked; in production values of settings and source locations are left out."""
    told = settings.env != "production"
    findings = await health.findings()
    timers = zip(assembly.of(Timer), scheduled, strict=True)
    return {
        "env": settings.env,
        "handlers": [_handler(declared, handler, told=told) for declared, handler in assembly.handlers],
        "timers": [_timer(record, timer.following) for (record, _, _), timer in timers],
        "health": [Checked(name=f.name, critical=f.critical, reason=f.reason) for f in findings],
        "draining": health.draining,
        "settings": shown(settings, told=told),
    }


def shown(settings: Settings, *, told: bool = True) -> list[Shown]:
    """Return every setting with its origin; with its value if ``told``."""
    return [
        Shown(name=s.name, value=s.value if told else "", origin=str(s.origin), given=settings.given(s.name)) for s in settings.sources()
    ]


def _handler(declared: Declared, handler: Handler, *, told: bool) -> Handled:
    stats, record = handler.stats, declared.record
    code = getattr(inspect.unwrap(record.function), "__code__", None)
    return Handled(
        kind=KINDS[type(record).__name__],
        name=_name(record),
        function=record.function.__name__,
        words=(inspect.getdoc(record.function) or "").partition("\n")[0],
        place=place_of(code) if told and code is not None else "",
        streams=declared.signature is not None and declared.signature.streams,
        calls=stats.requests,
        errors=stats.errors,
        last_error=stats.last_error,
        p50_ms=round(stats.percentile(0.5) * 1000, 3),
        p95_ms=round(stats.percentile(0.95) * 1000, 3),
        running=handler.gate.admitted,
    )


def _name(record: Record) -> str:
    match record:
        case Rpc(name=name):
            return name
        case Route(methods=methods, path=path):
            return f"{'/'.join(methods)} {path}"
        case Socket(path=path):
            return path
        case Subscription(subject=subject):
            return subject
        case Timer():
            return _plan(record)
        case Leader(function=function):
            return function.__name__


def _plan(record: Timer) -> str:
    return f"every {worded(record.every)}" if record.every is not None else f"{record.cron} {record.tz}"


def _timer(record: Timer, following: float) -> Due:
    due = datetime.fromtimestamp(following, UTC).isoformat() if math.isfinite(following) else None
    return Due(function=record.function.__name__, plan=_plan(record), each=record.each, next=due)
