"""Suggestions: what a name in an error was perhaps to be, as Python says it of what nobody catches, and since 3.12 of most others."""

import builtins
import re
import sys
from collections.abc import Iterable
from types import ModuleType, TracebackType

from cliffracer.nearest import nearest

_IMPORTED = re.compile(r"cannot import name '(\w+)'")


def with_suggestion(text: str, error: BaseException | None) -> str:
    """Return how an error was printed, with ``. Did you mean: 'rpc'?`` for a name that nothing has and something nearly."""
    if "Did you mean" in text or getattr(error, "__notes__", None):
        return text
    try:
        wrong, names = _names(error)
        near = nearest(wrong, {name for name in names if name.startswith("_") <= wrong.startswith("_")})
    except Exception:  # noqa: BLE001 - whatever an object's own `__dir__` raises: the error itself is what matters
        return text
    return f"{text.rstrip()}. Did you mean: '{near}'?" if near else text


def _names(error: BaseException | None) -> tuple[str, Iterable[str]]:
    if isinstance(error, AttributeError) and error.name:
        thing = error.obj
        return error.name, dir(thing) if isinstance(thing, type | ModuleType) else [*dir(type(thing)), *getattr(thing, "__dict__", ())]
    if isinstance(error, NameError) and error.name:
        return error.name, _seen_from(error.__traceback__)
    if isinstance(error, ImportError) and error.name and (found := _IMPORTED.match(str(error))):
        return found.group(1), dir(sys.modules[error.name])
    return "", ()


def _seen_from(step: TracebackType | None) -> Iterable[str]:
    """Return the names that the line which raised could have used."""
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return [*step.tb_frame.f_locals, *step.tb_frame.f_globals, *dir(builtins)] if step is not None else []
