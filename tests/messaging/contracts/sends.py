"""What any backend does with one-way calls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cliffracer.errors import InvalidInput
from cliffracer.messaging.broker import Backend, Method
from cliffracer.messaging.duties import Sending
from tests.messaging.notes import Notes
from tests.support.events import event_headers
from tests.support.waiting import eventually


@asynccontextmanager
async def taking(backend: Backend, service: str = "payments", **methods: Method) -> AsyncIterator[Sending]:
    """Take the one-way calls of a service while the block runs."""
    found = backend.sends(service, methods)
    await found.start()
    try:
        yield found
    finally:
        await found.drain(5.0)


async def send(backend: Backend, number: int, method: str = "charge", service: str = "payments") -> None:
    """Store a one-way call."""
    headers = event_headers(f"{service}-{method}-{number}", f"{service}.{method}", "test")
    await backend.store(f"send.{service}.{method}", b"%d" % number, headers)


class SendsContract:
    """Stored until the service has handled them, however often its methods say."""

    async def test_calls_wait_for_a_service_that_was_never_there(self, backend: Backend) -> None:
        """Each goes to its method, and is gone when it was handled."""
        charge, refund = Notes(), Notes()
        for number in range(3):
            await send(backend, number)
        await send(backend, 7, "refund")
        await send(backend, 9, service="other")
        async with taking(backend, charge=Method(charge), refund=Method(refund)) as calls:
            await eventually(lambda: len(charge.seen) == 3 and refund.seen)
            while await calls.stored():  # noqa: ASYNC110 - it is the broker that knows
                await asyncio.sleep(0.01)
        assert (sorted(charge.payloads), refund.payloads) == ([b"0", b"1", b"2"], [b"7"])

    async def test_replicas_share_the_calls(self, backend: Backend) -> None:
        """Each goes to one of them."""
        one, other = Notes(), Notes()
        async with taking(backend, charge=Method(one)), taking(backend, charge=Method(other)):
            for number in range(30):
                await send(backend, number)
            await eventually(lambda: len(one.seen) + len(other.seen) == 30)
        assert sorted(one.payloads + other.payloads) == sorted(b"%d" % number for number in range(30))

    async def test_each_method_is_tried_as_often_as_it_says_and_its_call_is_parked_then(self, backend: Backend) -> None:
        """At once where the arguments do not fit; under the name of the method; a replay comes back to it."""
        broken = True
        charge = Notes(lambda delivery: ValueError("closed") if broken else None)
        refund, wrong = Notes(lambda _: ValueError("never")), Notes(lambda _: InvalidInput("no number"))
        methods = {"charge": Method(charge, (0.05, 0.05)), "refund": Method(refund, ()), "wrong": Method(wrong)}
        async with taking(backend, **methods) as calls:
            for number, method in enumerate(methods):
                await send(backend, number, method)
            letters = []
            while len(letters) < 3:
                letters = [letter async for letter in backend.dead.ls(service="payments")]
                await asyncio.sleep(0.01)
            assert {letter.function: letter.attempts for letter in letters} == {"charge": 3, "refund": 1, "wrong": 1}
            broken = False
            [letter] = [letter for letter in letters if letter.function == "charge"]
            assert letter.subject == "send.payments.charge"
            await backend.dead.replay(letter.id)
            await eventually(lambda: len(charge.seen) == 4)
            while await calls.stored():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        assert charge.seen[-1][1:] == (b"0", 1)
