"""How often somebody may call, counted by all replicas together."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from loguru import logger
from starlette.requests import Request
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from cliffracer import App, Context, Event, Identity, Overloaded, SetupError, provided, public, requires
from cliffracer.messaging import rates
from cliffracer.resilience.rates import Rate
from cliffracer.testing import running
from tests.support.waiting import eventually


def app_named(name: str) -> App:
    app = App(name)

    @app.rpc(rate="5/h per identity")
    @app.get("/mine", rate="5/h per identity")
    @requires
    async def mine() -> str:
        return "mine"

    @app.rpc(rate="60/h")
    @public
    async def anybody() -> str:
        return "anybody"

    return app


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/s per identity", Rate(10, 1.0, "identity")),
        ("5/m", Rate(5, 60.0)),
        ("3/10s per address", Rate(3, 10.0, "address")),
        ("1/500ms", Rate(1, 0.5)),
    ],
)
def test_words(text: str, rate: Rate) -> None:
    """A rate says how many, in what time, and of whom."""
    assert Rate.read(text) == rate
    assert str(rate) == text


def test_a_network_is_one_address() -> None:
    """Who has 2^64 addresses of IPv6 has one allowance; next to each other in IPv4 are others."""

    def whose(host: str) -> str:
        return Rate(1, 1.0, "address").whose(Context(), Request({"type": "http", "client": (host, 1)}))

    assert whose("2001:db8:1:2::7") == whose("2001:db8:1:2:ffff::1") != whose("2001:db8:1:3::7")
    assert whose("192.0.2.7") == whose("::ffff:192.0.2.7") != whose("192.0.2.8")


@pytest.mark.parametrize("text", ["", "10", "0/s", "10/x", "10/s per user", "-1/s", "1/0s"])
def test_wrong_words(text: str) -> None:
    """What is no rate is told where it stands."""
    app = App("wrong")
    with pytest.raises(SetupError, match="is no rate"):

        @app.rpc(rate=text)
        async def handler() -> None: ...


async def test_per_identity() -> None:
    """Each identity has its own allowance, whichever door it comes through; then comes 429 with the time to wait."""
    async with running(app_named("counted")) as t:
        with t.acting("ada") as token:
            headers = {"Authorization": f"Bearer {token}"}
            for _ in range(3):
                assert await t.call("mine") == "mine"
            assert [(await t.http.get("/mine", headers=headers)).status_code for _ in range(3)] == [200, 200, 429]
            refused = await t.http.get("/mine", headers=headers)
            assert 0 < int(refused.headers["retry-after"]) <= 3600
            with pytest.raises(Overloaded) as late:
                await t.call("mine")
            assert late.value.retry_after > 1
        with t.acting("bob"):
            assert await t.call("mine") == "mine"


async def test_replicas_share() -> None:
    """However many replicas and calls at once, all together get what the rate says."""
    async with running(app_named("shared")) as t:
        settings = t.settings.changed(http_port=0)
        async with running(app_named("shared"), settings=settings) as other:

            async def call(one) -> bool:
                try:
                    await one.call("anybody")
                except Overloaded:
                    return False
                return True

            found = await asyncio.gather(*(call(one) for one in (t, other) * 60))
    assert 55 <= sum(found) <= 60  # a replica may keep a share that it does not come to use


async def test_more_callers_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes turns with many others may call as often as the rate says: no share of theirs is forgotten. What is over makes room."""
    monkeypatch.setattr(rates, "_REMEMBERED", 3)
    now = 0.0
    async with running(app_named("crowded")) as t:
        allowances = rates.Allowances(t.up.services[0].backend, lambda: now)

        async def allowed(names: Iterable[Any], text: str) -> int:
            taken = [await allowances.take(f"crowded.mine {name}", Rate.read(text)) for name in names]
            return taken.count(0.0)

        for _ in range(2):
            turns = [name for _ in range(45) for name in "abcdef"]
            assert await allowed(turns, "40/m per identity") == 40 * 6
            assert len(allowances._held) == 3
            assert await allowed(["all"] * 45, "40/m") == 40
            now += 60.0


async def test_a_rate_ends_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """While NATS hangs one call finds that out, none waits for a while after, and that is said once. Then all are counted again."""
    asked = 0

    async def hanging(_: str) -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    lines: list[str] = []
    number = logger.add(lines.append, format="{message}")
    async with running(app_named("hung")) as t:
        allowances = rates.Allowances(t.up.services[0].backend)

        async def crowd() -> set[float]:
            async with asyncio.timeout(30):
                return set(await asyncio.gather(*(allowances.take(f"hung.{name % 3}", Rate.read("4/9d")) for name in range(60))))

        with monkeypatch.context() as patched:
            patched.setattr(rates, "PATIENCE", 0.05)
            patched.setattr(allowances._store, "entry", hanging)
            assert (await crowd(), asked <= 3) == ({0.0}, True)
            assert (await crowd(), asked <= 3) == ({0.0}, True)
            allowances._again = 0.0
            assert await crowd() == {0.0}
        assert await crowd() == {0.0}
        allowances._again = 0.0
        assert len(await crowd()) > 1
    logger.remove(number)
    told = [line.strip() for line in lines if "counted" in line]
    assert told == ["rates cannot be counted in NATS now: all calls are let through", "rates are counted again"]


def _shrug(app: App) -> None:
    """Have an app answer whatever goes wrong as if nothing had."""

    @app.on_error(Exception)
    def nothing_of_it(error: Exception) -> None:
        return None


@pytest.mark.parametrize("options", [{}, {"ordered": True}])
async def test_events_over_the_rate_wait(options: dict[str, Any]) -> None:
    """None is lost, parked or counted as failed, nor has used up an attempt, whatever the app makes of errors; then there is room again."""
    app, got = App("paced"), list[int]()

    @app.on("order.placed", retry=(), rate="2/9d", **options)
    async def bill(order: int) -> None:
        got.append(order)

    _shrug(app)
    async with running(app) as t:
        for number in range(5):
            await t.emit("order.placed", number)
        consumption = t.up.services[0].consumptions[0]
        for room in (2, 4, 5):
            left = min(5 - room, 1 if options else 5)  # in order, the first of those that wait is asked about only
            await eventually(lambda room=room, left=left: len(got) == room and len(consumption._patient) == left)
            await t.clock.advance("9d")
        await t.settled()
        assert (consumption.counts.handled, consumption.counts.failed, consumption.counts.parked) == (5, 0, 0)
        handler = t.up.services[0]._events[0].handler
        assert (handler.stats.calls, handler.stats.errors) == (5, 0)
        assert handler.gate.refused > 0
    assert (got if options else sorted(got)) == [0, 1, 2, 3, 4]


async def test_replicas_share_the_rate_of_events() -> None:
    """Whichever takes them, together they handle what the rate says."""
    got = list[int]()

    def paced() -> App:
        app = App("paced")

        @app.on("order.placed", rate="3/9d", limit=2)
        async def bill(order: int) -> None:
            got.append(order)

        return app

    async with running(paced()) as t, running(paced(), settings=t.settings.changed(http_port=0)) as other:
        for number in range(12):
            await t.emit("order.placed", number)
        waiting = [one.up.services[0].consumptions[0]._patient for one in (t, other)]
        await eventually(lambda: [len(patient) for patient in waiting] == [2, 2])
        assert len(got) == 3


async def test_one_way_calls_over_the_rate_wait() -> None:
    """As durable events do, whatever the app makes of errors: nobody is there to be told to come again."""
    app, got = App("paced"), list[int]()

    @app.rpc(retry=(), rate="1/9d")
    async def bill(order: int) -> None:
        got.append(order)

    _shrug(app)
    async with running(app) as t:
        for number in range(2):
            await app.service("paced").send.bill(order=number)
        sends = t.up.services[0]._sends
        await eventually(lambda: got and sends.consumption._patient)
        await t.clock.advance("9d")
        await t.settled()
        assert (sends.consumption.counts.handled, sends.consumption.counts.parked) == (2, 0)
        assert t.up.services[0]._rpc.endpoints[0].stats.errors == 0
    assert sorted(got) == [0, 1]


async def test_a_batch_is_one_call() -> None:
    """The rate is of how often the function is called, not of how much it is handed; a batch over it waits as a whole."""
    app, got = App("paced"), list[list[int]]()

    @app.on("order.placed", retry=(), rate="1/9d", batch=3, within=3600)
    async def bill(orders: list[int]) -> None:
        got.append(orders)

    async with running(app) as t:
        for number in range(6):
            await t.emit("order.placed", number)
        consumption = t.up.services[0].consumptions[0]
        await eventually(lambda: got and consumption._patient)
        await t.clock.advance("9d")
        await t.settled()
        assert consumption.counts.failed == 0
    assert got == [[0, 1, 2], [3, 4, 5]]


async def test_an_attempt_over_the_rate_is_the_first_one_still() -> None:
    """A handler is told that it has not been tried."""
    app, attempts = App("counted"), list[int]()

    @app.on("order.placed", rate="1/9d")
    async def bill(order: int, *, event: Event) -> None:
        attempts.append(event.attempt)

    async with running(app) as t:
        await t.emit("order.placed", 1)
        await t.emit("order.placed", 2)
        consumption = t.up.services[0].consumptions[0]
        await eventually(lambda: attempts and consumption._patient)
        await t.clock.advance("9d")
        await t.settled()
    assert attempts == [1, 1]


async def test_events_that_are_not_kept_are_dropped_over_the_rate() -> None:
    """As when there are too many: they are counted, and said once."""
    app, got, logged = App("lossy"), list[int](), list[str]()
    sink = logger.add(logged.append, format="{message}")

    @app.on("place.seen", durable=False, rate="2/9d")
    async def see(place: int) -> None:
        got.append(place)

    async with running(app) as t:
        for number in range(6):
            await app.emit("place.seen", number, durable=False)
        handler = t.up.services[0]._events[0].handler
        await eventually(lambda: handler.stats.errors == 4)
        assert (handler.gate.refused, handler.stats.last_error) == (4, "Overloaded 429")
        assert got == [0, 1]
    logger.remove(sink)
    assert len([line for line in logged if "events dropped: called too often" in line]) == 1
    assert not [line for line in logged if "event lost" in line]


async def test_events_of_each_identity_have_their_own_allowance() -> None:
    """One who emits too many holds up his own."""
    app, got = App("fair"), list[tuple[str, int]]()

    @app.on("order.placed", rate="2/9d per identity")
    @requires
    async def bill(order: int, *, identity: Identity = provided) -> None:
        got.append((identity.subject, order))

    async with running(app) as t:
        for who in ("ada", "bob"):
            with t.acting(who):
                for number in range(3):
                    await t.emit("order.placed", number)
        consumption = t.up.services[0].consumptions[0]
        await eventually(lambda: len(got) == 4 and len(consumption._patient) == 2)
    assert sorted(who for who, _ in got) == ["ada", "ada", "bob", "bob"]


async def test_opening_sockets_counts() -> None:
    """The handshake that is one too many is answered 429 and when to come again; the handler is not entered."""
    app, entered = App("feeds"), list[str]()

    @app.websocket("/feed", rate="2/9d per address")
    async def feed(said: AsyncIterator[str]) -> AsyncIterator[str]:
        entered.append("entered")
        async for text in said:
            yield text

    async with running(app) as t:
        url = f"{t.url.replace('http', 'ws')}/feed"
        async with connect(url) as client:
            for text in ("one", "two", "three"):  # what is said on it does not count
                await client.send(text)
                assert json.loads(await client.recv()) == text
            async with connect(url):
                pass
            with pytest.raises(InvalidStatus) as caught:
                await connect(url).__aenter__()
        answer = caught.value.response
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 9 * 86400
        assert json.loads(answer.body)["title"] == "Overloaded"
        assert len(entered) == 2
        await t.clock.advance("9d")
        async with connect(url) as client:
            await client.send("again")
            assert json.loads(await client.recv()) == "again"


@pytest.mark.parametrize(
    ("decorator", "options", "problem"),
    [
        ("on", {"each": True, "rate": "1/s"}, "each=True hands every one its own copy"),
        ("on", {"rate": "1/s per address"}, "events come from no address"),
        ("on", {"rate": "often"}, "is no rate"),
        ("every", {"rate": "1/s"}, "nobody calls a timer"),
        ("cron", {"rate": "1/s"}, "nobody calls a timer"),
        ("leader", {"rate": "1/s"}, "nobody calls a timer or a leader"),
        ("websocket", {"rate": "often"}, "is no rate"),
    ],
)
def test_what_no_rate_can_be_of(decorator: str, options: dict[str, Any], problem: str) -> None:
    """It is refused where it is declared, with the function and what to do."""
    app = App("wrong")
    about = {"on": ("order.placed",), "every": ("1h",), "cron": ("* * * * *",), "leader": (), "websocket": ("/feed",)}[decorator]

    async def handler(data: int) -> None: ...

    with pytest.raises(SetupError, match=rf"handler \(.*{problem}"):
        getattr(app, decorator)(*about, **options)(handler)
