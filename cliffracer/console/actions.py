"""Calls and events made by hand in the console: with the token that its user gives, over NATS as from any other caller."""

import time
from contextlib import aclosing
from typing import Any, Literal, TypeVar

import msgspec
from loguru import logger
from starlette.requests import Request

from cliffracer.calling import emission
from cliffracer.client import AsyncClient
from cliffracer.context import Context, current, new_trace
from cliffracer.errors import InvalidInput
from cliffracer.settings import Settings
from cliffracer.web.bodies import Disconnected, check_json, read_body
from cliffracer.wire.codecs import Decoder
from cliffracer.wire.headers import checked_token
from cliffracer.wire.subjects import check_literal, check_name

MOST = 200
"""Items of a stream that are shown."""
T = TypeVar("T")


class Call(msgspec.Struct, forbid_unknown_fields=True):
    """What the form of a method sends."""

    service: str
    method: str
    arguments: dict[str, Any] | list[Any] = {}
    stream: bool = False
    token: str = ""
    timeout: float | None = None


class Emission(msgspec.Struct, forbid_unknown_fields=True):
    """What the form of an event sends."""

    subject: str
    data: Any = None
    token: str = ""


class Dead(msgspec.Struct, forbid_unknown_fields=True):
    """What to do with dead letters: one, or all that the filters let through."""

    action: Literal["replay", "discard"]
    data: str | None = None
    service: str = ""
    function: str = ""
    subject: str = ""


class Actions:
    """Makes the calls and events of one console; each has a line in its log."""

    def __init__(self, client: AsyncClient, settings: Settings) -> None:
        self._link = client.link
        self._deadline = settings.deadline

    async def call(self, asked: Call) -> dict[str, Any]:
        """Return the result, how long it took and its trace; raises what the method raised."""
        _check(check_name, "service", asked.service)
        _check(check_name, "method", asked.method)
        seconds = self._deadline if asked.timeout is None else min(asked.timeout, self._deadline)
        context = self._begin(asked.token, seconds)
        logger.info("console: call {}.{}", asked.service, asked.method)
        began = time.monotonic()
        if asked.stream:
            result: Any = await self._items(asked)
        else:
            result = await self._link.call(asked.service, asked.method, asked.arguments, returns=Any, timeout=seconds)
        told = {"correlation": context.correlation_id, "trace": (context.traceparent or "")[3:35]}
        return {"result": result, "ms": round((time.monotonic() - began) * 1000, 3), **told}

    async def emit(self, asked: Emission) -> dict[str, Any]:
        """Store an event; return its trace."""
        _check(check_literal, "subject", asked.subject)
        context = self._begin(asked.token, self._deadline)
        logger.info("console: emit {}", asked.subject)
        await self._link.emit(emission(asked.subject, asked.data))
        return {"emitted": asked.subject, "correlation": context.correlation_id, "trace": (context.traceparent or "")[3:35]}

    async def _items(self, asked: Call) -> list[Any]:
        items: list[Any] = []
        async with aclosing(self._link.stream(asked.service, asked.method, asked.arguments, returns=Any, timeout=None)) as stream:  # type: ignore[type-var]  # an async generator, which says less of itself
            async for item in stream:
                items.append(item)
                if len(items) == MOST:
                    break
        return items

    def _begin(self, token: str, seconds: float) -> Context:
        """Make what follows in this task one call of whoever has the token."""
        context = Context("console", "", "script", None, new_trace(), time.monotonic() + seconds)
        context.token = _check(checked_token, "token", token.strip()) if token.strip() else None
        current.set(context)
        return context


async def decoded(request: Request, kind: type[T], limit: int) -> T:
    """Return the JSON body of a request as a Struct; `InvalidInput` lists everything that is wrong with it."""
    check_json(request.headers.get("content-type", "").encode("latin-1"))
    try:
        return Decoder(kind).decode(await read_body(request.receive, limit))
    except Disconnected:
        raise InvalidInput("the request ended too early") from None


def _check(check: Any, path: str, value: str) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise InvalidInput("the input is not valid", errors=[{"path": path, "message": str(error)}]) from None
