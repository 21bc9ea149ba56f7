"""Everything that one run found."""

import msgspec

from benchmarks.database.paired import Table
from benchmarks.footprint import Footprint
from benchmarks.measure import Standing
from benchmarks.profile import Profile

Standings = dict[str, list[Standing]]


class Findings(msgspec.Struct):
    """Standings by suite, paired tables by subject, and what a process costs besides."""

    standings: Standings
    rounds: int
    footprint: Footprint = msgspec.field(default_factory=Footprint)
    profiles: list[Profile] = []
    tables: dict[str, list[Table]] = {}
    """Comparisons within one process, such as those with psycopg by hand; see `benchmarks.database.paired`."""
    partial: bool = False
    """Whether only some was asked for."""
