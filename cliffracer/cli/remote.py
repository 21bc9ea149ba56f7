"""The services that run, as the prompt of ``cliffracer shell`` has them: completed, and with the signatures that they publish."""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from functools import reduce
from operator import or_
from typing import Any

from cliffracer.cli.arguments import kinds_of, order_of, resolved, schema_of
from cliffracer.cli.output import printable
from cliffracer.client import AsyncClient
from cliffracer.messaging.directory import Info

_TYPES: dict[str, Any] = {
    "string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict, "null": None
}  # fmt: skip


class _LeftOut:
    """A default that only the service knows."""

    def __repr__(self) -> str:
        return "…"


_LEFT_OUT = _LeftOut()


class Rpc:
    """The services that run: ``await rpc.user_service.get_user(user_id=7)``."""

    def __init__(self, client: AsyncClient, infos: list[Info]) -> None:
        self._client = client
        self._methods = {info.name: {endpoint.name: endpoint.metadata or {} for endpoint in info.endpoints} for info in infos}

    def __getattr__(self, name: str) -> "Methods":
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> "Methods":
        return Methods(self._client.service(name), self._methods.get(name, {}))

    def __dir__(self) -> list[str]:
        return list(self._methods)

    def example(self) -> str:
        """Return a call that can be typed; nothing where there is none."""
        for name, methods in self._methods.items():
            for method in methods:
                return f"await rpc{f'.{name}' if name.isidentifier() else f'[{name!r}]'}.{method}(...)"
        return ""

    def __repr__(self) -> str:
        return f"<services {printable(', '.join(self._methods)) or 'none'}>"


class Methods:
    """The methods of a service."""

    def __init__(self, service: Any, described: Mapping[str, Mapping[str, str]]) -> None:
        self._service = service
        self._described = described

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._service, name) if name in {"send", "stream"} else self[name]

    def __getitem__(self, name: str) -> Any:
        send = self._service[name]
        signature = signature_of(self._described.get(name, {}))
        if signature is None:
            return send

        def call(*positional: Any, **named: Any) -> Any:
            return send(**signature.bind(*positional, **named).arguments)  # a TypeError here says what is missing or too much

        call.__name__ = call.__qualname__ = name
        call.__doc__ = self._described[name].get("summary")
        call.__signature__ = signature  # type: ignore[attr-defined]  # what `help` and completion look at
        return call

    def __dir__(self) -> list[str]:
        return [*self._described, "send", "stream"]

    def __repr__(self) -> str:
        shown = [f"{name}{signature_of(told) or '(…)'}" for name, told in self._described.items()]
        return f"<methods {printable(', '.join(shown)) or 'none'}>"


def signature_of(described: Mapping[str, str]) -> inspect.Signature | None:
    """Return the signature of a method as ``help`` and a prompt's completion know it; None if it does not publish enough."""
    order = order_of(described)
    schema = schema_of(described.get("request_schema", "{}"))
    with suppress(ValueError):  # a name that is none in Python
        if order is not None and schema is not None:
            return inspect.Signature([_parameter(name, schema) for name in order])
    return None


def _parameter(name: str, schema: Mapping[str, Any]) -> inspect.Parameter:
    whole = resolved(schema, schema)
    one = whole.get("properties", {}).get(name, {})
    kinds = kinds_of(one, schema)
    types = [kind for name, kind in _TYPES.items() if name in kinds]
    annotation = Any if len(types) == len(_TYPES) else reduce(or_, types) if types else Any
    default = inspect.Parameter.empty if name in whole.get("required", ()) else one.get("default", _LEFT_OUT)
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
