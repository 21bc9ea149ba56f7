"""Answers HTTP: one endpoint object per route, which binds, invokes and encodes without Request or Response objects."""

import importlib
import time
from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cliffracer.checking import Declared
from cliffracer.context import LASTS, Context
from cliffracer.declarations import Route
from cliffracer.errors import Cancelled, FieldError, InvalidInput
from cliffracer.handler import Entry, Handler
from cliffracer.invoke import invoke, spoil
from cliffracer.web.answers import JSON, send_body, send_problem
from cliffracer.web.binding import Binder
from cliffracer.web.bodies import Disconnected, check_encoding, check_json, is_form, read_body
from cliffracer.web.calls import TIMEOUT, context_of, presentable
from cliffracer.web.guard import CALL, LEFT
from cliffracer.web.responses import exception_answer, send_response
from cliffracer.web.router import convertors_of
from cliffracer.web.shortcut import answered, received
from cliffracer.wire.codecs import encode

if TYPE_CHECKING:  # a type of what only some routes take
    from cliffracer.web.forms import FormDecoder

_HEAD = b"content-type: application/json\r\nx-content-type-options: nosniff\r\ncontent-length: %d\r\nx-correlation-id: %b\r\n\r\n"
FORM = "cliffracer.form"
Arguments = tuple[Any, ...]


class RouteEndpoint:
    """One route as an ASGI application, from the request to its answer."""

    def __init__(self, record: Route, declared: Declared, handler: Handler, *, max_body: int) -> None:
        signature, shape = declared.signature, declared.shape
        assert signature is not None
        assert shape is not None  # both are there once the app is frozen
        self.record = record
        self.handler = handler
        self.status = record.status or 200
        self._bodiless = record.status in {204, 205, 304}
        self._nothing = record.status is None and signature.returns is type(None)
        """Whether None is no content, rather than ``null``."""
        self._binder = Binder(signature, shape)
        self._reads = self._binder.takes_body
        self._json = not self._binder.form
        self._max_body = max_body
        self._form: FormDecoder | None = None
        if self._binder.form:
            importlib.import_module("cliffracer.web.forms")  # now: the first of them is not to wait
        self._sourced = handler.run is not None
        """Whether something may ask for the Request; only then is there one."""
        self._convertors = convertors_of(record.path)
        handler.mappings = {HTTPException: partial(exception_answer, handler.service), ClientDisconnect: _gone, **handler.mappings}

    async def __call__(  # noqa: C901, PLR0912 - one frame on purpose, as in `invoke`
        self, scope: MutableMapping[str, Any], receive: Any, send: Any
    ) -> None:
        """Answer one request."""
        handler = self.handler
        headers = dict(scope["headers"])
        context = context_of(handler, scope, headers)
        body: bytes | None = b""
        entry = handler.entry
        try:
            if entry is not None and not (await self.decided(entry, context, scope) if entry.waits else entry.decide(context, scope)):
                arguments, body = (), b""
            else:
                if self._reads:
                    plain = self._json and headers.get(b"content-type") == b"application/json" and b"content-encoding" not in headers
                    body = received(receive, self._max_body) if plain else None
                if body is None:
                    arguments, body = await self.arguments(scope, receive, headers, context)
                else:
                    arguments = self._binder.bind(scope.get("path_params"), scope, headers, body)
            source = self.request(scope, receive, body) if self._sourced else None
            gate = handler.gate
            if gate.admitted < gate.limit:
                gate.admitted += 1  # `Gate.admit`, where there is nothing to decide
            else:
                gate.admit(context.remaining())
            scope[CALL] = (handler.watch, context)
            result = await invoke(handler, context, arguments, source)
            payload = b"" if isinstance(result, Response) else encode(result)
        except Exception as error:  # noqa: BLE001 - types of the user's run in decoders, and every request gets an answer
            await self.fail(error, scope, send, context)
        else:
            correlation = context.correlation_id
            if not payload:
                await self.respond(result, scope, receive, send, context)
            elif self._bodiless or (result is None and self._nothing):
                await send_body(send, 204 if self._nothing else self.status, b"", [], correlation)
            elif not answered(send, self.status, _HEAD % (len(payload), correlation.encode()), payload):
                await send_body(send, self.status, payload, [JSON], correlation)
        finally:
            if FORM in scope and self._form is not None:
                await self._form.close(scope[FORM])

    async def decided(self, entry: Entry, context: Context, scope: Mapping[str, Any]) -> bool:
        """Say whether a call is let in; `Disconnected` if its client has left while somebody was asked: nothing would end it then."""
        let_in = await entry.decided(context, scope)
        if LEFT in scope:
            raise Disconnected
        return let_in

    async def arguments(
        self, scope: MutableMapping[str, Any], receive: Any, headers: Mapping[bytes, bytes], context: Context
    ) -> tuple[Arguments, bytes]:
        """Return the arguments of a request and its body, however that is sent and however long it takes to come."""
        body, form = b"", None
        if self._reads:
            check_encoding(headers)
            began = time.monotonic()
            kind = headers.get(b"content-type", b"")
            if self._binder.form or (self._binder.fields and is_form(kind)):
                self._form = self._form or _form_decoder(self._binder, self._max_body)
                form = scope[FORM] = await self._form.read(Request(scope, receive))
            else:
                check_json(kind)
                body = await read_body(receive, self._max_body)
            if context.deadline is not None and TIMEOUT not in headers:
                context.deadline += time.monotonic() - began  # a slow client takes no time from the handler; http_timeout bounds it
        return self._binder.bind(scope.get("path_params"), scope, headers, body, form=form), body

    def request(self, scope: MutableMapping[str, Any], receive: Any, body: bytes) -> Request:
        """Return Starlette's request, for what asks for it."""
        if self._convertors and "path_params" in scope:
            texts = scope["path_params"]
            try:
                scope["path_params"] = {name: convert(texts[name]) for name, convert in self._convertors.items()}
            except ValueError:  # of more digits than Python reads
                raise InvalidInput("the input is not valid", errors=[FieldError("", "a number in the path is too long")]) from None
        request = Request(scope, receive)
        if self._reads:
            request._body = body  # noqa: SLF001 - Starlette's own cache of a body that was read
        return request

    async def respond(self, response: Response, scope: MutableMapping[str, Any], receive: Any, send: Any, context: Context) -> None:
        """Send a response that the function returned; that of a file looks at it only now, so the call's span ends when it is sent."""
        handler = self.handler
        if response.status_code >= 400:
            spoil(handler, context, response)
        if handler.failed is None:
            await send_response(response, scope, receive, send, context.correlation_id, failed=partial(spoil, handler, context))
            return
        context.store()[LASTS] = True
        try:
            await send_response(response, scope, receive, send, context.correlation_id, failed=partial(spoil, handler, context))
        finally:
            handler.failed(context, None, None)

    async def fail(self, error: Exception, scope: Mapping[str, Any], send: Any, context: Context) -> None:
        """Answer with a problem document."""
        if not isinstance(error, Disconnected):
            handler = self.handler
            await send_problem(send, presentable(handler, context, error, counted=CALL in scope), context.correlation_id, handler.service)


def _form_decoder(binder: Binder, max_body: int) -> "FormDecoder":
    from cliffracer.web.forms import FormDecoder  # noqa: PLC0415 - only who takes forms pays for importing them
    from cliffracer.web.multiparts import FormLimits  # noqa: PLC0415 - as above

    kinds = {p.name: p.annotation for p in binder.fields}
    defaults = {p.name: p.default for p in binder.fields if not p.required}
    return FormDecoder(kinds, defaults, FormLimits(body=max_body))


def _gone(_: ClientDisconnect) -> Cancelled:
    return Cancelled("the client is gone")
