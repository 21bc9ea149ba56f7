"""The one path of every call: RPC, event, HTTP request, WebSocket, timer.

A transport translates at its edge: it decodes, makes a `Context`, admits the call at the handler's gate and awaits
`invoke`; what comes back is the result or a `ServiceError`. Context, deadline, limit, providers, middleware, error
mapping and figures live here and nowhere else.
"""

import asyncio
from asyncio import CancelledError, current_task
from collections.abc import Callable
from functools import partial
from inspect import unwrap
from signal import SIGINT, default_int_handler, getsignal
from time import monotonic
from types import CoroutineType
from typing import Any

from loguru import logger

from cliffracer.context import Context, current, new_id, stored_at
from cliffracer.declarations import unawaited, where
from cliffracer.errors import NOT_PERMITTED, Cancelled, DeadlineExceeded, Internal, Overloaded, ServiceError, Unavailable
from cliffracer.events import Rejected
from cliffracer.handler import Call, Deliver, Handler
from cliffracer.observability.spans import SLOW
from cliffracer.observability.stats import CANCELLED, LONG
from cliffracer.observability.tracebacks import OURS
from cliffracer.resilience.gate import SMOOTHING
from cliffracer.resilience.verdicts import RATE

_ENDED: dict[str, tuple[type[ServiceError], str]] = {
    "deadline": (DeadlineExceeded, "the time for this call is over"),
    "cancelled": (Cancelled, "the caller gave up"),
    "stopping": (Unavailable, "the service is stopping; try again"),
}
_WAITS = ""
"""The outcome of what is stored and over its rate: it has not begun, and comes again."""
_RESPONSE = "Response"
"""The outcome of what returned a response with the status of an error."""
_FAILED = "cliffracer.failed"
"""Where a context keeps that its call counts as failed although it has an answer."""
_LONG_BLOCK = 4096
"""Bytes of headers from which on only the ids in them are remembered: a stranger's may be as long as a message."""


async def invoke(  # noqa: PLR0912 - one frame on purpose: a helper per step would cost a tenth of the call
    handler: Handler, context: Context, arguments: tuple[Any, ...], source: Any = None, deliver: Deliver | None = None
) -> Any:
    """Return what the user's function returns; raise a `ServiceError` for everything else.

    The call must have been admitted, and run in a task of its own: its context stays the task's.
    """
    current.set(context)
    watch, gate, entered, began = handler.watch, handler.gate, False, monotonic()
    if watch.begun is not context:  # else `Starts` has it looked after if it waits
        watch.meet(context)
    try:
        if context.ended is not None or (context.deadline is not None and context.deadline <= began):
            raise _ended(context)  # noqa: TRY301 - it fails as if its function had
        if gate.free > 0 and not gate.waiting:
            gate.free -= 1
        else:
            await gate.enter()
            began = monotonic()
        entered = True
        if handler.run is None:
            result = await handler.call(*arguments)
        else:
            result = await handler.run(Call(handler, context, arguments, source, deliver))
        if context.ended is not None:  # it was told to stop and returned all the same
            raise _ended(context)  # noqa: TRY301 - the same
    except BaseException as error:  # noqa: BLE001 - the one place where a user's failure becomes one of ours
        return await _failed(handler, context, error, began, entered=entered)
    if context.task is None:  # it never waited
        watch.begun = None
    else:
        watch.leave(context)
    seconds = monotonic() - began
    if gate.waiting:
        gate.leave(seconds, entered=True)
    else:  # the same, written out for most calls, as the rest of what `_failed` does
        gate.admitted -= 1
        gate.free += 1
        gate.average += (seconds - gate.average) * SMOOTHING
    stats = handler.stats
    stats.calls += 1
    stats.seconds += seconds
    stats.buckets[int(seconds * 1e6).bit_length() if seconds < LONG else -1] += 1
    if context.block is not None or context.found_trace is not None or context.found_id is not None or handler.calls is not None:
        _note(handler, context, began, seconds, "ok")
    return result


async def _failed(handler: Handler, context: Context, error: BaseException, began: float, *, entered: bool) -> Any:
    """Return what the app's error mapping answers to a failure, or raise the `ServiceError` that it is; end the call either way."""
    outcome = "ok"
    answer: Any = None
    try:
        answer = await _translate(handler, context, error)
        if not isinstance(answer, ServiceError):
            outcome = _answered(handler, context, error, answer)
            return answer
        outcome = _count(handler, context, answer)
        if answer is error:
            raise answer
        raise answer from error
    except CancelledError:  # somebody outside ends its task, as `_translate` found
        outcome = Cancelled.__name__
        handler.stats.fail(CANCELLED)
        raise
    except Rejected:
        outcome = Rejected.__name__
        handler.stats.fail(outcome)
        raise
    finally:
        seconds = monotonic() - began
        handler.watch.leave(context)
        handler.gate.leave(None if _over_rate(context) else seconds, entered=entered)
        if _over_rate(context):
            _refused(handler, context, outcome)
        else:
            handler.stats.note(seconds)
            _note(handler, context, began, seconds, outcome)
        if handler.failed is not None:
            handler.failed(context, error, answer)
        del answer, error  # whose traceback has this frame: a circle, which would keep all that the call had, its body too


def _note(handler: Handler, context: Context, began: float, seconds: float, outcome: str) -> None:
    """Note a call that has ended where traces and the log of calls are read from."""
    block = context.block
    if block is not None or context.found_trace is not None or context.found_id is not None:  # else nobody can ask for it
        if block is not None and len(block) > _LONG_BLOCK:
            block, context.found_id, context.found_trace = None, context.known_id, context.traceparent
        note = handler.spans.recent if outcome == "ok" and seconds < SLOW else handler.spans.kept
        note((handler, context.found_trace, context.sent, context.found_id, began, seconds, outcome, block))
    if handler.calls is not None:
        handler.calls.record(context, seconds * 1000, outcome)


def note_refusal(handler: Handler, context: Context, name: str, code: int) -> None:
    """Count and note a request that is answered with an error before a call was made of it, such as input that does not fit."""
    handler.stats.refuse(f"{name} {code}")
    if name != Overloaded.__name__:
        _note(handler, context, monotonic(), 0.0, name)
    elif handler.calls is not None:  # there are so many at once that they would push out of the traces what else failed
        handler.calls.record(context, 0.0, name)


def _refused(handler: Handler, context: Context, outcome: str) -> None:
    """Count and note a call that came too often: as one that came when too many ran, which has not begun either."""
    handler.gate.refused += 1
    if outcome is not _WAITS:
        handler.stats.refused += 1
        if handler.calls is not None:
            handler.calls.record(context, 0.0, outcome)


def spoil(handler: Handler, context: Context, answer: Any, error: Exception | None = None) -> None:
    """Have a call that went well count as failed, once: it returned a response with the status of an error, or what cannot be sent.

    ``answer`` is that response, or the `ServiceError` that is sent instead; to be called before anything that makes ids for the context.
    """
    if context.state is not None and _FAILED in context.state:
        return
    context.store()[_FAILED] = True
    name, code = (type(answer).__name__, answer.code) if isinstance(answer, ServiceError) else (_RESPONSE, answer.status_code)
    handler.stats.fail(f"{name} {code}")
    handler.spans.spoil(handler, context.found_id, context.block, name)
    if handler.calls is not None:
        handler.calls.spoil(context, name)
    if handler.failed is not None:
        handler.failed(context, error, answer)


def check_done(handler: Handler, context: Context, result: Any) -> None:
    """Raise `Internal` if a handler whose result nobody takes returned a coroutine: it did not do what it was called for."""
    if type(result) is CoroutineType:
        error = unawaited(handler.function, result)
        spoil(handler, context, failed := defect(handler, error), error)
        raise failed from error


def _count(handler: Handler, context: Context, answer: ServiceError) -> str:
    """Count a failure; return the outcome of the call."""
    if _over_rate(context) and stored_at(context) is not None:
        return _WAITS
    outcome = type(answer).__name__
    handler.stats.fail(f"{outcome} {answer.code}")
    return outcome


def _answered(handler: Handler, context: Context, error: BaseException, answer: Any) -> str:
    """Return the outcome of a call for whose failure there is an answer: a response with the status of an error is none that went well."""
    status = getattr(answer, "status_code", None)
    if not isinstance(status, int) or status < 400:
        return "ok"
    context.store()[_FAILED] = True
    handler.stats.fail(f"{type(error).__name__} {status}")
    return type(error).__name__


def _over_rate(context: Context) -> bool:
    return bool(context.verdict == RATE)


def _ended(context: Context) -> ServiceError:
    kind, text = _ENDED[context.ended or "deadline"]
    return kind(text)


async def _translate(handler: Handler, context: Context, error: BaseException) -> Any:
    """Return the `ServiceError` that an exception becomes, or what the app's error mapping answers instead."""
    if context.ended is not None and isinstance(error, Exception | CancelledError):
        if context.task is not None:  # else it was over before it began
            context.task.uncancel()  # the watch cancelled it once, to get here
        return error if isinstance(error, ServiceError) else _uncertain(_ended(context))
    if isinstance(error, CancelledError):
        task = context.task or current_task()
        if task is not None and task.cancelling():
            try:
                raise error  # somebody outside ends this task: not ours to answer
            finally:
                del error  # as in `_failed`
        return defect(handler, error)
    if _over_rate(context) and (context.kind == "event" or stored_at(context) is not None):
        return error  # what has not begun has no failure that the app could answer, and nobody waits for an answer
    for kind in type(error).__mro__:
        mapping = handler.mappings.get(kind)
        if mapping is not None:
            return await _mapped(handler, context, mapping, error)
    if isinstance(error, ServiceError) and not _is_defect(error):
        return _uncertain(error) if isinstance(error, Unavailable | Overloaded) and _broke_off(handler, error) else error
    if _passes(context, error):
        try:
            raise error
        finally:
            del error  # as in `_failed`
    return defect(handler, error)


def _passes(context: Context, error: BaseException) -> bool:
    """Say whether an exception is not ours to answer: what refuses an event or a one-way call is its endpoint's to read.

    `SystemExit` is answered like any other, and so is `KeyboardInterrupt` unless it may come from the keyboard: whoever drives the call
    has it then. Going on, it would end the connection to NATS, and come again with its event.
    """
    if isinstance(error, KeyboardInterrupt):
        taken = getsignal(SIGINT)  # by the loop, as ``cliffracer run`` has it; the partial is `asyncio.run`'s, and raises at a second one
        return taken is default_int_handler or isinstance(taken, partial)
    return isinstance(error, GeneratorExit) or (isinstance(error, Rejected) and (context.kind == "event" or stored_at(context) is not None))


def _uncertain(error: ServiceError) -> ServiceError:
    """Return an error that says that nobody can tell how much was done: only a caller who knows that twice harms nobody tries again."""
    if error.retryable:
        error.details.setdefault("outcome", "unknown")
    return error


def _broke_off(handler: Handler, error: BaseException) -> bool:
    """Say whether a handler that had begun failed by something that failed before: a call or query of it, let through or put in its words.

    One that raises an error of its own accord means what that says: nothing was done.
    """
    step, code = error.__traceback__, getattr(unwrap(handler.function), "__code__", None)
    begun = False
    while step is not None:
        begun = begun or step.tb_frame.f_code is code
        step = step.tb_next
    return begun and (_is_ours(error) or error.__context__ is not None)


def _is_ours(error: BaseException) -> bool:
    """Say whether an error was raised in this package, not by somebody who uses it."""
    step, within = error.__traceback__, False
    while step is not None:
        within = step.tb_frame.f_code.co_filename.startswith(OURS)
        step = step.tb_next
    return within


async def _mapped(handler: Handler, context: Context, mapping: Callable[..., Any], error: BaseException) -> Any:
    try:
        answer = mapping(error)
        answer = await answer if asyncio.iscoroutine(answer) else answer
        if not (isinstance(answer, Internal) and _is_defect(answer)):
            return answer
        if answer is not error:
            answer.__cause__ = answer.__cause__ or error
        return defect(handler, answer)
    except CancelledError as cancelled:  # as likely its call's end as its own
        return await _translate(handler, context, cancelled)
    except ServiceError as mapped:
        return defect(handler, mapped) if _is_defect(mapped) else _uncertain(mapped)
    except Exception as broken:  # noqa: BLE001 - a mapping that fails must still end in a reply
        return defect(handler, broken)


def _is_defect(error: ServiceError) -> bool:
    """Say whether an error is this service's own, not its caller's; one that came with an id is in a log, that of where it came from."""
    if isinstance(error, Internal) and (error.error_id is None or not _is_ours(error)):
        return True
    return error.details.get("reason") == NOT_PERMITTED


def defect(handler: Handler, error: BaseException) -> Internal:
    """Log an exception whole, and return the `Internal` that tells nothing of its text, but the id in the log.

    Details that a user gives an `Internal` are not its text: they go out beside the id.
    """
    error_id = (isinstance(error, Internal) and error.error_id) or new_id()
    facts, said = {"error_id": error_id, "error": type(error).__name__}, ""
    if isinstance(error, Internal):
        said = f": {error.said or error.message}"
        facts |= {"statement": error.statement} if error.statement else {}
    logger.opt(exception=error).bind(**facts).error("{} failed{}", where(handler.function), said)
    told = error.details if isinstance(error, Internal) and not _is_ours(error) else {}
    return Internal(**{**told, "error_id": error_id})
