"""`cliffracer run` as a process: what it prints, how it stops, what it does without its servers."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import httpx
import pytest

from cliffracer import App, DeadlineExceeded, ServiceError, Unavailable, connect, connect_async, runtime
from cliffracer.frozen import Frozen
from cliffracer.testing import running
from tests.support.nats import NatsServer, free_port

SERVICE = """
    import asyncio, os, sys, time
    from cliffracer import App

    app = App("slow", version="2.0.0")

    def begun() -> None:
        with open(os.environ["WORK"] + ".begun", "a") as file:
            file.write("x")

    @app.rpc
    async def wait(seconds: float) -> str:
        begun()
        await asyncio.sleep(seconds)
        return "done"

    @app.rpc
    async def chain(seconds: float) -> str:
        begun()
        await asyncio.sleep(seconds)
        await app.emit("chained", seconds)
        return await app.call(wait, seconds=0)

    @app.rpc
    async def blocks(seconds: float) -> str:
        time.sleep(seconds)
        return "blocked"

    @app.get("/wait")
    async def wait_over_http(seconds: float) -> str:
        begun()
        await asyncio.sleep(seconds)
        return "done"

    @app.on("work.*")
    async def work(number: int) -> None:
        await asyncio.sleep(0.02)
        with open(os.environ["WORK"], "a") as file:
            file.write(f"{number}\\n")
"""
LONG = """
    import asyncio
    from collections.abc import AsyncIterator
    from cliffracer import App
    app = App("long")

    class Thing: ...

    @app.provide
    async def thing() -> AsyncIterator[Thing]:
        print("opened", flush=True)
        yield Thing()
        print("closed", flush=True)

    @app.on_startup
    async def begin(*, thing: Thing) -> None:
        print("begins", flush=True)
        try:
            await asyncio.sleep(600)
        finally:
            print("given-up", flush=True)
"""


class Process:
    """One `cliffracer run`, its output in a file."""

    def __init__(self, folder: Path, *arguments: str, target: str = "service:app", **env: str) -> None:
        self.out = folder / f"out-{time.monotonic_ns()}.txt"
        self.port = free_port()
        with self.out.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cliffracer", "run", target, "--port", str(self.port), *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "LOG_FORMAT": "json", **env},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        return self.out.read_text()

    def ready(self) -> "Process":
        until = time.monotonic() + 60
        while "ready: " not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < until, self.text
            time.sleep(0.02)
        return self

    def end(self, number: int = signal.SIGTERM, within: float = 60) -> int:
        self.process.send_signal(number)
        return self.process.wait(within)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "service.py").write_text(textwrap.dedent(SERVICE))
    return tmp_path


@pytest.fixture
def nats():
    with NatsServer(jetstream=True) as server:
        yield server


@pytest.fixture
def env(nats, folder):
    return {"NATS_URL": nats.url, "WORK": str(folder / "work.txt")}


def test_it_says_when_it_is_ready_and_stops_with_zero(folder, env):
    """One line when everything is up; SIGTERM ends it with exit code 0."""
    with Process(folder, **env) as run:
        run.ready()
        assert "ready: slow 2.0.0" in run.text
        assert httpx.get(f"http://127.0.0.1:{run.port}/health/ready").status_code == 200
        assert run.end() == 0
        assert "Traceback" not in run.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_accepted_work_finishes_before_it_stops(folder, env, nats, number):
    """A call, a call that calls and emits, and an HTTP request that run when the signal comes are all answered."""
    with Process(folder, **env) as run:
        run.ready()

        async def work():
            async with connect_async(nats.url) as client, httpx.AsyncClient() as http:
                calls = [
                    asyncio.create_task(client.slow.wait(seconds=0.6)),
                    asyncio.create_task(client.slow.chain(seconds=0.5)),
                    asyncio.create_task(http.get(f"http://127.0.0.1:{run.port}/wait?seconds=0.7")),
                ]
                await asyncio.to_thread(wait_for, lambda: begun(folder) == 3)
                run.process.send_signal(number)
                return await asyncio.gather(*calls)

        one, two, three = asyncio.run(work())
        assert (one, two, three.json()) == ("done", "done", "done")
        assert run.process.wait(60) == 0


def test_a_call_that_outlasts_the_drain_is_answered_unavailable(folder, env, nats):
    """What cannot finish within `drain` seconds gets its one reply too, and the process ends."""
    with Process(folder, CLIFFRACER_DRAIN="0.3", **env) as run:
        run.ready()
        with connect(nats.url) as client:
            threading.Thread(target=lambda: (wait_for(lambda: begun(folder)), run.process.send_signal(signal.SIGTERM))).start()
            with pytest.raises(Unavailable, match="the service is stopping"):
                client.slow.wait(seconds=8)
        assert run.process.wait(60) == 0
        assert run.text.count("ended after 0.3 s, before these had finished: slow.wait") == 1


def test_a_second_signal_ends_it_at_once(folder, env, nats):
    """Nobody waits for the drain who does not want to."""
    with Process(folder, CLIFFRACER_DRAIN="60", **env) as run:
        run.ready()
        with connect(nats.url) as client, pytest.raises(DeadlineExceeded):
            client.service("slow", timeout=0.3).blocks(seconds=1)
        run.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(30) in {0, 130}


def test_rolling_restarts_lose_no_call_and_no_event(folder, env, nats):
    """Two replicas restarted in turn under load: every call is answered, every event handled."""
    with Process(folder, **env) as first, Process(folder, **env) as second:
        first.ready()
        second.ready()
        runs = [first, second]

        async def load():
            done = asyncio.Event()
            failures, calls, sent = [], 0, 0

            async def caller(client):
                nonlocal calls
                while not done.is_set():
                    try:
                        await client.slow.chain(seconds=0.01)
                        calls += 1
                    except ServiceError as error:
                        failures.append(repr(error))

            async def emitter(client):
                nonlocal sent
                while not done.is_set():
                    await client.emit("work.now", sent)
                    sent += 1
                    await asyncio.sleep(0.01)

            async with connect_async(nats.url) as client:
                tasks = [asyncio.create_task(caller(client)) for _ in range(8)] + [asyncio.create_task(emitter(client))]
                for turn in range(4):
                    old = runs[turn % 2]
                    new = Process(folder, **env)
                    runs[turn % 2] = new
                    await asyncio.to_thread(new.ready)
                    assert await asyncio.to_thread(old.end) == 0, old.text
                done.set()
                await asyncio.gather(*tasks)
            return failures, calls, sent

        failures, calls, sent = asyncio.run(load())
        try:
            assert failures == []
            assert calls > 50
            until = time.monotonic() + 60
            while len(handled(folder)) < sent and time.monotonic() < until:
                time.sleep(0.05)
            assert handled(folder) == set(range(sent))
        finally:
            for run in runs:
                run.__exit__()


def begun(folder):
    """Return how many calls that wait have begun."""
    file = folder / "work.txt.begun"
    return len(file.read_text()) if file.exists() else 0


def handled(folder):
    """Return the numbers of the events that were handled."""
    file = folder / "work.txt"
    return {int(line) for line in file.read_text().split()} if file.exists() else set()


def test_without_nats_it_waits_and_then_says_where_it_looked(folder):
    """NATS absent at start: a line, `wait` seconds of trying, one clear error, exit code 1."""
    port = free_port()
    with Process(folder, NATS_URL=f"nats://127.0.0.1:{port}", CLIFFRACER_WAIT="0.5", WORK="x") as run:
        assert run.process.wait(60) == 1
        assert f"Cannot reach NATS at nats://127.0.0.1:{port}" in run.text
        assert "Traceback" not in run.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_waits_for_nats_can_be_stopped(folder, number):
    """One signal ends a start: nothing is accepted yet that would have to be finished."""
    with Process(folder, NATS_URL=f"nats://127.0.0.1:{free_port()}", CLIFFRACER_WAIT="10m", WORK="x") as run:
        while "trying for another" not in run.text:
            assert run.process.poll() is None, run.text
            time.sleep(0.02)
        assert run.end(number) == 0
        assert "Error" not in run.text


def test_a_start_that_is_given_up_closes_what_it_opened(folder, env):
    """A hook that takes long is cancelled, and what was provided to it ends in order."""
    (folder / "long.py").write_text(textwrap.dedent(LONG))
    with Process(folder, target="long:app", **env) as run:
        while "begins" not in run.text:
            assert run.process.poll() is None, run.text
            time.sleep(0.02)
        assert run.end() == 0
        *words, told = run.text.splitlines()
        assert words == ["opened", "begins", "given-up", "closed"]
        assert "stopped before it was ready: long 0.1.0 in " in told


def test_nats_that_comes_late_is_waited_for(folder):
    """A server that starts after the service is found."""
    with NatsServer(jetstream=True) as server:
        server.kill()
        with Process(folder, NATS_URL=server.url, WORK=str(folder / "w")) as run:
            time.sleep(0.5)
            server.start()
            run.ready()
            assert run.end() == 0


def test_a_lost_nats_makes_it_unready_and_everything_resumes(folder, env, nats):
    """While NATS is away the process lives and is not ready; afterwards calls and events go on."""
    with Process(folder, **env) as run:
        run.ready()
        nats.kill()
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{run.port}/health/ready").status_code == 503)
        assert httpx.get(f"http://127.0.0.1:{run.port}/health").status_code == 200
        nats.start()
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{run.port}/health/ready").status_code == 200)
        with connect(nats.url) as client:
            assert client.slow.wait(seconds=0) == "done"
            client.emit("work.again", 1)
        wait_for(lambda: handled(folder) == {1})
        assert run.end() == 0


def wait_for(condition, within=60.0):
    """Wait for something that comes soon, without saying when."""
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)


def test_a_port_in_use_is_one_clear_line(folder, env):
    """The port is bound before anything else, and the message says which it is."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_cli(folder, "run", "service:app", "--host", "127.0.0.1", "--port", str(port), env=env)
    assert done.returncode == 1
    assert f"{port}" in done.stderr
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


def run_cli(folder, *arguments, env=None):
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "cliffracer", *arguments],
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_production_without_servers_is_refused(folder):
    """Embedded servers are not for production: the error names the variable to set."""
    done = run_cli(folder, "run", "service:app", "--port", "0", env={"CLIFFRACER_ENV": "production", "WORK": "x"})
    assert done.returncode == 1
    assert "NATS_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_log_line_of_a_call_carries_its_id(folder, env, nats):
    """A line that is logged in a call has correlation id, service and handler."""
    (folder / "service.py").write_text(
        textwrap.dedent("""
        import logging
        from cliffracer import App
        app = App("talks")

        @app.rpc
        async def talk() -> None:
            logging.getLogger("mine").warning("hello")
        """)
    )
    with Process(folder, **env) as run:
        run.ready()
        with connect(nats.url) as client:
            client.talks.talk()
        wait_for(lambda: "hello" in run.text)
        line = next(json.loads(line) for line in run.text.splitlines() if "hello" in line)
        assert (line["service"], line["handler"]) == ("talks", "talk")
        assert line["correlation_id"]
        run.end()


def test_services_of_one_process_reach_each_other_until_the_last_call_is_done(tmp_path, nats):
    """A call that runs at SIGTERM in one app may still call another app of the process."""
    (tmp_path / "service.py").write_text(
        textwrap.dedent("""
        import asyncio, pathlib
        from cliffracer import App
        front, back = App("front"), App("back")

        @front.rpc
        async def ask() -> str:
            pathlib.Path("work.txt.begun").write_text("x")
            await asyncio.sleep(0.6)
            return await front.call(answer)

        @back.rpc
        async def answer() -> str:
            return "still here"
        """)
    )
    with Process(tmp_path, target="service", NATS_URL=nats.url) as run:
        run.ready()

        async def work():
            async with connect_async(nats.url) as client:
                call = asyncio.create_task(client.front.ask())
                await asyncio.to_thread(wait_for, lambda: begun(tmp_path))
                run.process.send_signal(signal.SIGTERM)
                return await call

        assert asyncio.run(work()) == "still here"
        assert run.process.wait(60) == 0


async def test_what_a_start_reads_does_not_grow_with_what_it_has_read(monkeypatch):
    """The declarations are gone through as often for 20 methods as for two, so that a large service starts in time."""
    read = Frozen.of
    times = []
    for number in (2, 20):
        app = App("many")
        for name in range(number):

            @app.get(f"/{name}")
            @app.rpc(name=f"m{name}")
            async def answer() -> int:
                return 1

        asked = []
        monkeypatch.setattr(Frozen, "of", lambda self, kind, asked=asked: asked.append(kind) or read(self, kind))
        async with running(app):
            times.append(len(asked))
    assert times[0] == times[1]


async def test_settings_that_are_not_given_are_loaded(nats, monkeypatch):
    """``async with runtime.running(app)`` serves with what the environment says."""
    app = App("bare")

    @app.rpc
    async def answer() -> int:
        return 42

    monkeypatch.setenv("NATS_URL", nats.url)
    async with runtime.running(app), connect_async(nats.url) as c:
        assert await c.bare.answer() == 42


async def test_nothing_is_begun_while_the_hooks_of_the_end_run():
    """What comes then is for other replicas: no event, call or timer begins any more, who leads has stopped, and nothing is found."""
    app, begun, leads = App("ending"), [], asyncio.Event()

    @app.rpc
    async def called() -> None:
        begun.append("a call")

    @app.on("core", durable=False)
    async def core(number: int) -> None:
        begun.append("an event")

    @app.on("stored")
    async def stored(number: int) -> None:
        begun.append("a durable event")

    @app.every("1h")
    async def hourly() -> None:
        begun.append("a timer")

    @app.every("1h", each=True)
    async def here() -> None:
        begun.append("a timer of each replica")

    @app.leader
    async def lead() -> None:
        leads.set()
        try:
            await asyncio.Event().wait()
        finally:
            begun.append("the leader stopped")

    @app.on_shutdown
    async def late() -> None:
        await app.emit("core", 1, durable=False)
        await app.emit("stored", 1)
        await app.service("ending").send.called()
        for subject in (f"{t.settings.namespace}.ending.called", f"{t.settings.namespace}.$SRV.PING.ending"):
            with pytest.raises(Unavailable, match="No service answers"):
                await t.up.bus.request(subject.encode(), b"{}", timeout=5.0)
        await t.clock.advance("2h")
        for _ in range(300):  # room for what must not come
            await t.up.bus.flush()
        begun.append("the hook was run")

    async with running(app) as t:
        await leads.wait()
    assert begun == ["the leader stopped", "the hook was run"]


async def test_a_service_that_stops_is_ready_no_more_while_it_finishes():
    """Whoever asks meanwhile is told so, and told to ask elsewhere from then on; what was accepted is answered."""
    app, begun, told = App("stops"), asyncio.Event(), asyncio.Event()

    @app.get("/slow")
    async def slow() -> str:
        begun.set()
        await told.wait()
        return "finished"

    async def look(client: httpx.AsyncClient) -> tuple[int, str | None]:
        while (reply := await client.get("/health/ready")).status_code == 200:  # noqa: ASYNC110 - it asks as whoever balances the load does
            await asyncio.sleep(0.002)
        told.set()
        return reply.status_code, reply.headers.get("connection")

    async with AsyncExitStack() as clients, running(app, env="development") as t:
        first, second = [await clients.enter_async_context(httpx.AsyncClient(base_url=t.url)) for _ in range(2)]
        answer, looked = asyncio.create_task(first.get("/slow")), asyncio.create_task(look(second))
        await begun.wait()
    assert await looked == (503, "close")
    assert (await answer).json() == "finished"
