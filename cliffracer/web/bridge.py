"""The bridge from the forms of ``/docs`` to NATS, for calls and events of this process's apps; in development only.

A call goes over NATS with the token of the request, like any other caller's: the service that answers checks its rules, and the
bridge has no rights of its own. Only our own page in a browser on this machine can use it, see `cliffracer.web.local`.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cliffracer.assembly import Assembly
from cliffracer.calling import Link, emission
from cliffracer.context import Context, current
from cliffracer.declarations import Rpc, Subscription
from cliffracer.errors import InvalidInput, NotFound, ServiceError
from cliffracer.web.answers import JSON, correlation_of, send_body, send_problem
from cliffracer.web.bodies import Disconnected, read_body
from cliffracer.web.local import check_host, check_near, check_page
from cliffracer.wire.codecs import Decoder, encode
from cliffracer.wire.headers import checked_token
from cliffracer.wire.subjects import check_literal, matches

MOST = 100
"""Items of a stream that are shown."""


class Call(msgspec.Struct):
    """What the form of a method sends."""

    service: str
    method: str
    arguments: dict[str, Any] = {}


class Emission(msgspec.Struct):
    """What the form of an event sends."""

    subject: str
    data: Any = None


class _Bridge:
    """Checks and decodes a request, acts with its token, and answers."""

    asked: Any

    def __init__(self, assemblies: Sequence[Assembly], limit: int) -> None:
        self._assemblies = assemblies
        self._limit = limit
        self._decoder: Decoder[Any] = Decoder(self.asked)

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        correlation = correlation_of(scope)
        headers = dict(scope["headers"])
        try:
            check_near(scope)
            check_host(headers)
            check_page(headers)
            asked = self._decoder.decode(await read_body(receive, self._limit))
            context = Context(kind="script", found_id=correlation)
            context.token = _token(headers)
            current.set(context)
            body = encode(await self.act(asked, context))
        except ServiceError as error:
            await send_problem(send, error, correlation)
        except Disconnected:
            return
        else:
            await send_body(send, 200, body, [JSON, (b"cache-control", b"no-store")], correlation)

    async def act(self, asked: Any, context: Context) -> Any:
        """Do what is asked and return the answer."""
        raise NotImplementedError


class CallBridge(_Bridge):
    """``POST /docs/call``: the result of a method, or the first items of its stream."""

    asked = Call

    async def act(self, asked: Call, context: Context) -> Any:
        """Call."""
        for assembly in self._assemblies:
            for record, declared in assembly.frozen.of(Rpc):
                if (assembly.frozen.name, record.name) == (asked.service, asked.method) and declared.signature is not None:
                    link = _link(assembly)
                    if not declared.signature.streams:
                        return await link.call(asked.service, asked.method, asked.arguments, returns=Any, timeout=None)
                    context.deadline = time.monotonic() + assembly.deadline
                    return await _first(link, asked)
        raise NotFound(f"no app here has a method {asked.service}.{asked.method}")


class EmitBridge(_Bridge):
    """``POST /docs/emit``: stores an event that a function here subscribes to."""

    asked = Emission

    async def act(self, asked: Emission, context: Context) -> Any:  # noqa: ARG002 - one shape for both
        """Emit."""
        try:
            check_literal(asked.subject)
        except ValueError as error:
            raise InvalidInput("the input is not valid", errors=[{"path": "subject", "message": str(error)}]) from None
        for assembly in self._assemblies:
            for record, _ in assembly.frozen.of(Subscription):
                if matches(record.subject, asked.subject):
                    await _link(assembly).emit(emission(asked.subject, asked.data, durable=record.durable))
                    return {"emitted": asked.subject}
        raise NotFound(f"no function here subscribes to {asked.subject}")


async def _first(link: Link, asked: Call) -> list[Any]:
    """Return the first items of a stream, and end it."""
    items: list[Any] = []
    stream = link.stream(asked.service, asked.method, asked.arguments, returns=Any, timeout=None)
    try:
        async for item in stream:
            items.append(item)
            if len(items) == MOST:
                break
    finally:
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator, which says less of itself
    return items


def _link(assembly: Assembly) -> Link:
    if assembly.link is None:
        raise NotFound("this process is not connected to NATS")
    return assembly.link


def _token(headers: Mapping[bytes, bytes]) -> str | None:
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").strip().partition(" ")
    try:
        return checked_token(token.strip()) if scheme.lower() == "bearer" and token.strip() else None
    except ValueError as error:
        raise InvalidInput(str(error)) from None
