"""JSON and MessagePack, compiled once for each type: fast when the input is right, every reason when it is not."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from cliffracer.errors import CliffracerError, FieldError, InvalidInput
from cliffracer.wire.strict import Document, Malformed, read_json, read_msgpack
from cliffracer.wire.validation import REFUSALS, DecodeHook, Explainer, by_json, by_msgpack

T = TypeVar("T")


class Limits(msgspec.Struct, frozen=True):
    """What an input may cost."""

    depth: int = 64
    """Levels of arrays and objects."""
    errors: int = 100
    """Errors that a refusal lists; a last one says that there are more."""


DEFAULT = Limits()


class Unencodable(CliffracerError):
    """A value that has no JSON or MessagePack form: a defect of the function that returned it."""


class Decoder(Generic[T]):
    """Decodes one type; InvalidInput with all errors for anything that does not fit."""

    def __init__(self, kind: Any, limits: Limits = DEFAULT, *, hook: DecodeHook | None = None) -> None:
        self.kind = kind
        self.limits = limits
        self._hook = hook
        self._json: Callable[[bytes], T] = msgspec.json.Decoder(kind, dec_hook=hook).decode
        self._msgpack: Callable[[bytes], T] = msgspec.msgpack.Decoder(kind, dec_hook=hook).decode
        self._explainers: dict[Any, Explainer] = {}

    def decode(self, data: bytes) -> T:
        """Return the value of a JSON text."""
        try:
            value = self._json(data)
        except REFUSALS:
            raise self._refuse(data, read_json, by_json) from None
        self._recheck(data, read_json, by_json)
        return value

    def decode_msgpack(self, data: bytes) -> T:
        """Return the value of a MessagePack document."""
        try:
            value = self._msgpack(data)
        except REFUSALS:
            raise self._refuse(data, read_msgpack, by_msgpack) from None
        self._recheck(data, read_msgpack, by_msgpack)
        return value

    def _recheck(self, data: bytes, read: Any, judge: Any) -> None:
        errors = self._errors(data, read, judge)
        if errors:
            raise _invalid(errors)

    def _refuse(self, data: bytes, read: Any, judge: Any) -> InvalidInput:
        return _invalid(self._errors(data, read, judge) or [FieldError("", "is not valid")])

    def _errors(self, data: bytes, read: Any, judge: Any) -> list[FieldError]:
        try:
            document: Document = read(data, self.limits.depth)
        except Malformed as error:
            return [FieldError("", str(error))]
        explainer = self._explainers.get(judge)
        if explainer is None:
            explainer = self._explainers[judge] = Explainer(self.kind, judge, hook=self._hook, limit=self.limits.errors)
        return explainer.explain(document.value, document.errors)


def _invalid(errors: list[FieldError]) -> InvalidInput:
    return InvalidInput("the input is not valid", errors=errors)


_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode


def encode(value: Any) -> bytes:
    """Return a value as JSON; `Unencodable` if it has no JSON form. NaN and infinities become null, as in JavaScript."""
    try:
        return _encode_json(value)
    except Exception as error:  # properties and hooks of the user's own types run here, and a reply is due whatever they raise
        raise Unencodable(f"{type(value).__name__} cannot be encoded as JSON: {error}") from error


def encode_msgpack(value: Any) -> bytes:
    """Return a value as MessagePack; `Unencodable` if it has no such form."""
    try:
        return _encode_msgpack(value)
    except Exception as error:  # the same
        raise Unencodable(f"{type(value).__name__} cannot be encoded as MessagePack: {error}") from error
