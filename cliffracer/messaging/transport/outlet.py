"""Writing: frames are gathered and written at once, per loop turn or per received chunk."""

import asyncio

MANY = 3072  # parts that one write may join: about 512 frames
LARGE = 16_384  # bytes of a payload that is written without waiting for others
_HIGH = 256 * 1024  # bytes that the socket may owe before publishes are held: what is in there cannot be called back


class Outlet:
    """The way out of one connection. `put`, written out where it is hot."""

    __slots__ = ("_loop", "_transport", "due", "parts")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.parts: list[bytes] = []
        """Of the frames that are to be written, some bytes each: joined once, with all others."""
        self.due = False
        """Whether a write of what is in `parts` is coming anyway."""
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
        elif len(self.parts) > MANY:
            self.write()

    def write(self) -> None:
        """Write everything that has been gathered."""
        self.due = False
        parts = self.parts
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))
        parts.clear()
