"""JSON and MessagePack codecs, compiled once per type: fast for valid input, with every reason for invalid input."""

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

from cliffracer.errors import CliffracerError, FieldError, InvalidInput
from cliffracer.wire.census import Census, keys_in
from cliffracer.wire.kinds import bare
from cliffracer.wire.limits import checked, limited, unfit
from cliffracer.wire.packed import NOT_FINITE, read_msgpack
from cliffracer.wire.strict import Document, Malformed, nesting, read_json
from cliffracer.wire.validation import REFUSALS, DecodeHook, Explainer, Judge, by_json, by_msgpack

T = TypeVar("T")
Reader = Callable[[bytes, int], Document]
_generic_json = msgspec.json.Decoder().decode
_generic_msgpack = msgspec.msgpack.Decoder().decode
_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode
_pack_into = msgspec.msgpack.Encoder().encode_into
_scratch = bytearray()  # for short values only: its memory is never given back
_LOW, _HIGH = -(2**63), 2**64 - 1
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG = b"0" * 19  # an integer beyond 64 bits has as many digits at least
_SHORT = 400  # bytes for which encoding what was decoded costs less than looking for long integers
_NO_CONTAINERS = bytes(code for code in range(256) if not (0x80 <= code <= 0x9F or 0xDC <= code <= 0xDF))


class Limits(msgspec.Struct, frozen=True):
    """Limits on an input."""

    depth: int = 64
    """Levels of arrays and objects."""
    errors: int = 100
    """Errors that a refusal lists; a last one says that there are more."""


DEFAULT = Limits()


class Unencodable(CliffracerError):
    """A value that cannot be encoded: a defect of the function that returned it."""


class Decoder(Generic[T]):
    """Decodes one type; `InvalidInput` with all errors for anything that does not fit.

    msgspec decodes first. What it does not check (duplicate keys, depth, integers beyond 64 bits, numbers that are not finite) is
    ruled out by the cheapest sufficient probe for the type; only a remaining doubt costs a second, exact parse.
    """

    __slots__ = (
        "_census",
        "_count",
        "_explainers",
        "_first",
        "_hook",
        "_integers",
        "_json",
        "_least",
        "_msgpack",
        "_number",
        "again",
        "kind",
        "limits",
    )

    def __init__(self, kind: Any, limits: Limits = DEFAULT, *, hook: DecodeHook | None = None) -> None:
        self.kind = kind
        self.limits = limits
        self._hook = hook
        try:
            self._json: Callable[[bytes], T] = msgspec.json.Decoder(kind, dec_hook=hook).decode
        except TypeError as error:
            raise unfit(kind, error) from error
        self._msgpack: Callable[[bytes], T] = msgspec.msgpack.Decoder(kind, dec_hook=hook).decode
        self._explainers: dict[Any, Explainer] = {}
        info = bare(inspect.type_info(kind))
        if limited(kind, info):
            self._json, self._msgpack = checked(kind, self._json), checked(kind, self._msgpack)
        self.again = self._json
        """Returns another value from a JSON text that `decode` has accepted."""
        self._census = census = Census(info, limits.depth)
        self._least = -1 if census.deep or census.opaque or census.decimals else census.least
        small = census.flat and census.least <= 15 and not (census.deep or census.opaque or census.decimals)
        self._first = 0x80 | census.least if small else -1  # the first byte of a map with exactly the required keys
        self._count = census.count if self._least >= 0 else None
        self._integers = census.integers and not census.opaque
        self._number = census.number

    def decode(self, data: bytes) -> T:
        """Return the value of a JSON text."""
        decode = self._json  # called by the name of a local: as a method, Python 3.11 would look for it in the class each time
        try:
            value = decode(data)
        except REFUSALS:
            raise self._refusal(data, read_json, by_json) from None
        colons = data.count(b":")
        if colons != self._least:
            certain = self._least if self._count is None else self._count(value)
            if colons != certain:
                self._look(data, value, colons, certain)
        if self._integers and ((short := len(data) < _SHORT) or _LONG in data.translate(_ZEROS)):
            try:  # `_fits` inlined, for the common case
                room = _scratch if short else bytearray()
                fits = _LOW <= getattr(value, self._number) <= _HIGH if self._number else _pack_into(value, room) is None
            except (OverflowError, TypeError):
                fits = self._fits(data, value)
            if not fits:
                raise self._refusal(data, read_json, by_json, "an integer is out of range: 64 bits at most")
        return value

    def decode_reply(self, data: bytes) -> T:
        """Return the value of a JSON text that a service wrote: what a program made needs no second look, and gets none."""
        decode = self._json
        try:
            return decode(data)
        except REFUSALS:
            raise self._refusal(data, read_json, by_json) from None

    def decode_msgpack(self, data: bytes) -> T:
        """Return the value of a MessagePack document."""
        try:
            value = self._msgpack(data)
        except REFUSALS:
            raise self._refusal(data, read_msgpack, by_msgpack) from None
        if data[0] != self._first or (self._census.floats and (b"\x7f" in data or b"\xff" in data)):
            self._look_msgpack(data, value)
        return value

    def _fits(self, data: bytes, value: T) -> bool:
        """Say whether all integers in a value are of 64 bits, as MessagePack encodes them."""
        try:
            if self._number:
                return _LOW <= getattr(value, self._number) <= _HIGH  # type: ignore[no-any-return]  # the field is an int
            _encode_msgpack(value)
        except OverflowError:
            return False
        except TypeError:  # a default that MessagePack cannot hold, or that cannot be compared: check the text instead
            self._recheck(data, read_json, by_json)
        return True

    def _look(self, data: bytes, value: T, colons: int, certain: int) -> None:
        census = self._census
        sure = not census.opaque and not (census.deep and not self._shallow(data)) and self._counted(data, value, colons, certain)
        if not (sure and (not census.decimals or self._finite(value))):
            self._recheck(data, read_json, by_json)

    def _finite(self, value: T) -> bool:
        """Say whether no decimal in a value is NaN or infinite, by its encoding."""
        try:
            packed = _encode_msgpack(value)
        except (OverflowError, TypeError):
            return False
        return b"NaN" not in packed and b"Infinity" not in packed

    def _shallow(self, data: bytes) -> bool:
        """Say whether a JSON text has too few brackets, in all or open at once, to be nested too deep."""
        return data.count(b"{") + data.count(b"[") <= self.limits.depth or nesting(data) <= self.limits.depth

    def _counted(self, data: bytes, value: T, colons: int, certain: int) -> bool:
        """Say whether a JSON text has no more keys than are known to be distinct."""
        census = self._census
        if certain < 0:
            certain = census.least if census.count is None else census.count(value)
        if colons == certain or (census.exact and _quoted(data) == certain):
            return True
        try:
            found = value if census.generic else _generic_json(data)
        except REFUSALS:
            return False
        keys = len(found) if type(found) is dict and len(found) == colons else keys_in(found)
        if keys != colons and keys != _quoted(data):
            return False
        return census.closed or census.deep or self._shallow(data)  # unknown fields may nest to any depth

    def _look_msgpack(self, data: bytes, value: T) -> None:
        census = self._census
        sure = not (census.opaque or census.decimals or (census.floats and NOT_FINITE.search(data)))
        if not (sure and (self._first == data[0] or self._repeated(data, value))):
            self._recheck(data, read_msgpack, by_msgpack)

    def _repeated(self, data: bytes, value: T) -> bool:
        """Say whether encoding the value gives the same MessagePack document again: then it has no duplicate keys."""
        census = self._census
        try:
            known = _encode_msgpack(value) == data
            if not known and _encode_msgpack(_generic_msgpack(data)) != data:
                return False
        except REFUSALS:
            return False
        settled = not census.deep and (known or census.closed)  # without unknown fields the type tells the depth
        return settled or self._few(data)

    def _few(self, data: bytes) -> bool:
        """Say whether a MessagePack document has too few arrays and maps to be nested too deep."""
        return len(data.translate(None, _NO_CONTAINERS)) <= self.limits.depth

    def _recheck(self, data: bytes, read: Reader, judge: Judge) -> None:
        """Parse a document strictly that msgspec has accepted."""
        try:
            document = read(data, self.limits.depth)
        except Malformed as error:
            raise _invalid([FieldError("", str(error))]) from None
        if document.errors or document.unusual or self._census.decimals:
            errors = self._explainer(judge).explain(document.value, document.errors, unusual=document.unusual)
            if errors:
                raise _invalid(errors)

    def _refusal(self, data: bytes, read: Reader, judge: Judge, otherwise: str = "is not valid") -> InvalidInput:
        """Return the error for a document that msgspec has refused, or that must be refused although msgspec accepts it."""
        try:
            document = read(data, self.limits.depth)
        except Malformed as error:
            return _invalid([FieldError("", str(error))])
        errors = self._explainer(judge).explain(document.value, document.errors, unusual=document.unusual)
        return _invalid(errors or [FieldError("", otherwise)])

    def _explainer(self, judge: Judge) -> Explainer:
        explainer = self._explainers.get(judge)
        if explainer is None:
            explainer = self._explainers[judge] = Explainer(self.kind, judge, hook=self._hook, limit=self.limits.errors)
        return explainer


def _quoted(data: bytes) -> int:
    """Return how often a quote is followed by a colon in a JSON text: at least once per key, since quotes in strings are escaped."""
    return data.translate(None, b" \t\r\n").count(b'":')


def _invalid(errors: list[FieldError]) -> InvalidInput:
    return InvalidInput("the input is not valid", errors=errors)


def is_json(data: bytes) -> bool:
    """Say whether a text is JSON that any reader accepts; keys may be duplicate."""
    try:
        _generic_json(data)
    except REFUSALS:
        return False
    return True


def encode(value: Any) -> bytes:
    """Return a value as JSON; `Unencodable` if it has no JSON form. NaN and infinities become null, as in JavaScript."""
    try:
        return _encode_json(value)
    except Exception as error:  # user-defined properties and hooks run here, and a reply is due whatever they raise
        raise Unencodable(f"{_kind(value)} cannot be encoded as JSON: {error}") from error


def encode_msgpack(value: Any) -> bytes:
    """Return a value as MessagePack; `Unencodable` if it has no such form."""
    try:
        return _encode_msgpack(value)
    except Exception as error:  # the same
        raise Unencodable(f"{_kind(value)} cannot be encoded as MessagePack: {error}") from error


def _kind(value: Any) -> str:
    return "a coroutine (is an await missing?)" if isinstance(value, Coroutine) else type(value).__name__
