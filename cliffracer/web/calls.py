"""What all endpoints share: the context of a call from a request, and errors that may be shown."""

from collections.abc import Mapping
from typing import Any

from loguru import logger
from starlette.datastructures import Headers

from cliffracer.context import Context, new_id
from cliffracer.declarations import where
from cliffracer.errors import Internal, ServiceError
from cliffracer.handler import Handler
from cliffracer.invoke import note_refusal, spoil
from cliffracer.web.answers import CORRELATION, Refused
from cliffracer.wire.codecs import Unencodable
from cliffracer.wire.headers import correlation_from, timeout_from, traceparent_from

TIMEOUT = b"cliffracer-timeout"


def context_of(handler: Handler, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> Context:
    """Return the context of a request, with its correlation id and trace if they are valid, and its timeout if it is shorter than ours."""
    correlation = headers.get(CORRELATION)
    trace = headers.get(b"traceparent")
    timeout = headers.get(TIMEOUT)
    return handler.context(
        timeout=None if timeout is None else timeout_from(timeout.decode("latin-1")),
        correlation_id=(correlation_from(correlation.decode("latin-1")) if correlation is not None else None) or new_id(),
        traceparent=None if trace is None else traceparent_from(trace.decode("latin-1")),
        headers=Headers(raw=scope["headers"]),
    )


def presentable(handler: Handler, context: Context, error: Exception, *, counted: bool) -> ServiceError | Refused:
    """Return an error that may be shown: an unknown one is logged and becomes `Internal`.

    ``counted``: a `ServiceError` came out of `invoke`, which has counted it.
    """
    if isinstance(error, ServiceError | Refused):
        if not counted:
            note_refusal(handler, context, type(error).__name__, error.status if isinstance(error, Refused) else error.code)
        return error
    found = Internal(error_id=new_id())
    if counted:
        spoil(handler, context, found, error)
    else:
        note_refusal(handler, context, Internal.__name__, Internal.code)
    bound, place = logger.bind(error_id=found.error_id), where(handler.function)
    if isinstance(error, Unencodable):
        bound.error("{} returned what cannot be encoded: {}", place, error)
    else:
        bound.opt(exception=error).error("a call of {} could not be handled", place)
    return found
