"""What a test replaces, looked at before anything starts: what meets nobody would leave the real one in place."""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_origin

from cliffracer.errors import SetupError
from cliffracer.frozen import Frozen
from cliffracer.providers import built_in, key_of
from cliffracer.signature import read, shown

log = logging.getLogger("cliffracer.testing")


def checked(overrides: Mapping[Any, Any] | None, frozen: Sequence[Frozen]) -> dict[Any, Any]:
    """Return what is replaced, by type; `SetupError` for what is no type or no value, a line in the log for what nobody asks for."""
    if not isinstance(overrides, Mapping | None):
        raise SetupError("overrides says what takes the place of which type: overrides={Mailer: FakeMailer()}.")
    asked = set(_asked(frozen))
    for key, value in (overrides or {}).items():
        if key not in asked and not isinstance(key, type) and get_origin(key) is None:
            name = getattr(key, "__name__", repr(key))
            raise SetupError(
                f"overrides names {name}, which is no type. Write the type that a parameter asks for: {{Mailer: FakeMailer()}}."
            )
        if isinstance(key, type) and not issubclass(key, type) and _makes(key, value):
            made = f"{value.__name__}()" if isinstance(value, type) else f"what {value.__name__} returns"
            raise SetupError(f"overrides[{shown(key)}] is {value.__name__}, which is no {shown(key)} but makes one. Give {made}.")
        if key not in asked and built_in(key) is None:
            log.warning("overrides[%s] is given to nobody: no handler, provider or hook asks for that type", shown(key))
    return dict(overrides or {})


def _makes(key: type, value: Any) -> bool:
    """Say whether a value is a function in the place of an object that cannot be called, or its class in that of an object."""
    if isinstance(value, type):
        return key in value.__mro__  # a protocol may not be asked by `issubclass`
    return inspect.isfunction(value) and not _callable(key)


def _callable(key: type) -> bool:
    """Say whether objects of a type can be called, so that a function may be one."""
    return any("__call__" in vars(kind) for kind in key.__mro__)


def _asked(frozen: Sequence[Frozen]) -> Iterator[Any]:
    for each in frozen:
        yield from (provider.provides for provider in each.providers)
        signatures = [*(declared.signature for declared in each.declared if declared.signature), *map(read, each.others)]
        yield from (key_of(need.annotation) for signature in signatures for need in signature.needs)
