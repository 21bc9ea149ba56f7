"""What a stranger does first: an empty folder, a new virtual environment, the wheel, and README.md by copy and paste."""

import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cliffracer import embedded
from tests.cli.strangers import built_wheel, fresh_environment
from tests.project.places import ROOT
from tests.project.snippets import follow, snippets

README = (ROOT / "README.md").read_text()
TUTORIAL = [page.read_text() for page in sorted((ROOT / "docs" / "tutorial").glob("*.md"))]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give what a user would install."""
    return built_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the programs of an environment that holds nothing of this checkout but its wheel."""
    return fresh_environment(tmp_path_factory.mktemp("stranger") / "venv", wheel)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give an empty folder with no servers yet; those that are started in it are stopped in the end."""
    monkeypatch.delenv("CLIFFRACER_HOME")
    yield tmp_path
    embedded.stop(tmp_path)


def test_the_readme_runs_from_the_wheel_within_a_minute(programs: Path, empty: Path) -> None:
    """Every snippet of README.md works in an empty folder, against what a user would install."""
    began = time.monotonic()
    follow(README, folder=empty, programs=programs)
    assert (empty / ".cliffracer").is_dir()
    assert time.monotonic() - began < 60 * 2, "a slow machine may take twice the minute that is promised, no more"


def test_the_tutorial_can_be_followed_by_copy_and_paste(programs: Path, empty: Path) -> None:
    """Five pages in order, one empty folder, against what a user would install."""
    assert len(TUTORIAL) == 5
    follow(*TUTORIAL, folder=empty, programs=programs)


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
