"""``cliffracer routes``: what an app declares, without running it."""

from typing import Any

import click

from cliffracer.app import App
from cliffracer.cli.loading import load_apps
from cliffracer.cli.output import json_option, print_json, print_table, tells
from cliffracer.declarations import Route, Rpc, Socket, Subscription, Timer, place_of, where
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects


@click.command(short_help="List what an app declares.")
@click.argument("apps", nargs=-1)
@json_option
@tells
def routes(apps: tuple[str, ...], as_json: bool) -> None:
    """List the HTTP routes, RPC subjects, events, sockets and timers of APPS, each with the line that declares it."""
    rows = [row for app in load_apps(apps) for row in _rows(app, Subjects(Settings.load().namespace))]
    if as_json:
        print_json(rows)
    else:
        shown = [[row["kind"], row["name"], row["function"], row["place"]] for row in rows]
        print_table(["kind", "name", "function", "declared in"], shown, empty="Nothing is declared.")


def _rows(app: App, subjects: Subjects) -> list[dict[str, Any]]:
    rows = []
    for declared in app.freeze().declared:
        record = declared.record
        code = getattr(record.function, "__code__", None)
        rows.append(
            {
                "app": app.name,
                **_named(app, record, subjects),
                "function": record.function.__name__,
                "place": place_of(code) if code is not None else where(record.function),
            }
        )
    return sorted(rows, key=lambda row: (row["kind"], row["name"]))


def _named(app: App, record: Any, subjects: Subjects) -> dict[str, str]:
    match record:
        case Route():
            return {"kind": "http", "name": f"{'/'.join(record.methods)} {record.path}"}
        case Socket():
            return {"kind": "websocket", "name": record.path}
        case Rpc():
            return {"kind": "rpc", "name": subjects.rpc(app.name, record.name)}
        case Subscription():
            manner = "durable" if record.durable else "each replica" if record.each else "at most once"
            return {"kind": "event", "name": f"{record.subject} ({manner})"}
        case Timer():
            return {"kind": "timer", "name": record.cron or f"every {record.every:g} s"}
    raise AssertionError(record)
