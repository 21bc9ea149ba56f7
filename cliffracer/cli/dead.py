"""``cliffracer dead``: events that no attempt could handle."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import click
import msgspec

from cliffracer.cli.arguments import json_of
from cliffracer.cli.output import bad, good, numbered, odd, print_json, print_table, printable, say, soft, strong, sure, tame
from cliffracer.cli.reach import looked, nothing_at, reach_settings, reached
from cliffracer.durations import worded
from cliffracer.errors import NotFound, SetupError
from cliffracer.messaging.broker import Letters, Parked
from cliffracer.observability.redact import unsecret
from cliffracer.wire.headers import checked_token

_AT_ONCE = 32  # letters that are in hand at once: each may be as large as a message
T = TypeVar("T")


def ls(*, subject: str, function: str, service: str, limit: int, as_json: bool) -> None:
    """Print the table."""

    async def look(letters: Letters) -> tuple[list[Any], int]:
        found: list[Any] = []
        async for parked in letters.ls(subject=subject, function=function, service=service):
            found.append(_as_json(parked) if as_json else _as_row(parked))  # not all that it holds: that may be much
            if len(found) == limit:
                break
        return found, await letters.count()

    nothing: tuple[list[Any], int] = ([], 0)
    settings = reach_settings()
    found, count = asyncio.run(looked(settings, lambda client: look(client.link.backend.dead), nothing))
    if as_json:
        print_json(found)
        return
    print_table(["number", "event", "function", "attempts", "ago", "error"], found, empty=nothing_at(settings, "There are no dead letters"))
    if found and count > len(found):
        say(soft(f"{len(found)} of {count}"))


def _as_json(parked: Parked) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({**_described(parked), "data": unsecret(_decoded(parked.payload))}))


def _as_row(p: Parked) -> list[object]:
    who = printable(f"{p.service}.{p.function}")
    return [p.id, strong(printable(p.subject)), who, p.attempts, _ago(p.parked), bad(printable(p.error))]


def show(*, number: int, as_json: bool) -> None:
    """Print one."""
    parked = _with_letters(lambda letters: letters.show(number))
    if as_json:
        whole = {"data": _decoded(parked.payload), "headers": unsecret(dict(parked.headers)), "traceback": parked.traceback}
        print_json({**_described(parked), **whole})
        return
    facts = {
        "event": f"{strong(printable(parked.subject))} {soft(f'number {parked.sequence} of its stream')}",
        "function": printable(f"{parked.service}.{parked.function}"),
        "attempts": f"{parked.attempts}, the last {_ago(parked.parked)} ago",
        "error": bad(printable(parked.error)),
    }
    for name, text in facts.items():
        say(f"{soft(name.ljust(10))}{text}")
    say(soft("data"))
    if parked.claim and not parked.payload:
        say(odd(f"  its payload was in the object store, as {printable(parked.claim)} in the bucket claims_events, and is gone"))
    else:
        _print_data(parked.payload)
    if parked.headers:
        say(soft("headers"))
        for name, text in unsecret(dict(parked.headers)).items():
            say(f"  {printable(f'{name}: {text}')}")
    if parked.traceback:
        say(soft("traceback"))
        say("\n".join(f"  {printable(line)}" for line in parked.traceback.rstrip().splitlines()))


def replay(
    *,
    numbers: tuple[int, ...],
    everything: bool,
    subject: str,
    function: str,
    service: str,
    data: str | None,
    edit: bool,
    token: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Hand them over again."""
    if edit and data is not None:
        raise click.UsageError("give --data or --edit")
    try:
        checked_token(token)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    payload = None if data is None else msgspec.json.encode(json_of(data, "--data"))

    async def edited(letters: Letters, number: int) -> None:
        await letters.replay(number, payload=await _edited(letters, number), token=token)

    async def several(letters: Letters, some: list[int]) -> dict[int, str]:
        return await letters.replay_some(some, payload=payload, token=token)

    _some(
        partial(_at_once, edited) if edit else several,
        numbers, everything=everything, subject=subject, function=function, service=service, done="replayed", dry_run=dry_run,
        as_json=as_json, at_once=1 if edit else _AT_ONCE,
    )  # fmt: skip


async def _edited(letters: Letters, number: int) -> bytes:
    """Return the data as the user left it in an editor."""
    parked = await letters.show(number)
    try:
        shown = msgspec.json.format(parked.payload, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        shown = parked.payload.decode("utf-8", "replace")
    text = await asyncio.to_thread(click.edit, shown, extension=".json")
    if text is None:
        raise click.ClickException(f"{number} was not saved in the editor, so it was not replayed")
    return msgspec.json.encode(json_of(text, "--edit"))


def discard(
    *, numbers: tuple[int, ...], everything: bool, subject: str, function: str, service: str, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Remove them; those that somebody was asked about, and none that came meanwhile."""
    if everything and not (numbers or dry_run or yes) and sys.stdin.isatty():
        asked = _with_letters(lambda letters: _chosen(letters, subject=subject, function=function, service=service))
        if asked and not sure(f"Discard {len(asked)} {'event' if len(asked) == 1 else 'events'} for good?"):
            raise SetupError("Aborted: nothing was discarded.")
        if asked:
            numbers, everything, subject, function, service = tuple(asked), False, "", "", ""
    _some(
        partial(_at_once, lambda letters, number: letters.discard(number)),
        numbers, everything=everything, subject=subject, function=function, service=service, done="discarded", dry_run=dry_run,
        as_json=as_json,
    )  # fmt: skip


def _some(
    act: Callable[[Letters, list[int]], Awaitable[dict[int, str]]],
    numbers: tuple[int, ...],
    *,
    everything: bool,
    subject: str,
    function: str,
    service: str,
    done: str,
    dry_run: bool,
    as_json: bool,
    at_once: int = _AT_ONCE,
) -> None:
    if bool(numbers) == everything:
        raise click.UsageError("name the numbers (see `cliffracer dead ls`), or say --all")
    if numbers and any((subject, function, service)):
        raise click.UsageError("filters go with --all, not with numbers")
    look = partial(_at_once, lambda letters, number: letters.show(number))

    async def work(letters: Letters) -> tuple[list[int], dict[int, str]]:
        left = list(dict.fromkeys(numbers)) or await _chosen(letters, subject=subject, function=function, service=service)
        problems: dict[int, str] = {}
        for start in range(0, len(left), at_once):
            some = left[start : start + at_once]
            problems |= await (look if dry_run else act)(letters, some)
        return [number for number in left if number not in problems], problems

    found, failed = _with_letters(work)
    if as_json:
        print_json({"would_be" if dry_run else done: found, **({"failed": failed} if failed else {})})
    else:
        _print_done(found, failed, done, dry_run=dry_run)
    if failed:
        raise SystemExit(1)


async def _at_once(act: Callable[[Letters, int], Awaitable[object]], letters: Letters, some: list[int]) -> dict[int, str]:
    """Do something to several, in no order; return why not, of those that are not there: the others need not wait for them."""
    ended = await asyncio.gather(*(act(letters, number) for number in some), return_exceptions=True)
    for error in ended:
        if isinstance(error, BaseException) and not isinstance(error, NotFound):
            raise error
    return {number: str(error) for number, error in zip(some, ended, strict=True) if isinstance(error, NotFound)}


async def _chosen(letters: Letters, *, subject: str, function: str, service: str) -> list[int]:
    found = letters.ls(subject=subject, function=function, service=service)
    return [parked.id async for parked in found]  # not what they hold: that may be much


def _print_done(found: list[int], failed: dict[int, str], done: str, *, dry_run: bool) -> None:
    if found or not failed:
        again = soft("  what fails again is parked under a new number") if done == "replayed" and found else ""
        say(f"would be {done}: {numbered(found)}" if dry_run else f"{good(done)} {numbered(found)}{again}")
    for number, problem in failed.items():
        say(f"{bad(f'number {number} was not {done}:')} {printable(problem)}", err=True)


def _with_letters(work: Callable[[Letters], Awaitable[T]]) -> T:
    settings = reach_settings()

    async def run() -> T:
        async with reached(settings) as client:
            return await work(client.link.backend.dead)

    return asyncio.run(run())


def _described(parked: Parked) -> dict[str, Any]:
    return {name: getattr(parked, name) for name in ("id", "subject", "service", "function", "error", "attempts", "sequence", "parked")}


def _decoded(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload) if payload else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return payload.decode("utf-8", "backslashreplace")


def _print_data(payload: bytes) -> None:
    data = _decoded(payload)
    text = tame(msgspec.json.format(msgspec.json.encode(data), indent=2).decode())
    say("\n".join(f"  {line}" for line in text.splitlines()))


def _ago(moment: datetime) -> str:
    return worded(max(0, int((datetime.now(UTC) - moment).total_seconds())))
