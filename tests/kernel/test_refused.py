"""What surrounds calls and is declared in a way that cannot work: it is refused, with its place and cure, before anything starts."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request

from cliffracer import App, Context, Identity, SetupError, Transaction


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
