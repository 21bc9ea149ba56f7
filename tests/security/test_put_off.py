"""Events that are delivered later keep whose they are, though the token that they were emitted with has ended meanwhile."""

import time
from typing import Any

import pytest

from cliffracer import Access, App, Identity, provided, requires
from cliffracer.security.authority import LATE, Authority, tokens_of
from cliffracer.security.tokens import RefusedToken
from cliffracer.settings import Settings
from cliffracer.testing import running
from tests.security.corpus import KEY
from tests.support.keys import private_pem, public_pem
from tests.support.waiting import eventually

app = App("calendar")
handled: list[Any] = []
told: list[Access] = []


@app.rpc
@requires
async def plan() -> None:
    await app.emit("calendar.due", "theirs", delay=2.5)
    with app.as_service():
        await app.emit("calendar.due", "ours", delay=2.5)


@app.on("calendar.due")
@requires
async def due(what: str, *, identity: Identity = provided) -> None:
    handled.append((what, identity.subject, identity.roles, identity.claims.get("name")))


@app.on_access
def audit(access: Access) -> None:
    told.append(access)


async def test_an_event_is_handled_as_of_whom_it_was_emitted() -> None:
    """Of a user whose token ends before, and of the service itself; the way that it came is proven still."""
    handled.clear()
    told.clear()
    async with running(app, auth_secret_key=KEY) as t:
        token = tokens_of(t.settings).issue("ada", ttl=1, roles=["user"], claims={"name": "Ada"})
        t.up.services[0].link.token = token
        await t.call("plan")
        t.up.services[0].link.token = None
        await eventually(lambda: len(handled) == 2, within=30)
        with pytest.raises(RefusedToken, match="expired"):
            tokens_of(t.settings).verify(token)
    assert sorted(handled) == [("ours", "calendar", ("service",), None), ("theirs", "ada", ("user",), "Ada")]
    assert {(one.via, one.proven) for one in told if one.handler == "due"} == {(("calendar",), True)}


def test_what_goes_along_is_good_from_then_on_only() -> None:
    """Not before, so that nobody can take it from the stream and use it, not long after, and not once what it was made of is revoked."""
    authority = Authority(tokens_of(Settings(auth_secret_key=KEY)))
    token = authority.tokens.issue("ada", ttl=60, roles=["user"], permissions=["a"])
    at = time.time() + 30 * 86_400
    later = authority.lasting(token, at)
    with pytest.raises(RefusedToken, match="not valid yet"):
        authority.identity(later)
    with pytest.raises(RefusedToken, match="not valid yet"):
        authority.identity(later, stored=at - 90)
    identity = authority.identity(later, stored=at + 1)
    assert (identity.subject, identity.roles, identity.permissions) == ("ada", ("user",), ("a",))
    with pytest.raises(RefusedToken, match="expired"):
        authority.identity(later, stored=at + LATE + 1)
    authority.revocations.revoke(authority.identity(token).claims["jti"], at + LATE)
    with pytest.raises(RefusedToken, match="revoked"):
        authority.identity(later, stored=at + 1)


def test_nothing_is_made_of_what_is_not_good() -> None:
    """A token that lasts long enough stays as it is; so does one that is refused here, or where no key signs."""
    pem = private_pem("EdDSA")
    authority, reader = (Authority(tokens_of(Settings(auth_keys=text))) for text in (pem, public_pem(pem)))
    long = authority.tokens.issue("ada", ttl=10 * LATE)
    short = authority.tokens.issue("ada", ttl=60)
    due = time.time() + LATE
    assert authority.lasting(long, due) == long
    assert reader.lasting(short, due) == short
    assert authority.lasting(short + "x", due) == short + "x"
    over = authority.tokens.issue("ada", ttl=1, since=time.time() - 100)
    assert authority.lasting(over, due) == over
