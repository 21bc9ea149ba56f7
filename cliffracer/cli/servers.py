"""``cliffracer servers``: the embedded NATS and PostgreSQL of this folder."""

import re
import signal
import threading
from pathlib import Path

import click

from cliffracer import embedded
from cliffracer.cli.output import bad, encodable, good, print_json, print_table, printable, say, soft, strong
from cliffracer.cli.stdio import say_stopped
from cliffracer.ending import asking
from cliffracer.errors import SetupError

_NAMES = {"nats": "NATS", "postgres": "PostgreSQL"}
_PASSWORD = re.compile(r"(?<=://)([^:/@]*):[^@/]*(?=@)")


def up(*, database: bool, as_json: bool) -> None:
    """Keep the servers up."""
    stopped, by = threading.Event(), list[str]()

    def stop_by(number: int, _frame: object) -> None:
        by.append(signal.Signals(number).name)
        stopped.set()

    for number in asking():
        signal.signal(number, stop_by)
    with embedded.servers(database=database) as urls:
        if as_json:
            print_json({"nats_url": urls.nats_url, "database_url": urls.database_url})
        else:
            say(f"{good('up')} {soft(f'in {embedded.locate(None)}')}\n")
            say(f"export NATS_URL={urls.nats_url}")
            if urls.database_url:
                say(f"export DATABASE_URL={urls.database_url}")
            say(f"\n{soft('They are used by themselves in this folder; the lines above are for other programs. Ctrl-C stops')}")
        stopped.wait()
    say_stopped(by[0], as_json=as_json)


def status(*, as_json: bool) -> None:
    """Say how they are."""
    found = embedded.status()
    answering = {s.kind: s.url is not None and embedded.answers(s.url) for s in found}
    if as_json:
        print_json(
            [
                {
                    "kind": s.kind,
                    "running": s.running,
                    "answers": answering[s.kind],
                    "in_use": s.in_use,
                    "url": s.url and _masked(s.url),
                    "logs": [encodable(str(log)) for log in s.logs],
                }
                for s in found
            ]
        )
        return
    rows = [
        [strong(_NAMES[s.kind]), _state(s, answers=answering[s.kind]), "yes" if s.in_use else "no", _masked(s.url), soft(_shown(s.logs))]
        for s in found
    ]
    print_table(["server", "", "in use", "url", "logs"], rows, empty=f"No server was ever started in {embedded.locate(None)}.")


def stop(*, as_json: bool) -> None:
    """Stop them."""
    embedded.stop()
    print_json({"stopped": True}) if as_json else say(good("stopped"))


def reset(*, yes: bool, as_json: bool) -> None:
    """Forget what they stored."""
    embedded.refuse_if_used()  # before anybody is asked in vain
    if not yes and not click.confirm(f"Forget all streams and tables in {embedded.locate(None)}?", err=True):
        raise SetupError("Aborted: nothing was forgotten.")
    embedded.reset()
    print_json({"reset": True}) if as_json else say(good("forgotten"))


def logs(*, kind: str | None, lines: int, as_json: bool) -> None:
    """Print the ends of the logs."""
    ends = {
        log: log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        for found in embedded.status()
        if kind in (None, found.kind)
        for log in found.logs
    }
    if as_json:
        print_json([{"log": encodable(str(log)), "lines": end} for log, end in ends.items()])
        return
    for log, end in ends.items():
        say(soft(f"--- {_shown((log,))}"))
        say("\n".join(map(printable, end)))


def _state(found: embedded.Status, *, answers: bool) -> str:
    if not found.running:
        return soft("stopped")
    return soft("starting") if found.url is None else good("running") if answers else bad("does not answer")


def _masked(url: str | None) -> str:
    return _PASSWORD.sub(r"\1:***", url or "")


def _shown(paths: tuple[Path, ...]) -> str:
    return ", ".join(str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path) for path in paths)
