"""``cliffracer check``: whether apps, as they stand here, break whoever calls or subscribes where they would run."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from cliffracer.cli.loading import load_apps
from cliffracer.cli.output import bad, good, hanging, odd, print_json, printable, say, soft, strong
from cliffracer.cli.reach import looked_at, reach_settings, reached
from cliffracer.client import AsyncClient
from cliffracer.contract import Contract, declared
from cliffracer.messaging.directory import Stats
from cliffracer.wire.compatible import Misfit, misfits
from cliffracer.wire.subjects import matches

_PATIENCE = 0.5
_MARKS = {"breaks": bad("breaks"), "look": odd("look  "), "ok": good("ok    ")}
_ORDER = ("breaks", "look", "ok")


State = Literal["breaks", "look", "ok"]


class Finding(NamedTuple):
    """One method or event, and what becomes of whoever uses it."""

    state: State
    what: str
    problems: list[str]
    affected: list[str]
    """Live services that call or subscribe; ``somebody`` where it was called by nobody that is known."""


def check(*, apps: tuple[str, ...], against: str | None, as_json: bool) -> None:
    """Print the findings; exit code 1 if somebody who is there would break."""
    new = [declared(app.freeze()) for app in load_apps(apps)]
    settings = reach_settings() if against is None else reach_settings(against)

    async def ask() -> tuple[list[Contract], dict[tuple[str, str], int]]:
        async with reached(settings) as client:
            return await _asked(client)

    live, called = asyncio.run(ask())
    found = [finding for one in new for finding in _findings(one, live, called)]
    found.sort(key=lambda finding: _ORDER.index(finding.state))
    if as_json:
        print_json([finding._asdict() for finding in found])
    else:
        known = sorted({printable(f"{one.name} {one.version}") for one in live})
        say(soft(f"{', '.join(f'{one.name} {one.version}' for one in new)} against {', '.join(known) or 'nobody'} {looked_at(settings)}"))
        for finding in found:
            _print(finding)
    raise SystemExit(1 if any(finding.state == "breaks" for finding in found) else 0)


async def _asked(client: AsyncClient) -> tuple[list[Contract], dict[tuple[str, str], int]]:
    """Return the contracts of all replicas, and how often each method was called."""
    live: list[Contract] = await client.directory.ask("CONTRACT", patience=_PATIENCE, kind=Contract)
    stats: list[Stats] = await client.directory.ask("STATS", patience=_PATIENCE, kind=Stats)
    called: dict[tuple[str, str], int] = {}
    for counted in stats:
        for figures in counted.endpoints:
            called[counted.name, figures.name] = called.get((counted.name, figures.name), 0) + figures.num_requests
    for one in live:
        if one.error:  # its schemas did not fit into one message: they are asked for method by method
            infos = await client.directory.ask("INFO", one.name, patience=_PATIENCE)
            names = {endpoint.name for info in infos for endpoint in info.endpoints}
            one.endpoints = {name: (await client.directory.schemas(one.name, name)).get(name, {}) for name in names}
    return live, called


def _findings(new: Contract, live: Sequence[Contract], called: dict[tuple[str, str], int]) -> Iterator[Finding]:
    """Compare one app with its replicas that run, and what it emits and hears with those who are there."""
    old: dict[str, dict[str, str]] = {}
    for one in live:
        if one.name == new.name:
            old |= one.endpoints
    for method, schemas in sorted(old.items()):
        problems = _method(schemas, new.endpoints.get(method))
        target = f"{new.name}.{method}"
        callers = sorted({one.name for one in live if target in one.calls and one.name != new.name})
        if not callers and called.get((new.name, method)):
            callers = [f"somebody ({called[new.name, method]} calls)"]
        state: State = "ok" if not problems else "breaks" if callers else "look"
        perhaps = sorted({f"{one.name}, which may call it" for one in live if f"{new.name}.*" in one.calls}) if not callers else []
        yield Finding(state, target, problems, callers or perhaps)
    yield from _events(new, live)


def _method(old: dict[str, str], new: dict[str, str] | None) -> list[str]:
    if new is None:
        return ["is gone"]
    if old.get("schema_hash") == new.get("schema_hash") or "request_schema" not in old:
        return []
    request = misfits(_read(old["request_schema"]), _read(new["request_schema"]))
    response = misfits(_read(new["response_schema"]), _read(old["response_schema"]), answer=True)
    return [*(_told("argument", one) for one in request), *(_told("reply", one) for one in response)]


def _events(new: Contract, live: Sequence[Contract]) -> Iterator[Finding]:
    others = {(one.name, one.version): one for one in live}.values()
    for subject, schema in sorted(new.emits.items()):
        for other in others:
            for heard in other.hears:
                if other.name != new.name and schema and heard.schema and matches(heard.subject, subject):
                    problems = [_told("", one) for one in misfits(_read(schema), _read(heard.schema))]
                    who = f"{other.name}.{heard.function}"
                    yield Finding("breaks" if problems else "ok", f"event {subject}", problems, [who])
    for heard in new.hears:
        for other in others:
            for subject, schema in sorted(other.emits.items()):
                if other.name != new.name and schema and heard.schema and matches(heard.subject, subject):
                    problems = [_told("", one) for one in misfits(_read(schema), _read(heard.schema), answer=False)]
                    what = f"{new.name}.{heard.function} on {subject}"
                    yield Finding("breaks" if problems else "ok", what, problems, [f"{other.name}, which emits it"])


def _read(text: str) -> dict[str, object]:
    try:
        found: object = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}  # somebody's odd schema: nothing can be told
    return found if isinstance(found, dict) else {}


def _told(where: str, misfit: Misfit) -> str:
    place = " ".join(part for part in (where, misfit.path) if part)
    return f"{place or 'the whole'}: {misfit.text}" if where or misfit.path else misfit.text


def _print(finding: Finding) -> None:
    word = {"breaks": "for", "look": "for", "ok": "used by"}[finding.state]
    told = f"{word} {', '.join(finding.affected)}" if finding.affected else "for nobody who was seen" if finding.problems else ""
    say(f"{_MARKS[finding.state]} {strong(printable(finding.what))} {soft(printable(told))}".rstrip())
    for problem in finding.problems:
        say(f"       {hanging(printable(problem), 7)}")
