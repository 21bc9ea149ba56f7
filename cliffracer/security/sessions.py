"""Accounts and their sessions in PostgreSQL."""

import asyncio
import secrets
import time
import unicodedata
from importlib import resources
from typing import Any
from uuid import UUID, uuid4

import msgspec

from cliffracer.errors import Conflict, InvalidInput, NotFound, SetupError, Unauthenticated
from cliffracer.events import Event
from cliffracer.security.attempts import PER_ACCOUNT, PER_ADDRESS, PER_RESET, Attempts, digest
from cliffracer.security.authority import Authority
from cliffracer.security.completion import runs_to_completion
from cliffracer.security.passwords import Passwords
from cliffracer.security.tokens import REFRESH, RefusedToken
from cliffracer.settings import Discreet, Settings

LONGEST_NAME = 256
RESET = "reset+jwt"
RESET_LIFE = 900.0
NOBODY = UUID(int=0)
_WHO = """
    SELECT id, username, roles, permissions, disabled, password FROM (
        SELECT 0 AS turn, id, username, roles, permissions, disabled, password FROM cliffracer_accounts WHERE username = %s
        UNION ALL SELECT 1, %s::uuid, '', '{}'::text[], '{}'::text[], true, %s::text
    ) found ORDER BY turn LIMIT 1
"""
"""An account, or a disabled dummy, so that both cost the same."""
_OPEN = """
    WITH found AS (
        SELECT id, username, roles, permissions FROM cliffracer_accounts WHERE id = %s AND password = %s AND NOT disabled FOR SHARE
    ), opened AS (
        INSERT INTO cliffracer_sessions (id, account, refresh, expires_at)
        SELECT %s, id, %s, now() + make_interval(secs => %s) FROM found
    ) SELECT id, username, roles, permissions FROM found
"""
"""Opens a session if the password is still the one that was checked: a concurrent change of the account waits for it, or is waited for.

So the session is either refused, or there when that change ends all sessions.
"""
_FORGET = """
    DELETE FROM cliffracer_sessions WHERE id IN (SELECT id FROM cliffracer_sessions WHERE expires_at < now() FOR UPDATE SKIP LOCKED)
"""
"""Removes expired sessions, except locked ones: waiting for each other could end in a deadlock."""
_END = "DELETE FROM cliffracer_sessions WHERE id = %s RETURNING id, extract(epoch FROM expires_at)::float AS until"
_END_ALL = _END.replace("id = %s", "account = %s")
_TOLD = 1000
"""Sessions whose end is published at the same time: a program may have signed in every minute of a month."""
_TRIES = 3
"""Attempts to check a password while the account changes, such as its hash to new parameters."""
_LOCK = 0x636C6967  # advisory lock: two replicas that make the tables at once would collide


class Account(msgspec.Struct, frozen=True):
    """Who may sign in, without the password."""

    id: UUID
    username: str
    roles: list[str]
    permissions: list[str]
    disabled: bool = False


class ResetAsked(Discreet, Event, subject="accounts.reset_asked"):
    """A reset was asked for: send the user the token. It is None if there is no such account: then send nothing."""

    username: str
    token: str | None = None

    def __repr__(self) -> str:
        return f"<ResetAsked {self.username}>"


class Signed(Discreet, msgspec.Struct, frozen=True):
    """The answer to a sign-in (RFC 6749, 5.1)."""

    access_token: str
    refresh_token: str
    expires_in: float
    token_type: str = "Bearer"  # noqa: S105 - the name of a kind

    def __repr__(self) -> str:
        return f"<Signed for {self.expires_in:g} s>"


async def make_tables(db: Any, *, create: bool) -> None:
    """Create the tables if they do not exist; without ``create``, as in production, `SetupError` says how to."""
    if await db.fetch_value("SELECT to_regclass('cliffracer_attempts') IS NOT NULL"):
        return
    if not create:
        raise SetupError("The tables of accounts are not there, and production makes none by itself. Make them by: cliffracer users ls")
    text = resources.files("cliffracer.security").joinpath("accounts.sql").read_text(encoding="utf-8")
    async with db.transaction():
        await db.fetch("SELECT pg_advisory_xact_lock(%s)", _LOCK)
        for statement in filter(str.strip, text.split(";")):
            await db.execute(statement)


class Sessions:
    """Signs in and out. ``db`` is the open database."""

    def __init__(self, db: Any, authority: Authority, settings: Settings, passwords: Passwords) -> None:
        self._db = db
        self._authority = authority
        self._settings = settings
        self._passwords = passwords
        self._attempts = Attempts(db)

    async def create(self, username: str, password: str, roles: tuple[str, ...] = (), permissions: tuple[str, ...] = ()) -> Account:
        """Return a new account; `Conflict` if the name is taken."""
        if not (name := normal(username)):
            raise _refused_name("it is empty")
        hashed = await self._passwords.hash(password)
        account = Account(uuid4(), name, list(roles), list(permissions))
        made = await self._db.execute(
            "INSERT INTO cliffracer_accounts (id, username, password, roles, permissions) VALUES (%s, %s, %s, %s, %s) "
            "ON CONFLICT (username) DO NOTHING",
            account.id, name, hashed, account.roles, account.permissions,
        )  # fmt: skip
        if not made:
            raise Conflict("that name is taken")
        return account

    async def register(self, username: str, password: str, address: str, roles: tuple[str, ...]) -> Account:
        """Return a new account for a visitor, limited by address; `Conflict` if the name is taken."""
        await self._attempts.count(f"address {address}", PER_ADDRESS)
        return await self.create(username, password, roles)

    async def sign_in(self, username: str, password: str, address: str) -> Signed:
        """Return tokens of a new session; `Unauthenticated`, the same after the same work for every reason."""
        return self._signed(*await self._begin(username, password, address, self._settings.auth_refresh_ttl))

    async def sign_in_browser(self, username: str, password: str, address: str, lasts: float) -> str:
        """Return the text of a cookie for a new session; `Unauthenticated` as `sign_in`."""
        account, session, _ = await self._begin(username, password, address, lasts)
        rights = {"roles": account.roles, "permissions": account.permissions}
        begin = self._authority.browsers.begin
        return begin(str(account.id), lasts=lasts, session=session, claims={"username": account.username}, **rights)

    async def refresh(self, token: str) -> Signed:
        """Return new tokens of a session for its refresh token, which is used up; a second use ends the session."""
        try:
            claims = self._authority.tokens.verify(token, typ=REFRESH)
        except RefusedToken:
            raise Unauthenticated("the token is not valid", reason="invalid_token") from None
        session, fresh = claims.get("sid", ""), secrets.token_hex(16)
        found = await self._db.fetch_one(
            "UPDATE cliffracer_sessions s SET refresh = %s FROM cliffracer_accounts a WHERE s.id = %s AND s.refresh = %s "
            "AND a.id = s.account AND NOT a.disabled AND s.expires_at > now() RETURNING a.id, a.username, a.roles, a.permissions",
            fresh, session, claims.get("rid", ""),
        )  # fmt: skip
        if found is None:
            await self.end(session)  # reused: by its owner or a thief, and we cannot tell which
            raise Unauthenticated("the token is not valid", reason="invalid_token")
        return self._signed(msgspec.convert(found, Account), session, fresh)

    @runs_to_completion("a sign-out")
    async def end(self, session: str, shown_until: float = 0.0) -> None:
        """End a session: its refresh token, its cookie and all of its access tokens are refused from now on.

        ``shown_until``: when the token or cookie that was shown expires, which may be later than is known here. If other processes
        cannot be told (`Unavailable`), it is not ended.
        """
        async with self._db.transaction():
            ended = await self._db.fetch_one(_END, session)
            if session:
                await self._refuse(session, max(shown_until, ended["until"] if ended is not None else 0.0))

    async def end_all(self, account: UUID) -> None:
        """End all sessions of an account, in the transaction that changes it: if other processes cannot be told, nothing is changed."""
        ended = await self._db.fetch(_END_ALL, account)
        for start in range(0, len(ended), _TOLD):
            some = ended[start : start + _TOLD]
            for failed in await asyncio.gather(*(self._refuse(row["id"], row["until"]) for row in some), return_exceptions=True):
                if failed is not None:
                    raise failed

    async def _refuse(self, session: str, until: float) -> None:
        """Publish the end of a session whose tokens may be shown until a moment."""
        await self._authority.revoke(session, max(time.time() + self._settings.auth_access_ttl, until) + 60)

    async def account(self, username: str) -> Account:
        """Return an account; `NotFound`."""
        row = await self._db.fetch_one(
            "SELECT id, username, roles, permissions, disabled FROM cliffracer_accounts WHERE username = %s", normal(username)
        )
        if row is None:
            raise NotFound(f"there is no account {username}")
        return msgspec.convert(row, Account)

    async def accounts(self) -> list[Account]:
        """Return all accounts, by name."""
        rows = await self._db.fetch("SELECT id, username, roles, permissions, disabled FROM cliffracer_accounts ORDER BY username")
        return msgspec.convert(rows, list[Account])

    async def set_password(self, account: UUID, old: str, new: str) -> None:
        """Change a password, given the old one, and end every session."""
        await self._attempts.count(f"account {account}", PER_ACCOUNT)
        for _ in range(_TRIES):
            known = await self._db.fetch_value("SELECT password FROM cliffracer_accounts WHERE id = %s AND NOT disabled", account)
            if not await self._passwords.check(old, known):
                break
            if await self._set_password(account, known, await self._passwords.hash(new)):
                return
        raise Unauthenticated("name or password is wrong")

    async def ask_reset(self, username: str, address: str) -> ResetAsked:
        """Return the event to emit for a forgotten password, whether or not there is such an account."""
        name = normal(username)
        await self._attempts.count(f"reset {name}", PER_RESET)
        await self._attempts.count(f"address {address}", PER_ADDRESS)
        row = await self._db.fetch_one("SELECT id, password FROM cliffracer_accounts WHERE username = %s AND NOT disabled", name)
        subject, known = ("nobody", "") if row is None else (str(row["id"]), row["password"])
        token = self._authority.tokens.issue(subject, ttl=RESET_LIFE, typ=RESET, claims={"was": digest(known)})
        return ResetAsked(name, None if row is None else token)

    async def reset(self, token: str, password: str) -> None:
        """Set a new password, given the token of a `ResetAsked`; the token depends on the old password, so it works once."""
        try:
            claims = self._authority.tokens.verify(token, typ=RESET)
        except RefusedToken:
            raise Unauthenticated("the token is not valid", reason="invalid_token") from None
        account = UUID(claims["sub"])
        known = await self._db.fetch_value("SELECT password FROM cliffracer_accounts WHERE id = %s AND NOT disabled", account)
        if known is None or digest(known) != claims.get("was"):
            raise Unauthenticated("the token is not valid", reason="invalid_token")
        if not await self._set_password(account, known, await self._passwords.hash(password)):  # it was used concurrently
            raise Unauthenticated("the token is not valid", reason="invalid_token")

    @runs_to_completion("a change of an account")
    async def change(self, username: str, *, roles: tuple[str, ...], permissions: tuple[str, ...], disabled: bool) -> None:
        """Set roles and permissions of an account, or disable it; its sessions end, so that it takes effect at once."""
        found = await self.account(username)
        async with self._db.transaction():
            await self._db.execute(
                "UPDATE cliffracer_accounts SET roles = %s, permissions = %s, disabled = %s WHERE id = %s",
                list(roles), list(permissions), disabled, found.id,
            )  # fmt: skip
            await self.end_all(found.id)

    async def _begin(self, username: str, password: str, address: str, lasts: float) -> tuple[Account, str, str]:
        """Return the account with this name and password, and a new session with its refresh token; or raise `Unauthenticated`."""
        name = normal(username)
        await self._attempts.count(f"account {name}", PER_ACCOUNT)
        await self._attempts.count(f"address {address}", PER_ADDRESS)
        for _ in range(_TRIES):
            row = await self._db.fetch_one(_WHO, name, NOBODY, self._passwords.nobody)
            account, known = row["id"], row["password"]
            good = await self._passwords.check(password, known)
            if not good or row["disabled"]:
                break
            session, fresh = secrets.token_hex(16), secrets.token_hex(16)
            found = await self._db.fetch_one(_OPEN, account, known, session, fresh, lasts)
            if found is None:  # the account has changed since we read it
                continue
            await self._db.execute(_FORGET)
            await self._attempts.forget(f"account {name}")
            if self._passwords.outdated(known):
                await self._replace(account, known, await self._passwords.hash(password))
            return msgspec.convert(found, Account), session, fresh
        raise Unauthenticated("name or password is wrong")

    @runs_to_completion("a change of a password")
    async def _set_password(self, account: UUID, old: str, new: str) -> bool:
        """Replace the hash, and end every session; say whether the hash was still the one that was read."""
        async with self._db.transaction():
            if done := await self._replace(account, old, new):
                await self.end_all(account)
        return done

    async def _replace(self, account: UUID, old: str, new: str) -> bool:
        """Replace the hash of a password if it is still the one that was read; say whether it was."""
        done: int = await self._db.execute(
            "UPDATE cliffracer_accounts SET password = %s WHERE id = %s AND password = %s AND NOT disabled", new, account, old
        )
        return bool(done)

    def _signed(self, account: Account, session: str, fresh: str) -> Signed:
        issue = self._authority.tokens.issue
        subject, short, long = str(account.id), self._settings.auth_access_ttl, self._settings.auth_refresh_ttl
        named = {"sid": session, "username": account.username}
        access = issue(subject, ttl=short, roles=account.roles, permissions=account.permissions, claims=named)
        return Signed(access, issue(subject, ttl=long, typ=REFRESH, claims={"sid": session, "rid": fresh}), short)


def normal(username: str) -> str:
    """Return a name as it is stored, without regard to case, surrounding spaces and how a keyboard composes it; `InvalidInput`.

    What nobody sees, such as a space without width, is refused: two names that look the same are one (after RFC 8265).
    """
    name = username
    if len(username) <= 4 * LONGEST_NAME:  # a megabyte of accents is the work of minutes
        name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold()).strip()
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise _refused_name(f"{LONGEST_NAME} characters at most, all of which can be seen")
    return name


def _refused_name(why: str) -> InvalidInput:
    return InvalidInput("that is no name", errors=[{"path": "username", "message": why}])
