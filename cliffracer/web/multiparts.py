"""Reads ``multipart/form-data`` (RFC 7578) as it arrives: texts into memory, files into spooled ones, all bounded.

The syntax is parsed by python-multipart. Starlette's reader on top of it accepts any charset that a client names, reads invalid UTF-8
as Latin-1, accepts truncated bodies, and reports neither the field nor the limit that was exceeded; so this is our own.
"""

import re
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers, UploadFile

from cliffracer.errors import FieldError, InvalidInput, TooLarge
from cliffracer.wire.wording import member

Pair = tuple[str, str | UploadFile]
SPOOL = 256 * 1024  # bytes of a file that stay in memory
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class FormLimits(msgspec.Struct, frozen=True):
    """Limits of a form."""

    body: int = 10 * 2**20
    """Bytes in all."""
    fields: int = 1000
    files: int = 100
    text: int = 2**20
    """Bytes of one field that is not a file."""
    urlencoded: int = 2**20
    """Bytes of a form that is not multipart: it is decoded in one go, which takes a tenth of a second at this size."""
    file: int | None = None
    """Bytes of one file; None: only the limit of the body counts."""


def refusal(name: str, message: str) -> InvalidInput:
    """Return the error for one field, or for the whole form if ``name`` is empty."""
    return InvalidInput("the form is not valid", errors=[FieldError(name and member("", name), message)])


def too_large(name: str, what: str, limit: int) -> TooLarge:
    """Return the error for a form, or a field of it, that is over a limit."""
    path = name and member("", name)
    message = f"{what} is over the limit of {limit}"
    return TooLarge(f"{path}: {message}" if path else message, limit=limit, errors=[{"path": path, "message": message}])


def text_of(data: bytes, name: str) -> str:
    """Return bytes as text; `InvalidInput` unless they are UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise refusal(name, f"is not UTF-8: invalid at byte {error.start}") from None


class _Part:
    """One part while it is read."""

    __slots__ = ("data", "file", "headers", "name", "size")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.name = ""
        self.data = bytearray()
        self.file: UploadFile | None = None
        self.size = 0


class MultipartReader:
    """Reads one body; the files that it opens it adds to ``files``, for the caller to close whatever happens."""

    def __init__(self, content_type: str, limits: FormLimits, files: list[UploadFile]) -> None:
        _, parameters = parse_options_header(content_type)
        if not parameters.get(b"boundary"):
            raise refusal("", "the Content-Type of a multipart form has a boundary")
        self._limits = limits
        self._pairs: list[Pair] = []
        self._files = files
        self._part = _Part()
        self._name = b""
        self._value = b""
        self._texts = 0
        self._ended = False
        self._writes: list[tuple[UploadFile, bytes]] = []
        callbacks = {name: getattr(self, f"_{name}") for name in _CALLBACKS}
        try:
            self._parser = MultipartParser(parameters[b"boundary"], callbacks)  # type: ignore[arg-type]  # a TypedDict, made by name
        except FormParserError:
            raise refusal("", "the boundary of the multipart form is too long") from None

    async def read(self, chunks: AsyncIterator[bytes]) -> list[Pair]:
        """Return names and values in order; `InvalidInput` or `TooLarge` for what cannot be accepted."""
        async for chunk in chunks:
            try:
                self._parser.write(chunk)
            except FormParserError:
                raise refusal("", "is not multipart/form-data that can be read") from None
            for file, data in self._writes:
                await file.write(data)  # in a thread once the file is on disk
            self._writes.clear()
        if not self._ended:
            raise refusal("", "the multipart form ends too early")
        for file in self._files:
            await file.seek(0)
        return self._pairs

    def _on_part_begin(self) -> None:
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._part.headers.append((self._name.lower(), self._value))
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        part = self._part
        kind, options = parse_options_header(dict(part.headers).get(b"content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise refusal("", "each part of a multipart form has Content-Disposition: form-data with a name")
        part.name = text_of(options[b"name"], "")
        if b"filename" in options:
            if len(self._files) >= self._limits.files:
                raise too_large("", "the number of files", self._limits.files)
            part.file = self._open(part, text_of(options[b"filename"], part.name))
            return
        self._texts += 1
        if self._texts > self._limits.fields:
            raise too_large("", "the number of fields", self._limits.fields)

    def _open(self, part: _Part, filename: str) -> UploadFile:
        spooled = cast("BinaryIO", SpooledTemporaryFile(max_size=SPOOL))  # noqa: SIM115  # closed with the form
        file = UploadFile(spooled, size=0, filename=_harmless(filename), headers=Headers(raw=part.headers))
        self._files.append(file)
        self._pairs.append((part.name, file))
        return file

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part, limits = self._part, self._limits
        part.size += end - start
        if part.file is None:
            if part.size > limits.text:
                raise too_large(part.name, "the size of the field in bytes", limits.text)
            part.data += data[start:end]
            return
        if limits.file is not None and part.size > limits.file:
            raise too_large(part.name, "the size of the file in bytes", limits.file)
        self._writes.append((part.file, data[start:end]))

    def _on_part_end(self) -> None:
        part = self._part
        if part.file is None:
            self._pairs.append((part.name, text_of(bytes(part.data), part.name)))

    def _on_end(self) -> None:
        self._ended = True


_CALLBACKS = (
    "on_part_begin",
    "on_part_data",
    "on_part_end",
    "on_header_field",
    "on_header_value",
    "on_header_end",
    "on_headers_finished",
    "on_end",
)


def _harmless(filename: str) -> str:
    """Return the last part of a file name, without folders and control characters: the client chose it, so it is no path."""
    return _CONTROLS.sub("", re.split(r"[\\/]", filename)[-1])
