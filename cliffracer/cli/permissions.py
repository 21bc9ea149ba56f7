"""``cliffracer permissions`` and ``cliffracer provision``: what apps may do where they run, and what has to be there."""

import asyncio
import logging

import msgspec

from cliffracer.cli.collected import collects
from cliffracer.cli.loading import read_apps
from cliffracer.cli.output import hand_over, hand_over_json, odd, print_json, print_table, say, soft
from cliffracer.cli.reach import looked, looked_at, permitted, reach_settings, reached
from cliffracer.cli.yaml import yaml
from cliffracer.client import AsyncClient
from cliffracer.contract import Contract
from cliffracer.permissions import nats, network, provision, sql
from cliffracer.permissions.needs import Process, processes
from cliffracer.settings import Settings

log = logging.getLogger("cliffracer")
_NOTHING = "Nothing is needed."
_PATIENCE = 0.3  # seconds that the last of many replicas may take
_POLICIES = """\
# Who may reach whom, written by `cliffracer permissions` from what the services declare.
# Pods of NATS and PostgreSQL are those labelled app: nats and app: postgres.
"""


def permissions(*, apps: tuple[str, ...], form: str, together: bool, seen: bool, output: str | None, as_json: bool) -> None:
    """Print or write them."""
    if seen:
        _print_seen(apps, as_json=as_json)
        return
    settings = Settings.load()
    found = processes(read_apps(apps), settings, together=together)
    if as_json:
        hand_over_json(_values(form, found, settings), output)
        return
    text = _text(form, found, settings)
    for note in (note for process in found if form == "nats" for note in nats.permissions_of(process).notes):
        say(f"{odd('note')}  {note}", err=True)
    hand_over(text, output)


def _print_seen(apps: tuple[str, ...], *, as_json: bool) -> None:
    """Print what the running replicas of apps were seen to call and emit, as their apps can say it."""
    names = list(dict.fromkeys(app.name for app in read_apps(apps)))
    settings = reach_settings()

    async def ask(client: AsyncClient) -> list[Contract]:
        found: list[Contract] = await client.directory.ask("CONTRACT", patience=_PATIENCE, kind=Contract)
        permitted(client, "$SRV.CONTRACT")
        return found

    nobody: list[Contract] = []
    live = asyncio.run(looked(settings, ask, nobody))
    rows = []
    for name in names:
        replicas = [one for one in live if one.name == name]
        calls = {call for one in replicas for call in one.calls if not call.endswith(".*")}  # those are of proxies: not seen yet
        emits = {subject for one in replicas for subject in one.emits}
        rows.append({"app": name, "replicas": len(replicas), "calls": sorted(calls), "emits": sorted(emits)})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        if row["replicas"]:
            say(f"App({row['app']!r}, calls={row['calls']}, emits={row['emits']})")
        else:
            say(soft(f"{row['app']} is not running {looked_at(settings)}"))


def _text(form: str, found: list[Process], settings: Settings) -> str:
    if form == "sql":
        return sql.grants(found)
    if form == "k8s":
        return _POLICIES + "".join("---\n" + "\n".join(yaml(policy)) + "\n" for policy in network.policies(found, settings))
    return nats.configuration([nats.permissions_of(process) for process in found])


def _values(form: str, found: list[Process], settings: Settings) -> object:
    if form == "sql":
        return sql.grants(found).splitlines()
    if form == "k8s":
        return network.policies(found, settings)
    return [msgspec.to_builtins(nats.permissions_of(process)) for process in found]


def provide(*, apps: tuple[str, ...], as_json: bool) -> None:
    """Make it, and say what is there: in lines of the log where a deployment collects these."""
    lines = not as_json and collects()
    settings = reach_settings(quiet=not lines)
    needs = [app for process in processes(read_apps(apps), settings, together=False) for app in process.apps]

    async def run() -> list[provision.Provided]:
        async with reached(settings, starts=True) as client:
            return await provision.provision(client.link.bus, needs)

    found = asyncio.run(run())
    if as_json:
        print_json(found)
    elif lines:
        for one in found:
            log.info("%s %s is there for %s", one.kind, one.name, one.service, extra={one.kind: one.name, "for": one.service})
        if not found:
            log.info(_NOTHING)
    else:
        print_table(["kind", "name", "for"], [[one.kind, one.name, one.service] for one in found], empty=_NOTHING)
