"""Accounts on a real database: sign in, rotate, sign out everywhere, and tell strangers nothing."""

import asyncio
import os
import sys
import threading
import time
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from argon2 import PasswordHasher
from starlette.requests import Request

from cliffracer import Accounts, App, KeyValue, Overloaded, Unauthenticated, Unavailable, requires, shielding
from cliffracer.security import attempts
from cliffracer.security import sessions as module
from cliffracer.security.accounts import address_of
from cliffracer.security.passwords import Passwords
from cliffracer.security.sessions import Sessions
from cliffracer.testing import running
from tests.support.inside import authority_of, value_of
from tests.support.waiting import eventually

app = App("members")
app.use(Accounts(register=True, roles=("user",)))
ADA = {"username": "Ada", "password": "correct horse battery"}


@app.rpc
@app.get("/hello")
@requires(role="user")
async def hello() -> str:
    return "hello"


def bearer(tokens: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def signed_in(t) -> dict[str, str]:
    assert (await t.http.post("/auth/register", json=ADA)).status_code in {201, 409}
    reply = await t.http.post("/auth/login", json=ADA)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_life_of_a_session() -> None:
    """Register, sign in, use the token, refresh, sign out; then nothing of the session is good any more."""
    async with running(app) as t:
        tokens = await signed_in(t)
        me = (await t.http.get("/auth/me", headers=bearer(tokens))).json()
        assert (me["username"], me["roles"]) == ("ada", ["user"])
        assert (await t.http.get("/hello", headers=bearer(tokens))).json() == "hello"
        fresh = (await t.http.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})).json()
        assert (await t.http.post("/auth/logout", headers=bearer(fresh))).status_code == 204
        for old in (tokens, fresh):
            assert (await t.http.get("/hello", headers=bearer(old))).status_code == 401
            again = await t.http.post("/auth/refresh", json={"refresh_token": old["refresh_token"]})
            assert again.status_code == 401
    await eventually(lambda: not any(thread.name.startswith("passwords") for thread in threading.enumerate()))


async def test_reuse_of_a_refresh_token() -> None:
    """Of twenty uses at once one wins, and the reuse ends the session for everybody."""
    async with running(app) as t:
        tokens = await signed_in(t)
        body = {"refresh_token": tokens["refresh_token"]}
        replies = await asyncio.gather(*(t.http.post("/auth/refresh", json=body) for _ in range(20)))
        won = [reply.json() for reply in replies if reply.status_code == 200]
        assert len(won) == 1
        assert {reply.status_code for reply in replies} == {200, 401}
        after = await t.http.post("/auth/refresh", json={"refresh_token": won[0]["refresh_token"]})
        assert after.status_code == 401
        assert (await t.http.get("/hello", headers=bearer(won[0]))).status_code == 401


@pytest.mark.parametrize("name", ["", "  \n", "a" * 257, "a\0b", "a\u200bda", "a\nb", "\ufdfa" * 200])
async def test_names_that_nobody_can_have(name: str) -> None:
    """Nobody registers as nobody, or under a name that had to be cut to that of somebody else."""
    async with running(app) as t:
        longest = {"username": "a" * 256, "password": ADA["password"]}
        assert (await t.http.post("/auth/register", json=longest)).status_code == 201
        reply = await t.http.post("/auth/register", json={**ADA, "username": name})
        assert (reply.status_code, reply.json()["errors"][0]["path"]) == (422, "username")
        assert (await t.http.post("/auth/login", json={**longest, "username": name})).status_code == (422 if name.strip() else 401)
        assert (await t.http.post("/auth/login", json=longest)).status_code == 200
        assert [one.username for one in await sessions_of(t).accounts()] == ["a" * 256]


async def test_names_that_are_taken() -> None:
    """Who registers under the name of somebody else is told so, and changes nothing of that account."""
    async with running(app) as t:
        await signed_in(t)
        for same in (" ADA ", "\uff21da", "\u1d2cda"):  # as wide letters, and as a small raised A: who reads them would take them for Ada
            again = await t.http.post("/auth/register", json={"username": same, "password": "another password"})
            assert again.status_code == 409
        assert (await t.http.post("/auth/login", json={**ADA, "password": "another password"})).status_code == 401
        await signed_in(t)


async def test_a_name_is_the_same_on_every_keyboard() -> None:
    """One writes an accent as a character of its own, another as a part of the letter: whoever registered on one signs in on the other."""
    async with running(app) as t:
        registered, typed = {**ADA, "username": "Jose\u0301"}, {**ADA, "username": "JOS\u00c9"}
        assert (await t.http.post("/auth/register", json=registered)).status_code == 201
        assert (await t.http.post("/auth/login", json=typed)).status_code == 200


async def test_what_is_too_long_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accents are sorted to compare a text: of a body of five megabytes that took ten minutes, in which nobody else was served."""
    looked: list[int] = []
    normalize = unicodedata.normalize

    def counted(form: Any, text: str) -> str:
        looked.append(len(text))
        return normalize(form, text)

    monkeypatch.setattr(unicodedata, "normalize", counted)
    long = "\u0301\u0316" * 2000
    async with running(app) as t:
        for path in ("login", "register"):
            for given in ({**ADA, "password": long}, {**ADA, "username": long}):
                assert (await t.http.post(f"/auth/{path}", json=given)).status_code == 422
    assert max(looked) <= 1024


async def test_passwords_that_are_too_short() -> None:
    """Seven characters are refused wherever a password is chosen, and eight are enough."""
    async with running(app) as t:
        tokens = await signed_in(t)
        asked = await sessions_of(t).ask_reset("ada", "")
        for way, body in (
            ("register", {"username": "bob", "password": "7 chars"}),
            ("password", {"old": ADA["password"], "new": "7 chars"}),
            ("reset/confirm", {"token": asked.token, "password": "7 chars"}),
        ):
            reply = await t.http.post(f"/auth/{way}", json=body, headers=bearer(tokens))
            assert (reply.status_code, reply.json()["errors"]) == (422, [{"path": "password", "message": "8 characters at least"}])
        assert (await t.http.post("/auth/register", json={"username": "bob", "password": "8 chars!"})).status_code == 201


async def test_tokens_are_not_each_other() -> None:
    """A refresh token opens nothing, an access token refreshes nothing."""
    async with running(app) as t:
        tokens = await signed_in(t)
        wrong = {"access_token": tokens["refresh_token"]}
        assert (await t.http.get("/hello", headers=bearer(wrong))).status_code == 401
        assert (await t.http.post("/auth/refresh", json={"refresh_token": tokens["access_token"]})).status_code == 401
        assert (await t.http.get("/hello", headers=bearer(tokens))).status_code == 200


async def test_strangers_are_told_nothing() -> None:
    """Unknown name and wrong password are answered alike."""
    async with running(app) as t:
        await signed_in(t)
        wrong = await t.http.post("/auth/login", json={**ADA, "password": "wrong password"})
        unknown = await t.http.post("/auth/login", json={"username": "bob", "password": "wrong password"})
        assert (wrong.status_code, wrong.content) == (unknown.status_code, unknown.content) == (401, unknown.content)
        too_long = await t.http.post("/auth/login", json={**ADA, "password": "x" * 2000})
        assert too_long.status_code == 422
        assert "xxx" not in too_long.text


@pytest.mark.parametrize("name", ["ada", "nobody"])
async def test_guesses_are_limited(name: str) -> None:
    """After ten guesses at one account comes 429 with the time to wait, whether or not there is such an account."""
    async with running(app) as t:
        guess = {"username": name, "password": "wrong password"}
        replies = [await t.http.post("/auth/login", json=guess) for _ in range(12)]
        assert [reply.status_code for reply in replies] == [401] * 10 + [429] * 2
        assert int(replies[-1].headers["retry-after"]) > 200


async def test_addresses_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many attempts from one address, whatever they try: names, new accounts, new passwords."""
    monkeypatch.setattr(module, "PER_ADDRESS", 5)
    async with running(app) as t:
        ways = [("login", {"username": f"n{n}", "password": "wrong password"}) for n in range(3)]
        ways += [("register", ADA), ("reset", {"username": "ada"}), ("login", ADA), ("register", ADA), ("reset", {"username": "bob"})]
        found = [(await t.http.post(f"/auth/{way}", json=body)).status_code for way, body in ways]
    assert found == [401, 401, 401, 201, 202, 429, 429, 429]


async def test_guesses_of_who_is_signed_in_are_limited_and_mails_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds a browser signed in guesses at its password no oftener than others; nobody has a mailbox filled."""
    monkeypatch.setattr(module, "PER_ACCOUNT", 2)
    async with running(app) as t:
        tokens = await signed_in(t)
        guess = {"old": "wrong password", "new": "another password"}
        found = [(await t.http.post("/auth/password", json=guess, headers=bearer(tokens))).status_code for _ in range(3)]
        assert found == [401, 401, 429]
        found = [(await t.http.post("/auth/reset", json={"username": "ada"})).status_code for _ in range(5)]
        assert found == [202] * 3 + [429] * 2
        for _ in range(3):  # who knows it is no guesser, however often he comes
            await signed_in(t)


async def test_old_attempts_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes up names fills no table: attempts go when their window is over."""
    monkeypatch.setattr(attempts, "_SWEEP", 1)
    monkeypatch.setattr(attempts, "WINDOW", 0)
    async with running(app) as t:
        for name in ("a", "b", "c"):
            await t.http.post("/auth/login", json={"username": name, "password": "wrong password"})
        sessions = value_of(t, Sessions)
        assert await sessions._db.fetch_value(int, "SELECT count(*) FROM cliffracer_attempts") <= 2


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
    ],
)
def test_whose_attempts(host: str, counted: str) -> None:
    """Who has a network of addresses is one all the same."""
    assert address_of(Request({"type": "http", "client": (host, 1)})) == counted


async def test_hashes_of_old_parameters_are_made_anew() -> None:
    """Who signs in with a hash of weaker parameters has one of today's afterwards, and the session goes on."""
    async with running(app) as t:
        await signed_in(t)
        db = value_of(t, Sessions)._db
        weak = PasswordHasher(time_cost=1, memory_cost=256, parallelism=1).hash(ADA["password"])
        await db.execute("UPDATE cliffracer_accounts SET password = %s", weak)
        tokens = await signed_in(t)
        assert (await db.fetch_value(str, "SELECT password FROM cliffracer_accounts")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert (await t.http.get("/hello", headers=bearer(tokens))).status_code == 200
        await signed_in(t)


def sessions_of(t) -> Sessions:
    return value_of(t, Sessions)


def after_the_first_check(sessions: Sessions, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Awaitable[None]]) -> None:
    """Let something happen while a sign-in that has checked its password is on its way."""
    check, due = sessions._passwords.check, [happens]

    async def checked(password: str, known: str | None) -> bool:
        good = await check(password, known)
        while due:
            await due.pop()()
        return good

    monkeypatch.setattr(sessions._passwords, "check", checked)


@pytest.mark.parametrize("way", ["tokens", "cookie"])
@pytest.mark.parametrize("what", ["changed", "reset", "disabled"])
async def test_sign_ins_on_their_way_do_not_survive(what: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was signing in by the old password while it was changed, or while the account was disabled, is not signed in."""
    async with running(app) as t:
        await signed_in(t)
        sessions = sessions_of(t)
        ada = await sessions.account("ada")

        async def happens() -> None:
            if what == "changed":
                await sessions.set_password(ada.id, ADA["password"], "another password")
            elif what == "reset":
                await sessions.reset((await sessions.ask_reset("ada", "192.0.2.9")).token or "", "another password")
            else:
                await sessions.change("ada", roles=(), permissions=(), disabled=True)

        after_the_first_check(sessions, monkeypatch, happens)
        name, password, address = "ada", ADA["password"], "192.0.2.7"
        with pytest.raises(Unauthenticated, match="name or password is wrong"):
            await (
                sessions.sign_in(name, password, address) if way == "tokens" else sessions.sign_in_browser(name, password, address, 60.0)
            )
        assert await sessions._db.fetch_value(int, "SELECT count(*) FROM cliffracer_sessions") == 0


async def test_a_sign_in_waits_for_a_change_that_is_not_committed() -> None:
    """Whoever comes while the password is being changed is told after that, by the new one."""
    async with running(app) as t:
        await signed_in(t)
        sessions = sessions_of(t)
        db, hashed = sessions._db, await sessions._passwords.hash("another password")
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid"
        async with db.transaction():
            await db.execute("UPDATE cliffracer_accounts SET password = %s", hashed)
            signing = asyncio.create_task(sessions.sign_in("ada", ADA["password"], "192.0.2.7"))
            while not signing.done() and await db.fetch_value(int, waits) == 0:  # noqa: ASYNC110 - it is the server that knows
                await asyncio.sleep(0.01)
            assert not signing.done()
        with pytest.raises(Unauthenticated):
            await signing


async def test_a_sign_in_has_the_roles_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles that are taken away while somebody signs in are not in what that one gets."""
    async with running(app) as t:
        await signed_in(t)
        sessions = sessions_of(t)
        after_the_first_check(sessions, monkeypatch, lambda: sessions.change("ada", roles=("guest",), permissions=(), disabled=False))
        signed = await sessions.sign_in("ada", ADA["password"], "192.0.2.7")
        me = await t.http.get("/auth/me", headers={"Authorization": f"Bearer {signed.access_token}"})
        assert me.json()["roles"] == ["guest"]


async def test_a_hash_made_anew_brings_no_old_password_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that is changed while the hash of the old one is made anew stays changed."""
    async with running(app) as t:
        await signed_in(t)
        sessions = sessions_of(t)
        ada, old = await sessions.account("ada"), ADA["password"]
        weak = PasswordHasher(time_cost=1, memory_cost=256, parallelism=1).hash(old)
        await sessions._db.execute("UPDATE cliffracer_accounts SET password = %s", weak)
        make, due = sessions._passwords.hash, [True]

        async def made(password: str) -> str:
            if password == old and due:
                due.clear()
                await sessions.set_password(ada.id, old, "another password")
            return await make(password)

        monkeypatch.setattr(sessions._passwords, "hash", made)
        tokens = await sessions.sign_in("ada", old, "192.0.2.7")
        assert not due
        assert (await t.http.get("/auth/me", headers={"Authorization": f"Bearer {tokens.access_token}"})).status_code == 401
        assert (await t.http.post("/auth/login", json=ADA)).status_code == 401
        assert (await t.http.post("/auth/login", json={**ADA, "password": "another password"})).status_code == 200


@pytest.mark.parametrize("what", ["changed", "disabled"])
async def test_what_cannot_be_told_is_not_changed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no other process can be told that sessions are over, the password and the account stay as they are, to be changed later."""
    async with running(app) as t:
        for _ in range(2):
            await signed_in(t)
        sessions = sessions_of(t)
        ada = await sessions.account("ada")

        async def changes() -> None:
            if what == "changed":
                await sessions.set_password(ada.id, ADA["password"], "another password")
            else:
                await sessions.change("ada", roles=(), permissions=(), disabled=True)

        async def away(*_: object) -> None:
            raise Unavailable("nobody can be told")

        with monkeypatch.context() as patch:
            patch.setattr(sessions._authority, "publish", away)
            with pytest.raises(Unavailable):
                await changes()
        assert (await t.http.post("/auth/login", json=ADA)).status_code == 200
        assert await sessions._db.fetch_value(int, "SELECT count(*) FROM cliffracer_sessions") == 3
        await changes()
        assert (await t.http.post("/auth/login", json=ADA)).status_code == 401
        assert await sessions._db.fetch_value(int, "SELECT count(*) FROM cliffracer_sessions") == 0


async def test_the_sessions_of_an_account_end_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, the database is asked as often as for one, and others are told of several at once, all of them."""
    async with running(app) as t:
        sessions = sessions_of(t)
        asked: list[str] = []
        telling: set[str] = set()
        told, most = 0, 0

        class Counted:
            def __getattr__(self, name: str) -> object:
                asked.append(name)
                return getattr(database, name)

        async def publish(key: str, *_: object) -> None:
            nonlocal told, most
            telling.add(key)
            told, most = told + 1, max(most, len(telling))
            await asyncio.sleep(0)
            telling.remove(key)

        database, sessions._db = sessions._db, Counted()
        monkeypatch.setattr(sessions._authority, "publish", publish)
        monkeypatch.setattr(module, "_TOLD", 20)
        counts = []
        for number in (1, 50):
            account = await sessions.create(f"ada {number}", ADA["password"])
            opened = "INSERT INTO cliffracer_sessions SELECT %s || g, %s, '', now() + interval '1 day' FROM generate_series(1, %s) g"
            await database.execute(opened, f"{number} ", account.id, number)
            asked.clear()
            await sessions.change(account.username, roles=(), permissions=(), disabled=False)
            counts.append(len(asked))
        assert counts[0] == counts[1]
        assert (told, most) == (51, 20)
        assert await database.fetch_value(int, "SELECT count(*) FROM cliffracer_sessions") == 0


@pytest.mark.parametrize("what", ["ended", "changed", "disabled"])
async def test_what_its_asker_does_not_wait_for_is_done_whole(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is cancelled while others are told leaves no session that is refused and there still, and no half of a change."""
    telling, goes_on, put = asyncio.Event(), asyncio.Event(), KeyValue.put

    async def slowly(*args: Any, **kwargs: Any) -> int:
        telling.set()
        await goes_on.wait()
        return await put(*args, **kwargs)

    async with running(app) as t:
        await signed_in(t)
        sessions = sessions_of(t)
        ada = await sessions.account("ada")
        session = await sessions._db.fetch_value(str, "SELECT id FROM cliffracer_sessions")
        ways = {
            "ended": lambda: sessions.end(session),
            "changed": lambda: sessions.set_password(ada.id, ADA["password"], "another password"),
            "disabled": lambda: sessions.change("ada", roles=(), permissions=(), disabled=True),
        }
        monkeypatch.setattr(KeyValue, "put", slowly)
        asking = asyncio.create_task(ways[what]())
        await telling.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        goes_on.set()
        for task in list(shielding._at_work):
            await asyncio.wait([task])
        assert await sessions._db.fetch_value(int, "SELECT count(*) FROM cliffracer_sessions") == 0
        assert session in authority_of(t).revocations._tokens
        assert (await t.http.post("/auth/login", json=ADA)).status_code == (200 if what == "ended" else 401)


async def test_who_cannot_be_signed_out_everywhere_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no other process can be told, signing out fails and the session stays, to be ended later: half an end would be none."""
    async with running(app) as t:
        tokens = await signed_in(t)
        sessions = sessions_of(t)
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}

        async def away(*_: object, **__: object) -> None:
            raise Unavailable("nobody can be told")

        with monkeypatch.context() as patch:
            patch.setattr(KeyValue, "put", away)
            assert (await t.http.post("/auth/logout", headers=bearer)).status_code == 503
        assert await sessions._db.fetch_value(int, "SELECT count(*) FROM cliffracer_sessions") == 1
        assert (await t.http.get("/auth/me", headers=bearer)).status_code == 200
        assert (await t.http.post("/auth/logout", headers=bearer)).status_code == 204
        assert await sessions._db.fetch_value(int, "SELECT count(*) FROM cliffracer_sessions") == 0
        assert (await t.http.get("/auth/me", headers=bearer)).status_code == 401


async def test_sign_ins_at_once_with_an_old_hash() -> None:
    """Several who sign in at once, of whom one makes the hash anew, all are signed in."""
    async with running(app) as t:
        await signed_in(t)
        weak = PasswordHasher(time_cost=1, memory_cost=256, parallelism=1).hash(ADA["password"])
        await sessions_of(t)._db.execute("UPDATE cliffracer_accounts SET password = %s", weak)
        replies = await asyncio.gather(*(t.http.post("/auth/login", json=ADA) for _ in range(5)))
        assert [reply.status_code for reply in replies] == [200] * 5


async def test_many_sign_in_at_once() -> None:
    """Hashing waits in line in two threads, so that memory stays; a line that is too long is told to come later."""
    passwords = Passwords()
    try:
        known = await passwords.hash(ADA["password"])
        tried = await asyncio.gather(*(passwords.check("wrong password", known) for _ in range(80)), return_exceptions=True)
    finally:
        passwords.close()
    assert len(passwords._threads._threads) == 2
    assert tried.count(False) == 64
    assert sum(isinstance(one, Overloaded) for one in tried) == 16


async def test_changing_the_password() -> None:
    """Only who knows the old one may; then all sessions are over and the new one holds."""
    async with running(app) as t:
        tokens = await signed_in(t)
        bad = await t.http.post("/auth/password", json={"old": "wrong", "new": "another password"}, headers=bearer(tokens))
        assert bad.status_code == 401
        good = await t.http.post("/auth/password", json={"old": ADA["password"], "new": "another password"}, headers=bearer(tokens))
        assert good.status_code == 204
        assert (await t.http.get("/hello", headers=bearer(tokens))).status_code == 401
        assert (await t.http.post("/auth/login", json=ADA)).status_code == 401
        assert (await t.http.post("/auth/login", json={**ADA, "password": "another password"})).status_code == 200


async def test_identities_without_an_account() -> None:
    """Who is known by something else than an account has no password to change."""
    async with running(app) as t:
        body = {"old": "a password of mine", "new": "another password"}
        for subject, status in (("a-service", 403), (str(UUID(int=7)), 401)):
            reply = await t.http.post("/auth/password", json=body, headers={"Authorization": f"Bearer {t.token(subject)}"})
            assert reply.status_code == status
            assert (await t.http.post("/auth/logout", headers={"Authorization": f"Bearer {t.token(subject)}"})).status_code == 204


async def test_signing_out_without_a_session() -> None:
    """A token that no sign-in gave is itself refused after it signed out, for as long as it would have been good; another one is not."""
    async with running(app) as t:
        first, second = (t.token("a-service", ttl="365d") for _ in range(2))
        assert (await t.http.post("/auth/logout", headers=bearer({"access_token": first}))).status_code == 204
        assert (await t.http.get("/auth/me", headers=bearer({"access_token": first}))).status_code == 401
        assert (await t.http.get("/auth/me", headers=bearer({"access_token": second}))).status_code == 200
        held = authority_of(t).revocations._tokens
        assert max(held.values()) > time.time() + 364 * 86_400


async def test_changing_roles() -> None:
    """What an account may do changes at once, everywhere: its sessions end, and the next token has the new roles."""
    async with running(app) as t:
        tokens = await signed_in(t)
        sessions = value_of(t, Sessions)
        await sessions.change("ada", roles=("admin",), permissions=(), disabled=False)
        assert (await t.http.get("/auth/me", headers=bearer(tokens))).status_code == 401
        again = (await t.http.post("/auth/login", json=ADA)).json()
        assert (await t.http.get("/auth/me", headers=bearer(again))).json()["roles"] == ["admin"]
        assert (await t.http.get("/hello", headers=bearer(again))).status_code == 403
        await sessions.change("ada", roles=("user",), permissions=(), disabled=True)
        assert (await t.http.post("/auth/login", json=ADA)).status_code == 401


async def test_command_line() -> None:
    """Accounts are added, listed and changed by the command; the one it adds can sign in."""
    async with running(app) as t:
        environment = {
            **os.environ, "CLIFFRACER_NATS_URL": t.settings.nats_url, "DATABASE_URL": t.settings.database_url,
            "CLIFFRACER_NAMESPACE": t.settings.namespace, "AUTH_SECRET_KEY": t.settings.auth_secret_key.reveal(),
        }  # fmt: skip

        async def users(*words: str, said: str = "") -> str:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cliffracer", "users", *words, env=environment,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await process.communicate(said.encode())
            assert process.returncode == 0, err.decode()
            return out.decode()

        await users("add", "Bob", "--role", "user", said="a long password\n")
        tokens = (await t.http.post("/auth/login", json={"email": "bob", "password": "a long password"})).json()
        assert (await t.http.get("/hello", headers=bearer(tokens))).status_code == 200
        await users("roles", "bob", "--role", "guest")
        assert "guest" in await users("ls")
        assert (await t.http.get("/hello", headers=bearer(tokens))).status_code == 401


async def test_resetting_the_password() -> None:
    """The token comes by an event, is good once, and ends all sessions; nobody learns from the answer who has an account."""
    async with running(app) as t:
        tokens = await signed_in(t)
        known = await t.http.post("/auth/reset", json={"username": "ada"})
        unknown = await t.http.post("/auth/reset", json={"username": "bob"})
        assert (known.status_code, known.content) == (unknown.status_code, unknown.content) == (202, known.content)
        await t.settled()
        sent = {event.data["username"]: event.data["token"] for event in t.emitted("accounts.reset_asked")}
        assert sent["bob"] is None
        body = {"token": sent["ada"], "password": "yet another password"}
        assert (await t.http.get("/hello", headers={"Authorization": f"Bearer {sent['ada']}"})).status_code == 401
        assert (await t.http.post("/auth/reset/confirm", json=body)).status_code == 204
        assert (await t.http.post("/auth/reset/confirm", json=body)).status_code == 401
        assert (await t.http.post("/auth/reset/confirm", json={**body, "token": tokens["access_token"]})).status_code == 401
        assert (await t.http.get("/hello", headers=bearer(tokens))).status_code == 401
        assert (await t.http.post("/auth/login", json={**ADA, "password": body["password"]})).status_code == 200


async def test_a_reset_is_used_once_also_by_two_at_once() -> None:
    """Of a thief and the owner one sets the password, and the other is told."""
    async with running(app) as t:
        await signed_in(t)
        sessions = sessions_of(t)
        token = (await sessions.ask_reset("ada", "192.0.2.9")).token or ""
        resets = (sessions.reset(token, f"another password {number}") for number in range(4))
        ends = await asyncio.gather(*resets, return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["NoneType", *["Unauthenticated"] * 3]


@pytest.mark.parametrize(
    "change", ["UPDATE cliffracer_accounts SET disabled = true", "UPDATE cliffracer_sessions SET expires_at = now() - interval '1 s'"]
)
async def test_a_session_is_not_refreshed_for_who_may_not_have_one(change: str) -> None:
    """The table has the last word, whoever changed it."""
    async with running(app) as t:
        tokens = await signed_in(t)
        await sessions_of(t)._db.execute(change)
        assert (await t.http.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})).status_code == 401


async def test_sessions_that_are_over_are_not_kept() -> None:
    """The next sign-in, of whomever, takes them away."""
    async with running(app) as t:
        await signed_in(t)
        db = sessions_of(t)._db
        await db.execute("UPDATE cliffracer_sessions SET expires_at = now() - interval '1 s'")
        await signed_in(t)
        assert await db.fetch_value(int, "SELECT count(*) FROM cliffracer_sessions") == 1


async def test_calling_as_who_signs_in() -> None:
    """``call --login`` asks for the password, signs in over HTTP and calls with that token; what goes wrong is told without it."""
    async with running(app) as t:
        await signed_in(t)
        environment = {**os.environ, "CLIFFRACER_NATS_URL": t.settings.nats_url, "CLIFFRACER_NAMESPACE": t.settings.namespace}

        async def call(*words: str, said: str = "") -> tuple[int | None, str]:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cliffracer", "call", "members.hello", *words, env=environment,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            out, _ = await process.communicate(said.encode())
            return process.returncode, out.decode()

        url = ("--login-url", f"{t.url}/auth/login")
        assert await call("--login", "ada", *url, said=f"{ADA['password']}\n") == (0, '"hello"\n')
        code, told = await call("--login", "ada", *url, said="another secret\n")
        assert (code, "name or password of ada is wrong" in told, "another secret" in told) == (1, True, False)
        for words, problem in (
            (("--login", "ada", "--login-url", f"{t.url}/no"), "is that where Accounts() signs in?"),
            (("--login", "ada", "--login-url", "http://127.0.0.1:9/x"), "Nobody can be asked"),
            (("--login", "ada", "--login-url", "http://example.org/auth/login"), "in the clear"),
            (("--login", "ada", "--token", "x.y.z"), "give --token or --login"),
            (url, "say who"),
            ((), "Unauthenticated"),
        ):
            code, told = await call(*words, said="a secret of mine\n")
            assert code != 0
            assert problem in told, told
            assert "a secret of mine" not in told
