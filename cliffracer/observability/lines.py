"""A log record as one line: coloured words for people, a JSON object for programs.

Whatever a record holds, its line is one line and valid: control characters are escaped, so that input cannot forge a record or
drive a terminal; values of any type become something that JSON has; long ones are cut.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any
from uuid import UUID

import msgspec

from cliffracer.context import Context, current, owner
from cliffracer.errors import CliffracerError
from cliffracer.observability.redact import PRIVATE
from cliffracer.observability.tracebacks import printed
from cliffracer.settings import MASK, Secret

LONGEST = 8_000  # characters of one value
_LONGEST_TRACE = 32_000
_LARGEST = 64_000  # characters that are looked at
_ITEMS = 100
_DEPTH = 6
_RESERVED = frozenset(
    {"time", "level", "message", "logger", "line", "pid", "service", "handler", "correlation_id", "trace_id", "exception"}
)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_IN_JSON = re.compile(r"[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_BLANK = re.compile(r"[\s\"=]")
_COLOURS = {"TRACE": "2", "DEBUG": "36", "INFO": "32", "SUCCESS": "1;32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;37;41"}

Record = Mapping[str, Any]
"""What loguru gives to a sink."""
Clean = Callable[[str], str]


def call_fields() -> dict[str, str]:
    """Return what to log of the call that runs here: service, handler, correlation id, trace id; outside a call the service at most."""
    context = current.get()
    if context is None:
        service = owner.get()
        return {"service": service} if service else {}
    fields = {"service": context.service, "handler": context.handler, "correlation_id": context.correlation_id}
    trace = trace_of(context)
    if trace:
        fields["trace_id"] = trace
    return fields


def trace_of(context: Context) -> str:
    """Return the id of the trace that a call belongs to: one that nobody began before begins with the first line of it."""
    return trace_id(context.traceparent or context.onward())


def trace_id(traceparent: str | None) -> str:
    """Return the trace id of a W3C ``traceparent``, empty if it is none."""
    if traceparent is None or len(traceparent) < 55 or traceparent[2] != "-" or traceparent[35] != "-":
        return ""
    found = traceparent[3:35]
    return found if found.isascii() and found.isalnum() else ""


def json_line(record: Record, clean: Clean = str) -> str:
    """Return the record as a JSON object and a line break, fields under their names; one that is ours gets a ``_`` behind it.

    ``clean`` sees every text that the record was given, and returns it without secrets.
    """
    call = call_fields()
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(record["time"].timestamp(), UTC),  # loguru's own class is none that msgspec knows
        "level": record["level"].name,
        "message": _cleaned(_text(record["message"]), clean),
        "logger": record["name"],
        "line": record["line"],
        "pid": record["process"].id,
        **call,
    }
    for name, value in _extra(record, call):
        fields[f"{name}_" if name in _RESERVED else clean(name)] = _cleaned(value, clean)
    if record["exception"]:
        fields["exception"] = _exception(record["exception"], clean)
    line = msgspec.json.encode(fields)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", line.decode()) + "\n"


def human_line(record: Record, clean: Clean = str, *, colour: bool = False) -> str:
    """Return the record as time, level, place, message, ``name=value``; a ``stack`` or traceback follows, a row to a line, indented.

    Of our own records, what the message says is not said again as a field.
    """
    call = call_fields()
    level = record["level"].name
    inside = "handler" in call
    place = f"{call['service']}.{call['handler']}" if inside else ":".join(part for part in (call.get("service"), record["name"]) if part)
    parts = [
        _dim(f"{record['time']:%H:%M:%S.%f}"[:-3], colour),
        _coloured(f"{escaped(level):<8}", _COLOURS.get(level, "35"), colour),
        _coloured(escaped(place), "36", colour),
        escaped(_cleaned(_text(record["message"]), clean)),
    ]
    rows: list[str] = []
    ours = str(record["name"]).startswith("cliffracer.")
    for name, value in _extra(record, call):
        if ours and _is_said(record, name, value):
            continue  # a field for programs, which people have read by now
        if name == "stack" and isinstance(value, list):
            rows += [str(_cleaned(row, clean)) for row in value]
        else:
            parts.append(f"{_dim(f'{escaped(clean(name))}=', colour)}{_word(_cleaned(value, clean))}")
    if inside:
        parts.append(_dim(call["correlation_id"], colour))
    if record["exception"]:
        rows += _traceback(record["exception"], clean).rstrip("\n").split("\n")
    return "\n  ".join((" ".join(part for part in parts if part), *map(escaped, rows))) + "\n"


def last_resort(record: Record) -> str:
    """Return what is certain of a record that could not be made a line, as JSON, which people can read too."""
    fields = {"level": str(record["level"].name), "message": "a line of the log could not be written", "line": record["line"]}
    return msgspec.json.encode({**fields, "logger": str(record["name"])}).decode() + "\n"


def escaped(text: str) -> str:
    r"""Return text that stays on its line and moves no cursor: ``\n``, ``\x1b`` and the like in place of control characters."""
    return _UNSAFE.sub(lambda found: repr(found[0])[1:-1], text)


def plain(value: object, depth: int = 0) -> Any:
    """Return something that JSON has for any value; secrets, and values under private names, as ``***``."""
    for kinds, converted in _CONVERSIONS:
        if isinstance(value, kinds):
            return converted(value, depth)
    return _said(value)


def _inside(value: Any, depth: int) -> Any:
    more = len(value) - _ITEMS
    if isinstance(value, Mapping):
        found = {_name(name): _private(name, one, depth) for (name, one), _ in zip(value.items(), range(_ITEMS), strict=False)}
        return {**found, "…": f"{more} more"} if more > 0 else found
    items = [plain(one, depth) for one, _ in zip(value, range(_ITEMS), strict=False)]
    return [*items, f"… {more} more"] if more > 0 else items


def _integer(value: int, _: int) -> Any:
    return value if -(2**63) <= value < 2**64 else _said(value)


def _real(value: float, _: int) -> Any:
    return value if value - value == 0 else str(value)  # JSON has neither NaN nor infinity


_CONVERSIONS: tuple[tuple[Any, Callable[[Any, int], Any]], ...] = (
    (str, lambda value, _: _text(value)),
    ((bool, NoneType), lambda value, _: value),
    (Secret, lambda _, __: MASK),
    (Enum, lambda value, depth: plain(value.value, depth + 1) if depth < _DEPTH else _said(value)),
    (int, _integer),
    (float, _real),
    ((datetime, date, time), lambda value, _: value.isoformat()),
    ((UUID, Decimal, PurePath), lambda value, _: _text(str(value))),
    ((Mapping, list, tuple, set, frozenset), lambda value, depth: _inside(value, depth + 1) if depth < _DEPTH else _said(value)),
)


def _extra(record: Record, call: Mapping[str, str]) -> list[tuple[str, Any]]:
    """What the line itself was given, as JSON values; without what every line of the call has."""
    given = record["extra"].items()
    return [(_name(name), _private(name, value, 0)) for name, value in given if not (isinstance(value, str) and call.get(name) == value)]


def _private(name: object, value: object, depth: int) -> Any:
    if isinstance(name, str) and name.lower() in PRIVATE and value is not None:
        return MASK
    try:
        return plain(value, depth)
    except Exception:  # noqa: BLE001 - a value's own methods may raise anything
        return _said(value)


def _name(name: object) -> str:
    return _text(name) if isinstance(name, str) else _said(name)


def _is_said(record: Record, name: str, value: Any) -> bool:
    """Say whether a field is in the message, word for word; of an exception its text does."""
    text, message = str(value), record["message"]
    if text not in message and isinstance(given := record["extra"].get(name), CliffracerError):
        text = str(given)
    return bool(text) and text in message and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", message) is not None


def _said(value: object) -> str:
    try:
        return _text(repr(value))
    except Exception:  # noqa: BLE001 - see above
        return f"<{type(value).__name__} that cannot be printed>"


def _text(text: str) -> str:
    return text[:_LARGEST].encode("utf-8", "backslashreplace").decode()


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… {len(text) - longest} more"


def _exception(exception: Any, clean: Clean) -> dict[str, str]:
    kind, value, _ = exception
    try:
        message = str(value)
    except Exception:  # noqa: BLE001 - see above
        message = "that cannot be printed"
    name = "None" if kind is None else f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return {"type": name, "message": _cleaned(_text(message), clean), "traceback": _traceback(exception, clean)}


def _cleaned(value: Any, clean: Clean) -> Any:
    if isinstance(value, str):
        return _cut(clean(value), LONGEST)  # in this order, so that no half of a secret is left
    if isinstance(value, dict):
        return {clean(name): _cleaned(one, clean) for name, one in value.items()}
    if isinstance(value, list):
        return [_cleaned(one, clean) for one in value]
    return value


def _traceback(exception: Any, clean: Clean) -> str:
    _, value, trace = exception
    return _cut(clean(_text(printed(value, trace))), _LONGEST_TRACE)


def _word(value: Any) -> str:
    if isinstance(value, str) and value and not _BLANK.search(value):
        return escaped(value)
    return escaped(msgspec.json.encode(value).decode())


def _coloured(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and text else text


def _dim(text: str, colour: bool) -> str:
    return _coloured(text, "2", colour)
