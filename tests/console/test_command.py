"""`cliffracer console` as people start it."""

import json
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.cli.terminal import Background, cliffracer, on_terminal


def test_it_prints_an_address_and_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """The address lets a browser in, a new one is printed for the next, and Ctrl-C ends it with nothing left to say."""
    with Background(tmp_path, "console", "--json", CLIFFRACER_HOME=str(tmp_path)) as run:
        run.says("address")
        first = json.loads(run.text.splitlines()[0])["address"]
        assert first.startswith("http://127.0.0.1:")
        assert httpx.get(first).status_code == 200
        run.says("address", times=2)
        assert httpx.get(first).status_code == 401
        assert run.end(signal.SIGINT) == 0
        assert "Traceback" not in run.text


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """And in production a console needs to be told where NATS is."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = cliffracer("console", "--port", port, cwd=tmp_path, CLIFFRACER_HOME=str(tmp_path))
    assert (done.code, f"Port {port} on 127.0.0.1 is in use" in done.err) == (1, True)
    done = cliffracer("console", cwd=tmp_path, CLIFFRACER_ENV="production")
    assert (done.code, "NATS_URL" in done.err) == (1, True)


@pytest.mark.parametrize(("flag", "said"), [("--read-only", True), ("--write", False)])
def test_it_says_whether_it_acts(flag: str, said: bool, tmp_path: Path) -> None:
    """On a terminal: the address, and why it only reads if it does."""
    printed = on_terminal("console", flag, cwd=tmp_path, until="Ctrl-C stops.", NO_COLOR="1", CLIFFRACER_HOME=str(tmp_path))
    assert "http://127.0.0.1:" in printed
    assert ("It only reads: it was started with --read-only." in printed) == said
