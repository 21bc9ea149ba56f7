"""``cliffracer keys``: the API keys of an app that uses `ApiKeys`."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from cliffracer.cli.output import good, print_json, print_table, say, soft
from cliffracer.cli.users import opened
from cliffracer.durations import seconds
from cliffracer.security.keyring import ApiKey, Keyring, make_table


def issue(*, name: str, subject: str, roles: tuple[str, ...], permissions: tuple[str, ...], ttl: str | None, as_json: bool) -> None:
    """Print a key and nothing else on standard output, so that it can be put into a variable."""
    lasting = None if ttl is None else _seconds(ttl)
    with _usage():
        text, made = _run(lambda ring: ring.issue(name, subject=subject, roles=roles, permissions=permissions, ttl=lasting))
    if as_json:
        print_json({"key": text, **_shown(made)})
        return
    click.echo(text)
    say(soft(f"key {made.id} for {made.subject}: it is shown now and never again"), err=True)


def ls(*, as_json: bool) -> None:
    """Print the table."""
    found = _run(lambda ring: ring.all())
    if as_json:
        print_json([_shown(key) for key in found])
        return
    rows = [[k.id, k.name, k.subject, " ".join([*k.roles, *k.permissions]), _state(k), _moment(k.last_used_at)] for k in found]
    print_table(["id", "name", "subject", "may", "", "last used"], rows, empty="There are no API keys.")


def rotate(*, id: str, overlap: str, as_json: bool) -> None:
    """Print the new key."""
    lasting = _seconds(overlap)
    with _usage():
        text = _run(lambda ring: ring.rotate(id, overlap=lasting))
    if as_json:
        print_json({"key": text, "id": id, "overlap": lasting})
        return
    click.echo(text)
    say(soft(f"key {id}: the old one is good for {overlap} more" if lasting else f"key {id}: the old one is refused from now on"), err=True)


def revoke(*, id: str, as_json: bool) -> None:
    """Revoke it, and say so."""
    _run(lambda ring: ring.revoke(id))
    if as_json:
        print_json({"revoked": id})
    else:
        say(f"{good('revoked')} {id}")


def _run(work: Callable[[Keyring], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        async with AsyncExitStack() as stack:
            db, authority, _ = await opened(stack)
            await make_table(db, create=True)
            return await work(Keyring(db, authority))

    return asyncio.run(run())


def _shown(key: ApiKey) -> dict[str, Any]:
    return {name: getattr(key, name) for name in key.__struct_fields__}


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return ""
    return "expired" if key.expires_at <= datetime.now(UTC) else f"until {_moment(key.expires_at)}"


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _seconds(text: str) -> float:
    with _usage():
        return seconds(text)


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from None
