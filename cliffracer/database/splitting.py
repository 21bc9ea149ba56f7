"""Splits a migration into statements, as PostgreSQL's own scanner does (quotes, dollar quotes, nested comments)."""

import re

_TOKEN = re.compile(
    r"""
    (?P<line>--[^\n]*)
  | (?P<open>/\*)
  | (?P<escaped>\b[eE]'(?:[^'\\]|\\.|'')*')
  | (?P<text>'(?:[^']|'')*')
  | (?P<name>"(?:[^"]|"")*")
  | (?P<dollar>\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$)
  | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")


def statements(text: str) -> list[str]:
    """Return the statements of a text, without those that are only comments."""
    found: list[str] = []
    start = place = 0
    while True:
        token = _TOKEN.search(text, place)
        if token is None:
            found.append(text[start:])
            break
        place = token.end()
        if token.lastgroup == "open":
            place = _after_comment(text, place)
        elif token.lastgroup == "dollar":
            closing = text.find(token.group(), place)
            place = len(text) if closing < 0 else closing + len(token.group())
        elif token.lastgroup == "end":
            found.append(text[start : token.start()])
            start = place
    return [part.strip() for part in found if _has_code(part)]


def _after_comment(text: str, place: int) -> int:
    depth = 1
    while depth:
        token = _COMMENT.search(text, place)
        if token is None:
            return len(text)
        depth += 1 if token.group() == "/*" else -1
        place = token.end()
    return place


def _has_code(part: str) -> bool:
    rest, place = "", 0
    while place < len(part):
        token = _TOKEN.search(part, place)
        if token is None or token.lastgroup not in {"line", "open"}:
            return bool((rest + part[place:]).strip())
        rest += part[place : token.start()]
        place = token.end() if token.lastgroup == "line" else _after_comment(part, token.end())
    return bool(rest.strip())
