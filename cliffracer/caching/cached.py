"""``@app.cached``: the declaration of a function with cached answers."""

import functools
import inspect
from collections.abc import Callable, Iterable
from string import Formatter
from typing import Any, Literal, Protocol, TypeVar, get_args

import msgspec

from cliffracer.caching.keys import Key, Provides, arguments, asks_for, caller, digest, tag_of, told
from cliffracer.context import Context, current
from cliffracer.declarations import Route, Rpc, refuse, shape_of, surround
from cliffracer.durations import seconds
from cliffracer.errors import SetupError
from cliffracer.signature import MISSING, Signature, settled
from cliffracer.wire import schema as schemas

F = TypeVar("F", bound=Callable[..., Any])
StoreName = Literal["memory", "nats", "redis"]
LONGEST = 7 * 86_400.0
"""Seconds that an answer is cached at most; invalidations are remembered for a day more."""
SEEN = ("cliffracer.context.Context", "starlette.requests.Request", "starlette.websockets.WebSocket", "cliffracer.events.Event",
         "cliffracer.events.Received")  # fmt: skip
_MARK = "__cliffracer_cached__"


class Keeper(Protocol):
    """The cache of a running app."""

    @property
    def service(self) -> str: ...
    async def answer(self, cached: "Cached", positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return the answer to a call: a cached or a new one."""

    def answer_plainly(self, cached: "Cached", positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return the answer of a function that is not async."""


class Cached:
    """A function with cached answers, and its options."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        ttl: float,
        tags: tuple[str, ...],
        store: StoreName,
        stale: float,
        shared: bool,
        vary: Callable[[Context | None], Any] | None,
    ) -> None:
        self.function = function
        self.ttl = ttl
        self.tags = tags
        self.store: StoreName = store
        self.stale = stale
        self.shared = shared
        self.vary = vary
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.asynchronous = inspect.iscoroutinefunction(inspect.unwrap(function))
        self.live: list[Keeper] = []
        """The caches of running apps; while there are none it is an ordinary function."""
        self.hits = self.misses = self.stales = self.failures = 0
        self._signature: Signature | None = None
        self._shape = shape_of(function)
        self._decoder: msgspec.msgpack.Decoder[Any] | None = None
        self._kind = ""  # a digest of the result type: an answer cached before a field was added would be decoded with that field's default

    @property
    def signature(self) -> Signature:
        """What it takes and returns, checked; `SetupError` for an annotation that is never defined."""
        if self._signature is None:
            self.signature = settled(self.function)
        assert self._signature is not None  # as it was set
        return self._signature

    @signature.setter
    def signature(self, found: Signature) -> None:
        _check(self, found)
        try:
            self._decoder = msgspec.msgpack.Decoder(found.returns)
        except TypeError as error:
            raise refuse(self.function, f"what it returns cannot be kept: {error}", "Return a Struct, or plain values.") from None
        self._kind = schemas.digest(schemas.canonical(schemas.schema(found.returns)))
        self._signature = found

    def keeper(self) -> Keeper | None:
        """Return the cache for the current call."""
        if not self.live:
            return None
        context = current.get()
        if context is not None and len(self.live) > 1:
            return next((keeper for keeper in self.live if keeper.service == context.service), self.live[-1])
        return self.live[-1]

    def key(self, service: str, version: str, positional: tuple[Any, ...], named: dict[str, Any], provides: Provides) -> Key:
        """Return the key of the answer to a call; TypeError for arguments that do not fit, `Unkeyable` for ones that cannot be in a key.

        Each version of the service has answers of its own; invalidations apply to all of them.
        """
        bound = self._shape.bind(*positional, **named)
        bound.apply_defaults()
        given = digest(service, self.name, arguments(self.signature, bound.arguments, provides))
        context = current.get()
        who = () if self.shared else caller(context)
        other = () if self.vary is None else told(self.vary(context), "vary")
        tags = (tag_of(tag.format_map(bound.arguments)) for tag in self.tags)
        return Key(digest(given, version, self._kind, who, other), (f"f:{self.name}", f"c:{given}", *tags))

    def call_tag(self, service: str, positional: tuple[Any, ...], named: dict[str, Any], provides: Provides) -> str:
        """Return the tag of all answers to one call, for all callers and versions."""
        bound = self._shape.bind_partial(*positional, **named)
        bound.apply_defaults()
        missing = [p.name for p in self.signature.accepts if p.name not in bound.arguments]
        if missing:
            raise TypeError(f"{self.function.__name__} was called with {', '.join(missing)}, too: say with what")
        return f"c:{digest(service, self.name, arguments(self.signature, bound.arguments, provides))}"

    def encoded(self, result: Any) -> bytes | None:
        """Return an answer encoded; None for one that would not be decoded to the same value."""
        assert self._decoder is not None  # it has been called
        try:
            made = msgspec.msgpack.encode(result)
            return made if self._decoder.decode(made) == result else None
        except Exception:  # noqa: BLE001 - whatever a type of the user's own raises: then nothing is kept
            return None

    def decoded(self, payload: bytes) -> Any:
        """Return a cached answer, decoded anew for each caller."""
        assert self._decoder is not None  # it has been called
        return self._decoder.decode(payload)

    def readable(self, payload: bytes) -> bool:
        """Say whether a cached payload can be decoded: another version of the function may have stored something else."""
        try:
            self.decoded(payload)
        except Exception:  # noqa: BLE001 - whatever a type of the user's own raises
            return False
        return True

    def forget_figures(self) -> None:
        """Reset the figures."""
        self.hits = self.misses = self.stales = self.failures = 0


def cached(  # noqa: PLR0917 - made in one place
    function: F, ttl: Any, tags: Iterable[str], store: StoreName, stale: Any, shared: bool, vary: Callable[[Context | None], Any] | None
) -> tuple[F, Cached]:
    """Return the function with caching while its app runs, and its record; `SetupError` for options that make no sense."""
    inner = inspect.unwrap(function)
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        raise refuse(function, "a stream cannot be kept", "Cache what it asks for instead.")
    if store not in get_args(StoreName):
        raise refuse(function, f"there is no store {store!r}", f"Use {', '.join(get_args(StoreName))}.")
    life, old = _seconds(function, "ttl", ttl), _seconds(function, "stale", stale)
    if not life or life + old > LONGEST:
        raise refuse(function, f"an answer cannot be kept for {ttl!r}", "Give more than 0 and, with stale, 7 days at most.")
    if vary is not None:
        _check_vary(function, vary)
    record = Cached(
        function, ttl=life, tags=(tags,) if isinstance(tags, str) else tuple(tags), store=store, stale=old, shared=shared, vary=vary
    )
    if not record.asynchronous and store != "memory":
        raise refuse(function, f"a function that is not async cannot wait for {store}", "Make it async, or use store='memory'.")
    made: Any = _asynchronous(record) if record.asynchronous else _plain(record)
    wrapper = functools.wraps(function)(made)
    setattr(wrapper, _MARK, record)
    return surround(function, wrapper), record


def _check_vary(function: Any, vary: Any) -> None:
    try:
        shape_of(vary).bind(None)
    except TypeError:
        raise refuse(function, "vary is called with the context of a call", "Write vary=lambda context: ...") from None
    except ValueError:  # a function of C whose signature nobody knows
        return


def cached_of(function: Any) -> Cached | None:
    """Return the record of a function's caching, through other decorators around it; None if it has none."""
    while function is not None:
        found = getattr(function, "__dict__", {}).get(_MARK)
        if isinstance(found, Cached):
            return found
        function = getattr(function, "__wrapped__", None)
    return None


def check_kept(record: Any, function: Any) -> None:
    """Raise `SetupError` for a kind of handler whose effects would be skipped by caching."""
    found = cached_of(function)
    reads = isinstance(record, Rpc) or (isinstance(record, Route) and set(record.methods) <= {"GET", "HEAD"})
    if found is not None and not reads:
        raise refuse(
            found.function, "what it does would be left out when its answer is kept", "Cache RPCs, GET and functions that only look."
        )


def _asynchronous(record: Cached) -> Callable[..., Any]:
    async def call(*positional: Any, **named: Any) -> Any:
        keeper = record.keeper()
        if keeper is None:
            return await record.function(*positional, **named)
        return await keeper.answer(record, positional, named)

    return call


def _plain(record: Cached) -> Callable[..., Any]:
    def call(*positional: Any, **named: Any) -> Any:
        keeper = record.keeper()
        if keeper is None:
            return record.function(*positional, **named)
        return keeper.answer_plainly(record, positional, named)

    return call


def _check(record: Cached, signature: Signature) -> None:
    function = record.function
    if inspect.unwrap(function).__annotations__.get("return", MISSING) is MISSING:
        raise refuse(function, "@cached has to know what comes back", "Give it a return annotation.")
    if (name := asks_for((*signature.accepts, *signature.needs), "cliffracer.database.transaction.Transaction")) is not None:
        raise refuse(function, f"{name} is a transaction of one call", "Ask for a Database or a Repository.")
    if not record.shared and record.vary is None and (name := asks_for((*signature.accepts, *signature.needs), *SEEN)) is not None:
        raise refuse(
            function,
            f"its answer may depend on what {name} holds, such as headers",
            "Say vary=lambda context: ... what tells answers apart, or shared=True if all callers get the same.",
        )
    if record.shared and (name := asks_for(signature.needs, "cliffracer.security.identity.Identity")) is not None:
        raise refuse(function, f"it asks for {name}, and shared=True would give one caller's answer to all", "Leave out shared=True.")
    known = {p.name for p in signature.accepts}
    for tag in record.tags:
        _check_tag(function, tag, known)


def _check_tag(function: Any, tag: str, known: set[str]) -> None:
    try:
        names = {name.partition(".")[0].partition("[")[0] for _, name, _, _ in Formatter().parse(tag) if name is not None}
    except ValueError as error:
        raise refuse(function, f"the tag {tag!r} cannot be read: {error}", "Write it as 'user:{user_id}'.") from None
    if names - known:
        shown = ", ".join(sorted(names - known)) or "a place without a name"
        raise refuse(function, f"the tag {tag!r} names {shown}, which is no argument", f"It can name {', '.join(sorted(known)) or 'none'}.")


def _seconds(function: Any, name: str, value: Any) -> float:
    try:
        return seconds(value)
    except (TypeError, ValueError) as error:
        raise refuse(function, f"{name}: {error}", "Correct it.") from None


def uncallable(function: Any) -> SetupError:
    """Return the error for invalidating a function that is not cached."""
    return refuse(function, "its answers are not kept", "Put @app.cached(ttl=...) on it.")
