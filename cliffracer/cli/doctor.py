"""``cliffracer doctor``: what may be wrong, looked for in order, each finding with its cure."""

import asyncio
import importlib.metadata
import importlib.util
import platform
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cliffracer import __version__, embedded
from cliffracer.cli import drift, hazards, image
from cliffracer.cli.loading import guessed, load_apps, with_app
from cliffracer.cli.output import bad, good, hanging, odd, print_json, printable, say, soft
from cliffracer.client import AsyncClient, connect_async
from cliffracer.database import Database
from cliffracer.database.places import Only, Place, places
from cliffracer.database.reading import only_reads
from cliffracer.declarations import Rpc, Subscription, Timer
from cliffracer.durations import worded
from cliffracer.embedded import binaries
from cliffracer.errors import CliffracerError, Internal, NotFound, Unavailable
from cliffracer.frozen import Frozen
from cliffracer.messaging.configurations import NANOSECONDS
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.jetstream import JetStream, StreamInfo
from cliffracer.messaging.orphans import orphans
from cliffracer.messaging.streams import durable_name, sends_stream, timers_stream
from cliffracer.observability import logs
from cliffracer.permissions.needs import Needs
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects, named_within

State = Literal["ok", "look", "wrong"]
_MARKS = {"ok": good("ok   "), "look": odd("look "), "wrong": bad("WRONG")}
_INDENT = 17  # columns before a finding
_SLOW = 0.05  # seconds for a round trip
_MANY = 1000  # events that may wait for a function
_KEEP = "keep both in step by NTP"
_READ_ONLY = (
    "PostgreSQL takes no changes: a standby, or default_transaction_read_only is on; let DATABASE_URL lead to the primary, or say it"
)
_ONLY_READ = "for reading only, as its address or its user says: no tables are made, no events leave it"
_EXTRAS = {
    "uvloop": ("uvloop", "faster event loop"),
    "httpx": ("cliffracer[dev]", "t.http in tests"),
    "httpx2": ("cliffracer[oidc]", "sign-in by an issuer"),
    "watchfiles": ("cliffracer[dev]", "run --reload"),
    "opentelemetry": ("cliffracer[otel]", "export of traces"),
    "redis": ("cliffracer[redis]", "cache in Redis"),
    "IPython": ("ipython", "better prompt in `cliffracer shell`"),
}
"""Modules that need not be there: what installs each, and what it gives."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    state: State
    about: str
    text: str


def doctor(*, apps: tuple[str, ...], as_json: bool) -> None:
    """Print the findings; exit code 1 if one is wrong."""
    found = asyncio.run(_findings(apps))
    if as_json:
        print_json([finding._asdict() for finding in found])
    else:
        for finding in found:
            lines = [*map(printable, finding.text.split("\n"))]  # some have the words of whoever answers
            text = "\n".join(lines) if len(lines) > 1 else hanging(lines[0], _INDENT)
            say(f"{_MARKS[finding.state]} {finding.about.ljust(10)} {soft(text) if finding.state == 'ok' else text}")
    raise SystemExit(1 if any(finding.state == "wrong" for finding in found) else 0)


async def _findings(targets: tuple[str, ...]) -> list[Finding]:
    found = list(_versions())
    try:
        settings = Settings.load()
    except CliffracerError as error:
        return [*found, Finding("wrong", "settings", str(error))]
    logs.configure(settings.changed(log_level="CRITICAL"))
    found += _settings(settings)
    apps: list[Frozen] = []
    try:
        apps = [app.freeze() for app in load_apps(targets)] if targets or guessed() else []
    except CliffracerError as error:
        found.append(Finding("wrong", "apps", str(error)))
    if apps:
        found.append(Finding("ok", "apps", ", ".join(map(_counted, apps))))
    return [*found, *_image(), *[one async for one in _nats(settings, apps)], *[one async for one in _database(settings, apps)]]


def _image() -> Iterator[Finding]:
    """Yield what keeps the image of this folder from being built, where it has a Dockerfile of ours."""
    for text in image.unmet(Path()) if image.is_ours(Path("Dockerfile")) else ():
        yield Finding("look", "image", f"{text} Until then it cannot be built.")


def _counted(app: Frozen) -> str:
    number = len(app.declared)
    return f"{app.name} {app.version}: {number} handler{'s' if number != 1 else ''}"


def _versions() -> Iterator[Finding]:
    python = f"Python {sys.version.split()[0]} on {platform.system()} {platform.machine()}"
    yield Finding("ok", "versions", f"cliffracer {__version__}, {python}")
    parts = ("nats-py", "starlette", "uvicorn", "msgspec", "psycopg", "joserfc")
    yield Finding("ok", "packages", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in parts if _installed(name)))
    for module, (package, use) in _EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding("ok", "extra", f'without {package} there is no {use}: pip install "{package}"')


def _settings(settings: Settings) -> Iterator[Finding]:
    given = [f"{s.name} ({s.origin})" for s in settings.sources() if str(s.origin) != "default"]
    yield Finding("ok", "settings", f"{settings.env}; {', '.join(given) or 'all defaults'}")
    for text in hazards.unsafe(settings):
        yield Finding("look", "settings", text)
    for text in hazards.missing(settings):
        yield Finding("wrong", "extra", text)


async def _nats(settings: Settings, apps: Sequence[Frozen]) -> AsyncIterator[Finding]:
    if settings.nats_url is None:
        running = _embedded("nats", settings)
        if running is None:
            yield _unset("nats", "NATS", "NATS_URL", binaries.nats_server, settings)
            return
        settings = settings.changed("embedded", nats_url=running)
    try:
        async with connect_async(settings=settings.changed(wait=0.0)) as client:
            info = client.link.bus.info
            seconds = await _timed(client.link.bus.flush())
            state: State = "look" if seconds > _SLOW else "ok"
            place = f"{info.get('version')} at {info.get('host')}:{info.get('port')}"
            yield Finding(state, "NATS", f"{place}, a round trip takes {seconds * 1000:.1f} ms")
            yield _clock("NATS", await drift.clock(client.link.bus, JetStream(client.link.bus), Subjects(settings.namespace).stream))
            async for finding in _streams(client, settings, apps):
                yield finding
            infos = await client.directory.ask("INFO", patience=0.3)
            async for text in drift.deserted(JetStream(client.link.bus), Subjects(settings.namespace), infos, apps):
                yield Finding("look", "events", text)
            yield Finding("ok", "services", ", ".join(sorted({info.name for info in infos})) or "none runs now")
            for text in drift.versions(infos):
                yield Finding("look", "services", text)
    except CliffracerError as error:
        yield Finding("wrong", "NATS", str(error))


async def _streams(client: AsyncClient, settings: Settings, apps: Sequence[Frozen]) -> AsyncIterator[Finding]:
    jetstream, subjects = JetStream(client.link.bus), Subjects(settings.namespace)
    async for text in drift.buckets(jetstream, [Needs(app, settings) for app in apps]):
        yield Finding("look", "buckets", text)
    try:
        stream = await jetstream.stream(subjects.stream)
    except NotFound:
        yield Finding("ok", "events", f"no stream {subjects.stream} yet: the first durable event or subscriber makes it")
        return
    except CliffracerError as error:
        yield Finding("wrong", "JetStream", str(error))
        return
    yield Finding("ok", "events", f"{stream.state.messages} in stream {subjects.stream}")
    for finding in _kept(stream, production=settings.env == "production"):
        yield finding
    async for finding in _apart(jetstream, subjects, apps):
        yield finding
    for consumer in await jetstream.consumers(subjects.stream):
        if consumer.num_pending > _MANY:
            yield Finding("look", "events", f"{consumer.num_pending} wait for {consumer.name}: its service is down or too slow")
    for name, here in _consumers(subjects, apps).items():
        for orphan in await orphans(jetstream, name, here):
            group = orphan.consumer.removeprefix(named_within(subjects.namespace, ""))
            taken = f"group={group!r} on another function takes them over, " if name == subjects.stream else ""  # not ticks, nor calls
            cure = f"for ever; {taken}`nats consumer rm {name} {orphan.consumer}` drops them"
            lag = f"{orphan.lag} wait for it {cure}" if orphan.lag else f"nothing waits for it; what comes is kept {cure}"
            lost = f"consumer {orphan.consumer} of {orphan.service}.{orphan.function} belongs to no function of these apps any more"
            yield Finding("look", "events", f"{lost}: {lag}")
    dead = await DeadLetters(jetstream, subjects).count()
    yield Finding("look" if dead else "ok", "events", f"{dead} could not be handled{': cliffracer dead ls' if dead else ''}")


async def _apart(jetstream: JetStream, subjects: Subjects, apps: Sequence[Frozen]) -> AsyncIterator[Finding]:
    """Say where the server is not as the apps ask for it, or stores nothing more."""
    if full := await drift.room(jetstream, subjects.namespace):
        yield Finding("wrong", "JetStream", full)
    async for wrong, text in drift.streams(jetstream, subjects):
        yield Finding("wrong" if wrong else "look", "events", text)
    async for text in drift.consumers(jetstream, subjects, apps):
        yield Finding("look", "events", text)


def _kept(stream: StreamInfo, *, production: bool) -> Iterator[Finding]:
    """Say what may become of events that were acknowledged."""
    config, name = stream.config, stream.config["name"]
    replicas = config.get("num_replicas", 1)
    if replicas > 1:
        yield Finding("ok", "events", f"{name} is kept by {replicas} servers")
    elif production:
        cut = "a power cut may lose what it acknowledged in its last two minutes"
        cure = "set jetstream { sync_interval: always } there (no client can see whether it is), or have three servers and NATS_REPLICAS=3"
        yield Finding("look", "events", f"{name} is kept by one server: {cut}; {cure}")
    limited = any(config.get(limit, -1) > 0 for limit in ("max_msgs", "max_bytes", "max_msgs_per_subject"))
    if limited and config.get("discard") == "old":
        yield Finding("look", "events", f"{name} drops old events when it is full, handled or not: nats stream edit {name} --discard new")
    if age := config.get("max_age"):
        yield Finding("look", "events", f"{name} drops events after {worded(age / NANOSECONDS)}, handled or not")


def _consumers(subjects: Subjects, apps: Sequence[Frozen]) -> dict[str, dict[str, set[str]]]:
    """Return, of each stream, the consumers that the functions of each app have."""
    found: dict[str, dict[str, set[str]]] = {}
    for app in apps:
        durable = (record for record, _ in app.of(Subscription) if record.durable)
        timers = (record for record, _ in app.of(Timer) if not record.each)
        names = {
            subjects.stream: [durable_name(subjects, app.name, record.function.__name__, record.group) for record in durable],
            sends_stream(subjects).name: [durable_name(subjects, app.name, "send")] if any(app.of(Rpc)) else [],
            timers_stream(subjects).name: [durable_name(subjects, app.name, f"{record.function.__name__}-timer") for record in timers],
        }
        for stream, here in names.items():
            found.setdefault(stream, {})[app.name] = set(here)
    return found


async def _database(settings: Settings, apps: Sequence[Frozen]) -> AsyncIterator[Finding]:
    needed = any(app.needs_database for app in apps)
    if not settings.databases:
        running = _embedded("postgres", settings)
        if running is None:
            if needed:
                yield _unset("postgres", "database", "DATABASE_URL", binaries.postgres, settings)
            return
        settings = settings.changed("embedded", database_url=running)
    try:
        async with Database.open(settings, name="cliffracer doctor", wait=0.0) as database:
            for place in places(database):
                async for finding in _one_database(place):
                    yield finding
    except CliffracerError as error:
        yield Finding("wrong", "database", str(error))


async def _one_database(place: Place) -> AsyncIterator[Finding]:
    about = "database" if isinstance(place, Only) else f"database {place.number}"
    database = place.database
    seconds = await _timed(database.fetch_value(int, "select 1"))
    if await database.fetch_value(str, "show transaction_read_only") == "on":
        yield Finding("ok", about, _ONLY_READ) if await only_reads(database) else Finding("wrong", about, _READ_ONLY)
    elif trouble := await _unstored(database):
        yield Finding("wrong", about, trouble)
    version = await database.fetch_value(str, "show server_version")
    before = drift.now()
    there = await database.fetch_value(datetime, "select clock_timestamp()")
    ahead = None if there is None else drift.ahead(before, there, drift.now())
    state: State = "look" if seconds > _SLOW else "ok"
    yield Finding(state, about, f"PostgreSQL {version}, a round trip takes {seconds * 1000:.1f} ms")
    yield _clock("PostgreSQL" if isinstance(place, Only) else f"PostgreSQL {place.number}", ahead)


async def _unstored(database: Database) -> str:
    """Say what keeps PostgreSQL from storing a page, tried by a table that is gone at once; nothing where it may not be made."""
    try:
        await database.execute("create temporary table cliffracer_doctor on commit drop as select 1")
    except Unavailable as error:
        words = getattr(getattr(error.__cause__, "diag", None), "message_primary", None) or str(error)
        return f"PostgreSQL stores nothing ({words}). {' '.join(getattr(error, '__notes__', ()))}".rstrip()
    except Internal:  # no privilege for temporary tables
        return ""
    return ""


def _clock(whose: str, ahead: float | None) -> Finding:
    """Say whether a server lives in another time."""
    if ahead is None:
        return Finding("ok", "clock", f"{whose} does not say what time it is: whether its clock is right cannot be seen from here")
    if abs(ahead) > drift.SKEW:
        return Finding("look", "clock", f"{whose} is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine: {_KEEP}")
    return Finding("ok", "clock", f"{whose} and this machine agree within {drift.SKEW:g} s")


def _embedded(kind: str, settings: Settings) -> str | None:
    """Return the URL of the embedded server that would be used; in production none is, also where one runs."""
    return None if settings.env == "production" else embedded.running(kind)


def _unset(kind: str, about: str, variable: str, program: Callable[[], object], settings: Settings) -> Finding:
    """Say what becomes of a server that is not set: in development it is embedded, where that is installed."""
    if settings.env == "production":
        return Finding("wrong", about, f"{variable} is not set: in production no server is embedded")
    try:
        program()
    except CliffracerError as error:
        return Finding("wrong", about, str(error))
    run = f"`{with_app('cliffracer run')}`"
    if not embedded.known(kind):
        return Finding(
            "ok", about, f"{variable} is not set, and nothing has run in {embedded.locate(None).parent} yet: {run} starts a server"
        )
    return Finding("ok", about, f"{variable} is not set, and the embedded server does not run: {run} starts it")


async def _timed(work: Awaitable[Any]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
