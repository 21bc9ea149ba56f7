"""`python -m benchmarks [--quick] [--only rpc,http_get] [--rounds N]`: what `make bench` runs."""

import argparse
import resource
from pathlib import Path

from benchmarks.footprint import Footprint, measure
from benchmarks.processes import ROOT, Stage
from benchmarks.profile import profiles
from benchmarks.report import Findings, write
from benchmarks.run import as_text, run
from benchmarks.suites import SUITES

KEYS = [*(suite.key for suite in SUITES), "footprint", "profile"]


def main() -> None:
    """Run the suites asked for; a whole run writes benchmarks/RESULTS.md, a quick or partial one leaves it alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare Cliffracer with its peers in one run.")
    parser.add_argument("--quick", action="store_true", help="three short rounds: under two minutes, rough figures, kept in .bench/")
    parser.add_argument("--only", default="", metavar="KEYS", help=f"some of {','.join(KEYS)}; kept in .bench/")
    parser.add_argument("--rounds", type=int, default=0, help="9, or 3 when quick")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a thousand sockets at each end
    wanted = options.only.split(",") if options.only else KEYS
    if unknown := set(wanted) - set(KEYS):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    suites = [suite for suite in SUITES if suite.key in wanted]
    rounds = options.rounds or (3 if options.quick else 9)
    with Stage() as stage:
        standings = run(suites, stage, rounds=rounds, seconds=0.3 if options.quick else 0.8)
    footprint = measure(quick=options.quick) if "footprint" in wanted else Footprint()
    profiled = profiles(1.0 if options.quick else 5.0) if "profile" in wanted else []
    whole = not options.quick and not options.only
    folder = ROOT / ("benchmarks" if whole else ".bench")
    print(write(folder, suites, Findings(standings, rounds, footprint, profiled)))
    (ROOT / ".bench").mkdir(exist_ok=True)
    Path(ROOT / ".bench" / "samples.json").write_bytes(as_text(standings))
    print(f"Written to {(folder / 'RESULTS.md').relative_to(ROOT)}; every sample is in .bench/samples.json.")


if __name__ == "__main__":
    main()
