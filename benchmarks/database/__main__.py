"""``python -m benchmarks.database [--rounds 9] [--write]``: all tables; with ``--write`` into RESULTS.md beside this file."""

import argparse
import platform
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from benchmarks.database import suites
from benchmarks.database.paired import Table, Target
from cliffracer import embedded

HAND, OURS = "psycopg by hand, same pool", "Repository"
TARGETS = (
    Target("get against psycopg by hand, one at once", "get, 1 at once", OURS, HAND, 1.10),
    Target("the same, 16 at once", "get, 16 at once", OURS, HAND, 1.10),
    Target("create against psycopg by hand, one at once", "create, 1 at once", OURS, HAND, 1.10),
    Target("the same, 16 at once", "create, 16 at once", OURS, HAND, 1.10),
    Target("create_many against a loop of creates", "create_many of 10,000", "create_many", "a loop of creates", 0.10, "wall"),
    Target("create_many against COPY by hand", "create_many of 10,000", "create_many", "COPY by hand", 1.20),
    Target("the same by the clock", "create_many of 10,000", "create_many", "COPY by hand", 1.20, "wall"),
    Target("pooled against connecting", "pooled against connecting, 8 at once", "Database", "a connection per query", 1 / 4.6, "wall"),
    Target("find of 1,000 rows against class_row", "1,000 rows found", "Repository.find", "class_row(dataclass)", 1.0),
    Target("the same by the clock", "1,000 rows found", "Repository.find", "class_row(dataclass)", 1.0, "wall"),
)


async def tables(url: str, nats_url: str, rounds: int) -> list[Table]:
    """Return all comparisons with psycopg by hand."""
    found: list[Table] = []
    async with suites.opened(url) as bench:
        for callers in (1, 16):
            found += await suites.one_row(bench, callers, rounds)
        found += await suites.connecting(bench, rounds)
        found += await suites.several_rows(bench, rounds)
        found += await suites.many_rows(bench, max(3, rounds // 2))
        found += await suites.events(bench, nats_url, rounds)
    return found


async def measure(url: str, nats_url: str, rounds: int) -> str:
    found = await tables(url, nats_url, rounds)
    lines = "\n".join(target.line(found) for target in TARGETS)
    reached = f"### What must be reached\n\n| what | target | reached | |\n| --- | ---: | ---: | --- |\n{lines}\n"
    return "\n".join([reached, *(table.text() for table in found), await suites.clones(url, rounds)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.database")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="cr-bench-") as folder, embedded.servers(database=True, folder=Path(folder)) as servers:
        text = uvloop.run(measure(servers.database_url, servers.nats_url, given.rounds))
    head = (
        "# Database\n\nWritten by `python -m benchmarks.database --write`; do not edit. Embedded PostgreSQL over its socket;\n"
        "CPU is that of the client process; × is the median over rounds of the ratio to the first row.\n"
        f"Python {platform.python_version()}, {given.rounds} rounds in turns. Compare ratios, not figures.\n\n"
    )
    print(head + text)
    if given.write:
        Path(__file__).with_name("RESULTS.md").write_text(head + text, encoding="utf-8")


if __name__ == "__main__":
    main()
