"""psycopg's connection, except that a caller leaves at its deadline, and at once when it is cancelled.

When a waiting task is cancelled, psycopg first asks the server to stop and waits for the answer: 11 s for a time-out
of 1 s when the network is cut. Here the caller leaves at once, and the pool mends the connection later.
"""

import asyncio
import enum
import logging
import re
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Format, TransactionStatus
from psycopg.waiting import wait_async

from cliffracer.errors import SetupError

DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "fallback_application_name": "cliffracer",
}
SESSION = """
SET timezone TO 'UTC'; SET datestyle TO 'ISO'; SET intervalstyle TO 'postgres'; SET client_encoding TO 'UTF8'; SET statement_timeout TO 0
"""
FINAL = (
    "password authentication failed", "does not exist", "no pg_hba.conf entry", "pg_hba.conf rejects", "no password", "SSL", "certificate",
    "private key file", "invalid",
)  # fmt: skip
"""Parts of libpq's messages (it has no error codes) which mean that another attempt would fail as well."""
PASSING = ("failed to resolve host", "SSL SYSCALL", "unexpectedly", "unexpected eof", "EOF detected", "is starting up", "is shutting down")
"""Parts which mean that another attempt may succeed, whatever else the message says: the connection was cut while it was made."""
CURES = (
    ("certificate verify failed", "Let sslrootcert in DATABASE_URL name the authority that signed its certificate."),
    ("does not match host name", "Let DATABASE_URL have the host name that its certificate is for."),
    ("does not support SSL", "Turn TLS on there (ssl = on), or take sslmode out of DATABASE_URL."),
    ("no encryption", "If it wants TLS, put sslmode=verify-full into DATABASE_URL."),
    ("valid client certificate", "It asks for a certificate of ours: put sslcert and sslkey into DATABASE_URL."),
    ("unknown ca", "It does not know who signed the sslcert of DATABASE_URL."),
    ("group or world access", "Make the sslkey of DATABASE_URL readable to its owner only: chmod 600."),
    ("key values mismatch", "The sslkey of DATABASE_URL is not that of its sslcert."),
)
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


class _WithoutValues(logging.Filter):
    """Makes psycopg log only the class and SQLSTATE of errors during its clean-up: the server's messages contain values of rows."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let it through without them."""
        if isinstance(record.args, tuple):
            record.args = tuple(_kind(part) if isinstance(part, psycopg.Error) and part.sqlstate else part for part in record.args)
        return True


def _kind(error: psycopg.Error) -> str:
    return f"{type(error).__name__} {error.sqlstate}"


logging.getLogger("psycopg").addFilter(_WithoutValues())


class RawJson(Loader):
    """Leaves documents as bytes, which msgspec then decodes into the field's type at once."""

    def load(self, data: Buffer) -> bytes:
        """Return the document."""
        return bytes(data)


class RawJsonb(Loader):
    """The same for the binary format of jsonb, which begins with a version byte."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        """Return the document."""
        return bytes(data)[1:]


class RawBinaryJson(RawJson):
    """The same for the binary format of json."""

    format = Format.BINARY


class Document(Dumper):
    """Sends dicts and Structs as jsonb."""

    oid = 3802

    def dump(self, obj: Any) -> bytes:
        """Return the document."""
        return msgspec.json.encode(obj)


class Member(Dumper):
    """Sends a member of an Enum as its value, as a Model keeps it. psycopg would send its name, which no row has."""

    def dump(self, obj: Any) -> bytes:
        """Return the value as text of any type."""
        return str(obj.value).encode()


class BinaryDocument(Dumper):
    """Sends documents in a binary COPY: those that are encoded already as they are."""

    oid = 3802
    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        """Return the document after its version byte."""
        return b"\x01" + (obj.encode() if isinstance(obj, str) else msgspec.json.encode(obj))


class Session(psycopg.AsyncConnection[Any]):
    """psycopg's connection, except that a caller leaves at its deadline, or at once when it is cancelled."""

    deadline: float | None = None
    unfinished: PQGen[Any] | None = None
    """The exchange with the server that was under way when the caller left."""
    unhurried: bool = False
    """Whether that is a COMMIT, which is waited for and not cancelled."""

    def forget_prepared(self) -> None:
        """Prepare everything anew: psycopg itself sees DISCARD ALL or ROLLBACK only where it has not counted one before."""
        self._prepared.clear()

    async def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for one exchange with the server."""
        if timeout is None and self.deadline is not None:
            timeout = max(0.0, self.deadline - monotonic())
        try:
            return await wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except (asyncio.CancelledError, errors._WaitTimeout):  # noqa: SLF001 - that is what psycopg raises
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.unfinished = gen
            raise


async def connect(url: str, *, name: str = "", prepare: int | None = 5) -> Session:
    """Return a new session; `SetupError` when the server will never let us in, psycopg's error when it may later."""
    given = parsed(url)
    _look_for_files(given)
    if name:
        given.setdefault("application_name", name)
    conninfo = make_conninfo("", **{**DEFAULTS, **given})
    try:
        session = await Session.connect(conninfo, autocommit=True, prepare_threshold=prepare)
    except psycopg.OperationalError as error:
        if any(sign in str(error) for sign in FINAL) and not any(sign in str(error) for sign in PASSING):
            cure = next((cure for sign, cure in CURES if sign in str(error)), "Check DATABASE_URL.")
            raise SetupError(f"PostgreSQL at {place_of(given)} refuses us: {_reason(error)}. {cure}") from None
        raise
    for kind, loader in (("json", RawJson), ("jsonb", RawJson), ("json", RawBinaryJson), ("jsonb", RawJsonb)):
        session.adapters.register_loader(kind, loader)
    for kind_ in (dict, msgspec.Struct):
        session.adapters.register_dumper(kind_, Document)
    session.adapters.register_dumper(None, BinaryDocument)
    session.adapters.register_dumper(enum.Enum, Member)
    try:
        await session.execute(SESSION)
    except BaseException:  # cancelled, too: not one socket is left behind
        session.pgconn.finish()
        raise
    return session


_BEGINS = re.compile(
    r"(\s+|--[^\n]*|/\*(?s:.*?)\*/)*+"  # comments stand before it, too; what a DO block does is for PostgreSQL to read
    r"(set\s+(?!local\b|constraints\b|transaction\b)|do\b|reset\b|listen\b|prepare\b|load\b|create\s+((global|local)\s+)?temp)",
    re.IGNORECASE,
)
_HOLDS = re.compile(
    r"\bset_config\s*\(.*\bfalse\s*\)|\bpg_(try_)?advisory_lock(_shared)?\s*\(|\bwith\s+hold\b",
    re.IGNORECASE | re.DOTALL,
)
_TAGS = frozenset({"SET", "DO", "RESET", "LISTEN", "PREPARE", "LOAD"})


def alters(text: Any, tag: str | None) -> bool:
    """Say whether a hand-written statement leaves something in the session that the next call must not find there."""
    return _alters(text) if isinstance(text, str) else tag in _TAGS


@lru_cache(maxsize=1024)  # texts are written in the source, so they are few
def _alters(text: str) -> bool:
    return _BEGINS.match(text) is not None or _HOLDS.search(text) is not None


def place_of(conninfo: dict[str, Any]) -> str:
    """Return ``host:port/name`` of an address (``host:port,host:port/name`` of several hosts), without user and password."""
    hosts = str(conninfo.get("host") or conninfo.get("hostaddr") or "localhost").split(",")
    ports = str(conninfo.get("port") or 5432).split(",")
    places = ",".join(f"{host}:{port}" for host, port in zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=False))
    return f"{places}/{conninfo.get('dbname') or ''}".rstrip("/")


def parsed(url: str) -> dict[str, Any]:
    """Return the parts of an address; the error for a wrong one does not repeat it, as it may hold a password."""
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise SetupError("database_url is not a PostgreSQL address. Write postgresql://user:password@host:5432/name.") from None


def _look_for_files(given: dict[str, Any]) -> None:
    """Raise `SetupError` for a file that does not exist: libpq silently does without some of them."""
    for option in FILES:
        if given.get(option, "system") != "system" and not Path(given[option]).exists():
            raise SetupError(f"{option}={given[option]} in DATABASE_URL: there is no such file.")


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.rpartition("FATAL:" if "FATAL:" in text else " failed: ")[2].strip().rstrip(".") or text
