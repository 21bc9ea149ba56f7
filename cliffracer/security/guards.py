"""Rules on handlers: ``@requires`` and ``@public``, and how they combine.

The decorators mark the function and return it; the marks are read when the app starts. So it does not matter whether they
are above or below ``@app.rpc``: a rule that silently did nothing would be a security hole.
"""

from collections.abc import Callable, Iterable
from functools import partial
from inspect import isasyncgenfunction, isgeneratorfunction
from typing import Any, TypeVar, overload

import msgspec

from cliffracer.declarations import refuse, shape_of
from cliffracer.errors import SetupError
from cliffracer.providers import key_of
from cliffracer.security.identity import Identity
from cliffracer.signature import Signature

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__cliffracer_rules__"
NOT_GIVEN: Any = object()
"""Told apart from an empty list, which comes of a mistake, and would let everybody in who is known."""


class Rule(msgspec.Struct, frozen=True):
    """What one ``@requires`` asks of an authenticated caller."""

    permissions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    """One of them is enough."""
    any: bool = False
    """One of all the permissions and roles is enough."""
    check: Callable[..., Any] | None = None

    def allows(self, roles: Iterable[str], permissions: Iterable[str]) -> bool:
        """Say whether these roles and permissions are enough, whatever ``check`` says."""
        role = any(one in roles for one in self.roles)
        if self.any:
            return role or any(one in permissions for one in self.permissions)
        return (role or not self.roles) and all(one in permissions for one in self.permissions)

    def __str__(self) -> str:
        roles = f"role {' or '.join(self.roles)}" if self.roles else ""
        joint = " or " if self.any else " and "
        check = f"check {getattr(self.check, '__name__', type(self.check).__name__)}" if self.check is not None else ""
        asked = joint.join(filter(None, [joint.join(self.permissions), roles]))
        if check and self.any and len(self.permissions) + len(self.roles) > 1:
            asked = f"({asked})"
        return " and ".join(filter(None, [asked, check])) or "authenticated"


class Policy(msgspec.Struct, frozen=True):
    """All rules of a handler; every one of them must hold."""

    rules: tuple[Rule, ...] = ()
    public: bool = False

    def __str__(self) -> str:
        if self.public:
            return "public"
        return " and ".join(dict.fromkeys(f"({rule})" if rule.any and len(self.rules) > 1 else str(rule) for rule in self.rules))

    @property
    def permissions(self) -> tuple[str, ...]:
        """All permissions that its rules name; the scopes of OpenAPI."""
        return tuple(dict.fromkeys(permission for rule in self.rules for permission in rule.permissions))


PUBLIC = Policy(public=True)
AUTHENTICATED = Policy((Rule(),))


@overload
def requires(function: F, /) -> F: ...
@overload
def requires(
    *permissions: str,
    permission: str | Iterable[str] = NOT_GIVEN,
    role: str | Iterable[str] = NOT_GIVEN,
    any: bool = False,
    check: Callable[..., Any] | None = None,
) -> Callable[[F], F]: ...
def requires(
    *permissions: Any,
    permission: str | Iterable[str] = NOT_GIVEN,
    role: str | Iterable[str] = NOT_GIVEN,
    any: bool = False,
    check: Callable[..., Any] | None = None,
) -> Any:
    """Let only known callers through: with all these permissions, with one of these roles, for whom ``check`` says yes.

    ``@requires("users:write")`` (or ``permission="users:write"``), ``@requires(role="admin")``, ``@requires(role=("admin", "manager"))``;
    ``any=True``: one of all that is named is enough. ``check(identity, user_id)`` gets the identity and the arguments that it
    names (also ``context``, or all as ``arguments``), may be async, and refuses by returning False. Bare ``@requires``: anybody known.
    """
    if len(permissions) == 1 and callable(permissions[0]):
        return _marked(permissions[0], Policy((Rule(),)))
    if check is not None and (reason := _no_check(check)):
        raise SetupError(f"requires(check={check!r}): {reason}, such as check=lambda identity, owner: identity.subject == owner.")
    asked = (*permissions, *_several("permission", permission))
    rule = Rule(_names(asked), _names(_several("role", role)), any, check)
    for spaced in (name for name in rule.permissions if len(name.split()) > 1):
        raise SetupError(f"requires({spaced!r}): a permission is one word. Write requires({', '.join(map(repr, spaced.split()))}).")
    if any and not (rule.permissions or rule.roles):
        raise SetupError("requires(any=True) names nothing. Name permissions or roles.")

    def mark(function: F) -> F:
        marked: F = _marked(function, Policy((rule,)))
        return marked

    return mark


def public(function: F) -> F:
    """Let everybody through, also nobody known; a caller with a good token is still recognised."""
    marked: F = _marked(function, PUBLIC)
    return marked


def policy_of(function: Any) -> Policy | None:
    """Return all rules of a function as one policy; None without any, `SetupError` if they contradict each other."""
    found: list[Policy] = []
    for each in _layers(function):
        for policy in getattr(each, "__dict__", {}).get(_MARK, ()):
            if policy not in found:
                found.append(policy)
    if not found:
        return None
    if PUBLIC in found and len(found) > 1:
        raise refuse(function, "it is @public and has a rule too", "Keep one of them.")
    return Policy(tuple(rule for policy in found for rule in policy.rules), PUBLIC in found)


def effective(function: Any, signature: Signature | None, *, required: bool) -> Policy | None:
    """Return a handler's policy: its rules, or that callers are authenticated if ``auth_required`` or one of its parameters asks for it."""
    found = policy_of(function)
    if found is not None:
        return found
    return AUTHENTICATED if required or asks_for_identity(signature) else None


def asks_for_identity(signature: Signature | None) -> bool:
    """Say whether a handler has a required `Identity` parameter, which is a rule, too."""
    return signature is not None and any(p.required and key_of(p.annotation) is Identity for p in signature.needs)


def _marked(function: Any, policy: Policy) -> Any:
    if isinstance(function, type) or not callable(function):
        raise SetupError(f"A rule is for a function, and {function!r} is none: it would do nothing there. Put it on each handler.")
    for each in _layers(function):
        try:
            setattr(each, _MARK, (*getattr(each, "__dict__", {}).get(_MARK, ()), policy))
        except AttributeError:
            raise refuse(function, "it takes no rule", "Put the rule on a function.") from None
    return function


def _layers(function: Any) -> list[Any]:
    """Return a function and those that it wraps: the user's decorator may be between the rule and the declaration."""
    layers = [getattr(function, "__func__", function)]
    while (inner := getattr(layers[-1], "__wrapped__", None)) is not None and len(layers) < 100:  # a circle of wrappers ends, too
        layers.append(getattr(inner, "__func__", inner))
    return layers


def _several(kind: str, given: Any) -> tuple[Any, ...]:
    """Return what stands behind ``role=`` or ``permission=``, one name or several."""
    if given is NOT_GIVEN:
        return ()
    names = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    if not names:
        raise SetupError(f"requires({kind}={given!r}) names nothing, and would let everybody in who is known. Name one, or leave it out.")
    return names


def _names(names: tuple[Any, ...]) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise SetupError(f"requires: {name!r} is no permission or role. Name them, as in @requires('users:write', role='admin').")
    return names


def checks_of(policy: Policy, function: Any, names: tuple[str, ...]) -> tuple[list[Callable[..., Any]], list[Callable[..., Any]]]:
    """Return the checks as ``call(identity, context, arguments)``: those that need no argument of the handler, and the others.

    `SetupError` for a check that asks for what the handler does not have.
    """
    found = [rule.check for rule in policy.rules if rule.check is not None]
    early = [_bound(check, function, names) for check in found if not _asks(check, names)]
    return early, [_bound(check, function, names) for check in found if _asks(check, names)]


def _asks(check: Callable[..., Any], names: tuple[str, ...]) -> bool:
    parameters = shape_of(check).parameters.values()
    return any(p.kind is p.VAR_KEYWORD or p.name == "arguments" or p.name in names for p in parameters)


def _no_check(check: Any) -> str:
    """Return why something would let everybody in as a check, or is none; empty if it is one."""
    if not callable(check):
        return "a check is a function"
    if isinstance(check, type):
        return "a class makes an object, which is no answer. A check is a function, or an object that can be called"
    called = check.func if isinstance(check, partial) else check
    if any(yields(each) for each in (called, type(called).__call__) for yields in (isgeneratorfunction, isasyncgenfunction)):
        return "a generator is no answer. A check is a function that returns it"
    return ""


def _bound(check: Callable[..., Any], function: Any, names: tuple[str, ...]) -> Callable[..., Any]:
    parameters = list(shape_of(check).parameters.values())
    if starred := [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]:
        raise refuse(check, f"a check of {function.__name__} takes *{starred[0]}, and gets nothing there", "Name what it looks at.")
    wanted = [p.name for p in parameters if p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}]
    everything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    own = {"identity", "context", "arguments"}
    renamed = wanted and wanted[0] not in own | set(names) and "identity" not in wanted
    first = wanted[0] if renamed else None  # the identity, under a name of the user's
    if first is not None:
        own.add(first)
    for parameter in parameters:
        known = parameter.name not in wanted or parameter.name in own or parameter.name in names
        if not known and parameter.default is parameter.empty:
            raise refuse(
                check,
                f"a check of {function.__name__} asks for {parameter.name}",
                f"It can have identity, context, arguments{''.join(f', {name}' for name in names)}.",
            )

    def call(identity: Any, context: Any, arguments: dict[str, Any]) -> Any:
        given = {**arguments, "identity": identity, "context": context, "arguments": arguments}  # ours last
        if first is not None:
            given[first] = identity
        positional = [given[p.name] for p in parameters if p.kind is p.POSITIONAL_ONLY and p.name in given]
        named = {p.name: given[p.name] for p in parameters if p.kind is not p.POSITIONAL_ONLY and p.name in wanted and p.name in given}
        return check(*positional, **({**arguments, **named} if everything else named))

    return call
