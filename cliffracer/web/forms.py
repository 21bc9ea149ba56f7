"""Forms: urlencoded fields and multipart uploads, bound to the declared types of a handler's parameters, with every reason."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Union, get_args, get_origin
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import inspect
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from cliffracer.errors import FieldError, InvalidInput
from cliffracer.web.answers import Refused
from cliffracer.web.bodies import Disconnected
from cliffracer.web.bodies import too_large as body_too_large
from cliffracer.web.multiparts import FormLimits, MultipartReader, Pair, text_of, too_large
from cliffracer.wire.codecs import Decoder
from cliffracer.wire.kinds import Object, bare
from cliffracer.wire.limits import FIELDS, limits_of
from cliffracer.wire.text import TextDecoder
from cliffracer.wire.wording import member, unknown

_MULTIPART, _URLENCODED = "multipart/form-data", "application/x-www-form-urlencoded"


class FormDecoder:
    """Decodes the form of one route: made once, from the annotation of each field and the defaults of those that have one.

    Texts are converted to their types, as in a query string. A field that is a Struct, dataclass or dict is JSON text. A field that is
    an `UploadFile`, or a list of them, is a file; the file input that a browser sends empty counts as not given.
    """

    def __init__(self, fields: Mapping[str, Any], defaults: Mapping[str, Any] | None = None, limits: FormLimits | None = None) -> None:
        self._limits = limits or FormLimits()
        self._defaults = dict(defaults or {})
        self._files = {name: kind for name, kind in fields.items() if _is_file(kind)}
        others = {name: kind for name, kind in fields.items() if name not in self._files}
        self._documents: dict[str, Decoder[Any]] = {name: Decoder(kind) for name, kind in others.items() if _is_object(kind)}
        plain = {name: kind for name, kind in others.items() if name not in self._documents}
        needed = [(name, kind) for name, kind in plain.items() if name not in self._defaults]
        unset = {name: Union[kind, msgspec.UnsetType] for name, kind in plain.items()}  # noqa: UP007 - made of values
        optional = [(name, kind, msgspec.UNSET) for name, kind in unset.items() if name in self._defaults]
        self._texts: TextDecoder[msgspec.Struct] = TextDecoder(
            msgspec.defstruct("Form", [*needed, *optional], namespace={FIELDS: limits_of(plain.items())})
        )
        self._plain = frozenset(plain)
        self._names = tuple(fields)

    @asynccontextmanager
    async def opened(self, request: Request) -> AsyncIterator[dict[str, Any]]:
        """Yield the values of the fields; the files among them are closed afterwards."""
        values = await self.read(request)
        try:
            yield values
        finally:
            await self.close(values)

    async def read(self, request: Request) -> dict[str, Any]:
        """Return the values of the fields, files open: `close` closes them.

        `InvalidInput` with every reason, `TooLarge` beyond a limit, `Refused` (415) for a body that is no form.
        """
        files: list[UploadFile] = []
        try:
            values = self._bound(await self._pairs(request, files))
        except ClientDisconnect:
            await _close(files)
            raise Disconnected from None
        except BaseException:  # cancelled, too: no file stays open
            await _close(files)
            raise
        kept = set(map(id, _files_in(values)))
        await _close(file for file in files if id(file) not in kept)
        return values

    async def close(self, values: Mapping[str, Any]) -> None:
        """Close the files among the values of a form; spooled files are deleted by that."""
        await _close(_files_in(values))

    async def _pairs(self, request: Request, files: list[UploadFile]) -> list[Pair]:
        content_type = request.headers.get("content-type", "")
        kind = content_type.partition(";")[0].strip().lower()
        if not kind and len(self._defaults) == len(self._names) and _is_empty(request):
            return []  # as an empty body of JSON whose fields all have defaults
        limit = self._limits.body if kind == _MULTIPART else min(self._limits.body, self._limits.urlencoded)
        chunks = _bounded(request, limit)
        if kind == _MULTIPART:
            return await MultipartReader(content_type, self._limits, files).read(chunks)
        if kind == _URLENCODED:
            return self._urlencoded(b"".join([chunk async for chunk in chunks]))
        raise Refused(415, f"the body must be a form: send it as {_MULTIPART} or {_URLENCODED}")

    def _urlencoded(self, body: bytes) -> list[Pair]:
        limits = self._limits
        if body.count(b"&") >= limits.fields:
            raise too_large("", "the number of fields", limits.fields)
        pairs: list[Pair] = []
        for part in filter(None, body.split(b"&")):
            name, _, value = part.partition(b"=")
            key = text_of(_unquoted(name), "")
            text = _unquoted(value)
            if len(text) > limits.text:
                raise too_large(key, "the size of the field in bytes", limits.text)
            pairs.append((key, text_of(text, key)))
        return pairs

    def _bound(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        errors: list[FieldError] = []
        texts: dict[str, Any] = {}
        files: dict[str, list[UploadFile]] = {}
        for name, value in pairs:
            problem = self._misplaced(name, value)
            if problem:
                errors.append(FieldError(member("", name), problem))
            elif isinstance(value, str):
                texts.setdefault(name, []).append(value)
            elif value.filename or value.size:
                files.setdefault(name, []).append(value)
        misplaced = {error.path for error in errors}
        values: dict[str, Any] = {}
        for read in (self._read_files(files, values), self._read_documents(texts, values), self._read_texts(texts, values)):
            errors += [error for error in read if error.path not in misplaced]
        if errors:
            raise InvalidInput("the form is not valid", errors=list(dict.fromkeys(errors)))
        return {name: values[name] if name in values else self._defaults[name] for name in self._names}

    def _misplaced(self, name: str, value: str | UploadFile) -> str:
        if name not in self._names:
            return unknown(name, self._names)
        if (name in self._files) == isinstance(value, UploadFile):
            return ""
        return "expected a file, got text" if name in self._files else "expected text, got a file"

    def _read_files(self, given: Mapping[str, list[UploadFile]], values: dict[str, Any]) -> Iterator[FieldError]:
        for name, kind in self._files.items():
            files = given.get(name, [])
            if not files and (name in self._defaults or type(None) in get_args(kind)):
                values[name] = self._defaults.get(name)
            elif not files:
                yield FieldError(name, "is required")
            elif _takes_several(kind):
                values[name] = files
            elif len(files) == 1:
                values[name] = files[0]
            else:
                yield FieldError(name, "must be given once only")

    def _read_documents(self, given: Mapping[str, list[str]], values: dict[str, Any]) -> Iterator[FieldError]:
        for name, decoder in self._documents.items():
            texts = given.get(name, [])
            if len(texts) == 1:
                try:
                    values[name] = decoder.decode(texts[0].encode())
                except InvalidInput as error:
                    yield from (FieldError(_below(name, found["path"]), found["message"]) for found in error.errors)
            elif texts:
                yield FieldError(name, "must be given once only")
            elif name not in self._defaults:
                yield FieldError(name, "is required")

    def _read_texts(self, given: Mapping[str, list[str]], values: dict[str, Any]) -> Iterator[FieldError]:
        try:
            found = self._texts.decode({name: texts for name, texts in given.items() if name in self._plain})
        except InvalidInput as error:
            yield from (FieldError(found["path"], found["message"]) for found in error.errors)
        else:
            given_or_not = ((name, getattr(found, name)) for name in self._plain)
            values.update((name, value) for name, value in given_or_not if value is not msgspec.UNSET)


async def _close(files: Iterable[UploadFile]) -> None:
    for file in files:
        await file.close()


def _files_in(values: Mapping[str, Any]) -> Iterator[UploadFile]:
    for value in values.values():
        yield from (file for file in (value if isinstance(value, list) else [value]) if isinstance(file, UploadFile))


async def _bounded(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Yield a body as it arrives; `TooLarge` beyond the limit, before it is stored anywhere."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise body_too_large(limit)
        yield chunk


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _below(name: str, path: str) -> str:
    return f"{name}{path}" if path.startswith("[") or not path else f"{name}.{path}"


def _is_file(kind: Any) -> bool:
    return kind is UploadFile or any(map(_is_file, get_args(kind)))


def _takes_several(kind: Any) -> bool:
    return get_origin(kind) is list or any(map(_takes_several, get_args(kind)))


def _is_object(kind: Any) -> bool:
    info = bare(inspect.type_info(kind))
    options = map(bare, info.types) if isinstance(info, inspect.UnionType) else [info]
    return any(isinstance(option, Object | inspect.DictType) for option in options)


def _is_empty(request: Request) -> bool:
    return request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
