"""Routes the standard library's logging, and so every library's, into our log; and keeps the talkative ones quiet."""

import logging
import sys
from typing import Any

from loguru import logger

_KNOWN = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "asctime", "taskName"}
_QUIET = {
    "nats": logging.CRITICAL,  # the bus says one line per outage; nats-py some thirty
    "uvicorn": logging.WARNING,  # the ready line is ours
    "uvicorn.access": logging.CRITICAL,  # `log_calls` samples calls
    "websockets": logging.WARNING,
    "watchfiles": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
}


class Routed(logging.Handler):
    """Hands standard records on to loguru, with the name, function and line that logged them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit their message; the message is still worth reading
            message = str(record.msg)
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        fields = {name: value for name, value in record.__dict__.items() if name not in _KNOWN}
        place = {"name": record.name, "function": record.funcName, "line": record.lineno}

        def placed(found: Any) -> None:
            found.update(place)
            found["extra"].update(fields)

        logger.patch(placed).opt(exception=record.exc_info).log(level, message)


_routed = Routed()
_levels: dict[str, int] = {}  # the levels that we gave to others' loggers


def route(level: int) -> None:
    """Send everything of ``level`` and above to loguru; the talkative libraries are themselves only at TRACE."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler) is logging.StreamHandler and handler.stream in (sys.stdout, sys.stderr):
            root.removeHandler(handler)  # what basicConfig put there would say everything twice
    if _routed not in root.handlers:
        root.addHandler(_routed)
    root.setLevel(level)
    for name, quiet in _QUIET.items():
        library = logging.getLogger(name)
        if library.level in (logging.NOTSET, _levels.get(name)):  # else a user chose it
            _levels[name] = quiet if level >= logging.DEBUG else logging.NOTSET
            library.setLevel(_levels[name])


def unroute() -> None:
    """Leave the standard library's logging as it was."""
    root = logging.getLogger()
    root.removeHandler(_routed)
    root.setLevel(logging.WARNING)
    while _levels:
        name, level = _levels.popitem()
        if logging.getLogger(name).level == level:
            logging.getLogger(name).setLevel(logging.NOTSET)
