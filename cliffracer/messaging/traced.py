"""The calling side where calls become OpenTelemetry spans: each call or event that goes out is one, the parent of what it causes."""

import time
from asyncio import CancelledError
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from cliffracer.calling import Emission
from cliffracer.context import Context, current
from cliffracer.errors import Cancelled, ServiceError
from cliffracer.messaging.connection import Connection
from cliffracer.observability.spans import SLOW, Outgoing
from cliffracer.observability.tracing import Tracing
from cliffracer.wire.calls import write_call

_END: Any = object()


class TracedConnection(Connection):
    """A `Connection` whose calls are spans."""

    def __init__(self, *given: Any, tracing: Tracing, **named: Any) -> None:
        super().__init__(*given, **named)
        self._tracing = tracing

    async def call(self, service: str, method: str, arguments: Any, *, returns: Any, timeout: float | None) -> Any:
        """Return the reply of ``service.method``, as `Connection.call`."""
        context, began, outcome = current.get(), time.monotonic(), "ok"
        before = None if context is None else context.onward()
        with self._tracing.outgoing("call", f"{service}.{method}") as sent:
            try:
                return await super().call(service, method, arguments, returns=returns, timeout=timeout)
            except ServiceError as error:
                outcome = type(error).__name__
                raise
            except CancelledError:
                outcome = Cancelled.__name__
                raise
            finally:  # the parent of what was called: `cliffracer trace` needs it to draw the tree
                seconds = time.monotonic() - began
                note = self.spans.recent if outcome == "ok" and seconds < SLOW else self.spans.kept
                what = Outgoing(self.name, f"{service}.{method}")
                note((what, before, sent, None if context is None else context.known_id, began, seconds, outcome, None))

    async def stream(self, service: str, method: str, arguments: Any, *, returns: Any, timeout: float | None) -> AsyncIterator[Any]:
        """Yield what a streaming handler yields, as `Connection.stream`."""
        with self._tracing.lasting(f"{service}.{method}") as span:
            made: Any = super().stream(service, method, arguments, returns=returns, timeout=timeout)
            async with aclosing(made) as items:
                while True:
                    with self._tracing.current(span):
                        item = await anext(items, _END)
                    if item is _END:
                        return
                    yield item

    async def send(self, service: str, method: str, arguments: Any) -> None:
        """Store a durable one-way call, as `Connection.send`."""
        with self._tracing.outgoing("send", f"{service}.{method}"):
            await super().send(service, method, arguments)

    async def emit(self, emission: Emission) -> str:
        """Send an event, as `Connection.emit`."""
        with self._tracing.outgoing("emit", emission.subject):
            return await super().emit(emission)

    def who(self, context: Context | None) -> tuple[str, str]:
        """Return the correlation id and the trace of the span that is current here, which is the parent of what is called."""
        correlation, trace = super().who(context)
        return correlation, self._tracing.here() or trace

    def _head(self, context: Context | None, seconds: float) -> bytes:
        return write_call(*self.who(context), seconds, *self._identified(context))  # a span is behind it, whoever calls

    def remember(self, target: str, waited: float, error: ServiceError) -> None:
        """Do nothing: `call` remembers every call."""
