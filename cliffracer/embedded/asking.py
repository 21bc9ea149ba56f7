"""Whether a server of a folder answers: one that hangs holds its locks, and the kernel takes connections for it all the same."""

import socket
from urllib.parse import parse_qs, urlsplit

from cliffracer.embedded.postgres import SOCKET

WITHIN = 1.0
"""Seconds that it has."""
_MAY_I_ENCRYPT = bytes.fromhex("0000000804d2162f")
"""PostgreSQL's SSLRequest, which is answered by one byte before anybody has to say who they are."""


def answers(url: str) -> bool:
    """Say whether the server at an embedded URL says a word within a second."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "nats":
            with socket.create_connection((parts.hostname or "", parts.port or 0), WITHIN) as asked:
                return asked.recv(5) == b"INFO "  # it speaks first
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(WITHIN)
            asked.connect(f"{parse_qs(parts.query)['host'][0]}/{SOCKET}")
            asked.sendall(_MAY_I_ENCRYPT)
            return asked.recv(1) in {b"S", b"N"}
    except OSError:
        return False
