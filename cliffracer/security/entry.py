"""Decides who calls and whether they may before any of the input is read.

So a stranger causes no work, and learns nothing of what a handler takes. The verdict is set on the call's context. A refused call
goes on without arguments, and the rule around the handler raises the refusal: it is counted, logged, traced and mapped as any error.
"""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cliffracer.context import Context, current
from cliffracer.errors import DeadlineExceeded, Forbidden, ServiceError, Unauthenticated
from cliffracer.security.authentication import Scope, authenticate, authenticate_now
from cliffracer.security.authority import Authority
from cliffracer.security.guards import Rule
from cliffracer.security.identity import Identity
from cliffracer.security.tokens import RefusedToken

Check = Callable[[Identity, Context, dict[str, Any]], Any]


class Refusal(NamedTuple):
    """Why a call is refused. The error is made anew each time: kept, its traceback and the context would refer to each other."""

    kind: type[ServiceError]
    message: str
    details: dict[str, Any]

    def error(self) -> ServiceError:
        """Return what to raise."""
        return self.kind(self.message, **self.details)


class Failed(NamedTuple):
    """A user's check raised: its error goes to the app's error mappings and the log, as anywhere else."""

    cause: Exception

    def error(self) -> Exception:
        """Return what to raise."""
        return self.cause


class Entry:
    """The rules of one handler that can be decided without its arguments."""

    def __init__(self, authority: Authority, rules: Sequence[Rule], checks: Sequence[Check], *, lasting: bool) -> None:
        self._authority = authority
        self._rules = [rule for rule in rules if rule.permissions or rule.roles]
        self._checks = checks
        self._asks = lasting or bool(checks) or authority.issuer is not None

    @property
    def waits(self) -> bool:
        """Whether to decide may need I/O: an issuer, other replicas, the database, a user's check."""
        return self._asks or self._authority.keyring is not None

    def decide(self, context: Context, scope: Scope) -> bool:
        """Say whether a call is let in, without I/O; ``context.verdict`` says why not."""
        try:
            return self._judge(context, authenticate_now(self._authority, context, scope))
        except RefusedToken as refused:
            return self._bad(context, refused)
        except ServiceError as refused:
            return _refuse(context, refused)

    async def decided(self, context: Context, scope: Scope) -> bool:
        """Say whether a call is let in, where that may need I/O, within the time of the call."""
        revoked = self._authority.revoked
        if not self.waits and (revoked is None or not revoked.behind):
            return self.decide(context, scope)
        before, limit = current.set(context), asyncio.timeout(context.remaining())
        try:
            async with limit:
                identity = await authenticate(self._authority, context, scope)
                if self._judge(context, identity) and self._checks:
                    await checked(self._checks, context, {})
        except RefusedToken as refused:
            return self._bad(context, refused)
        except ServiceError as refused:
            return _refuse(context, refused)
        except Exception as failed:  # noqa: BLE001 - a check is the user's code; it is raised again where the call is invoked
            if isinstance(failed, TimeoutError) and limit.expired():
                return _refuse(context, DeadlineExceeded("the time for this call is over"))
            context.verdict = Failed(failed)
        finally:
            current.reset(before)
        return context.verdict is None

    def _bad(self, context: Context, refused: RefusedToken) -> bool:
        before = current.set(context)  # so that the log line has this call's ids
        self._authority.note(refused)
        current.reset(before)
        return _refuse(context, Unauthenticated("the token is not valid", reason="invalid_token"))

    def _judge(self, context: Context, identity: Identity | None) -> bool:
        if identity is None:
            return _refuse(context, Unauthenticated("a token is needed"))
        for rule in self._rules:
            if not rule.allows(identity.roles, identity.permissions):
                asked = {"scope": " ".join(rule.permissions)} if rule.permissions and not rule.any else {}
                return _refuse(context, Forbidden(f"{identity.subject} may not do this", reason="insufficient_scope", **asked))
        context.verdict = None
        return True


async def checked(checks: Sequence[Check], context: Context, arguments: dict[str, Any]) -> None:
    """Return if all of the user's checks return true; else raise `Forbidden`, or what they raise."""
    identity = context.identity
    assert identity is not None
    for check in checks:
        allowed = check(identity, context, arguments)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if callable(allowed):  # `identity.has_role`, and not called: it would be a yes to everybody
            raise TypeError(f"a check returned {allowed!r}, which is no answer: call it")
        if not allowed:
            raise Forbidden(f"{identity.subject} may not do this")


def _refuse(context: Context, error: ServiceError) -> bool:
    context.verdict = Refusal(type(error), error.message, error.details)
    return False
