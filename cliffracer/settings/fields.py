"""Reads the value of each field of a settings struct, and formats values without their secrets."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import msgspec

from cliffracer.durations import seconds
from cliffracer.errors import SetupError
from cliffracer.settings.secret import MASK, Secret, decode_secret, masked
from cliffracer.settings.sources import DEFAULT, PREFIX, Found, Origin
from cliffracer.settings.values import Reader, flag

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
                problems.append(f"{name} is not set: it has no default, so set {PREFIX}{name.upper()}")
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
    plain = _bare(kind)
    written = _WRITTEN.get(plain)
    origin = get_origin(plain) or plain
    splits = origin in {list, tuple, set, frozenset}
    document = origin is dict or (isinstance(origin, type) and issubclass(origin, msgspec.Struct))

    def convert(value: object) -> Any:
        if written is not None and isinstance(value, str):
            value = written(value)
        elif splits and isinstance(value, str):
            value = _members(value)
        elif document and isinstance(value, str) and value.lstrip().startswith(("{", "[")):
            value = _json(value)
        try:
            return value if isinstance(value, Secret) else msgspec.convert(value, kind, strict=False, dec_hook=_decoded)
        except msgspec.ValidationError as error:
            raise ValueError("a value of another type is wanted" if hidden else str(error)) from None

    return convert


def _bare(kind: Any) -> Any:
    """Return a type without its constraints and without None."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    others = [part for part in get_args(kind) if part is not NoneType] if get_origin(kind) in {Union, UnionType} else []
    return _bare(others[0]) if len(others) == 1 else kind


def _members(text: str) -> Any:
    """Return a list: as JSON, or what stands between commas, which may begin like it, as ``[::1]:80`` and ``[a-z]*`` do."""
    begin = text.lstrip()
    if begin.startswith("["):
        try:
            return _json(text)
        except ValueError:
            if begin[1:].lstrip().startswith(('"', "{", "[")):
                raise
    return [part.strip() for part in text.split(",") if part.strip()]


def _span(text: str) -> object:
    if text.strip().lstrip("+-")[:1] in {"P", "p"}:
        return text  # ISO 8601, which msgspec reads
    try:
        return timedelta(seconds=seconds(text))
    except (ValueError, OverflowError):
        raise ValueError("a length of time is wanted, as 30 or 500ms, 30s, 10m, 1h") from None


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise ValueError("JSON is wanted where it begins like that") from None


def _decoded(kind: type[Any], value: object) -> object:
    """Return what msgspec cannot make by itself: a `Secret`, a path."""
    if isinstance(kind, type) and issubclass(kind, PurePath) and isinstance(value, str | PurePath):
        return kind(value)
    try:
        return decode_secret(kind, value)
    except NotImplementedError:
        name = getattr(kind, "__name__", str(kind))
        raise SetupError(f"A setting cannot be a {name}: declare it as text, and make one of that.") from None


_WRITTEN: dict[Any, Callable[[str], Any]] = {bool: flag, timedelta: _span}
"""Types that are written as those of our own settings are."""
