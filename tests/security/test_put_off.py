"""Events that are delivered later keep whose they are, though the token that they were emitted with has ended meanwhile."""

import time
from typing import Any

import pytest

from cliffracer import Access, App, Identity, InvalidInput, provided, requires
from cliffracer.messaging.jetstream import JetStream
from cliffracer.security.authority import LATE, Authority, tokens_of
from cliffracer.security.revocations import Revocations
from cliffracer.security.tokens import RefusedToken
from cliffracer.settings import Settings
from cliffracer.testing import running
from cliffracer.wire.headers import Headers
from cliffracer.wire.subjects import named_within
from tests.security.corpus import KEY
from tests.support.inside import authority_of
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
    at = time.time() + 29 * 86_400
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


async def test_a_revocation_outlives_what_it_revokes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put off, and lay in a stream, as long as can be is refused to the end, also by a process that starts then."""
    known: list[tuple[Any, ...]] = []

    async def publish(*said: Any) -> None:
        known.append(said)

    def started() -> Authority:
        """Return one that knows what nobody may forget yet."""
        made = Authority(tokens_of(Settings(auth_secret_key=KEY)), backlog=1000.0)
        for key, until, since in known:
            if until > clock[0]:
                made.revocations.apply(key, until, since)
        return made

    clock = [time.time()]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    authority = started()
    authority.publish = publish
    session, due = authority.tokens.issue("ada", ttl=300, claims={"sid": "key:1"}), clock[0] + 1000
    at_once, later = authority.tokens.issue("ada", ttl=60, claims={"sid": "key:1"}), authority.lasting(session, due)
    await authority.revoke("key:1", clock[0] + 360)
    stored = clock[0] + 50
    for moment in (stored + 500, stored + 1005, due + 1, due + LATE + 999):
        clock[0] = moment
        for number in range(256):
            authority.revocations.revoke(f"some-{moment}-{number}", moment + 1)
        for one in (authority, started()):
            with pytest.raises(RefusedToken, match="revoked"):
                one.identity(later, stored=due + LATE - 1)
            with pytest.raises(RefusedToken, match="revoked" if moment < stored + 1010 else "revoked|too long ago"):
                one.identity(at_once, stored=stored)
    clock[0] = due + LATE + 1001
    with pytest.raises(RefusedToken, match="stored too long ago"):
        started().identity(later, stored=due + 1)


def test_what_is_over_is_forgotten_and_seldom_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that starts takes in a long list without looking it through again and again; of one that is over little stays."""
    clock, looks = [1000.0], list[float]()
    monkeypatch.setattr(time, "time", lambda: looks.append(clock[0]) or clock[0])
    known = Revocations()
    for number in range(10_000):
        known.apply(f"long-{number}", 2000.0)
    assert (len(known), len(looks) < 10) == (10_000, True)
    clock[0] = 3000.0
    for number in range(30_000):
        clock[0] += 0.001
        known.apply(f"brief-{number}", clock[0] + 1.0)
    assert len(known) < 5_000
    assert all(known.holds({"jti": f"brief-{number}", "sub": "ada", "iat": 0}) for number in range(29_001, 30_000))


def test_a_token_remembered_here_is_too_old_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """However well it is known, what was stored with it is not its subject's when nobody remembers whether it was revoked."""
    clock = [time.time()]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    authority = Authority(tokens_of(Settings(auth_secret_key=KEY)), backlog=1000.0)
    stored, token = clock[0] + 1, authority.tokens.issue("ada", ttl=60)
    for _ in range(2):
        clock[0] = stored + 1000
        assert authority.identity(token, stored=stored).subject == "ada"
    clock[0] = stored + 1061
    with pytest.raises(RefusedToken, match="stored too long ago"):
        authority.identity(token, stored=stored)


def test_a_token_that_was_looked_at_before_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is remembered whose it is, which saves verifying it; not that it was good: but for what was stored while it was."""
    clock = [time.time()]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    authority = Authority(tokens_of(Settings(auth_secret_key=KEY)))
    token = authority.tokens.issue("ada", ttl=60)
    stored = clock[0] + 30
    assert authority.identity(token) is authority.identity(token)
    clock[0] += 61
    with pytest.raises(RefusedToken, match="expired"):
        authority.identity(token)
    with pytest.raises(RefusedToken, match="expired"):
        authority.identity(token, stored=clock[0])
    assert authority.identity(token, stored=stored).subject == "ada"


def test_nobody_puts_off_for_longer_than_revocations_are_remembered() -> None:
    """It is said at once, with what to do; the service itself may, whom nobody revokes."""
    authority = Authority(tokens_of(Settings(auth_secret_key=KEY)))
    due = time.time() + 31 * 86_400
    with pytest.raises(InvalidInput, match=r"in the name of ada an event can be put off by 30 days at most\. .*app\.as_service\(\)"):
        authority.lasting(authority.tokens.issue("ada", ttl=60), due)
    own = authority.own_token("calendar")
    assert own is not None
    assert authority.identity(authority.lasting(own, due), stored=due + 1).subject == "calendar"


async def test_the_bucket_keeps_revocations_as_long() -> None:
    """A process that starts at the last moment is told."""
    async with running(app, auth_secret_key=KEY, auth_backlog="10d") as t:
        authority = authority_of(t)
        await authority.revoke("key:1", time.time() + 360)
        bucket = named_within(t.settings.namespace, "revocations")
        kept = await JetStream(t.up.bus).last_message(f"KV_{bucket}", f"$KV.{bucket}.{b'key:1'.hex()}")
        assert kept is not None
        assert int(Headers(kept.hdrs)["Nats-TTL"].removesuffix("s")) >= 20 * 86_400 + LATE


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
