"""The log as lines on standard error, set up and taken away by each test."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cliffracer.context import Context, current
from cliffracer.observability import logs
from cliffracer.settings import Settings

TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"


class Lines:
    """What was logged since the last look."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read

    def text(self) -> str:
        """All of it."""
        found: str = self._read().err
        return found

    def all(self) -> list[dict[str, Any]]:
        """Each line, decoded."""
        return [json.loads(line) for line in self.text().splitlines()]

    def one(self) -> dict[str, Any]:
        """The only line."""
        (line,) = self.all()
        return line


@pytest.fixture
def configure(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Lines]]:
    """Set the log up by settings and return its lines."""

    def configured(**settings: Any) -> Lines:
        root = logging.getLogger()
        for handler in root.handlers[:]:
            if type(handler).__module__.startswith("_pytest"):  # it keeps what libraries log as it is, with the secrets that we hide
                root.removeHandler(handler)
        logs.configure(Settings(**settings))
        return Lines(capsys.readouterr)

    yield configured
    logs.reset()


@pytest.fixture
def lines(configure: Callable[..., Lines]) -> Lines:
    """The lines of a log that is set up for JSON."""
    return configure(log_format="json", log_level="TRACE")


@pytest.fixture
def call() -> Iterator[Context]:
    """A call that runs."""
    context = Context(service="users", handler="create", kind="rpc", found_id="c-1", found_trace=TRACEPARENT)
    token = current.set(context)
    yield context
    current.reset(token)
