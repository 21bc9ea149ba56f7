"""One connection through psycopg: answers at the deadline and at once when cancelled, and is mended afterwards.

psycopg itself, when a waiting task is cancelled, first asks the server to stop and waits for that: 11 s after a
time-out of 1 s when the network is cut. Here the caller goes at once, and the pool mends the connection later.
"""

import asyncio
import logging
import select
from bisect import bisect_left
from collections.abc import AsyncGenerator
from time import monotonic
from typing import Any

import msgspec
import psycopg
from psycopg import errors, sql
from psycopg.abc import PQGen
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ConnStatus, Format, TransactionStatus
from psycopg.waiting import wait_async

from cliffracer.database.failures import aborted, translate
from cliffracer.database.link import Link, Params, Statement
from cliffracer.errors import DeadlineExceeded, SetupError, Unavailable

log = logging.getLogger("cliffracer.database")

IDLE, ACTIVE = TransactionStatus.IDLE, TransactionStatus.ACTIVE
CANCEL_WITHIN = 5.0
KEPT_ROWS = 200
"""A cursor that holds more rows than this is not kept, or an idle connection would pin them."""

STEPS = [round(step * 10**power) for power in range(1, 7) for step in (1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.4, 8)]
"""`statement_timeout` in ms: rounded up to one of these, or each call would pay a round trip to set its own. The exact
limit is kept on this side, by a cancel request; the server's is for a client that is no longer there to send one."""

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
FINAL = ("password authentication failed", "does not exist", "no pg_hba.conf entry", "no password", "SSL", "certificate", "invalid")
"""Signs in libpq's messages (there is no code) that another attempt would fail as well."""


Cursor = psycopg.AsyncCursor[Any]


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


class Session(psycopg.AsyncConnection[Any]):
    """psycopg's connection, but whoever waits for it leaves at the deadline, or at once when cancelled."""

    deadline: float | None = None
    unfinished: PQGen[Any] | None = None
    """What was being waited for when the caller left."""
    unhurried: bool = False
    """What is unfinished is a COMMIT: it is waited for, not cancelled."""

    async def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for one exchange with the server."""
        if timeout is None and self.deadline is not None:
            timeout = max(0.0, self.deadline - monotonic())
        try:
            return await wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except (asyncio.CancelledError, errors._WaitTimeout):  # noqa: SLF001 - that is what psycopg raises
            if self.pgconn.transaction_status == ACTIVE:
                self.unfinished = gen
            raise


async def connect(url: str, *, name: str = "", prepare: int | None = 5) -> "PostgresLink":
    """Return a new connection; `SetupError` when the server will never let us in, psycopg's error when it may later."""
    given = parsed(url)
    if name:
        given.setdefault("application_name", name)
    conninfo = make_conninfo("", **{**DEFAULTS, **given})
    try:
        session = await Session.connect(conninfo, autocommit=True, prepare_threshold=prepare)
    except psycopg.OperationalError as error:
        if any(sign in str(error) for sign in FINAL):
            raise SetupError(f"PostgreSQL at {place_of(given)} refuses us: {_reason(error)}. Check DATABASE_URL.") from None
        raise
    for kind, loader in (("json", RawJson), ("jsonb", RawJson), ("json", RawBinaryJson), ("jsonb", RawJsonb)):
        session.adapters.register_loader(kind, loader)
    for kind_ in (dict, msgspec.Struct):
        session.adapters.register_dumper(kind_, Document)
    try:
        await session.execute(SESSION)
    except BaseException:
        session.pgconn.finish()
        raise
    return PostgresLink(session)


def place_of(conninfo: dict[str, Any]) -> str:
    """Return ``host:port/name`` of an address, without who and the password."""
    host = conninfo.get("host") or conninfo.get("hostaddr") or "localhost"
    return f"{host}:{conninfo.get('port') or 5432}/{conninfo.get('dbname') or ''}".rstrip("/")


def parsed(url: str) -> dict[str, Any]:
    """Return the parts of an address; the error for a wrong one does not repeat it, as it may hold a password."""
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise SetupError("database_url is not a PostgreSQL address. Write postgresql://user:password@host:5432/name.") from None


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()[-1]
    return text.rpartition("FATAL:")[2].strip() or text


class PostgresLink(Link):
    """A `Link` over psycopg."""

    __slots__ = ("_cursor", "_limit", "_poll", "_stale", "_undo", "session")

    def __init__(self, session: Session) -> None:
        super().__init__(asyncio.get_running_loop().time())
        self.session = session
        self._cursor = session.cursor(binary=True)
        self._limit = 0
        self._stale = False
        self._undo: str | None = None
        self._poll = select.poll()
        self._poll.register(session.pgconn.socket, select.POLLIN)

    async def rows(self, statement: Statement, params: Params, deadline: float | None) -> list[Any]:
        """Run one statement and return its rows, none for one that has no result."""
        cursor = await self._execute(statement, params, deadline)
        if cursor.pgresult is None or not cursor.pgresult.nfields:
            return []
        try:
            found = await cursor.fetchall()
        except psycopg.Error as error:
            raise translate(error, statement.table) from error
        if len(found) > KEPT_ROWS:
            self._cursor = self.session.cursor(binary=True)
        return found

    async def run(self, statement: Statement, params: Params, deadline: float | None) -> int:
        """Run one statement and return how many rows it touched."""
        return (await self._execute(statement, params, deadline)).rowcount

    async def script(self, text: str, deadline: float | None) -> None:
        """Run our own statements, several at once if need be."""
        await self._ready(deadline)
        try:
            await self.session.execute(text.encode())
        except psycopg.Error as error:
            raise translate(error) from error

    async def listen(self, channel: str) -> AsyncGenerator[str, None]:
        """Yield the payloads of notifications on a channel, until the connection is lost; then it raises."""
        try:
            await self.session.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            async for note in self.session.notifies():
                yield note.payload
        except psycopg.Error as error:
            raise translate(error) from error

    async def commit(self, deadline: float | None) -> None:
        """Commit; a transaction in which a statement failed is rolled back, and that is an error."""
        if self.broken():
            await self.rollback(deadline)
            raise aborted()
        await self._ready(deadline)
        self.session.unhurried = True
        try:
            await self.session.execute("COMMIT")
        except psycopg.Error as error:
            raise translate(error) from error
        self.session.unhurried = False

    async def rollback(self, deadline: float | None) -> None:
        """Undo the transaction."""
        await self._finish()
        self._undo = None
        limit = monotonic() + CANCEL_WITHIN
        self.session.deadline = limit if deadline is None else min(limit, deadline)
        self._limit = -1  # a SET inside it is undone as well
        try:
            await self.session.execute("ROLLBACK")
        except psycopg.Error as error:
            raise translate(error) from error

    def undo(self, savepoint: str) -> None:
        """Undo what came after a savepoint, before the next statement is run."""
        self._undo = savepoint

    def broken(self) -> bool:
        """Say whether the open transaction can only be rolled back."""
        return self.session.pgconn.transaction_status == TransactionStatus.INERROR

    def busy(self) -> bool:
        """Say whether a statement still runs that nobody waits for any more."""
        return self.session.unfinished is not None

    def alive(self) -> bool:
        """Look whether the server has said anything: to an idle connection that is its goodbye, or nothing worth keeping it for."""
        return self.session.pgconn.status == ConnStatus.OK and not self._poll.poll(0)

    def clean(self) -> bool:
        """Say whether the connection may go to another task as it is."""
        connection = self.session.pgconn
        return connection.transaction_status == IDLE and connection.status == ConnStatus.OK and not self._stale

    async def mend(self) -> None:
        """Stop what still runs, roll back what is open, forget plans that no longer hold."""
        await self._finish()
        if self.session.pgconn.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
            await self.rollback(None)
        if self._stale:
            await self.session.execute("DEALLOCATE ALL")
            self._stale = False
        if not self.clean():
            raise psycopg.OperationalError("the connection is lost")

    def close(self) -> None:
        """Let go of the socket at once."""
        self.session.pgconn.finish()

    async def _execute(self, statement: Statement, params: Params, deadline: float | None, *, again: bool = True) -> Cursor:
        await self._ready(deadline)
        cursor = self.session.cursor() if statement.plain else self._cursor
        cursor.row_factory = statement.factory
        try:
            await cursor.execute(statement.text, params)
        except errors.FeatureNotSupported as error:
            if "cached plan" not in str(error):
                raise translate(error, statement.table) from error
            if not again or self.broken():
                self._stale = True
                raise Unavailable("the table was changed meanwhile; try again") from error
        except psycopg.Error as error:
            raise translate(error, statement.table, deleting=statement.deleting) from error
        except UnicodeEncodeError as error:
            raise translate(error, statement.table) from None  # its text is the value
        else:
            return cursor
        await self.session.execute("DEALLOCATE ALL")
        return await self._execute(statement, params, deadline, again=False)

    async def _ready(self, deadline: float | None) -> None:
        """Set the limits of the next exchange."""
        session = self.session
        if session.unfinished is not None:
            await self._finish()
        session.unhurried = False
        session.deadline = deadline
        if self._undo is not None:
            self._limit = -1
            savepoint, self._undo = self._undo, None
            await session.execute(f"ROLLBACK TO {savepoint}".encode())
        if deadline is None:
            wanted = 0
        else:
            left = (deadline - monotonic()) * 1000
            if left <= 0:
                raise DeadlineExceeded("no time is left for the database")
            wanted = STEPS[bisect_left(STEPS, left)] if left <= STEPS[-1] else 0
        if wanted == self._limit or self.broken():
            return
        self._limit = -1
        try:
            await session.execute(f"SET statement_timeout TO {wanted}".encode())
        except psycopg.Error as error:
            raise translate(error) from error
        self._limit = wanted

    async def _finish(self) -> None:
        """See what was left unfinished to its end: cancelled in the server, if that still helps."""
        session = self.session
        rest, session.unfinished = session.unfinished, None
        session.deadline = None
        if rest is None:
            return
        self._limit = -1
        self._cursor = session.cursor(binary=True)
        if not session.unhurried:
            await session.cancel_safe(timeout=CANCEL_WITHIN)
        session.unhurried = False
        try:
            await wait_async(rest, session.pgconn.socket, interval=0.1, timeout=CANCEL_WITHIN)
        except errors._WaitTimeout:  # noqa: SLF001 - that is what psycopg raises
            session.pgconn.finish()
            raise psycopg.OperationalError("the server did not stop the statement") from None
        except psycopg.Error as error:
            log.debug("a statement was stopped: %s", error.sqlstate)
