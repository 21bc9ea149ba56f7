"""``cliffracer docs``: the documents that describe apps, without running them."""

from collections.abc import Sequence
from typing import Any

from cliffracer.assembly import Assembly
from cliffracer.cli.loading import load_apps
from cliffracer.cli.output import hand_over_json
from cliffracer.declarations import Leader, Record, Timer
from cliffracer.frozen import Frozen
from cliffracer.handler import Step
from cliffracer.injection import Injector
from cliffracer.security.guards import AUTHENTICATED, Policy, policy_of
from cliffracer.settings import Settings
from cliffracer.signature import Signature
from cliffracer.web import asyncapi, openapi


def docs(*, apps: tuple[str, ...], kind: str, output: str | None, as_json: bool = False) -> None:
    """Print or write OpenAPI 3.1 or AsyncAPI 3.0."""
    settings = Settings.load()
    frozen = [app.freeze() for app in load_apps(apps)]
    rules = _stated(frozen, settings)
    assemblies = [Assembly(f, Injector((), _nothing, {}), limit=settings.limit, deadline=settings.deadline, rules=rules) for f in frozen]
    document = (openapi if kind == "openapi" else asyncapi).document(assemblies, settings)
    hand_over_json(document, output, as_json=as_json)


class _Stated:
    """The rules of apps as they are written down: enforcing them needs keys, describing them does not."""

    authority = None

    def __init__(self, policies: dict[Any, Policy]) -> None:
        self._policies = policies

    def policy(self, record: Record) -> Policy | None:
        """Return what is asked of a handler's callers."""
        return self._policies.get(record.function)

    def entry(self, _record: Record, _signature: Signature) -> None:
        """Nobody calls what is only described."""

    def surrounds(self, _record: Record) -> bool:
        """Say that there is nothing around a handler."""
        return False

    def step(self, _record: Record, _signature: Signature, inner: Step) -> Step:
        """Return the handler itself."""
        return inner


def _stated(frozen: Sequence[Frozen], settings: Settings) -> _Stated | None:
    """Return the rules of all handlers that somebody calls; None if there are none."""
    found: dict[Any, Policy] = {}
    for declared in (declared for one in frozen for declared in one.declared):
        policy = policy_of(declared.record.function) or (AUTHENTICATED if settings.auth_required else None)
        if policy is not None and not isinstance(declared.record, Timer | Leader):
            found[declared.record.function] = policy
    return _Stated(found) if found else None


def _nothing(_annotation: Any) -> Any:
    return None
