"""Reads the value of each field of a settings struct, and formats values without their secrets."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import msgspec

from cliffracer.settings.secret import MASK, Secret, decode_secret, masked
from cliffracer.settings.sources import DEFAULT, Found, Origin
from cliffracer.settings.values import Reader

_LONGEST = 200


class Field(NamedTuple):
    """How one field is read."""

    read: Reader
    default: Any
    hidden: bool


@cache
def fields_of(kind: type[msgspec.Struct]) -> dict[str, Field]:
    """Return the fields of a settings struct: ``Annotated[type, reader]``, or any type that msgspec can convert to."""
    found = {}
    for field in msgspec.structs.fields(kind):
        readers = [extra for extra in getattr(field.type, "__metadata__", ()) if callable(extra)]
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        found[field.name] = Field(readers[0] if readers else _converter(field.type), default, _holds_secret(field.type))
    return found


def read(kind: type[msgspec.Struct], found: Mapping[str, Found], problems: list[str]) -> tuple[dict[str, Any], dict[str, Origin]]:
    """Return the value of each field and the origin of each that is not left at its default; what cannot be read is added to `problems`."""
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for name, field in fields_of(kind).items():
        one = found.get(name)
        if one is None or one.origin == DEFAULT or _is_blank(one.value):
            values[name] = field.default
            if field.default is msgspec.NODEFAULT:
                problems.append(f"{name} is not set")
            continue
        origins[name] = one.origin
        try:
            values[name] = field.read(one.value)
        except ValueError as error:
            values[name] = field.default
            problems.append(f"{label(name, one.origin)} {_wrong(name, one.value, field)}: {error}")
    return values, origins


def label(name: str, origin: Origin) -> str:
    """Return a setting's name where it is set, and the place: ``HTTP_PORT (.env line 3)``."""
    return f"{origin.key or name} ({origin.place})"


def shown(name: str, value: object) -> str:
    """Return a setting as text that holds no secret and no password."""
    if value is None:
        return ""
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, (tuple, list)):
        return ",".join(shown(name, item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:.15g}" if isinstance(value, float) else str(value)
    if "://" in text or name.endswith(("url", "urls")):
        text = masked(text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _wrong(name: str, value: object, field: Field) -> str:
    if field.hidden:
        return "cannot be used"
    told = shown(name, value)
    return f"is {told!r}" if isinstance(value, str) else f"is {told}"


def _is_blank(value: object) -> bool:
    return (isinstance(value, str) and not value.strip()) or (isinstance(value, Secret) and not value)


def _holds_secret(kind: Any) -> bool:
    return kind is Secret or get_origin(kind) is Secret or any(_holds_secret(inner) for inner in get_args(kind))


def _converter(kind: Any) -> Callable[[object], Any]:
    """Return a reader for a field that a user's own settings add."""
    hidden = _holds_secret(kind)
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    splits = get_origin(plain) in (list, tuple, set, frozenset)

    def convert(value: object) -> Any:
        if splits and isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        try:
            return value if isinstance(value, Secret) else msgspec.convert(value, kind, strict=False, dec_hook=decode_secret)
        except msgspec.ValidationError as error:
            raise ValueError("a value of another type is wanted" if hidden else str(error)) from None

    return convert
