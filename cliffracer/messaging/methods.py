"""All methods of one service on the bus, from subscribed to drained."""

import asyncio
from math import inf

from cliffracer.context import Context, new_id
from cliffracer.declarations import Rpc
from cliffracer.handler import Handler
from cliffracer.messaging.bus import Bus, Subscription
from cliffracer.messaging.claimcheck import ClaimCheck
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.rpc import RpcEndpoint
from cliffracer.resilience.deadlines import Watch
from cliffracer.signature import Signature
from cliffracer.wire.subjects import Subjects

_AS_GOOD_AS_OVER = 0.1  # seconds that a call may have left here when its caller reports its deadline


class RpcServer:
    """All methods of one service on the bus, and the subject on which their callers give up."""

    def __init__(self, bus: Bus, subjects: Subjects, service: str, watch: Watch, *, patience: float = inf) -> None:
        self._bus = bus
        self._subjects = subjects
        self._service = service
        self._patience = patience
        self._watch = watch
        self._running: dict[bytes, Context] = {}
        self._subscriptions: list[Subscription] = []
        self._others: list[Subscription] = []
        self.local = f"{subjects.local(service)}{new_id()}."
        """A subject by which handlers of this process still reach these methods while the service drains; nobody else knows it."""
        self.endpoints: list[RpcEndpoint] = []
        self._claims = ClaimCheck(JetStream(bus), subjects.namespace, "calls")

    def add(self, record: Rpc, signature: Signature, handler: Handler) -> None:
        """Add the endpoint of one method; it is served from `start` on."""
        subject = self._subjects.rpc(self._service, record.name)
        self.endpoints.append(RpcEndpoint(record, signature, handler, self._bus, subject, self._running, self._claims, self._patience))

    async def start(self) -> None:
        """Subscribe: requests come from the next flush of the bus on."""
        self._others.append(await self._bus.subscribe(self._subjects.cancel(self._service), self._cancel))
        self._others.append(await self._bus.subscribe(f"{self.local}*", self._from_inside))
        for endpoint in self.endpoints:
            self._subscriptions.append(await self._bus.subscribe(endpoint.subject, endpoint.receive, queue=self._service))

    async def stop_intake(self) -> None:
        """Take no new requests; when this returns, all that have arrived are being answered."""
        await asyncio.gather(*(subscription.drain() for subscription in self._subscriptions))
        self._subscriptions.clear()

    async def close(self) -> None:
        """End the remaining subscriptions: nothing is running any more that could be cancelled or could call."""
        for subscription in self._others:
            await subscription.close()
        self._others.clear()

    @property
    def busy(self) -> int:
        """How many calls have been accepted and not answered."""
        return sum(endpoint.busy for endpoint in self.endpoints)

    def _from_inside(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        method = subject.rpartition(b".")[2].decode("utf-8", "replace")
        for endpoint in self.endpoints:
            if endpoint.record.name == method:
                endpoint.receive(subject, reply, block, payload)

    def _cancel(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:  # noqa: ARG002 - the bus's shape
        context = self._running.get(payload)
        if context is not None:  # its time is almost up here: at the caller, who started counting a moment earlier, it is over
            left = context.remaining()
            self._watch.end(context, "cancelled" if left is None or left > _AS_GOOD_AS_OVER else "deadline")
