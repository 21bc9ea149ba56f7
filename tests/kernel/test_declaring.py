"""Declarations: decorators give the function back, and mistakes are named with their place and cure."""

import functools
import gc
import re
import sys
import weakref
from collections.abc import AsyncIterator, Iterable
from enum import Enum
from functools import partial
from http import HTTPMethod
from typing import Annotated

import msgspec
import pytest

import cliffracer
from cliffracer import (
    Accounts,
    App,
    BrowserLogin,
    Context,
    Event,
    Group,
    Header,
    Model,
    Query,
    SetupError,
    UploadFile,
    checking,
    elsewhere,
    provided,
)
from cliffracer.addresses import address_of
from cliffracer.declarations import Route, Rpc
from cliffracer.testing import running


class Item(msgspec.Struct):
    name: str


class Other(msgspec.Struct):
    title: str


class Tagged(msgspec.Struct, tag=True):
    name: str


class Kind(msgspec.Struct, tag=True):
    title: str


class Outer(msgspec.Struct):
    item: Item


class Mailer:
    pass


class User(Model):
    name: str


@pytest.fixture
def app():
    return App("shop")


def test_decorators_give_the_function_back(app):
    """A declared function is the function itself, under every decorator."""

    async def create(name: str) -> Item:
        return Item(name)

    made = create
    for decorate in (app.rpc, app.rpc(name="make"), app.post("/items"), app.on("item.asked")):
        made = decorate(made)
    assert made is create


def test_one_function_may_carry_several_decorators(app):
    """RPC and HTTP on one function are two declarations of it."""

    @app.rpc
    @app.post("/items", status=201)
    async def create(name: str) -> Item:
        return Item(name)

    kinds = {type(d.record) for d in app.freeze().declared}
    assert kinds == {Rpc, Route}


class Verb(str, Enum):  # noqa: UP042 - whose `str` is Verb.READ, as of many written before there was StrEnum
    READ = "get"


def test_a_method_may_be_a_text_of_any_kind(app):
    """As a member of an enum is, of the user's own or of `http`."""

    @app.route("/items", methods=[Verb.READ, HTTPMethod.POST])
    async def items() -> None: ...

    assert [d.record.methods for d in app.freeze().declared] == [("GET",), ("POST",)]


def test_what_one_way_cannot_send_may_be_left_out_there(app):
    """A parameter with a default is no reason to refuse the function: by another decorator it is sent."""

    @app.rpc
    @app.get("/items")
    async def items(text: str, which: list[Item] | None = None, kind: Tagged | Kind | None = None, outer: Outer | None = None) -> None: ...

    @app.rpc
    @app.post("/pictures")
    async def picture(name: str, file: UploadFile | None = None) -> None: ...

    assert len(app.freeze().declared) == 4


def test_two_handlers_with_one_name_are_refused_with_both_places(app):
    """The error of a duplicate RPC names both functions and their lines."""

    @app.rpc
    async def get(item: int) -> None: ...

    with pytest.raises(SetupError, match=r"get2 \(.*test_declaring.py:\d+\): RPC get is declared already, by .*test_declaring.py:\d+"):

        @app.rpc(name="get")
        async def get2(item: int) -> None: ...


def test_a_duplicate_route_is_refused_whatever_its_parameters_are_called(app):
    """``/a/{x}`` and ``/a/{y}`` are one route."""

    @app.get("/a/{x}")
    async def first(x: int) -> None: ...

    with pytest.raises(SetupError, match=r"route GET /a/\{y\} is declared already, by test_a_dup.*first|first"):

        @app.get("/a/{y}")
        async def second(y: int) -> None: ...


def test_a_declaration_reads_no_other_one_again(app, monkeypatch):
    """Each path is read once when it is declared, however many there are, so that a large service starts in time."""
    read = []
    monkeypatch.setattr(checking, "claim", lambda path: read.append(path) or path)

    for number in range(50):

        @app.get(f"/items/{number}")
        async def get() -> None: ...

    assert len(read) == 50


def test_a_refused_declaration_takes_nothing(app):
    """What was refused for one of its methods leaves the others to whoever declares them next."""

    @app.post("/items")
    async def create() -> None: ...

    with pytest.raises(SetupError, match="POST /items is declared already"):

        @app.route("/items", methods=("GET", "POST"))
        async def both() -> None: ...

    @app.get("/items")
    async def find() -> None: ...

    assert len(app.freeze().declared) == 2


def test_a_duplicate_subscription_is_refused(app):
    """Two functions of one name on one subject would share a consumer."""

    @app.on("a.b")
    async def handle(data: int) -> None: ...

    with pytest.raises(SetupError, match=r"event a\.b for handle is declared already"):
        app.on("a.b")(handle)


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        ("@app.rpc\nasync def f(a): ...", r"parameter a has no annotation\. Give it one, as in a: str\."),
        ("@app.get('/x')\nasync def f(request): ...", r"as in \*, request: Request\."),
        ("@app.websocket('/x')\nasync def f(*, ws): ...", r"as in ws: WebSocket\."),
        ("@app.rpc\nasync def f(*args: int): ...", r"\*args cannot be bound"),
        ("@app.get('/x/{y}')\nasync def f(): ...", r"has \{y\}, but no such argument"),
        ("@app.get('/x/{y}')\nasync def f(*, y: int): ...", "keyword-only there"),
        ("@app.get('x')\nasync def f(): ...", "does not begin with /"),
        ("@app.get('/x/<int:y>')\nasync def f(y: int): ...", r"has <int:y>\. Write \{y\}: its type is that of the argument"),
        ("@app.websocket('/x/:y')\nasync def f(y: int): ...", r"has :y\. Write \{y\}"),
        (
            "@app.get('/x')\nasync def f(y: int = Query(5)): ...",
            r"the default of y does\. Write y: Annotated\[int, Query\(\)\], and behind",
        ),
        ("@app.get('/{a}/{a}')\nasync def f(a: int): ...", "twice"),
        ("@app.post('/x')\nasync def f(a: Item, b: Item): ...", "two body parameters"),
        ("@app.post('/x')\nasync def f(a: Item, b: int): ...", "two body parameters"),
        ("@app.post('/x')\nasync def f(a: list[int], b: Item): ...", "b takes the whole body, so nothing is left for a"),
        ("@app.rpc\nasync def f(a: Item | Other): ...", r": a: .* Give each a tag, as in class Paid"),
        ("@app.on('a', batch=9)\nasync def f(a: list[Item | Other]): ...", r": a: .*Give each a tag"),
        ("@app.websocket('/x')\nasync def f(a: AsyncIterator[Item | Other]): ...", r": a: .*Give each a tag"),
        ("@app.get('/x')\nasync def f(a: int | Mailer): ...", r": a: Type unions containing a custom type"),
        ("@app.rpc\nasync def f(a: AsyncIterator[int]): ...", "a is a stream, which only the client of a WebSocket sends"),
        ("@app.post('/x')\nasync def f(a: AsyncIterator[int]): ...", "a is a stream, which only the client of a WebSocket sends"),
        ("@app.rpc\nasync def f(a: UploadFile): ...", "a is a file, which only a form brings. Declare it with @app.post, or take bytes"),
        ("@app.websocket('/x')\nasync def f(a: UploadFile): ...", "a is a file, which only a form brings"),
        ("@app.get('/{a}')\nasync def f(a: Item): ...", r"a: Item cannot be read from a path\. Take a text"),
        ("@app.websocket('/{a}')\nasync def f(a: dict[str, int]): ...", r"a: dict\[str, int\] cannot be read from a path"),
        ("@app.get('/x')\nasync def f(a: list[Item]): ...", r"a: list\[.*Item\] cannot be read from a query"),
        ("@app.get('/x')\nasync def f(a: Item, name: str): ...", "a and name both take name from the query. Leave one out, or rename it"),
        ("@app.get('/x')\nasync def f(a: Tagged | Kind): ...", "a: a query does not say which of several objects"),
        ("@app.get('/x')\nasync def f(a: Outer): ...", "a: its field item cannot be read from a query"),
        ("@app.on('a b')\nasync def f(a: int): ...", "no subject pattern"),
        ("@app.on('a..b')\nasync def f(a: int): ...", "no subject pattern"),
        ("@app.on('a.>.b')\nasync def f(a: int): ...", "no subject pattern"),
        ("@app.on('a')\nasync def f(a: int, b: int): ...", "one payload"),
        ("@app.on('a', retry=[-1])\nasync def f(a: int): ...", "no length of time"),
        ("@app.on('a', limit=0)\nasync def f(a: int): ...", "lets nothing through"),
        ("@app.rpc(name='a.b')\nasync def f(): ...", "is no name"),
        ("@app.rpc(deadline='soon')\nasync def f(): ...", "no length of time"),
        ("@app.rpc(deadline=0)\nasync def f(): ...", "deadline=0 leaves no time for anything"),
        ("@app.on('a', deadline='0s')\nasync def f(): ...", "deadline='0s' leaves no time"),
        ("@app.get('/x', limit=True)\nasync def f(): ...", "limit=True is no whole number"),
        ("@app.rpc(deadline=[1])\nasync def f(): ...", "must be a string or a real number, not 'list'"),
        ("@app.rpc(name=7)\nasync def f(): ...", "expected string"),
        ("@app.rpc(limit='10')\nasync def f(): ...", "limit='10' is no whole number"),
        ("@app.rpc(rate=10)\nasync def f(): ...", "'10' is no rate: write '10/s'"),
        ("@app.get('/x', status='200')\nasync def f(): ...", "status '200' is no HTTP status"),
        ("@app.every('0s')\nasync def f(): ...", "interval over 0"),
        ("@app.cron('0 25 * * *')\nasync def f(): ...", r"25.*Write @app.cron\('0 9 \* \* MON-FRI'"),
        ("@app.leader(ttl=0)\nasync def f(): ...", "ttl over 0"),
        ("@app.every('1s', missed='skp')\nasync def f(): ...", "missed 'skp' is none. Use 'once' or 'skip'"),
        ("@app.cron('* * * * *', missed=None)\nasync def f(): ...", "missed None is none"),
        ("@app.rpc\nasync def f(self, a: int): ...", "is a method, and there is no object to call it on. Declare a plain function"),
        ("@app.on_error(ValueError)\ndef f(): ...", r"error mapping is called with one argument\. Write: def f\(error\)"),
        ("@app.on_error(ValueError)\ndef f(error, context): ...", "called with one argument"),
        ("@app.on_error(ValueError)\nasync def f(error): yield error", "nobody takes what an error mapping yields. Have it return"),
        ("@app.on_access\ndef f(access): yield", "nobody takes what who is told of accesses yields"),
        ("@app.get('/x?page=1')\nasync def f(page: int = 1): ...", r"goes on after its end\. What stands behind a \? is an argument"),
        ("@app.websocket('/x#y')\nasync def f(): ...", "goes on after its end"),
        ("@app.route('/x', methods=['G ET'])\nasync def f(): ...", "'G ET' is no HTTP method"),
        ("@app.route('/x', methods=[1])\nasync def f(): ...", "'1' is no HTTP method"),
        ("@app.route('/x', methods=None)\nasync def f(): ...", "no HTTP method is named"),
        ("@app.on_access\ndef f(): ...", r"called with one argument\. Write: def f\(access\)"),
        ("@app.every('1s')\nasync def f(a: int): ...", "has no caller"),
        ("@app.on('a')\nasync def f(a: int): yield a", "nobody takes what an event handler yields"),
        ("@app.every('1s')\ndef f(): yield 1", "nobody takes what a timer yields"),
        ("@app.leader\nasync def f(): yield 1", "nobody takes what a leader yields"),
        ("@app.on_startup\nasync def f(): yield", "nobody takes what a startup hook yields.*closed, is an @app.provide"),
        ("@app.provide\ndef f(): ...", "no return annotation"),
        ("@app.provide\ndef f(a: int) -> Mailer: ...", "has no caller"),
        ("@app.rpc\nasync def f(a: int = provided): ...", r"Put it after a \*"),
        ("@app.rpc\nasync def f(a: int, b: Repository[User], *, c: Database): ...", r"b is a Repository, .* after a \*: f\(a, \*, b, c\)"),
        ("@app.get('/x')\nasync def f(who: Identity | None = None): ...", "who is an Identity, which the app gives, not the caller"),
        ("@app.on('a')\nasync def f(event: Event): ...", r"event is an Event, .* f\(\*, event\)"),
        ("@app.every('1s')\nasync def f(store: KeyValue[int]): ...", "store is a KeyValue"),
        ("@app.get('/users/{id}')\nasync def f(user_id: int): ...", r"Did you mean \{user_id\}\? Otherwise add id: str to it"),
        ("@app.get('/{user}/{nme}')\nasync def f(user: int, name: str): ...", r"Did you mean \{name\}\?"),
        ("@app.get('/x/{y}')\nasync def f(other: int): ...", r"no such argument\. Add y: str to it"),
    ],
)
def test_a_mistake_is_refused_when_it_is_declared(app, declare, text):
    """Each mistake names the function, the file and line, and what is wrong."""
    provided_types = {name: getattr(cliffracer, name) for name in ("Repository", "Database", "Identity", "Event", "KeyValue", "UploadFile")}
    shapes = {"Tagged": Tagged, "Kind": Kind, "Outer": Outer, "Item": Item, "Other": Other, "AsyncIterator": AsyncIterator, "Query": Query}
    names = {**provided_types, **shapes, "app": app, "Mailer": Mailer, "User": User, "provided": provided}
    with pytest.raises(SetupError, match=text) as caught:
        exec(compile(declare, "users.py", "exec"), names)
    assert str(caught.value).startswith("f (users.py:")


@pytest.mark.parametrize(
    "decorator",
    ["get", "post", "put", "patch", "delete", "websocket", "on", "every", "cron", "cached", "health_check"],
)
def test_a_decorator_without_its_argument_is_refused(app, decorator):
    """It got the function instead; it would have declared nothing, and said nothing."""

    def f() -> int:
        return 1

    with pytest.raises(SetupError, match=rf"f \(.*test_declaring\.py:\d+\): its decorator .* Write @app\.{decorator}\('"):
        getattr(app, decorator)(f)


@pytest.mark.parametrize("decorator", ["get", "on", "every", "cached"])
def test_a_decorator_without_its_argument_on_a_class_is_refused(app, decorator):
    """A typed event is an argument of `on`; any other class is what somebody wanted to declare."""

    class K: ...

    class Created(Event): ...

    with pytest.raises(SetupError, match=r"^K: its decorator was given nothing but the function"):
        getattr(app, decorator)(K)
    app.on(Created)


def test_an_error_mapping_without_its_class_is_refused(app):
    """It got the function instead."""

    def f(error): ...

    with pytest.raises(SetupError, match=r"Write @app\.on_error\(ValueError\)"):
        app.on_error(f)


@pytest.mark.parametrize("make", [lambda: type("K", (), {}), lambda: staticmethod(len), lambda: classmethod(len)])
def test_what_is_no_plain_function_is_refused(app, make):
    """A class would answer with its objects, which nobody can encode; a method has nothing to be called on."""
    with pytest.raises(SetupError, match=r"it is a (class|method of a class)\. Declare a plain function"):
        app.rpc(make())


@pytest.mark.parametrize(("decorator", "given", "cure"), [("rpc", "get_user", "name='get_user'"), ("leader", "15s", "ttl='15s'")])
def test_an_option_by_position_is_refused(app, decorator, given, cure):
    """Where only the function may stand, the error says what the option is called."""
    with pytest.raises(SetupError, match=rf"its options have names\. Write @app\.{decorator}\({cure}\)"):
        getattr(app, decorator)(given)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("app.get()", "@app.get lacks its path. Write @app.get('/path')."),
        ("app.on()", "@app.on lacks its subject. Write @app.on('user.created')."),
        ("app.every()", "@app.every lacks its interval. Write @app.every('30s')."),
        ("app.route('/x')", "@app.route lacks its methods. Write @app.route('/path', methods=['GET'])."),
        ("app.static('/x')", "app.static lacks its folder. Write app.static('/static', 'folder')."),
        ("app.on('a', retries=3)", "@app.on has no option retries. Did you mean retry?"),
        ("app.rpc(nme='x')", "@app.rpc has no option nme. Did you mean name?"),
        ("app.get('/x', staus=201)", "@app.get has no option staus. Did you mean status?"),
        ("app.get('/x', methods='POST')", "@app.get has no option methods. It has status, deadline, limit, tags, rate."),
        ("app.every('1s', name='x')", "@app.every has no option name. It has each, missed, deadline."),
        ("app.provide(scop='call')", "@app.provide has no option scop. Did you mean scope?"),
        ("app.service('a', timout=1)", "app.service has no option timout. Did you mean timeout?"),
        ("App('a', verison='1')", "App has no option verison. Did you mean version?"),
        ("Group()", "Group lacks its name. Write Group('admin')."),
        ("app.get('/x', 201)", "@app.get('/x', 201): its options have names: status, deadline, limit, tags, rate."),
        (
            "app.on('a', 'b')",
            (
                "@app.on('a', 'b'): its options have names: durable, each, group, ordered, retry, batch, within, limit, start, once, "
                "deadline, rate. For several subjects, put one @app.on above the other."
            ),
        ),
        ("app.on_error(int, str)", "@app.on_error(<class 'int'>, <class 'str'>): that is too much. Write @app.on_error(ValueError)."),
        ("app.get('/x', path='/y')", "@app.get: multiple values for argument 'path'."),
        ("app.get(7)", "@app.get: its path is 7, which is no text. Write @app.get('/path')."),
        ("App(7)", "App: its name is 7, which is no text. Write App('users')."),
        ("App('a', version=1.0)", "App: its version is 1.0, which is no text. Write version='1.0'."),
        *(
            (f"app.{name}({given})", f"@app.{name} takes the function and nothing else. Write @app.{name} above it, without parentheses.")
            for name in ("middleware", "on_startup", "on_shutdown", "on_access")
            for given in ("", "'http'", "order=1", "None")
        ),
    ],
)
def test_a_decorator_that_is_written_wrong_is_told_as_it_was_written(app, written, text):
    """Not by the names of the classes that it is made of, which Python would tell; with the option that was perhaps meant."""
    with pytest.raises(SetupError) as caught:
        eval(written, {"app": app, "App": App, "Group": Group})
    assert str(caught.value) == text


def test_what_is_provided_is_refused_before_the_star(app):
    """No caller can send what a provider of the app makes; a type that JSON has may be both."""

    @app.rpc
    async def g(item: Item) -> None: ...

    app.freeze()

    @app.provide
    def item() -> Item:
        return Item()

    app.freeze()

    @app.provide
    def mailer() -> Mailer:
        return Mailer()

    @app.rpc
    async def f(a: int, mailer: Mailer) -> None: ...

    with pytest.raises(SetupError, match=r"mailer is a Mailer, which the app gives.* after a \*: f\(a, \*, mailer\)"):
        app.freeze()


class Pydantic:
    """What is told by its methods, as a BaseModel is."""

    @classmethod
    def model_validate(cls, given: object) -> object: ...


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        (Mailer, "Take a Struct or a dataclass. What the app is to give stands after a *: @app.provide on a function"),
        (list[Mailer | None], "Take a Struct"),
        (AsyncIterator[Mailer], "Take a Struct"),
        (Pydantic, "Make it a Struct of msgspec: class Pydantic(Struct). Or take a dict, and write Pydantic.model_validate(a)."),
    ],
)
def test_what_no_payload_can_be_is_refused_when_the_app_freezes(app, given, cure):
    """It was served, and every call of it was answered that it lacks what it had."""

    async def f(a) -> None: ...

    f.__annotations__["a"] = given
    (app.websocket("/f") if given == AsyncIterator[Mailer] else app.rpc)(f)
    with pytest.raises(SetupError, match=rf"f \(.*: a: nothing that a caller sends can be decoded to .*{re.escape(cure)}"):
        app.freeze()


def test_what_any_payload_is_may_be_asked_for(app):
    """An `object`, an `Iterable`, and what has a protocol of its own is not refused."""

    @app.rpc
    async def f(a: object, b: Iterable[int]) -> None: ...

    @app.post("/f")
    async def g(a: UploadFile, b: list[UploadFile]) -> None: ...

    app.freeze()


def test_a_text_alone_is_one_name(app):
    """Where several methods or tags may be given, or events of a group, one need not be put into a list."""

    @app.route("/x", methods="get", tags="users")
    async def f() -> None: ...

    record = app.freeze().declared[0].record
    assert (record.methods, record.tags, Group("g", emits="user.created").emits) == (("GET",), ("users",), ("user.created",))


def test_what_nothing_provides_is_refused_when_the_app_freezes(app):
    """The error names the parameter, its type, and the decorator that would provide it."""

    @app.rpc
    async def f(*, mailer: Mailer) -> None: ...

    with pytest.raises(SetupError, match=r"f \(.*test_declaring.py:\d+\): nothing provides mailer: Mailer.*@app.provide"):
        app.freeze()


@pytest.mark.parametrize("name", ["events", "send", "cliffracer", "_INBOX"])
def test_an_app_whose_methods_nobody_would_reach_is_refused(name):
    """The first part of our own subjects is no name for methods; for an app that has none it is."""
    taken = App(name)

    @taken.on("user.created")
    async def hears(data: int) -> None: ...

    taken.freeze()

    @taken.rpc
    async def answers() -> None: ...

    with pytest.raises(SetupError, match=rf"answers.*nobody would reach a method of an app called '{name}'.*Give the app another name"):
        taken.freeze()


def test_a_provider_may_be_declared_after_its_use(app):
    """The order of declarations does not matter."""

    @app.rpc
    async def f(*, mailer: Mailer) -> None: ...

    @app.provide
    def mailer() -> Mailer:
        return Mailer()

    assert app.freeze().providers[0].provides is Mailer


def test_an_optional_provided_parameter_needs_no_provider(app):
    """A keyword-only parameter with a default is left at it."""

    @app.rpc
    async def f(*, mailer: Mailer | None = None) -> None: ...

    assert app.freeze()


def test_a_group_is_taken_over_also_what_it_declares_later(app):
    """What a group declares after it was included is served too, under both prefixes."""
    group = Group("admin", prefix="/admin")
    app.include(group, prefix="/v1")

    @group.get("/users/{user_id}")
    async def show(user_id: int) -> None: ...

    assert [d.record.path for d in app.freeze().declared] == ["/v1/admin/users/{user_id}"]


def test_a_path_of_a_group_may_be_its_prefix_alone(app):
    """An empty path is the prefix itself, and the root where there is none; an app of its own has no such path."""
    inner, outer = Group("inner", prefix="/items"), Group("outer")

    @inner.get("")
    async def everything() -> None: ...

    @outer.get("")
    async def root() -> None: ...

    app.include(inner)
    app.include(outer)
    assert sorted(d.record.path for d in app.freeze().declared) == ["/", "/items"]
    with pytest.raises(SetupError, match="does not begin with /"):
        App("other").get("")(everything)


def test_what_is_no_group_is_not_included(app):
    """A part, or another app, where a group is meant, and the other way round: the message says what to write."""
    with pytest.raises(SetupError, match=r"Accounts is none. Write app.use\(Accounts\(...\)\)"):
        app.include(Accounts())
    with pytest.raises(SetupError, match=r"App 'other' is none\. Another service of its own is run beside it"):
        app.include(App("other"))
    with pytest.raises(SetupError, match=r"Group 'more' is none\. A Group is taken over by include"):
        app.use(Group("more"))
    with pytest.raises(SetupError, match=r"Write Accounts\(...\), with parentheses"):
        app.use(Accounts)


def test_a_group_is_included_once(app):
    """Its handlers would be declared twice; nor is a group a part of itself."""
    group = Group("admin")
    app.include(group)
    for scope in (app, group):
        with pytest.raises(SetupError, match=f"group 'admin' is included twice in '{scope.name}'"):
            scope.include(group)


def test_groups_that_include_each_other_are_refused(app):
    """Their paths would have no end."""
    outer, middle, inner = Group("outer"), Group("middle"), Group("inner")
    outer.include(middle)
    middle.include(inner)
    with pytest.raises(SetupError, match="group 'outer' includes 'inner', so that cannot include it"):
        inner.include(outer)


def test_a_prefix_of_an_include_begins_with_a_slash(app):
    """Nothing would reach the paths behind it otherwise."""
    with pytest.raises(SetupError, match=r"group 'admin' in 'shop': prefix 'api' does not begin with /\. Write '/api'\."):
        app.include(Group("admin"), prefix="api")
    app.include(Group("admin"), prefix="/api/")


def test_a_path_parameter_of_a_prefix_is_not_in_the_path_again(app):
    """One of the two would be lost."""
    group = Group("tenants", prefix="/{tenant}")

    @group.get("/as/{tenant}")
    async def find(tenant: str) -> str:
        return tenant

    app.include(group)
    with pytest.raises(SetupError, match=r"find .*path '/\{tenant\}/as/\{tenant\}' has \{tenant\} twice"):
        app.freeze()


class Doubling:
    async def __call__(self, number: int) -> int:
        return number


@pytest.mark.parametrize("made", [Doubling(), partial(int, base=2), "name", None])
@pytest.mark.parametrize("decorator", ["rpc", "get", "on", "every", "cached"])
def test_what_is_no_function_is_refused(app, decorator, made):
    """An object that can be called has no name to be called by; the app would not start, and say so with an error of Python's."""
    declare = app.rpc() if decorator == "rpc" else getattr(app, decorator)({"get": "/x", "on": "a", "every": "1s", "cached": 1}[decorator])
    with pytest.raises(SetupError, match=r"Declare a plain function; what a class would keep is provided"):
        declare(made)


async def test_no_group_is_included_while_the_app_runs(app):
    """What it declares would never be served, and nothing would say so."""
    async with running(app):
        with pytest.raises(SetupError, match="shop is running, so nothing can be declared"):
            app.include(Group("admin"))


@pytest.mark.parametrize("prefix", ["admin", "/admin/", "/"])
def test_a_prefix_that_no_path_goes_on_from_is_refused(prefix):
    """It stands before paths that begin with a slash."""
    with pytest.raises(SetupError, match="must begin with / and not end with it"):
        Group("admin", prefix=prefix)


def test_a_timer_is_for_the_cluster_unless_it_says_otherwise(app):
    """By an interval or by an expression, one replica runs it."""

    @app.every("1h")
    async def tidy() -> None: ...

    @app.cron("0 9 * * *")
    async def greet() -> None: ...

    @app.cron("0 9 * * *", each=True)
    async def warm() -> None: ...

    assert [(d.record.function.__name__, d.record.each) for d in app.freeze().declared] == [
        ("tidy", False),
        ("greet", False),
        ("warm", True),
    ]


def test_a_clash_between_app_and_group_is_refused(app):
    """Names are unique over an app and all its groups."""
    group = Group("more")
    app.include(group)

    @app.rpc
    async def get() -> None: ...

    @group.rpc(name="get")
    async def other() -> None: ...

    with pytest.raises(SetupError, match="RPC get is declared already"):
        app.freeze()


def test_an_annotation_may_name_a_class_that_is_defined_later(app):
    """Annotations written as text are read again when the app freezes."""
    names = {"app": app}
    text = "@app.rpc\nasync def f(a: 'Later') -> 'Later': ...\nimport msgspec\nclass Later(msgspec.Struct):\n    x: int\n"
    exec(compile(text, "later.py", "exec"), names)
    assert app.freeze().declared[0].signature.accepts[0].annotation is names["Later"]


async def test_an_annotation_may_name_a_class_of_where_its_function_is_declared(app):
    """Written as text, and never used inside: of an RPC that is called by its function, of a provider and of a hook."""

    class Local(msgspec.Struct):
        value: int

    made, begun = Local(7), []

    @app.provide
    def local() -> "Local":
        return made

    @app.on_startup
    async def begin(*, local: "Local"):
        begun.append(local)

    @app.rpc
    async def get(*, local: "Local" = provided) -> "Local":
        return local

    async with running(app):
        assert await app.call(get) == made
    assert begun == [made]


def test_an_annotation_that_is_never_defined_is_refused(app):
    """The error of a name that cannot be found says which."""
    exec(compile("@app.rpc\nasync def f(a: 'Nowhere'): ...", "later.py", "exec"), {"app": app})
    with pytest.raises(SetupError, match=r"f \(later.py:1\): an annotation cannot be read: name 'Nowhere'"):
        app.freeze()


def test_shapes_tell_where_each_argument_comes_from(app):
    """Path, query, header and body parameters are told apart at declaration."""

    @app.post("/items/{item_id}")
    async def f(
        item_id: int, item: Item, dry: Annotated[bool, Query()] = False, tenant: Annotated[str, Header("X-Tenant")] = ""
    ) -> None: ...

    shape = app.freeze().declared[0].shape
    named = [shape.path[0].name, shape.body.name, shape.query[0].name, shape.headers[0].marker.name]
    assert named == ["item_id", "item", "dry", "X-Tenant"]


@pytest.mark.parametrize("declare", ["on('a')", "rpc()", "rpc(limit=1)", "get('/x')", "every('1s')", "leader()", "leader"])
def test_what_has_no_name_is_refused_as_a_handler(app, declare):
    """Subjects, consumers and methods are called after their function, and a partial of one has no name."""
    decorator = eval(f"app.{declare}", {"app": app})
    with pytest.raises(SetupError, match=r"^partial: it is no function, which has a name\. Declare a plain function"):
        decorator(functools.partial(print, 1))


def test_functions_of_one_name_have_no_consumer_of_events_for_both(app):
    """In two modules they may be called alike; which of them gets an event cannot be left to chance."""

    def declare(subject: str, **options: str) -> None:
        async def handle(data: int) -> None: ...

        app.on(subject, **options)(handle)

    declare("a")
    declare("b", group="other")
    app.freeze()
    declare("c")
    with pytest.raises(SetupError, match=r"handle \(.*\): a and c share the consumer handle: that of handle \(.*\)\. Rename one of them"):
        app.freeze()


def test_context_and_typed_event_need_no_provider(app):
    """What the runtime provides is known without being declared."""

    class Created(Event, subject="item.created"):
        name: str

    @app.on(Created)
    async def f(data: Created, *, context: Context, event: Event) -> None: ...

    frozen = app.freeze()
    assert frozen.declared[0].record.subject == "item.created"


def test_a_provided_parameter_that_was_forgotten_says_so(app):
    """Touching the `provided` default in a plain call names the cure."""

    @app.rpc
    async def f(*, mailer: Mailer = provided) -> str:
        return mailer.name

    with pytest.raises(TypeError, match="provided parameter was used"):
        f().send(None)


def test_a_bad_app_name_is_refused():
    """A service name is one token of a subject."""
    with pytest.raises(SetupError, match="is no name"):
        App("user service")


def test_a_bad_group_name_is_refused():
    """By the same rule."""
    with pytest.raises(SetupError, match=r"Group\('a b'\): 'a b' is no name: 1 to 64 letters, digits, _ or -\."):
        Group("a b")


def test_middleware_that_cannot_wrap_a_call_is_refused(app):
    """Middleware is async and takes context and proceed."""
    with pytest.raises(SetupError, match="must be async"):

        @app.middleware
        def plain(context, proceed): ...

    with pytest.raises(SetupError, match="takes two arguments"):

        @app.middleware
        async def short(context): ...


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"durable": False, "batch": 10, "once": True}, "batch, once needs a durable subscription, and durable=False makes it none"),
        ({"each": True, "ordered": True}, "ordered needs a durable subscription, and each=True makes it none"),
        ({"within": 5}, r"within is how long a batch is waited for, and there is none\. Add batch=100, or leave it out"),
        ({"ordered": True, "batch": 10}, "ordered and batch exclude each other"),
        ({"start": "yesterday"}, "start='yesterday' cannot be read"),
        ({"start": 1.5}, "start=1.5 cannot be read"),
        ({"start": -3}, "start=-3 is no sequence: they begin at 1"),
        ({"each": True, "group": "g"}, "a group shares its events, and each=True hands every replica its own copy"),
        ({"retry": 5}, "retry=5 says no times"),
        ({"retry": "10s"}, "retry='10s' says no times"),
        ({"retry": ("soon",)}, "'soon' is no"),
    ],
)
def test_options_of_a_subscription_that_do_nothing_together_are_refused(app, options, problem):
    """With the function, the line and what to leave out; none is ignored in silence."""
    with pytest.raises(SetupError, match=rf"count \(.*test_declaring.py:\d+\): {problem}"):

        @app.on("order.placed", **options)
        async def count(number: int) -> None: ...


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (lambda app: app.service("b", timeout=0), r"service\('b', timeout=...\): 0 leaves no time for anything"),
        (lambda app: app.route("/x", methods=[])(lambda: None), "no HTTP method is named"),
        (lambda _: App("a", calls=[3]).freeze(), "calls=3 names no method: write 'service.method'"),
        (lambda _: Accounts(lasts="x"), r"Accounts\(lasts=...\): 'x'"),
        (lambda _: BrowserLogin(lasts=0), r"BrowserLogin\(lasts=...\): 0 leaves no time"),
    ],
)
def test_what_would_never_work_is_refused_where_it_is_written(app, written, told):
    """Not by an error of Python's, nor at the first call."""
    with pytest.raises(SetupError, match=told):
        written(app)


def test_an_app_that_nobody_holds_is_let_go():
    """With all that its functions hold: a test suite that makes one for each test would keep them all."""

    def made() -> list[weakref.ref[App]]:
        app, group = App("made"), Group("part", prefix="/part")

        @app.rpc
        @app.get("/work")
        async def work(n: int) -> int:
            return n

        @group.rpc
        async def more() -> int:
            return await app.call(work, n=1)

        app.include(group)
        app.freeze()
        assert (address_of(work)[:2], address_of(more)[:2]) == (("made", "work"), ("made", "more"))
        return [weakref.ref(app), weakref.ref(group)]

    held = made()
    gc.collect()
    assert [each() for each in held] == [None, None]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("from cliffracer import Depends", "cliffracer has no Depends. Put @app.provide on a function"),
        ("from cliffracer import App, APIRouter", "cliffracer has no APIRouter. Write Group("),
        ("from cliffracer import HTTPException", "Raise NotFound(...), Conflict(...) and the like"),
        ("from cliffracer import Nonsense", "cannot import name 'Nonsense'"),
        ("cliffracer.Depends", "module 'cliffracer' has no attribute 'Depends'. Put @app.provide on a function"),
        ("cliffracer.Nonsense", "module 'cliffracer' has no attribute 'Nonsense'"),
        ("app.run(debug=True)", "'App' object has no attribute 'run'. Run it by: cliffracer run module:app."),
        ("@app.on_event('startup')\ndef f(): ...", "Write @app.on_startup and @app.on_shutdown"),
        ("@group.before_request\ndef f(): ...", "'Group' object has no attribute 'before_request'. Write @app.middleware"),
        ("app.emitt", "'App' object has no attribute 'emitt'"),
    ],
)
def test_what_others_call_otherwise_is_told_by_its_name_here(app, written, told):
    """Who comes from another framework guesses by the names that it has."""
    with pytest.raises((AttributeError, ImportError)) as caught:
        exec(written, {"app": app, "group": Group("g"), "cliffracer": cliffracer})
    assert told in str(caught.value)


def test_what_is_not_there_is_an_attribute_error_though_nothing_can_be_imported(app, monkeypatch):
    """As when Python ends, or while another version is installed: `hasattr` has an answer."""
    monkeypatch.setitem(sys.modules, "cliffracer.elsewhere", None)
    assert not hasattr(app, "run")


def test_what_is_told_instead_is_there(app):
    """No name of ours is among those of others, and what is to be written for them exists. Asking for them is no error."""
    assert not any(hasattr(cliffracer, name) for name in elsewhere.IMPORTS)
    assert not [name for name in elsewhere.IMPORTS if name in cliffracer.__all__]
    queries = elsewhere.QUERIES
    stored = (cliffracer.Repository, elsewhere.ROWS), (cliffracer.Database, queries), (cliffracer.Transaction, queries)
    for one, names in ((app, elsewhere.ATTRIBUTES), *stored):
        assert not [name for name in names if name in dir(one)]
    known = {*dir(cliffracer.Repository), *dir(cliffracer.Database)}
    for cure in (*elsewhere.ROWS.values(), *elsewhere.QUERIES.values()):
        assert set(re.findall(r"(\w+)\(", cure.partition("'")[0])) <= known
    for cure in elsewhere.ATTRIBUTES.values():
        assert all(hasattr(app, name) for name in re.findall(r"app\.(\w+)", cure.replace("module:app.", "")))
