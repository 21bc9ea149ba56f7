"""The log of a service: loguru, set up once; coloured lines on a terminal, JSON lines elsewhere, on standard error.

Every line inside a call says which: service, handler, correlation id, trace id, from `cliffracer.context.current`.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any, TextIO

import msgspec
from loguru import logger as log

from cliffracer.observability import standard
from cliffracer.observability.lines import call_fields, human_line, json_line, last_resort
from cliffracer.observability.redact import Redaction
from cliffracer.settings import Settings

__all__ = ["configure", "configure_tests", "configured", "is_human", "log", "reset", "write"]


class _Setup(msgspec.Struct):
    """What is installed now."""

    handler: int | None = None
    default: int = 0
    """Loguru's own, to standard error."""
    wanted: tuple[Any, ...] = ()


_setup = _Setup()
_WIDE = re.compile(r"[^\x00-\x7f]")


def configure(settings: Settings) -> None:
    """Set the log up by ``log_level`` and ``log_format``; again with other settings, only our own handler is replaced.

    Handlers that others added to loguru stay, its default one goes. Nothing is queued (loguru's ``enqueue`` pickles each record,
    which fails on some, and loses the last lines of a crash): a line is one write.
    """
    human, colour = is_human(settings), _in_colour()
    wanted = (settings, human, colour)
    if _setup.wanted == wanted:
        return
    previous = _present()
    _setup.handler = _added(settings, human=human, colour=colour)
    _setup.wanted = wanted
    _remove(previous)
    log.configure(patcher=_name_call)
    standard.route(min(log.level(settings.log_level).no, logging.CRITICAL))
    logging.captureWarnings(not human)  # elsewhere than on a terminal each line is JSON


def configured() -> Settings | None:
    """Return the settings by which `configure` has set it up, if it has."""
    return _setup.wanted[0] if _setup.wanted else None


def configure_tests(settings: Settings) -> None:
    """Have loguru write lines for people, as `cliffracer run` does on a terminal, where nobody took its default handler away.

    That one prints every frame down to the test runner's, with the values of variables. Standard logging is left to the test runner.
    """
    if _setup.wanted:
        return
    try:
        log.remove(_present())
    except ValueError:
        return  # whoever removed it writes lines of his own
    _setup.handler = _added(settings, human=settings.log_format != "json", colour=_in_colour())


def reset() -> None:
    """Take our handler away, put one like loguru's own in its place and leave standard logging as it was, for tests."""
    if _setup.handler is not None:
        _remove(_setup.handler)
        _setup.default = log.add(_written)
        log.configure(patcher=_nothing)
        standard.unroute()
        logging.captureWarnings(False)
    _setup.handler, _setup.wanted = None, ()


def is_human(settings: Settings) -> bool:
    """Say whether lines are for people: by ``log_format``, where ``auto`` asks whether standard error is a terminal."""
    if settings.log_format == "auto":
        return _is_terminal(sys.stderr)
    return settings.log_format == "human"


def write(text: str) -> None:
    """Write finished lines to standard error, as it is now; nothing without one."""
    stream: TextIO | None = sys.stderr
    if stream is not None:
        if (getattr(stream, "encoding", None) or "utf-8").lower() not in ("utf-8", "utf8"):
            text = _WIDE.sub(lambda found: json.dumps(found[0])[1:-1], text)
        stream.write(text)
        stream.flush()


def _present() -> int:
    return _setup.default if _setup.handler is None else _setup.handler


def _added(settings: Settings, *, human: bool, colour: bool) -> int:
    return log.add(
        _written,
        level=settings.log_level,
        format=_format(Redaction(settings), human=human, colour=colour),
        colorize=False,
        backtrace=False,
        diagnose=False,  # it prints the values of variables, which may be secrets
        catch=True,  # a closed standard error must not stop the service
    )


def _format(redacted: Redaction, *, human: bool, colour: bool) -> Callable[[Any], str]:
    """Make the line while loguru formats, not while it writes: then a value that logs when it is printed finds no lock held."""

    def formatted(record: Any) -> str:
        try:
            record["cliffracer_line"] = human_line(record, redacted, colour=colour) if human else json_line(record, redacted)
        except Exception:  # noqa: BLE001 - loguru would print the record as it is, secrets and all
            record["cliffracer_line"] = last_resort(record)
        return "{cliffracer_line}"

    return formatted


def _written(line: str) -> None:
    try:
        write(line)
    except (OSError, ValueError):  # standard error was closed: there is nobody to tell
        return


def _name_call(record: Any) -> None:
    for name, value in call_fields().items():
        record["extra"].setdefault(name, value)


def _nothing(record: Any) -> None:
    """Leave the record as it is."""


def _remove(handler: int) -> None:
    try:
        log.remove(handler)
    except ValueError:
        return  # somebody removed it before


def _in_colour() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (_is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb")


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()
