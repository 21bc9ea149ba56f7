"""Values that look like an attack on a database. They are sent as parameters and can do nothing; who sends them is worth knowing."""

import logging
import re
from typing import Any, Literal

from cliffracer.database.columns import misfit

log = logging.getLogger("cliffracer.database")

Mode = Literal["log", "reject", "off"]
LONGEST = 10_000
"""Of a longer text, this much is looked at."""

_SIGNS = frozenset("'\";#(=`|")
_VERBS = (
    "drop|delete|insert|update|alter|create|truncate|grant|exec|execute|copy|declare|shutdown|waitfor|select|vacuum|begin"
    "|commit|rollback|set|do|notify"
)
_CALLS = (
    "pg_sleep|sleep|benchmark|pg_read_file|pg_ls_dir|lo_import|lo_export|dblink|xp_cmdshell|load_file|extractvalue|updatexml"
    "|current_setting|version|char|chr|ascii|iif|elt|make_set|randomblob|receive_message|crypt_key"
)
_MORE = r"(or|and)\b.*(=|\blike\b|\btrue\b|\(|\bfalse\b)|having\b|(order|group)\s+by\b|--|\#|/\*|\|\|"
_TABLES = "information_schema|pg_catalog|pg_shadow|pg_user|pg_tables|sqlite_master|sysobjects|syscolumns|all_tables"
PATTERNS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for name, pattern in {
        "union": r"\bunion\b[\s(/*+!]*((all|distinct)\b)?[\s(/*+!]*\bselect\b",
        "stacked statement": rf"""['")`0-9]\s*\)*\s*;\s*({_VERBS})\b|;\s*(drop|alter|truncate)\s+(table|schema|database|role|user)\b""",
        "always true": r"""(\b(or|and)\b|\|\|)[\s/*+]*(not\s+)?(['"]?)(\w+)\4(::\w+)?\s*(=|like)\s*\4?\5\b""",
        "closed quote": rf"""^[^'"]{{0,64}}['"]+\s*\)*\s*({_MORE})""",
        "comment": r"""/\*!?\d*.*\*/|['"]\s*;?\s*--\s*[-+]?$""",
        "function": rf"\b({_CALLS})\s*\(.*\)|\bwaitfor\s+delay\b|\binto\s+(out|dump)file\b",
        "catalogue": rf"\b({_TABLES})\b",
        "subquery": r"\(\s*select\b.*\)",
        "conditional": r"\bcase\s+when\b[^=<>]{0,100}[=<>].{0,200}?\bthen\b",
    }.items()
}


def kind_of(value: Any) -> str | None:
    """Return what a text looks like, or None."""
    if not isinstance(value, str):
        return None
    if len(value) > LONGEST:
        value = value[:LONGEST]
    if _SIGNS.isdisjoint(value) and "--" not in value and "/*" not in value and "union" not in value.lower():
        return None  # nearly every value leaves here, after a quarter of a microsecond
    return next((name for name, pattern in PATTERNS.items() if pattern.search(value)), None)


def watch(mode: Mode, model: str, name: str, value: Any) -> None:
    """Report a value that looks like an attack, by the name of its field and never by itself; or refuse it."""
    for each in value if isinstance(value, list | tuple) else (value,):
        kind = kind_of(each)
        if kind is None:
            continue
        log.warning("a value for %s.%s looks like SQL injection (%s); it is a parameter and does nothing", model, name[:60], kind)
        if mode == "reject":
            raise misfit(name[:60], "is refused: it looks like an attack on the database")
