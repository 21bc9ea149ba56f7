"""The benchmark harness is honest: a failed call takes the figures away, and failures are seen."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.charts import bars
from benchmarks.database.__main__ import TARGETS as DATABASE
from benchmarks.database.paired import Row, Table
from benchmarks.findings import Findings
from benchmarks.identity.__main__ import calls_of
from benchmarks.lines import tables as line_tables
from benchmarks.load.http import Crowd
from benchmarks.load.nats import Connection, Requester, Responder, connect
from benchmarks.load.result import Result
from benchmarks.measure import Sample, Standing, middle, spread
from benchmarks.payload import ORDER, RECEIPT, REPLY, decode_receipt, encode, receipt
from benchmarks.report import write
from benchmarks.suites import SUITES
from benchmarks.targets import TARGETS
from tests.support.nats import NatsServer, free_port


def _table(title: str, labels: set[str]) -> Table:
    return Table(title, "one", [Row(label, [1.0], [1.0]) for label in labels])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Give the address of a real nats-server."""
    with NatsServer() as server:
        yield server.url


class Liar(Responder):
    """Answers every tenth request with something else."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def message(self, words: list[bytes], header: bytes, payload: bytes) -> None:
        self.count += 1
        super().message(words, header, payload)
        if self.count % 10 == 0:
            wrong = REPLY.replace(b"true", b"null")
            self.out[-1] = b"PUB %b %d\r\n%b\r\n" % (words[3], len(wrong), wrong)


class Mute(Connection):
    """Takes requests and answers none."""


async def _ask(url: str, responder: Connection | None, calls: int = 200) -> Result:
    if responder is not None:
        await connect(url, responder)
        responder.transport.write(b"SUB bench.place 1\r\n")
        await responder.flush()
    requester = Requester("bench.place", 8, headers=False)
    await connect(url, requester)
    result = await requester.run(60.0, calls)
    requester.transport.close()
    if responder is not None:
        responder.transport.close()
    return result


async def test_good_calls_are_counted_and_timed(url: str) -> None:
    """Every call that was answered right counts, and percentiles come with it."""
    result = await _ask(url, Responder())
    assert (result.calls, result.errors, result.reason) == (200, 0, "")
    assert result.p50
    assert result.p99 is not None
    assert result.p50 <= result.p99


async def test_a_wrong_answer_is_an_error_and_takes_the_latency_away(url: str) -> None:
    """One answer in ten says something else: it is counted, quoted, and no latency is given."""
    result = await _ask(url, Liar())
    assert result.errors == 20
    assert '"accepted":null' in result.reason
    assert (result.p50, result.p99) == (None, None)


async def test_nobody_there_is_an_error(url: str) -> None:
    """No-responders replies of the server are failures, not fast calls."""
    result = await _ask(url, None, calls=8)
    assert result.errors == 8
    assert "503" in result.reason
    assert result.p50 is None


async def test_calls_that_are_never_answered_are_errors(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still out when nothing moves any more is lost, and counted as such."""
    monkeypatch.setattr("benchmarks.load.nats.GRACE", 0.1)
    result = await _ask(url, Mute())
    assert result.errors == 8
    assert "never answered" in result.reason


async def test_an_http_server_that_hangs_up_is_an_error() -> None:
    """A connection that the server closes in the middle fails the stretch."""
    import asyncio

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    port = free_port()
    async with await asyncio.start_server(hang_up, "127.0.0.1", port):
        result = await Crowd(port, "GET", "/").run(2, 1.0)
    assert result.errors
    assert result.p50 is None


def test_all_contestants_do_the_same_work() -> None:
    """The answer that is expected is the one that the handler's work makes of the request."""
    assert decode_receipt(encode(receipt(ORDER))) == RECEIPT


def _standing(label: str, *samples: Sample) -> Standing:
    standing = Standing(label)
    standing.samples.extend(samples)
    return standing


def test_one_failed_round_takes_all_figures_away() -> None:
    """A contestant of which any call failed has no median and no ratio, and says why."""
    good = _standing("good", Sample(rate=100.0, cpu=10.0, p50=1.0), Sample(rate=200.0, cpu=10.0, p50=1.0))
    bad = _standing("bad", Sample(rate=900.0, cpu=1.0, p50=0.1), Sample(errors=3, reason="boom"))
    assert bad.median("p50") is None
    assert bad.ratios(good, "rate") == []
    assert good.ratios(bad, "rate") == []
    assert bad.reason == "3 calls failed: boom"


def test_ratios_are_taken_within_a_round() -> None:
    """A slow minute that slows everybody does not change the ratio."""
    base = _standing("base", Sample(cpu=10.0), Sample(cpu=40.0), Sample(cpu=20.0))
    ours = _standing("ours", Sample(cpu=5.0), Sample(cpu=20.0), Sample(cpu=10.0))
    assert middle(ours.ratios(base, "cpu")) == 0.5
    assert spread(ours.ratios(base, "cpu")) == "0.50-0.50"


def test_report_prints_targets_beside_what_was_reached(tmp_path: Path) -> None:
    """A missed target says no, an unmeasured one says so, a failed contestant shows its reason and no figure."""
    suite = next(each for each in SUITES if each.key == "client")
    rows = [
        _standing("nats-py request", Sample(rate=100.0, cpu=10.0, p50=5.0, p99=9.0)),
        _standing("FastStream", Sample(errors=1, reason="boom | bang")),
        _standing("Cliffracer", Sample(rate=90.0, cpu=8.0, p50=6.0, p99=9.0)),
    ]
    text = write(tmp_path, [suite], Findings({"client": rows}, rounds=1))
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert "0.80" in lines["RPC client, 64 in flight: CPU per call"]
    assert "**no**" in lines["RPC client, 64 in flight: CPU per call"]
    assert "not measured" in lines["HTTP GET, 64 connections: requests/s"]
    assert not any(sign.isdigit() for sign in lines["FastStream"])
    assert "FastStream has no figures: 1 calls failed: boom | bang" in text


def test_targets_name_contestants_that_exist() -> None:
    """Every suite has its baseline, and every target finds its rows when all of them have figures."""
    standings = {suite.key: [_standing(row.label, Sample(rate=1.0, cpu=1.0, p50=1.0)) for row in suite.contenders] for suite in SUITES}
    assert all(suite.baseline in [row.label for row in suite.contenders] for suite in SUITES)
    named = {"A log line of a call": {"log_calls = 1", "loguru, text"}}
    for target in DATABASE:
        named.setdefault(target.table, set()).update({target.row, target.beside})
    found = Findings(standings, rounds=1, tables={"database": [_table(title, labels) for title, labels in named.items()]})
    unread = [target.what for target in TARGETS if "×" in target.unit and target.value(found) != 1.0]
    assert unread == []


def test_a_partial_run_shows_its_own_targets_only(tmp_path: Path) -> None:
    """What was not asked for is no gap in it, and how to measure a table alone stands beneath its title."""
    suite = next(each for each in SUITES if each.key == "client")
    rows = [_standing(row.label, Sample(rate=1.0, cpu=1.0)) for row in suite.contenders]
    text = write(tmp_path, [suite], Findings({"client": rows}, rounds=1, partial=True))
    assert "not measured" not in text
    assert "`make bench ONLY=client` measures this alone." in text


def test_chart_is_well_formed() -> None:
    """The chart is XML whatever the labels hold, and shows a missing figure as one."""
    root = ET.fromstring(bars("a < b & c", [("<peer>", 2.0), ("Cliffracer", 1.0), ("gone", None)]))
    assert [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")][-1] == "failed or absent"


async def test_a_log_line_is_measured_every_way() -> None:
    """Each way writes its lines; that of ``log_calls`` is the cheap one."""
    (table,) = await line_tables(rounds=1, calls=50)
    assert [row.label for row in table.rows] == ["loguru, text", "loguru, serialised", "log_calls = 1", "log_calls = 0.01"]
    assert all(row.cpu[0] > 0 for row in table.rows)


async def test_what_a_rule_adds_is_measured_over_right_answers(url: str) -> None:
    """Calls with a token and without are answered by receipts, and each has its figures."""
    table = await calls_of(url, rounds=1, calls=128)
    added = [target for target in TARGETS if target.unit == "µs CPU"]
    assert len(added) == 2
    assert all(target.value(Findings({}, rounds=1, tables={"identity": [table]})) is not None for target in added)
    assert [row.label for row in table.rows] == ["no rule", "@requires, HS256", "@requires, EdDSA"]
    assert all(row.cpu[0] > 0 for row in table.rows)
    assert "Added per call" in table.note
