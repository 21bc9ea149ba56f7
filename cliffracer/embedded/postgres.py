"""The PostgreSQL server of a folder: a Unix socket that only its owner can reach, no TCP, a cluster made on first use.

Standard library only: the supervisor starts without the rest of the package.
"""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

from cliffracer.embedded.accounts import Account, hand_over, ordinary
from cliffracer.embedded.children import StartFailed, await_ready, spawn
from cliffracer.embedded.journal import tail

SOCKET = ".s.PGSQL.5432"
LONGEST = 103 if sys.platform == "darwin" else 107
"""Bytes that a Unix socket's path may have (``sun_path`` without its final NUL)."""

INITDB = (
    "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
    "--no-sync", "--no-instructions", "--wal-segsize=1",
)  # fmt: skip
# Commits are synced as in production: with synchronous_commit=off a killed server loses the last half second of them.
OPTIONS = (
    "listen_addresses=", "unix_socket_permissions=0700", "max_connections=200", "shared_buffers=32MB",
    "io_method=sync", "wal_level=minimal", "max_wal_senders=0", "max_wal_size=256MB", "jit=off", "timezone=UTC", "log_timezone=UTC",
)  # fmt: skip
SPARE = b"".join(b"CREATE DATABASE cliffracer_test_kept_%d TEMPLATE template1 STRATEGY file_copy;\n" % number for number in (1, 2))
"""Empty databases that are created with a cluster, under names that tests take for free ones: the first test waits for no copy."""


class Postgres:
    """How to start and stop a PostgreSQL in its folder; trust is safe because the socket's folder is 0700."""

    polite = signal.SIGINT
    harsh = signal.SIGQUIT

    def __init__(self, folder: Path, binary: Path) -> None:
        self.folder = folder
        self.binary = binary
        self.log = folder / "server.log"
        self.data = folder / _major(binary)
        self.account: Account | None = None
        self.socket = folder / "socket"

    @property
    def url(self) -> str:
        """The URL for the superuser, once it is started."""
        return f"postgresql://postgres@/postgres?host={self.socket}"

    def start(self, alive: int) -> subprocess.Popen[bytes]:
        """Return the running server, ready to be used; the caller holds its lock, so other signs of a running one are stale."""
        try:
            self.account = ordinary(self.folder, self.binary)
        except PermissionError as error:
            raise StartFailed(str(error)) from error
        if not (self.data / "PG_VERSION").exists():
            self._create(alive)
        hand_over(self.data, self.account)
        self.socket = self._socket_folder()
        for stale in (self.data / "postmaster.pid", self.socket / SOCKET, self.socket / (SOCKET + ".lock")):
            stale.unlink(missing_ok=True)
        options = [part for option in OPTIONS for part in ("-c", option)]
        child = self._spawn("postgres", "-D", self.data, "-k", self.socket, *options, alive=alive)
        if not await_ready(child, self._is_ready, 60.0):
            raise StartFailed(f"PostgreSQL did not start (to begin anew, remove {self.folder}); {self.log} ends with:\n{tail(self.log)}")
        return child

    def close(self) -> None:
        """Remove what is outside the folder."""
        if self.socket.parent != self.folder:
            shutil.rmtree(self.socket, ignore_errors=True)

    def _create(self, alive: int) -> None:
        """Make the cluster in a temporary place and move it when complete, so that an interruption leaves nothing incomplete."""
        draft = self.folder / "initdb"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        hand_over(draft, self.account)
        child = self._spawn("initdb", "-D", draft, *INITDB, alive=alive)
        if child.wait() != 0:
            raise StartFailed(f"initdb failed; {self.log} ends with:\n{tail(self.log)}")
        child = self._spawn("postgres", "--single", "-F", "-c", "log_checkpoints=off", "-D", draft, "template1", alive=alive, given=SPARE)
        if child.wait() != 0:
            raise StartFailed(f"the new cluster does not work; {self.log} ends with:\n{tail(self.log)}")
        draft.replace(self.data)

    def _spawn(self, program: str, *arguments: str | Path, alive: int, given: bytes = b"") -> subprocess.Popen[bytes]:
        command = (self.binary.with_name(program), *arguments)
        return spawn(command, cwd=self.folder, log=self.log, alive=alive, on_death=self.polite, account=self.account, given=given)

    def _is_ready(self) -> bool:
        try:
            return (self.data / "postmaster.pid").read_text(errors="replace").splitlines()[7].strip() == "ready"
        except (FileNotFoundError, IndexError):
            return False

    def _socket_folder(self) -> Path:
        """Return a private folder whose path fits into a socket address and needs no quoting; a short one elsewhere if ours does not."""
        place = self.folder / "socket"
        if not _fits(place):
            place = self._short_folder()
        place.mkdir(mode=0o700, exist_ok=True)
        hand_over(place, self.account)
        return place

    def _short_folder(self) -> Path:
        note = self.folder / "socket.path"
        known = Path(note.read_text()) if note.exists() else None
        if known is not None and _fits(known) and _belongs_to(known, {os.geteuid(), self.account.uid if self.account else os.geteuid()}):
            return known
        for base in (os.environ.get("TMPDIR", ""), "/tmp"):  # noqa: S108 - see mkdir
            place = Path(base, f"cliffracer-{os.urandom(6).hex()}")
            if _fits(place) and place.parent.is_dir():
                place.mkdir(mode=0o700)  # fails if anything has that name, a link too
                note.write_text(str(place))
                return place
        raise StartFailed(f"the path {self.folder} is too long or too odd for a Unix socket, and so is TMPDIR: set TMPDIR to a short path")


def _fits(folder: Path) -> bool:
    return re.fullmatch(r"/[\w./@+-]+", str(folder), re.ASCII) is not None and len(os.fsencode(folder / SOCKET)) <= LONGEST


def _belongs_to(folder: Path, owners: set[int]) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077 and found.st_uid in owners


def _major(binary: Path) -> str:
    """Return the major version from ``pginstall18/bin/postgres``: data of another one must not be opened."""
    found = re.search(r"pginstall(\d+)", str(binary))
    return f"data-{found[1]}" if found else "data"
