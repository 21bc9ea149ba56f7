"""The folder of a project is found, private, and refused with a sentence where it cannot serve."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import psycopg
import pytest

from cliffracer import embedded
from cliffracer.errors import SetupError
from tests.embedded.project import ROOT, Project, select

STATUS = [sys.executable, "-m", "cliffracer", "servers", "status", "--json"]


@pytest.mark.parametrize("marker", [".cliffracer", "pyproject.toml", ".git"])
def test_nearest_marker_makes_the_project(tmp_path: Path, monkeypatch, marker: str) -> None:
    """From a folder below, the nearest parent with any marker is the project, not one further up."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "near" / "below").mkdir(parents=True)
    (tmp_path / "near" / marker).mkdir()
    monkeypatch.chdir(tmp_path / "near" / "below")
    assert embedded.project_folder() == tmp_path / "near"
    assert embedded.locate(None) == tmp_path / "near" / ".cliffracer"


@pytest.mark.parametrize("marker", [".cliffracer", "pyproject.toml", ".git"])
def test_what_lies_about_makes_no_project_of_all_that_is_below(tmp_path: Path, monkeypatch, marker: str) -> None:
    """Who once tried something in his home folder, or anybody in /tmp, would have all projects there share their servers and tables."""
    for place, ours in (("home", True), ("tmp", True), ("work", False)):
        below = tmp_path / place / "shop" / "src"
        below.mkdir(parents=True)
        (tmp_path / place / marker).mkdir()
        if place == "tmp":
            (tmp_path / place).chmod(0o1777)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.chdir(below)
        assert embedded.project_folder() == (below if ours else tmp_path / place)
        monkeypatch.chdir(tmp_path / place)
        assert embedded.project_folder() == tmp_path / place


def test_home_variable_wins(tmp_path: Path, monkeypatch) -> None:
    """CLIFFRACER_HOME names the folder for projects that share their servers."""
    monkeypatch.setenv("CLIFFRACER_HOME", str(tmp_path))
    assert embedded.locate(None) == tmp_path / ".cliffracer"


def test_folder_is_private_and_ignored_by_git(project: Project) -> None:
    """Nobody else may look into it, whatever the umask or an earlier mode, and git does not see it."""
    embedded.locate(project.folder).mkdir(mode=0o777)
    with embedded.servers(folder=project.folder):
        home = embedded.locate(project.folder)
        assert {path.stat().st_mode & 0o777 for path in (home, *home.glob("*/"))} == {0o700}
        assert (home / ".gitignore").read_text() == "*\n"
        assert {path.stat().st_mode & 0o077 for path in (home / "nats").iterdir()} == {0}


def test_folder_that_cannot_be_made_is_named() -> None:
    """Where no folder can be made, even by root, the message says where and what to set."""
    with pytest.raises(SetupError, match=r"/proc/\.cliffracer, and that does not.*CLIFFRACER_HOME"), embedded.servers(folder=Path("/proc")):
        pass


def test_link_in_place_of_the_folder_is_refused(project: Project, tmp_path: Path) -> None:
    """A link that somebody laid does not lead our files elsewhere."""
    embedded.locate(project.folder).symlink_to(tmp_path)
    with pytest.raises(SetupError, match="must be a real folder"), embedded.servers(folder=project.folder):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["long " * 24, "we, \"the\" 'pëople' {do} #1\\", os.fsdecode(b"Gr\xfc\xdfe")], ids=["long", "odd", "latin"]
)
def test_any_path_will_do(project: Project, name: str) -> None:
    """A path too long for a socket, with characters that configurations quote, or in no UTF-8, works, also after a kill."""
    there = Project(project.folder / name)
    there.folder.mkdir()
    with embedded.servers(database=True, folder=there.folder) as urls:
        assert select(urls.database_url) == 1
        status = subprocess.run(STATUS, cwd=there.folder, capture_output=True, check=True)
        assert [found["running"] for found in msgspec.json.decode(status.stdout)] == [True, True]
        there.kill(there.supervisor("postgres"))
    with embedded.servers(database=True, folder=there.folder) as again:
        assert again.database_url == urls.database_url
        assert select(again.database_url) == 1
    there.clean()
    socket = Path(psycopg.conninfo.conninfo_to_dict(urls.database_url)["host"])
    assert not socket.exists()


@pytest.mark.parametrize("spelling", ["production", " Production"])
def test_production_is_refused(project: Project, monkeypatch, spelling: str) -> None:
    """In production nothing is started, and the message names the variables that are missing."""
    monkeypatch.setenv("CLIFFRACER_ENV", spelling)
    with pytest.raises(SetupError, match="set NATS_URL and DATABASE_URL"), embedded.servers(database=True, folder=project.folder):
        pass
    with pytest.raises(SetupError, match=r"set NATS_URL\."), embedded.servers(folder=project.folder):
        pass
    assert not embedded.locate(project.folder).exists()


def test_settings_may_ask_for_the_refusal() -> None:
    """The environment of the settings counts like the variable."""
    with pytest.raises(SetupError, match="DATABASE_URL"):
        embedded.refuse_in_production("production", nats=False)
    embedded.refuse_in_production("development")


@pytest.mark.parametrize(("wanted", "variable"), [("nats", "NATS_URL"), ("database", "DATABASE_URL")])
def test_missing_extra_is_named(project: Project, tmp_path: Path, wanted: str, variable: str) -> None:
    """Without the wheels the message says what to install, or which variable to set."""
    for needed in (ROOT / "cliffracer", Path(msgspec.__file__).parent):
        (tmp_path / needed.name).symlink_to(needed)
    bare = project.user(wanted, python=(os.path.realpath(sys.executable), "-S"), PYTHONPATH=str(tmp_path), PATH="/nonexistent")
    assert (said := bare.refusal()).count('pip install "cliffracer[dev]"') == 1
    assert variable in said


@pytest.mark.parametrize("grace", ["soon", "-1", "nan", "1e9"])
def test_grace_must_be_seconds(project: Project, monkeypatch, grace: str) -> None:
    """A grace that is no number of seconds is refused before anything starts."""
    monkeypatch.setenv("CLIFFRACER_DEV_GRACE", grace)
    with pytest.raises(SetupError, match="CLIFFRACER_DEV_GRACE"), embedded.servers(folder=project.folder):
        pass


def test_windows_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """Where there are no kernel file locks, importing is harmless and a use says what to set."""
    code = (
        "import sys, asyncio, importlib.metadata, logging, pathlib, shutil\n"  # the real ones of this machine
        "import subprocess, tempfile, zoneinfo\n"
        "sys.platform = 'win32'\n"
        "sys.modules['fcntl'] = sys.modules['pwd'] = None\n"
        "from cliffracer import embedded\n"
        "with embedded.servers(): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert "SetupError: Embedded servers need Linux or macOS; on Windows set NATS_URL and DATABASE_URL." in done.stderr


def test_removed_current_folder_is_named(tmp_path: Path, monkeypatch) -> None:
    """From a folder that was deleted under the shell, the message says so."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SetupError, match="does not exist any more"):
        embedded.project_folder()


def test_supervisor_imports_next_to_nothing() -> None:
    """The supervisor's modules load without site-packages, the package above them, or anything slow."""
    code = (
        "import sys, types, importlib\n"
        "for name in ('cliffracer', 'cliffracer.embedded'):\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        f"    sys.modules[name].__path__ = [{str(ROOT)!r} + '/' + name.replace('.', '/')]\n"
        "importlib.import_module('cliffracer.embedded.supervisor')\n"
        "print(*sys.modules)\n"
    )
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"msgspec", "logging", "asyncio", "json", "tempfile", "dataclasses", "cliffracer.errors"} & set(loaded)
