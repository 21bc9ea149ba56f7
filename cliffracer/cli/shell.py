"""``cliffracer shell``: a Python prompt where ``await`` works, with an app and the running services at hand."""

import ast
import asyncio
import atexit
import builtins
import code
import importlib
import inspect
import os
import readline
import rlcompleter
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from types import AsyncGeneratorType, CodeType, CoroutineType, FunctionType
from typing import Any, TypeVar

import click
import msgspec

from cliffracer.app import App
from cliffracer.cli.loading import guessed, load_apps, own_frames
from cliffracer.cli.output import print_json, printable, say, soft, strong
from cliffracer.cli.reach import looked_at, reach_settings, reached, with_servers
from cliffracer.cli.remote import Rpc
from cliffracer.database import Database
from cliffracer.errors import CliffracerError, Internal, SetupError
from cliffracer.messaging.directory import Info
from cliffracer.settings import Settings

T = TypeVar("T")
_TALK = {"emit": 'await emit("user.created", {...})', "events": 'async for event in events("user.>"): ...'}
_COMMAND = "<command>"  # as the name of its file
_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_UNUSED = {
    CoroutineType: "<nothing was done yet: write await before it>",
    AsyncGeneratorType: "<nothing was read yet: write async for item in it>",
}
"""What is shown of a value that an input leaves as it is."""


def shell(*, app: str, command: str | None, as_json: bool = False) -> None:
    """Connect, then ask or run the command; ``as_json`` has its value printed so."""
    if as_json and command is None:
        raise click.UsageError("--json prints the value of a command: cliffracer shell --json -c CODE")
    apps = load_apps((app,) if app else ()) if app or guessed() else []
    settings = reach_settings()
    needs = any(one.freeze().needs_database for one in apps)
    with ExitStack() as stack:
        settings = with_servers(settings, stack, database=needs)
        loop = stack.enter_context(_loop())
        names = stack.enter_context(_entered(loop, _namespace(apps, settings, database=needs)))
        if command is not None:
            value = _run(command, names, loop)
            if as_json:
                _print_json(value)
            elif value is not None:
                say(repr(value))
            return
        say(_welcome(names, settings))
        _ask(names, loop)


@asynccontextmanager
async def _namespace(apps: list[App], settings: Settings, *, database: bool) -> AsyncIterator[dict[str, Any]]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(reached(settings))
        infos: list[Info] = await client.directory.ask("INFO", patience=0.3)
        names: dict[str, Any] = {}
        for app in apps:
            await stack.enter_async_context(app.connected(settings))
            names[app.name if len(apps) > 1 else "app"] = app
        names["rpc"] = Rpc(client, infos)
        if database:
            names["db"] = await stack.enter_async_context(Database.open(settings, name="cliffracer shell", wait=settings.wait))
        names.setdefault("emit", client.emit)
        names.setdefault("events", client.events)
        yield names


class Prompt(code.InteractiveConsole):
    """Reads and runs here, and what is awaited on the loop of the connection."""

    def __init__(self, names: dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        names["__builtins__"] = builtins  # what Python tells of coroutines that nobody awaits looks there
        super().__init__(names)
        self.compile.compiler.flags |= _AWAIT
        self._loop = loop

    def runcode(self, code: CodeType) -> None:
        """Run one input; Ctrl-C gives up what is awaited."""
        try:
            made = FunctionType(code, self.locals)()
            if inspect.iscoroutine(made):
                awaited(made, self._loop)
        except SystemExit:
            raise
        except KeyboardInterrupt:
            self.write("\nKeyboardInterrupt\n")
        except CliffracerError as error:  # of a call or a statement: how we came to it says nothing
            self.write(f"{_own(error, self.filename)}\n")
        except BaseException:  # noqa: BLE001 - a prompt shows whatever was raised, and goes on
            self.showtraceback()


def awaited(work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> Any:
    """Return what a coroutine returns, run on a loop in another thread; giving up here gives it up there."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise


def _run(text: str, names: dict[str, Any], loop: asyncio.AbstractEventLoop) -> Any:
    """Run a command; return the value of an expression."""
    names |= {"__name__": "__main__", "__builtins__": builtins}
    try:
        code = _compiled(text)
        made = FunctionType(code, names)()
        return awaited(made, loop) if inspect.iscoroutine(made) else made
    except CliffracerError as error:
        if error.__cause__ is None or not isinstance(error, Internal):
            raise
        raise SetupError(f"the command failed:\n{_own(error, _COMMAND)}") from None
    except Exception as error:  # noqa: BLE001 - whatever the command raises is shown as its own
        raise SetupError(f"the command failed:\n{_own(error, _COMMAND)}") from None


def _own(error: Exception, file: str) -> str:
    """Return what to tell of an error that code of this file name met: its frames, without those that led to it, and what is behind it.

    Its message may be somebody else's: it moves no cursor.
    """
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename != file:
        frame = frame.tb_next
    shown = "\n".join(map(printable, own_frames(error.with_traceback(frame or error.__traceback__))[0].split("\n")))
    if not isinstance(error, Internal) or error.__cause__ is None:
        return shown
    return f"{shown}\ncaused by {printable(traceback.format_exception_only(error.__cause__)[0].splitlines()[0])}"


def _print_json(value: Any) -> None:
    try:
        print_json(value)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise SetupError(f"the value of the command, {type(value).__name__}, has no JSON: {error}") from None


def _compiled(text: str) -> Any:
    """Return the code of an expression, whose value is wanted, or of statements, which have none."""
    with suppress(SyntaxError):
        return compile(text, _COMMAND, "eval", flags=_AWAIT)
    return compile(text, _COMMAND, "exec", flags=_AWAIT)


def _ask(names: dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
    embed = _ipython()
    if embed is None:
        sys.displayhook = _display
        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
        Prompt(names, loop).interact(banner="", exitmsg="")
        return
    plain = {"colors": "nocolor"} if os.environ.get("NO_COLOR") else {}
    prompt = embed.InteractiveShellEmbed(user_ns=names, banner1="", exit_msg="", enable_tip=False, confirm_exit=False, **plain)
    prompt.autoawait = True
    prompt.loop_runner = partial(_awaited_cell, loop=loop)
    for kind in _UNUSED:
        prompt.display_formatter.formatters["text/plain"].for_type(kind, lambda value, printer, _: printer.text(_unused(value)))
    prompt.set_custom_exc((asyncio.CancelledError,), lambda *_, **__: None)  # told when it was given up
    prompt()


def _display(value: object) -> None:
    """Print what an input gave, as Python's own prompt does."""
    if type(value) not in _UNUSED:
        sys.__displayhook__(value)
        return
    say(_unused(value))
    builtins._ = value  # type: ignore[attr-defined]  # as Python's does


def _unused(value: Any) -> str:
    """Return what is shown of a value that is yet to be used; one that never is need not be told once more when it goes."""
    if isinstance(value, CoroutineType):
        atexit.register(_closed, value)
    return _UNUSED[type(value)]


def _closed(work: Coroutine[Any, Any, Any]) -> None:
    with suppress(ValueError, RuntimeError):  # it runs, or does not want to end
        work.close()


def _awaited_cell(work: Coroutine[Any, Any, Any], *, loop: asyncio.AbstractEventLoop) -> Any:
    """Run one input of IPython; one that Ctrl-C gives up has failed, which IPython is told as it tells it itself."""
    try:
        return awaited(work, loop)
    except KeyboardInterrupt as error:
        say("\nKeyboardInterrupt")
        result = importlib.import_module("IPython.core.interactiveshell").ExecutionResult(None)
        result.error_in_exec = error
        return result


def _ipython() -> Any:
    try:
        return importlib.import_module("IPython.terminal.embed")
    except ImportError:
        return None


def _welcome(names: dict[str, Any], settings: Settings) -> str:
    rpc: Rpc = names["rpc"]
    lines = [f"{strong('cliffracer shell')} on Python {sys.version.split()[0]}  {soft('await works; Ctrl-D leaves')}"]
    running = f"{printable(', '.join(dir(rpc))) or soft('no service is running')} {soft(looked_at(settings))}"
    lines += [f"  {name.ljust(8)}{running if value is rpc else soft(_shown(name, value))}" for name, value in names.items()]
    example = rpc.example()
    return "\n".join([*lines, f"  {soft(printable(example))}" if example else "", ""])


def _shown(name: str, value: object) -> str:
    if isinstance(value, App):
        return f"the app {value.name}, connected"
    return _TALK.get(name) or "the database"


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread while the block runs, so that connections live while the prompt waits."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="cliffracer-shell", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def _entered(loop: asyncio.AbstractEventLoop, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter and leave an async context manager on a loop in another thread, in one task as such managers want it.

    Ctrl-C while it is entered gives that up.
    """
    left: asyncio.Event = asyncio.Event()
    inside: Future[T] = Future()
    tasks: list[asyncio.Task[Any] | None] = []

    async def hold() -> None:
        tasks.append(asyncio.current_task())
        async with manager as value:
            inside.set_result(value)
            await left.wait()

    holding = asyncio.run_coroutine_threadsafe(hold(), loop)
    holding.add_done_callback(lambda done: None if inside.done() else inside.set_exception(done.exception() or RuntimeError("not entered")))
    try:
        yield inside.result()
    finally:
        given_up = inside.cancel()
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks if task] if given_up else left.set())
        wait([holding])
