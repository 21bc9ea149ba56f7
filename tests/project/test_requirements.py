"""The locked requirements: complete, hashed, and from nowhere in particular."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.places import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _pins(lock: Path) -> dict[str, str]:
    """Return name -> version of a lock file; a name with two versions (by marker) keeps the last."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def test_there_is_a_lock_for_each_use() -> None:
    """Running, building, developing and comparing have one lock file each, and so has what tests of TLS and of Nameko's guide need."""
    assert [lock.stem for lock in LOCKS] == ["base", "bench", "build", "dev", "nameko", "tls"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_each_pin_has_a_hash(lock: Path) -> None:
    """Every line of a lock file pins one version and carries at least one SHA-256."""
    entries = re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE).strip())
    assert entries
    assert [entry.splitlines()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_no_lock_names_a_host(lock: Path) -> None:
    """A lock says what to install, never where from."""
    assert re.findall(r"\S*://\S*|^-.*index.*|^--find-links.*|^\S+ @ .*", lock.read_text(), re.MULTILINE) == []


def test_locks_agree_with_each_other() -> None:
    """What runs in production is the version that was tested."""
    dev = _pins(ROOT / "requirements" / "dev.txt")
    differing = {(lock.stem, name) for lock in LOCKS for name, version in _pins(lock).items() if dev.get(name, version) != version}
    assert differing == set()


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("base", PROJECT["project"]["dependencies"]),
        ("build", PROJECT["build-system"]["requires"]),
        ("dev", [each for extra in ("accounts", "dev", "nkeys", "otel") for each in PROJECT["project"]["optional-dependencies"][extra]]),
        ("dev", PROJECT["dependency-groups"]["test"]),
        ("dev", [*PROJECT["dependency-groups"]["lint"], *PROJECT["dependency-groups"]["build"]]),
        ("bench", PROJECT["dependency-groups"]["bench"]),
        ("nameko", PROJECT["dependency-groups"]["nameko"]),
        ("tls", PROJECT["dependency-groups"]["tls"]),
    ],
)
def test_locks_are_not_older_than_pyproject(lock: str, wanted: list[str]) -> None:
    """Each requirement of pyproject.toml is locked to a version that it allows; `make lock` mends it."""
    pins = _pins(ROOT / "requirements" / f"{lock}.txt")
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"), prereleases=True), requirement
