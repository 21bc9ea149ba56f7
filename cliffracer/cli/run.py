"""``cliffracer run``."""

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import click
import msgspec

from cliffracer import embedded, runtime
from cliffracer.app import App
from cliffracer.cli.loading import load_apps
from cliffracer.cli.output import tells
from cliffracer.declarations import Route, Rpc, Socket, Subscription, Timer
from cliffracer.settings import Settings


@click.command(short_help="Run one or more apps.")
@click.argument("apps", nargs=-1)
@click.option("--host", metavar="H", help="Address to serve HTTP on.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Port to serve HTTP on; 0 takes a free one.")
@click.option("--env-file", type=click.Path(exists=True, dir_okay=False), help="Read settings from this file instead of .env.")
@tells
def run(apps: tuple[str, ...], host: str | None, port: int | None, env_file: str | None) -> None:
    """Run APPS, such as users:app, in one process until Ctrl-C or SIGTERM.

    Without NATS_URL or DATABASE_URL, real embedded servers are started for development.
    """
    began = time.monotonic()
    settings = Settings.load(env_file=env_file, http_host=host, http_port=port)
    _configure_logs(settings)
    loaded = load_apps(apps)
    with ExitStack() as stack:
        frozen = [app.freeze() for app in loaded]
        sockets = runtime.bind(frozen, settings)  # before anything else: a port in use is the commonest mistake
        for each in sockets:
            stack.callback(each.close)
        needs = any(runtime.needs_database(f) for f in frozen)
        settings.require_servers(nats=True, database=needs)
        settings = _with_servers(settings, stack, database=needs)
        ready = partial(_ready, loaded, began)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(runtime.serve(loaded, settings, sockets=sockets, ready=ready))


def _with_servers(settings: Settings, stack: ExitStack, *, database: bool) -> Settings:
    """Return the settings with embedded servers in place of those that are not set."""
    nats, postgres = settings.nats_url is None, database and settings.database_url is None
    if not nats and not postgres:
        return settings
    urls = stack.enter_context(embedded.servers(nats=nats, database=postgres))
    found = {"nats_url": urls.nats_url, "database_url": urls.database_url}
    return settings.changed("embedded", **{name: url for name, url in found.items() if url is not None})


def _configure_logs(settings: Settings) -> None:
    from cliffracer.observability import logs  # noqa: PLC0415 - the help text needs no logging

    logs.configure(settings)


def _loop_factory() -> Any:
    try:
        import uvloop  # noqa: PLC0415 - there is none for Windows
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _ready(apps: Sequence[App], began: float, up: runtime.Running) -> None:
    gc.collect()
    gc.freeze()  # what is there now stays: collections need not look at it again
    seconds = time.monotonic() - began
    if sys.stderr.isatty():
        click.echo("\n".join(_banner(up, seconds)), err=True)
    else:
        names = ", ".join(f"{app.name} {app.version}" for app in apps)
        logging.getLogger("cliffracer").info("ready: %s in %.2f s %s", names, seconds, " ".join(up.addresses))


def _banner(up: runtime.Running, seconds: float) -> list[str]:
    names = ", ".join(f"{s.frozen.name} {s.frozen.version}" for s in up.services)
    lines = ["", click.style(f"{names} ready in {seconds:.2f} s", bold=True)]
    for address in up.addresses:
        lines.append(f"  HTTP     {address}{'  docs: ' + address + '/docs' if up.settings.docs else ''}")
    lines.append(f"  NATS     {_server(up.settings, 'nats_url')}")
    if up.settings.database_url is not None and any(runtime.needs_database(s.frozen) for s in up.services):
        lines.append(f"  database {_server(up.settings, 'database_url')}")
    for service in up.services:
        lines.extend(_declared(service.frozen.name, service.frozen.declared))
    return [*lines, "  Ctrl-C to stop", ""]


def _server(settings: Settings, name: str) -> str:
    if settings.origin(name).place == "embedded":
        return "embedded, for development (.cliffracer/)"
    return next(s.value for s in settings.sources() if s.name == name)


def _declared(name: str, declared: Sequence[msgspec.Struct]) -> list[str]:
    records: list[Any] = [d.record for d in declared]  # type: ignore[attr-defined]  # Declared
    rpc = [f"{name}.{r.name}" for r in records if isinstance(r, Rpc)]
    events = [f"{r.subject} → {r.function.__name__}" for r in records if isinstance(r, Subscription)]
    http = [f"{'/'.join(r.methods)} {r.path}" for r in records if isinstance(r, Route)] + [
        f"WS {r.path}" for r in records if isinstance(r, Socket)
    ]
    timers = [r.function.__name__ for r in records if isinstance(r, Timer)]
    shown = (("routes", http), ("RPC", rpc), ("events", events), ("timers", timers))
    return [f"  {label:<8} {', '.join(items)}" for label, items in shown if items]
