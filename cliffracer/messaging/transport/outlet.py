"""Writing: frames are gathered and written at once, per loop turn or per received chunk."""

import asyncio

MANY = 512  # frames that one write may join
LARGE = 16_384  # bytes of a payload that is written without waiting for others
_HIGH = 256 * 1024  # bytes that the socket may owe before publishes are held: what is in there cannot be called back


class Outlet:
    """The way out of one connection. `put`, written out where it is hot."""

    __slots__ = ("_loop", "_transport", "due", "frames")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.frames: list[bytes] = []
        self.due = False
        """Whether a write of what is in `frames` is coming anyway."""
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        transport.set_write_buffer_limits(_HIGH)

    def schedule(self) -> None:
        """Write what will have been gathered when this turn of the loop is over."""
        self.due = True
        self._loop.call_soon(self.write)

    def put(self, frame: bytes) -> None:
        """Take one frame."""
        self.frames.append(frame)
        if not self.due:
            self.schedule()
        elif len(self.frames) > MANY:
            self.write()

    def write(self) -> None:
        """Write everything that has been gathered."""
        self.due = False
        frames = self.frames
        if frames and not self._transport.is_closing():
            self._transport.write(b"".join(frames) if len(frames) > 1 else frames[0])
        frames.clear()
