"""One connection through psycopg: runs statements within their deadlines, and can be mended if a caller left in the middle of one."""

import asyncio
import logging
import select
from bisect import bisect_left
from collections.abc import AsyncGenerator, Iterable
from time import monotonic
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.waiting import wait_async

from cliffracer.database.copying import CHUNK, until_done
from cliffracer.database.diagnostics import with_diagnostics
from cliffracer.database.failures import aborted, read_only, translate, unsent
from cliffracer.database.link import Copy, Link, Params, Statement
from cliffracer.database.session import SESSION, Session, alters, connect
from cliffracer.database.table import UNSENDABLE
from cliffracer.errors import DeadlineExceeded, Internal, ServiceError, Unavailable

log = logging.getLogger("cliffracer.database")

Cursor = psycopg.AsyncCursor[Any]

CANCEL_WITHIN = 5.0
KEPT_ROWS = 200
"""A cursor that holds more rows than this is not kept, or an idle connection would pin them."""

STEPS = [round(step * 10**power) for power in range(1, 7) for step in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
"""`statement_timeout` in ms is rounded up to one of these, or each call would pay a round trip to set its own.
The exact deadline is kept by us, with a cancel request; the server's limit is for a client that has died."""


async def open_link(url: str, name: str) -> "PostgresLink":
    """Return a new connection."""
    return PostgresLink(await connect(url, name=name))


class PostgresLink(Link):
    """A `Link` over psycopg."""

    __slots__ = ("_altered", "_apart", "_begun", "_cursor", "_doomed", "_limit", "_poll", "_reading", "_undo", "session")

    def __init__(self, session: Session) -> None:
        super().__init__(asyncio.get_running_loop().time())
        self.session = session
        self._cursor = session.cursor(binary=True)
        self._limit = 0
        self._apart: asyncio.Task[int] | None = None
        self._doomed = self._altered = False
        self._begun = self._reading = False
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
        except (KeyError, psycopg.DataError, *UNSENDABLE) as error:
            made = Internal("a stored value does not fit its type")
            made.add_note(
                "A row holds what the Struct does not allow: it was written under another version of it, or by hand; or a query gives "
                "another type than the one that it is asked for."
            )
            raise with_diagnostics(made, statement.text) from error
        except psycopg.Error as error:
            raise with_diagnostics(translate(error, statement.table), statement.text) from error
        if len(found) > KEPT_ROWS:
            self._cursor = self.session.cursor(binary=True)
        return found

    async def run(self, statement: Statement, params: Params, deadline: float | None) -> int:
        """Run one statement and return how many rows it touched."""
        return (await self._execute(statement, params, deadline)).rowcount

    async def copy_in(self, copy: Copy, rows: Iterable[Any], deadline: float | None) -> int:
        """Send rows by COPY, in a task of its own: psycopg would hold a cancelled caller until the server has answered."""
        await self._ready(deadline)
        self._apart = asyncio.create_task(self._copy_in(copy, rows))
        try:
            count = await asyncio.shield(self._apart)
        except asyncio.CancelledError:
            self._apart.cancel()
            raise
        except psycopg.Error as error:
            raise self._refusal(error, copy) from error
        finally:
            if self._apart.done():
                self._apart = None
        return count

    async def _copy_in(self, copy: Copy, rows: Iterable[Any]) -> int:
        cursor = self.session.cursor()
        async with cursor.copy(copy.text) as sink:
            if copy.types:
                sink.set_types(copy.types)
                for row in rows:
                    await sink.write_row(row)
            else:
                for chunk in rows:
                    await sink.write(chunk)
        return cursor.rowcount

    async def copy_out(self, statement: Statement, deadline: float | None) -> AsyncGenerator[bytes, None]:
        """Yield what COPY TO STDOUT gives, in chunks, read by a task of its own for the same reason."""
        await self._ready(deadline)
        chunks: asyncio.Queue[bytes] = asyncio.Queue(2)
        reading = self._apart = asyncio.create_task(self._copy_out(statement, chunks))
        try:
            async for chunk in until_done(chunks, reading, deadline):
                yield chunk
            reading.result()
        except psycopg.Error as error:
            raise with_diagnostics(translate(error), statement.text) from error
        finally:
            if reading.done():
                self._apart = None
            reading.cancel()

    async def _copy_out(self, statement: Statement, chunks: "asyncio.Queue[bytes]") -> int:
        size, gathered = 0, bytearray()
        async with self.session.cursor().copy(statement.text) as source:
            async for chunk in source:  # one per row
                gathered += chunk
                if len(gathered) >= CHUNK:
                    size += len(gathered)
                    await chunks.put(bytes(gathered))
                    gathered.clear()
        await chunks.put(bytes(gathered))
        return size + len(gathered)

    async def script(self, text: str, deadline: float | None) -> None:
        """Run our own statements, several at once if need be."""
        await self._ready(deadline)
        if text.startswith("BEGIN"):
            self._begun, self._reading = True, text.endswith("READ ONLY")
        await self._plainly(text)

    async def restore(self) -> None:
        """Undo what a migration has set for the session, inside a transaction too; locks and temporary tables stay until `mend`."""
        self._altered = True
        await self.script(f"RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; {SESSION}", None)

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
            made = translate(error)
            if self.session.closed or self.busy():
                made.details["outcome"] = "unknown"  # the server may have committed before it could say so
            raise with_diagnostics(made, "COMMIT") from error
        self.session.unhurried = self._begun = False

    async def rollback(self, deadline: float | None) -> None:
        """Undo the transaction."""
        await self._finish()
        limit = monotonic() + CANCEL_WITHIN
        self.session.deadline = limit if deadline is None else min(limit, deadline)
        self._undo, self._limit = None, -1  # a SET inside it is undone as well
        await self._plainly("ROLLBACK")
        self._begun = False

    def undo(self, savepoint: str) -> None:
        """Undo what came after a savepoint, before the next statement is run."""
        self._undo = savepoint

    def broken(self) -> bool:
        """Say whether the open transaction can only be rolled back."""
        return self.session.pgconn.transaction_status == TransactionStatus.INERROR

    def busy(self) -> bool:
        """Say whether a statement still runs that nobody waits for any more."""
        return self.session.unfinished is not None or self._apart is not None

    def alive(self) -> bool:
        """Say whether it is alive: whatever the server sends to an idle connection means that it closes it."""
        return self.session.pgconn.status == ConnStatus.OK and not self._poll.poll(0)

    def clean(self) -> bool:
        """Say whether the connection may go to another task as it is."""
        connection = self.session.pgconn
        at_rest = connection.transaction_status == TransactionStatus.IDLE and connection.status == ConnStatus.OK
        return at_rest and not (self._doomed or self._altered)

    async def mend(self) -> None:
        """Stop what still runs, roll back what is open, and undo what was set for the session."""
        if self._doomed:
            raise psycopg.OperationalError("the server takes no changes")
        await self._finish()
        if self.session.pgconn.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
            await self.rollback(None)
        if self._altered:
            await self.session.execute("DISCARD ALL")
            self.session.forget_prepared()
            await self.session.execute(SESSION)
            self._limit = 0
            self._altered = False
        if not self.clean():
            raise psycopg.OperationalError("the connection is lost")

    def close(self) -> None:
        """Let go of the socket at once."""
        self.session.pgconn.finish()

    async def _execute(self, statement: Statement, params: Params, deadline: float | None, *, again: bool = True) -> Cursor:
        await self._ready(deadline)
        cursor = self.session.cursor() if statement.plain else self._cursor
        # Only a single statement can be prepared, so one that is injected behind a semicolon is refused, parameters or not.
        prepare = True if statement.plain and not params else None
        cursor.row_factory = statement.factory
        try:
            await cursor.execute(statement.text, params, prepare=prepare)
        except errors.FeatureNotSupported as error:
            if "cached plan" not in str(error):
                raise with_diagnostics(translate(error, statement.table), statement.text) from error
            if not again or self.broken():
                self.session.forget_prepared()
                raise Unavailable("the table was changed meanwhile; try again") from error
        except psycopg.Error as error:
            raise self._refusal(error, statement, deleting=statement.deleting) from error
        except UNSENDABLE as error:
            raise unsent(error) from None
        else:
            if statement.plain and alters(statement.text, cursor.statusmessage):
                self._altered = True
            return cursor
        await self._plainly("DEALLOCATE ALL")
        return await self._execute(statement, params, deadline, again=False)

    def _refusal(self, error: psycopg.Error, sent: Statement | Copy, *, deleting: bool = False) -> ServiceError:
        if isinstance(error, errors.ReadOnlySqlTransaction):
            if self._reading and self.session.pgconn.transaction_status != TransactionStatus.IDLE:
                return read_only()
            self._doomed = True  # after a failover this is a standby: the next connection finds the new primary
        made = translate(error, sent.table, deleting=deleting)
        if self.session.closed and not self._begun:
            made.details["outcome"] = "unknown"  # it may have been done and the answer lost; inside a transaction nothing of it is kept
        return with_diagnostics(made, sent.text)

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
            await self._plainly(f"ROLLBACK TO {savepoint}")
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
        await self._plainly(f"SET statement_timeout TO {wanted}")
        self._limit = wanted

    async def _plainly(self, text: str) -> None:
        try:
            await self.session.execute(text.encode())
        except psycopg.Error as error:
            raise with_diagnostics(translate(error), text) from error

    async def _finish(self) -> None:
        """Finish what a caller left unfinished: cancel it in the server, and read its end."""
        session = self.session
        if self._apart is not None:
            apart, self._apart = self._apart, None
            await asyncio.wait([apart], timeout=CANCEL_WITHIN)
            if not apart.done():
                session.pgconn.finish()
            elif not apart.cancelled():
                apart.exception()  # retrieved, or asyncio would log it
        rest, session.unfinished, session.deadline = session.unfinished, None, None
        if rest is None or session.pgconn.transaction_status != TransactionStatus.ACTIVE:  # psycopg finishes a COPY by itself
            return
        self._limit = -1
        self._cursor = session.cursor(binary=True)
        if not session.unhurried:
            await session.cancel_safe(timeout=CANCEL_WITHIN)
        committed, self.committed, session.unhurried = self.committed if session.unhurried else None, None, False
        try:
            await wait_async(rest, session.pgconn.socket, interval=0.1, timeout=CANCEL_WITHIN)
            if committed is not None:
                committed()
        except errors._WaitTimeout:  # noqa: SLF001 - that is what psycopg raises
            session.pgconn.finish()
            raise psycopg.OperationalError("the server did not stop the statement") from None
        except psycopg.Error as error:
            log.debug("a statement was stopped: %s", error.sqlstate)
