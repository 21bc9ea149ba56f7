"""``cliffracer users``: the accounts of an app that uses `Accounts`."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import click

from cliffracer import embedded
from cliffracer.cli.output import good, print_json, print_table, say, soft, strong
from cliffracer.cli.reach import reach_settings, reached
from cliffracer.client import in_thread
from cliffracer.database.database import Database
from cliffracer.messaging.revocations import revoking
from cliffracer.security.authority import Authority
from cliffracer.security.passwords import Passwords
from cliffracer.security.sessions import Sessions, make_tables
from cliffracer.settings import Settings


def add(*, username: str, roles: tuple[str, ...], permissions: tuple[str, ...], as_json: bool) -> None:
    """Add one, with the password that is typed, or that standard input has."""
    password = (
        click.prompt("Password", hide_input=True, confirmation_prompt=True) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    )
    made = _run(lambda sessions: sessions.create(username, password, roles, permissions))
    if as_json:
        print_json(made)
    else:
        say(f"{good('added')} {strong(made.username)} {soft(str(made.id))}")


def ls(*, as_json: bool) -> None:
    """Print the table."""
    found = _run(lambda sessions: sessions.accounts())
    if as_json:
        print_json(found)
        return
    rows = [[a.username, " ".join(a.roles), " ".join(a.permissions), "disabled" if a.disabled else "", str(a.id)] for a in found]
    print_table(["name", "roles", "permissions", "", "id"], rows, empty="There are no accounts.")


def change(*, username: str, roles: tuple[str, ...], permissions: tuple[str, ...], disable: bool, as_json: bool) -> None:
    """Set what one may do."""

    async def run(sessions: Sessions) -> Any:
        await sessions.change(username, roles=roles, permissions=permissions, disabled=disable)
        return await sessions.account(username)

    changed = _run(run)
    if as_json:
        print_json(changed)
    else:
        say(f"{good('set')} {strong(changed.username)}: {' '.join([*changed.roles, *changed.permissions]) or soft('nothing')}")


def _run(work: Callable[[Sessions], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        async with _sessions() as sessions:
            return await work(sessions)

    return asyncio.run(run())


@asynccontextmanager
async def _sessions() -> AsyncIterator[Sessions]:
    async with AsyncExitStack() as stack:
        db, authority, settings = await opened(stack)
        await make_tables(db, create=True)
        passwords = Passwords()
        stack.callback(passwords.close)
        yield Sessions(db, authority, settings, passwords)


async def opened(stack: AsyncExitStack) -> tuple[Database, Authority, Settings]:
    """Return the database of the settings, what revokes everywhere, and the settings; the stack closes them."""
    settings = reach_settings()
    settings.require_servers(database=True)
    client = await stack.enter_async_context(reached(settings, starts=True))
    if not settings.databases:
        urls = await in_thread(stack, lambda: embedded.servers(nats=False, database=True))
        settings = settings.changed("embedded", database_url=urls.database_url)
    db = await stack.enter_async_context(Database.open(settings, name="users", wait=settings.wait))
    authority = Authority.of(settings)
    authority.publish, _ = await stack.enter_async_context(
        revoking(client.link.bus, client.link.backend, settings.namespace, authority.revocations.apply)
    )
    return db, authority, settings
