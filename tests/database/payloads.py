"""Injection payloads: those of a public list, and over 500 of every shape, put together here from their parts; always the same."""

# ruff: noqa: RUF001 - look-alikes are what some attacks are made of

import re
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from xml.etree import ElementTree as ET

QUOTES = ["'", '"', "')", "'))", '")', "", "\\'", "''", "`", "$$", "%27", "ʼ", "’", "'\u0000"[:-1]]
COMMENTS = ["--", "-- -", "#", "/*", "--+", ";--", "; --", "/**/--", ""]
TAUTOLOGIES = [
    "or 1=1", "or '1'='1", "or true", "or 'a' like 'a", "or 1 in (1)", "or not false", "|| 1=1", "or 1=1 limit 1", "OR/**/1=1", "oR\t1=1",
    "or\n1=1", "or 1::int=1", "or ascii('a')=97", "or exists(select 1)", "and 1=0 or 1=1",
]  # fmt: skip
STATEMENTS = [
    "drop table users", "delete from users", "update users set status='pwned'", "insert into users default values", "truncate users",
    "alter table users rename to gone", "create table pwned(a int)", "copy users to program 'id'", "select pg_sleep(10)", "commit",
    "rollback", "set role postgres", "grant all on users to public", "do $$ begin raise exception 'pwned'; end $$", "vacuum full",
    "notify cliffracer_outbox", "declare c cursor for select 1", "select lo_import('/etc/passwd')", "drop schema public cascade",
]  # fmt: skip
UNIONS = [
    "union select null", "union all select null,null,null", "UNION/**/SELECT/**/version()", "uNiOn aLl sElEcT 1,2,3,4,5,6,7",
    "union select usename,passwd from pg_shadow", "union select table_name from information_schema.tables",
    "union distinct select current_user", "union(select(1))",
]  # fmt: skip
PROBES = [
    "(select pg_sleep(10))", "(select case when 1=1 then pg_sleep(10) end)", "1; waitfor delay '0:0:10'", "benchmark(10000000,md5(1))",
    "cast(version() as int)", "extractvalue(1,concat(0x7e,version()))", "convert(int,@@version)", "(select 1 from (select count(*))x)",
    "name from users", "id; drop table users", "1,(select 1)", "case when true then name else email end", 'name collate "C"',
    "name::text", "name desc; drop table users", '"name"', "public.users.name", "users.*", "*", "count(*)", "1", "-1", "0x31", "1e309",
    "%s", "%(name)s", "%%", "{}", "{0.__class__}", "$1", ":name", "?", "@@version", "\\", "\\x27", "\\u0027", "%00", "../../etc/passwd",
    "<script>alert(1)</script>",
    "${7*7}", "{{7*7}}", "'||(select 1)||'", "'+(select 1)+'", "' || pg_sleep(10) --", "char(39)", "chr(39)||chr(39)",
    "E'\\\\''", "U&'\\0027'", "$tag$x$tag$", "/*!50000select*/", "{fn now()}", "row(1,2)", "array[1]", "'{}'", "null", "NaN", "true",
    "__class__", "__tablename__", "__dict__", "id__eq__eq", "name__", "__name", "_", "", " ", "name ", " name", "NAME",
    "na\u200bme", "ｎame",
    "name\n", "name--", "name/**/", "name;", "name'", "a" * 64, "a" * 5000, "é" * 40,
]  # fmt: skip


def payloads() -> list[str]:
    """Return all of them, each once."""
    made = list(PROBES)
    for number, quote in enumerate(QUOTES):
        for place, tautology in enumerate(TAUTOLOGIES):
            made.append(f"x{quote} {tautology}{COMMENTS[(number + place) % len(COMMENTS)]}")
        for place, statement in enumerate(STATEMENTS):
            made.append(f"x{quote}; {statement}{COMMENTS[(number + place) % len(COMMENTS)]}")
        for place, union in enumerate(UNIONS):
            made.append(f"x{quote} {union}{COMMENTS[(number + place) % len(COMMENTS)]}")
        made.append(f"{quote}")
        made.append(f"admin{quote}{COMMENTS[number % len(COMMENTS)]}")
    return list(dict.fromkeys(made))


def public() -> list[str]:
    """Return what sqlmap sends: each of its payloads within several of its boundaries, in turns."""
    spec = find_spec("sqlmap")
    assert spec is not None
    assert spec.submodule_search_locations
    lists = Path(next(iter(spec.submodule_search_locations))) / "data" / "xml"
    around = [
        (found.findtext("prefix") or "", found.findtext("suffix") or "") for found in ET.parse(lists / "boundaries.xml").iter("boundary")
    ]
    texts = [found.text for path in sorted((lists / "payloads").glob("*.xml")) for found in ET.parse(path).iter("payload") if found.text]
    boundaries = cycle(around)
    made = (f"7{before} {text} {after}" for _ in range(3) for text, (before, after) in zip(texts, boundaries, strict=False))
    return list(dict.fromkeys(re.sub(r"\[[A-Z_0-9]+\]", "7", text) for text in made))
