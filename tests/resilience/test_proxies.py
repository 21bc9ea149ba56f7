"""``app.service(..., retry=, breaker=, fallback=)`` over a real NATS."""

import asyncio
import gc
import time
from typing import Any

import pytest

from cliffracer import App, Breaker, Context, DeadlineExceeded, Internal, NotFound, Overloaded, Retry, SetupError, Unavailable, provided
from cliffracer.messaging.directory import Directory, Remembered
from cliffracer.testing import running
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

QUICK = Retry(attempts=3, base=0.001)


class Users:
    """A service that fails as its test wants, and remembers what it was asked."""

    def __init__(self) -> None:
        self.app = App("users")
        self.failures: list[Exception | float] = []
        self.left: list[float] = []
        self.names: list[str] = []
        self.app.rpc(self.add)
        self.app.rpc(idempotent=True)(self.set)
        self.app.rpc(self.get)
        self.app.get("/users/{name}")(self.get)

    async def add(self, name: str = "ada", *, context: Context = provided) -> str:
        return await self._go(name, context)

    async def set(self, name: str = "ada", *, context: Context = provided) -> str:
        return await self._go(name, context)

    async def get(self, name: str = "ada", *, context: Context = provided) -> str:
        return await self._go(name, context)

    async def _go(self, name: str, context: Context) -> str:
        self.left.append(context.remaining() or 0.0)
        self.names.append(name)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            await asyncio.sleep(failure)
        return name


@pytest.fixture
def users() -> Users:
    return Users()


async def test_what_was_not_done_is_tried_again(users: Users) -> None:
    """A callee that says that it is unavailable or overloaded is asked again, whatever the call."""
    shop = App("shop")
    async with running(shop, users.app):
        users.failures = [Unavailable("not yet"), Overloaded("busy", retry_after=0.05)]
        began = time.monotonic()
        assert await shop.service("users", retry=QUICK).add(name="ada") == "ada"
        assert time.monotonic() - began >= 0.05
        assert len(users.left) == 3
        users.failures = [Unavailable("not yet")] * 3
        with pytest.raises(Unavailable, match="not yet") as given_up:
            await shop.service("users", retry=QUICK).add(name="ada")
        assert given_up.value.details == {"tried_again": 2}


async def test_an_answer_is_an_answer(users: Users) -> None:
    """What the callee decided, and a defect of it, is raised at once."""
    shop = App("shop")
    proxy = shop.service("users", retry=QUICK, fallback="nobody")
    async with running(shop, users.app):
        users.failures = [NotFound("no ada"), ValueError("a defect")]
        with pytest.raises(NotFound, match="no ada"):
            await proxy.get(name="ada")
        with pytest.raises(Internal):
            await shop.service("users", retry=QUICK).get(name="ada")
    assert len(users.left) == 2


@pytest.mark.parametrize(("method", "times"), [("add", 1), ("set", 2), ("get", 2)])
async def test_a_time_out_is_repeated_where_that_harms_nobody(users: Users, method: str, times: int) -> None:
    """That is what ``idempotent=True`` says, or GET; of others nobody knows whether they were done."""
    shop = App("shop")
    proxy = shop.service("users", timeout=8.0, retry=Retry(timeout=1.0, base=0.001))
    async with running(shop, users.app):
        users.failures = [5.0]
        if times == 1:
            with pytest.raises(DeadlineExceeded):
                await proxy[method](name="ada")
        else:
            assert await proxy[method](name="ada") == "ada"
    assert len(users.left) == times


async def test_a_storm_of_time_outs_asks_the_service_once_whether_it_may_be_repeated(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is too slow is not to be asked as often again what its methods are like, by each call that it let down."""
    shop, asked, ask = App("shop"), [], Directory.ask

    async def counted(self: Directory, verb: str, name: str = "", **options: Any) -> list[Any]:
        asked.append(name)
        return await ask(self, verb, name, **options)

    monkeypatch.setattr(Directory, "ask", counted)
    proxy = shop.service("users", timeout=8.0, retry=Retry(timeout=0.5, base=0.001))
    async with running(shop, users.app):
        users.failures = [5.0] * 50
        ended = await asyncio.gather(*(proxy.add(name="ada") for _ in range(50)), return_exceptions=True)
    assert {type(error) for error in ended} == {DeadlineExceeded}
    assert len(asked) < 10, asked  # before the first call, and for those that ended at the same time


async def test_what_was_done_is_not_done_again_because_its_reply_could_not_be_sent(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    """More large replies at once than NATS takes are no reason to charge a customer twice."""
    shop, full = App("shop"), [Unavailable("no room", reason="full")]
    async with running(shop, users.app) as t:
        bus = t.up.bus
        answer = bus.answer

        def answering(*about: Any) -> None:
            if full:
                raise full.pop()
            answer(*about)

        monkeypatch.setattr(bus, "answer", answering)
        with pytest.raises(Unavailable, match="no room") as caught:
            await shop.service("users", retry=QUICK).add(name="ada")
        assert caught.value.details["outcome"] == "unknown"
    assert users.names == ["ada"]


async def test_a_retry_may_say_that_calls_may_be_done_twice(users: Users) -> None:
    """``Retry(idempotent=...)`` outdoes what the method says."""
    shop = App("shop")
    async with running(shop, users.app):
        users.failures = [5.0]
        assert await shop.service("users", retry=Retry(timeout=1.0, idempotent=True)).add(name="ada") == "ada"
        users.failures = [5.0]
        with pytest.raises(DeadlineExceeded):
            await shop.service("users", retry=Retry(timeout=0.3, idempotent=False)).set(name="ada")


async def test_who_was_let_down_in_the_middle_is_not_asked_twice(users: Users) -> None:
    """A handler that had begun when its own call failed may have done something; and one layer tries again, not all of them."""
    shop, orders, done = App("shop"), App("orders"), []
    stock = orders.service("stock")

    @orders.rpc
    async def place() -> None:
        done.append("charged")
        await stock.reserve()

    @orders.rpc
    async def translate() -> None:
        done.append("charged by another")
        try:
            raise ConnectionResetError
        except OSError as error:
            raise Unavailable("the bank is away") from error

    @orders.on_error(LookupError)
    def nothing(error: LookupError) -> None:
        raise Unavailable("nothing there")

    @orders.rpc
    async def mapped() -> None:
        done.append("mapped")
        raise LookupError

    @orders.rpc(idempotent=True)
    async def quote() -> None:
        done.append("quoted")
        await stock.price()

    @orders.rpc(idempotent=True)
    async def careful() -> None:
        done.append("careful")
        await orders.service("stock", retry=QUICK).price()

    async with running(shop, orders):
        proxy = shop.service("orders", retry=QUICK)
        with pytest.raises(Unavailable, match=r"No service answers stock\.reserve") as unknown:
            await proxy.place()
        assert unknown.value.details["outcome"] == "unknown"
        for method, text in (("translate", "the bank is away"), ("mapped", "nothing there")):
            with pytest.raises(Unavailable, match=text):
                await proxy[method]()
        with pytest.raises(Unavailable):
            await proxy.quote()
        with pytest.raises(Unavailable):
            await proxy.careful()
    assert done == ["charged", "charged by another", "mapped", *["quoted"] * 3, "careful"]


async def test_services_in_a_row_do_not_multiply_their_retries(users: Users) -> None:
    """With retries on each hop and everything failing, the last is asked a tenth more often than the first (and ten times besides)."""
    shop, orders, asked = App("shop"), App("orders"), []
    last = orders.service("users", retry=QUICK)

    @orders.rpc(idempotent=True)
    async def place() -> str:
        asked.append(1)
        return await last.set()

    async with running(shop, orders, users.app):
        users.failures = [Unavailable("down")] * 1000
        first = shop.service("orders", retry=QUICK)
        results = await asyncio.gather(*(first.place() for _ in range(60)), return_exceptions=True)
        assert {type(result) for result in results} == {Unavailable}
    assert len(asked) == 60
    assert 60 < len(users.left) <= 60 + 6 + 10 + 3


async def test_a_service_that_comes_late_is_waited_for(users: Users) -> None:
    """Nobody was there, so nothing was done: a call of any kind is tried again."""
    shop = App("shop")
    async with running(shop) as t:
        call = asyncio.create_task(shop.service("users", retry=Retry(attempts=200, base=0.05, cap=0.05, budget=1)).add(name="ada"))
        await asyncio.sleep(0.1)
        async with running(users.app, settings=t.settings.changed(http_port=0)):
            assert await call == "ada"


async def test_all_attempts_share_the_deadline(users: Users) -> None:
    """Each has less time than the one before, and none is begun that could not end by then."""
    shop = App("shop")
    async with running(shop, users.app):
        users.failures = [Unavailable("not yet")] * 1000
        with pytest.raises(Unavailable, match="not yet"):
            await shop.service("users", timeout=1.5, retry=Retry(attempts=1000, base=0.02, cap=0.02, budget=1)).add()
        assert 1.5 >= users.left[0] > users.left[-1] > 0
        users.failures = [Overloaded("busy", retry_after=60)]
        with pytest.raises(Overloaded):
            await shop.service("users", retry=QUICK).add()


async def test_retries_are_a_share_of_calls(users: Users) -> None:
    """When everything fails, the callee is asked little more often than it is called."""
    shop = App("shop")
    proxy = shop.service("users", retry=QUICK)
    async with running(shop, users.app) as t:
        users.failures = [Unavailable("not yet")] * 1000
        results = await asyncio.gather(*(proxy.add() for _ in range(100)), return_exceptions=True)
        assert {type(result) for result in results} == {Unavailable}
        assert 100 < len(users.left) <= 125
        assert (await t.http.get("/metrics")).text.count('cliffracer_retries_refused_total{service="shop",target="users"}') == 1


async def test_a_breaker_stops_asking(users: Users) -> None:
    """It opens after five failures, says when it tries next, lets one call try, and closes."""
    shop = App("shop")
    proxy = shop.service("users", breaker=Breaker(failures=5, window=10, reset=5))
    async with running(shop, users.app) as t:
        users.failures = [Unavailable("down")] * 5
        for _ in range(5):
            with pytest.raises(Unavailable, match="down"):
                await proxy.add()
        with pytest.raises(Unavailable, match=r"the breaker to users is open, next try in [45]\.\d s"):
            await proxy.get()
        assert len(users.left) == 5
        health = (await t.http.get("/health/detailed")).json()
        assert health["status"] == "degraded"
        assert "the breaker to users is open" in str(health["checks"])
        assert (await t.http.get("/health/ready")).status_code == 200
        text = (await t.http.get("/metrics")).text
        assert 'cliffracer_breaker_state{service="shop",target="users"} 2' in text
        assert 'cliffracer_breaker_opened_total{service="shop",target="users"} 1' in text
        await t.clock.advance(5)
        users.failures = [0.05]
        results = await asyncio.gather(*(proxy.add() for _ in range(20)), return_exceptions=True)
        assert results.count("ada") == 1
        assert len(users.left) == 6
        assert await proxy.add() == "ada"
        assert 'cliffracer_breaker_state{service="shop",target="users"} 0' in (await t.http.get("/metrics")).text


async def test_a_call_that_opens_a_breaker_says_what_was_wrong(users: Users) -> None:
    """It is not tried again only to be refused: its caller gets the error of the callee."""
    shop = App("shop")
    proxy = shop.service("users", retry=QUICK, breaker=Breaker(failures=2))
    async with running(shop, users.app):
        users.failures = [Unavailable("down")] * 3
        with pytest.raises(Unavailable, match="down"):
            await proxy.add()
        assert len(users.left) == 2
        with pytest.raises(Unavailable, match="the breaker to users is open"):
            await proxy.add()


async def test_a_caller_who_leaves_keeps_no_breaker_open(users: Users) -> None:
    """The call that tries may be cancelled: the next one tries."""
    shop = App("shop")
    proxy = shop.service("users", breaker=Breaker(failures=1))
    async with running(shop, users.app) as t:
        users.failures = [Unavailable("down"), 5.0]
        with pytest.raises(Unavailable):
            await proxy.add()
        await t.clock.advance(5)
        trying = asyncio.create_task(proxy.add())
        await eventually(lambda: len(users.left) == 2)
        trying.cancel()
        await asyncio.wait([trying])
        assert await proxy.add() == "ada"


async def test_a_hasty_stranger_opens_no_breaker(users: Users) -> None:
    """A time-out of somebody who gave us no time says nothing about the service that we call."""
    shop = App("shop")
    proxy = shop.service("users", breaker=Breaker(failures=1))

    @shop.rpc
    async def ask() -> str:
        return await proxy.get()

    async with running(shop, users.app) as t:
        users.failures = [1.0] * 3
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                await t._link.call("shop", "ask", {}, returns=Any, timeout=0.05)
        assert await t.call("ask") == "ada"


async def test_fallbacks(users: Users) -> None:
    """A value, or a function of the same arguments, as many as it takes; it may ask what went wrong."""
    shop = App("shop")

    async def late(name: str, *, error: Exception, method: str) -> str:
        return f"{method} {name}: {type(error).__name__}"

    async with running(shop):
        assert await shop.service("users", fallback=None).get(name="ada") is None
        assert await shop.service("users", fallback=lambda: "nobody").get(name="ada") == "nobody"
        assert await shop.service("users", fallback=lambda **asked: asked).get(name="ada", age=7) == {"name": "ada", "age": 7}
        assert await shop.service("users", fallback=late).get("ada") == "get ada: Unavailable"
        with pytest.raises(TypeError, match="all arguments by name"):
            await shop.service("users", fallback=None).get("ada", age=7)
    with pytest.raises(SetupError, match="is not running"):
        await shop.service("users", fallback=None).get()


@pytest.mark.both_transports
async def test_through_a_restart_of_nats(users: Users) -> None:
    """Calls that were lost with a killed server are repeated where that harms nobody; none that says that it is not is done twice."""
    shop = App("shop")
    with NatsServer(jetstream=True) as server:
        async with running(shop, users.app, nats_url=server.url):
            proxy = shop.service("users", timeout=30.0, retry=Retry(attempts=20, timeout=1.0, base=0.2, budget=1))
            assert await proxy.set(name="ada") == "ada"
            calls = [asyncio.create_task(proxy.set(name=str(number))) for number in range(30)]
            once = [asyncio.create_task(proxy.add(name=f"once {number}")) for number in range(30)]
            await asyncio.sleep(0)
            server.restart()
            assert await asyncio.gather(*calls) == [str(number) for number in range(30)]
            await asyncio.wait(once)
            for task in once:  # it was not done: nobody knows, and nobody says that it may be done twice
                assert task.exception() is None or isinstance(task.exception(), DeadlineExceeded | Unavailable)
    assert {name: users.names.count(name) for name in users.names if name.startswith("once") and users.names.count(name) > 1} == {}


async def test_a_replica_that_hangs_is_passed_by(users: Users) -> None:
    """Of two replicas one does not answer: another attempt finds the other."""
    shop, other = App("shop"), Users()
    async with running(shop, users.app) as t, running(other.app, settings=t.settings.changed(http_port=0)):
        users.failures = [30.0] * 20
        proxy = shop.service("users", timeout=20.0, retry=Retry(attempts=30, timeout=0.3, base=0.001, budget=1))
        assert await asyncio.gather(*(proxy.set(name=str(n)) for n in range(6))) == [str(n) for n in range(6)]
        assert other.left
        users.failures.clear()


async def test_a_replica_that_is_stopped_in_the_middle(users: Users) -> None:
    """What it had begun is repeated by another if that harms nobody; of the rest their callers are told that nobody knows."""
    shop, other = App("shop"), Users()
    proxy = shop.service("users", retry=Retry(attempts=5, base=0.01, budget=1))
    async with running(shop, other.app) as t:
        async with running(users.app, settings=t.settings.changed(http_port=0, drain=0.05)):
            users.failures = [30.0] * 40
            set_all = [asyncio.create_task(proxy.set(name=f"set {number}")) for number in range(12)]
            add_all = [asyncio.create_task(proxy.add(name=f"add {number}")) for number in range(12)]
            await eventually(lambda: len(users.names) + len(other.names) == 24)
        assert await asyncio.gather(*set_all) == [f"set {number}" for number in range(12)]
        added = await asyncio.gather(*add_all, return_exceptions=True)
        unknown = [error for error in added if isinstance(error, Unavailable)]
        assert {error.details["outcome"] for error in unknown} == {"unknown"}
        begun = [name for name in users.names if name.startswith("add")]
        assert len(unknown) == len(begun) > 0
        assert not set(begun) & set(other.names)


async def test_every_attempt_is_in_the_trace(users: Users) -> None:
    """Each is a call of its own, of one parent, with one correlation id."""
    shop = App("shop")
    proxy = shop.service("users", retry=QUICK)

    @shop.get("/add")
    async def add() -> str:
        return await proxy.add()

    async with running(shop, users.app) as t:
        users.failures = [Unavailable("down")] * 2
        answer = await t.http.get(t.up.addresses[0] + "/add", headers={"X-Correlation-ID": "attempts-of-one-call"})
        assert answer.json() == "ada"
        answers = await t._link.directory.ask("TRACE", kind=Remembered, payload=b"attempts-of-one-call")
        spans = sorted((span for answer in answers for span in answer.spans), key=lambda span: span.began)
    assert [(span.name, span.outcome) for span in spans] == [
        ("add", "ok"),
        ("add", "Unavailable"),
        ("add", "Unavailable"),
        ("add", "ok"),
    ]
    assert {span.parent for span in spans[1:]} == {spans[0].id}


def test_services_named_by_data_do_not_fill_memory_or_metrics() -> None:
    """A name out of each request: of very many the eldest is forgotten, unless somebody holds it, as a module does its own."""
    app = App("shop")
    own = app.service("users", breaker=Breaker())
    for number in range(2500):
        app.service(f"tenant-{number}", breaker=Breaker())
    gc.collect()
    known = app.guards.all()
    assert len(known) < 1500
    assert {"users", "tenant-2499"} <= known.keys()
    assert own is not None
