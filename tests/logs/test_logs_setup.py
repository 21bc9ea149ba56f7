"""How the log is set up, and what others' logging becomes."""

import io
import logging
import subprocess
import sys
import warnings

import pytest

from cliffracer.observability import logs
from cliffracer.observability.logs import log
from cliffracer.observability.standard import Routed
from cliffracer.settings import Settings


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_twice_is_once(configure) -> None:
    """Setting up again with the same settings adds no second handler."""
    lines = configure(log_format="json")
    lines = configure(log_format="json")
    log.info("x")
    assert lines.one()["message"] == "x"


def test_again_replaces_our_handler_only(configure) -> None:
    """Other settings replace our handler; a user's stays."""
    configure(log_format="human")
    mine: list[str] = []
    handler = log.add(mine.append, format="{message}")
    lines = configure(log_format="json", log_level="WARNING")
    log.info("low")
    log.warning("high")
    log.remove(handler)
    assert lines.one()["message"] == "high"
    assert [str(message) for message in mine] == ["low\n", "high\n"]


def test_a_handler_that_somebody_removed_is_no_trouble(configure) -> None:
    """After ``logger.remove()`` setting up works again."""
    configure(log_format="human")
    log.remove()
    assert configure(log_format="json").text() == ""
    log.info("x")


@pytest.mark.parametrize(
    ("terminal", "form", "human"), [(True, "auto", True), (False, "auto", False), (True, "json", False), (False, "human", True)]
)
def test_the_format_follows_the_terminal(monkeypatch: pytest.MonkeyPatch, terminal: bool, form: str, human: bool) -> None:
    """``auto`` is human on a terminal and JSON elsewhere; the others are what they say."""
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    assert logs.is_human(Settings(log_format=form)) is human


@pytest.mark.parametrize(("variable", "coloured"), [(None, True), ("NO_COLOR", False)])
def test_colours(monkeypatch: pytest.MonkeyPatch, variable: str | None, coloured: bool) -> None:
    """A terminal gets colours, unless NO_COLOR says otherwise."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    logs.configure(Settings())
    log.info("x \x1b[31m")
    logs.reset()
    assert ("\x1b[" in stream.getvalue()) is coloured
    assert "\\x1b[31m" in stream.getvalue()


def test_standard_logging_is_routed_in(lines, call) -> None:
    """A library's record is a line with its logger's name, its extra fields and the call it ran in."""
    logging.getLogger("some.library").warning("took %d ms", 5, extra={"table": "users"})
    line = lines.one()
    assert (line["message"], line["logger"], line["table"], line["service"], line["level"]) == (
        "took 5 ms",
        "some.library",
        "users",
        "users",
        "WARNING",
    )


def test_standard_exceptions_are_routed_in(lines) -> None:
    """``logging.exception`` has its traceback in the line."""
    logging.getLogger("lib").error("failed", exc_info=KeyError("k"))
    assert lines.one()["exception"]["type"] == "KeyError"


def test_a_standard_record_that_does_not_fit_is_logged(lines) -> None:
    """Arguments that do not fit their message lose themselves, not the message; odd levels keep their number."""
    Routed().emit(logging.LogRecord("lib", logging.WARNING, "x.py", 1, "took %d ms", ("long",), None))  # not by pytest's handlers
    logging.getLogger("lib").log(35, "braces {x} <red>")
    first, second = lines.all()
    assert (first["message"], second["message"], second["level"]) == ("took %d ms", "braces {x} <red>", "Level 35")


def test_standard_levels_follow(configure) -> None:
    """What is under the level is not even made a record."""
    lines = configure(log_format="json", log_level="ERROR")
    assert not logging.getLogger("lib").isEnabledFor(logging.WARNING)
    logging.getLogger("lib").error("x")
    assert lines.one()["level"] == "ERROR"


@pytest.mark.parametrize("name", ["nats.aio.client", "uvicorn.access", "uvicorn.error", "websockets.server", "watchfiles.main", "httpx"])
def test_talkative_libraries_are_quiet(configure, name: str, monkeypatch) -> None:
    """What nats-py, uvicorn and others say of each attempt and request is not logged, except at TRACE."""
    monkeypatch.setattr(logging.getLogger(name), "propagate", True)  # a uvicorn that ran in this process has turned it off
    monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    lines = configure(log_format="json", log_level="DEBUG")
    logging.getLogger(name).info("noise")
    assert lines.text() == ""
    lines = configure(log_format="json", log_level="TRACE")
    logging.getLogger(name).info("noise")
    assert lines.one()["message"] == "noise"


def test_a_level_that_a_user_chose_stays(configure) -> None:
    """A library's logger whose level a user has set is left alone."""
    library = logging.getLogger("httpx")
    library.setLevel(logging.INFO)
    lines = configure(log_format="json")
    library.info("wanted")
    logs.reset()
    assert lines.one()["message"] == "wanted"
    assert library.level == logging.INFO
    library.setLevel(logging.NOTSET)


def test_warnings_are_lines(lines) -> None:
    """Where lines are JSON, so are Python's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.reset()
        logs.configure(Settings(log_format="json"))
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        assert "DeprecationWarning: old" in lines.one()["message"]
        logs.reset()


def test_what_basic_config_installed_does_not_repeat(configure) -> None:
    """A plain handler to standard error on the root logger goes; others stay."""
    root = logging.getLogger()
    repeating, other = logging.StreamHandler(sys.stderr), logging.NullHandler()
    root.addHandler(repeating)
    root.addHandler(other)
    configure(log_format="json")
    assert repeating not in root.handlers
    assert other in root.handlers
    root.removeHandler(other)


def test_a_closed_standard_error_stops_nobody(configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging into a closed stream, or none, is silent."""
    configure(log_format="json")
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        monkeypatch.setattr(sys, "stderr", stream)
        log.info("x")


def test_a_stream_of_ascii_gets_valid_json(configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard error is not UTF-8, characters are escaped as JSON has them."""
    configure(log_format="json")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    log.info("é😀")
    assert b'"message":"\\u00e9\\ud83d\\ude00"' in stream.buffer.getvalue()  # type: ignore[attr-defined]


def test_a_line_that_cannot_be_made_is_told_without_its_values(configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours in making a line prints no record, since it may hold secrets."""
    lines = configure(log_format="json")

    def broken(*_: object) -> str:
        raise RuntimeError("defect")

    monkeypatch.setattr(logs, "json_line", broken)
    log.info("hunter2", password="hunter2")
    line = lines.one()
    assert (line["message"], line["level"], line["logger"]) == ("a line of the log could not be written", "INFO", __name__)


def test_app_needs_no_log() -> None:
    """The settings can be made without loguru."""
    code = "import sys, cliffracer.settings, cliffracer.context; print('loguru' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
