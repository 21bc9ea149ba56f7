"""The one place where rules are enforced: a step around a handler's way, whatever door the call came through."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from cliffracer.checking import Declared
from cliffracer.context import Context
from cliffracer.declarations import Record, Route, Rpc, Socket, Subscription, Value, where
from cliffracer.errors import Forbidden, SetupError, Unauthenticated, Unavailable
from cliffracer.frozen import Frozen
from cliffracer.invoke import Call
from cliffracer.security.access import Access
from cliffracer.security.authority import Authority, configured
from cliffracer.security.claims import Claims
from cliffracer.security.guards import Policy, binder, effective
from cliffracer.security.identity import Identity
from cliffracer.security.recognition import recognise, recognised, renew
from cliffracer.security.tokens import RefusedToken
from cliffracer.settings import Settings
from cliffracer.signature import Signature

Step = Callable[[Call], Awaitable[Any]]
_LOOK = 1.0  # seconds between two looks at the token of a stream or socket
_CALLED = (Rpc, Subscription, Route, Socket)


class Enforcement:
    """The rules of all apps of a process, and whom their callers are recognised by."""

    def __init__(self, authority: Authority, policies: dict[Any, Policy], hooks: dict[Any, tuple[Any, ...]]) -> None:
        self.authority = authority
        self._hooks = hooks
        self._policies = policies

    def policy(self, record: Record) -> Policy | None:
        """Return what is asked of a handler's callers; None of a timer, which has none."""
        return self._policies.get(record.function) if isinstance(record, _CALLED) else None

    def step(self, record: Record, signature: Signature, inner: Step) -> Step:
        """Return the way through a handler's rules to the rest of it."""
        policy = self.policy(record)
        if policy is None:
            return inner
        if policy.public:
            return _recognised(self.authority, inner)
        return _guarded(self.authority, policy, signature, inner, self._hooks.get(record.function, ()), lasting=isinstance(record, Socket))


def enforcement(frozen: Sequence[Frozen], settings: Settings) -> Enforcement | None:
    """Return what enforces the rules of these apps, None if there are none; `SetupError` lists every handler that was forgotten."""
    records = [d for f in frozen for d in f.declared if isinstance(d.record, _CALLED)]
    policies = {d.record.function: policy for d in records if (policy := _policy(d, settings)) is not None}
    guarded = [d.record.function for d in records if d.record.function in policies and not policies[d.record.function].public]
    if not configured(settings):
        if guarded or settings.auth_required:
            raise _without_keys(guarded, required=settings.auth_required)
        return None
    forgotten = [d.record.function for d in records if d.record.function not in policies]
    if forgotten:
        raise SetupError(
            f"Tokens are configured, and nothing says who may call {_listed(forgotten)}. "
            "Put @requires(...) or @public on each, or set auth_required."
        )
    hooks = {d.record.function: f.accesses for f in frozen for d in f.declared}
    return Enforcement(Authority.of(settings, _claims(frozen)), policies, hooks)


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


def _recognised(authority: Authority, inner: Step) -> Step:
    async def step(call: Call) -> Any:
        try:
            await recognised(authority, call)
        except (RefusedToken, Forbidden, Unavailable):
            call.context.identity = None  # as good as none: everybody may
        return await inner(call)

    return step


def _guarded(authority: Authority, policy: Policy, signature: Signature, inner: Step, hooks: Sequence[Any], *, lasting: bool) -> Step:
    rules = [rule for rule in policy.rules if rule.permissions or rule.roles]
    names = tuple(p.name for p in signature.accepts)
    checks = binder(policy, signature.function, names)
    own = authority.issuer is None and not lasting  # then nobody has to be asked
    lasts = lasting or signature.streams

    async def admit(call: Call) -> Identity:
        context = call.context
        try:
            identity = recognise(authority, call) if own and authority.keyring is None else await recognised(authority, call)
        except RefusedToken:
            raise Unauthenticated("the token is not valid", reason="invalid_token") from None
        if identity is None:
            raise Unauthenticated("a token is needed")
        for rule in rules:
            if not rule.allows(identity.roles, identity.permissions):
                asked = {"scope": " ".join(rule.permissions)} if rule.permissions and not rule.any else {}
                raise Forbidden(f"{identity.subject} may not do this", reason="insufficient_scope", **asked)
        if checks:
            await _check(checks, identity, context, dict(zip(names, call.arguments, strict=False)))
        return identity

    async def step(call: Call) -> Any:
        identity = await (admit(call) if not hooks else _audited(hooks, admit, call))
        if not lasts:
            return await inner(call)
        return await _while_good(authority, call.context, identity, inner(call))

    return step


async def _check(checks: Sequence[Any], identity: Identity, context: Context, arguments: dict[str, Any]) -> None:
    for _, check in checks:
        allowed = check(identity, context, arguments)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if not allowed:
            raise Forbidden(f"{identity.subject} may not do this")


async def _audited(hooks: Sequence[Any], admit: Callable[[Call], Awaitable[Identity]], call: Call) -> Identity:
    """Return who was let in; the app's hooks are told, also of who was not."""
    try:
        identity = await admit(call)
    except (Unauthenticated, Forbidden) as refused:
        await _tell(hooks, call, type(refused).__name__)
        raise
    await _tell(hooks, call, None)
    return identity


async def _tell(hooks: Sequence[Any], call: Call, refused: str | None) -> None:
    context = call.context
    access = Access(context.identity, context.service, context.handler, context.kind, context.correlation_id, refused, context.via)
    for hook in hooks:
        told = hook(access)
        if inspect.isawaitable(told):
            await told


async def _while_good(authority: Authority, context: Context, identity: Identity, work: Awaitable[Any]) -> Any:
    """Return what lasting work returns; it ends when the token does, or is revoked, within a second."""
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
