"""Servers keep out of the way: of terminals, pipes, descriptors, threads, and of each other's data."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cliffracer import embedded
from cliffracer.embedded import locks
from cliffracer.errors import SetupError
from tests.embedded.project import ROOT, SITE, USER, Project, eventually, greeting, select


def test_pipes_of_the_starter_are_closed(project: Project) -> None:
    """Whoever reads the output of a program that started servers sees its end while the servers still run."""
    done = subprocess.run(
        [sys.executable, USER, project.folder, "nats", "database"], input="", capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{SITE}", "CLIFFRACER_DEV_GRACE": "60"},
    )  # fmt: skip
    nats_url, database_url = done.stdout.split()
    assert greeting(nats_url)
    assert select(database_url) == 1


def test_interrupt_of_a_terminal_spares_the_servers(project: Project) -> None:
    """Ctrl-C reaches the program that started the servers, not the servers that another one uses."""
    first, second = project.user("nats", "database"), project.user("nats", "database")
    nats_url, database_url = first.urls()
    second.urls()
    servers = project.server("nats"), project.server("postgres")
    os.killpg(first.process.pid, signal.SIGINT)
    first.process.communicate(timeout=30)
    assert greeting(nats_url)
    assert select(database_url) == 1
    assert (project.server("nats"), project.server("postgres")) == servers


def test_use_leaves_no_descriptor_and_no_thread(project: Project) -> None:
    """After a use, the process has what it had before, and no child."""
    with embedded.servers(folder=project.folder):
        pass
    before = sorted(Path("/proc/self/fd").iterdir()), threading.active_count()
    children = _children()
    with embedded.servers(folder=project.folder):
        pass
    assert (sorted(Path("/proc/self/fd").iterdir()), threading.active_count()) == before
    assert _children() == children


def test_failed_use_leaves_nothing_held(project: Project) -> None:
    """An exception inside the use, or the use of a second server that fails, gives the share back."""
    with pytest.raises(ZeroDivisionError), embedded.servers(folder=project.folder):
        _ = 1 / 0
    eventually(lambda: not locks.is_held(project.place("nats") / "users.lock"))


def test_environment_of_the_starter_stays_with_it(project: Project, monkeypatch) -> None:
    """Secrets of whoever came first are not in the environment of processes that outlive it."""
    monkeypatch.setenv("AUTH_SECRET_KEY", "not-for-others")
    with embedded.servers(database=True, folder=project.folder):
        for pid in (project.supervisor("nats"), project.server("nats"), project.supervisor("postgres"), project.server("postgres")):
            assert b"not-for-others" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_only_loopback_is_listened_on(project: Project) -> None:
    """NATS listens on the loopback address alone, PostgreSQL on no address at all."""
    with embedded.servers(database=True, folder=project.folder):
        assert {address for kind in ("nats", "postgres") for address in _listening(project.server(kind))} == {"0100007F"}


def _children() -> str:
    """Return the processes that any thread of this one has started and not waited for."""
    return "".join(sorted(file.read_text() for file in Path("/proc/self/task").glob("*/children")))


def _listening(pid: int) -> set[str]:
    """Return the addresses of a process's TCP sockets that listen, as /proc writes them."""
    own = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}


def test_status_tells_what_is_there(project: Project) -> None:
    """Status names each server ever started, whether it runs, and where its logs are; before that it changes nothing."""
    assert embedded.status(project.folder) == []
    assert not embedded.locate(project.folder).exists()
    with embedded.servers(folder=project.folder) as urls:
        (found,) = embedded.status(project.folder)
        assert (found.kind, found.running, found.in_use, found.url) == ("nats", True, True, urls.nats_url)
        assert any("Server is ready" in log.read_text() for log in found.logs)
    embedded.stop(project.folder)
    assert [(found.running, found.in_use, found.url) for found in embedded.status(project.folder)] == [(False, False, None)]


def test_a_server_that_hangs_does_not_answer(project: Project) -> None:
    """It runs, by its locks, and the kernel takes connections for it; only a word of its own says that it answers."""
    with embedded.servers(database=True, folder=project.folder) as urls:
        assert embedded.answers(urls.nats_url)
        assert embedded.answers(urls.database_url)
        hanging = [project.server("nats"), project.server("postgres")]
        for pid in hanging:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert [found.running for found in embedded.status(project.folder)] == [True, True]
            assert not embedded.answers(urls.nats_url)
            assert not embedded.answers(urls.database_url)
        finally:
            for pid in hanging:
                os.kill(pid, signal.SIGCONT)


def test_stop_does_not_wait_for_the_grace(project: Project, monkeypatch) -> None:
    """Stopping ends servers that only wait for their next user, and refuses while there is one."""
    monkeypatch.setenv("CLIFFRACER_DEV_GRACE", "3600")
    with embedded.servers(database=True, folder=project.folder) as urls:
        with pytest.raises(SetupError, match="in use"):
            embedded.stop(project.folder)
        assert greeting(urls.nats_url)
    embedded.stop(project.folder)
    assert not greeting(urls.nats_url)
    assert select(urls.database_url) is None


def test_reset_forgets_what_was_stored(project: Project) -> None:
    """After a reset the servers start empty; it refuses while somebody uses them."""
    with embedded.servers(database=True, folder=project.folder) as urls:
        select(urls.database_url, "create table kept (i int)")
        with pytest.raises(SetupError, match="in use"):
            embedded.reset(project.folder)
    embedded.reset(project.folder)
    with embedded.servers(database=True, folder=project.folder) as urls:
        assert select(urls.database_url, "select to_regclass('kept')") is None
        assert select(urls.database_url) == 1
