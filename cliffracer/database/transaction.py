"""Transactions: one connection, held by one task. Everything that this task does joins it, no other task does."""

import asyncio
import inspect
import logging
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any, Literal

from cliffracer.database import outbox
from cliffracer.database.deadlines import deadline_now
from cliffracer.database.failures import aborted
from cliffracer.database.link import Copy, Link, Params, Statement
from cliffracer.database.pool import Pool
from cliffracer.database.queries import Queries
from cliffracer.database.suspicion import Mode
from cliffracer.errors import SetupError

log = logging.getLogger("cliffracer.database")

Isolation = Literal["read committed", "repeatable read", "serializable"]
ISOLATIONS = {"read committed", "repeatable read", "serializable"}


class Transacting(Queries):
    """A database as its transactions know it; `Database` is the only one."""

    __slots__ = ()
    relays: list[Any]
    """What publishes its outbox in this process."""

    @property
    @abstractmethod
    def shards(self) -> tuple["Transacting", ...]:
        """The databases that it is made of: itself, or several."""

    @abstractmethod
    def joined(self) -> "Transaction | None":
        """Return the transaction that this task has open."""

    @abstractmethod
    def transaction(self, *, isolation: Isolation | None = None, readonly: bool = False) -> AbstractAsyncContextManager["Transaction"]:
        """Open a transaction for this task, or a savepoint in the one that it has open."""

    @abstractmethod
    def wake_relays(self) -> None:
        """Let the relays of this process look into the outbox now."""


class Transaction(Queries):
    """An open transaction: provided to a handler that asks for it, and then around the whole handler.

    Repositories and the `Database` join it by themselves, so most handlers only need it to be there.
    """

    __slots__ = ("callbacks", "database", "depth", "link", "open", "outer", "task", "told")

    def __init__(self, database: Transacting, link: Link, outer: "Transaction | None", depth: int = 0) -> None:
        self.database = database
        self.link = link
        self.outer = outer
        self.depth = depth
        self.task = asyncio.current_task()
        self.open = True
        self.told = False
        self.callbacks: list[Callable[[], object]] = [] if outer is None or depth == 0 else outer.callbacks

    @property
    def suspicious(self) -> Mode:
        """What is done about values that look like an attack."""
        return self.database.suspicious

    @property
    def linting(self) -> bool:
        """Whether calls are looked at for queries that are put together from values."""
        return self.database.linting

    def joined(self) -> "Transaction":
        """Return this transaction."""
        return self

    def transaction(self) -> AbstractAsyncContextManager["Transaction"]:
        """Set a savepoint: what is in the block is undone alone if it raises."""
        self._check()
        return self.database.transaction()

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call a function, async or not, once, when the whole transaction is committed; never if it is not, or if this savepoint is undone.

        One that fails is logged.
        """
        if callback not in self.callbacks:
            self.callbacks.append(callback)

    async def emit(self, subject: str, payload: bytes, headers: dict[str, str], message_id: str, key: str | None = None) -> None:
        """Store an event with this transaction: published after the commit, and only then; events of a key in order."""
        self._check()
        await outbox.add(self, subject, payload, headers, message_id=message_id, key=key)

    async def first_time(self, consumer: str, event_id: str) -> bool:
        """Say whether this transaction is the first to handle an event; its mark is kept with the transaction."""
        return await outbox.mark(self, consumer, event_id)

    async def marked(self, consumer: str, event_ids: Collection[str]) -> set[str]:
        """Return those of some events that were handled before."""
        return await outbox.marked(self, consumer, event_ids)

    async def mark_each(self, consumer: str, event_ids: Collection[str]) -> None:
        """Keep the marks of several events with the transaction; `outbox.Handled` if somebody else has handled one meanwhile."""
        await outbox.mark_each(self, consumer, event_ids)

    def tell(self) -> bool:
        """Say whether this transaction still has to notify the relays of other processes.

        A relay of this process is woken by the commit, and notifies the others itself if it is not its turn.
        """
        self.after_commit(self.database.wake_relays)
        if self.database.relays:
            return False
        level: Transaction | None = self
        while level is not None and level.link is self.link:
            if level.told:
                return False
            level = level.outer
        self.told = True
        return True

    async def rows(self, statement: Statement, params: Params = None) -> list[Any]:
        """Run one statement in this transaction and return its rows."""
        self._check()
        return await self.link.rows(statement, params, deadline_now())

    async def run(self, statement: Statement, params: Params = None) -> int:
        """Run one statement in this transaction and return how many rows it touched."""
        self._check()
        return await self.link.run(statement, params, deadline_now())

    async def copy(self, copy: Copy, rows: Iterable[Any]) -> int:
        """Send rows by COPY in this transaction."""
        self._check()
        return await self.link.copy_in(copy, rows, deadline_now())

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[Link, None]:
        """Hold the connection of this transaction."""
        self._check()
        yield self.link

    def _check(self) -> None:
        if not self.open:
            raise SetupError("This transaction is over. Use it inside its `async with` block only.")

    async def done(self) -> None:
        """Call the functions that wait for the commit."""
        for callback in self.callbacks:
            try:
                called = callback()
                if inspect.isawaitable(called):
                    await called
            except Exception:  # the commit stands, whatever a listener makes of it
                log.exception("a function that waited for the commit failed")

    def done_apart(self) -> None:
        """Call them in a task of its own: the task that committed has left."""
        task = asyncio.get_running_loop().create_task(self.done(), name="after a commit")
        _after_commit.add(task)
        task.add_done_callback(_after_commit.discard)


_after_commit: set[asyncio.Task[None]] = set()
_innermost: ContextVar[Transaction | None] = ContextVar("cliffracer_transaction", default=None)


def current_transaction(database: Transacting | None = None) -> Transaction | None:
    """Return the innermost transaction that this task has open (on a database); None if it has none."""
    return innermost() if database is None else database.joined()


def innermost(database: Transacting | None = None) -> Transaction | None:
    """Return the innermost transaction of this task (on exactly this database), or None."""
    found = _innermost.get()
    if found is None:
        return None
    task = asyncio.current_task()
    while found is not None:
        if found.task is task and found.open and (database is None or found.database is database):
            return found
        found = found.outer
    return None


@asynccontextmanager
async def outermost(database: Transacting, pool: Pool, isolation: Isolation | None, *, readonly: bool) -> AsyncGenerator[Transaction, None]:
    """Hold a connection and a transaction on it: committed at the end of the block, rolled back if it raises."""
    deadline = deadline_now()
    link = pool.take() or await pool.acquire_before(deadline)
    before = _innermost.get()
    transaction = Transaction(database, link, before)
    try:
        await link.script(_begin(isolation, readonly=readonly), deadline)
        _innermost.set(transaction)
        yield transaction
        link.committed = transaction.done_apart
        await link.commit(deadline_now())
    except Exception:  # whatever the block raised, it is undone before the error is seen
        await _undo(link)
        raise
    finally:
        # A cancelled task leaves at once: what it left open is rolled back by the pool, see Pool.give.
        transaction.open = False
        if _innermost.get() is transaction:
            _innermost.set(before)
        if not link.busy():  # else the pool sees what becomes of the COMMIT
            link.committed = None
        pool.give(link)
    await transaction.done()


@asynccontextmanager
async def nested(outer: Transaction, isolation: Isolation | None, *, readonly: bool) -> AsyncGenerator[Transaction, None]:
    """Set a savepoint inside an open transaction: kept at the end of the block, undone if it raises."""
    if isolation is not None or readonly:
        raise nested_options()
    before = _innermost.get()
    inner = Transaction(outer.database, outer.link, before, outer.depth + 1)
    waiting = len(inner.callbacks)
    savepoint = f"cliffracer_{inner.depth}"
    await outer.link.script(f"SAVEPOINT {savepoint}", deadline_now())
    _innermost.set(inner)
    try:
        yield inner
        if inner.link.broken():
            raise aborted()  # noqa: TRY301 - it is undone as any other error is
    except BaseException:  # cancelled, too: the outer transaction may go on without this part
        inner.link.undo(savepoint)
        del inner.callbacks[waiting:]
        raise
    else:
        await outer.link.script(f"RELEASE {savepoint}", deadline_now())
    finally:
        inner.open = False
        if _innermost.get() is inner:
            _innermost.set(before)


def nested_options() -> SetupError:
    """Return the error for options that no savepoint has."""
    return SetupError("A nested transaction is a savepoint: isolation and readonly are set on the outermost one.")


async def _undo(link: Link) -> None:
    if link.clean() or link.busy():
        return
    try:
        await link.rollback(deadline_now())
    except Exception as error:  # noqa: BLE001 - the first error is the one to report; the pool replaces the connection
        log.debug("a transaction could not be rolled back: %s", error)


def _begin(isolation: Isolation | None, *, readonly: bool) -> str:
    if isolation is not None and isolation not in ISOLATIONS:
        raise SetupError(f"isolation={isolation!r} is not one of: {', '.join(sorted(ISOLATIONS))}.")
    return f"BEGIN{f' ISOLATION LEVEL {isolation.upper()}' if isolation else ''}{' READ ONLY' if readonly else ''}"
