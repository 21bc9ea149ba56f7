"""What every process remembers of its last calls, and how one trace is gathered from all of them."""

import pytest

from benchmarks.load.nats import Connection, connect
from cliffracer import App, Conflict, Context
from cliffracer.messaging.directory import Remembered
from cliffracer.observability.spans import Outgoing, Spans
from cliffracer.testing import running
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
front, back = App("front"), App("back")
seen: list[str] = []


@back.rpc
async def work(fail: bool = False) -> int:
    if fail:
        raise Conflict("no")
    return 1


@back.on("job.done")
async def note(number: int) -> None: ...


@front.rpc
@front.get("/begin")
async def begin(fail: bool = False, *, context: Context) -> str:
    await front.call(work, fail=fail)
    await front.emit("job.done", 1)
    return context.correlation_id


async def _asked(t, wanted):
    answers = await t._link.directory.ask("TRACE", kind=Remembered, payload=wanted.encode())
    return sorted((span for answer in answers for span in answer.spans), key=lambda span: span.began)


async def test_a_trace_is_told_by_everybody_who_had_a_part_in_it():
    """Each call says what called it: the parent that W3C Trace Context carries along; events as well."""
    async with running(front, back) as t:
        await t.http.get("/begin", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
        await t.settled()
        first, second, third = await _asked(t, TRACE)
        assert [(s.service, s.name, s.kind) for s in (first, second, third)] == [
            ("front", "begin", "http"),
            ("back", "work", "rpc"),
            ("back", "note", "event"),
        ]
        assert first.parent == "00f067aa0ba902b7"
        assert second.parent == third.parent == first.id
        assert {s.trace for s in (first, second, third)} == {TRACE}
        assert first.ms >= second.ms > 0


async def test_a_correlation_id_finds_the_calls_that_had_it_and_how_they_ended():
    """Also of calls that belonged to no trace when they came, and by the first characters of it."""
    async with running(front, back) as t:
        answer = await t.http.get("/begin", params={"fail": "true"})
        wanted = answer.headers["x-correlation-id"]
        spans = await _asked(t, wanted)
        assert [(s.name, s.outcome, s.parent != "") for s in spans] == [("begin", "Conflict", False), ("work", "Conflict", True)]
        assert [s.id for s in await _asked(t, wanted[:20])] == [s.id for s in spans]
        assert await _asked(t, wanted[:7]) == []  # says too little
        assert await _asked(t, "x" * 10_000) == []


async def test_of_long_headers_only_the_ids_are_remembered():
    """Whoever may call could fill the memory otherwise, call by call; such a call is found as any other."""
    async with running(back) as t:
        for size in (10, 200_000):
            block = f"NATS/1.0\r\nX-Filler: {'x' * size}\r\nX-Correlation-ID: of-{size:06}\r\n\r\n".encode()
            await t.up.bus.request(f"{t.settings.namespace}.back.work".encode(), b"{}", block, timeout=5.0)
            assert [span.name for span in await _asked(t, f"of-{size:06}")] == ["work"]
        remembered = t.up.services[0].assembly.spans._recent
        assert [one[-1] is None for one in remembered] == [False, True]


async def test_a_call_that_nobody_answers_is_remembered_by_whoever_made_it():
    """There is no other place where it could be seen."""
    lonely = App("lonely")

    @lonely.rpc
    async def ask() -> None:
        await lonely.call("nobody.home")

    async with running(lonely) as t:
        context = {"X-Correlation-ID": "lonely-call-1"}
        await t._link.bus.request(f"{t.settings.namespace}.lonely.ask".encode(), b"{}", _block(context), timeout=5.0)
        spans = await _asked(t, "lonely-call-1")
    assert [(s.kind, s.name, s.outcome) for s in spans] == [("rpc", "ask", "Unavailable"), ("call", "nobody.home", "Unavailable")]
    assert spans[1].parent == spans[0].id


def _block(headers):
    return "".join(["NATS/1.0\r\n", *(f"{name}: {value}\r\n" for name, value in headers.items()), "\r\n"]).encode()


def test_calls_that_failed_or_took_long_are_not_pushed_out_by_those_that_went_well():
    """The two are remembered apart, each up to its own number."""
    spans, what = Spans(recent=10, kept=2), Outgoing("a", "b.c")
    for number in range(3):
        spans.kept((what, None, None, f"it-failed-{number}", 0.0, 0.0, "Internal", None))
    for number in range(50):
        spans.recent((what, None, None, f"as-usual-{number:02}", 1.0, 0.0, "ok", None))
    assert [span.correlation for span in spans.find("it-failed-")] == ["it-failed-1", "it-failed-2"]
    assert len(spans.find("as-usual-")) == 10
    assert len(spans.find("")) == 12


def test_a_short_id_is_found_when_it_is_given_whole():
    """Callers may say ``abc-1`` of their calls; a part of an id that is as short says too little."""
    spans = Spans()
    spans.recent((Outgoing("a", "b.c"), None, None, "abc-1", 0.0, 0.0, "ok", None))
    assert len(spans.find("abc-1")) == 1
    assert spans.find("abc-") == []


class Told(Connection):
    """Counts the messages on a subject, over a connection of its own."""

    count = 0

    def message(self, *_) -> None:
        self.count += 1


async def test_nats_traces_our_messages_where_an_account_asks_it_to():
    """An account with ``msg_trace`` is told the way of each call and event: they carry a sampled ``traceparent``."""
    account = 'accounts { A { jetstream: enabled, users: [{user: a, password: a}], msg_trace: "told" } }'
    with NatsServer(account, jetstream=True) as server:
        told = Told()
        await connect(server.url.replace("//", "//a:a@"), told)
        told.transport.write(b"SUB told 1\r\n")
        await told.flush()
        async with running(front, back, nats_url=server.url, nats_user="a", nats_password="a") as t:
            await t.call("front.begin")
            await eventually(lambda: told.count >= 3)  # two calls and an event
        told.transport.close()
