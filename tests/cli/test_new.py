"""`cliffracer new`: a folder that works at once."""

import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

from cliffracer import __version__
from tests.cli.terminal import Background, cliffracer, environment
from tests.project.places import tool
from tests.support.nats import free_port

KINDS = {"plain": (), "db": ("--with", "db"), "auth": ("--with", "auth"), "db_auth": ("--with", "db,auth")}


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_tests_pass_and_its_code_is_clean(kind, tmp_path):
    """The service that is made passes its tests, mypy --strict and the linter, before anybody touches it."""
    made = cliffracer("new", "my-shop", *KINDS[kind], cwd=tmp_path)
    assert (made.code, made.err) == (0, "")
    folder = tmp_path / "my-shop"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ruff = ("--isolated", "--line-length", "120")
    for checker in (("mypy", "--strict", "."), ("ruff", "check", *ruff, "."), ("ruff", "format", *ruff, "--check", ".")):
        checked = tool(*checker, cwd=folder)
        assert checked.returncode == 0, checked.stdout


def test_what_it_tells_to_type_works(tmp_path):
    """`run --reload` finds the app, and the call that is shown is answered."""
    told = cliffracer("new", "hello-there", cwd=tmp_path).out
    assert "cd hello-there\n  cliffracer run --reload\n" in told
    folder, env = tmp_path / "hello-there", {"CLIFFRACER_NAMESPACE": f"new{free_port()}"}
    with Background(folder, "run", "--reload", "--port", str(free_port()), **env) as run:
        run.says("ready: hello_there 0.1.0")
        call = next(line.split() for line in told.splitlines() if "cliffracer call" in line)
        assert cliffracer(*call[1:], cwd=folder, **env).out == '"Hello, Ada!"\n'
        run.says("greeted Ada")
        assert run.end() == 0


def test_a_token_is_issued_with_the_key_that_was_made(tmp_path):
    """With --with auth there is a signing key for development, in a file that is not committed."""
    cliffracer("new", "safe", "--with", "auth", cwd=tmp_path)
    token = cliffracer("token", "issue", "--subject", "ada", cwd=tmp_path / "safe")
    assert token.out.count(".") == 2
    assert ".env" in (tmp_path / "safe" / ".gitignore").read_text().split()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--ttl", "0s"), "leaves the token no time"),
        (("--ttl", "99999999d"), "good for a hundred years at most"),
        (("--role", ""), "it is empty"),
        (("--permission", "a:read a:write"), "write --permission a:read --permission a:write"),
    ],
)
def test_a_token_that_would_be_of_no_use_is_not_issued(tmp_path, given, words):
    """One that every service refuses, or with a right that no rule can ask for."""
    made = cliffracer("token", "issue", "--subject", "ada", *given, cwd=tmp_path, AUTH_SECRET_KEY="q8Zt3vN0xW7sLk2pRm5yUe9aJh4cGf6d1")
    assert (made.code, made.out) == (2, "")
    assert words in " ".join(made.err.split())


def test_the_files_are_what_tools_expect(tmp_path):
    """Each is named on its line; pyproject.toml is TOML that names the app; the Dockerfile installs this version and runs as nobody."""
    made = cliffracer("new", "shop", "--with", "db", cwd=tmp_path).out
    files = sorted(path.name for path in (tmp_path / "shop").iterdir())
    assert made.startswith("\n  ".join(["made shop", *files]) + "\n\n")
    project = tomllib.loads((tmp_path / "shop" / "pyproject.toml").read_text())
    assert project["tool"]["cliffracer"]["app"] == "app:app"
    (ours,) = map(Requirement, project["project"]["dependencies"])
    assert __version__ in ours.specifier
    assert "1.0.0" not in ours.specifier, "another framework has that version of the name"
    dockerfile = (tmp_path / "shop" / "Dockerfile").read_text()
    assert "USER 10001:10001" in dockerfile
    assert "ENV PATH=/opt/app/bin:$PATH" in dockerfile


@pytest.mark.parametrize(
    ("parts", "needed"),
    [
        ((), "with `NATS_URL` set.\n"),
        (("--with", "db"), "with `NATS_URL` and `DATABASE_URL` set. Its tables are made by migrations there: "),
        (("--with", "db,auth"), "with `NATS_URL`, `DATABASE_URL` and `AUTH_SECRET_KEY` set. Its tables are made by migrations there: "),
    ],
)
def test_its_readme_says_what_production_needs(tmp_path, parts, needed):
    """The settings, and the tables, which nothing makes by itself there; the name of the image is one that Docker takes."""
    cliffracer("new", "MyShop", *parts, cwd=tmp_path)
    assert f"`docker build -t myshop .`, {needed}" in (tmp_path / "MyShop" / "README.md").read_text()


@pytest.mark.parametrize("name", ["1shop", "my shop", "-x", "../a b", "é"])
def test_a_name_that_is_none_is_wrong_usage(name, tmp_path):
    """Nothing is written."""
    assert cliffracer("new", "--", name, cwd=tmp_path).code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_can_be_filled(tmp_path):
    """`new .`, where git and a virtual environment are already; the service is called as the folder is."""
    (folder := tmp_path / "my-shop").mkdir()
    (folder / ".git").mkdir()
    (folder / ".venv").mkdir()
    told = cliffracer("new", ".", cwd=folder)
    assert (told.code, told.err, "cd " in told.out) == (0, "", False)
    assert "cliffracer call my_shop.greet name=Ada" in told.out
    assert 'App("my_shop"' in (folder / "app.py").read_text()
    assert cliffracer("new", ".", cwd=folder).err == (
        "Error: This folder is there already, and not empty. Choose another name, or empty it.\n"
    )


def test_nothing_is_overwritten(tmp_path):
    """A folder with something in it is left alone."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "mine.txt").write_text("mine")
    done = cliffracer("new", "shop", cwd=tmp_path)
    assert (done.code, done.err) == (1, "Error: shop is there already. Choose another name, or empty it.\n")
    assert cliffracer("new", "other", "--with", "kafka", cwd=tmp_path).code == 2
