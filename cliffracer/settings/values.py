"""Reads one setting from text, from TOML or from an argument.

Each reader takes whatever stands there and returns the value, or raises ValueError that says what is wanted. It takes its own results too.
"""

import ipaddress
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from cliffracer.durations import seconds as seconds_of
from cliffracer.settings.secret import NEXT_URL, Secret, masked

Reader = Callable[[object], Any]

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?(b|kb?|mb?|gb?|kib|mib|gib)?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_YES = frozenset({"true", "yes", "on", "1", "y", "t"})
_NO = frozenset({"false", "no", "off", "0", "n", "f"})
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::([0-9]{1,5}))?")


def text(value: object) -> str:
    """One line of text, blanks at its ends removed."""
    found = _unicode(value).strip()
    if _CONTROL.search(found):
        raise ValueError("one line without control characters is wanted")
    return found


def document(value: object) -> str:
    """Text of any number of lines: a path, or what would be in the file."""
    found = _unicode(value).strip()
    if "\0" in found:
        raise ValueError("text without NUL characters is wanted")
    return found


def secret(value: object) -> Secret[str]:
    """A secret of one line, taken as it is."""
    found = _unicode(value.reveal() if isinstance(value, Secret) else value)
    if _CONTROL.search(found):
        raise ValueError("one line without control characters is wanted")
    return Secret(found)


def secret_document(value: object) -> Secret[str]:
    """A secret of any number of lines, such as a PEM key."""
    return Secret(document(value.reveal() if isinstance(value, Secret) else value))


def name(value: object) -> str:
    """Empty, or what subjects, streams and buckets can be called after."""
    found = text(value)
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,64}", found):
        raise ValueError("up to 64 letters, digits, _ or - are wanted")
    return found


def flag(value: object) -> bool:
    """True or false, yes or no, on or off, 1 or 0."""
    word = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    if word in _YES or word in _NO:
        return word in _YES
    raise ValueError("true or false is wanted (yes, no, on, off, 1 and 0 do too)")


def words(value: object) -> tuple[str, ...]:
    """A list: ``a,b`` in text, an array in TOML, a tuple or list as argument."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts is wanted, as a,b")
    return tuple(found for item in value if (found := text(item)))


def whole(low: int, high: int) -> Reader:
    """Return a reader of whole numbers within bounds."""

    def read(value: object) -> int:
        if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise ValueError(f"a whole number from {low} to {high} is wanted")

    return read


def seconds(low: float, high: float) -> Reader:
    """Return a reader of lengths of time: a number of seconds, or ``500ms``, ``30s``, ``1h30m``."""

    def read(value: object) -> float:
        try:
            found = seconds_of(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            found = math.nan
        if low <= found <= high:
            return found
        raise ValueError(f"a length of time from {low:g} to {high:g} seconds is wanted, as 30 or 500ms, 30s, 10m, 1h")

    return read


def share(value: object) -> float:
    """A part of a whole, from 0 to 1: ``0.01`` or ``1%``."""
    try:
        if isinstance(value, str) and value.strip().endswith("%"):
            found = float(value.strip()[:-1]) / 100
        else:
            found = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if 0 <= found <= 1:
        return found
    raise ValueError("a share from 0 to 1 is wanted, as 0.01 or 1%")


def size(low: int, high: int) -> Reader:
    """Return a reader of numbers of bytes: ``1048576``, ``500kB``, ``1MB`` (10⁶), ``1MiB`` (2²⁰)."""

    def read(value: object) -> int:
        if isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
            unit = (found[2] or "").lower()
            value = round(float(found[1]) * _UNITS[unit.removesuffix("b") or ""])
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise ValueError(f"a number of bytes from {low} to {high} is wanted, as 1048576, 500kB, 1MB or 1MiB")

    return read


def choice(*allowed: str) -> Reader:
    """Return a reader of one of these words, in any case."""
    spelt = {word.lower(): word for word in allowed}

    def read(value: object) -> str:
        found = spelt.get(value.strip().lower()) if isinstance(value, str) else None
        if found is None:
            raise ValueError(f"one of {', '.join(allowed)} is wanted")
        return found

    return read


def address(*schemes: str) -> Reader:
    """Return a reader of one URL with one of these schemes."""

    def read(value: object) -> str:
        found = text(value)
        _check_url(found, schemes)
        return found

    return read


def addresses(*schemes: str) -> Reader:
    """Return a reader of a list of URLs with one of these schemes, each of one host or several."""
    one = address(*schemes)

    def read(value: object) -> tuple[str, ...]:
        return tuple(one(item) for item in words(NEXT_URL.split(value.strip(", ")) if isinstance(value, str) else value))

    return read


def nats_servers(value: object) -> str:
    """One NATS URL or several, comma-separated; ``host:port`` stands for ``nats://host:port``."""
    found = words(",".join(words(value)))
    for server in found:
        _check_url(server if "://" in server else f"nats://{server}", ("nats", "tls", "ws", "wss"))
    if not found:
        raise ValueError("a URL is wanted, as nats://localhost:4222")
    return ",".join(found)


def origins(value: object) -> tuple[str, ...]:
    """A list of ``*`` or of what browsers send as Origin: scheme, host and port, nothing after."""
    found = words(value)
    for origin in found:
        if origin != "*":
            _check_url(origin, ("http", "https"))
            if urlsplit(origin).path or any(mark in origin for mark in "?#@"):
                raise ValueError(f"origins are wanted, as https://example.org: scheme, host and port; {masked(origin)!r} has more")
    return found


def networks(value: object) -> tuple[str, ...]:
    """A list of ``*``, addresses or networks: ``10.0.0.0/8,::1``."""
    found = words(value)
    for network in found:
        if network != "*":
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError:
                raise ValueError(f"IP addresses or networks are wanted, as 10.0.0.0/8,::1, or *; {network!r} is none") from None
    return found


def base(value: object) -> str:
    """Empty, or the beginning of links: ``https://cdn.example.org/app`` or ``/static``; no slash at its end."""
    found = text(value).rstrip("/")
    if not found.startswith("/") and found:
        _check_url(found, ("http", "https"))
    return found


def _unicode(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("text is wanted")  # noqa: TRY004 - every reader has one error
    try:
        value.encode()
    except UnicodeEncodeError:  # os.environ keeps bytes that are no UTF-8 as lone surrogates
        raise ValueError("text in UTF-8 is wanted") from None
    return value


def _check_url(found: str, schemes: tuple[str, ...]) -> None:
    wanted = f"a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)} is wanted"
    if any(mark.isspace() for mark in found):
        raise ValueError(f"{wanted}, without blanks")
    try:
        parts = urlsplit(found)
    except ValueError:  # an unbalanced bracket
        raise ValueError(wanted) from None
    needs_host = not parts.scheme.startswith("postgres")  # where none means the socket of this machine
    if parts.scheme not in schemes or (needs_host and not parts.netloc.rpartition("@")[2]):
        raise ValueError(wanted)
    for host in parts.netloc.rpartition("@")[2].split(","):
        port = _HOST.fullmatch(host)
        if port is None or (port[1] is not None and not 1 <= int(port[1]) <= 65_535):
            raise ValueError(f"{wanted}, with a port from 1 to 65535; write special characters of a password as %40 for @, %2F for /")
