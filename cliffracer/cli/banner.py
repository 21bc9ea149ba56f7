"""What ``cliffracer run`` prints on a terminal once everything is bound and connected."""

import shutil
import sys
from collections.abc import Iterator
from typing import Any

from cliffracer import __version__, runtime
from cliffracer.checking import Declared
from cliffracer.cli.output import fitted, good, soft, strong, width
from cliffracer.declarations import Leader, Route, Rpc, Socket, Subscription, Timer
from cliffracer.durations import worded
from cliffracer.frozen import Frozen
from cliffracer.messaging.streams import durable_name
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects

_LABEL = 10
_MOST = 6  # lines of one kind; `cliffracer routes` has them all


def headline(env: str, seconds: float, extra: str = "") -> list[str]:
    """Return the lines above all others: who this is, and that it is ready."""
    more = f"  {soft(extra)}" if extra else ""
    return ["", f"  {strong('cliffracer')} {__version__}  {soft(env)}{more}  {good(f'ready in {seconds:.2f} s')}", ""]


def banner(up: runtime.Running) -> list[str]:
    """Return the lines below: what is served where, how it is reached, what to try."""
    settings = up.settings
    lines: list[str] = []
    for service in up.services:
        name = f"  {strong(service.frozen.name)} {soft(service.frozen.version)}"
        lines += [name, *_declared(service.frozen, Subjects(settings.namespace)), ""]
    lines += [*_places(up), ""]
    tried = _to_try(up)
    return [*lines, *([*tried, ""] if tried else []), f"  {soft('Ctrl-C stops')}", ""]


def _declared(frozen: Frozen, subjects: Subjects) -> Iterator[str]:
    kinds: dict[str, list[str]] = {"HTTP": [], "sockets": [], "RPC": [], "events": [], "timers": [], "leaders": [], "files": []}
    for declared in frozen.declared:
        label, text = _described(declared.record, frozen.name, subjects)
        kinds[label].append(text)
    kinds["files"] = [static.path for static in frozen.statics]
    kinds["mounts"] = [mount.path for mount in frozen.mounts]
    for label, texts in kinds.items():
        yield from _listed(label, texts)


def _described(record: Any, name: str, subjects: Subjects) -> tuple[str, str]:
    match record:
        case Route(methods=methods, path=path):
            return "HTTP", f"{'/'.join(methods)} {path}"
        case Socket(path=path):
            return "sockets", path
        case Rpc(name=method):
            return "RPC", subjects.rpc(name, method)
        case Subscription(function=function, subject=subject):
            durable = f"durable {durable_name(subjects, name, function.__name__, record.group)}"
            manner = durable if record.durable else "each replica" if record.each else "at most once"
            return "events", f"{subject} → {function.__name__} {soft(f'({manner})')}"
        case Timer(function=function, every=every, cron=cron, tz=zone):
            plan = f"every {worded(every)}" if every is not None else f"{cron} {zone}"
            return "timers", f"{function.__name__} {soft(plan)}"
        case Leader(function=function):
            return "leaders", function.__name__
    raise AssertionError(record)


def _listed(label: str, texts: list[str]) -> Iterator[str]:
    """Yield short texts side by side, as many to a line as fit."""
    room = shutil.get_terminal_size((100, 24)).columns - 4 - _LABEL
    lines: list[str] = []
    for text in texts:
        if lines and width(lines[-1]) + width(text) + 3 <= room:
            lines[-1] += f"{soft(' · ')}{text}"
        else:
            lines.append(text)
    if len(lines) > _MOST:
        lines[_MOST - 1 :] = [soft(f"… {len(texts)} in all: cliffracer routes")]
    for number, line in enumerate(lines):
        yield f"    {soft((label if number == 0 else '').ljust(_LABEL))}{fitted(line, room)}"


def _places(up: runtime.Running) -> Iterator[str]:
    settings = up.settings
    pages = [*(["/docs"] if settings.docs else []), "/health/ready", *(["/metrics"] if settings.metrics else [])]
    for address in up.addresses:
        yield _row("HTTP", f"{strong(address)}  {soft(' '.join(pages))}")
    yield _row("NATS", _server(settings, "nats_url"))
    if settings.databases and any(service.frozen.needs_database for service in up.services):
        yield _row("database", _server(settings, "database_urls" if settings.database_urls else "database_url"))


def _row(label: str, text: str) -> str:
    return f"  {soft(label.ljust(_LABEL + 2))}{text}"


def _server(settings: Settings, name: str) -> str:
    if settings.origin(name).place == "embedded":
        return f"embedded, for development {soft('(.cliffracer/)')}"
    return f"{next(s.value for s in settings.sources() if s.name == name)} {soft(f'({settings.origin(name)})')}"


def _to_try(up: runtime.Running) -> list[str]:
    """Return commands that work in another terminal: one call, one request, the console."""
    calls = [(service.frozen.name, record, _needed(declared)) for service in up.services for record, declared in service.frozen.of(Rpc)]
    calls.sort(key=lambda call: bool(call[2]))  # one that needs nothing works as it stands
    routes = [(record, _needed(declared)) for service in up.services for record, declared in service.frozen.of(Route)]
    paths = [route.path for route, needed in routes if "GET" in route.methods and not needed]
    pages = [s.path for service in up.services for s in service.frozen.statics if (s.folder / "index.html").is_file()]
    commands = [
        f"{_program()} call {service}.{record.name}{''.join(f' {name}=…' for name in needed)}" for service, record, needed in calls[:1]
    ]
    for address in up.addresses[:1]:
        commands = [*(f"{address}{path}  {soft('in a browser')}" for path in pages[:1]), *commands]
        commands += [f"curl {address}{path}" for path in paths[:1]]
    commands.append(f"{_program()} console  {soft('all that runs, in a browser')}")
    return [_row("try" if number == 0 else "", command) for number, command in enumerate(commands)]


def _program() -> str:
    """Return how we are called in another terminal: by our name, or, where no shell finds it, by the way it was done here."""
    if shutil.which("cliffracer"):
        return "cliffracer"
    return "python -m cliffracer" if sys.argv[0].endswith("__main__.py") else sys.argv[0]


def _needed(declared: Declared) -> list[str]:
    return [p.name for p in declared.signature.accepts if p.required] if declared.signature else []
