"""Arguments of a handler from the parts of a request: compiled once per route, plain dict and tuple work per request."""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

import msgspec
from msgspec.inspect import type_info
from msgspec.structs import astuple

from cliffracer.errors import InvalidInput
from cliffracer.shapes import Shape, external_name
from cliffracer.signature import Parameter, Signature, arguments_type
from cliffracer.web.queries import Query, Texts, spread_of, takes_several
from cliffracer.wire.codecs import Decoder
from cliffracer.wire.cookies import parse_cookies
from cliffracer.wire.text import TextDecoder

RawHeaders = Mapping[bytes, bytes]
_DIGITS = 18  # of an integer that is certain to fit into 64 bits


class Binder:
    """Makes the argument tuple of one handler, in the order of its signature; `InvalidInput` with every reason if it cannot."""

    def __init__(self, signature: Signature, shape: Shape) -> None:
        spreads = [one for p in shape.query if (one := spread_of(p)) is not None]
        several = {one.parameter.name for one in spreads}
        single = tuple(p for p in shape.query if p.name not in several)
        self._query = Query(single, spreads)
        self._spreads = spreads
        self._headers = [(external_name(p).lower().encode(), p.name, takes_several(type_info(p.annotation))) for p in shape.headers]
        self._cookies = {external_name(p): p.name for p in shape.cookies}
        self._named = {p.name: external_name(p) for p in (*single, *shape.headers, *shape.cookies)}
        texts = (*shape.path, *single, *shape.headers, *shape.cookies)
        self._texts: TextDecoder[msgspec.Struct] | None = TextDecoder(arguments_type("arguments", texts)) if texts else None
        self._no_text = not texts and not spreads
        self._quick = _quick(shape.path) if len(texts) == len(shape.path) and not spreads else None
        self._body = _body_decoder(shape)
        self._whole = shape.body is not None
        self.fields = shape.fields
        """Parameters that are fields of the body, as JSON or as a form."""
        self.form = shape.form
        """Whether it must be a form."""
        self._default_body = _default_body(shape)
        """What an empty body means."""
        last = (shape.body,) if shape.body else shape.fields if shape.incoming is None else (shape.incoming,)
        self._order = _order(signature, (*texts, *(one.parameter for one in spreads), *last))

    @property
    def takes_body(self) -> bool:
        """Whether a body has to be read and decoded."""
        return self._body is not None or self.form

    def bind(
        self,
        path: Texts | None,
        scope: Mapping[str, Any],
        headers: RawHeaders,
        body: bytes,
        *,
        form: Mapping[str, Any] | None = None,
        incoming: tuple[Any, ...] = (),
    ) -> tuple[Any, ...]:
        """Return the arguments of a request with a JSON body, with a form that was read already, of a socket, or with none of them."""
        try:
            if self._no_text:
                values: tuple[Any, ...] = ()
            elif self._quick is not None and path is not None:
                values = self._quickly(path)
            else:
                values = self.texts(path, scope, headers)
        except InvalidInput as wrong:
            raise (wrong if form is not None or self._body is None else self._both(wrong, body)) from None
        if form is not None:
            values += tuple([form[p.name] for p in self.fields])
        elif self._body is not None:
            values += self._of_body(body)
        elif incoming:
            values += incoming
        return values if self._order is None else self._order(values)

    def texts(self, path: Texts | None, scope: Mapping[str, Any], headers: RawHeaders) -> tuple[Any, ...]:
        """Return the values of everything that comes as text, path first."""
        given = dict(path) if path else {}
        spread = self._query.read(scope["query_string"], given)
        for name, parameter, several in self._headers:
            value = headers.get(name)
            if value is not None:
                given[parameter] = _members(scope["headers"], name) if several else value.decode("latin-1")
        if self._cookies and b"cookie" in headers:
            found = parse_cookies(headers[b"cookie"].decode("latin-1"))
            given.update((parameter, found[name]) for name, parameter in self._cookies.items() if name in found)
        return self._decoded(given, spread)

    def _decoded(self, given: Texts, spread: dict[str, Texts]) -> tuple[Any, ...]:
        values: tuple[Any, ...] = ()
        errors: list[dict[str, str]] = []
        try:
            values = astuple(self._texts.decode(given)) if self._texts is not None else ()
        except InvalidInput as error:
            errors += [{**one, "path": self._shown(one["path"])} for one in error.errors]
        for one in self._spreads:
            try:
                values += (one.value(spread.get(one.parameter.name)),)
            except InvalidInput as error:
                errors += error.errors
        if errors:
            raise InvalidInput("the input is not valid", errors=errors)
        return values

    def _quickly(self, path: Texts) -> tuple[Any, ...]:
        assert self._quick is not None  # asked only then
        try:
            return tuple([read(text) for read, text in zip(self._quick, path.values(), strict=True)])
        except (ValueError, msgspec.ValidationError):
            return self._decoded(path, {})  # for the error message

    def _both(self, wrong: InvalidInput, body: bytes) -> InvalidInput:
        """Return the errors in the texts of a request together with those in its body."""
        try:
            self._of_body(body)
        except InvalidInput as more:
            return InvalidInput(wrong.message, errors=[*wrong.errors, *more.errors])
        return wrong

    def _of_body(self, body: bytes) -> tuple[Any, ...]:
        if not body and self._default_body is not None:
            return self._default_body
        decoder = self._body
        assert decoder is not None  # asked only then
        value = decoder.decode(body)
        return (value,) if self._whole else astuple(value)

    def _shown(self, path: str) -> str:
        name = path.partition("[")[0].partition(".")[0]
        return self._named.get(name, name) + path[len(name) :]


def _members(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """Return the members of a header that is a list: of all its lines, and between the commas of each (RFC 9110, 5.3)."""
    lines = [value.decode("latin-1") for known, value in headers if known == name]
    return [member for line in lines for part in line.split(",") if (member := part.strip())]


def _quick(parameters: tuple[Parameter, ...]) -> tuple[Callable[[str], Any], ...] | None:
    """Return a fast decoder for path parameters of plain types, equal to `TextDecoder`; None if there are other types."""
    known = [_PLAIN[p.annotation] for p in parameters if isinstance(p.annotation, type) and p.annotation in _PLAIN]
    return tuple(known) if len(known) == len(parameters) else None


def _integer(text: str) -> int:
    if len(text) <= _DIGITS and text.isdecimal() and text.isascii():
        return int(text)
    raise ValueError(text)


def _uuid(text: str) -> UUID:
    return msgspec.convert(text, UUID)


_PLAIN: dict[type, Callable[[str], Any]] = {str: str, int: _integer, UUID: _uuid}


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


def _order(signature: Signature, parameters: tuple[Parameter, ...]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]] | None:
    """Return a function that sorts values by signature; None if they are sorted already."""
    made = [p.name for p in parameters]
    wanted = [p.name for p in signature.accepts]
    if made == wanted:
        return None
    return operator.itemgetter(*(made.index(name) for name in wanted))  # two at least, or they would be in order
