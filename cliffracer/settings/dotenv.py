r"""Reads a ``.env`` file: ``NAME=value`` lines, as the shell and Docker Compose write them.

``export`` before the name, blanks around ``=``, empty lines and ``#`` comments are allowed. A value in single
quotes is literal; in double quotes ``\n \r \t \" \\ \$`` are escapes; either may span lines. Without quotes it
ends before `` #``. Nothing is interpolated: ``${NAME}`` stays as it is. Of a name given twice the last value counts.
"""

import re
from typing import NamedTuple

_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*")
_IGNORED = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_PLAIN = re.compile(r"[^\n]*")
_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#.*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r'\\([nrt"\\$])')
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


class Entry(NamedTuple):
    """One value and where it stands."""

    value: str
    line: int


def parse(content: str) -> dict[str, Entry]:
    """Return the entries by name; ValueError that begins with the number of a line that cannot be read."""
    content = content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    entries: dict[str, Entry] = {}
    position, line, counted = 0, 1, 0
    while position < len(content):
        if blank := _IGNORED.match(content, position):
            position = max(blank.end(), position + 1)
            continue
        line, counted = line + content.count("\n", counted, position), position
        named = _NAME.match(content, position)
        if named is None:
            raise ValueError(f"line {line}: NAME=value is wanted")
        value, position = _value(content, named.end(), line)
        if "\0" in value:
            raise ValueError(f"line {line}: {named[1]} holds a NUL character")
        entries[named[1]] = Entry(value, line)
    return entries


def _value(content: str, start: int, line: int) -> tuple[str, int]:
    quote = content[start : start + 1]
    if quote not in ("'", '"') or not quote:
        plain = _PLAIN.match(content, start)
        assert plain is not None  # it matches the empty text too
        return _COMMENT.sub("", plain[0]).strip(), plain.end() + 1
    found = (_SINGLE if quote == "'" else _DOUBLE).match(content, start)
    if found is None:
        raise ValueError(f"line {line}: the quote {quote} is not closed")
    after = _IGNORED.match(content, found.end())
    if after is None:
        raise ValueError(f"line {line}: only a comment may follow the closing quote")
    value = found[1] if quote == "'" else _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), found[1])
    return value, after.end()
