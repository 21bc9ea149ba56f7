"""`--json`: every command takes it, and what it prints then is JSON, also when it fails."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import psycopg
import pytest
from psycopg import sql

from cliffracer import embedded
from cliffracer.cli.main import COMMANDS, cli
from tests.cli.terminal import Background, environment, written
from tests.support.nats import free_port

APP = """
    from cliffracer import App, Model, Repository, public

    app = App("box")

    class Thing(Model):
        name: str

    @app.rpc
    @public
    async def echo(text: str) -> str:
        return text

    @app.get("/things")
    @public
    async def things(*, kept: Repository[Thing]) -> list[Thing]:
        return await kept.find()

    @app.on("thing.kept")
    @public
    async def keep(text: str) -> None: ...
"""
ID = "01990000-0000-7000-8000-000000000000"
TYPED: dict[tuple[str, ...], list[str]] = {
    ("new",): ["made"],
    ("routes",): ["app.py"],
    ("shell",): ["-c", "await rpc.box.echo('x')"],
    ("servers", "status"): [],
    ("servers", "stop"): [],
    ("servers", "reset"): ["--yes"],
    ("servers", "logs"): [],
    ("call",): ["box.echo", "text=x"],
    ("emit",): ["thing.kept", '"x"'],
    ("delayed",): [],
    ("cancel",): ["no-such-event"],
    ("tail",): ["--since", "1h", "-n", "1"],
    ("bench",): ["box.echo", "text=x", "--seconds", "0.2", "-c", "2"],
    ("services",): [],
    ("top",): ["-n", "1", "--interval", "0.2"],
    ("trace",): [],
    ("health",): [],
    ("config",): [],
    ("doctor",): [],
    ("token", "issue"): ["--subject", "ada"],
    ("token", "inspect"): ["no.token.this"],
    ("users", "add"): ["ada"],
    ("users", "ls"): [],
    ("users", "roles"): ["ada", "--role", "admin"],
    ("keys", "issue"): ["robot"],
    ("keys", "ls"): [],
    ("keys", "rotate"): [ID],
    ("keys", "revoke"): [ID],
    ("dead", "ls"): [],
    ("dead", "show"): ["1"],
    ("dead", "replay"): ["1"],
    ("dead", "discard"): ["1"],
    ("db", "plan"): ["app.py", "--dry-run"],
    ("db", "apply"): [],
    ("db", "status"): [],
    ("db", "outbox"): [],
    ("db", "psql"): ["-c", "select 1 as one, 'x' as text, null as nothing, 2.5 as half"],
    ("replay",): ["app.py", "keep"],
    ("check",): ["app.py"],
    ("docs",): ["app.py"],
    ("client",): ["box"],
    ("permissions",): ["app.py"],
    ("provision",): ["app.py"],
    ("deploy", "docker"): ["app.py"],
    ("deploy", "compose"): ["app.py"],
    ("deploy", "k8s"): ["app.py"],
    ("completion",): ["bash"],
}
"""What is typed behind each command that ends by itself."""
WAITING = {("run",), ("console",), ("servers", "up")}
"""Those that go on until Ctrl-C."""
ALONE = {("servers", "stop"), ("servers", "reset")}
"""Those that need servers of their own."""
FAILS = {
    ("cancel",),
    ("token", "inspect"),
    ("keys", "rotate"),
    ("keys", "revoke"),
    ("dead", "show"),
    ("dead", "replay"),
    ("dead", "discard"),
}
"""There is nothing of that number or name."""
DRIVER = """
import contextlib, io, json, os, sys
from cliffracer.cli.main import main
told = []
for arguments, stdin, env in json.load(sys.stdin):
    os.environ.update(env)
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(stdin)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    sys.stdin = before
    told.append([code, out.getvalue(), err.getvalue()])
json.dump(told, sys.stdout)
"""
"""Runs one command after the other in one process: what takes time is to import what they use."""


def _leaves() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from (((name, each), found) for each, found in command.commands.items())
        else:
            yield (name,), command


LEAVES = dict(_leaves())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], tuple[int, str, str]]:
    """Give exit code, output and errors of every command, and under ``("wrong", ...)`` those of its wrong usage."""
    folder = written(tmp_path_factory.mktemp("json"), app=APP)
    port = free_port()
    env = {"CLIFFRACER_NAMESPACE": f"json{port}", "AUTH_SECRET_KEY": "k" * 20 + "0123456789abcdefghij", "HTTP_PORT": str(port)}
    with embedded.servers(nats=False, database=True) as shared:
        env["DATABASE_URL"] = _database(str(shared.database_url), f"json{port}")
        return _told(folder, env)


def _database(url: str, name: str) -> str:
    """Make a database of its own: in one that has migrations, the tables of other tests' apps would not follow their models."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    return url.replace("/postgres?", f"/{name}?")


def _told(folder: Path, env: dict[str, str]) -> dict[tuple[str, ...], tuple[int, str, str]]:
    home = environment()["CLIFFRACER_HOME"]
    asked = {
        command: ([*command, *typed, "--json"], "a-long-password-1\n", {"CLIFFRACER_HOME": str(folder) if command in ALONE else home})
        for command, typed in TYPED.items()
    }
    asked |= {("wrong", *command): ([*command, "--json", "--no-such-option"], "", {"CLIFFRACER_HOME": home}) for command in LEAVES}
    found = {}
    going = {
        command: Background(folder, *command, "--json", apart=command != ("run",), **(env if command == ("run",) else {}))
        for command in WAITING
    }
    with going["run",] as run, going["console",] as console, going["servers", "up"] as servers:
        for each, words in ((run, '"ready":'), (console, '"address":'), (servers, '"nats_url":')):
            each.says(words)
        done = subprocess.run(
            [sys.executable, "-c", DRIVER],
            cwd=folder, env=environment(**env), input=json.dumps(list(asked.values())),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found |= {command: (*answer,) for command, answer in zip(asked, json.loads(done.stdout), strict=True)}
        found |= {command: (each.end(), each.text, each.complaints.read_text()) for command, each in going.items()}
    return found


def test_every_command_is_tried_here() -> None:
    """A new one has to be added: there is no exception from --json."""
    assert set(TYPED) | WAITING == set(LEAVES)


@pytest.mark.parametrize("command", LEAVES, ids=" ".join)
def test_it_prints_json(told: dict[tuple[str, ...], tuple[int, str, str]], command: tuple[str, ...]) -> None:
    """One value, or one to a line where it goes on; nothing else on standard output, whether it worked or not."""
    assert any("--json" in parameter.opts for parameter in LEAVES[command].params)
    code, out, err = told[command]
    values = _values(out)
    assert values, err
    assert "Traceback" not in err
    assert (code == 1) == (command in FAILS), out + err


@pytest.mark.parametrize("command", LEAVES, ids=" ".join)
def test_wrong_usage_is_told_as_json_too(told: dict[tuple[str, ...], tuple[int, str, str]], command: tuple[str, ...]) -> None:
    """For the program that reads it; exit code 2."""
    code, out, _ = told["wrong", *command]
    (value,) = _values(out)
    assert (code, value["error"]["type"]) == (2, "UsageError")
    assert value["error"]["message"]


def test_what_is_printed_instead_of_text(told: dict[tuple[str, ...], tuple[int, str, str]]) -> None:
    """A prompt's value, the rows of a query, a module with what it was made from, a file under its name."""
    assert _values(told["shell",][1]) == ["x"]
    assert _values(told["db", "psql"][1]) == [[{"one": 1, "text": "x", "nothing": None, "half": "2.5"}]]
    (client,) = _values(told["client",][1])
    assert (client["service"], client["methods"]["echo"]["parameters"]) == ("box", ["text"])
    assert client["module"].startswith('"""Calls box ')
    (docker,) = _values(told["deploy", "docker"][1])
    assert docker["Dockerfile"].rstrip().endswith('CMD ["cliffracer", "run", "app.py"]')
    assert "_CLIFFRACER_COMPLETE" in _values(told["completion",][1])[0]["script"]


def _values(text: str) -> list:
    """Return the JSON values in a text, one after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        while text[at : at + 1].isspace():
            at += 1
    return found
