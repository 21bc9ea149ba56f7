"""``cliffracer check``: whether apps, as they stand here, break whoever calls or subscribes where they would run."""

import asyncio
from collections import Counter

import click

from cliffracer.cli.breaking import Called, Finding, findings
from cliffracer.cli.loading import load_apps
from cliffracer.cli.output import bad, good, hanging, odd, print_json, printable, say, soft, strong
from cliffracer.cli.reach import looked, looked_at, permitted, reach_settings
from cliffracer.client import AsyncClient
from cliffracer.contract import Contract, declared
from cliffracer.messaging.directory import Stats
from cliffracer.settings import masked
from cliffracer.settings.values import nats_servers

_PATIENCE = 0.5
_MARKS = {"breaks": bad("breaks"), "look": odd("look  "), "ok": good("ok    ")}
_ORDER = ("breaks", "look", "ok")


def check(*, apps: tuple[str, ...], against: str | None, as_json: bool) -> None:
    """Print the findings; exit code 1 if somebody who is there would break."""
    new = [declared(app.freeze()) for app in load_apps(apps)]
    settings = reach_settings(_address(against))
    nobody: tuple[list[Contract], Called] = ([], {})
    live, called = asyncio.run(looked(settings, _asked, nobody))
    found = [finding for one in new for finding in findings(one, live, called)]
    found.sort(key=lambda finding: _ORDER.index(finding.state))
    if as_json:
        print_json([finding._asdict() for finding in found])
    else:
        known = sorted({printable(f"{one.name} {one.version}") for one in live})
        say(soft(f"{', '.join(f'{one.name} {one.version}' for one in new)} against {', '.join(known) or 'nobody'} {looked_at(settings)}"))
        for finding in found:
            _print(finding)
    raise SystemExit(1 if any(finding.state == "breaks" for finding in found) else 0)


def _address(against: str | None) -> str | None:
    """Return where NATS is, as it was given; `click.UsageError` for what is no address of one."""
    try:
        return against if against is None else nats_servers(against)
    except ValueError as error:
        raise click.UsageError(f"--against is {masked(against or '')!r}: {error}, that of the NATS where they run") from None


async def _asked(client: AsyncClient) -> tuple[list[Contract], Called]:
    """Return the contracts of all replicas, and how often each handler was called."""
    live: list[Contract] = await client.directory.ask("CONTRACT", patience=_PATIENCE, kind=Contract)
    stats: list[Stats] = await client.directory.ask("STATS", patience=_PATIENCE, kind=Stats)
    permitted(client, "$SRV.CONTRACT", "$SRV.STATS")
    called: Counter[tuple[str, str, str]] = Counter()
    for counted in stats:
        for figures in (*counted.endpoints, *counted.handlers):
            called[counted.name, figures.kind, figures.name] += figures.num_requests
    for one in live:
        if one.error and one.endpoints is None:  # its schemas did not fit into one message: they are asked for method by method
            infos = await client.directory.ask("INFO", one.name, patience=_PATIENCE)
            names = {endpoint.name for info in infos for endpoint in info.endpoints}
            one.endpoints = {name: (await client.directory.schemas(one.name, name)).get(name, {}) for name in names}
    return live, called


def _print(finding: Finding) -> None:
    word = {"breaks": "for", "look": "for", "ok": "used by"}[finding.state]
    told = f"{word} {', '.join(finding.affected)}" if finding.affected else "for nobody who was seen" if finding.problems else ""
    say(f"{_MARKS[finding.state]} {strong(printable(finding.what))} {soft(printable(told))}".rstrip())
    for problem in finding.problems:
        say(f"       {hanging(printable(problem), 7)}")
