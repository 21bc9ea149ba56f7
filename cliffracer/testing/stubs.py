"""Stubs of other services in a test: they answer RPC subjects, and record what they were asked."""

import asyncio
import inspect
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from cliffracer.errors import Internal, ServiceError, SetupError
from cliffracer.messaging.bus import Bus, Receive
from cliffracer.runtime import Running
from cliffracer.wire.codecs import Decoder, encode
from cliffracer.wire.faults import encode_fault


class Stub:
    """One stubbed method; ``received`` holds the arguments of each call, a dict by name or a list by position."""

    def __init__(self, returns: Any, raises: Any, calls: Any) -> None:
        if raises is not None and not (
            isinstance(raises, BaseException) or (isinstance(raises, type) and issubclass(raises, BaseException))
        ):
            raise SetupError(f"A stub raises an error, as in raises=Conflict('closed'), and {raises!r} is none.")
        if calls is not None and not callable(calls):
            raise SetupError(f"A stub calls a function, and {calls!r} is none: write returns={calls!r}.")
        if sum(each is not None for each in (returns, raises, calls)) > 1:
            raise SetupError("A stub has one of returns=, raises= and calls=; the others would do nothing.")
        self.received: list[Any] = []
        self._returns = returns
        self._raises = raises
        self._calls = calls

    async def answer(self, arguments: Any) -> Any:
        """Return the reply to a call, or raise its error."""
        self.received.append(arguments)
        if self._raises is not None:
            raise self._raises
        if self._calls is None:
            return self._returns
        made = self._calls(*arguments) if isinstance(arguments, list) else self._calls(**arguments)
        if inspect.isasyncgen(made):
            return [item async for item in made]
        return await made if inspect.isawaitable(made) else made


def stubbed(up: Running, stack: AsyncExitStack, service: str, method: str, stub: Callable[[], Stub]) -> None:
    """Answer a method, and take its one-way calls, until the stack unwinds, with the current ``stub()``."""
    bus, subjects = up.bus, up.services[0].subjects
    decoder: Decoder[Any] = Decoder(Any)
    tasks: set[asyncio.Task[None]] = set()

    def receive(_subject: bytes, reply: bytes, _block: bytes | None, payload: bytes) -> None:
        task = asyncio.get_running_loop().create_task(_reply(bus, reply, stub(), decoder.decode(payload or b"{}")))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def take(subject: bytes, _reply: bytes, block: bytes | None, payload: bytes) -> None:
        receive(subject, b"", block, payload)  # the reply is the stream's

    def hear(subject: str, receiver: Receive) -> None:
        subscribing = asyncio.ensure_future(bus.subscribe(subject, receiver, queue=service))  # sent in order, before any call that follows

        async def end() -> None:
            await (await subscribing).close()

        stack.push_async_callback(end)

    hear(subjects.rpc(service, method), receive)
    hear(subjects.send(service, method), take)


async def _reply(bus: Bus, reply: bytes, stub: Stub, arguments: Any) -> None:
    try:
        payload, block = encode(await stub.answer(arguments)), None
    except ServiceError as error:
        block, payload = encode_fault(error)
    except Exception as error:  # noqa: BLE001 - what a test's own function raises is shown to the caller, as the cause of its failure
        block, payload = encode_fault(Internal(f"stub raised {type(error).__name__}: {error}"))
    if reply:
        bus.publish(reply, payload, block)
