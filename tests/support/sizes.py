"""How much the heavy tests do: enough to mean something, or with ``make test LONG=1`` all that was promised, which takes minutes."""

import os
from typing import TypeVar

LONG = bool(os.environ.get("TEST_LONG"))

T = TypeVar("T")


def sized(usual: T, long: T) -> T:
    """Return how much to do in this run."""
    return long if LONG else usual
