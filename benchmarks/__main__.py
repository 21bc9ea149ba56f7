"""`python -m benchmarks [--quick] [--only rpc,http_get] [--rounds N]`: what `make bench` runs."""

import argparse
import resource
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from loguru import logger

from benchmarks.database.__main__ import tables as database_tables
from benchmarks.database.paired import Table
from benchmarks.findings import Findings
from benchmarks.footprint import measure
from benchmarks.identity.__main__ import tables as identity_tables
from benchmarks.lines import tables as line_tables
from benchmarks.processes import ROOT, Stage
from benchmarks.profile import PROFILED, profiles
from benchmarks.report import PAIRED, write
from benchmarks.run import as_text, run
from benchmarks.suites import SUITES
from cliffracer import embedded

KEYS = [*(suite.key for suite in SUITES), "footprint", *PAIRED, "profile"]


def main() -> None:
    """Run the suites asked for; a whole run writes benchmarks/RESULTS.md, a quick or partial one leaves it alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare Cliffracer with its peers in one run.")
    parser.add_argument(
        "--quick", action="store_true", help="three short rounds without the database: under two minutes, rough figures, kept in .bench/"
    )
    parser.add_argument("--only", default="", metavar="KEYS", help=f"some of {','.join(KEYS)}; kept in .bench/")
    parser.add_argument("--rounds", type=int, default=0, help="9, or 3 when quick")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a thousand sockets at each end
    wanted = options.only.split(",") if options.only else [key for key in KEYS if not (options.quick and key == "database")]
    if unknown := set(wanted) - set(KEYS):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    suites = [suite for suite in SUITES if suite.key in wanted]
    rounds = options.rounds or (3 if options.quick else 9)
    with Stage() as stage:
        standings = run(suites, stage, rounds=rounds, seconds=0.25 if options.quick else 0.8)
    found = Findings(standings, rounds, partial=bool(options.only))
    if "footprint" in wanted:
        found.footprint = measure(quick=options.quick)
    found.tables = {key: paired(key, rounds, quick=options.quick) for key in PAIRED if key in wanted}
    if "profile" in wanted:
        print("Where our own time goes ...")
        kinds = list(PROFILED)[: 1 if options.quick else None]
        found.profiles = profiles(1.0 if options.quick else 4.0, kinds)
    whole = not options.quick and not options.only
    folder = ROOT / ("benchmarks" if whole else ".bench")
    print(write(folder, suites, found))
    (ROOT / ".bench").mkdir(exist_ok=True)
    Path(ROOT / ".bench" / "samples.json").write_bytes(as_text(standings))
    print(f"Written to {(folder / 'RESULTS.md').relative_to(ROOT)}; every sample is in .bench/samples.json.")


def paired(key: str, rounds: int, *, quick: bool) -> list[Table]:
    """Return comparisons that run in this process."""
    print(f"{PAIRED[key].partition(':')[0]} ...")
    if key == "lines":
        logger.remove()
        return uvloop.run(line_tables(rounds, 500 if quick else 2000))
    if key == "identity":
        with Stage() as stage:
            return uvloop.run(identity_tables(stage.url, rounds, 1000 if quick else 5000))
    with TemporaryDirectory(prefix="bench-") as folder, embedded.servers(database=True, folder=Path(folder)) as servers:
        return uvloop.run(database_tables(servers.database_url, servers.nats_url, min(rounds, 3)))


if __name__ == "__main__":
    main()
