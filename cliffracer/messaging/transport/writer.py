"""Writing: the writer of one connection gathers frames, per loop turn or per received chunk, and writes them together.

Of many, the first are written as soon as they are half of what a turn makes: the server then handles those while the others are
made, and neither waits for the other. Where it has enough to do anyway (`Reader` sees that), all are written at the end.
"""

import asyncio

MANY = 3072  # parts that one write may join: about 512 frames
_WORTHWHILE = 80  # parts, about 16 frames: a write costs as much as to answer two calls or three
LARGE = 16_384  # bytes of a payload that is written without waiting for others
_HIGH = 256 * 1024  # bytes that the socket may owe before publishes are held: what is in there cannot be called back


class Writer:
    """The way out of one connection. `put`, written out where it is hot."""

    __slots__ = ("_loop", "_made", "_transport", "_written", "due", "most", "parts")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.parts: list[bytes] = []
        """Of the frames that are to be written, some bytes each: joined once, with all others."""
        self.due = False
        """Whether a write of what is in `parts` is coming anyway."""
        self.most = _WORTHWHILE
        """So many parts are not kept until then, but written at once by `relieve`."""
        self._made = 0  # parts in one turn, of late
        self._written = 0  # parts that `relieve` has written since the last `write`
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        transport.set_write_buffer_limits(_HIGH)

    def schedule(self) -> None:
        """Write what will have been gathered when this turn of the loop is over."""
        self.due = True
        self._loop.call_soon(self.write)

    def put(self, frame: bytes) -> None:
        """Take one frame."""
        self.parts.append(frame)
        if not self.due:
            self.schedule()
        elif len(self.parts) > self.most:
            self.relieve()

    def relieve(self) -> None:
        """Write what has been gathered so far, while more is being made."""
        self._written += len(self.parts)
        self._send()

    def write(self) -> None:
        """Write everything that has been gathered: no more is coming for now."""
        self.due = False
        parts = self.parts
        if self._written or len(parts) > _WORTHWHILE:
            self._made = max(self._written + len(parts), self._made * 9 // 10)  # half a turn is not halved again
            self._written = 0
            self.most = min(max(self._made // 2, _WORTHWHILE), MANY)
        if parts:
            self._send()

    def _send(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"".join(self.parts))
        self.parts.clear()
