"""How calls and events begin that nobody is behind, such as those of a script: ids of their own, and of calls the whole header block.

Of such a block all stands ready but a number, which is put where its ids are: written anew, it costs as much as all else of a call.
"""

from cliffracer.context import ids_of, new_numbers
from cliffracer.wire.calls import write_call

_PLACE = b"#" * 16  # as long as a number, and in nothing else of a block
_MOST = 1000  # blocks that are kept: who calls with the time that is left of some has another each time


class Beginnings:
    """Those of one connection, whose thread alone uses it."""

    __slots__ = ("_blocks", "_numbers")

    def __init__(self) -> None:
        self._blocks: dict[float, list[bytes]] = {}
        self._numbers: list[bytes] = []

    def ids(self) -> tuple[str, str]:
        """Return the correlation id and the trace of what begins now."""
        return ids_of((self._numbers or self._more()).pop().decode())

    def block(self, seconds: float) -> bytes:
        """Return the header block of a call that may take so long."""
        return (self._numbers or self._more()).pop().join(self._blocks.get(seconds) or self._block(seconds))

    def _more(self) -> list[bytes]:
        self._numbers = new_numbers()
        return self._numbers

    def _block(self, seconds: float) -> list[bytes]:
        block = write_call(*ids_of(_PLACE.decode()), seconds).split(_PLACE)
        if len(self._blocks) >= _MOST:
            self._blocks.clear()  # what most calls have is back with the next of them
        self._blocks[seconds] = block
        return block
