"""Fan-out of one message to many receivers in this process, in order, without holding the event loop until all have it."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

M = TypeVar("M")
SLICE = 250
"""Receivers per turn of the loop: each may cause a write of some microseconds."""
BEHIND = 64
"""Messages that may be under way to the later receivers; then the sender waits until the oldest has arrived."""


class Fanout(Generic[M]):
    """Calls every receiver with every message. A receiver must neither block nor raise, and may be called once more after it has left."""

    __slots__ = ("_behind", "_loop", "receivers")

    def __init__(self) -> None:
        self.receivers: dict[object, Callable[[M], None]] = {}
        self._behind: deque[tuple[M, list[Callable[[M], None]]]] = deque()
        self._loop = asyncio.get_running_loop()

    def put(self, message: M) -> None:
        """Hand a message to the current receivers: to the first ones at once, to the others in later turns of the loop."""
        if not self._behind and len(self.receivers) <= SLICE:
            for receive in list(self.receivers.values()):
                receive(message)
            return
        self._behind.append((message, list(self.receivers.values())))
        if len(self._behind) == 1:
            self._turn()
        elif len(self._behind) > BEHIND:
            self._hand_on(len(self.receivers))

    def _turn(self) -> None:
        if self._behind:
            self._hand_on(SLICE)
        if self._behind:
            self._loop.call_soon(self._turn)

    def _hand_on(self, most: int) -> None:
        message, receivers = self._behind[0]
        for receive in receivers[:most]:
            receive(message)
        del receivers[:most]
        if not receivers:
            self._behind.popleft()
