"""Bytes that are no text on the command line, and output that cannot be written as it is: one message, never a traceback of ours."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.terminal import PATIENCE, PROGRAM, Background, cliffracer, environment, written
from tests.support.nats import free_port

ODD = os.fsdecode(b"\xff")
SERVICE = """
    from cliffracer import App
    app = App("snow")

    @app.rpc
    def double(number: int) -> int: return 2 * number

    @app.rpc
    def echo(text: str) -> str: return text
"""


@pytest.fixture(scope="module")
def snow(tmp_path_factory):
    """A folder, and the environment in which its service runs."""
    folder, env = written(tmp_path_factory.mktemp("snow"), snow=SERVICE), {"CLIFFRACER_NAMESPACE": f"snow{free_port()}"}
    with Background(folder, "run", "snow:app", **env) as run:
        run.says("ready: snow")
        yield folder, env


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("call", "snow.double", f"number={ODD}"), r"\udcff is not UTF-8"),
        (("call", "snow.echo", ODD), r"\udcff is not UTF-8"),
        (("services", ODD), r"'\udcff' is no name of a service: it has neither blanks nor control characters, and is UTF-8"),
        (("services", "a b"), "'a b' is no name of a service"),
        (("top", ODD), r"'\udcff' is no name of a service"),
        (("client", ODD), r"'\udcff' is no name of a service"),
        (("trace", ODD * 9), r"\udcff\udcff\udcff is not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_in_a_message(snow, command, message):
    """For people and, with --json, for programs."""
    folder, env = snow
    done = cliffracer(*command, cwd=folder, **env)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    done = cliffracer(*command, "--json", cwd=folder, **env)
    assert done.code == 2
    error = json.loads(done.out)["error"]
    assert (error["type"], message in error["message"]) == ("UsageError", True)


def test_an_error_that_tells_of_such_bytes_is_json_too(tmp_path):
    """A file name may be of any bytes."""
    done = cliffracer("routes", f"{ODD}.py:app", "--json", cwd=tmp_path)
    assert done.code == 1
    assert r"There is no file \udcff.py" in json.loads(done.out)["error"]["message"]


def _into(out, *command, folder, err=subprocess.PIPE, **env):
    line, given = [*PROGRAM, *command], environment(**env)
    return subprocess.run(line, cwd=folder, env=given, stdout=out, stderr=err, text=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command", [("config",), ("config", "--json"), ("--help",), ("--version",), ("nope", "--json"), ("routes", "snow:app"), ("services",)]
)
def test_a_full_disk_is_told_in_one_line(snow, command, unbuffered):
    """Whatever the command prints; the exit code is that of a failure."""
    folder, env = snow
    with Path("/dev/full").open("wb") as full:
        done = _into(full, *command, folder=folder, PYTHONUNBUFFERED=unbuffered, **env)
    assert (done.returncode, done.stderr) == (1, "Error: standard output cannot be written: No space left on device.\n")


def test_a_full_disk_for_errors_too_leaves_the_exit_code(tmp_path):
    """Nobody can be told, and nothing else is made of it."""
    with Path("/dev/full").open("wb") as full:
        assert _into(full, "config", folder=tmp_path, err=full).returncode == 1


@pytest.mark.parametrize("command", ["config", "config --json", "routes snow:app", "--help"])
def test_output_that_is_closed_is_no_error(snow, command):
    """As `>&-` in a shell: what is printed is not wanted."""
    line = f"{' '.join(PROGRAM)} {command} >&-"
    done = subprocess.run(["sh", "-c", line], cwd=snow[0], env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("call snow.echo -", 2, "Error: - is no JSON: Input data was truncated"),
        ("emit flake.fell -", 2, "is no JSON"),
        ("users add ada", 1, "Error: "),
        ("servers reset", 1, "[y/N]: \nError: Aborted: nothing was typed."),
    ],
)
def test_input_that_is_closed_is_empty(snow, command, code, message):
    """As `<&-` in a shell, or under a program that gives none."""
    folder, env = snow
    if command == "servers reset":
        env = {"CLIFFRACER_HOME": str(folder)}  # nobody uses the servers of that one, so it asks
    line = ["sh", "-c", f"{' '.join(PROGRAM)} {command} <&-"]
    done = subprocess.run(line, cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_gone_is_told(tmp_path):
    """Whoever still stands in it can do nothing there."""
    gone = tmp_path / "gone"
    gone.mkdir()
    line = ["sh", "-c", f"rmdir {gone}; {' '.join(PROGRAM)} routes snow:app"]
    env = environment(PYTHONPATH=str(Path.cwd()))
    done = subprocess.run(line, cwd=gone, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: The current folder does not exist any more; change to another one.\n")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_a_character_that_the_output_lacks_is_escaped(snow, encoding):
    """JSON stays JSON, for a snowman as for what is no character of 16 bits."""
    folder, env = snow
    text = "\N{SNOWMAN}\N{GRINNING FACE} é"
    done = _into(subprocess.PIPE, "call", "snow.echo", f"text={text}", folder=folder, PYTHONIOENCODING=encoding, **env)
    assert (done.returncode, done.stderr, json.loads(done.stdout)) == (0, "", text)


def test_tables_and_documents_show_their_escapes(tmp_path):
    """In an encoding that has no such character."""
    written(tmp_path, frosty='from cliffracer import App\napp = App("frosty")\n@app.get("/\N{SNOWMAN}")\ndef look() -> int: return 1\n')
    done = _into(subprocess.PIPE, "routes", "frosty:app", folder=tmp_path, PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"/\u2603" in done.stdout
