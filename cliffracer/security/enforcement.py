"""The one place where rules are enforced: a step around a handler, whatever transport the call came by."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET

from cliffracer.checking import Declared
from cliffracer.context import Context
from cliffracer.declarations import Record, Socket, Value, where
from cliffracer.errors import Forbidden, Overloaded, SetupError, Unauthenticated, Unavailable
from cliffracer.frozen import Frozen
from cliffracer.handler import Call, Step
from cliffracer.security.access import CALLED, Witness, hooks_of, tell
from cliffracer.security.authentication import Scope, authenticate, renew
from cliffracer.security.authority import Authority
from cliffracer.security.claims import Claims
from cliffracer.security.entry import Check, Entry, checked
from cliffracer.security.guards import Policy, checks_of, effective
from cliffracer.security.identity import Identity
from cliffracer.security.tokens import RefusedToken
from cliffracer.settings import Settings
from cliffracer.signature import Signature

_LOOK = 1.0  # seconds between two looks at the token of a stream or socket
_BROWSERS = frozenset({"http", "websocket"})


class Enforcement:
    """The rules of all apps of a process, and the authority that authenticates their callers."""

    def __init__(self, authority: Authority, policies: dict[Any, Policy], hooks: dict[Any, tuple[Any, ...]]) -> None:
        self.authority = authority
        self._hooks = hooks
        self._policies = policies

    def policy(self, record: Record) -> Policy | None:
        """Return what is asked of a handler's callers; None for a timer, which has none."""
        return self._policies.get(record.function) if isinstance(record, CALLED) else None

    def surrounds(self, record: Record) -> bool:
        """Say whether a handler has rules."""
        return self.policy(record) is not None

    def step(self, record: Record, signature: Signature, inner: Step) -> Step:
        """Wrap a handler in its rules."""
        policy = self.policy(record)
        if policy is None:
            return inner
        if policy.public:
            return _let_through(self.authority, inner, self._hooks.get(record.function, ()))
        return _guarded(self.authority, self._guard(record, policy, signature), inner, self._hooks.get(record.function, ()))

    def entry(self, record: Record, signature: Signature) -> Entry | None:
        """Return what decides on a call before its input is read; None where everybody may."""
        policy = self.policy(record)
        return None if policy is None or policy.public else self._guard(record, policy, signature).entry

    def _guard(self, record: Record, policy: Policy, signature: Signature) -> "_Guard":
        names = tuple(p.name for p in signature.accepts)
        early, late = checks_of(policy, signature.function, names)
        socket = isinstance(record, Socket)
        return _Guard(Entry(self.authority, policy.rules, early, lasting=socket), late, names, lasts=socket or signature.streams)


class _Guard(NamedTuple):
    """All that is asked of a handler's callers."""

    entry: Entry
    checks: Sequence[Check]
    """Checks that look at arguments."""
    names: tuple[str, ...]
    lasts: bool
    """Whether it is checked again and again while the handler runs."""


def enforcement(frozen: Sequence[Frozen], settings: Settings) -> Enforcement | Witness | None:
    """Return what enforces the rules of these apps, None if there are none; `SetupError` lists every handler that was forgotten."""
    records = [d for f in frozen for d in f.declared if isinstance(d.record, CALLED)]
    policies = {d.record.function: policy for d in records if (policy := _policy(d, settings)) is not None}
    guarded = [d.record.function for d in records if d.record.function in policies and not policies[d.record.function].public]
    if not settings.recognises:
        if guarded or settings.auth_required:
            raise _without_keys(guarded, required=settings.auth_required)
        return Witness(frozen) if any(f.accesses for f in frozen) else None
    forgotten = [d.record.function for d in records if d.record.function not in policies]
    if forgotten:
        raise SetupError(
            f"Tokens are configured, and nothing says who may call {_listed(forgotten)}. "
            "Put @requires(...) or @public on each, or set AUTH_REQUIRED=true, which asks for a token where neither stands."
        )
    alone = [m.path for f in frozen for m in f.mounts if not m.public]
    if alone:
        raise SetupError(
            f"Tokens are configured, and what is mounted at {', '.join(alone)} has no rule. "
            "Say mount(..., public=True) where the application asks its callers itself."
        )
    return Enforcement(Authority.of(settings, _claims(frozen)), policies, hooks_of(frozen))


def _claims(frozen: Sequence[Frozen]) -> Claims | None:
    found = [p.function.value for f in frozen for p in f.providers if p.provides is Claims and isinstance(p.function, Value)]
    if any(one != found[0] for one in found):
        raise SetupError("Two apps of one process provide different Claims, and tokens have one meaning in it. Provide the same.")
    return found[0] if found else None


def _policy(declared: Declared, settings: Settings) -> Policy | None:
    return effective(declared.record.function, declared.signature, required=settings.auth_required)


def _without_keys(guarded: list[Any], *, required: bool) -> SetupError:
    what = "auth_required is set" if required else f"Only known callers may call {_listed(guarded)}"
    return SetupError(
        f"{what}, and no key says whose tokens are good. Set AUTH_SECRET_KEY, made by: "
        'python -c "import secrets; print(secrets.token_urlsafe(48))"'
    )


def _listed(functions: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(where(function) for function in functions))


def _let_through(authority: Authority, inner: Step, hooks: Sequence[Any]) -> Step:
    async def step(call: Call) -> Any:
        try:
            await authenticate(authority, call.context, scope_of(call))
        except (RefusedToken, Forbidden, Unavailable, Overloaded) as refused:
            call.context.identity = None  # ignored: everybody may call
            if isinstance(refused, RefusedToken):
                authority.note(refused)
        if hooks:
            await tell(hooks, call, None, proven=authority.provenance.proven(call.context))
        return await inner(call)

    return step


def scope_of(call: Call) -> Scope:
    """Return the ASGI scope of a call over HTTP; None for one over NATS."""
    return call.source.scope if call.context.kind in _BROWSERS else None


def _guarded(authority: Authority, guard: "_Guard", inner: Step, hooks: Sequence[Any]) -> Step:
    entry, checks, names = guard.entry, guard.checks, guard.names

    async def admit(call: Call) -> Identity:
        context = call.context
        if context.verdict is UNSET:  # a transport that has not asked yet
            await entry.decided(context, scope_of(call))
        if context.verdict is not None:
            raise context.verdict.error()
        if checks:
            await checked(checks, context, dict(zip(names, call.arguments, strict=False)))
        assert context.identity is not None
        return context.identity

    async def quick(call: Call) -> Any:
        refusal = call.context.verdict
        if refusal is UNSET:
            await admit(call)
        elif refusal is not None:
            raise refusal.error()
        return await inner(call)

    async def step(call: Call) -> Any:
        identity = await (admit(call) if not hooks else _audited(authority, hooks, admit, call))
        if not guard.lasts:
            return await inner(call)
        return await _while_good(authority, call.context, identity, inner(call))

    return step if hooks or checks or guard.lasts else quick


async def _audited(authority: Authority, hooks: Sequence[Any], admit: Callable[[Call], Awaitable[Identity]], call: Call) -> Identity:
    """Return who was let in; the app's hooks hear of refusals too."""
    try:
        identity = await admit(call)
    except (Unauthenticated, Forbidden) as refused:
        await tell(hooks, call, type(refused).__name__, proven=authority.provenance.proven(call.context))
        raise
    await tell(hooks, call, None, proven=authority.provenance.proven(call.context))
    return identity


async def _while_good(authority: Authority, context: Context, identity: Identity, work: Awaitable[Any]) -> Any:
    """Return the result of long work; it is ended within a second after the token expires or is revoked."""
    loop = asyncio.get_running_loop()
    looking: list[asyncio.TimerHandle] = []

    def look() -> None:
        if authority.good(identity):
            renew(authority, context)
            looking[:] = [loop.call_later(_LOOK, look)]
        else:
            scope.reschedule(loop.time())

    try:
        async with asyncio.timeout(None) as scope:
            look()
            return await work
    except TimeoutError:
        if scope.expired():
            raise Unauthenticated("the token is good no more", reason="invalid_token") from None
        raise
    finally:
        for timer in looking:
            timer.cancel()
