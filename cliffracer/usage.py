"""Messages for decorators that are called with wrong arguments: they show how to write it, in the user's words and not our class names."""

import inspect
import reprlib
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, Signature
from typing import Any, TypeVar, get_args

from cliffracer.declarations import check_called
from cliffracer.errors import SetupError
from cliffracer.nearest import nearest

F = TypeVar("F", bound=Callable[..., Any])


def usage(example: str, *, unless: type | None = None, several: str = "") -> Callable[[F], F]:
    """Raise `SetupError` for arguments that a method does not take; ``example`` shows how to write it: ``@app.get('/path')``.

    A decorator that takes arguments gets the function itself where they were forgotten: that is refused too, unless it is a subclass
    of ``unless``. ``several`` says what to write instead of several arguments where only one is taken.
    """

    def mind(method: F) -> F:
        takes = _flat(inspect.signature(method))
        shown, parenthesis, _ = example.partition("(")
        texts = {name for name, p in takes.parameters.items() if p.annotation is str}
        needed = {name for name, p in takes.parameters.items() if p.default is Parameter.empty}
        asks = bool(parenthesis) and example.startswith("@")
        alone = not parenthesis and not any(p.kind is Parameter.KEYWORD_ONLY for p in takes.parameters.values())

        @wraps(method)
        def call(*given: Any, **named: Any) -> Any:
            first = given[1] if len(given) > 1 else None
            if asks and not (unless and isinstance(first, type) and issubclass(first, unless)):
                check_called(first, example)
            try:
                bound = takes.bind(*given, **named)
            except TypeError as error:
                wrong = _wrong(takes, example, given[1:], named) or f"{shown}: {error}."
                alike = several and len(given) > 2 and all(isinstance(one, str | type) for one in given[1:])
                raise SetupError(f"{wrong} {several}" if alike else wrong) from None
            if alone and not all(map(callable, (*given[1:], *named.values()))):
                raise SetupError(_alone(example))
            for name, value in bound.arguments.items():
                if not isinstance(value, str) and name in texts and (value is not None or name in needed):
                    cure = example if name in needed else f"{name}={str(value)!r}"
                    raise SetupError(f"{shown}: its {name} is {reprlib.repr(value)}, which is no text. Write {cure}.")
            return method(*given, **named)

        return call  # type: ignore[return-value]  # what is called is as the method is; to type checkers it is the method

    return mind


def _flat(signature: Signature) -> Signature:
    """Return a signature with the options that a ``TypedDict`` lists, each by its name."""
    found: list[Parameter] = []
    for parameter in signature.parameters.values():
        options = [kind.__annotations__ for kind in get_args(parameter.annotation)] if parameter.kind is Parameter.VAR_KEYWORD else []
        found += [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for kinds in options for name in kinds] or [parameter]
    return signature.replace(parameters=found)


def _wrong(takes: Signature, example: str, given: tuple[Any, ...], named: Mapping[str, Any]) -> str:
    """Return what is wrong with arguments, and what to write; empty where Python's own words must do."""
    shown, parenthesis, _ = example.partition("(")
    parameters = {name: p for name, p in list(takes.parameters.items())[1:] if p.annotation is not None}  # None: it is refused
    places = [name for name, p in parameters.items() if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
    options = [name for name, p in parameters.items() if p.default is not Parameter.empty and p.kind is not Parameter.POSITIONAL_ONLY]
    if not options and not parenthesis:
        return _alone(example)
    for name in (name for name in named if name not in parameters):
        near = nearest(name, [*places, *options])
        cure = f"Did you mean {near}?" if near else f"It has {', '.join(options)}." if options else f"Write {example}."
        return f"{shown} has no option {name}. {cure}"
    if len(given) > len(places):
        cure = f"its options have names: {', '.join(options)}." if options else f"that is too much. Write {example}."
        return f"{shown}({', '.join(map(reprlib.repr, given))}): {cure}"
    lacks = [name for name in parameters if name not in {*places[: len(given)], *named, *options}]
    return f"{shown} lacks its {lacks[0]}. Write {example}." if lacks and parenthesis else ""


def _alone(example: str) -> str:
    return f"{example} takes the function and nothing else. Write {example} above it, without parentheses."
