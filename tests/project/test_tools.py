"""What `make test` gets beside Python packages: never a failure, always a reason."""

import pytest

from requirements import tools


def test_without_a_browser_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no browser, and none can be installed, the reason names the cure; a browser that is named is enough."""
    monkeypatch.delenv("CLIFFRACER_CHROMIUM", raising=False)
    monkeypatch.setattr(tools.shutil, "which", lambda _: None)
    assert "Install it, or name one in CLIFFRACER_CHROMIUM. (There is no apt-get here.)" in tools.browser()
    monkeypatch.setattr(tools.shutil, "which", lambda name: name if name == "apt-get" else None)
    monkeypatch.setattr(tools.os, "geteuid", lambda: 1000)
    assert "(As root, `apt-get install chromium`.)" in tools.browser()
    monkeypatch.setattr(tools.os, "geteuid", lambda: 0)
    monkeypatch.setattr(tools, "_run", lambda *_: "no network")
    assert "(apt-get: no network)" in tools.browser()
    monkeypatch.setenv("CLIFFRACER_CHROMIUM", "/opt/browser")
    assert tools.browser() == ""


def test_a_command_that_fails_tells_its_last_line() -> None:
    """Whether it cannot be started or ends badly."""
    assert tools._run(["sh", "-c", "echo one; echo two >&2; exit 3"], {}) == "two"
    assert "no-such-program" in tools._run(["no-such-program"], {})
    assert tools._run(["true"], {}) == ""
