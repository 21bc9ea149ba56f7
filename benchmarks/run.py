"""Run suites: start who takes part, warm up, then round by round in an order that changes."""

import random
from collections.abc import Iterable
from typing import Any

import msgspec

from benchmarks.measure import Meter, Standing
from benchmarks.processes import NotReady, Process, Stage
from benchmarks.suites import Contender, Suite

WARM_UP = 0.2  # s
BATCH = 500  # consumers tell their count this often
VARIANTS = {
    "stock": {"CLIFFRACER_NATS_TRANSPORT": "stock", "CLIFFRACER_NAMESPACE": "stock"},
    "core": {"CLIFFRACER_NAMESPACE": "core"},
    "durable": {"CLIFFRACER_NAMESPACE": "durable"},
    "feed": {"CLIFFRACER_NAMESPACE": "feed"},
    "frozen": {"CLIFFRACER_NAMESPACE": "frozen"},
    "room": {"CLIFFRACER_NAMESPACE": "room"},
    "workers": {"CLIFFRACER_NAMESPACE": "workers"},
}
OPTIONS = {"workers": ["--workers", "2"]}


class Player:
    """A contender whose processes run, ready to be loaded."""

    def __init__(self, contender: Contender, suite: Suite, stage: Stage) -> None:
        self.command: dict[str, Any] = dict(contender.command)
        kind, _, name = contender.server.rpartition(":")
        server: Process | None = None
        if kind == "web":
            server, self.command["port"] = stage.web(name)
        elif kind == "ours":
            variant = name.partition("@")[2]
            server, self.command["port"] = stage.ours(name, *OPTIONS.get(variant, []), **VARIANTS.get(variant, {}))
        elif name:
            server = stage.module(name)
        self.driver = stage.module(contender.driver)
        parts = {"server": [server], "driver": [self.driver], "both": [server, self.driver]}[suite.measured]
        self.meter = Meter([part for part in parts if part is not None], stage.nats)
        self.standing = Standing(contender.label)
        self.calls = BATCH

    def warm_up(self) -> None:
        """Load it a little, which also shows how many messages keep it busy for a while."""
        result, sample = self._take(WARM_UP)
        if sample.errors:
            self.standing.samples.append(sample)  # a failure counts, whenever it happens
        self.calls = max(1, int(result.calls / max(result.seconds, 1e-3) / BATCH)) * BATCH

    def play(self, seconds: float) -> None:
        """Take one sample of about so many seconds; nobody who failed plays on."""
        if not self.standing.reason or not self.standing.samples:
            self.standing.samples.append(self._take(seconds)[1])

    def _take(self, seconds: float) -> Any:
        command = {**self.command, "seconds": seconds}
        if self.command["do"] == "publish":
            command["calls"] = max(BATCH, int(self.calls * seconds / BATCH) * BATCH)
        return self.meter.take(self.driver, command)


def run(suites: Iterable[Suite], stage: Stage, *, rounds: int, seconds: float, tell: Any = print) -> dict[str, list[Standing]]:
    """Return the standings of every suite by its key."""
    stage.make_stream()
    return {suite.key: _suite(suite, stage, rounds, seconds, tell) for suite in suites}


def _suite(suite: Suite, stage: Stage, rounds: int, seconds: float, tell: Any) -> list[Standing]:
    tell(f"{suite.title} ...")
    players, absent = [], []
    for contender in suite.contenders:
        try:
            player = Player(contender, suite, stage)
            player.warm_up()
            players.append(player)
        except NotReady as reason:
            absent.append(Standing(contender.label, missing=str(reason)))
    for _ in range(rounds):
        for player in random.sample(players, len(players)):
            player.play(seconds)
    standings = {standing.label: standing for standing in [*(player.standing for player in players), *absent]}
    return [standings[contender.label] for contender in suite.contenders]


def as_text(standings: dict[str, list[Standing]]) -> bytes:
    """Return every sample as JSON, for whoever wants to look again."""
    plain = {key: {each.label: each.samples for each in listed} for key, listed in standings.items()}
    return msgspec.json.format(msgspec.json.encode(plain))
