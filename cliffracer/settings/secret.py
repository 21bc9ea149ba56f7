"""Values that must not be printed, and addresses that hold one."""

import re
from hmac import compare_digest
from typing import Any, Generic, NoReturn, TypeVar, get_args, get_origin

import msgspec

MASK = "***"

T = TypeVar("T")

NEXT_URL = re.compile(r",\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)")
"""The comma between two URLs; other commas may separate the hosts of one URL."""
_URL = re.compile(r"(\s*(?:[A-Za-z][A-Za-z0-9+.-]*://)?)(.*)", re.DOTALL)
_PARAMETER = re.compile(r"(?i)\b([a-z_]*(?:password|passwd|pwd|secret|token|key)\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&;]*)")


class Secret(Generic[T]):
    """A value that only `reveal` gives out: printing, formatting, logging and encoding it show ``***``.

    Two secrets with the same text are equal, compared in constant time. A secret is not pickled: whoever
    needs it in another process reads the settings there.
    """

    __slots__ = ("_hidden",)

    def __init__(self, value: "T | Secret[T]") -> None:
        self._hidden: T = value.reveal() if isinstance(value, Secret) else value

    def reveal(self) -> T:
        """Return the value itself, to hand to whatever needs it; do not print it."""
        return self._hidden

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._hidden)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = self._hidden, other._hidden
        if isinstance(mine, str) and isinstance(theirs, str):
            return compare_digest(mine.encode("utf-8", "surrogatepass"), theirs.encode("utf-8", "surrogatepass"))
        if isinstance(mine, bytes) and isinstance(theirs, bytes):
            return compare_digest(mine, theirs)
        return bool(mine == theirs)

    def __hash__(self) -> int:
        return hash((Secret, self._hidden))

    def __copy__(self) -> "Secret[T]":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret[T]":
        return self

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: read the settings where it is needed")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled: read the settings where it is needed")


class Discreet:
    """A struct that Rich prints by its ``repr``; of other structs it would print every field."""

    __slots__ = ()

    def __rich_repr__(self) -> Any:
        """Make Rich use ``repr``."""


def encode_secret(value: object) -> object:
    """Return what msgspec should write for a secret, ``***``; an ``enc_hook``. NotImplementedError for any other type."""
    if isinstance(value, Secret):
        return MASK
    raise NotImplementedError(f"{type(value).__name__} cannot be encoded")


def decode_secret(kind: type[Any], value: object) -> object:
    """Return a `Secret` from its decoded value; a ``dec_hook``. NotImplementedError for any other type."""
    if (get_origin(kind) or kind) is not Secret:
        raise NotImplementedError(f"{kind} cannot be decoded")
    inner = get_args(kind)
    return Secret(msgspec.convert(value, inner[0]) if inner else value)


def masked(text: str) -> str:
    """Return one or more comma-separated URLs, or a connection string, with everything secret in them as ``***``.

    If a URL is malformed, too much is hidden rather than too little.
    """
    return ",".join(_masked_url(part) for part in NEXT_URL.split(text))


def _masked_url(text: str) -> str:
    found = _URL.fullmatch(text)
    scheme, rest = (found[1], found[2]) if found else ("", text)
    credentials, at, host = rest.rpartition("@")
    if at:
        user, colon, _ = credentials.partition(":")
        shown = f"{user}:{MASK}" if colon else MASK  # without a password the user may be a NATS token
        if not colon and scheme.strip().lower().startswith("postgres"):
            shown = user
        rest = f"{shown}@{host}"
    return scheme + _PARAMETER.sub(rf"\g<1>{MASK}", rest)
