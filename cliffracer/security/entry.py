"""A handler's way in: who calls, and whether they may, before anything is read of what they send.

So a stranger makes us do no work, and learns nothing of what a handler takes. The verdict stands on the call's context; where it is
a refusal the call goes on without arguments, and the rule around the handler raises it: counted, logged, traced and mapped as any.
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
    """Why a call is not let in: what is raised for it, made anew each time, or context and traceback would hold each other."""

    kind: type[ServiceError]
    message: str
    details: dict[str, Any]

    def error(self) -> ServiceError:
        """Return what to raise."""
        return self.kind(self.message, **self.details)


class Failed(NamedTuple):
    """That a check of the user's own failed, which is for the app's error mappings and our log, as in any other place."""

    cause: Exception

    def error(self) -> Exception:
        """Return what to raise."""
        return self.cause


class Entry:
    """What one handler asks of its callers, as far as that can be told without its arguments."""

    def __init__(self, authority: Authority, rules: Sequence[Rule], checks: Sequence[Check], *, lasting: bool) -> None:
        self._authority = authority
        self._rules = [rule for rule in rules if rule.permissions or rule.roles]
        self._checks = checks
        self._asks = lasting or bool(checks) or authority.issuer is not None

    @property
    def waits(self) -> bool:
        """Whether somebody may have to be asked: an issuer, other replicas, the database, a check of the user's own."""
        return self._asks or self._authority.keyring is not None

    def decide(self, context: Context, scope: Scope) -> bool:
        """Say whether a call is let in, where nobody has to be asked; ``context.verdict`` says why not."""
        try:
            return self._judge(context, authenticate_now(self._authority, context, scope))
        except RefusedToken as refused:
            return self._bad(context, refused)
        except ServiceError as refused:
            return _refuse(context, refused)

    async def decided(self, context: Context, scope: Scope) -> bool:
        """Say the same, whoever has to be asked, within the time of the call."""
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
        before = current.set(context)  # the line is of this call
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
    """Return if all of the user's own checks say yes; else raise `Forbidden`, or what they raise."""
    identity = context.identity
    assert identity is not None
    for check in checks:
        allowed = check(identity, context, arguments)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if not allowed:
            raise Forbidden(f"{identity.subject} may not do this")


def _refuse(context: Context, error: ServiceError) -> bool:
    context.verdict = Refusal(type(error), error.message, error.details)
    return False
