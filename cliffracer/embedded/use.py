"""Using the servers of a project: the first to come starts them, the last to leave stops them."""

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from cliffracer.embedded import binaries
from cliffracer.embedded.folder import prepare
from cliffracer.embedded.lease import Lease, leased
from cliffracer.errors import SetupError

log = logging.getLogger("cliffracer.embedded")

PATIENCE = 60.0
"""Seconds for a server to come up: the first start of PostgreSQL makes a cluster."""
LOOK = 0.5
"""Seconds between two checks that the supervisors are alive."""


class Urls(NamedTuple):
    """The URLs of the servers; None for one that was not asked for."""

    nats_url: str | None
    database_url: str | None
    """For the superuser, who can create further databases."""


@contextmanager
def servers(*, nats: bool = True, database: bool = False, folder: Path | None = None) -> Iterator[Urls]:
    """Run real servers for the block, shared by all users of this project folder. Blocks up to a minute; any thread, any number of times.

    Without ``folder``, the project around the current folder. SetupError says what is missing and what to do about it.
    """
    refuse_in_production(nats=nats, database=database)
    if sys.platform == "win32":
        raise SetupError("Embedded servers need Linux or macOS; on Windows set NATS_URL and DATABASE_URL.")
    grace = _grace()
    deadline = time.monotonic() + PATIENCE
    asked = [kind for kind, wanted in (("nats", nats), ("postgres", database)) if wanted]
    with ExitStack() as stack:
        leases = {kind: _lease(kind, folder, grace) for kind in asked}
        for lease in leases.values():
            stack.enter_context(leased(lease, deadline))
        urls = {kind: lease.url(deadline) for kind, lease in leases.items()}
        stack.enter_context(_guarded(tuple(leases.values())))
        yield Urls(urls.get("nats"), urls.get("postgres"))


def refuse_in_production(env: str | None = None, *, nats: bool = True, database: bool = True) -> None:
    """Raise SetupError that names the variables to set if ``env``, by default ``CLIFFRACER_ENV``, is production."""
    if (env or os.environ.get("CLIFFRACER_ENV", "")).strip().lower() == "production":
        names = " and ".join(name for name, wanted in (("NATS_URL", nats), ("DATABASE_URL", database)) if wanted)
        raise SetupError(f"Embedded servers are for development, and the environment is production: set {names}.")


def _lease(kind: str, place: Path | None, grace: float) -> Lease:
    binary = binaries.nats_server() if kind == "nats" else binaries.postgres()
    return Lease(kind, prepare(place, kind), binary, grace)


def _grace() -> float:
    """Return for how many seconds servers stay after their last user, so that a restart finds them warm."""
    text = os.environ.get("CLIFFRACER_DEV_GRACE") or "5"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 86_400:
        raise SetupError(f"CLIFFRACER_DEV_GRACE must be a number of seconds from 0 to 86400, not {text!r}.")
    return seconds


@contextmanager
def _guarded(leases: tuple[Lease, ...]) -> Iterator[None]:
    """Restart killed supervisors while the block runs."""
    left = threading.Event()
    guard = threading.Thread(target=_guard, args=(leases, left), name="cliffracer-embedded", daemon=True)
    guard.start()
    try:
        yield
    finally:
        left.set()
        guard.join()


def _guard(leases: tuple[Lease, ...], left: threading.Event) -> None:
    pause = LOOK
    while not left.wait(pause):
        try:
            revived = [lease.kind for lease in leases if lease.ensure()]
        except (SetupError, OSError) as error:
            log.warning("embedded servers cannot be brought back: %s", error)
            pause = min(pause * 2, 60.0)
            continue
        if revived:
            log.warning("the supervisor of the embedded %s was gone and has been started again", " and ".join(revived))
        pause = min(pause * 2, 60.0) if revived else LOOK  # one that keeps failing must not be started twice a second
