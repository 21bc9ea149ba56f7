"""How this process, and what it starts, hears a signal."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def heard(number: signal.Signals, by: signal.Handlers | Callable[..., Any]) -> Iterator[None]:
    """Have a signal go to a handler in here, whatever whoever started the tests made of it."""
    before = signal.signal(number, by)
    try:
        yield
    finally:
        signal.signal(number, before)
