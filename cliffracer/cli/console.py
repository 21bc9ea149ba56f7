"""``cliffracer console``: serves the console on this machine until Ctrl-C."""

import asyncio
import contextlib
import webbrowser
from collections.abc import Callable

from cliffracer.cli.output import print_line, say, soft, strong
from cliffracer.cli.reach import looked_at, reach_settings, reached
from cliffracer.cli.stdio import say_stopped
from cliffracer.console.application import opened
from cliffracer.ending import asked_by_signals
from cliffracer.errors import CliffracerError
from cliffracer.web.ports import bind


def console(*, port: int, open_browser: bool, acts: bool | None, as_json: bool) -> None:
    """Serve it."""
    settings = reach_settings()
    bound = bind("127.0.0.1", port)

    async def run() -> None:
        stopped, by = asyncio.Event(), list[str]()

        def stop(name: str) -> None:
            by.append(name)
            stopped.set()

        with asked_by_signals(stop, _at_once):
            await serve(stopped)
        say_stopped(by[0], as_json=as_json)

    async def serve(stopped: asyncio.Event) -> None:
        async with (
            reached(settings, starts=True) as client,
            opened(client, settings, bound, acts=acts, told=_again(as_json=as_json)) as door,
        ):
            early = door.read_only.known()
            if as_json:
                print_line({"address": door.address})
            else:
                say(f"\n  {strong('console')} {soft(looked_at(settings))}\n\n  {strong(door.address)}\n")
                _say_read_only(early)
                say(f"  {soft('The address is good once, for one browser on this machine. Ctrl-C stops.')}\n")
            if open_browser:
                await asyncio.to_thread(webbrowser.open, door.address)
            if not as_json and not early:
                with contextlib.suppress(CliffracerError):  # the page says what is wrong
                    _say_read_only(await door.read_only.reason())
            await stopped.wait()

    with contextlib.closing(bound):
        asyncio.run(run())


def _at_once() -> None:
    raise SystemExit(130)


def _say_read_only(reason: str) -> None:
    """Say why the console is read-only, if it is."""
    if reason:
        say(f"  {soft(f'It only reads: {reason}.')}")


def _again(*, as_json: bool) -> Callable[[str], None]:
    """Return what prints the next address when one was used."""
    return lambda address: print_line({"address": address}) if as_json else say(soft(f"  for another browser: {address}"))
