"""The Makefile: its targets, and what it says on a machine that is too old."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.project.places import ROOT


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, env=os.environ)


def test_every_promised_target_is_there() -> None:
    """`make` alone lists run, test, check, lint, bench, build and clean."""
    targets = re.findall(r"^make (\w+)", _make().stdout, re.MULTILINE)
    assert {"run", "test", "check", "lint", "bench", "build", "clean"} <= set(targets)


@pytest.mark.parametrize("says", ["Python 3.9.2", "Python 2.7.18"])
def test_old_python_is_named_with_the_cure(tmp_path: Path, says: str) -> None:
    """An interpreter that is too old gets one line with its version and what to type, before anything is installed."""
    old = tmp_path / "python-old"
    old.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo {says}\nexit 1\n')
    old.chmod(0o755)
    done = _make("check", f"PYTHON={old}")
    assert done.returncode == 2
    assert f"needs Python 3.11 or newer; {old} is {says}. Try: make PYTHON=python3.12 check" in done.stderr


def test_check_never_mends() -> None:
    """`make check` runs no command in its writing form."""
    commands = _make("--dry-run", "check").stdout
    assert "ruff format --check" in commands
    assert "--fix" not in commands


def test_continuous_integration_runs_what_the_readme_says() -> None:
    """`.ci/run` stops at the first failure and runs the two commands that users are given, tests last."""
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert "set -euo pipefail" in script
    assert script[-2:] == ["make check", "make test"]


def test_run_says_how_to_send_more_load() -> None:
    """Before the demo's own banner: what its page does, and the command of the load generator, by the environment that was set up."""
    told = _make("run", "DEMO=echo and then the shop").stdout
    assert ".venv/bin/python -m examples.shop.drive --orders 500\nand then the shop\n" in told
