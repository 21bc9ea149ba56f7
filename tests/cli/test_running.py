"""`cliffracer run` beyond one process: what it finds by itself, --reload, --workers."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cliffracer import ending
from cliffracer.cli import age, banner
from cliffracer.cli.children import Child, Parent
from cliffracer.cli.pause import pause, pausing
from cliffracer.cli.workers import Crew
from cliffracer.ending import asked_by_signals
from cliffracer.stop import Stop
from tests.cli.terminal import Background, cliffracer, on_terminal, written
from tests.project.places import BIN
from tests.support.nats import free_port
from tests.support.signals import heard

SERVICE = """
    import os
    from cliffracer import App

    app = App("web")

    @app.get("/word")
    async def word() -> str:
        return "one"

    @app.get("/pid")
    async def pid() -> int:
        return os.getpid()

    @app.get("/die")
    async def die() -> None:
        os._exit(3)

    @app.rpc
    async def inside() -> str:
        return "inside"
"""

ASIDE = """
    from loguru import logger
    from cliffracer import App

    app = App("aside")

    @app.get("/aside")
    async def told() -> str:
        logger.warning("one line")
        return await app.call("web.inside")
"""


SLOW = """
import asyncio

@app.get("/slow")
async def slow() -> str:
    print("slow has begun")
    await asyncio.sleep(3)
    return "slow"
"""

LEFT = """
import threading, time

def stays() -> None:
    threading.main_thread().join()  # until Python waits for those that are left
    print("all is done")
    time.sleep(60)

threading.Thread(target=stays).start()
"""


@pytest.fixture
def folder(tmp_path):
    return written(tmp_path, app=SERVICE, aside=ASIDE)


def _get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return json.loads(answer.read())


def _scraped(client):
    """Return the worker that a look at the metrics tells of, and how often that was asked for its pid."""
    client.request("GET", "/metrics")
    text = client.getresponse().read().decode()
    (found,) = re.findall(r'^cliffracer_calls_total\{(.*)service="web",handler="pid",kind="http"\} (\d+)$', text, re.MULTILINE)
    (whole,) = re.findall(r"^process_cpu_seconds_total(.*) [0-9.]+$", text, re.MULTILINE)
    assert whole.strip("{}") == found[0].strip(",")
    return found[0], int(found[1])


def _refused(port, path):
    """Return the status of a refusal, and the last line of what is the matter."""
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=b"x" * 200_000)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked, timeout=20)
    with caught.value as answer:
        return answer.code, json.loads(answer.read())["detail"].splitlines()[-1]


def _until(port, path, wanted, within=60.0):
    until = time.monotonic() + within
    while (found := _get(port, path)) != wanted:
        assert time.monotonic() < until, f"{path} still answers {found!r}"
        time.sleep(0.05)


def test_it_finds_the_app_by_itself(folder):
    """app.py needs no name; [tool.cliffracer] app goes before it."""
    with Background(folder, "run", "--port", "0") as run:
        run.says("ready: web")
        assert run.end() == 0
    written(folder, other="from cliffracer import App\nhidden = App('other')\n")
    (folder / "pyproject.toml").write_text('[tool.cliffracer]\napp = "other:hidden"\n')
    assert json.loads(cliffracer("routes", "--json", cwd=folder).out) == []
    with Background(folder, "run") as run:
        run.says("ready: other")
        assert run.end(signal.SIGINT) == 0


def test_files_of_a_package_are_imported_as_such(tmp_path):
    """A path into a package works with its relative imports, also from a folder above."""
    package = tmp_path / "shop"
    package.mkdir()
    written(package, __init__="", names="NAME = 'shop'\n", main="from cliffracer import App\nfrom .names import NAME\napp = App(NAME)\n")
    for target in ("shop/main.py:app", "shop.main:app", "shop/main.py"):
        done = cliffracer("routes", target, "--json", cwd=tmp_path)
        assert (done.code, done.err) == (0, "")


def test_reload_runs_the_new_file_and_keeps_the_old_one_while_it_is_broken(folder):
    """A change is served; a syntax error changes nothing; a module that fails is told to clients, too; Ctrl-C ends it quietly.

    So it is with several apps, each of which heads its own lines.
    """
    port = free_port()
    env = {"CLIFFRACER_NAMESPACE": f"reload{port}", "CLIFFRACER_LOG_FORMAT": "human"}
    with Background(folder, "run", "app:app", "aside:app", "--reload", "--port", str(port), **env) as run:
        run.says("ready: web")
        assert _get(port, "/word") == "one"
        good = (folder / "app.py").read_text()
        (folder / "app.py").write_text(good.replace('"one"', '"two"'))
        run.says("app.py changed: running anew")
        run.says("ready in")
        _until(port, "/word", "two")
        (folder / "app.py").write_text(good + "def (\n")
        run.says("Error: app.py:22: invalid syntax")
        assert _get(port, "/word") == "two"
        (folder / "app.py").write_text(good + "import no_such_module\n")
        run.says("ModuleNotFoundError: No module named 'no_such_module'")
        run.says("waiting for the next change", times=2)
        for _ in range(2):  # nobody hangs, nor is anybody's connection reset
            assert _refused(port, "/word") == (503, "ModuleNotFoundError: No module named 'no_such_module'")
        assert "no_such_module" in cliffracer("health", "--port", str(port), cwd=folder).err
        missed = cliffracer("call", "web.nothing", cwd=folder, CLIFFRACER_NAMESPACE=env["CLIFFRACER_NAMESPACE"]).err
        assert "waits here for the next change: app.py cannot be imported: ModuleNotFoundError: No module named 'no_such_module'" in missed
        (folder / "app.py").write_text(good.replace('"one"', '"three"'))
        run.says("ready in", times=2)
        _until(port, "/word", "three")
        assert "Start one" in cliffracer("call", "web.nothing", cwd=folder).err, "nobody waits, and it runs in another namespace"
        assert _get(port, "/aside") == "inside"
        run.says("aside.told one line")
        with contextlib.suppress(OSError):
            _get(port, "/die")
        run.says("It ended with exit code 3: waiting for the next change")
        assert _refused(port, "/word") == (503, "It ended with exit code 3; see what it printed.")
        assert run.end(signal.SIGINT) == 0
        assert "Traceback (most recent" not in run.text


def test_a_pause_that_cannot_be_noted_stops_no_reload(tmp_path, monkeypatch):
    """Where the folder of embedded servers takes no file of ours, as when root has made it in a container, nobody is told."""
    monkeypatch.setenv("CLIFFRACER_HOME", str(tmp_path))
    (tmp_path / ".cliffracer" / "paused").mkdir(parents=True)
    with pausing("it starts"):
        assert pause() == ""
    (tmp_path / ".cliffracer" / "paused").rmdir()
    with pausing("it starts"):
        assert pause() == "it starts"
    assert not list((tmp_path / ".cliffracer").iterdir())


def test_no_request_is_refused_while_it_reloads(folder):
    """The port stays open: who asks during a reload is answered after it. Nothing on its way out of a library is made use of."""
    port = free_port()
    with Background(folder, "run", "--reload", "--port", str(port), PYTHONWARNINGS="error::DeprecationWarning") as run:
        run.says("ready: web")
        done, failures = threading.Event(), []

        def ask():
            while not done.is_set():
                try:
                    _get(port, "/word")
                except ConnectionRefusedError as error:
                    failures.append(error)
                except OSError as error:
                    if isinstance(getattr(error, "reason", None), ConnectionRefusedError):
                        failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        (folder / "app.py").write_text((folder / "app.py").read_text() + "\n# changed\n")
        run.says("ready in")
        done.set()
        asking.join()
        assert failures == []
        assert run.end() == 0


def test_reload_takes_the_next_port_if_the_wanted_one_is_taken(folder):
    """And says so; without --reload it is an error. Who starts a service twice is told that."""
    port = free_port()
    with Background(folder, "run", "--port", str(port)) as first, Background(folder, "run", "--reload", "--port", str(port)) as second:
        first.says("ready: web")
        second.says(f"Port {port} on 127.0.0.1 is in use")
        second.says("ready: web")
        second.says("web runs 2 times now: its replicas share calls and events; cliffracer services web")
        assert "2 times" not in first.text
        assert f"http://127.0.0.1:{port + 1}" in second.text or f"Trying {port + 2}" in second.text
        assert (second.end(), first.end()) == (0, 0)


def test_workers_share_the_port_and_one_that_dies_is_started_again(folder):
    """Several processes answer for several apps; a crash of one is told and healed; SIGTERM drains all of them."""
    port = free_port()
    env = {"CLIFFRACER_NAMESPACE": f"workers{port}", "CLIFFRACER_LOG_FORMAT": "human"}
    with Background(folder, "run", "app:app", "aside:app", "--workers", "2", "--port", str(port), **env) as run:
        run.says("2 workers")
        seen = {_get(port, "/pid") for _ in range(60)}
        calls, until = {}, time.monotonic() + 60
        prometheus = http.client.HTTPConnection("127.0.0.1", port, timeout=20)  # which keeps its connection as long as it may
        while len(calls) < 2 and time.monotonic() < until:
            worker, called = _scraped(prometheus)
            assert calls.setdefault(worker, called) == called, "figures of two processes pass for those of one"
        assert sum(calls.values()) == 60
        lines = cliffracer("services", "web", cwd=folder, **env).out.splitlines()[3:]
        assert len({line.split()[0] for line in lines}) == 2, "two replicas are shown by one name"
        with pytest.raises(OSError):
            _get(port, "/die")
        run.says("ended with exit code 3; starting it again in 0.5 s")
        run.says("serves again")
        until = time.monotonic() + 60
        while len({_get(port, "/pid") for _ in range(20)} - seen) == 0:
            assert time.monotonic() < until, run.text
        assert _get(port, "/aside") == "inside"
        run.says("aside.told one line")
        assert run.end() == 0
        assert len(re.findall(r"stopped: web 0\.1\.0, aside 0\.1\.0, 2 workers, in \d+\.\d\d s, by SIGTERM\n", run.text)) == 1
        for pid in seen:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_a_process_that_failed_ends_whatever_its_module_began(folder):
    """A thread that goes on after the mistake does not keep the next change, or the end, waiting."""
    (folder / "app.py").write_text("import threading\nthreading.Timer(90, print).start()\nimport no_such_module\n")
    with Background(folder, "run", "--reload", "--port", "0", CLIFFRACER_DRAIN="0.2") as run:
        run.says("It ended with exit code -9: waiting for the next change.")
        assert "no_such_module" in run.text
        assert run.end() == 0


@contextlib.contextmanager
def busy(folder: Path) -> Iterator[Background]:
    """Yield a service that has a slow request in hand, and see that this is answered."""
    port, answers = free_port(), []
    (folder / "app.py").write_text((folder / "app.py").read_text() + SLOW)
    env = {"CLIFFRACER_NAMESPACE": f"busy{port}", "CLIFFRACER_DRAIN": "20"}
    with Background(folder, "run", "--port", str(port), **env) as run:
        run.says("ready: web")
        asking = threading.Thread(target=lambda: answers.append(_get(port, "/slow")))
        asking.start()
        run.says("slow has begun")
        yield run
        asking.join()
    assert answers == ["slow"]


def test_a_stop_that_takes_long_says_what_it_waits_for(folder):
    """A call that is accepted is finished first; whoever stopped it sees why it is still there."""
    with busy(folder) as run:
        assert run.end(signal.SIGINT) == 0
        assert "stopping: accepted work is finished first, within 20 s; a second signal ends it at once" in run.text
        assert re.search(r'"stopped: web 0\.1\.0 in \d+\.\d\d s, by SIGINT"', run.text)


@pytest.fixture
def hang_ups() -> Generator[None]:
    """Hang-ups as in a terminal, also where the tests themselves run under nohup, which processes inherit."""
    with heard(signal.SIGHUP, signal.SIG_DFL):
        yield


@pytest.mark.usefixtures("hang_ups")
def test_a_terminal_that_is_closed_ends_it_in_order(folder):
    """SIGHUP asks as SIGTERM does, and cuts nothing short although a shell sends it again; under nohup it is none."""
    with busy(folder) as run:
        run.process.send_signal(signal.SIGHUP)
        run.says("stopping: accepted work is finished first")
        assert run.end(signal.SIGHUP) == 0
        assert ", by SIGHUP" in run.text


@pytest.mark.usefixtures("hang_ups")
async def test_signals_that_ask_and_one_that_insists(monkeypatch):
    """A hang-up is neither the second, as systemd may send it right behind SIGTERM, nor the first, nor is what one act sends at once."""
    came, now = [], 1000.0
    monkeypatch.setattr(ending, "monotonic", lambda: now)
    with asked_by_signals(came.append, lambda: came.append("again")):
        both = ((signal.SIGHUP, 0.0), (signal.SIGTERM, 1.0), (signal.SIGTERM, 0.01), (signal.SIGHUP, 1.0), (signal.SIGTERM, 1.0))
        for number, pause in both:
            now += pause
            signal.raise_signal(number)
            await asyncio.sleep(0.01)
    assert came == ["SIGHUP", "SIGTERM", "SIGHUP", "again"]


async def test_an_ignored_hang_up_stays_so():
    """As `nohup` leaves it."""
    with heard(signal.SIGHUP, signal.SIG_IGN):
        with asked_by_signals(print, print):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


async def test_a_worker_that_dies_again_and_again_is_not_started_at_once(monkeypatch):
    """The pause before the next start doubles, and who is told to end does not wait for it."""
    crew, rest, begun, pauses = Crew([], 1.0), Crew._rest, [], []

    async def dies() -> int:
        return 1

    def start(*_: Any, **__: Any) -> Any:  # no process: six of them and their pauses would take 20 s
        begun.append(asyncio.get_running_loop().create_future())
        begun[-1].set_result(None)
        if len(begun) > 9:
            crew.stop("SIGTERM")
        return asyncio.sleep(0, SimpleNamespace(process=SimpleNamespace(pid=1), ready=begun[-1], stop=print, ended=lambda _: dies()))

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            crew.stop("SIGTERM")
            await rest(crew, 3600)

    monkeypatch.setattr(Child, "start", start)
    monkeypatch.setattr(crew, "_rest", pause)
    await crew.tend(0)
    assert pauses == [0.5, 1, 2, 4, 8]
    assert len(begun) == 5


def test_a_worker_that_does_not_end_in_order_is_told(folder):
    """And fails the command, as it would alone."""
    (folder / "app.py").write_text((folder / "app.py").read_text() + "\n@app.on_shutdown\nasync def gone() -> None:\n    os._exit(7)\n")
    with Background(folder, "run", "--workers", "1", "--port", "0", CLIFFRACER_NAMESPACE=f"gone{free_port()}") as run:
        run.says("ready: web")
        assert run.end() == 1
        assert "did not stop in order: it ended with exit code 7" in run.text
        assert "stopped:" not in run.text


@pytest.mark.parametrize("more", [(), ("--workers", "1"), ("--reload",)])
def test_a_second_ctrl_c_says_what_it_cuts_short(folder, more):
    """Once, although it reaches the process that serves by two ways where there is one that runs it."""
    port = free_port()
    (folder / "app.py").write_text((folder / "app.py").read_text() + SLOW.replace("(3)", "(60)"))
    env = {"CLIFFRACER_NAMESPACE": f"twice{port}", "CLIFFRACER_LOG_FORMAT": "human"}
    with Background(folder, "run", "--port", str(port), *more, **env) as run:
        run.says("ready: web")
        asking = threading.Thread(target=_cut_short, args=(port, "/slow"))
        asking.start()
        run.says("slow has begun")
        run.process.send_signal(signal.SIGINT)
        run.says("a second signal ends it at once")
        assert run.end(signal.SIGINT) == 130
        asking.join()
        run.says("ended at once, before these had finished: web.slow\n")
        assert run.text.count("ended at once") == 1
        assert "Traceback" not in run.text


@pytest.mark.parametrize("more", [("--workers", "1"), ("--reload",)])
def test_one_ctrl_c_is_one_in_whatever_order_it_arrives(folder, more):
    """It reaches a process that serves by itself and through the one that runs it: here the latter is first, as it is on a busy machine."""
    port = free_port()
    (folder / "app.py").write_text((folder / "app.py").read_text() + SLOW)
    env = {"CLIFFRACER_NAMESPACE": f"order{port}", "CLIFFRACER_LOG_FORMAT": "human"}
    with Background(folder, "run", "--port", str(port), *more, **env) as run:
        run.says("ready: web")
        serves, answers = int(_get(port, "/pid")), []
        asking = threading.Thread(target=lambda: answers.append(_get(port, "/slow")))
        asking.start()
        run.says("slow has begun")
        run.process.send_signal(signal.SIGINT)
        run.says("a second signal ends it at once")
        os.kill(serves, signal.SIGINT)
        assert run.process.wait(60) == 0
        asking.join()
        assert answers == ["slow"]


async def test_what_a_parent_says_is_heard_once():
    """And so is that it is gone: a process that drains has better things to do than to hear it over and over."""
    ours, theirs = socket.socketpair()
    parent, stop, loop, heard = Parent(theirs, [], reloads=False, worker=""), Stop(), asyncio.get_running_loop(), []

    def hear():
        heard.append(1)
        parent.heard(loop, stop)

    with ours, theirs:
        loop.add_reader(parent, hear)
        ours.send(b"stop")
        await stop.asked.wait()
        ours.close()
        for _ in range(20):
            await asyncio.sleep(0.001)
    assert len(heard) <= 2


def _cut_short(port, path):
    try:
        _get(port, path)
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:  # it ended before it answered
        return


def test_ctrl_c_when_all_is_done_changes_no_exit_code(folder):
    """Nor does it print: nothing is left but the end of Python itself, also of threads that somebody left behind."""
    (folder / "app.py").write_text((folder / "app.py").read_text() + LEFT)
    with Background(folder, "run", "--port", "0", CLIFFRACER_NAMESPACE=f"done{free_port()}") as run:
        run.says("ready: web")
        run.process.send_signal(signal.SIGINT)
        run.says("all is done")
        assert run.end(signal.SIGINT) == 0
        assert "Traceback" not in run.text


def test_workers_that_cannot_start_end_the_command(folder):
    """The first worker's message, and exit code 1."""
    (folder / "app.py").write_text("raise RuntimeError('not today')\n")
    done = cliffracer("run", "--workers", "3", cwd=folder)
    assert done.code == 1
    assert done.err.count("RuntimeError: not today") == 1
    assert done.err.endswith("Error: the first worker ended with exit code 1; see above.\n")


def test_a_first_worker_that_fails_and_does_not_end_ends_the_command_all_the_same(folder):
    """A thread that its module began would keep it for ever."""
    (folder / "app.py").write_text("import threading\nthreading.Thread(target=threading.Event().wait).start()\nraise RuntimeError('no')\n")
    done = cliffracer("run", "--workers", "3", cwd=folder)
    assert done.code == 1
    assert done.err.count("RuntimeError: no") == 1
    assert done.err.endswith("Error: the first worker did not start, nor end by itself; see above.\n")


@pytest.mark.parametrize("more", [("--workers", "1"), ("--reload",)])
def test_flags_of_the_interpreter_reach_the_processes_that_serve(folder, more):
    """`-W`, `-X`, `-O` and `-u` are meant for the service, not for what watches over it."""
    said = "import sys\nprint('flags', sys._xoptions, sys.flags.optimize, sys.warnoptions, sys.stdout.write_through, file=sys.stderr)\n"
    (folder / "app.py").write_text(said + (folder / "app.py").read_text())
    flags = ("-X", "faulthandler", "-W", "error::UserWarning", "-O", "-u")
    with Background(folder, "run", *more, "--port", "0", flags=flags) as run:
        run.says("flags {'faulthandler': True} 1 ['error::UserWarning'] True")


def test_workers_do_not_outlive_a_parent_that_is_killed(folder):
    """SIGKILL of the parent is seen by its children, which drain and end."""
    port = free_port()
    with Background(folder, "run", "--workers", "2", "--port", str(port)) as run:
        run.says("2 workers")
        pids = {_get(port, "/pid") for _ in range(40)}
        run.process.kill()
        run.process.wait()
        until = time.monotonic() + 60
        while any(_lives(pid) for pid in pids):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert run.text.count("the process that runs this one is gone: stopping") == 2


def _lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in _state(pid)


def _state(pid):
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return "zombie"
    return next((line for line in lines if line.startswith("State:")), "")


def test_reload_and_workers_do_not_go_together(folder):
    """Wrong usage: exit code 2."""
    done = cliffracer("run", "--reload", "--workers", "2", cwd=folder)
    assert done.code == 2
    assert "give --reload or --workers" in done.err


def test_the_banner_says_what_is_served_and_where(folder):
    """On a terminal: names, addresses, embedded or not, what to try; each line at most as wide as the terminal."""
    (folder / "app.py").write_text(
        (folder / "app.py").read_text()
        + "\n".join(f"@app.rpc\nasync def method_{n}(a: int) -> int: return a" for n in range(30))
        + "\n@app.leader\nasync def follow() -> None: ...\n"
        + "from pathlib import Path\nPath('page').mkdir(exist_ok=True)\nPath('page/index.html').touch()\napp.static('/', 'page')\n"
        + "\n@app.on('user.created')\nasync def greet(name: str) -> None: ...\n@app.every('1h')\nasync def tidy() -> None: ...\n"
    )
    env = {"NO_COLOR": "1", "CLIFFRACER_NAMESPACE": f"b{free_port()}", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    printed = on_terminal("run", "--port", "0", cwd=folder, columns=80, until="Ctrl-C stops", **env)
    assert "  development  ready in " in printed
    assert "web 0.1.0\n    HTTP      GET /word · GET /pid · GET /die\n" in printed
    assert "events    user.created → greet (durable " in printed
    assert "timers    tidy every 1h\n" in printed
    assert "NATS        embedded, for development (.cliffracer/)\n" in printed
    assert "leaders   follow\n" in printed
    assert re.search(r"try         http://127\.0\.0\.1:\d+/  in a browser\n {14}cliffracer call web\.", printed)
    assert max(len(line) for line in printed.split("Ctrl-C stops")[0].splitlines()) <= 80


@pytest.mark.parametrize(
    ("typed", "found", "named"),
    [
        ("/usr/bin/cliffracer", True, "cliffracer"),
        (".venv/bin/cliffracer", False, ".venv/bin/cliffracer"),
        ("/somewhere/cliffracer/__main__.py", False, "python -m cliffracer"),
    ],
)
def test_commands_to_try_can_be_typed_as_they_stand(typed, found, named, monkeypatch):
    """Where no shell finds our name, as after `make run` without an activated environment, they are named as they were called."""
    monkeypatch.setattr(sys, "argv", [typed, "run"])
    monkeypatch.setattr(banner.shutil, "which", lambda name: typed if found else None)
    assert banner._program() == named


def test_being_ready_is_counted_from_the_start_of_the_process(monkeypatch):
    """The interpreter's own start and all imports are in it; what another program did before it became this one is not."""
    began = time.monotonic()
    code = "import time; time.sleep(0.3); from cliffracer.cli import age; print(age.age(), time.monotonic() - age._IMPORTED)"
    whole, ours = map(float, subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split())
    tick = 0.02
    assert whole <= time.monotonic() - began + tick
    assert whole >= ours
    if sys.platform == "linux":
        assert whole >= ours + 0.3
    monkeypatch.setattr(age, "_MOST", -1.0)
    assert age.age() <= time.monotonic() - age._IMPORTED


def test_logs_of_several_apps_say_whose_they_are(tmp_path):
    """In a call, in a hook, and in a task that a hook began: each line is headed by its service."""
    written(
        tmp_path,
        both="""
            import asyncio
            from loguru import logger
            from cliffracer import App

            one, two = App("one"), App("two")
            tasks = []

            @one.on_startup
            async def begin() -> None:
                logger.warning("a hook")
                async def later() -> None:
                    logger.warning("a task")
                tasks.append(asyncio.create_task(later()))

            @one.rpc
            async def ask(n: int) -> int:
                logger.warning("a call")
                return await one.call(answer, n=n)

            @two.rpc
            async def answer(n: int) -> int:
                logger.warning("another call")
                return n
        """,
    )
    env = {"CLIFFRACER_NAMESPACE": f"both{free_port()}", "CLIFFRACER_LOG_FORMAT": "human"}
    with Background(tmp_path, "run", "both:one", "both:two", **env) as run:
        run.says("ready: one 0.1.0, two 0.1.0")
        assert cliffracer("call", "one.ask", "1", cwd=tmp_path, **env).out == "1\n"
        run.says("one.ask a call")
        run.says("two.answer another call")
        run.says("one:both a hook")
        run.says("one:both a task")
