"""Whatever is killed, those who use the servers have them again, at the same address, with what was stored."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import nats
import psycopg
import pytest

from cliffracer import embedded
from cliffracer.embedded import locks
from cliffracer.errors import SetupError
from tests.embedded.project import Project, eventually, greeting, select


@pytest.mark.parametrize("victim", [Project.server, Project.supervisor], ids=["server", "supervisor"])
def test_killed_nats_is_back_at_the_same_address(project: Project, victim) -> None:
    """A client that is connected reconnects by itself, and finds the stored messages."""

    async def live(url: str) -> None:
        connection = await nats.connect(url, reconnect_time_wait=0.05, max_reconnect_attempts=-1, error_cb=_ignore)
        stream = connection.jetstream()
        await stream.add_stream(name="KEPT", subjects=["kept"])
        await stream.publish("kept", b"before")
        killed = await asyncio.to_thread(victim, project, "nats")
        project.kill(killed)
        async with asyncio.timeout(20):
            while True:
                try:
                    assert (await stream.publish("kept", b"after", timeout=0.5)).seq >= 2
                    break
                except (nats.errors.Error, TimeoutError):
                    await asyncio.sleep(0.05)
        assert await asyncio.to_thread(victim, project, "nats") != killed
        await connection.close()

    with embedded.servers(folder=project.folder) as urls:
        asyncio.run(live(urls.nats_url))


async def _ignore(_: Exception) -> None:
    """nats-py would print a traceback per attempt."""


@pytest.mark.parametrize("victim", [Project.server, Project.supervisor], ids=["server", "supervisor"])
def test_killed_postgres_is_back_at_the_same_address(project: Project, victim) -> None:
    """What was committed is there again, also when a client was connected and working."""
    with embedded.servers(nats=False, database=True, folder=project.folder) as urls, closing(psycopg.connect(urls.database_url)) as working:
        working.execute("create table kept as select generate_series(1, 1000)")
        working.commit()
        working.execute("insert into kept select generate_series(1, 1000)")
        killed = victim(project, "postgres")
        project.kill(killed)
        eventually(lambda: victim(project, "postgres") != killed and select(urls.database_url, "select count(*) from kept") == 1000)


def test_killed_user_is_not_counted(project: Project) -> None:
    """Servers end although their only user had no chance to leave."""
    user = project.user("nats", "database")
    user.urls()
    user.kill()
    eventually(lambda: not project.runs("nats") and not project.runs("postgres"))


def test_killed_user_takes_nothing_from_another(project: Project) -> None:
    """The first to come may be killed; the second keeps the servers."""
    first, second = project.user("nats", "database"), project.user("nats", "database")
    nats_url, database_url = first.urls()
    second.urls()
    supervisors = project.supervisor("nats"), project.supervisor("postgres")
    first.kill()
    assert greeting(nats_url)
    assert select(database_url) == 1
    assert (project.supervisor("nats"), project.supervisor("postgres")) == supervisors


def test_all_killed_at_once_start_again(project: Project) -> None:
    """After a kill of users, supervisors, servers and all their children the next start works and has the data."""
    user = project.user("nats", "database")
    nats_url, database_url = user.urls()
    with psycopg.connect(database_url) as connection:
        connection.execute("create table kept as select 7 as seven")
    kept = [project.place(kind) / name for kind in ("nats", "postgres") for name in ("supervisor.lock", "alive.lock")]
    doomed = [pid for lock in kept for pid in locks.holders(lock)]
    for pid in doomed:
        os.kill(pid, signal.SIGSTOP)
    for pid in doomed:
        project.kill(pid)
    user.kill()
    with embedded.servers(database=True, folder=project.folder) as urls:
        assert urls == (nats_url, database_url)
        assert select(urls.database_url, "select seven from kept") == 7


def test_kill_while_the_cluster_is_made(project: Project) -> None:
    """A supervisor that is killed during initdb leaves no half of a cluster."""
    user = project.user("database")
    eventually((project.place("postgres") / "initdb").exists)
    project.kill(project.supervisor("postgres"))
    assert select(user.urls()[1]) == 1


def test_stale_pid_files_harm_nobody(project: Project) -> None:
    """Files that name a living stranger as the server neither stop the start nor the stranger."""
    with embedded.servers(database=True, folder=project.folder):
        pass
    embedded.stop(project.folder)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        place = project.place("postgres")
        (place / "data-18" / "postmaster.pid").write_text(f"{stranger.pid}\n{place}/data-18\n1\n5432\n{place}/socket\n\n0\nready\n")
        (place / "socket" / ".s.PGSQL.5432.lock").write_text(f"{stranger.pid}\n{place}/data-18\n1\n5432\n{place}/socket\n")
        (project.place("nats") / f"nats-server_{stranger.pid}.ports").write_text('{"nats": ["nats://127.0.0.1:1"]}')
        for kind in ("nats", "postgres"):
            (project.place(kind) / "url").write_text("nats://127.0.0.1:1")
        with embedded.servers(database=True, folder=project.folder) as urls:
            assert greeting(urls.nats_url)
            assert select(urls.database_url) == 1
        assert stranger.poll() is None


def test_taken_port_is_given_up_for_another(project: Project) -> None:
    """A stranger on the port of last time is not mistaken for the server."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        place = project.place("nats")
        place.mkdir(parents=True, mode=0o700)
        (place / "port").write_text(str(stranger.getsockname()[1]))
        with embedded.servers(folder=project.folder) as urls:
            assert '"auth_required":true' in greeting(urls.nats_url)


def test_removed_folder_ends_the_servers(project: Project) -> None:
    """Servers whose folder is deleted under them end, and new ones start in a new folder."""
    user = project.user("nats")
    nats_url, _ = user.urls()
    supervisor = project.supervisor("nats")
    embedded.locate(project.folder).rename(project.folder / "old")
    eventually(lambda: not greeting(nats_url) and not Path(f"/proc/{supervisor}").exists())
    user.leave()
    with embedded.servers(folder=project.folder) as urls:
        assert greeting(urls.nats_url)


def test_orphan_that_holds_on_is_ended(project: Project) -> None:
    """A server that outlived its supervisor, as happens without a signal on the parent's death, makes way for a new one."""
    with embedded.servers(folder=project.folder):
        pass
    embedded.stop(project.folder)
    held = locks.attempt(project.place("nats") / "alive.lock", exclusive=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(held,)) as orphan:
        os.close(held)
        with embedded.servers(folder=project.folder) as urls:
            assert greeting(urls.nats_url)
        assert orphan.wait(10) == -signal.SIGTERM


def test_server_that_cannot_start_is_explained(project: Project) -> None:
    """A start that fails ends soon, with the server's own words and a cure, and holds up nobody afterwards."""
    with embedded.servers(nats=False, database=True, folder=project.folder):
        pass
    embedded.stop(project.folder)
    control = project.place("postgres") / "data-18" / "global" / "pg_control"
    kept = control.read_bytes()
    control.write_bytes(b"garbage")
    with (
        pytest.raises(SetupError, match=r"(?s)PostgreSQL did not start.*to begin anew.*pg_control"),
        embedded.servers(nats=False, database=True, folder=project.folder),
    ):
        pass
    control.write_bytes(kept)
    with embedded.servers(nats=False, database=True, folder=project.folder) as urls:
        assert select(urls.database_url) == 1


def test_server_that_keeps_dying_is_given_up_and_revived(project: Project) -> None:
    """A supervisor gives up on a server that dies again and again; its users get a new supervisor, at the same address."""
    with embedded.servers(folder=project.folder) as urls:
        first = project.supervisor("nats")
        while Path(f"/proc/{first}").exists():
            for pid in locks.holders(project.place("nats") / "alive.lock"):
                project.kill(pid)
        eventually(lambda: greeting(urls.nats_url))
        assert project.supervisor("nats") != first


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # what Python 3.12 warns of is the case here
def test_forked_child_keeps_its_share_only(project: Project) -> None:
    """A child forked while servers are used keeps them running until it ends, and blocks nobody else."""
    with embedded.servers(folder=project.folder) as urls:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
    with pytest.raises(SetupError, match="in use"):
        embedded.stop(project.folder)
    with embedded.servers(folder=project.folder) as again:
        assert again == urls
    os.close(writer)
    os.waitpid(child, 0)
    eventually(lambda: not project.runs("nats"))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # what Python 3.12 warns of is the case here
def test_forks_never_carry_a_lock_of_a_moment(tmp_path: Path) -> None:
    """However many children are forked while another thread looks at a lock, none of them goes on holding it."""
    lock = tmp_path / "x.lock"
    done = threading.Event()
    looking = threading.Thread(target=lambda: [locks.is_held(lock) for _ in iter(done.is_set, True)])
    looking.start()
    children = []
    for _ in range(50):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
    done.set()
    looking.join()
    held = locks.is_held(lock)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not held
