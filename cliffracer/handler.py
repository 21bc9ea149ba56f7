"""A declared function with all that its calls need, and a call on its way there; and who may call, as the rest of the package knows it."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any, Protocol

from cliffracer.context import Context
from cliffracer.declarations import Record
from cliffracer.observability.calls import CallLog
from cliffracer.observability.spans import FORGETFUL, Spans
from cliffracer.observability.stats import Stats
from cliffracer.resilience.deadlines import Watch
from cliffracer.resilience.gate import Gate
from cliffracer.signature import Signature

Deliver = Callable[[Any], Awaitable[None]]
Failed = Callable[[Context, BaseException | None, Any], None]
"""Takes a call's context, what it raised, and what that became: a `ServiceError`, or what the app's error mapping answers.

None: it raised nothing, and returned a response with the status of an error.
"""


class Entry(Protocol):
    """Decides whether a call is let in, before a transport reads its input; ``scope`` is ASGI's, None of a message.

    After a refusal the call is invoked without arguments, and fails as ``context.verdict`` says.
    """

    @property
    def waits(self) -> bool:
        """Whether `decided` has to be used: to decide may need I/O."""

    def decide(self, context: Context, scope: Mapping[str, Any] | None) -> bool:
        """Say whether a call is let in."""

    async def decided(self, context: Context, scope: Mapping[str, Any] | None) -> bool:
        """Say whether a call is let in, where that may need I/O."""


class Call:
    """One call on its way through middleware and providers."""

    __slots__ = ("arguments", "cache", "context", "deliver", "handler", "source")

    def __init__(self, handler: "Handler", context: Context, arguments: tuple[Any, ...], source: Any, deliver: Deliver | None) -> None:
        self.handler = handler
        self.context = context
        self.arguments = arguments
        self.source = source
        """What the transport received: a Request, a WebSocket, a Received event; None for an RPC."""
        self.deliver = deliver
        """Takes each item of a handler that streams."""
        self.cache: dict[Any, Any] | None = None


Step = Callable[[Call], Awaitable[Any]]
"""One layer around a handler: middleware, a rule, a rate, a span."""


class Policy(Protocol):
    """What a handler asks of its callers; its text is what discovery and the documents say of that."""

    @property
    def public(self) -> bool:
        """Whether everybody may call."""

    @property
    def permissions(self) -> tuple[str, ...]:
        """All permissions that it names; the scopes of OpenAPI."""


class Authority(Protocol):
    """Who verifies tokens here."""

    def jwks(self) -> list[dict[str, Any]]:
        """Return the public keys that its own tokens are verified by (RFC 7517)."""


class Rules(Protocol):
    """Who may call the handlers of a process, and who is told of it: `cliffracer.security` has them, imported where apps have any."""

    @property
    def authority(self) -> Authority | None:
        """Who verifies tokens; None where nobody does."""

    def policy(self, record: Record, /) -> Policy | None:
        """Return what is asked of a handler's callers; None if nothing is."""

    def entry(self, record: Record, signature: Signature, /) -> Entry | None:
        """Return what decides on a call before its input is read; None where everybody may."""

    def surrounds(self, record: Record, /) -> bool:
        """Say whether `step` puts anything around a handler."""

    def step(self, record: Record, signature: Signature, inner: Step, /) -> Step:
        """Return the way through the rules of a handler to the rest of it."""


class Handler:
    """A declared function with all that its calls need, resolved once at start."""

    __slots__ = (
        "call",
        "calls",
        "deadline",
        "entry",
        "failed",
        "function",
        "gate",
        "guarded",
        "kind",
        "mappings",
        "name",
        "run",
        "service",
        "spans",
        "stats",
        "watch",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        service: str,
        name: str,
        kind: str,
        gate: Gate,
        watch: Watch,
        deadline: float | None,
        constants: dict[str, Any] | None = None,
        mappings: Mapping[type[Exception], Callable[..., Any]] | None = None,
        run: Step | None = None,
        call: Callable[..., Awaitable[Any]] | None = None,
        calls: CallLog | None = None,
        guarded: bool = False,
        entry: Entry | None = None,
        spans: Spans = FORGETFUL,
        failed: Failed | None = None,
    ) -> None:
        self.failed = failed
        self.spans = spans
        """Remembers the last calls, for `cliffracer trace`."""
        self.guarded = guarded
        """Whether it has rules, which `run` applies."""
        self.entry = entry
        """Decides before input is read; None where everybody may call."""
        self.calls = calls
        """Notes the share of calls that ``settings.log_calls`` asks for; None when that is none."""
        self.function = function
        self.service = service
        self.name = name
        self.kind = kind
        self.gate = gate
        self.watch = watch
        self.deadline = deadline
        """Seconds that a call may take at most."""
        self.mappings = mappings or {}
        self.run = run
        """The way through middleware and per-call providers; None if the function can be called at once."""
        call = call or function
        self.call = partial(call, **constants) if constants else call
        """The function with its ``constants``, so that its result can be awaited; a plain ``def`` runs in a thread."""
        self.stats = Stats()

    def called(self, block: bytes | None) -> Context:
        """Return the context of a new call by a message with these headers; it may take all the time that the handler gives."""
        until = None if self.deadline is None else monotonic() + self.deadline
        return Context(self.service, self.name, self.kind, None, None, until, block)

    def context(
        self,
        *,
        timeout: float | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
        headers: Mapping[str, str] | None = None,
        block: bytes | None = None,
    ) -> Context:
        """Return the context of a new call; it may take the caller's ``timeout`` or the handler's deadline, whichever is shorter."""
        mine = self.deadline
        seconds = mine if timeout is None or (mine is not None and mine < timeout) else timeout
        until = None if seconds is None else monotonic() + seconds
        return Context(self.service, self.name, self.kind, correlation_id, traceparent, until, block, headers)
