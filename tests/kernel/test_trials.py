"""What those see who test a service of theirs, when something fails in it."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NewType, Protocol

import pytest

from cliffracer import App, Conflict, Event, Settings, SetupError
from cliffracer.testing import running
from tests.support.waiting import eventually

SERVICE = """\
from cliffracer import App

app = App("s")


@app.rpc
def sums(amounts: list[int]) -> int:
    private = "hunter2hunter2"
    return added(amounts) + len(private)


def added(amounts):
    raise KeyError("no sum")
"""
TESTS = """\
from service import app

from cliffracer.testing import running


async def test_sums():
    async with running(app) as t:
        await t.call("sums", amounts=[1])
"""
UNMARKED = """\
import pytest_asyncio


@pytest_asyncio.fixture
async def client():
    yield "client"


async def test_client(client): ...
"""
SINK = """\
from pathlib import Path

from loguru import logger

logger.remove()
logger.add(Path("own.log"), format="{message}", backtrace=False, diagnose=False)
"""
LOGGED = """\
<time> ERROR    s.sums sums (service.py:6) failed error_id=<id> error=KeyError <id>
  Traceback (most recent call last):
    File "service.py", line 9, in sums
      return added(amounts) + len(private)
             ^^^^^^^^^^^^^^
    File "service.py", line 13, in added
      raise KeyError("no sum")
  KeyError: 'no sum'
"""


def _tested(folder: Path, *options: str, **more: str) -> str:
    for name, text in {"service": SERVICE, "test_service": TESTS, **more}.items():
        (folder / f"{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *(options or ("-p", "no:asyncio"))],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout.replace(f"{folder}/", "")


def test_a_failing_handler_is_shown_as_a_terminal_shows_it(tmp_path: Path) -> None:
    """The lines of the handler itself, without values of variables, and without what led there: pytest, asyncio, threads."""
    shown = _tested(tmp_path).partition("Captured stderr call")[2].partition("=====")[0].partition("\n")[2]
    shown = re.sub(r"^[\d:.]+ ", "<time> ", re.sub(r"\b[0-9a-f]{24,}\b", "<id>", shown))
    assert re.sub(r"\n +[\^~]+$", "", shown, flags=re.MULTILINE) == re.sub(r"\n +\^+$", "", LOGGED, flags=re.MULTILINE)


@pytest.mark.parametrize("place", ["conftest", "test_service"])
def test_lines_that_somebody_writes_himself_are_left_alone(tmp_path: Path, place: str) -> None:
    """Whoever took loguru's default handler away has one of his own, and no second one is added."""
    shown = _tested(tmp_path, **{place: SINK + (TESTS if place == "test_service" else "")})
    assert "sums (service.py:6) failed\n" in (tmp_path / "own.log").read_text()
    assert "Captured stderr" not in shown


def test_an_async_fixture_of_another_loop_is_told_from_a_failure(tmp_path: Path) -> None:
    """It was made by another plugin, in its own loop: the test needs the mark of that plugin, and is not run in a second loop."""
    shown = _tested(tmp_path, "-o", "asyncio_mode=strict", "test_client.py", test_client=UNMARKED)
    assert "test_client has the async fixture client: mark it by whose fixture that is, @pytest.mark.asyncio" in shown


async def test_a_method_that_is_stubbed_again_is_answered_by_the_new_stub() -> None:
    """The one before answers nothing any more, and remembers what it was asked."""
    app = App("shop")
    payments = app.service("payments")

    @app.rpc
    async def buy(amount: int) -> str:
        paid: str = await payments.charge(amount=amount)
        return paid

    async with running(app) as t:
        first = t.stub("payments.charge", returns="paid")
        assert await t.call("buy", amount=1) == "paid"
        second = t.stub("payments.charge", raises=Conflict("no money"))
        for amount in range(2, 7):
            with pytest.raises(Conflict, match="no money"):
                await t.call("buy", amount=amount)
    assert (first.received, len(second.received)) == ([{"amount": 1}], 5)


async def test_a_stub_takes_one_way_calls() -> None:
    """They come to it as calls do, without anybody who waits for its answer."""
    app = App("shop")

    @app.rpc
    async def remind(name: str) -> None:
        await app.service("mailer").send.write(to=name)

    async with running(app) as t:
        mailer = t.stub("mailer.write")
        await t.call("remind", name="Ada")
        await eventually(lambda: mailer.received == [{"to": "Ada"}])


async def test_a_stub_may_stream() -> None:
    """What a generator of a test yields is what is streamed."""
    app = App("shop")

    @app.rpc
    async def listed(most: int) -> list[int]:
        return [item async for item in app.service("stock").stream.items(most=most)]

    async def items(most: int) -> AsyncIterator[int]:
        for item in range(most):
            yield item

    async with running(app) as t:
        t.stub("stock.items", calls=items)
        assert await t.call("listed", most=3) == [0, 1, 2]


class Mailer:
    kind = "real"


class FakeMailer(Mailer):
    kind = "fake"


async def test_what_would_replace_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A test whose override meets nobody would send real mail: it is refused, or, where it may be meant for others, told."""
    app = App("post")

    @app.provide
    def mailer() -> Mailer:
        return Mailer()

    @app.rpc
    async def kind(*, mailer: Mailer) -> str:
        return mailer.kind

    def fake() -> Mailer:
        return FakeMailer()

    overrides: Any
    wrong: Any = (
        ({mailer: FakeMailer()}, "names mailer, which is no type"), ({"Mailer": FakeMailer()}, "names 'Mailer', which is no type"),
        ({Mailer: FakeMailer}, r"makes one. Give FakeMailer\(\)"), ({Mailer: fake}, "Give what fake returns"),
        ([FakeMailer()], r"overrides=\{Mailer: FakeMailer\(\)\}"),
    )  # fmt: skip
    for overrides, words in wrong:
        with pytest.raises(SetupError, match=words):
            async with running(app, overrides=overrides):
                raise AssertionError("it ran")
    async with running(app, overrides={FakeMailer: FakeMailer()}) as t:
        assert await t.call("kind") == "real"
    assert "overrides[FakeMailer] is given to nobody" in caplog.text


Address = NewType("Address", str)


class Sender(Protocol):
    def send(self) -> str: ...


class Letters:
    @staticmethod
    def send() -> str:
        return "fake"


async def test_what_is_no_class_may_be_replaced_and_a_class_may_take_the_place_of_an_object() -> None:
    """A type of a `NewType`; a protocol by a class that has its methods."""
    app = App("post")

    @app.provide
    def address() -> Address:
        return Address("real")

    @app.provide
    def sender() -> Sender:
        raise AssertionError("the real one")

    @app.rpc
    async def sent(*, address: Address, sender: Sender) -> list[str]:
        return [address, sender.send()]

    async with running(app, overrides={Address: "home", Sender: Letters}) as t:
        assert await t.call("sent") == ["home", "fake"]


async def test_what_a_test_asks_by_mistake_is_told() -> None:
    """And not done in part: a stub of what runs would get some of its calls, settings beside whole ones would be left aside."""
    app = App("post")

    @app.rpc
    async def send(to: str) -> None: ...

    async with running(app) as running_app:
        t: Any = running_app
        mistakes: Any = (
            (lambda: t.stub("post.send"), "post.send is served in this test"), (lambda: t.stub("a.b", raises="no"), "raises=Conflict"),
            (lambda: t.stub("a.b", calls=5), "write returns=5"), (lambda: t.stub("a.b", returns=1, raises=Conflict("no")), "has one of"),
            (lambda: t.emitted(App), "App has no subject"), (lambda: t.emitted(Event), "Event has no subject"),
        )  # fmt: skip
        for act, words in mistakes:
            with pytest.raises(SetupError, match=words):
                act()
    with pytest.raises(SetupError, match="put limit into them"):
        await running(app, settings=Settings(env="test"), limit=5).__aenter__()
    several: Any = [app]
    with pytest.raises(SetupError, match="takes apps, and"):
        await running(several).__aenter__()


def test_a_loop_that_is_not_of_asyncio_is_told() -> None:
    """As of a test that anyio runs on trio as well: what its fixture is to return is said, not that no loop runs."""
    with pytest.raises(SetupError, match=r'this test does not: .* a fixture called anyio_backend returns "asyncio"'):
        running(App("elsewhere")).__aenter__().send(None)


async def test_what_somebody_deletes_is_waited_for_until_it_is_made_again() -> None:
    """A test may delete the consumer of a function, or the stream: `settled` goes on until the function has what was emitted then."""
    app, got = App("s"), []

    @app.on("number")
    async def handle(number: int) -> None:
        got.append(number)

    async with running(app) as t:
        jetstream, consumption = t.up.services[0].jetstream, t.up.services[0].consumptions[0]
        await jetstream.delete_consumer(t.up.services[0].subjects.stream, consumption.name)
        await t.emit("number", 1)
        await t.settled()
        assert got == [1]
        await jetstream.delete_stream(t.up.services[0].subjects.stream)
        await t.settled()
        await t.emit("number", 2)
        await t.settled()
    assert got == [1, 2]
