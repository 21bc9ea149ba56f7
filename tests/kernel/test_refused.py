"""What surrounds calls and is declared in a way that cannot work: it is refused, with its place and cure, before anything starts."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request

from cliffracer import App, Context, Group, Identity, SetupError, Transaction


class Mailer: ...


class Session: ...


@pytest.fixture
def app() -> App:
    return App("refused")


def by_provider(app: App, function: Callable[..., Any]) -> None:
    app.provide(function)


def by_startup(app: App, function: Callable[..., Any]) -> None:
    app.on_startup(function)


def by_shutdown(app: App, function: Callable[..., Any]) -> None:
    app.on_shutdown(function)


def by_check(app: App, function: Callable[..., Any]) -> None:
    app.health_check("disk")(function)


@pytest.mark.parametrize("asked", [Context, Identity, Request, Transaction, Session])
@pytest.mark.parametrize("declare", [by_provider, by_startup, by_shutdown, by_check])
def test_what_only_a_call_has_is_given_to_nothing_that_is_part_of_none(app, declare, asked):
    """Start-up ended in a TypeError about a missing argument, and such a health check failed for ever."""

    def looks(*, what) -> Mailer: ...

    looks.__annotations__["what"] = asked
    declare(app, looks)

    @app.provide(scope="call")
    def session(*, context: Context) -> Session:
        return Session()

    cure = "Give it scope='call' too" if declare is by_provider else "Ask for what there is without a call"
    with pytest.raises(SetupError, match=rf"looks \(.*test_refused.py:\d+\): what is made per call, .*{cure}"):
        app.freeze()


def test_what_only_a_call_may_have_is_left_out_where_there_is_none(app):
    """A parameter with a default says that it can do without."""

    @app.on_startup
    def looks(*, identity: Identity | None = None) -> None: ...

    assert app.freeze().startup == (looks,)


def test_one_type_has_one_provider_in_an_app_and_all_its_groups(app):
    """The last one counted, also for handlers of the group that had its own."""
    mail, post = Group("mail"), Group("post")

    @mail.provide
    def mailer() -> Mailer:
        return Mailer()

    post.provide(Mailer())
    app.include(mail)
    app.include(post)
    with pytest.raises(SetupError, match=r"app.provide\(Mailer\(...\)\): Mailer is provided already, by mailer \(.*Keep one provider"):
        app.freeze()


def test_groups_may_share_a_provider_and_a_health_check(app):
    """As those do that one function makes: it is the same, so none hides another."""

    def session() -> Session:
        return Session()

    mailer = Mailer()

    def made(name: str) -> Group:
        group = Group(name)
        group.provide(session)
        group.provide(mailer)
        group.health_check("disk")(there)
        return group

    def there() -> bool:
        return True

    app.include(made("mail"))
    app.include(made("post"))
    frozen = app.freeze()
    assert [one.provides for one in frozen.providers] == [Session, Mailer]
    assert [one.name for one in frozen.checks] == ["disk"]


def test_a_health_check_of_a_group_hides_none_of_the_app(app):
    """One that fails was not looked at, since another had its name."""
    group = Group("group")

    @group.health_check("disk")
    def there() -> bool:
        return True

    @app.health_check("disk")
    def here() -> bool:
        return False

    app.include(group)
    with pytest.raises(SetupError, match=r"there \(.*\): there is a health check 'disk' already, by here \(.*Give it another name"):
        app.freeze()


@pytest.mark.parametrize(("name", "critical", "problem"), [("", True, "has an empty name"), ("disk", "no", "critical='no' says neither")])
def test_what_a_health_check_is_told_must_mean_something(app, name, critical, problem):
    """``critical="no"`` was a critical one."""
    with pytest.raises(SetupError, match=problem):
        app.health_check(name, critical=critical)(lambda: True)


class Around:
    def __init__(self, context, proceed) -> None: ...

    async def works(self, context, proceed):
        return await proceed()

    def waits_for_nobody(self, context, proceed):
        return proceed()


async def by_name(context, *, proceed):
    return await proceed()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (Around, "a class is no middleware.*app.add_middleware"),
        (Around(None, None).waits_for_nobody, "middleware must be async"),
        (by_name, "middleware takes two arguments"),
    ],
)
def test_what_cannot_be_called_and_awaited_is_no_middleware(app, given, problem):
    """It was accepted, and every call was Internal."""
    with pytest.raises(SetupError, match=problem):
        app.middleware(given)
    app.middleware(Around(None, None).works)
