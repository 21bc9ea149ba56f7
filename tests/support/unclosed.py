"""Fails the test that leaves a socket, a file or a connection open, instead of the later one in which it happens to be collected.

What a test drops without closing warns when it is collected, and warnings are errors. Most of that is found by a look at what is young
after each test, which is cheap; the rest by a look at everything after each module.
"""

import gc
import sys
from collections.abc import Generator
from typing import Any

import pytest

YOUNG = 1  # the oldest generation that is looked at after each test


class Unclosed:
    """The plugin: collects after each test, and reports what complained."""

    def pytest_collection_finish(self) -> None:
        """Take what is there now out of the looks: modules and tests, which stay."""
        gc.collect()
        gc.freeze()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
        """Fail a test whose remains complain."""
        done = yield
        last = nextitem is None or nextitem.path != item.path
        if found := _complaints(2 if last else YOUNG):
            pytest.fail(f"left open by this test{' or one before it in this file' if last else ''}: {'; '.join(found)}", pytrace=False)
        return done


def _complaints(generation: int) -> list[str]:
    """Collect up to a generation, and return what finalizers said of it."""
    found: list[str] = []

    def note(unraisable: Any) -> None:
        found.append(f"{unraisable.exc_type.__name__}: {unraisable.exc_value}")

    before, sys.unraisablehook = sys.unraisablehook, note
    try:
        gc.collect(generation)
    finally:
        sys.unraisablehook = before
    return found
