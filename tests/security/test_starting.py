"""What an app must say about its handlers before it starts, and what rules can be."""

import enum
import functools
import subprocess
import sys
from typing import Any

import pytest

from cliffracer import App, Forbidden, Group, Identity, Internal, SetupError, Unauthenticated, provided, public, requires
from cliffracer.security.enforcement import enforcement
from cliffracer.security.guards import policy_of
from cliffracer.settings import Settings
from cliffracer.testing import running
from tests.security.corpus import KEY


class Kind(enum.Enum):
    ADMIN = "admin"


def start(app: App, **fields: Any) -> Any:
    """Check an app as starting it does."""
    return enforcement([app.freeze()], Settings(**fields))


def three() -> App:
    app = App("three")

    @app.rpc
    async def forgotten() -> None: ...

    @app.on("a.b")
    async def also(name: str) -> None: ...

    @app.get("/x")
    @public
    async def fine() -> None: ...

    @app.every("1h")
    async def timer() -> None: ...

    return app


def test_forgotten_handlers() -> None:
    """With keys, every handler without a rule is listed and nothing starts; a timer has no caller to ask."""
    with pytest.raises(SetupError) as refused:
        start(three(), auth_secret_key=KEY)
    assert "forgotten (tests/security/test_starting.py:" in str(refused.value)
    assert "AUTH_REQUIRED=true, which asks for a token where neither stands" in str(refused.value)
    assert "also (tests" in str(refused.value)
    assert "fine" not in str(refused.value)
    assert "timer" not in str(refused.value)
    assert KEY not in str(refused.value)


def test_required() -> None:
    """auth_required is the rule of everything that has none."""
    app = three()
    rules = start(app, auth_secret_key=KEY, auth_required=True)
    found = {record.function.__name__: str(rules.policy(record)) for record in (d.record for d in app.freeze().declared)}
    assert found == {"forgotten": "authenticated", "also": "authenticated", "fine": "public", "timer": "None"}


def test_no_keys() -> None:
    """A rule, or auth_required, without keys does not start: nobody could ever be let in."""
    app = App("one")

    @app.rpc
    @requires("x")
    async def guarded() -> None: ...

    with pytest.raises(SetupError, match=r"guarded \(tests.*AUTH_SECRET_KEY"):
        start(app)
    with pytest.raises(SetupError, match="auth_required is set"):
        start(three(), auth_required=True)
    assert start(three()) is None


def test_asking_for_an_identity_is_a_rule() -> None:
    """Who takes an Identity cannot be called without one."""
    app = App("one")

    @app.rpc
    async def me(*, identity: Identity = provided) -> str:
        return identity.subject

    assert str(start(app, auth_secret_key=KEY).policy(app.freeze().declared[0].record)) == "authenticated"


async def test_a_test_makes_up_a_key_where_callers_have_to_be_known() -> None:
    """An app under test needs no key in its settings, be it for a rule, an `Identity` or ``auth_required``."""
    app = App("asked")

    @app.rpc
    async def who(*, identity: Identity) -> str:
        return identity.subject

    other = App("required")

    @other.rpc
    async def anything() -> str:
        return "known"

    async with running(app) as t:
        with pytest.raises(Unauthenticated):
            await t.call("who")
        with t.acting("ada"):
            assert await t.call("who") == "ada"
    async with running(other, auth_required=True) as t:
        with t.acting("ada"):
            assert await t.call("anything") == "known"


def test_contradictions() -> None:
    """A handler cannot be public and have a rule, a check cannot ask for what is not there, a rule names something."""
    app = App("one")

    @app.rpc
    @public
    @requires("x")
    async def both() -> None: ...

    with pytest.raises(SetupError, match="it is @public and has a rule too"):
        start(app, auth_secret_key=KEY)
    lost = App("two")

    @lost.rpc
    @requires(check=lambda identity, owner: identity.subject == owner)
    async def record(user_id: str) -> None: ...

    asked = "a check of record asks for owner. It can have identity, context, arguments, user_id"
    found = start(lost, auth_secret_key=KEY)
    (declared,) = lost.freeze().declared
    with pytest.raises(SetupError, match=asked):
        found.entry(declared.record, declared.signature)
    with pytest.raises(SetupError, match="names nothing"):
        requires(any=True)
    assert str(policy_of(requires(any=True, role="x")(lambda: None))) == "role x"
    with pytest.raises(SetupError, match="is no permission or role"):
        requires("")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"role": ()}, "names nothing, and would let everybody in"), ({"permission": []}, "names nothing, and would let everybody in"),
        ({"role": None}, "None is no permission or role"), ({"role": Kind.ADMIN}, "is no permission or role"),
        ({"check": "x"}, "a check is a function"),
        ({"permission": "a:read a:write"}, r"one word. Write requires\('a:read', 'a:write'\)"),
    ],
)  # fmt: skip
def test_a_rule_that_asks_for_nothing_or_for_what_nobody_has_is_refused(given: dict[str, Any], words: str) -> None:
    """An empty list of roles, as a setting that is missing makes one, would let everybody in who is known."""
    with pytest.raises(SetupError, match=words):
        requires(**given)


def test_a_check_that_says_yes_whatever_it_does_is_refused() -> None:
    """A class makes an object and a generator function a generator, which count as a yes to everybody who is known."""

    class Owner:
        def __call__(self, identity: Identity) -> bool:
            return identity.subject == "ada"

    def yields(identity: Identity) -> Any:
        yield identity.subject == "ada"

    async def yields_later(identity: Identity) -> Any:
        yield identity.subject == "ada"

    class Yields:
        def __call__(self, identity: Identity) -> Any:
            yield identity.subject == "ada"

    with pytest.raises(SetupError, match="a class makes an object, which is no answer"):
        requires(check=Owner)
    for check in (yields, yields_later, Yields(), functools.partial(yields)):
        with pytest.raises(SetupError, match="a generator is no answer"):
            requires(check=check)


@pytest.mark.parametrize(
    ("check", "words"),
    [(Identity.may, r"takes \*permissions, and gets nothing there"), (lambda blocked, identity: identity != blocked, "asks for blocked")],
)
def test_a_check_is_not_given_what_it_does_not_ask_for(check: Any, words: str) -> None:
    """Of no permissions at all everybody has each, and who an argument's misspelt name stands for is not the caller."""
    app = App("app")

    @app.rpc
    @requires(check=check)
    async def read(blocked_id: str) -> None: ...

    (declared,) = app.freeze().declared
    with pytest.raises(SetupError, match=words):
        start(app, auth_secret_key=KEY).entry(declared.record, declared.signature)


async def test_a_check_that_returns_a_function_lets_nobody_in() -> None:
    """A method that was not called is no yes: the call fails, and the log says why."""
    app = App("app")

    @app.rpc
    @requires(check=lambda identity: identity.has_role)
    async def read() -> None: ...

    async with running(app) as t:
        with t.acting("ada", roles=["admin"]), pytest.raises(Internal):
            await t.call("read")


async def test_a_rule_that_would_do_nothing_is_refused() -> None:
    """Whoever guards a group, a middleware, a provider or a hook believes that something is guarded."""
    several: Any = (App("app"), Group("group"), Kind)
    for what in several:
        for rule in (requires("x"), requires, public):
            with pytest.raises(SetupError, match=r"it would do nothing there|is no permission"):
                rule(what)

    async def around(context: Any, proceed: Any) -> Any:
        return await proceed()

    async def within(context: Any, proceed: Any) -> Any:
        return await proceed()

    async def hello() -> None: ...

    async def hook() -> None: ...

    def kind() -> Kind:
        return Kind.ADMIN

    for function, declare in ((around, "middleware"), (hook, "on_startup"), (kind, "provide"), (within, "middleware")):
        app, group = App("app"), Group("group")
        getattr(group if function is within else app, declare)(requires(role="admin")(function))
        group.rpc(hello)
        app.include(group)
        with pytest.raises(SetupError, match=f"{function.__name__} .*a rule guards handlers, and this is none"):
            await running(app).__aenter__()


async def test_an_object_may_be_a_check() -> None:
    """One that is made with what it needs to know."""

    class Owner:
        def __call__(self, identity: Identity, owner: str) -> bool:
            return identity.subject == owner

    app = App("app")

    @app.rpc
    @requires(check=Owner())
    async def read(owner: str) -> str:
        return owner

    async with running(app) as t:
        with t.acting("ada"):
            assert await t.call("read", owner="ada") == "ada"
            with pytest.raises(Forbidden):
                await t.call("read", owner="bob")


def test_rules_pass_through_wrappers() -> None:
    """A decorator of the user's between rule and declaration hides neither from the other."""

    def plain(function: Any) -> Any:
        @functools.wraps(function)
        async def inner(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return inner

    async def work() -> None: ...

    declared = work
    requires("a")(plain(work))
    assert str(policy_of(declared)) == "a"
    assert str(policy_of(plain(requires("b", role=("c", "d"))(work)))) == "a and b and role c or d"


def test_a_rule_that_is_said_twice_is_one() -> None:
    """Public twice is no contradiction, and a check is not asked twice."""
    assert str(policy_of(public(public(lambda: None)))) == "public"
    found = policy_of(requires("a")(requires("a")(lambda: None)))
    assert found is not None
    assert len(found.rules) == 1


def test_arguments_do_not_stand_in_for_the_identity() -> None:
    """A caller's argument that is called identity is not taken for who he is."""
    from cliffracer.security.guards import checks_of

    policy = policy_of(requires(check=lambda identity: identity)(lambda: None))
    assert policy is not None
    early, (check,) = checks_of(policy, test_contradictions, ("identity",))
    assert early == []  # it may mean the argument, so it waits for it
    assert check("true one", None, {"identity": "forged"}) == "true one"


def test_importing_is_light() -> None:
    """Neither the façade nor an app without rules imports cryptography."""
    heavy = ("joserfc", "cryptography", "authlib")
    code = f"import sys, cliffracer; cliffracer.requires, cliffracer.Identity; print([n for n in {heavy} if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
