"""Fails a test that does not end, with the place where it hangs: it would hold up all that come after it, and say nothing."""

import signal
from collections.abc import Generator
from typing import Any

import pytest

LONGEST = 400.0  # seconds; the slowest take one on a busy machine
AGAIN = 10.0  # seconds, in case something has swallowed the failure, as uvloop does; then nothing but an interrupt ends it


class Bounded:
    """The plugin: an alarm around each test, with what is set up and taken down for it."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Have the test interrupted when it takes too long."""
        rings = 0

        def ring(*_: object) -> None:
            nonlocal rings
            rings += 1
            text = f"{item.nodeid} does not end within {LONGEST:g} s"
            if rings > 2:
                raise KeyboardInterrupt(text)
            pytest.fail(text)

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, LONGEST, AGAIN)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
