"""Arguments of a handler from the parts of a request: compiled once per route, plain dict and tuple work per request."""

import operator
from collections.abc import Callable, Mapping
from typing import Any, get_origin
from urllib.parse import unquote_to_bytes

from msgspec.structs import astuple
from starlette.requests import cookie_parser

from cliffracer.errors import FieldError, InvalidInput
from cliffracer.shapes import Shape, external_name
from cliffracer.signature import Parameter, Signature, arguments_type, bare
from cliffracer.web.texts import TextDecoder
from cliffracer.wire.codecs import Decoder

RawHeaders = Mapping[bytes, bytes]
Texts = dict[str, Any]
_LISTS = (list, tuple, set, frozenset)


class Binder:
    """Makes the argument tuple of one handler, in the order of its signature; `InvalidInput` with every reason if it cannot."""

    def __init__(self, signature: Signature, shape: Shape) -> None:
        self._query = {external_name(p): p for p in shape.query}
        self._lists = frozenset(name for name, p in self._query.items() if takes_several(p))
        self._headers = [(external_name(p).lower().encode(), p) for p in shape.headers]
        self._cookies = {external_name(p): p for p in shape.cookies}
        self._named = {p.name: external_name(p) for p in (*shape.query, *shape.headers, *shape.cookies)}
        texts = (*shape.path, *shape.query, *shape.headers, *shape.cookies)
        self._texts: TextDecoder[Any] | None = TextDecoder(arguments_type("arguments", texts)) if texts else None
        self._only_path = bool(texts) and len(texts) == len(shape.path)
        self._body = _body_decoder(shape)
        self._whole = shape.body is not None
        self.default_body = _default_body(shape)
        """Whether an empty body stands for the defaults."""
        self._order = _order(signature, texts, shape)

    @property
    def takes_body(self) -> bool:
        """Say whether a body is to be read and decoded."""
        return self._body is not None

    def bind(self, path: Texts | None, scope: Mapping[str, Any], headers: RawHeaders, body: bytes) -> tuple[Any, ...]:
        """Return the arguments of a request with a JSON body, or with none."""
        decoder = self._texts
        if decoder is None:
            return () if self._body is None else self._arranged((), body)
        if self._only_path:
            given: Texts = path or {}
        else:
            given = self._collect(path, scope, headers)
        try:
            values = astuple(decoder.convert(given))
        except InvalidInput as error:
            raise self._renamed(error) from None
        return values if self._body is None and self._order is None else self._arranged(values, body)

    def _arranged(self, values: tuple[Any, ...], body: bytes) -> tuple[Any, ...]:
        if self._body is not None:
            values += self._of_body(body)
        return values if self._order is None else self._order(values)

    def _of_body(self, body: bytes) -> tuple[Any, ...]:
        decoder = self._body
        assert decoder is not None  # asked only then
        if not body and self.default_body is not None:
            return self.default_body
        value = decoder.decode(body)
        return (value,) if self._whole else astuple(value)

    def _collect(self, path: Texts | None, scope: Mapping[str, Any], headers: RawHeaders) -> Texts:
        given = dict(path) if path else {}
        query = scope["query_string"]
        if query and self._query:
            self._read_query(query, given)
        for name, parameter in self._headers:
            value = headers.get(name)
            if value is not None:
                given[parameter.name] = value.decode("latin-1")
        if self._cookies and b"cookie" in headers:
            found = cookie_parser(headers[b"cookie"].decode("latin-1"))
            given.update((p.name, found[name]) for name, p in self._cookies.items() if name in found)
        return given

    def _read_query(self, query: bytes, given: Texts) -> None:
        for pair in query.split(b"&"):
            name, _, value = pair.partition(b"=")
            key = decoded(name)
            parameter = self._query.get(key)
            if parameter is None:
                continue
            text = decoded(value)
            if key in self._lists:
                given.setdefault(parameter.name, []).append(text)
            elif parameter.name in given:
                raise InvalidInput("the input is not valid", errors=[FieldError(key, "is given twice")])
            else:
                given[parameter.name] = text

    def _renamed(self, error: InvalidInput) -> InvalidInput:
        return InvalidInput(error.message, errors=[FieldError(self._shown(e["path"]), e["message"]) for e in error.errors])

    def _shown(self, path: str) -> str:
        name = path.partition("[")[0].partition(".")[0]
        return self._named.get(name, name) + path[len(name) :]


def decoded(text: bytes) -> str:
    """Return a part of a query string as text (``+`` is a space); `InvalidInput` unless it is UTF-8."""
    if b"+" in text:
        text = text.replace(b"+", b" ")
    if b"%" in text:
        text = unquote_to_bytes(text)
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise InvalidInput("the query string is not UTF-8", errors=[FieldError("", "the query string is not UTF-8")]) from None


def takes_several(parameter: Parameter) -> bool:
    """Say whether a query parameter collects all of its values: ``?tag=a&tag=b``."""
    kind = bare(parameter.annotation)
    options = getattr(kind, "__args__", ()) if get_origin(kind) not in _LISTS and kind not in _LISTS else (kind,)
    return any((get_origin(bare(option)) or bare(option)) in _LISTS for option in options)


def _body_decoder(shape: Shape) -> Decoder[Any] | None:
    if shape.form:
        return None
    if shape.body is not None:
        return Decoder(shape.body.annotation)
    return Decoder(arguments_type("body", shape.fields)) if shape.fields else None


def _default_body(shape: Shape) -> tuple[Any, ...] | None:
    if shape.body is not None:
        return None if shape.body.required else (shape.body.default,)
    return None if any(p.required for p in shape.fields) else tuple(p.default for p in shape.fields)


def _order(signature: Signature, texts: tuple[Parameter, ...], shape: Shape) -> Callable[[tuple[Any, ...]], tuple[Any, ...]] | None:
    """Return what sorts values by signature; None if they already are."""
    made = [p.name for p in (*texts, *((shape.body,) if shape.body else shape.fields))]
    wanted = [p.name for p in signature.accepts]
    if made == wanted:
        return None
    return operator.itemgetter(*(made.index(name) for name in wanted))  # two at least, or they would be in order


__all__ = ["Binder", "RawHeaders", "Texts", "decoded", "takes_several"]
