"""``python -m benchmarks.database [--rounds 9] [--write]``: all tables; with ``--write`` into RESULTS.md beside this file."""

import argparse
import platform
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from benchmarks.database import suites
from cliffracer import embedded


async def measure(url: str, rounds: int) -> str:
    parts = []
    async with suites.opened(url) as bench:
        for callers in (1, 16):
            parts += [table.text() for table in await suites.one_row(bench, callers, rounds)]
        parts += [table.text() for table in await suites.connecting(bench, rounds)]
        parts += [table.text() for table in await suites.many_rows(bench, max(3, rounds // 2))]
        parts += [table.text() for table in await suites.events(bench, rounds)]
    parts.append(await suites.clones(url, rounds))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.database")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="cr-bench-") as folder, embedded.servers(nats=False, database=True, folder=Path(folder)) as servers:
        text = uvloop.run(measure(servers.database_url, given.rounds))
    head = (
        "# Database\n\nEmbedded PostgreSQL over its socket; CPU is that of the client process; × is the median over rounds of the ratio "
        f"to the first row.\nPython {platform.python_version()}, {given.rounds} rounds in turns. Compare ratios, not figures.\n\n"
    )
    print(head + text)
    if given.write:
        Path(__file__).with_name("RESULTS.md").write_text(head + text, encoding="utf-8")


if __name__ == "__main__":
    main()
