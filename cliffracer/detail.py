"""What one replica tells of itself when it is asked closely (``$SRV.DETAIL``): handlers and their figures, timers, health, settings."""

import inspect
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from cliffracer.assembly import KINDS, Assembly
from cliffracer.checking import Declared
from cliffracer.declarations import Leader, Record, Route, Rpc, Socket, Subscription, Timer, place_of
from cliffracer.durations import worded
from cliffracer.invoke import Handler
from cliffracer.observability.health import Health
from cliffracer.settings import Settings
from cliffracer.signature import Signature


class Scheduled(Protocol):
    """What is asked of a timer that runs."""

    @property
    def following(self) -> float: ...


async def detail(assembly: Assembly, health: Health, settings: Settings, scheduled: Sequence[Scheduled]) -> dict[str, Any]:
    """Return it as JSON has it. Secrets are masked; in production no value of a setting is told, only where it comes from."""
    told = settings.env != "production"
    findings = await health.findings()
    return {
        "env": settings.env,
        "namespace": settings.namespace,
        "handlers": [_handler(declared, handler) for declared, handler in assembly.handlers],
        "timers": [
            {**_timer(record), "next": _moment(timer.following)}
            for (record, _, _), timer in zip(assembly.of(Timer), scheduled, strict=True)
        ],
        "health": [{"name": f.name, "critical": f.critical, "reason": f.reason} for f in findings],
        "draining": health.draining,
        "settings": [
            {"name": s.name, "value": s.value if told else "", "origin": str(s.origin), "given": settings.given(s.name)}
            for s in settings.sources()
        ],
    }


def _handler(declared: Declared, handler: Handler) -> dict[str, Any]:
    stats, record = handler.stats, declared.record
    code = getattr(inspect.unwrap(record.function), "__code__", None)
    return {
        "kind": KINDS[type(record).__name__],
        "name": _name(record),
        "function": record.function.__name__,
        "words": (inspect.getdoc(record.function) or "").partition("\n")[0],
        "place": place_of(code) if code is not None else "",
        "streams": isinstance(declared.signature, Signature) and declared.signature.streams,
        "calls": stats.calls,
        "errors": stats.errors,
        "last_error": stats.last_error,
        "p50_ms": round(stats.percentile(0.5) * 1000, 3),
        "p95_ms": round(stats.percentile(0.95) * 1000, 3),
        "running": handler.gate.admitted,
    }


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
            return str(_timer(record)["plan"])
        case Leader(function=function):
            return function.__name__


def _timer(record: Timer) -> dict[str, Any]:
    plan = f"every {worded(record.every)}" if record.every is not None else f"{record.cron} {record.tz}"
    return {"function": record.function.__name__, "plan": plan, "each": record.each, "missed": record.missed}


def _moment(posix: float) -> str | None:
    return datetime.fromtimestamp(posix, UTC).isoformat() if math.isfinite(posix) else None
