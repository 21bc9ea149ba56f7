"""Values that look like an attack on a database. They are sent as parameters and can do nothing; who sends them is worth knowing."""

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from cliffracer.database.columns import misfit

log = logging.getLogger("cliffracer.database")

Mode = Literal["log", "reject", "off"]
LONGEST = 10_000
"""Of a longer text, this much is looked at."""

_VERBS = (
    "drop|delete|insert|update|alter|create|truncate|grant|exec|execute|copy|declare|shutdown|waitfor|select|vacuum|begin"
    "|commit|rollback|set|do|notify"
)
_CALLS = (
    "pg_sleep", "sleep", "benchmark", "pg_read_file", "pg_ls_dir", "lo_import", "lo_export", "dblink", "xp_cmdshell", "load_file",
    "extractvalue", "updatexml", "current_setting", "version", "char", "chr", "ascii", "iif", "elt", "make_set", "randomblob",
    "receive_message", "crypt_key",
)  # fmt: skip
_MORE = r"(or|and)\b.*(=|\blike\b|\btrue\b|\(|\bfalse\b)|having\b|(order|group)\s+by\b|--|\#|/\*|\|\|"
_TABLES = "information_schema|pg_catalog|pg_shadow|pg_user|pg_tables|sqlite_master|sysobjects|syscolumns|all_tables"
Needs = tuple[tuple[str, ...], ...]
_SOUGHT: tuple[tuple[str, str, Needs], ...] = (
    ("union", r"\bunion\b[\s(/*+!]*((all|distinct)\b)?[\s(/*+!]*\bselect\b", (("union",), ("select",))),
    ("closed quote", rf"""^[^'"]{{0,64}}['"]+\s*\)*\s*({_MORE})""", ()),
    ("comment", r"""/\*!?\d*.*\*/|['"]\s*;?\s*--\s*[-+]?$""", (("/*", "--"),)),
    ("statement", r"\bwaitfor\s+delay\b|\binto\s+(out|dump)file\b", (("waitfor", "outfile", "dumpfile"),)),
    ("catalogue", rf"\b({_TABLES})\b", (("_schema", "pg_", "sqlite_", "sysobjects", "syscolumns", "all_tables"),)),
    ("subquery", r"\(\s*select\b.*\)", (("(",), ("select",))),
    ("conditional", r"\bcase\s+when\b[^=<>]{0,100}[=<>].{0,200}?\bthen\b", (("case",), ("then",))),
)
PATTERNS: dict[str, tuple[re.Pattern[str], Needs]] = {
    name: (re.compile(pattern, re.IGNORECASE | re.DOTALL), needs) for name, pattern, needs in _SOUGHT
}
"""Each pattern, with words of which one per group must be there: most texts have none of them, and need no search."""
_TRUE = re.compile(r"""(\b(or|and)\b|\|\|)[\s/*+]*(not\s+)?(['"]?)(\w+)\4(::\w+)?\s*(=|like)\s*\4?\5\b""")
_NEXT = re.compile(rf";\s*({_VERBS})\b")
_RUIN = re.compile(r";\s*(drop|alter|truncate)\s+(table|schema|database|role|user)\b")
_NAMED = re.compile(rf"\b({'|'.join(_CALLS)})\Z")


def kind_of(value: Any) -> str | None:
    """Return what a text looks like, or None."""
    if not isinstance(value, str):
        return None
    if len(value) > LONGEST:
        value = value[:LONGEST]
    if _harmless(value):
        return None
    lowered = value.lower()
    for name, (pattern, needs) in PATTERNS.items():
        if _there(lowered, needs) and pattern.search(value):
            return name
    return next((name for name, found in _WALKED if found(lowered)), None)


def _harmless(value: str) -> bool:
    """Say whether a text has none of the characters that an attack needs: true of nearly every text, in a quarter of a microsecond."""
    return (
        "'" not in value and '"' not in value and ";" not in value and "=" not in value and "(" not in value and "#" not in value
        and "|" not in value and "`" not in value and "--" not in value and "/*" not in value and "union" not in value.lower()
    )  # fmt: skip


def _there(lowered: str, needs: Needs) -> bool:
    for group in needs:
        for word in group:
            if word in lowered:
                break
        else:
            return False
    return True


def _places(text: str, word: str) -> Iterator[int]:
    place = text.find(word)
    while place >= 0:
        yield place
        place = text.find(word, place + 1)


def _always_true(lowered: str) -> bool:
    if "=" not in lowered and "like" not in lowered:
        return False
    return any(_TRUE.match(lowered, place) for word in ("or", "and", "||") for place in _places(lowered, word))


def _stacked(lowered: str) -> bool:
    for place in _places(lowered, ";"):
        if _RUIN.match(lowered, place) or (_NEXT.match(lowered, place) and lowered[:place].rstrip().endswith(_ENDS)):
            return True
    return False


def _calls(lowered: str) -> bool:
    end = lowered.rfind(")")
    for place in _places(lowered[:end], "(") if end > 0 else ():
        before = lowered[max(0, place - 40) : place].rstrip()
        if before.endswith(_CALLS) and _NAMED.search(before):
            return True
    return False


_ENDS = ("'", '"', ")", "`", *"0123456789")
_WALKED = (("stacked statement", _stacked), ("always true", _always_true), ("function", _calls))
"""Checks at the places of a character or word, which is quicker than a pattern that is tried at every place."""


def watch(mode: Mode, model: str, name: str, value: Any) -> None:
    """Report a value that looks like an attack, by the name of its field and never by itself; or refuse it."""
    for each in _texts(value):
        kind = kind_of(each)
        if kind is None:
            continue
        log.warning("a value for %s.%s looks like SQL injection (%s); it is a parameter and does nothing", model, name[:60], kind)
        if mode == "reject":
            raise misfit(name[:60], "is refused: it looks like an attack on the database")


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a value, keys of documents too."""
    if isinstance(value, str):
        yield value
        return
    waiting, seen = [value], set()
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping | list | tuple | set | frozenset | msgspec.Struct) and id(part) not in seen:
            seen.add(id(part))  # a value that holds itself is refused later
            if isinstance(part, Mapping):
                waiting += (*part.keys(), *part.values())
            else:
                waiting += msgspec.structs.astuple(part) if isinstance(part, msgspec.Struct) else part
