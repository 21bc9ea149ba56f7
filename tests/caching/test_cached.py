"""``@app.cached`` on handlers and functions, with answers in memory."""

import asyncio
import gc
import threading
import tracemalloc
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from loguru import logger

from cliffracer import (
    App,
    Conflict,
    Context,
    Group,
    Identity,
    NotFound,
    Request,
    Retry,
    SetupError,
    Unavailable,
    provided,
    public,
    requires,
    resilient,
)
from cliffracer.caching.keys import caller
from cliffracer.testing import running
from tests.support.waiting import eventually


class User(msgspec.Struct):
    id: UUID
    name: str = "ada"
    born: datetime = datetime(1815, 12, 10, tzinfo=UTC)


async def test_a_clock_that_is_set_back_keeps_no_answer() -> None:
    """One that was made by an hour that is now to come would be given for that hour; what lies within twice its time is left as it is."""
    app, made = App("times"), []

    @app.rpc
    @app.cached(ttl="30s")
    async def count() -> int:
        made.append(1)
        return len(made)

    async with running(app) as t:
        assert [await t.call("count"), await t.call("count")] == [1, 1]
        t.clock.ahead -= 10
        assert await t.call("count") == 1
        t.clock.ahead -= 3600
        assert [await t.call("count"), await t.call("count")] == [2, 2]


async def test_an_answer_is_made_once() -> None:
    """Over RPC, HTTP and as a plain call; each caller has its own copy; arguments tell answers apart, types as well; the clock ends it."""
    app, made, one = App("users"), [], uuid4()

    @app.rpc
    @app.get("/users/{user_id}")
    @app.cached(ttl="30s")
    async def get_user(user_id: UUID) -> User:
        """Return a user."""
        made.append(user_id)
        return User(user_id)

    assert await get_user(one) == await get_user(one)
    assert len(made) == 2, "nothing is kept while the app does not run"
    made.clear()
    async with running(app) as t:
        assert await t.call("get_user", user_id=str(one)) == msgspec.to_builtins(User(one))
        assert (await t.http.get(f"/users/{one}")).json()["name"] == "ada"
        first = await get_user(one)
        first.name = "changed"
        assert await app.call(get_user, user_id=one) == await get_user(user_id=one) == User(one)
        assert made == [one]
        other = await get_user(uuid4())
        assert other != first
        assert len(made) == 2
        text = (await t.http.get("/metrics")).text
        name = f'cliffracer_cache_hits_total{{service="users",function="{__name__}.test_an_answer_is_made_once.<locals>.get_user"}} 4'
        assert name in text
        await t.clock.advance("31s")
        assert await get_user(one) == User(one)
        assert len(made) == 3
    assert get_user.__doc__ == "Return a user."


async def test_types_and_names_tell_arguments_apart() -> None:
    """1, 1.0, True and "1" are four arguments; positional, named and default ones are the same."""
    app, made = App("numbers"), []

    @app.cached(ttl=30)
    async def double(value: Any, *, unit: str = "m") -> str:
        made.append(value)
        return f"{value!r} {unit}"

    async with running(app):
        values = [1, 1.0, True, "1", None, float("nan"), b"1", (1,), {"a": 1}, uuid4(), datetime.now(UTC)]
        for _ in range(2):
            assert [await double(value) for value in values] == [f"{value!r} m" for value in values]
        assert len(made) == len(values)
        assert await double(value=1) == await double(1, unit="m") == "1 m"
        assert len(made) == len(values)
        assert await double(1, unit="km") == "1 km"
        strange = object()
        assert (await double(strange)).startswith("<object")
        assert await double(strange) == f"{strange!r} m"
        assert made.count(strange) == 2


async def test_a_crowd_makes_it_once() -> None:
    """All who ask meanwhile wait for the one; when that one leaves, the next makes it; an error is everybody's and is not kept."""
    app, entered, go = App("slow"), [], asyncio.Event()
    failures: list[Exception] = []

    @app.cached(ttl=30)
    async def slow(key: str) -> list[str]:
        entered.append(key)
        await go.wait()
        if failures:
            raise failures.pop()
        return [key]

    async with running(app):
        crowd = [asyncio.create_task(slow("a")) for _ in range(50)]
        await eventually(lambda: len(entered) == 1)
        crowd[0].cancel()
        await eventually(lambda: len(entered) == 2)
        go.set()
        answers = await asyncio.gather(*crowd[1:])
        assert answers == [["a"]] * 49
        assert len({id(answer) for answer in answers}) == 49
        assert entered == ["a", "a"]
        failures.append(NotFound("no b"))
        go.clear()
        asking = [asyncio.create_task(slow("b")) for _ in range(5)]
        await eventually(lambda: len(entered) == 3)
        go.set()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert [str(result) for result in results] == ["no b"] * 5
        assert await slow("b") == ["b"]
        assert entered == ["a", "a", "b", "b"]


async def test_nothing_is_not_kept() -> None:
    """None, and what would come back as something else, are made each time."""
    app, made = App("odd"), []

    @app.cached(ttl=30)
    async def find(key: str) -> Any:
        made.append(key)
        return {"none": None, "tuple": (1, 2), "nan": float("nan"), "id": {"at": uuid4()}, "good": [1]}[key]

    async with running(app):
        for key in ("none", "tuple", "nan", "id", "good"):
            await find(key)
            await find(key)
    assert [key for key in made if made.count(key) == 1] == ["good"]


async def test_a_plain_function_in_threads() -> None:
    """A function that is not async is kept as well, and made once for all threads that ask."""
    app, made, go = App("plain"), [], threading.Event()

    @app.rpc
    @app.cached(ttl=30)
    def slow(key: str) -> str:
        made.append(threading.get_ident())
        go.wait(5)
        return key

    async with running(app) as t:
        calls = [asyncio.create_task(t.call("slow", key="a")) for _ in range(8)]
        await eventually(lambda: bool(made))
        go.set()
        assert await asyncio.gather(*calls) == ["a"] * 8
        assert slow("a") == "a"
    assert len(made) == 1


async def test_a_plain_function_has_the_same_rules() -> None:
    """The old answer does where a new one fails, but for NotFound and its like; what would come back otherwise is not kept, and told."""
    app, made, said = App("rates"), [], []
    failures: list[Exception] = []

    @app.cached(ttl="30s", stale="1h")
    def rate(currency: str) -> Any:
        made.append(currency)
        if failures:
            raise failures.pop(0)
        return {"EUR": 1.0, "none": None, "pair": (1, 2)}[currency]

    sink = logger.add(lambda message: said.append(message.record["message"]), level="WARNING")
    try:
        async with running(app) as t:
            for currency in ("EUR", "none", "pair"):
                assert rate(currency) == rate(currency)
            assert made == ["EUR", "none", "none", "pair", "pair"]
            await t.clock.advance("31s")
            failures += [Unavailable("the bank is closed"), NotFound("no EUR any more")]
            assert rate("EUR") == 1.0
            with pytest.raises(NotFound):
                rate("EUR")
    finally:
        logger.remove(sink)
    assert [line.partition(") ")[2] for line in said] == ["returned a tuple that does not come back as it was: it is not kept"]


async def test_tags_and_calls_are_forgotten() -> None:
    """By a tag with an argument in it, by function, by call, and all of it; what is being made meanwhile is not kept either."""
    app, made, go = App("users"), [], asyncio.Event()
    go.set()

    @app.cached(ttl=30, tags=("users", "user:{user_id}"))
    async def get_user(user_id: int) -> str:
        made.append(user_id)
        await go.wait()
        return str(user_id)

    async def again(*expected: int) -> None:
        made.clear()
        assert [await get_user(1), await get_user(2)] == ["1", "2"]
        assert made == list(expected)

    async with running(app):
        await again(1, 2)
        await again()
        await app.cache.forget(tag="user:1")
        await again(1)
        await app.cache.forget(get_user, user_id=2)
        await again(2)
        await app.cache.forget(get_user)
        await again(1, 2)
        await app.cache.clear()
        await again(1, 2)
        await app.cache.forget(tag="user:3")
        await again()
        await app.cache.forget(tag="users")
        go.clear()
        being_made = asyncio.create_task(get_user(1))
        await eventually(lambda: made == [1])
        await app.cache.forget(tag="user:1")
        go.set()
        assert await being_made == "1"
        await again(1, 2)
        with pytest.raises(TypeError, match="name what to forget"):
            app.cache.forget()
        with pytest.raises(SetupError, match=r"again \(.*its answers are not kept"):
            app.cache.forget(again)
    with pytest.raises(SetupError, match="users is not running"):
        app.cache.forget(tag="users")


async def test_replicas_forget_together() -> None:
    """What one forgets is forgotten in the memory of all."""

    def replica() -> tuple[App, Any, list[int]]:
        app, made = App("users"), []

        @app.cached(ttl=30, tags="user:{user_id}")
        async def get_user(user_id: int) -> int:
            made.append(user_id)
            return user_id

        return app, get_user, made

    (one, ask_one, _), (two, ask_two, made) = replica(), replica()
    async with running(one) as t, running(two, settings=t.settings.changed()):
        await ask_one(1)
        await ask_two(1)
        await one.cache.forget(tag="user:1")

        await t.up.bus.flush()
        forgotten = two.cache.keeps[0].memory._forgotten
        await eventually(lambda: "t:user:1" in forgotten)
        await ask_two(1)
        assert made == [1, 1]


async def test_the_old_answer_does_while_there_is_no_new_one() -> None:
    """With ``stale``, those who come while it is made anew, or while that fails, get the old one; an answer such as NotFound ends it."""
    app, made, go = App("rates"), [], asyncio.Event()
    go.set()
    failures: list[Exception] = []

    @app.cached(ttl="30s", stale="1h")
    async def rate(currency: str) -> float:
        made.append(currency)
        await go.wait()
        if failures:
            raise failures.pop(0)
        return float(len(made))

    async with running(app) as t:
        assert await rate("EUR") == 1
        await t.clock.advance("31s")
        go.clear()
        anew = asyncio.create_task(rate("EUR"))
        await eventually(lambda: len(made) == 2)
        assert [await rate("EUR") for _ in range(5)] == [1] * 5
        go.set()
        assert await anew == 2
        await t.clock.advance("31s")
        failures += [Unavailable("the bank is closed"), NotFound("no EUR any more")]
        assert await rate("EUR") == 2
        with pytest.raises(NotFound):
            await rate("EUR")
        await t.clock.advance("2h")
        failures.append(Unavailable("the bank is closed"))
        with pytest.raises(Unavailable):
            await rate("EUR")


async def test_no_caller_gets_anothers_answer() -> None:
    """The identity is part of the key, with roles and permissions; rules are asked each time; nobody known is one caller."""
    app, made = App("mine"), []

    @app.rpc
    @app.get("/mine")
    @requires(check=lambda identity: identity.subject != "eve")
    @app.cached(ttl=30)
    async def mine(*, identity: Identity = provided) -> str:
        made.append(identity.subject)
        return f"{identity.subject} {identity.roles}"

    @app.rpc
    @app.cached(ttl=30)
    @public
    async def whoever() -> str:
        made.append("whoever")
        return "hello"

    @app.rpc
    @requires
    @app.cached(ttl=30, shared=True)
    async def same_for_all() -> str:
        made.append("all")
        return "the same"

    async with running(app) as t:
        for _ in range(2):
            with t.acting("ada"):
                assert await t.call("mine") == "ada ()"
                assert await t.call("whoever") == "hello"
                assert await t.call("same_for_all") == "the same"
            with t.acting("ada", roles=["admin"]):
                assert await t.call("mine") == "ada ('admin',)"
            with t.acting("bob") as token:
                assert await t.call("mine") == "bob ()"
                assert (await t.http.get("/mine", headers={"Authorization": f"Bearer {token}"})).json() == "bob ()"
                assert await t.call("same_for_all") == "the same"
            with t.acting("eve"), pytest.raises(Exception, match="eve may not do this"):
                await t.call("mine")
            assert await t.call("whoever") == "hello"
            with pytest.raises(Exception, match="token"):
                await t.call("same_for_all")
    assert sorted(made) == ["ada", "ada", "all", "bob", "whoever", "whoever"]


@pytest.mark.parametrize(
    "other",
    [
        Identity("eve", claims={"tenant": 1}),
        Identity("ada", roles=("admin",), claims={"tenant": 1}),
        Identity("ada", permissions=("all",), claims={"tenant": 1}),
        Identity("ada", claims={"tenant": 2}),
    ],
    ids=["subject", "roles", "permissions", "claims"],
)
def test_each_part_of_who_calls_tells_answers_apart(other: Identity) -> None:
    """Whatever it was read from: a token says most of it twice, a key does not."""
    found = []
    for identity in (Identity("ada", claims={"tenant": 1, "jti": "one"}), Identity("ada", claims={"tenant": 1, "jti": "two"}), other):
        context = Context("s", "h", "rpc")
        context.identity = identity
        found.append(caller(context))
    assert found[0] == found[1] != found[2]


async def test_acting_for_the_service_is_not_being_nobody() -> None:
    """What was asked for on the service's own behalf is not given to strangers."""
    app, callee = App("front"), App("back")
    asks = []

    @callee.rpc
    @public
    async def who(*, identity: Identity | None = None) -> str:
        return "nobody" if identity is None else identity.subject

    @app.cached(ttl=30)
    async def ask() -> str:
        asks.append(1)
        return await app.call(who)

    @app.rpc
    @public
    async def for_itself() -> str:
        with app.as_service():
            return await ask()

    @app.rpc
    @public
    async def for_others() -> str:
        return await ask()

    async with running(app, callee) as t:
        assert await t.call("for_itself") == "front"
        assert await t.call("for_others") == "nobody"
        assert len(asks) == 2


async def test_vary_tells_answers_apart() -> None:
    """What else an answer depends on is said by the function, beside who calls."""
    app = App("words")

    @app.get("/hello")
    @app.cached(ttl=30, vary=lambda context: context.headers.get("accept-language", ""))
    async def hello(*, context: Context) -> str:
        return f"hello in {context.headers.get('accept-language')}"

    async with running(app) as t:
        for language in ("de", "en", "de"):
            assert (await t.http.get("/hello", headers={"accept-language": language})).json() == f"hello in {language}"


async def test_groups_and_other_decorators() -> None:
    """A function of a group is kept by the app that includes it; order among decorators does not matter."""
    app, group, made = App("shop"), Group("admin"), []
    app.include(group)

    @group.cached(ttl=30)
    @resilient(retry=Retry(attempts=2, base=0.001))
    @group.rpc
    async def stock(sku: str) -> int:
        made.append(sku)
        if len(made) == 1:
            raise Unavailable("not yet")
        return 7

    async with running(app) as t:
        assert await t.call("stock", sku="a") == await t.call("stock", sku="a") == await app.call(stock, sku="a") == 7
        await app.cache.forget(stock, sku="a")
        assert await t.call("stock", sku="a") == 7
    assert made == ["a", "a", "a"]


async def test_what_it_takes_is_bounded() -> None:
    """Answers that take too much drive out the least used; one that takes very much is not kept."""
    app, made = App("large"), []

    @app.cached(ttl=30)
    async def blob(number: int, size: int) -> bytes:
        made.append(number)
        return bytes(size)

    async with running(app):
        memory = app.cache.keeps[0].memory
        memory._most = 100_000
        for number in range(20):
            await blob(number, 10_000)
            await blob(0, 10_000)
        assert memory.size <= 100_000
        assert made.count(0) == 1
        await blob(1, 10_000)
        assert made.count(1) == 2
        before = len(memory)
        await blob(99, 50_000)
        assert len(memory) == before


async def test_many_small_answers_take_no_more_than_is_said() -> None:
    """What an answer takes beside its payload is counted, its tags included: it is most of a small one."""
    app = App("small")

    @app.cached(ttl=30, tags=("all", "number:{number}"))
    async def double(number: int) -> int:
        return 2 * number

    async with running(app):
        memory = app.cache.keeps[0].memory
        await double(0)
        tracemalloc.start()
        try:
            counted, taken = memory.size, tracemalloc.get_traced_memory()[0]
            for number in range(1, 2000):
                await double(number)
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - taken <= memory.size - counted
        finally:
            tracemalloc.stop()


def test_what_cannot_be_kept() -> None:
    """A mistake names the function and what to write instead."""
    app = App("wrong")

    def refused(text: str, decorated: Any, **options: Any) -> None:
        with pytest.raises(SetupError, match=text):
            app.cached(**{"ttl": 30, **options})(decorated)

    async def stream() -> Any:
        yield 1

    async def silent(key: str): ...
    async def asks(*, request: Request) -> str: ...
    async def knows(*, identity: Identity) -> str: ...
    async def good(key: str) -> str: ...
    def plain(key: str) -> str: ...

    refused("a stream cannot be kept", stream)
    refused(r"silent \(.*test_cached.py:\d+\).*Give it a return annotation", silent)
    refused("may depend on what request holds, such as headers. Say vary=", asks)
    refused("shared=True would give one caller's answer to all", knows, shared=True)
    refused("vary is called with the context", good, vary="accept-language")
    refused("vary is called with the context", good, vary=lambda: 1)
    refused("names user, which is no argument. It can name key", good, tags="user:{user.id}")
    refused("the tag '{' cannot be read", good, tags=("{",))
    refused("cannot be kept for 0", good, ttl=0)
    refused("ttl: 'soon' is no length of time", good, ttl="soon")
    refused("there is no store 'disk'", good, store="disk")
    refused("is not async cannot wait for nats", plain, store="nats")

    @app.on("user.created")
    @app.cached(ttl=30)
    async def created(user: str) -> None: ...

    with pytest.raises(SetupError, match=r"created \(.*what it does would be left out"):
        app.freeze()


def test_a_provider_may_look_at_who_calls() -> None:
    """What is made per call of a request makes the answer depend on that: it has to be said how."""
    app = App("tenants")

    class Tenant:
        pass

    @app.provide(scope="call")
    def tenant(*, context: Context) -> Tenant:
        return Tenant()

    @app.rpc
    @app.cached(ttl=30)
    async def rows(*, tenant: Tenant) -> list[int]:
        return []

    with pytest.raises(SetupError, match=r"rows \(.*may depend on what tenant \(.*Say vary="):
        app.freeze()


async def test_a_conflict_is_everybodys_own() -> None:
    """Errors are not kept: the next call makes it again."""
    app, made = App("again"), []

    @app.rpc
    @app.cached(ttl=30)
    async def once() -> str:
        made.append(1)
        raise Conflict("not now")

    async with running(app) as t:
        for _ in range(2):
            with pytest.raises(Conflict):
                await t.call("once")
    assert len(made) == 2


async def test_annotations_may_be_defined_later_or_locally() -> None:
    """What a function returns may be a type of where it is declared, or one further down; one that is nowhere is named at start."""
    app = App("later")

    class Local(msgspec.Struct):
        value: int

    @app.rpc
    @app.cached("30s")
    async def local(value: int) -> "Local":
        return Local(value)

    @app.cached("30s")
    async def later(value: int) -> "Later":
        return Later(value)

    @app.cached("30s")
    async def never(value: int) -> "Never":  # noqa: F821 - on purpose
        ...

    with pytest.raises(SetupError, match=r"never \(.*an annotation cannot be read: name 'Never' is not defined"):
        app.freeze()
    app.kept.pop()
    async with running(app) as t:
        assert await t.call("local", value=1) == {"value": 1}
        assert await later(2) == await later(2) == Later(2)


class Later(msgspec.Struct):
    value: int
