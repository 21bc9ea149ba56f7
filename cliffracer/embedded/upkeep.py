"""Administration of a project's servers: their status, stopping them, removing their data."""

import os
import shutil
import signal
from pathlib import Path
from typing import NamedTuple

from cliffracer.embedded import locks
from cliffracer.embedded.children import claim
from cliffracer.embedded.folder import locate
from cliffracer.errors import SetupError

KINDS = ("nats", "postgres")
_SHOWN = 4  # users that are named if a server has more


class Status(NamedTuple):
    """What is known of one server of a project."""

    kind: str
    running: bool
    in_use: bool
    url: str | None
    logs: tuple[Path, ...]


def status(folder: Path | None = None) -> list[Status]:
    """Return the state of each server that was ever started in the project; changes nothing."""
    return [_status(kind, place) for kind, place in _places(folder)]


def running(kind: str) -> str | None:
    """Return the URL of this project's server if it is running, else None. Nothing is started."""
    return next((found.url for found in status() if found.kind == kind and found.running), None)


def known(kind: str) -> bool:
    """Say whether the server of this project was ever started."""
    return any(found == kind for found, _ in _places(None))


def stop(folder: Path | None = None) -> None:
    """End the servers now instead of after the grace; SetupError if somebody uses them."""
    for kind, place in _places(folder):
        os.close(_alone(kind, place))


def refuse_if_used(folder: Path | None = None) -> None:
    """Raise SetupError that names the users of the servers, if there are any; nothing is changed."""
    for kind, place in _places(folder):
        os.close(_unused(kind, place))


def reset(folder: Path | None = None) -> None:
    """End the servers and forget everything that they stored; SetupError if somebody uses them."""
    for kind, place in _places(folder):
        users = _alone(kind, place)
        try:
            for entry in place.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.suffix != ".lock":  # removing a lock would let two users hold "it"
                    entry.unlink()
        finally:
            os.close(users)


def _places(folder: Path | None) -> list[tuple[str, Path]]:
    home = locate(folder)
    return [(kind, home / kind) for kind in KINDS if (home / kind / "users.lock").exists()]


def _status(kind: str, place: Path) -> Status:
    running = locks.is_held(place / "alive.lock")
    url = place / "url"
    return Status(
        kind,
        running=running,
        in_use=running and locks.is_held(place / "users.lock"),
        url=url.read_text().partition("\n")[0] if running and url.exists() else None,
        logs=tuple(sorted(place.glob("*.log"))),
    )


def _alone(kind: str, place: Path) -> int:
    """Return the users' lock, exclusively, once the server has ended; there can be no new user while it is held."""
    users = _unused(kind, place)
    try:
        (place / "stop").touch()
        supervisor = locks.wait(place / "supervisor.lock", exclusive=True, seconds=30.0)
        if supervisor is not None:
            os.close(claim(place / "alive.lock", signal.SIGTERM))
            (place / "stop").unlink(missing_ok=True)
            os.close(supervisor)
            return users
    except BaseException:  # interrupted, too: a lock that stays would count as a user of the servers
        os.close(users)
        raise
    os.close(users)
    raise SetupError(f"The supervisor of the embedded {kind} in {place.parent} does not end; see {place / 'supervisor.log'}")


def _unused(kind: str, place: Path) -> int:
    """Return the users' lock, exclusively; SetupError says who uses the server."""
    users = locks.wait(place / "users.lock", exclusive=True, seconds=1.0)
    if users is not None:
        return users
    found = [_named(pid) for pid in locks.holders(place / "users.lock")]
    by = f" by {', '.join(found[:_SHOWN])}{f' and {len(found) - _SHOWN} more' if found[_SHOWN:] else ''}" if found else ""
    whom = "it" if len(found) == 1 else "them" if found else "the programs that use it"
    raise SetupError(f"The embedded {kind} in {place.parent} is in use{by}; end {whom} first.")


def _named(pid: int) -> str:
    try:
        return f"{Path(f'/proc/{pid}/comm').read_text().strip()} (pid {pid})"
    except OSError:  # no /proc here, or it has just ended
        return f"pid {pid}"
