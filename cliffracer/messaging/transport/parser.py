"""NATS's client protocol, from bytes as they arrive to function calls.

A chunk is searched with `bytes.find` and cut with slices: no object is made per message but what its receiver gets. nats-py's
parser matches regular expressions against a bytearray that it cuts at each message; it takes the control bytes VT and FF in a
peer's subject for blanks, so that the peer chooses the subscription that a message goes to, and stumbles over a CR in one.
nats-server lets all three through. Here only a blank is a blank and only LF ends a line.
"""

import time
from collections.abc import Callable

from cliffracer.messaging.transport.interface import Receive

_BURST = 8  # messages between two looks at the clock
_SLICE = 0.001  # seconds of one turn; what it receives is begun before the next one
_LONGEST_LINE = 1 << 20  # an INFO of a large cluster is some kilobytes


class ProtocolError(Exception):
    """The bytes are not NATS's protocol; what follows cannot be understood."""


class Parser:
    """Feeds messages to ``routes[subscription id]`` and all other lines to ``control``, in the order of arrival.

    A message for a subscription that is gone is dropped. ``failed`` is told of a receiver that raises.
    """

    __slots__ = ("_control", "_failed", "_have", "_need", "_parts", "_position", "_text", "routes")

    def __init__(self, routes: dict[bytes, Receive], control: Callable[[bytes], None], failed: Callable[[bytes, Exception], None]) -> None:
        self.routes = routes
        self._control = control
        self._failed = failed
        self._text = b""
        self._position = 0
        self._parts: list[bytes] = []  # of a message that is not complete yet
        self._have = 0
        self._need = 0

    def feed(self, chunk: bytes) -> bool:
        """Dispatch all that is complete; True when time is up and `resume` has more to do."""
        if self._parts:  # joined once, when all of it is here
            self._parts.append(chunk)
            self._have += len(chunk)
            if self._have < self._need:
                return False
            chunk = b"".join(self._parts)
            self._parts.clear()
            self._need = 0
        elif self._text:
            chunk = self._text[self._position :] + chunk
        self._text = chunk
        self._position = 0
        return self.resume()

    def resume(self) -> bool:  # noqa: C901, PLR0912 - one loop on purpose: a call per message costs as much as the parsing
        """Go on with what has been fed; True when time is up again."""
        text, position, routes, left, until = self._text, self._position, self.routes, _BURST, time.monotonic() + _SLICE
        find, end = text.find, len(text)
        while position < end:
            start = body = find(b"\n", position) + 1  # half the price of finding CRLF; the one byte that a subject cannot have
            if not start:
                break
            stop = start - 2
            if (first := text[position]) == 77:  # MSG <subject> <sid> [reply] <size>
                words = text[position + 4 : stop].split(b" ")
            elif first == 72:  # HMSG <subject> <sid> [reply] <header size> <size>
                words = text[position + 5 : stop].split(b" ")
                body += int(words.pop(-2))
            else:
                self._position, line, position = start, text[position:stop], start
                self._control(line)
                continue
            if len(words) == 4:
                subject, sid, reply, size = words
            else:
                (subject, sid, size), reply = words, b""
            ends = (after := start + int(size)) + 2
            if not start <= body <= after:
                raise ProtocolError("a size that cannot be")
            if ends > end:
                self._need = ends - position
                break
            position = ends
            receive = routes.get(sid)
            if receive is not None:
                try:
                    receive(subject, reply, text[start:body] if body > start else None, text[body:after])
                except Exception as error:  # noqa: BLE001 - a receiver's failure is its own and must not end the reader
                    self._failed(subject, error)
                except BaseException:  # the process is told to end: what follows is still there
                    self._position = position
                    raise
            left -= 1
            if not left:
                if time.monotonic() > until:
                    self._position = position
                    return position < end
                left = _BURST
        self._keep(position)
        return False

    def _keep(self, position: int) -> None:
        """Keep what is not complete yet: a line as it is, a message in parts until all of it has come."""
        rest = self._text[position:]
        self._text, self._position = b"", 0
        if self._need:
            self._parts.append(rest)
            self._have = len(rest)
        elif len(rest) > _LONGEST_LINE:
            raise ProtocolError("a line without end")
        else:
            self._text = rest
