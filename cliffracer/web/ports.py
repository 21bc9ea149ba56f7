"""Binds the port before anything else starts; the error for a taken port names the process that has it."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

from cliffracer.errors import SetupError

_LISTEN = "0A"
_CURES = {
    errno.EACCES: "Ports under 1024 need privileges: choose another, by HTTP_PORT or --port",
    errno.EADDRNOTAVAIL: "This machine has no such address: set HTTP_HOST or --host",
}


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket (port 0: any free one); it listens when serving starts. `SetupError` says who holds the port."""
    named = host.encode() if host.isascii() else host  # as text it would be looked up in tables of all letters, which are large
    try:
        family, _, _, _, address = socket.getaddrinfo(named, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no name of a host"
        raise SetupError(f"{host!r} is no address of this machine ({why}). Set HTTP_HOST or --host.") from None
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so that asyncio sets TCP_NODELAY
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise refused(host, port, error) from None
    return bound


def refused(host: str, port: int, error: OSError) -> SetupError:
    """Return the error for a port that cannot be bound."""
    if error.errno != errno.EADDRINUSE:
        return SetupError(f"Cannot listen on {host}, port {port}: {error.strerror}. {_CURES.get(error.errno or 0, 'Choose another')}.")
    holder = next(holders(port), None)
    by = f" by {holder}" if holder else ""
    return SetupError(f"Port {port} on {host} is in use{by}. Stop it, or choose another by HTTP_PORT or --port.")


def holders(port: int) -> Iterator[str]:
    """Yield who listens on a TCP port, ``python (pid 4321)``, as far as /proc lets us see."""
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening(Path("/proc/net") / table, port)}
    if not inodes:
        return
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(entry.readlink()) in inodes for entry in (process / "fd").iterdir()):
                yield f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:  # another user's process, or one that has ended
            continue


def _listening(table: Path, port: int) -> Iterator[str]:
    try:
        lines = table.read_text(encoding="ascii").splitlines()[1:]
    except OSError:  # no /proc here
        return
    for line in lines:
        fields = line.split()
        if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
            yield fields[9]
