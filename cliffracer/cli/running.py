"""``cliffracer run``: one process that serves apps, alone or as the child of one that reloads it or runs several."""

import asyncio
import errno
import gc
import logging
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import Any

import click
import msgspec

from cliffracer import runtime
from cliffracer.cli.age import age
from cliffracer.cli.banner import banner, headline
from cliffracer.cli.children import PATIENCE, Parent, Ready
from cliffracer.cli.loading import load_apps, named
from cliffracer.cli.output import say
from cliffracer.cli.reach import with_servers
from cliffracer.cli.replicas import tell_replicas
from cliffracer.errors import CliffracerError, SetupError
from cliffracer.frozen import Frozen
from cliffracer.observability import logs
from cliffracer.settings import Settings
from cliffracer.stop import Stop, serve

log = logging.getLogger("cliffracer")
_NEXT_PORTS = 20


def run(
    *,
    apps: tuple[str, ...],
    reload: bool,
    workers: int | None,
    host: str | None,
    port: int | None,
    env_file: str | None,
    as_json: bool = False,
) -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP."""
    if reload and workers:
        raise click.UsageError("give --reload or --workers: a reload is for one process")
    settings = Settings.load(env_file=env_file, http_host=host, http_port=port, log_format="json" if as_json else None)
    logs.configure(settings)
    tell = tell_ready_as_json if as_json else tell_ready
    parent = Parent.found()
    if parent is None and (reload or workers):
        named(apps)  # else a child says so, and the parent waits for a change that helps nobody
        options = {"--host": host, "--port": port, "--env-file": env_file}
        arguments = [*apps, *(text for name, value in options.items() if value is not None for text in (name, str(value)))]
        arguments += ["--json"] if as_json else []
        asyncio.run(_several(arguments, settings, workers, tell))
    else:
        if parent is not None and parent.reloads:
            settings = settings.changed(drain=min(settings.drain, PATIENCE))
        try:
            _serve(apps, settings, parent, tell)
        except CliffracerError as error:
            if parent is not None and settings.env == "development":
                parent.failed(str(error))
            raise


def _several(
    arguments: list[str], settings: Settings, workers: int | None, tell: Callable[[Ready, str], None]
) -> Coroutine[Any, Any, None]:
    """Return what serves in other processes: some workers, or one that is replaced at each change. One process alone needs neither."""
    if workers:
        from cliffracer.cli.workers import working  # noqa: PLC0415 - as said above

        return working(arguments, settings, workers, tell)
    from cliffracer.cli.reloading import reloading  # noqa: PLC0415 - the same

    return reloading(arguments, settings, tell)


def _serve(apps: tuple[str, ...], settings: Settings, parent: Parent | None, tell: Callable[[Ready], None]) -> None:
    loaded = load_apps(apps)
    with ExitStack() as stack:
        frozen = [app.freeze() for app in loaded]
        needs = any(f.needs_database for f in frozen)
        settings.require_servers(nats=True, database=needs)
        sockets = _bound(frozen, settings, parent)  # before anything is started: a port in use is the commonest mistake
        for each in sockets:
            stack.callback(each.close)
        settings = with_servers(settings, stack, database=needs)
        stop = Stop()

        async def serving() -> None:
            tasks, loop = set[asyncio.Task[None]](), asyncio.get_running_loop()
            if parent is not None:
                loop.add_reader(parent, parent.heard, loop, stop)

            def ready(up: runtime.Running) -> None:
                gc.collect()
                gc.set_threshold(10_000, 20, 20)  # a burst of calls is no garbage: looking less often saves 4 to 8 % of a call
                gc.freeze()  # what is there now stays: collections need not look at it again
                up.health.worker = "" if parent is None else parent.worker
                told = _told(up)
                tell(told) if parent is None else parent.ready(told, up.sockets)
                if settings.env == "development" and (parent is None or parent.reloads):
                    tasks.add(asyncio.create_task(tell_replicas(up)))

            await serve(loaded, settings, sockets=sockets, ready=ready, stop=stop)

        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serving())
        if parent is None:
            stop.word.tell(", ".join(f"{f.name} {f.version}" for f in frozen), served=bool(stop.served))


def tell_ready(ready: Ready, extra: str = "") -> None:
    """Say that everything is bound and connected: a banner on a terminal, a line of the log elsewhere."""
    if sys.stderr.isatty():
        say("\n".join([*headline(ready.env, age(), extra), *ready.lines]), err=True)
    else:
        servers = f"embedded servers, for development: {', '.join(ready.embedded)}" if ready.embedded else ""
        more = [text for text in (*ready.addresses, extra, servers) if text]
        log.info("%s", " ".join([f"ready: {ready.names} in {age():.2f} s", *more]))


def tell_ready_as_json(ready: Ready, extra: str = "") -> None:
    """Say the same as one JSON object on standard output."""
    told = {"ready": ready.names, "env": ready.env, "seconds": round(age(), 3), "addresses": ready.addresses}
    say(msgspec.json.encode({**told, "embedded": ready.embedded, **({"note": extra} if extra else {})}).decode())


def _told(up: runtime.Running) -> Ready:
    names = ", ".join(f"{service.frozen.name} {service.frozen.version}" for service in up.services)
    origins = {name: up.settings.origin(name).place for name in ("nats_url", "database_url")}
    embedded_ones = [name for name, place in origins.items() if place == "embedded"]
    return Ready(names, up.settings.env, up.addresses, banner(up), embedded_ones)


def _bound(frozen: Sequence[Frozen], settings: Settings, parent: Parent | None) -> list[socket.socket]:
    """Return the sockets to serve HTTP on; while reloading, on the next free port where the wanted one is taken."""
    if parent is not None and parent.sockets:
        return parent.sockets
    wanted = settings
    for _ in range(_NEXT_PORTS if parent is not None and parent.reloads else 0):
        try:
            return runtime.bind(frozen, wanted)
        except SetupError as error:
            taken = isinstance(error.__context__, OSError) and error.__context__.errno == errno.EADDRINUSE
            if not taken or wanted.http_port >= 65_535:
                raise
            log.warning("%s Trying %d.", str(error).partition(" Stop it")[0], wanted.http_port + 1)
            wanted = wanted.changed(http_port=wanted.http_port + 1)
    return runtime.bind(frozen, wanted)


def _loop_factory() -> Any:
    try:
        import uvloop  # noqa: PLC0415 - there is none for Windows
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
