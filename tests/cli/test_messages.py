"""What is printed for the mistakes that everybody makes: one message that says what to do, never a traceback of ours."""

import asyncio
import json
import re
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest
import uvloop

from cliffracer import embedded
from cliffracer.cli import running
from cliffracer.cli.loading import _EXITS
from cliffracer.cli.main import main
from cliffracer.cli.output import message_of
from cliffracer.cli.shell import Prompt
from cliffracer.database import away
from cliffracer.errors import Internal, InvalidInput, NotFound, SetupError
from cliffracer.messaging import bus
from cliffracer.observability import logs
from cliffracer.settings import Settings
from cliffracer.web.ports import bind
from cliffracer.web.server import serving
from tests.cli.terminal import Background, cliffracer, written
from tests.support.nats import NatsServer, free_port

GOOD = """
    from cliffracer import App
    app = App("users")

    @app.rpc
    async def get_user(user_id: int) -> str:
        return "Ada"

    @app.on("user.created")
    async def welcome(name: str) -> None: ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "orders").mkdir()
    written(tmp_path / "orders", main="from cliffracer import App\napp=App('orders')\n")
    return written(tmp_path, users=GOOD)


def _run(folder: Path, target: str, *more: str, **env: str) -> str:
    done = cliffracer("run", target, *more, cwd=folder, **env)
    assert (done.code, done.out) == (1, "")
    return done.err.replace(str(folder), "HERE")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nomod:app", 'No module "nomod" here. Apps I can see: users:app, orders/main.py:app.'),
        ("users:ap", 'There is no "ap" in users. Did you mean users:app?'),
        ("users:get_user", "users:get_user is a function, not an App. Apps I can see: users:app, orders/main.py:app."),
        ("nofile.py:app", "There is no file nofile.py. Apps I can see: users:app, orders/main.py:app."),
        ("users app", "'users app' names no app. Write module:app, or path/to/file.py:app. Apps I can see: users:app, orders/main.py:app."),
    ],
)
def test_an_import_string_that_leads_nowhere(folder, target, message):
    """What is missing is named, and the apps that are there."""
    assert _run(folder, target) == f"Error: {message}\n"


@pytest.mark.parametrize("target", ["nul:app", "nul.py:app", "above:app", "orders/nul.py:app"])
def test_a_nul_byte_in_a_module_is_told_with_its_line(folder, target):
    """Also in one that it imports: Python says neither which file nor where."""
    written(folder, above="import nul\n") if target == "above:app" else None
    file = "orders/nul.py" if "/" in target else "nul.py"
    (folder / file).write_bytes(b"from cliffracer import App\napp = App('n\0l')\n")
    told = f"Line 2 of {file} holds a NUL byte. Save it as text in UTF-8: UTF-16 has such bytes.\n"
    assert _run(folder, target).endswith(f"null bytes\n{told}")


@pytest.mark.parametrize(
    ("given", "env", "kind", "words"),
    [
        (["run", "users:app"], {"LOG_FORMAT": "JSON", "HTTP_PORT": "x"}, "SetupError", "HTTP_PORT (environment) is 'x'"),
        (["run", "--workers", "0"], {"CLIFFRACER_LOG_FORMAT": "json"}, "UsageError", "is no whole number from 1 to 256"),
        (["run", "lines:app"], {"LOG_FORMAT": "json", "LOG_LEVEL": "CRITICAL"}, "SetupError", "ZeroDivisionError: division by zero"),
        (["run", "leaves:app"], {"LOG_FORMAT": "json"}, "SetupError", "SystemExit: no config"),
        (["db", "apply", "users:app"], {"LOG_FORMAT": "json", "CLIFFRACER_ENV": "production"}, "SetupError", "DATABASE_URL is not set"),
    ],
)  # fmt: skip
def test_what_ends_a_deployment_is_a_line_of_its_log(folder, given, env, kind, words):
    """Whoever collects the lines of a pod that comes up again and again can read why; settings that are wrong are no reason not to."""
    written(folder, lines="import os\n1 / 0\n", leaves="import sys\nsys.exit('no config')\n")
    done = cliffracer(*given, cwd=folder, **env)
    told = json.loads(done.err)
    code = 2 if kind == "UsageError" else 1
    assert (done.code, done.out, told["level"], told["error"], told["exit_code"]) == (code, "", "CRITICAL", kind, code)
    assert words in told["message"]


def test_what_is_provisioned_is_lines_of_the_log_where_these_are_json(tmp_path):
    """As with `db apply`: whoever collects the lines of a deployment can read what is there, and for whom, and that nothing is needed."""
    app = "from cliffracer import App\napp = App('kept')\n"
    written(tmp_path, kept=f"{app}@app.on('word.kept')\ndef keep(word: str) -> None: ...\n", bare=app)
    with NatsServer(jetstream=True) as server:
        env = {"NATS_URL": server.url, "LOG_FORMAT": "json"}
        done, nothing = (cliffracer("provision", f"{name}:app", cwd=tmp_path, **env) for name in ("kept", "bare"))
        level = cliffracer("provision", "kept:app", cwd=tmp_path, **env, LOG_LEVEL="WARNING")
    told = [json.loads(line) for line in done.err.splitlines()]
    assert (done.code, done.out, {line["level"] for line in told}) == (0, "", {"INFO"})
    assert [(line["message"], line["for"]) for line in told if "consumer" in line] == [("consumer kept-keep is there for kept", "kept")]
    assert "EVENTS" in [line.get("stream") for line in told]
    assert json.loads(nothing.err)["message"] == "Nothing is needed."
    assert level == (0, "", "")


def test_a_mistake_of_ours_is_a_line_of_the_log_too(folder, monkeypatch, capsys):
    """With its traceback as a field, not as lines of their own."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LOG_FORMAT", "json")
    monkeypatch.setattr(running, "load_apps", lambda _: {}["nothing"])
    try:
        assert main(["run", "users:app"]) == 1
    finally:
        logs.reset()
    told = json.loads(capsys.readouterr().err)
    assert (told["message"], told["error"], told["exception"]["type"]) == ("KeyError: 'nothing'", "KeyError", "KeyError")


def test_no_app_is_named_and_none_is_found(folder):
    """`cliffracer run` alone says which it could be."""
    done = cliffracer("run", cwd=folder)
    assert (done.code, done.err) == (
        1,
        "Error: Which app? Name it, as in `cliffracer run users:app`. Apps I can see: users:app, orders/main.py:app.\n",
    )


@pytest.mark.parametrize(
    "command", ["run", "run --reload --port 0", "db plan --name first", "docs --openapi", "deploy docker", "check", "permissions --seen"]
)
def test_no_app_is_named_and_one_is_found(tmp_path, command):
    """The command that was typed is said whole: it can be copied."""
    written(tmp_path, users=GOOD)
    done = cliffracer(*command.split(), cwd=tmp_path, CLIFFRACER_HOME=str(tmp_path))
    assert (done.code, done.err) == (1, f"Error: Which app? Name it: cliffracer {command} users:app\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["users.py"]


LOOKS = {
    ("services",): 0,
    ("services", "users"): 1,
    ("trace",): 0,
    ("bench", "users.get_user"): 1,
    ("client", "users"): 1,
    ("permissions", "users:app", "--seen"): 0,
    ("check", "users:app"): 0,
    ("doctor",): 0,
    ("dead", "ls"): 0,
    ("delayed",): 0,
}
"""What only looks, and how it ends where there is nothing."""


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_a_look_starts_nothing_where_nothing_ever_ran(tmp_path, command):
    """It says so, since it may be another folder's to look at. No server is started, and no folder made."""
    written(tmp_path, users=GOOD)
    done = cliffracer(*command, cwd=tmp_path, CLIFFRACER_HOME=str(tmp_path))
    assert done.code == LOOKS[command]
    assert f"nothing has run in {tmp_path} yet" in done.out + done.err
    assert not (tmp_path / ".cliffracer").exists()


@pytest.mark.parametrize(
    ("command", "apps", "start"),
    [
        ("services", (), "cliffracer run"),
        ("services", ("users",), "cliffracer run users:app"),
        ("bench users.get_user", ("users", "orders"), "cliffracer run orders:app (or users:app)"),
        ("doctor", ("users",), "cliffracer run users:app"),
        ("services", ("users", "app"), "cliffracer run"),
    ],
)
def test_what_starts_a_service_can_be_typed_as_it_is_said(tmp_path, command, apps, start):
    """With the app that is there, where it would not be found by itself."""
    written(tmp_path, **dict.fromkeys(apps, GOOD))
    done = cliffracer(*command.split(), cwd=tmp_path, CLIFFRACER_HOME=str(tmp_path))
    said = f"`{start}` starts" if command == "doctor" else f". Start one{'' if apps else ', where its app is'}: {start}\n"
    assert said in done.out + done.err


@pytest.mark.parametrize("first", [("tail", "-n", "1"), ("top", "--json")], ids=" ".join)
def test_who_follows_may_come_first(tmp_path, first):
    """The servers are started by the first to come, also by one who waits for what others do; they are shared."""
    home = {"CLIFFRACER_HOME": str(tmp_path)}
    try:
        with Background(tmp_path, *first, **home) as waiting:
            waiting.says("Ctrl-C stops" if first[0] == "tail" else '"connected":true')
            assert cliffracer("emit", "user.created", "1", cwd=tmp_path, **home).code == 0
            waiting.says("user.created 1") if first[0] == "tail" else waiting.end(signal.SIGINT)
    finally:
        embedded.stop(tmp_path)


def test_a_call_starts_the_servers_where_nobody_did(tmp_path):
    """As `run` does; that nobody is there to answer is said then."""
    written(tmp_path, users=GOOD)
    try:
        done = cliffracer("call", "users.get_user", "user_id=1", cwd=tmp_path, CLIFFRACER_HOME=str(tmp_path))
        where = f"on the embedded NATS of {tmp_path / '.cliffracer'}. Start one: cliffracer run users:app"
        assert done == (1, "", f"Error: Unavailable: No service answers users.get_user. No service is running {where}\n")
        assert embedded.status(tmp_path)[0].running
    finally:
        embedded.stop(tmp_path)


def test_emit_starts_what_stores_it(tmp_path):
    """In a folder where nothing ever ran as well: a subscriber of later may ask for what was stored."""
    try:
        done = cliffracer("emit", "user.created", "1", "--id", "7", cwd=tmp_path, CLIFFRACER_HOME=str(tmp_path))
        assert done.out == "emitted user.created and stored, id 7, unless one with this id was in the last two minutes\n"
        assert done.err == "No function follows user.created.\n"
        event = json.loads(cliffracer("tail", "--since", "1h", "-n", "1", "--json", cwd=tmp_path, CLIFFRACER_HOME=str(tmp_path)).out)
        assert (event["subject"], event["data"]) == ("user.created", 1)
    finally:
        embedded.stop(tmp_path)


@pytest.mark.parametrize(("url", "shown"), [("http://127.0.0.1:8000", None), ("http://ada:hunter2@h", "http://ada:***@h"), (" ", None)])
def test_against_takes_the_address_of_nats(folder, url, shown):
    """Another is wrong usage of that option, and its password is not repeated."""
    done = cliffracer("check", "users:app", "--against", url, cwd=folder)
    assert (done.code, f"Error: --against is {shown or url!r}: a URL " in done.err) == (2, True)
    assert "NATS_URL" in cliffracer("check", "--help", cwd=folder).out


def test_no_app_is_named_in_an_empty_folder(tmp_path):
    """What makes one is said."""
    assert cliffracer("run", cwd=tmp_path).err == (
        "Error: Which app? Name it, as in `cliffracer run users:app`. "
        "I see no file with an App in this folder; cliffracer new NAME makes one.\n"
    )


def test_the_settings_name_an_app_that_is_not_there(folder):
    """Who typed nothing is told where the name stands."""
    (folder / "pyproject.toml").write_text('[tool.cliffracer]\napp = "nomod:app"\n')
    assert cliffracer("run", cwd=folder).err == (
        'Error: No module "nomod" here. Apps I can see: users:app, orders/main.py:app.\n'
        "No app was named, and the settings of this project say app = nomod:app.\n"
    )


def test_a_mistake_in_what_is_no_function_names_its_line(folder):
    """A name that is none, a prefix without a slash: also in a module that is imported by another."""
    written(folder, named="import parts\n", parts="from cliffracer import App, Group\napp = App('no name')\n")
    assert _run(folder, "named:app") == "Error: parts.py:2: App('no name'): 'no name' is no name: 1 to 64 letters, digits, _ or -.\n"


def test_apps_that_are_not_named_are_counted(tmp_path):
    """A list that ends without a word would say that there are no others."""
    for number in range(12):
        written(tmp_path, **{f"a{number:02}": "from cliffracer import App\napp = App('a')\n"})
    assert "Apps I can see: a00:app, a01:app, " in (said := _run(tmp_path, "nomod:app"))
    assert said.endswith("a09:app and 2 more.\n")


def test_a_mistake_inside_the_users_module_shows_their_frames_only(folder):
    """The traceback begins where their code does and ends with what was raised."""
    written(folder, broken="import helper\n", helper="def f():\n    return {}['x']\n\nf()\n")
    shown = _run(folder, "broken:app")
    assert shown.startswith('Error: broken.py cannot be imported:\n  File "broken.py", line 1, in <module>\n    import helper\n')
    assert shown.endswith("KeyError: 'x'\n")
    assert 'File "helper.py", line 2, in f' in shown
    assert "importlib" not in shown
    assert "cliffracer/" not in shown


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("app = App('typo')\n@app.rcp\ndef f() -> int: ...", "AttributeError: 'App' object has no attribute 'rcp'. Did you mean: 'rpc'?"),
        ("from cliffracer import Repositry", "/__init__.py). Did you mean: 'Repository'?"),
        ("def f():\n    names = 1\n    return nmes\nf()", "NameError: name 'nmes' is not defined. Did you mean: 'names'?"),
        ("app = App('typo')\napp.nothing_like_it_at_all", "AttributeError: 'App' object has no attribute 'nothing_like_it_at_all'"),
    ],
)
def test_a_mistyped_name_is_told_with_the_one_that_was_meant(folder, code, message):
    """On every version of Python, whose own traceback module guesses only from 3.12 on."""
    (folder / "typo.py").write_text(f"from cliffracer import App\n{code}\n")
    assert _run(folder, "typo:app").endswith(f"{message}\n")


@pytest.mark.parametrize(
    ("call", "raised"), [("sys.exit(3)", "3"), ("exit()", "None"), ("sys.exit('no LICENCE is set')", "no LICENCE is set")]
)
def test_a_module_that_ends_its_process_is_named(folder, call, raised):
    """With the line that does it, whatever code it asked for; the command has failed."""
    written(folder, ends="import helper\n", helper=f"import sys\n\ndef f():\n    {call}\n\nf()\n")
    for target in ("ends:app", "ends.py:app"):
        shown = _run(folder, target)
        assert shown.startswith('Error: ends.py cannot be imported:\n  File "ends.py", line 1, in <module>\n    import helper\n')
        assert f'File "helper.py", line 4, in f\n    {call}\n' in shown
        assert shown.endswith(f"SystemExit: {raised}\n{_EXITS}\n")


def test_a_syntax_error_shows_the_place(folder):
    """File, line and caret, as Python would."""
    written(folder, syntax="from cliffracer import App\napp = App('x'\n")
    shown = _run(folder, "syntax:app")
    assert shown.startswith('Error: syntax.py cannot be imported:\n  File "syntax.py", line 2\n')
    assert shown.endswith("SyntaxError: '(' was never closed\n")


def test_a_refused_field_is_told_once():
    """A message that is the one reason is not said again below itself; others stand above their reasons."""
    one = InvalidInput("email: must match pattern @", errors=[{"path": "email", "message": "must match pattern @"}])
    assert message_of(one) == "email: must match pattern @"
    assert message_of(InvalidInput("no", errors=[{"path": "", "message": "no"}])) == "no"
    assert message_of(InvalidInput("odd", errors=one.errors)) == "odd:\n  email: must match pattern @"


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x9b2J", "\u202e"])
def test_an_error_of_elsewhere_moves_no_cursor(evil):
    """Whoever answers a call on NATS has its message, its reasons and its id printed on a terminal."""
    one = InvalidInput(evil, errors=[{"path": evil, "message": evil}])
    for error in (one, InvalidInput(evil, errors=[{"path": "", "message": evil}]), Internal(evil, error_id=evil)):
        assert all(line.isprintable() for line in message_of(error).splitlines())


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x9b2J", "\u202e"])
def test_an_error_of_elsewhere_moves_no_cursor_in_the_shell(evil, capsys):
    """At its prompt, too."""

    def call() -> None:
        raise NotFound(f"{evil} is not there") from KeyError(evil)

    with closing(asyncio.new_event_loop()) as loop:
        Prompt({"call": call}, loop).push("call()")
    shown = capsys.readouterr().err
    assert "is not there" in shown
    assert all(line.isprintable() for line in shown.split("\n"))


def test_a_folder_of_apps_is_no_app(tmp_path):
    """Those in it are named."""
    (tmp_path / "orders").mkdir()
    written(tmp_path / "orders", main="from cliffracer import App\napp = App('orders')\n")
    assert _run(tmp_path, "orders") == "Error: There is no App in orders. Apps I can see below it: orders/main.py:app.\n"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("@app.rpc(name='get_user')", "RPC get_user is declared already, by get_user (users.py:5). Rename or remove one of them."),
        ("@app.on('user.created', group='welcome')", "event user.created for welcome is declared already, by welcome (users.py:9)"),
    ],
)
def test_a_name_that_is_taken(folder, second, message):
    """Both places are named."""
    with (folder / "users.py").open("a") as file:
        file.write(f"\n{second}\nasync def again(user_id: int) -> None: ...\n")
    shown = _run(folder, "users:app")
    assert shown.startswith(f"Error: again (users.py:12): {message}"), shown


def test_two_routes_of_one_path(folder):
    """Also where only the name of the parameter differs."""
    route = "@app.get('/u/{%s}')\nasync def %s(%s: int) -> int: return 1\n"
    written(folder, twice="from cliffracer import App\napp = App('twice')\n" + route % ("a", "one", "a") + route % ("b", "two", "b"))
    shown = _run(folder, "twice:app")
    assert shown == ("Error: two (twice.py:5): route GET /u/{b} is declared already, by one (twice.py:3). Rename or remove one of them.\n")


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (
            "@app.rpc\nasync def find(name: str, users: Repository[User]) -> User: ...",
            "find (odd.py:6): users is a Repository, which the app gives, not the caller. Put it after a *: find(name, *, users).",
        ),
        (
            "@app.get('/users/{id}')\nasync def find(user_id: int) -> int: ...",
            "find (odd.py:6): path '/users/{id}' has {id}, but no such argument. Did you mean {user_id}? Otherwise add id: str to it.",
        ),
    ],
)
def test_parameters_that_nobody_could_give(folder, handler, message):
    """What is provided but stands before the star; a path whose parameter has another name."""
    head = "from cliffracer import App, Model, Repository\napp = App('odd')\nclass User(Model):\n    name: str\n\n"
    (folder / "odd.py").write_text(head + handler)
    assert _run(folder, "odd:app") == f"Error: {message}\n"


def test_a_port_in_use_names_the_port_and_who_holds_it(folder):
    """Before anything else is started, since it is the commonest mistake."""
    with socket.socket() as taken, (folder / "users.py").open("a") as file:
        file.write("\n@app.get('/')\nasync def root() -> str: return ''\n")
        file.flush()
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        shown = _run(folder, "users:app", "--port", str(port))
    assert shown.startswith(f"Error: Port {port} on 127.0.0.1 is in use by ")
    assert shown.endswith(". Stop it, or choose another by HTTP_PORT or --port.\n")
    if sys.platform == "linux":
        assert "(pid " in shown


def test_a_port_that_another_program_is_quicker_to_listen_on(folder):
    """Both could bind it; the slower one says so when it begins to serve, in the same words."""
    first = bind("127.0.0.1", 0)
    port = first.getsockname()[1]
    second = bind("127.0.0.1", port)
    first.listen()

    async def serve() -> None:
        async with serving(None, [second], Settings.load(env_file=None)):
            raise AssertionError

    with first, second, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(SetupError) as refused:
        runner.run(serve())
    assert str(refused.value).startswith(f"Port {port} on 127.0.0.1 is in use by ")


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_nats_is_not_there(folder, place):
    """The address, why, where it was set, and what to do instead."""
    url = f"nats://127.0.0.1:{free_port()}"
    if place == ".env":
        (folder / ".env").write_text(f"NATS_URL={url}\n")
    shown = _run(folder, "users:app", CLIFFRACER_WAIT="0", **({"NATS_URL": url} if place == "environment" else {}))
    where = ".env line 1" if place == ".env" else "the environment"
    assert shown == (
        f"Error: Cannot reach NATS at {url} (connection refused); NATS_URL is set in {where}. "
        "Unset it to use the embedded server, or start one.\n"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "nohost.invalid"])
def test_postgresql_is_not_there(folder, host):
    """The same words as for NATS, and no password."""
    port = free_port()
    (folder / ".env").write_text(f"DATABASE_URL=postgresql://ada:hunter2@{host}:{port}/shop\n")
    done = cliffracer("db", "status", cwd=folder, CLIFFRACER_WAIT="0")
    reason = "connection refused" if host == "127.0.0.1" else "host name not found"
    assert done.code == 1
    assert done.err == (
        f"Error: Cannot reach PostgreSQL at {host}:{port}/shop ({reason}); DATABASE_URL is set in .env line 1. "
        "Unset it to use the embedded server, or start one.\n"
    )
    done = cliffracer("db", "psql", "--json", "-c", "select 1", cwd=folder)
    assert json.loads(done.out)["error"]["message"] == f"Cannot reach PostgreSQL at {host}:{port}/shop ({reason})."


def test_a_command_that_asks_nats_says_so_soon_and_once(folder):
    """Not even a second of retries, and one line."""
    url = f"nats://127.0.0.1:{free_port()}"
    done = cliffracer("services", cwd=folder, NATS_URL=url)
    assert (done.code, done.err.count("\n")) == (1, 1)
    said = f"Error: Cannot reach NATS at {url} (connection refused); NATS_URL is set in the environment."
    assert done.err.startswith(said)
    *lines, last = cliffracer("replay", "users:app", "welcome", cwd=folder, NATS_URL=url).err.splitlines()
    assert last.startswith(said)
    assert [line for line in lines if not re.search(r"trying for another [01] s", line)] == []


def test_a_time_to_replay_from_that_cannot_be_read_is_wrong_usage(folder):
    """It is told by the name of its option, before any server is asked."""
    done = cliffracer("replay", "users:app", "welcome", "--since", "yesterday", cwd=folder, NATS_URL=f"nats://127.0.0.1:{free_port()}")
    assert (done.code, done.err.splitlines()[-1]) == (
        2,
        "Error: --since 'yesterday' cannot be read: give all, a sequence's number, a time as 2026-01-31T12:00:00Z, or how long ago as 1h",
    )


def test_an_embedded_server_that_hangs_is_not_to_be_started():
    """It runs: it is ended and started anew; no variable leads to it that could be set otherwise."""
    settings = Settings.load().changed("embedded", nats_url="nats://127.0.0.1:1", database_url="postgresql:///shop")
    for cure in (bus.cure_of(settings), away.cure_of(settings)):
        assert (
            cure == "it is the embedded server of this folder: end what uses it, then cliffracer servers stop; the next run starts it anew."
        )


def test_wrong_credentials_are_final_and_name_the_user(folder):
    """The user is named, the password is not."""
    with NatsServer("authorization { user: ada, password: right }") as server:
        url = server.url.replace("//", "//ada:wrong-secret@")
        shown = _run(folder, "users:app", NATS_URL=url)
    assert shown == (f"Error: NATS at {server.url} refuses us (Authorization Violation for user ada); check the NATS_ settings.\n")


def test_a_user_who_may_not_ask_is_told_so(folder):
    """Not that nobody is there, and no wait for what cannot come."""
    config = 'authorization { users = [{user: ada, password: right, permissions: {publish: ["nothing"], subscribe: ["_INBOX.>"]}}] }'
    with NatsServer(config) as server:
        url = server.url.replace("//", "//ada:right@")
        for command, refused in (
            (("services",), 'Publish to "$SRV.INFO"'),
            (("top",), 'Publish to "$SRV.INFO"'),
            (("trace",), 'Publish to "$SRV.TRACE"'),
            (("check", "users:app"), 'Publish to "$SRV.CONTRACT"'),
            (("client", "users"), 'Publish to "$SRV.INFO.users"'),
            (("tail",), 'Subscription to "cliffracer.came.>"'),
        ):
            done = cliffracer(*command, cwd=folder, NATS_URL=url)
            told = f"Error: Forbidden: NATS does not permit that (Permissions Violation for {refused}); "
            assert (done.code, told in done.err) == (1, True), done.err


def test_jetstream_is_off(folder):
    """Who needs it is told how to turn it on."""
    with NatsServer() as server:
        host = server.url.removeprefix("nats://")
        told = f"Error: JetStream is not enabled on {host}: start nats-server with -js.\n"
        assert _run(folder, "users:app", NATS_URL=server.url).splitlines(keepends=True)[-1] == told
        for command in (("emit", "user.created"), ("dead", "ls"), ("tail", "--since", "1m")):
            done = cliffracer(*command, cwd=folder, NATS_URL=server.url)
            assert (done.code, done.err.splitlines(keepends=True)[-1]) == (1, told)


@pytest.mark.parametrize("command", [("run", "users:app"), ("call", "users.get_user", "user_id=1"), ("services",)])
def test_production_without_urls(folder, command):
    """Refused, and the variables are named."""
    done = cliffracer(*command, cwd=folder, CLIFFRACER_ENV="production")
    assert done.code == 1
    assert done.err == (
        "Error: NATS_URL is not set, and CLIFFRACER_ENV is production: embedded servers are for development. "
        "Set NATS_URL (or CLIFFRACER_NATS_URL).\n"
    )


def test_production_without_a_database(folder):
    """Only where an app uses one."""
    written(
        folder,
        kept="""
            from cliffracer import App, Model, Repository
            app = App("kept")
            class Note(Model):
                text: str
            @app.rpc
            async def add(text: str, *, notes: Repository[Note]) -> Note:
                return await notes.create(Note(text=text))
        """,
    )
    done = cliffracer("run", "kept:app", cwd=folder, CLIFFRACER_ENV="production", NATS_URL="nats://127.0.0.1:4222")
    assert done.code == 1
    assert done.err.startswith("Error: DATABASE_URL is not set, and CLIFFRACER_ENV is production: embedded servers are for development.")


def test_production_without_anything(folder):
    """All that is missing is named at once."""
    (folder / "kept.py").write_text("from cliffracer import App, Model\napp = App('kept')\nclass Note(Model):\n    text: str\n")
    with (folder / "kept.py").open("a") as file:
        file.write("app.repository(Note)\n")
    assert _run(folder, "kept:app", CLIFFRACER_ENV="production") == (
        "Error: NATS_URL and DATABASE_URL are not set, and CLIFFRACER_ENV is production: embedded servers are for development. "
        "Set NATS_URL and DATABASE_URL (or CLIFFRACER_NATS_URL and CLIFFRACER_DATABASE_URL).\n"
    )


def test_a_setting_that_is_none(folder):
    """An unknown name and a bad value stop the start, with what was perhaps meant."""
    assert _run(folder, "users:app", CLIFFRACER_NATS_ULR="x") == (
        "Error: CLIFFRACER_NATS_ULR (environment) is no setting; did you mean CLIFFRACER_NATS_URL?\n"
    )
    assert _run(folder, "users:app", HTTP_PORT="http") == (
        "Error: HTTP_PORT (environment) is 'http': a whole number from 0 to 65535 is wanted.\n"
    )


def test_a_missing_extra_is_named_with_the_command(folder):
    """Where watchfiles is not installed, --reload says what to install."""
    (folder / "watchfiles.py").write_text("raise ImportError('not here')\n")
    done = cliffracer("run", "users:app", "--reload", cwd=folder, PYTHONPATH=str(folder))
    assert (done.code, done.err) == (1, 'Error: --reload needs cliffracer[dev]: pip install "cliffracer[dev]".\n')


def test_mistakes_in_handlers_are_named_in_the_log(folder):
    """A forgotten await, a result that has no JSON, a call that blocks: function, file and line of each."""
    written(
        folder,
        faulty="""
            import time
            from cliffracer import App
            app = App("faulty")

            async def answer() -> int:
                return 1

            @app.rpc
            async def forgets() -> object:
                return answer()

            @app.rpc
            async def loses() -> int:
                app.emit("lost.event", 1)
                return 1

            @app.rpc
            async def odd() -> object:
                return {"a": object()}

            @app.rpc
            async def blocks() -> int:
                time.sleep(0.4)
                return 1
        """,
    )
    env = {"CLIFFRACER_NAMESPACE": f"faulty{free_port()}"}
    with Background(folder, "run", "faulty:app", **env) as run:
        run.says("ready: faulty")
        for method, code in (("forgets", 1), ("loses", 0), ("odd", 1), ("blocks", 0)):
            done = cliffracer("call", f"faulty.{method}", cwd=folder, **env)
            assert done.code == code, done.err
            assert "see the log of the service" in done.err or code == 0
        run.says("forgets (faulty.py:9) returned what cannot be encoded: a coroutine (is an await missing?)")
        run.says("faulty.py:15: RuntimeWarning: coroutine 'Connection.emit' was never awaited")
        run.says("odd (faulty.py:18) returned what cannot be encoded: ")
        run.says("faulty.py:24 in blocks: time.sleep(0.4)")
