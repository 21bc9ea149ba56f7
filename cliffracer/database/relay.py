"""Publishes what the outbox holds. Every replica runs a relay, and one of them works at a time: any of them will do.

Rows are locked, published, deleted and committed. A relay that dies in between leaves them for the next, which
publishes them again under the same message id, so that the stream keeps one.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import msgspec

from cliffracer.database.database import Database
from cliffracer.database.link import Statement
from cliffracer.database.outbox import CHANNEL, TELL, forget
from cliffracer.database.queries import Queries
from cliffracer.errors import CliffracerError, DeadlineExceeded, ServiceError, Unavailable

log = logging.getLogger("cliffracer.database")

Publish = Callable[[str, bytes, dict[str, str], str], Awaitable[Any]]
"""``publish(subject, payload, headers, message_id)``: returns once the stream has stored it."""

TURN = 0x636C6966_6F757462
"""The advisory lock of the relay that is at work."""
TRIES = 10
"""An event is parked after so many failures that waiting would not cure."""
_BEGIN = Statement("SELECT pg_try_advisory_xact_lock(%s), set_config('idle_in_transaction_session_timeout', '30s', true)")
_BATCH = 2.0  # seconds that the end waits for what is being published
_LOOK = 0.3  # seconds that it waits for a look whether there is something
BYTES = 16 * 2**20
"""The largest batch, by its payloads; the last one may go over it."""
_PENDING = Statement(
    "SELECT id, subject, payload, headers, message_id, key, attempts FROM ("
    "SELECT *, sum(octet_length(payload)) OVER (ORDER BY id) - octet_length(payload) AS before FROM ("
    "SELECT id, subject, payload, headers, message_id, key, attempts FROM cliffracer_outbox "
    "WHERE parked_at IS NULL ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED) AS pending) AS summed WHERE before < %s ORDER BY id"
)
_TELL = Statement(TELL)
_DONE = Statement("DELETE FROM cliffracer_outbox WHERE id = ANY(%s)")
_FAILED = Statement(
    "UPDATE cliffracer_outbox SET attempts = attempts + 1, error = %s, parked_at = CASE WHEN %s THEN now() END WHERE id = %s"
)


class Relay:
    """Moves events from the outbox to the stream until it is stopped."""

    def __init__(
        self, database: Database, publish: Publish, *, batch: int = 500, every: float = 1.0, able: Callable[[], bool] = lambda: True
    ) -> None:
        self._database = database
        self._publish = publish
        self._able = able
        self._batch = batch
        self._every = every
        self._wake = asyncio.Event()
        self._committed = False
        self._stopping = False
        self.published = self.parked = self.failed = 0
        self.in_hand = 0
        """Events that are being published: at the end they are worth waiting for."""

    def wake(self, *, committed: bool = False) -> None:
        """Look for events now: this process has ``committed`` some, or another one has notified us."""
        self._committed = self._committed or committed
        self._wake.set()

    async def run(self) -> None:
        """Publish what is there and what comes, until cancelled."""
        pause, told = self._every, ""
        while not self._stopping:
            self._wake.clear()
            try:
                found = await self.pass_once()
            except Exception as error:  # noqa: BLE001 - whatever it is, a relay that gave up would keep events for ever
                if told != str(error):
                    told = str(error)
                    log.warning("the outbox cannot be published now: %s %s", error, " ".join(getattr(error, "__notes__", ())))
                found, pause = 0, min(pause * 2, 30.0)
            else:
                pause, told = self._every, ""
            finally:
                self.in_hand = 0
            if not found:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):  # `wait_for` loses a cancellation at the moment of a wake, on Python 3.11
                        await self._wake.wait()

    def stop(self) -> None:
        """End `run` after the batch it is at."""
        self._stopping = True
        self._wake.set()

    async def pass_once(self) -> int:
        """Publish one batch unless another relay is at work, and return how many events left the outbox."""
        failures: list[tuple[Any, Exception]] = []
        sent: list[int] = []
        parked = 0
        async with self._database.transaction() as transaction:
            committed, self._committed = self._committed, False
            mine = self._able() and (await transaction.rows(_BEGIN, [TURN]))[0][0]
            if committed and not mine:  # the relay at work may have looked before our commit, or there is none
                await transaction.rows(_TELL)
            rows = await transaction.rows(_PENDING, [self._batch, BYTES]) if mine else []
            self.in_hand = len(rows)
            chains: dict[Any, list[Any]] = {}
            for row in rows:
                chains.setdefault(row[0] if row[5] is None else row[5], []).append(row)
            await asyncio.gather(*(self._chain(chain, sent, failures) for chain in chains.values()))
            if sent:
                await transaction.run(_DONE, [sent])
            for row, error in failures:
                parked += await self._note(transaction, row, error)
        self.published += len(sent)
        if failures and not sent and not parked:
            raise Unavailable(f"nothing could be published: {failures[0][1]}") from failures[0][1]
        return len(sent) + parked

    async def _chain(self, rows: list[Any], sent: list[int], failures: list[tuple[Any, Exception]]) -> None:
        """Publish the events of one key one after the other; the first failure holds back the rest."""
        for row in rows:
            number, subject, payload, headers, message_id, *_ = row
            try:
                await self._publish(subject, bytes(payload), _headers(headers), message_id)
            except Exception as error:  # noqa: BLE001 - whatever the publisher raises, the event stays in the outbox
                failures.append((row, error))
                return
            sent.append(number)

    async def _note(self, transaction: Queries, row: Any, error: Exception) -> bool:
        """Store the error of a failure with the event, and say whether the event is parked now."""
        self.failed += 1
        if isinstance(error, ServiceError) and (error.retryable or isinstance(error, DeadlineExceeded)):
            return False
        final = isinstance(error, ServiceError) or row[6] + 1 >= TRIES
        await transaction.run(_FAILED, [f"{type(error).__name__}: {error}"[:500], final, row[0]])
        if final:
            self.parked += 1
            log.error("the event %s (%s) cannot be published and is parked: %s", row[4], row[1], error)
        return final


def _headers(document: bytes) -> dict[str, str]:
    decoded: dict[str, str] = msgspec.json.decode(document, type=dict[str, str])
    return decoded


@asynccontextmanager
async def relaying(
    database: Database, publish: Publish, *, batch: int = 500, every: float = 1.0, able: Callable[[], bool] = lambda: True
) -> AsyncGenerator[Relay, None]:
    """Publish the outbox for the length of the block; the batch in hand at its end is finished, within 2 s.

    Without one nothing is waited for: it only looks whether there is one, in a database that may hang.

    While it is not ``able`` to publish, it leaves the work to other replicas: the one at work keeps trying for seconds, and the others
    wait. Several databases have an outbox and a relay each; the first one's relay is yielded.
    """
    async with AsyncExitStack() as stack:
        relays = [Relay(shard, publish, batch=batch, every=every, able=able) for shard in database.shards]
        for relay, shard in zip(relays, database.shards, strict=True):
            await stack.enter_async_context(_relaying(relay, shard))
        yield relays[0]


@asynccontextmanager
async def _relaying(relay: Relay, database: Database) -> AsyncGenerator[Relay, None]:
    tasks = [asyncio.create_task(work) for work in (relay.run(), _listen(database, relay), _tidy(database))]
    database.relays.append(relay)
    try:
        yield relay
    finally:
        database.relays.remove(relay)
        relay.stop()
        try:
            await asyncio.wait(tasks[:1], timeout=_LOOK)
            if relay.in_hand:
                await asyncio.wait(tasks[:1], timeout=_BATCH - _LOOK)
        finally:  # cancelled, too
            for task in tasks:
                task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("the relay of the outbox failed", exc_info=result)


async def _listen(database: Database, relay: Relay) -> None:
    while True:
        try:
            async for _ in database.listen(CHANNEL):
                relay.wake()
        except CliffracerError as error:
            log.warning("the outbox of others is looked at now and then only: %s", error)
        await asyncio.sleep(5)


async def _tidy(database: Database) -> None:
    while True:
        try:
            await forget(database)
        except CliffracerError as error:
            log.warning("old marks could not be removed from the inbox: %s", error)
        await asyncio.sleep(3600)
