"""``cliffracer routes``: what apps declare, without running them."""

import time
from datetime import datetime
from inspect import unwrap
from typing import Any
from zoneinfo import ZoneInfo

from cliffracer.app import App
from cliffracer.checking import Declared
from cliffracer.cli.loading import load_apps
from cliffracer.cli.output import print_json, print_table, soft
from cliffracer.cron import Cron
from cliffracer.declarations import Leader, Route, Rpc, Socket, Subscription, Timer, place_of, where
from cliffracer.durations import worded
from cliffracer.messaging.plans import At, Every
from cliffracer.security.guards import effective
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects

_ORDER = ("http", "websocket", "files", "rpc", "event", "timer", "leader")


def routes(*, apps: tuple[str, ...], as_json: bool) -> None:
    """Print the table."""
    settings = Settings.load()
    subjects = Subjects(settings.namespace)
    found = [row for app in load_apps(apps) for row in _rows(app, subjects, required=settings.auth_required)]
    several = len({row["app"] for row in found}) > 1
    found.sort(key=lambda row: (row["app"], _ORDER.index(row["kind"])))
    if as_json:
        print_json(found)
        return
    ruled = any(row["policy"] for row in found)
    headings = [*(["app"] if several else []), "kind", "name", "", *(["who may"] if ruled else []), "function", "declared in"]
    shown = [
        [
            *([row["app"]] if several else []),
            soft(row["kind"]),
            row["name"],
            soft(row["manner"]),
            *([row["policy"]] if ruled else []),
            row["function"],
            soft(row["place"]),
        ]
        for row in found
    ]
    print_table(headings, shown, empty="Nothing is declared.")


def _policy(declared: Declared, *, required: bool) -> str:
    """Return what is asked of callers; nothing of a timer's, which has none."""
    if isinstance(declared.record, Timer | Leader):
        return ""
    policy = effective(declared.record.function, declared.signature, required=required)
    return "" if policy is None else str(policy)


def _rows(app: App, subjects: Subjects, *, required: bool) -> list[dict[str, Any]]:
    rows = []
    frozen = app.freeze()
    for declared in frozen.declared:
        record = declared.record
        code = getattr(unwrap(record.function), "__code__", None)
        rows.append(
            {
                "app": app.name,
                **_rated(_named(app, record, subjects), getattr(record, "rate", None)),
                "policy": _policy(declared, required=required),
                "function": record.function.__name__,
                "place": place_of(code) if code is not None else where(record.function),
            }
        )
    files = [
        {"app": app.name, "kind": "files", "name": s.path, "manner": "", "policy": "", "function": "", "place": str(s.folder)}
        for s in frozen.statics
    ]
    mounts = [
        {
            "app": app.name, "kind": "mount", "name": m.path, "manner": "", "policy": "public" if m.public else "", "function": "",
            "place": type(m.application).__name__,
        }
        for m in frozen.mounts
    ]  # fmt: skip
    return [*rows, *files, *mounts]


def _next(record: Timer) -> datetime:
    """Return when a timer is due next, in its time zone."""
    plan = At(Cron(record.cron, record.tz)) if record.cron is not None else Every(record.every or 1.0)
    return datetime.fromtimestamp(plan.after(time.time()), ZoneInfo(record.tz))


def _rated(row: dict[str, str], rate: Any) -> dict[str, str]:
    """Return a row with how often the function may be called, which is part of its manner."""
    return row if rate is None else row | {"manner": ", ".join(filter(None, (row["manner"], str(rate)))), "rate": str(rate)}


def _named(app: App, record: Any, subjects: Subjects) -> dict[str, str]:
    match record:
        case Route():
            return {"kind": "http", "name": f"{'/'.join(record.methods)} {record.path}", "manner": ""}
        case Socket():
            return {"kind": "websocket", "name": record.path, "manner": ""}
        case Rpc():
            return {"kind": "rpc", "name": subjects.rpc(app.name, record.name), "manner": ""}
        case Subscription():
            manner = "durable" if record.durable else "each replica" if record.each else "at most once"
            return {"kind": "event", "name": record.subject, "manner": manner}
        case Timer():
            plan = f"every {worded(record.every)}" if record.every is not None else f"{record.cron} {record.tz}"
            following = _next(record)
            manner = f"{'each replica' if record.each else 'once per cluster'}, next {following:%Y-%m-%d %H:%M:%S}"
            return {"kind": "timer", "name": plan, "manner": manner, "next": following.isoformat()}
        case Leader():
            return {"kind": "leader", "name": record.function.__name__, "manner": "one replica"}
    raise AssertionError(record)
