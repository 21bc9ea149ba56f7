"""Answers HTTP: one endpoint object per route, which binds, invokes and encodes without Request or Response objects."""

import time
from collections.abc import Mapping
from typing import Any

from loguru import logger
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cliffracer.checking import Declared
from cliffracer.context import Context, new_id
from cliffracer.declarations import Route, where
from cliffracer.errors import Internal, ServiceError
from cliffracer.invoke import Handler, invoke
from cliffracer.web.answers import CORRELATION, JSON, Refused, send_body, send_problem
from cliffracer.web.binding import Binder
from cliffracer.web.bodies import Disconnected, check_json, read_body
from cliffracer.web.responses import exception_answer, send_response
from cliffracer.web.shortcut import answered, received
from cliffracer.web.table import convertors_of
from cliffracer.wire.codecs import Unencodable, encode
from cliffracer.wire.headers import correlation_from, timeout_from, traceparent_from

_HEAD = b"content-type: application/json\r\ncontent-length: %d\r\nx-correlation-id: %b\r\n\r\n"
CALL = "cliffracer.call"
"""Where the running call stands in the ASGI scope: (watch, context), so that the server can end it when the client is gone."""


class RouteEndpoint:
    """One route as an ASGI application, from the request to its answer."""

    def __init__(self, record: Route, declared: Declared, handler: Handler, *, max_body: int) -> None:
        signature, shape = declared.signature, declared.shape
        assert signature is not None
        assert shape is not None  # both are there once the app is frozen
        self.record = record
        self.handler = handler
        self._binder = Binder(signature, shape)
        self._bind = self._binder.bind
        self._reads = self._binder.takes_body
        self._max_body = max_body
        self._status = record.status or 200
        self._nothing = record.status in {204, 205, 304} or (record.status is None and signature.returns is type(None))
        """Whether None is no content, rather than ``null``."""
        self._source = handler.run is not None
        """Whether something may ask for the Request; only then is there one."""
        self._convertors = convertors_of(record.path)
        handler.mappings = {HTTPException: exception_answer, **handler.mappings}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        handler = self.handler
        headers = dict(scope["headers"])
        context = self._context(scope, headers)
        try:
            body = b""
            if self._reads:
                if headers.get(b"content-type") != b"application/json" or b"content-encoding" in headers:
                    check_json(headers)
                body = received(receive, self._max_body) or await self._read(receive, headers, context)
            arguments = self._bind(scope.get("path_params"), scope, headers, body)
            gate = handler.gate
            if gate.admitted < gate.limit:
                gate.admitted += 1  # `Gate.admit`, where there is nothing to decide
            else:
                gate.admit(context.remaining())
            scope[CALL] = (handler.watch, context)
            result = await invoke(handler, context, arguments, self._request(scope, receive, body) if self._source else None)
            payload = b"" if isinstance(result, Response) else encode(result)
        except Exception as error:  # noqa: BLE001 - types of the user's run in decoders, and every request gets an answer
            await self._fail(error, scope, send, context)
            return
        correlation = context.correlation_id
        if result is None and self._nothing:
            await send_body(send, 204 if self._status == 200 else self._status, b"", [], correlation)
        elif not payload:
            await send_response(result, scope, receive, send, correlation)
        elif not answered(send, self._status, _HEAD % (len(payload), correlation.encode()), payload):
            await send_body(send, self._status, payload, [JSON], correlation)

    def _context(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> Context:
        correlation = headers.get(CORRELATION)
        trace = headers.get(b"traceparent")
        timeout = headers.get(b"cliffracer-timeout")
        return self.handler.context(
            timeout=None if timeout is None else timeout_from(timeout.decode("latin-1")),
            correlation_id=None if correlation is None else correlation_from(correlation.decode("latin-1")),
            traceparent=None if trace is None else traceparent_from(trace.decode("latin-1")),
            headers=Headers(raw=scope["headers"]),
        )

    async def _read(self, receive: Any, headers: Mapping[bytes, bytes], context: Context) -> bytes:
        began = time.monotonic()
        body = await read_body(receive, self._max_body)
        if context.deadline is not None and b"cliffracer-timeout" not in headers:
            context.deadline += time.monotonic() - began  # a slow client takes no time from the handler; http_timeout bounds it
        return body

    def _request(self, scope: dict[str, Any], receive: Any, body: bytes) -> Request:
        if self._convertors and "path_params" in scope:
            texts = scope["path_params"]
            scope["path_params"] = {name: convert(texts[name]) for name, convert in self._convertors.items()}
        request = Request(scope, receive)
        if self._reads:
            request._body = body  # noqa: SLF001 - Starlette's own cache of a body that was read
        return request

    async def _fail(self, error: Exception, scope: Mapping[str, Any], send: Any, context: Context) -> None:
        if isinstance(error, Disconnected):
            return
        counted = CALL in scope and isinstance(error, ServiceError)
        if not isinstance(error, ServiceError | Refused):
            error = self._defect(error)
        if not counted:
            self.handler.stats.fail(f"{type(error).__name__} {getattr(error, 'code', getattr(error, 'status', 500))}")
        await send_problem(send, error, context.correlation_id)

    def _defect(self, error: Exception) -> Internal:
        failed = Internal(error_id=new_id())
        place = where(self.record.function)
        if isinstance(error, Unencodable):
            logger.bind(error_id=failed.error_id).error("{} returned what cannot be encoded: {}", place, error)
        else:
            logger.bind(error_id=failed.error_id).opt(exception=error).error("a request to {} could not be handled", place)
        return failed
