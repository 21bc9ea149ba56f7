"""What surrounds a call: providers, middleware, error mapping, hooks, health checks."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest
from loguru import logger

from cliffracer import App, CliffracerError, Conflict, Context, Group, Internal, NotFound, Settings, SetupError
from cliffracer.testing import running


def descriptors() -> int:
    """Return how many file descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


class Mailer:
    def __init__(self, name: str = "real") -> None:
        self.name = name


class Session:
    def __init__(self, number: int) -> None:
        self.number = number


class Audit:
    def __init__(self, session: Session) -> None:
        self.session = session


async def test_an_app_wide_provider_is_made_once_and_closed_at_the_end():
    """A generator's second half runs when the app stops."""
    app, log = App("s"), []

    @app.provide
    async def mailer() -> AsyncIterator[Mailer]:
        log.append("open")
        yield Mailer()
        log.append("closed")

    @app.rpc
    async def name(*, mailer: Mailer) -> str:
        return mailer.name

    async with running(app) as t:
        assert [await t.call("name"), await t.call("name")] == ["real", "real"]
        assert log == ["open"]
    assert log == ["open", "closed"]


async def test_a_provider_that_is_a_context_manager_provides_what_it_yields():
    """As a generator that `contextlib` has made into one does: it is entered, and left at the end."""
    app, log = App("s"), []

    @app.provide
    @asynccontextmanager
    async def mailer() -> AsyncIterator[Annotated[Mailer, "of the house"]]:
        yield Mailer()
        log.append("closed")

    @app.provide(scope="call")
    @contextmanager
    def session() -> Iterator[Session]:
        yield Session(7)
        log.append("call")

    @app.rpc
    async def name(*, mailer: Annotated[Mailer, "of the house"], session: Session) -> list[str | int]:
        return [mailer.name, session.number]

    async with running(app) as t:
        assert await t.call("name") == ["real", 7]
        assert log == ["call"]
    assert log == ["call", "closed"]


def test_what_has_no_hash_is_provided_and_called():
    """Such as a dataclass: objects are told apart, not compared."""
    app = App("s")

    @dataclass
    class Warm:
        times: int = 1

        async def __call__(self) -> None: ...

    app.provide(Warm())
    app.on_startup(Warm())
    app.health_check("warm")(Warm())
    assert len(app.freeze().others) == 2


async def test_a_provider_that_a_context_manager_decorates_is_called_in_it():
    """That is another thing that `contextlib` makes of a function: it was called without."""
    app, log = App("s"), []

    @contextmanager
    def told() -> Iterator[None]:
        log.append("begun")
        yield

    @app.provide
    @told()
    def mailer() -> Mailer:
        return Mailer(*log)

    @app.rpc
    async def name(*, mailer: Mailer) -> str:
        return mailer.name

    async with running(app) as t:
        assert await t.call("name") == "begun"


def test_an_object_that_is_provided_twice_is_told_as_it_was_given():
    """Not as a line of ours."""
    app = App("s")
    app.provide(Mailer())
    with pytest.raises(
        SetupError, match=r"^app\.provide\(Mailer\(\.\.\.\)\): Mailer is provided already, by app\.provide\(Mailer\(\.\.\.\)\)\. Keep one"
    ):
        app.provide(Mailer("other"))


async def test_a_provider_may_need_another():
    """Providers are made in order of need, whatever their order of declaration."""
    app = App("s")

    @app.provide
    def audit(*, session: Session) -> Audit:
        return Audit(session)

    @app.provide
    def session() -> Session:
        return Session(7)

    @app.rpc
    async def number(*, audit: Audit) -> int:
        return audit.session.number

    async with running(app) as t:
        assert await t.call("number") == 7


@pytest.mark.parametrize("scope", ["app", "call"])
async def test_a_provider_that_forgets_to_return_is_named(scope, capfd):
    """Whoever asked got None, and the AttributeError of a handler named the handler."""
    app = App("s")

    @app.provide(scope=scope)
    def mailer() -> Mailer:
        Mailer()

    @app.rpc
    async def name(*, mailer: Mailer) -> str:
        return mailer.name

    told = r"mailer \(.*test_surroundings.py:\d+\): it provides Mailer and gave None\. Return it, or yield it\."
    if scope == "app":
        with pytest.raises(SetupError, match=told):
            await running(app).__aenter__()
        return
    async with running(app) as t:
        with pytest.raises(Internal):
            await t.call("name")
    assert re.search(told, capfd.readouterr().err)


async def test_a_provider_may_say_that_there_may_be_nothing():
    """``-> Mailer | None`` was provided to nobody; who asks for it says that he bears None."""
    app = App("s")

    @app.provide
    def mailer() -> Mailer | None:
        return None

    @app.rpc
    async def name(*, mailer: Mailer | None) -> str:
        return mailer.name if mailer else "nobody"

    async with running(app) as t:
        assert await t.call("name") == "nobody"

    @app.rpc
    async def sure(*, mailer: Mailer) -> str:
        return mailer.name

    with pytest.raises(SetupError, match=r"sure \(.*\): what provides mailer may give None\. Annotate it mailer: Mailer \| None"):
        app.freeze()


async def test_a_circle_of_providers_is_a_setup_error():
    """Providers that need each other are named, with the way round."""
    app = App("s")

    @app.provide
    def audit(*, session: Session) -> Audit:
        return Audit(session)

    @app.provide
    def session(*, audit: Audit) -> Session:
        return audit.session

    with pytest.raises(SetupError, match=r"circle: audit .* -> session .* -> audit"):
        async with running(app):
            pass


async def test_a_provider_per_call_is_shared_in_a_call_and_closed_after_it():
    """Two parameters of one call get one value; the next call gets another; each is closed, also after a failure."""
    app, log = App("s"), []

    @app.provide(scope="call")
    def session() -> Iterator[Session]:
        made = Session(len(log))
        log.append("open")
        try:
            yield made
        finally:
            log.append("closed")

    @app.provide(scope="call")
    def audit(*, session: Session) -> Audit:
        return Audit(session)

    @app.rpc
    async def same(fail: bool = False, *, session: Session, audit: Audit) -> bool:
        if fail:
            raise Conflict("no")
        return session is audit.session

    async with running(app) as t:
        assert await t.call("same") is True
        assert log == ["open", "closed"]
        with pytest.raises(Conflict):
            await t.call("same", fail=True)
        assert log == ["open", "closed"] * 2


async def test_an_object_is_provided_under_its_class():
    """`app.provide(object)` needs no function."""
    app = App("s")
    app.provide(Mailer("given"))

    @app.rpc
    async def name(*, mailer: Mailer, settings: Settings) -> list[str]:
        return [mailer.name, settings.env]

    async with running(app) as t:
        assert await t.call("name") == ["given", "test"]


async def test_tests_override_by_type():
    """An override takes the place of a provider, which is not made at all."""
    app = App("s")

    @app.provide
    def mailer() -> Mailer:
        raise AssertionError("never made")

    @app.rpc
    async def name(*, mailer: Mailer) -> str:
        return mailer.name

    async with running(app, overrides={Mailer: Mailer("fake")}) as t:
        assert await t.call("name") == "fake"


async def test_middleware_wraps_every_kind_of_handler_in_declared_order():
    """The first declared is outermost; each sees the context and may change the result."""
    app, log = App("s"), []

    @app.middleware
    async def outer(context, proceed):
        log.append(f"outer {context.kind}")
        result = await proceed()
        log.append("outer done")
        return result

    @app.middleware
    async def inner(context, proceed):
        log.append("inner")
        return await proceed()

    @app.rpc
    @app.get("/value")
    async def value() -> int:
        return 1

    @app.on("a.b", durable=False)
    async def handle(data: int) -> None:
        log.append(f"event {data}")

    async with running(app) as t:
        assert await t.call("value") == 1
        assert log == ["outer rpc", "inner", "outer done"]
        log.clear()
        assert (await t.http.get("/value")).json() == 1
        assert log == ["outer http", "inner", "outer done"]
        log.clear()
        await t.emit("a.b", 5, durable=False)
        await t.settled()
        assert log == ["outer event", "inner", "event 5", "outer done"]


class Shortage(Exception):
    pass


@pytest.mark.parametrize("manner", ["return", "raise", "class"])
async def test_an_error_of_the_users_is_mapped_for_rpc_and_http(manner):
    """`on_error` turns an exception (and its subclasses) into one of the closed set, for every kind of handler."""
    app = App("s")

    @app.on_error(Shortage)
    def mapped(error: Shortage):
        if manner == "raise":
            raise Conflict(f"short of {error}")
        return Conflict(f"short of {error}")

    class Worse(Shortage):
        pass

    @app.rpc
    @app.get("/take")
    async def take() -> None:
        raise Worse("pens")

    async with running(app) as t:
        with pytest.raises(Conflict, match="short of pens"):
            await t.call("take")
        answer = await t.http.get("/take")
        assert (answer.status_code, answer.json()["detail"]) == (409, "short of pens")


async def test_a_mapping_that_fails_is_an_internal_error():
    """A broken `on_error` still ends in a reply."""
    app = App("s")

    @app.on_error(Shortage)
    def mapped(error: Shortage):
        raise ZeroDivisionError

    @app.rpc
    async def take() -> None:
        raise Shortage

    async with running(app) as t:
        with pytest.raises(Internal):
            await t.call("take")


async def test_hooks_run_in_order_with_providers():
    """Start-up hooks run before anything is served, shutdown hooks in reverse before providers close."""
    app, log = App("s"), []

    @app.provide
    def mailer() -> Iterator[Mailer]:
        yield Mailer()
        log.append("mailer closed")

    @app.on_startup
    async def first(*, mailer: Mailer) -> None:
        log.append(f"up {mailer.name}")

    @app.on_startup
    def second() -> None:
        log.append("up too")

    @app.on_shutdown
    async def down(*, mailer: Mailer) -> None:
        log.append("down")

    @app.on_shutdown
    async def down_first() -> None:
        log.append("down first")

    async with running(app):
        log.append("running")
    assert log == ["up real", "up too", "running", "down first", "down", "mailer closed"]


async def test_a_shutdown_hook_that_does_not_end_is_ended(capfd):
    """Once the time to drain is over it is cancelled, which the log tells, and the other hooks run."""
    app, log = App("s"), []

    @app.on_shutdown
    async def last() -> None:
        log.append("last")

    @app.on_shutdown
    async def waits() -> None:
        await asyncio.Event().wait()

    async with running(app, drain=0.1):
        pass
    assert log == ["last"]
    assert capfd.readouterr().err.count("time to stop") == 1


async def test_a_shutdown_hook_that_fails_keeps_no_other_from_running(capfd):
    """Who stops is told which failed, and where; a second one is in the log."""
    app, log = App("s"), []

    @app.on_shutdown
    async def last() -> None:
        log.append("last")

    @app.on_shutdown
    def second() -> None:
        raise NotFound("no second")

    @app.on_shutdown
    async def first() -> None:
        raise RuntimeError("no first")

    with pytest.raises(CliffracerError, match=r"first \(.*\) failed at the stop: RuntimeError: no first\n.*test_surroundings"):
        async with running(app):
            pass
    assert log == ["last"]
    assert re.search(r"second \(\S*test_surroundings.py:\d+\) failed at the stop", capfd.readouterr().err)


async def test_a_provider_that_cannot_close_is_named():
    """The others close all the same."""
    app, log = App("s"), []

    @app.provide
    def mailer() -> Iterator[Mailer]:
        yield Mailer()
        log.append("mailer closed")

    @app.provide
    async def desk(*, mailer: Mailer) -> AsyncIterator[Decimal]:
        yield Decimal(1)
        raise RuntimeError("cannot close")

    @app.rpc
    async def work(*, desk: Decimal) -> None: ...

    with pytest.raises(CliffracerError, match=r"desk \(.*\) failed at the stop: RuntimeError: cannot close\n.*test_surroundings"):
        async with running(app):
            pass
    assert log == ["mailer closed"]


async def test_a_failing_start_up_hook_leaves_nothing_behind():
    """What was opened before it is closed again, and the app can be started afterwards."""
    app, log = App("s"), []

    @app.provide
    def mailer() -> Iterator[Mailer]:
        yield Mailer()
        log.append("closed")

    @app.on_startup
    async def fails() -> None:
        if not log:
            raise NotFound("not yet")

    before = len(asyncio.all_tasks())
    with pytest.raises(NotFound):
        async with running(app):
            pass
    assert log == ["closed"]
    assert len(asyncio.all_tasks()) == before
    async with running(app):
        pass


async def test_a_health_check_decides_readiness_if_it_is_critical():
    """A critical check that fails makes readiness 503; another one only shows in the details."""
    app, state = App("s"), {"critical": True, "other": False}

    @app.health_check("disk")
    async def disk() -> bool:
        return state["critical"]

    @app.health_check("mood", critical=False)
    def mood() -> bool:
        return state["other"]

    @app.get("/")
    async def root() -> None: ...

    async with running(app) as t:
        assert (await t.http.get("/health/ready")).status_code == 200
        details = (await t.http.get("/health/detailed")).json()
        assert (details["checks"]["disk"]["status"], details["checks"]["mood"]["status"]) == ("ok", "failed")
        state["critical"] = False
        assert (await t.http.get("/health/ready")).status_code == 503
        assert (await t.http.get("/health")).status_code == 200


async def test_health_checks_of_one_name_in_two_apps_of_a_process_are_both_looked_at():
    """The one of the last app hid the others, failing ones too."""
    first, second = App("first"), App("second")

    @first.health_check("disk")
    def full() -> bool:
        return False

    @second.health_check("disk")
    def empty() -> bool:
        return True

    @first.get("/")
    async def root() -> None: ...

    async with running(first, second) as t:
        assert (await t.http.get("/health/ready")).json()["reasons"] == ["first disk: failed"]
        assert (await t.http.get("/health/detailed")).json()["checks"]["second disk"]["status"] == "ok"


async def test_a_health_check_that_exits_has_failed():
    """As a handler that exits has; whoever asked after the health of a service ended it."""
    app = App("s")

    @app.health_check("disk")
    def disk() -> bool:
        sys.exit(4)

    @app.get("/")
    async def root() -> None: ...

    async with running(app) as t:
        assert (await t.http.get("/health/ready")).json()["reasons"] == ["disk: raised SystemExit"]


async def test_nothing_can_be_declared_while_the_app_runs():
    """Declaring after start is refused with what to do; after the app stopped it is allowed again."""
    app = App("s")
    async with running(app):
        with pytest.raises(SetupError, match="s is running, so nothing can be declared"):

            @app.rpc
            async def late() -> None: ...

    @app.rpc
    async def early() -> None: ...


EARLY = """
from __future__ import annotations
from cliffracer import App

app, log = App("s"), []

@app.provide
async def shelf() -> AsyncIterator[Shelf]:
    yield Shelf()

@app.provide(scope="call")
def book(*, shelf: Shelf) -> Book:
    return Book()

@app.on_startup
async def begin(*, shelf: Shelf) -> None:
    log.append(type(shelf).__name__)

@app.health_check("shelf")
async def full(*, shelf: Shelf) -> bool:
    return True

@app.rpc
async def take(*, book: Book) -> str:
    return type(book).__name__
"""
LATE = """
from collections.abc import AsyncIterator

class Shelf: ...
class Book: ...
"""


async def test_what_surrounds_calls_may_name_what_is_defined_further_down():
    """As handlers may: annotations are read when the app starts, and one that is nowhere is told by function, file and line."""
    whole, part = ModuleType("whole"), ModuleType("part")
    exec(EARLY + LATE, whole.__dict__)
    exec(EARLY[: EARLY.index("@app.rpc")], part.__dict__)
    async with running(whole.app) as t:
        assert await t.call("take") == "Book"
    assert whole.log == ["Shelf"]
    for _ in range(2):
        with pytest.raises(SetupError, match=r"shelf \(.*:7\): an annotation cannot be read: name '(AsyncIterator|Shelf)' is not defined"):
            part.app.freeze()


UNREAD = """
from cliffracer import App, Identity, Unavailable, requires, resilient

app = App("unread")

@app.middleware
async def around(context: Context, proceed: "Callable[[], Any]") -> Any:
    return await proceed()

@app.on_error(ValueError)
def told(error: ValueError) -> ServiceError:
    raise error

async def stand_in(title: Text) -> Text:
    return title

def may(identity: Identity, title: Text) -> bool:
    return True

@resilient(fallback=stand_in)
async def guarded(title: Text) -> Text:
    raise Unavailable("closed")

@app.cached(ttl=60)
async def kept(title: Text) -> Text:
    return title

@app.rpc
@requires(check=may)
async def read(title: Text) -> Text:
    return await kept(await guarded(title))

Text = str
"""


async def test_annotations_that_are_for_type_checkers_alone_are_not_read():
    """Names that are imported for them, or defined further down: since Python 3.14 to look at an annotation is to evaluate it."""
    module = ModuleType("unread")
    exec(compile("from __future__ import annotations\n" * (sys.version_info < (3, 14)) + UNREAD, "unread.py", "exec"), module.__dict__)
    async with running(module.app) as t:
        with t.acting("ada"):
            assert await t.call("read", title="Emma") == "Emma"


async def test_middleware_of_a_group_is_around_the_handlers_of_the_group_alone():
    """Inside that of the app, and around those of groups in it; whatever the order of declaring and including."""
    app, admin, audit, log = App("s"), Group("admin", prefix="/admin"), Group("audit", prefix="/audit"), []
    app.include(admin)
    admin.include(audit)

    def noting(name):
        async def note(context, proceed):
            log.append(name)
            return await proceed()

        return note

    @app.rpc
    async def plain() -> None: ...

    @admin.rpc
    @app.get("/value")
    async def value() -> None: ...

    @audit.get("/entries")
    async def entries() -> None: ...

    for scope, name in ((audit, "audit"), (admin, "admin"), (app, "app")):
        scope.middleware(noting(name))
    async with running(app) as t:
        for ask, around in (
            (t.call("plain"), ["app"]),
            (t.call("value"), ["app", "admin"]),
            (t.http.get("/value"), ["app"]),
            (t.http.get("/admin/audit/entries"), ["app", "admin", "audit"]),
        ):
            log.clear()
            await ask
            assert log == around


async def test_an_internal_that_a_mapping_answers_keeps_its_text_in_the_log():
    """Returned or raised, with an id of the user's own or without, and with what was mapped as its cause."""
    app, logged = App("s"), []

    @app.on_error(LookupError)
    def mapped(error: LookupError) -> Internal:
        if str(error) == "returned":
            return Internal("a secret", error_id="mine")
        raise Internal("a secret")

    @app.rpc
    async def fail(how: str) -> None:
        raise LookupError(how)

    handler = logger.add(logged.append, format="{extra[error_id]} {message} {exception}", level="ERROR")
    async with running(app) as t:
        for how in ("returned", "raised"):
            with pytest.raises(Internal) as caught:
                await t.call("fail", how=how)
            assert "secret" not in f"{caught.value!r} {caught.value.details}"
            (line,) = logged
            assert line.startswith(f"{caught.value.error_id} ")
            assert "a secret" in line
            assert f"LookupError: {how}" in line
            assert (caught.value.error_id == "mine") == (how == "returned")
            logged.clear()
    logger.remove(handler)


async def test_error_mappings_of_a_group_are_for_the_handlers_of_the_group_alone():
    """Two groups may map the same exception, each in its way, and the app for all others."""
    app, one, two = App("s"), Group("one"), Group("two")

    async def fails() -> None:
        raise LookupError

    for scope, name in ((app, "app"), (one, "one"), (two, "two")):
        scope.rpc(fails, name=name)
        scope.on_error(LookupError)(lambda _, name=name: Conflict(f"by {name}"))
        app.include(scope) if scope is not app else None
    async with running(app) as t:
        for name in ("app", "one", "two"):
            with pytest.raises(Conflict, match=f"by {name}"):
                await t.call(name)


async def test_a_context_has_room_for_middleware():
    """What middleware leaves in the context's store is there for the handler, and only in that call."""
    app = App("s")

    @app.middleware
    async def mark(context, proceed):
        context.store().setdefault("n", []).append(1)
        return await proceed()

    @app.rpc
    async def marks(*, context: Context) -> int:
        return len(context.store()["n"])

    async with running(app) as t:
        assert [await t.call("marks") for _ in range(3)] == [1, 1, 1]


async def test_nothing_is_left_behind_by_an_app():
    """After an app stopped there is no task of it and no file descriptor more than before."""
    app = App("s")

    @app.get("/")
    async def root() -> None: ...

    @app.on("x")
    async def handle(data: int) -> None: ...

    async with running(app):
        pass
    before = descriptors(), len(asyncio.all_tasks())
    for _ in range(3):
        async with running(app) as t:
            await t.http.get("/")
            await t.emit("x", 1)
            await t.settled()
    assert (descriptors(), len(asyncio.all_tasks())) == before


@pytest.mark.parametrize("what", ["provider", "hook"])
async def test_what_raises_at_start_is_named_with_its_place(what):
    """An exception of the user's in a provider or a start-up hook stops the start, with the lines of theirs that led there."""
    app = App("s")
    if what == "provider":

        @app.provide
        def broken() -> Mailer:
            raise ZeroDivisionError("no mail today")
    else:

        @app.on_startup
        async def broken() -> None:
            raise ZeroDivisionError("no mail today")

    with pytest.raises(SetupError, match=r"broken \(.*test_surroundings.py:\d+\) failed at start: ZeroDivisionError: no mail today"):
        async with running(app):
            pass
