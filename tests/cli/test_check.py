"""`check`: what a change would break where it is to run, and whom."""

import json
import textwrap
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from cliffracer import App
from cliffracer.cli.breaking import findings
from cliffracer.contract import Contract, Heard, declared
from cliffracer.exposed import Exposed
from tests.cli.terminal import Background, cliffracer, written
from tests.support.nats import free_port

USERS = """
    from collections.abc import AsyncIterator
    from msgspec import Struct
    from cliffracer import App, Event, requires

    app = App("users", version="1.0.0")

    class User(Struct):
        id: int
        name: str
        email: str = ""

    class UserCreated(Event, subject="user.created"):
        id: int
        name: str

    @app.rpc
    async def get_user(user_id: int) -> User:
        return User(user_id, "Ada")

    @app.rpc
    async def ban(user_id: int, why: str = "") -> None: ...

    @app.rpc
    async def unused() -> int:
        return 1

    @app.rpc
    async def create(name: str) -> None:
        await app.emit(UserCreated(1, name))

    @app.on("order.placed")
    async def count(placed: dict[str, int]) -> None: ...

    @app.get("/users/{user_id}")
    async def show(user_id: int, detail: bool = False, page: int = 1) -> User:
        return User(user_id, "Ada")

    @app.post("/users", status=201)
    async def register(name: str, email: str = "") -> User:
        return User(1, name, email)

    @app.delete("/users/{user_id}")
    async def forget(user_id: int) -> None: ...

    app.static("/files", ".")

    @app.websocket("/feed")
    async def feed(said: AsyncIterator[str]) -> AsyncIterator[User]:
        yield User(1, "Ada")
"""
SHOP = """
    from msgspec import Struct
    from cliffracer import App, Event

    app = App("shop")

    class Placed(Event, subject="order.placed"):
        number: int

    class Created(Struct):
        id: int
        name: str

    @app.rpc
    async def buy() -> str:
        await app.emit(Placed(1))
        return (await app.call("users.get_user", user_id=1))["name"]

    @app.on("user.*")
    async def welcome(user: Created) -> None: ...
"""

STRANGER = r"""
    import asyncio, json

    EVIL = "evil\x1b[2J"
    SPAN = {"service": EVIL, "name": EVIL, "kind": EVIL, "trace": "11111111" + EVIL, "id": EVIL, "parent": EVIL, "correlation": EVIL,
            "ms": 1e308, "outcome": EVIL}
    HEARS = [
        {"subject": "user.>", "function": EVIL, "schema": "no json"},
        {"subject": "user.*", "function": EVIL, "schema": '{"required": ["x"]}'},
    ]
    ANSWERS = {
        "INFO": {"name": EVIL, "id": EVIL, "version": EVIL, "description": EVIL, "endpoints": [{"name": EVIL}, {"name": "other"}]},
        "STATS": {"name": EVIL, "id": EVIL, "started": "never", "endpoints": [
            {"name": EVIL, "num_requests": 10**15, "data": {"p50_ms": EVIL}}, {"name": "other", "data": {"p50_ms": 1.5, "p95_ms": 10**400}},
        ]},
        "TRACE": {"name": EVIL, "spans": [{**SPAN, "began": 1e300}, {**SPAN, "began": 1.7e9}, {**SPAN, "began": -1e300}]},
        "CONTRACT": {"name": EVIL, "version": EVIL, "calls": ["users.ban", EVIL], "hears": HEARS, "emits": {EVIL: "[]"}},
    }

    MORE = [
        ("STATS", {**ANSWERS["STATS"], "endpoints": [{"name": EVIL, "num_requests": 10**400}]}),
        ("INFO", {**ANSWERS["INFO"], "id": "another", "version": "2"}),
    ]

    async def answer(app):
        bus, subjects = app.link().bus, app.link().subjects
        for verb, told in [*ANSWERS.items(), *MORE]:
            for name in ("", ".users"):
                said = json.dumps(told).encode()
                await bus.subscribe(subjects.discovery(verb) + name, lambda _s, reply, _b, _p, said=said: bus.publish(reply, said))
        await bus.flush()
        print("here", flush=True)
        await asyncio.sleep(120)
"""


class Place:
    """A folder in which both run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.env = {"CLIFFRACER_NAMESPACE": f"check{free_port()}"}

    def changed(self, **changes: str) -> tuple[int, dict[str, dict[str, object]]]:
        """Check the users service with some of its text replaced."""
        text = (self.folder / "users.py").read_text()
        for old, new in changes.values():
            assert old in text
            text = text.replace(old, new)
        (self.folder / "changed.py").write_text(text)
        done = cliffracer("check", "changed:app", "--json", cwd=self.folder, **self.env)
        return done.code, {finding["what"]: finding for finding in json.loads(done.out)}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(written(tmp_path_factory.mktemp("check"), users=USERS, shop=SHOP))
    users, shop = ("run", "users:app", "--port", str(place.port)), ("run", "shop:app")
    with Background(place.folder, *users, **place.env) as one, Background(place.folder, *shop, **place.env) as two:
        one.says("ready: ")
        two.says("ready: ")
        cliffracer("call", "shop.buy", cwd=place.folder, **place.env)
        cliffracer("call", "users.ban", "user_id=1", cwd=place.folder, **place.env)
        with urllib.request.urlopen(f"http://127.0.0.1:{place.port}/users/1", timeout=20) as answer:
            assert answer.status == 200
        yield place


def test_what_has_not_changed_breaks_nobody(at: Place) -> None:
    """Exit code 0, each method with those who use it; the event that is heard as it is emitted too."""
    code, found = at.changed(
        version=("1.0.0", "1.1.0"),
        more=('why: str = ""', 'why: str = "", also: int = 0'),
        query=("page: int = 1", "page: str = '1', more: bool = False"),  # what a query holds is text, whatever it was
        path=('"/users/{user_id}")\nasync def forget(user_id', '"/users/{whom}")\nasync def forget(whom'),
    )
    assert code == 0, found
    assert {finding["state"] for finding in found.values()} == {"ok"}
    assert found["users.get_user"]["affected"] == ["shop"]
    assert found["event user.created"]["affected"] == ["shop.welcome"]


def test_a_method_that_goes_names_its_callers(at: Place) -> None:
    """One that nobody called is only to be looked at."""
    code, found = at.changed(one=("async def get_user", "async def fetch_user"), two=("async def unused", "async def other"))
    assert code == 1
    assert (found["users.get_user"]["state"], found["users.get_user"]["problems"]) == ("breaks", ["is gone"])
    assert found["users.get_user"]["affected"] == ["shop"]
    assert (found["users.unused"]["state"], found["users.unused"]["affected"]) == ("look", [])


def test_arguments_and_replies_that_change_are_told_with_their_place(at: Place) -> None:
    """Also for a caller that nobody knows: it was called, so somebody does."""
    code, found = at.changed(
        argument=("get_user(user_id: int)", "get_user(user_id: str, realm: str)"),
        reply=('    email: str = ""\n', "\n"),
        other=('why: str = ""', "why: str"),
    )
    assert code == 1
    assert found["users.get_user"]["problems"] == [
        "argument realm: is not there",
        "argument user_id: integer where string is expected",
        "reply email: is not there",
    ]
    assert found["users.ban"]["problems"] == ["argument why: may be left out, and is required"]
    assert found["users.ban"]["affected"] == ["somebody (1 call)"]


def test_what_may_break_somebody_is_to_be_looked_at(at: Place) -> None:
    """Who calls by position, or without the right, is not known."""
    code, found = at.changed(
        order=('ban(user_id: int, why: str = "")', 'ban(why: str = "", user_id: int = 0)'),
        rule=("@app.delete", '@requires("users:delete")\n@app.delete'),
    )
    assert code == 0
    assert found["users.ban"]["state"] == "look"
    assert found["users.ban"]["problems"] == ["arguments by position: user_id, why are now why, user_id"]
    assert found["users DELETE /users/{user_id}"]["problems"] == ["who may: users:delete; was not asked"]


def test_routes_and_sockets_are_compared_as_well(at: Place) -> None:
    """Methods, parameters, bodies, answers; one that was asked for breaks somebody, others are to be looked at."""
    code, found = at.changed(
        path=('/users/{user_id}")\nasync def show(user_id: int,', '/users/{user_id}")\nasync def show(user_id: UUID,'),
        imported=("from msgspec import Struct", "from uuid import UUID\nfrom msgspec import Struct"),
        answer=(
            "detail: bool = False, page: int = 1) -> User:\n    return",
            "detail: bool, page: int = 1) -> list[User]:\n    return",
        ),
        body=(
            '"/users", status=201)\nasync def register(name: str, email: str = "")',
            '"/users")\nasync def register(name: str, email: str)',
        ),
        method=("@app.delete", "@app.patch"),
        files=('app.static("/files"', 'app.static("/other"'),
        socket=("feed(said: AsyncIterator[str]) -> AsyncIterator[User]", "feed() -> AsyncIterator[int]"),
    )
    assert code == 1
    shown = found["users GET /users/{user_id}"]
    assert (shown["state"], shown["affected"]) == ("breaks", ["somebody (1 request)"])
    assert shown["problems"] == [
        "query detail: may be left out, and is required",
        "path[1]: integer where string is expected",
        "answer: array where object is expected",
    ]
    assert found["users POST /users"] == {
        "state": "look",
        "what": "users POST /users",
        "problems": ["body.email: may be left out, and is required", "answer: status 200 where 201 was"],
        "affected": [],
    }
    assert found["users DELETE /users/{user_id}"]["problems"] == found["users FILES /files"]["problems"] == ["is gone"]
    assert found["users WS /feed"]["problems"] == ["message: integer where object is expected", "message: is not taken"]


def test_an_event_that_changes_names_its_subscribers_and_its_emitters(at: Place) -> None:
    """What this code would emit is held against what others hear, and what others emit against what it would hear."""
    code, found = at.changed(
        event=("    id: int\n    name: str\n\n@app", "    id: int\n\n@app"),
        heard=("count(placed: dict[str, int])", "count(placed: dict[str, str])"),
    )
    assert code == 1
    assert found["event user.created"]["problems"] == ["name: is not there"]
    assert found["event user.created"]["affected"] == ["shop.welcome"]
    assert found["users.count on order.placed"]["problems"] == ["number: integer where string is expected"]


def test_an_event_that_changes_breaks_the_version_that_is_replaced() -> None:
    """Its replicas are handed what the new ones emit as long as they run, and what they emitted is handled by the new ones."""
    before, after = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}', '{"type":"object","required":["m"]}'
    old = Contract(name="shop", version="1", hears=[Heard("order.*", "note", before)], emits={"order.placed": before})
    assert list(findings(old, [old], {})) == []
    new = Contract(name="shop", version="2", hears=[Heard("order.*", "note", after)], emits={"order.placed": after})
    sent, stored = findings(new, [old], {})
    assert (sent.state, sent.what, sent.affected) == ("breaks", "event order.placed", ["shop.note of version 1, until it is replaced"])
    assert (stored.state, stored.what) == ("breaks", "shop.note on order.placed")
    assert stored.affected == ["what version 1 emitted and is not handled yet"]


class Loose(Struct):
    number: int


class Strict(Struct, forbid_unknown_fields=True):
    number: int


def ordering(kind: type) -> Contract:
    """Return what an app publishes that takes this, over NATS and over HTTP."""
    app = App("shop")

    async def order(what: object) -> None: ...

    order.__annotations__["what"] = kind
    app.rpc(app.post("/orders")(order))
    return declared(app.freeze())


def test_a_type_that_forbids_what_it_does_not_know_from_now_on_is_to_be_looked_at() -> None:
    """Whoever sends more than is asked for is not known, and is refused."""
    old, new = ordering(Loose), ordering(Strict)
    found = {one.what: (one.state, one.problems) for one in findings(new, [old], {("shop", "rpc", "order"): 1})}
    assert found == {
        "shop.order": ("look", ["argument what: fields that are not known are refused now"]),
        "shop POST /orders": ("look", ["body: fields that are not known are refused now"]),
    }
    assert all(one.problems == [] for one in [*findings(old, [new], {}), *findings(new, [new], {})])


def test_where_nobody_runs_nothing_can_break(at: Place) -> None:
    """And it is said where was looked."""
    done = cliffracer("check", "users:app", cwd=at.folder, CLIFFRACER_NAMESPACE=f"nobody{free_port()}")
    assert (done.code, done.out.partition(" on ")[0]) == (0, "users 1.0.0 against nobody")
    url = f"nats://127.0.0.1:{free_port()}"
    done = cliffracer("check", "users:app", "--against", url, cwd=at.folder)
    assert done.err.startswith(f"Error: Cannot reach NATS at {url} (connection refused); start one there, or give the address of another.")


def test_a_strangers_answers_move_no_cursor_and_end_no_command(at: Place) -> None:
    """Anybody on NATS can answer discovery: with control characters, times that are none, schemas that are none."""
    (at.folder / "stranger.py").write_text(textwrap.dedent(STRANGER))
    with Background(at.folder, "shell", "users:app", "-c", "import stranger; await stranger.answer(app)", **at.env) as stranger:
        stranger.says("here")
        for command in (
            ("services",),
            ("services", "users"),
            ("trace",),
            ("trace", "11111111"),
            ("check", "users:app"),
            ("doctor", "users:app"),
            ("shell", "-c", "print(rpc)"),
            ("top", "-n", "1"),
        ):
            done = cliffracer(*command, cwd=at.folder, FORCE_COLOR="1", **at.env)  # or what moves a cursor is taken out on a pipe
            assert done.code in {0, 1}, command
            assert "evil" in done.out + done.err or command == ("services", "users"), command
            assert "\x1b[2J" not in done.out + done.err, command


GOOD = '{"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]}'


@pytest.mark.parametrize(
    "odd",
    [
        '{"$ref": 5}',
        '{"$ref": "#/$defs/a", "$defs": [1]}',
        '{"type": 5}',
        '{"anyOf": [1]}',
        '{"enum": 5}',
        '{"properties": [1]}',
        '{"type": "object", "properties": {"a": 5}}',
        '{"type": "object", "properties": {"a": {"type": "integer", "minimum": "x"}}, "required": ["a"]}',
    ],
)
def test_of_an_odd_schema_nothing_is_told(odd: str) -> None:
    """Whoever is on NATS can publish one under the name of a service, or leave one out: it ends no comparison, and breaks nobody."""
    schemas = {"request_schema": GOOD, "response_schema": GOOD}
    new = Contract("users", endpoints={"get": schemas, "put": schemas}, exposed=[Exposed("GET /", "", GOOD, GOOD)])
    new.hears, new.emits = [Heard("made.*", "made", GOOD)], {"user.made": GOOD}
    told = {"request_schema": odd, "schema_hash": "another"}
    old = Contract("users", endpoints={"get": {**told, "response_schema": odd}, "put": told}, exposed=[Exposed("GET /", "", odd, odd)])
    other = Contract("shop", hears=[Heard("user.*", "welcome", odd)], emits={"made.up": odd}, calls=["users.get"])
    assert [one.state for one in findings(new, [old, other], {})] == ["ok"] * 5
