"""What an app declares, as frozen records: nothing here connects, and nothing holds the app."""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType
from typing import Any, Literal

import msgspec

from cliffracer.errors import CliffracerError, Internal, SetupError

if sys.version_info >= (3, 14):
    import annotationlib

Function = Callable[..., Any]
RETRY: tuple[float, ...] = (1, 5, 30, 120)
"""Seconds after which a durable event, or one-way call, that failed is tried again."""
_AROUND = "__cliffracer_around__"


class Rpc(msgspec.Struct, frozen=True):
    """``@app.rpc``: request/reply on ``<service>.<name>``."""

    function: Function
    name: str
    deadline: float | None = None
    limit: int | None = None
    rate: Any = None
    """How often it may be called, a `Rate`."""
    idempotent: bool | None = None
    """Whether it may be done twice; None: as HTTP says, where it answers that too."""
    retry: tuple[float, ...] = RETRY
    """Seconds before each further attempt of a one-way call."""


class Subscription(msgspec.Struct, frozen=True):
    """``@app.on``: one subscribing function and how its events are delivered."""

    function: Function
    subject: str
    durable: bool = True
    each: bool = False
    group: str | None = None
    ordered: bool = False
    retry: tuple[float, ...] = RETRY
    batch: int | None = None
    within: float = 0.05
    limit: int = 100
    start: Any = "new"
    once: bool = False
    deadline: float | None = None
    rate: Any = None


class Route(msgspec.Struct, frozen=True):
    """``@app.get`` and its siblings: HTTP methods on a path."""

    function: Function
    path: str
    methods: tuple[str, ...]
    status: int | None = None
    deadline: float | None = None
    limit: int | None = None
    tags: tuple[str, ...] = ()
    rate: Any = None
    siblings: tuple[str, ...] = ()
    """All methods of its declaration, which share a limit."""


class Socket(msgspec.Struct, frozen=True):
    """``@app.websocket``: a WebSocket on a path."""

    function: Function
    path: str
    limit: int | None = None
    rate: Any = None


class Timer(msgspec.Struct, frozen=True):
    """``@app.every`` and ``@app.cron``: once per cluster, or per replica with ``each``."""

    function: Function
    every: float | None = None
    cron: str | None = None
    tz: str = "UTC"
    each: bool = False
    missed: Literal["once", "skip"] = "once"
    deadline: float | None = None


class Leader(msgspec.Struct, frozen=True):
    """``@app.leader``: runs in one replica of the cluster, and begins in another when that one is gone."""

    function: Function
    ttl: float = 15.0


class Provider(msgspec.Struct, frozen=True):
    """``@app.provide``: what answers a keyword-only parameter annotated with ``provides``."""

    function: Function
    provides: Any
    scope: Literal["app", "call"] = "app"
    optional: bool = False
    """Whether it may give None, as ``-> Mailer | None`` says."""


class Value(msgspec.Struct, frozen=True):
    """A provider of an object that exists already."""

    value: Any

    def __call__(self) -> Any:
        """Return it."""
        return self.value


class HealthCheck(msgspec.Struct, frozen=True):
    """``@app.health_check``: a critical one decides readiness."""

    function: Function
    name: str
    critical: bool = True


class Mapping(msgspec.Struct, frozen=True):
    """``@app.on_error``: the reply that an exception of the user's becomes."""

    function: Function
    error: type[Exception]


class Static(msgspec.Struct, frozen=True):
    """``app.static``: a folder of files under a path."""

    path: str
    folder: Path


class Mount(msgspec.Struct, frozen=True):
    """``app.mount``: an ASGI application under a path."""

    path: str
    application: Any
    public: bool


class Wrapping(msgspec.Struct, frozen=True):
    """``app.add_middleware``: a factory of ASGI middleware around all that the port serves."""

    factory: Callable[..., Any]
    positional: tuple[Any, ...]
    named: dict[str, Any]


Record = Rpc | Subscription | Route | Socket | Timer | Leader


def surround(function: Any, wrapper: Any) -> Any:
    """Return the wrapper of a function, and apply it too where the function was declared as a handler before: order must not matter."""
    wrapper.__dict__.pop(_AROUND, None)
    try:
        setattr(function, _AROUND, wrapper)
    except AttributeError:
        raise refuse(function, "it cannot be decorated", "Put the decorator on a function.") from None
    return wrapper


def surrounded(function: Any) -> Any:
    """Return a function with all wrappers that it got after it was declared."""
    while (wrapper := getattr(function, "__dict__", {}).get(_AROUND)) is not None:
        function = wrapper
    return function


def where(function: Any) -> str:
    """Return ``create_user (users.py:12)``: how every set-up error names a function."""
    inner = inspect.unwrap(function) if callable(function) else function
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    code = getattr(inner, "__code__", None) or getattr(getattr(inner, "__call__", None), "__code__", None)  # noqa: B004 - its code, not whether
    name = name.rpartition("<locals>.")[2]
    return f"{name} ({place_of(code)})" if type(code) is CodeType else name  # a mock says that it is one


def place_of(code: CodeType) -> str:
    """Return ``users.py:12``, relative to the working directory where that is shorter."""
    file = Path(code.co_filename)
    try:
        shown = file.relative_to(Path.cwd())
    except (ValueError, OSError):
        shown = file
    return f"{shown}:{code.co_firstlineno}"


def shape_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return how a function is called; its annotations, which may name what is defined later or only for type checkers, are not read."""
    if sys.version_info >= (3, 14):  # where to look at them is to evaluate them (PEP 649)
        try:
            return inspect.signature(function, annotation_format=annotationlib.Format.STRING)
        except TypeError:  # it cannot say those in which something is unpacked, such as ``Bucket(**options)``
            return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    else:
        return inspect.signature(function)


def refuse(function: Any, problem: str, cure: str) -> SetupError:
    """Return the error for a mistake in a declaration: where, what, and what to do."""
    return SetupError(f"{where(function)}: {problem}. {cure}")


def unawaited(function: Any, returned: Any) -> TypeError:
    """Return the error for a coroutine that a function returned where nobody awaits it: nothing of what it would do is done."""
    returned.close()
    return TypeError(f"{where(function)} returned a coroutine that nobody awaits, so nothing of it has run. Await it, in an async def.")


PLAIN = "Declare a plain function; what a class would keep is provided: f(x, *, users: Repository[User])."


def check_called(first: Any, example: str) -> None:
    """Refuse a decorator that was written without its argument: it got the function instead."""
    if inspect.isroutine(first) or isinstance(first, type | staticmethod | classmethod):
        raise refuse(first, "its decorator was given nothing but the function", f"Write {example}.")


def check_plain(function: Any) -> None:
    """Refuse anything that is not a function, or that cannot be called with its arguments alone."""
    if isinstance(function, type | staticmethod | classmethod):
        kind = "class" if isinstance(function, type) else "method of a class"
        raise refuse(function, f"it is a {kind}", PLAIN)
    if not callable(function) or not hasattr(function, "__name__"):  # None, or an object that can be called, such as a partial
        raise refuse(function, "it is no function, which has a name", PLAIN)


def names_of(given: Iterable[Any]) -> tuple[Any, ...]:
    """Return the names given: a single text, class or function counts as one."""
    return (given,) if isinstance(given, str) or callable(given) else tuple(given or ())


def failed_at_start(function: Any, error: BaseException) -> SetupError:
    """Return the error for a provider or hook that raised: which one, what, and the user's own lines of the traceback."""
    return SetupError(_told(function, "start", error))


def failed_at_stop(function: Any, error: BaseException) -> CliffracerError:
    """Return the error for a shutdown hook, or the part of a provider after its ``yield``."""
    return CliffracerError(_told(function, "the stop", error))


def _told(function: Any, moment: str, error: BaseException) -> str:
    own = Path(__file__).parent
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not Path(frame.filename).is_relative_to(own)]
    lines = "".join(traceback.format_list([f for f in frames if "contextlib" not in f.filename][-4:])).rstrip()
    said = f"{error.said}\n  {error.statement}" if isinstance(error, Internal) and error.said else f"{type(error).__name__}: {error}"
    told = f"{where(function)} failed at {moment}: {said}"
    return f"{told}\n{lines}" if lines else told
