"""Eager tasks: calls begin where they arrive, and only those that have to wait become tasks of asyncio's.

Most handlers are over without waiting for anything, and to make a task costs as much as they do. So the first step of a call is
made in a task that asyncio hears of only if the call waits: `asyncio.current_task`, `asyncio.timeout`, `asyncio.TaskGroup` and
libraries that keep something by task see one and the same, before and after. From Python 3.12 on asyncio does all that itself.

A call that arrives in the reader of a connection begins there: the reader's slice of time then bounds handlers, too, and nothing
is read that has not begun. One that arrives in somebody's task begins in the next turn of the loop.
"""

import asyncio
import sys
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context as Variables
from contextvars import copy_context
from functools import partial, wraps
from sys import getrefcount
from typing import Any
from weakref import getweakrefcount

from cliffracer.context import Context
from cliffracer.resilience.deadlines import UNMADE, Watch
from cliffracer.resilience.threads import Handed

if sys.version_info >= (3, 12):
    _current_tasks: tuple[asyncio.AbstractEventLoop, ...] = ()  # a task may begin while another one runs
else:
    from asyncio.tasks import _current_tasks  # type: ignore[attr-defined]  # it says whose task runs

TASKS = 32  # calls after one that waited of which the same is expected

Work = Coroutine[Any, Any, None]
Held = set["asyncio.Task[None]"]


class Starts:
    """Begins the calls of one source in the order in which they come."""

    __slots__ = ("_loop", "_ready", "_scheduled", "_spare", "_tasks", "_variables", "_watch")

    def __init__(self, loop: asyncio.AbstractEventLoop, watch: Watch | None = None) -> None:
        self._loop = loop
        self._watch = watch
        self._ready: deque[tuple[Work, Context | None, Held | None]] = deque()
        self._scheduled = False
        self._variables = copy_context()  # in which begins what arrives in somebody's task, whose own are not for others to see
        self._spare: list[EagerTask] = []  # in which calls have ended, and which nobody knows: to make one is the dearest part of a start
        self._tasks = 0  # so many calls are made tasks at once, because one has waited

    def __len__(self) -> int:
        """Return how many have not begun."""
        return len(self._ready)

    def add(self, work: Work, context: Context | None = None, held: Held | None = None) -> bool:
        """Begin a call, and say whether it is over: one of a context is looked after if it waits; its task is then put into ``held``."""
        in_task = self._loop in _current_tasks
        if self._tasks and not self._ready and not in_task:
            return self._make_task(work, held)
        if self._scheduled or in_task:
            self._ready.append((work, context, held))
            self._schedule()
            return False
        return self._begin(work, context, held)

    def _make_task(self, work: Work, held: Held | None) -> bool:
        """Begin a call, which is likely to wait, in a task of asyncio's: cheaper than to make one of a call that has begun."""
        self._tasks -= 1
        task = self._loop.create_task(work)
        over = task.done()  # an eager task factory's may be
        if held is not None and not over:
            held.add(task)
        if not self._tasks:
            self._schedule()  # what comes before the last of them has begun waits behind it
        return over

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn, context=self._variables)

    if sys.version_info >= (3, 12):

        def _begin(self, work: Work, context: Context | None, held: Held | None) -> bool:
            watch = self._watch
            if watch is not None:
                watch.begun = context or UNMADE
            task = asyncio.Task(work, loop=self._loop, eager_start=True, context=self._variables.copy())
            if not task.done():
                self._look_after(context, task)
                if held is not None:
                    held.add(task)
                return False
            if watch is not None and context is None:
                watch.begun = None
            return True

    else:

        def _begin(self, work: Work | None, context: Context | None, held: Held | None, task: "EagerTask | None" = None) -> bool:
            """Make the first step; or the next one of a ``task`` that waited for a thread, of which asyncio has not heard yet."""
            known = 3  # references: the count's own, this frame's, and that of who called us back
            if task is None:
                known = 2
                task = self._spare.pop() if self._spare else EagerTask.made()
                driver = task.driver
                driver.work = work
                driver.variables = copy_context()
                if self._watch is not None:
                    self._watch.begun = context or UNMADE
            else:
                driver = task.driver
                driver.handed = None
            waited, cancelled = _ENDED, False
            _current_tasks[self._loop] = task
            try:
                waited = driver.variables.run(driver.send, work)
            except (StopIteration, asyncio.CancelledError) as end:  # it was joined; or only who asks the task is told
                cancelled = isinstance(end, asyncio.CancelledError)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - as a task does whose exception nobody retrieves
                self._loop.call_exception_handler({"message": "a call ended with an exception", "exception": error})
            finally:
                del _current_tasks[self._loop]
            if waited is not _OVER and waited is not _ENDED:
                self._wait(task, waited, context, held)
                return False
            if context is None and self._watch is not None:
                self._watch.begun = None
            if getrefcount(task) > known or getweakrefcount(task):  # somebody kept it, and may ask it how it went
                task.cancel() if cancelled else task.join(over=True)
            elif waited is _OVER:
                del driver.variables
                self._spare.append(task)
            return True

        def _wait(self, task: "EagerTask", waited: Any, context: Context | None, held: Held | None) -> None:
            """See that a call goes on once what it waits for is there: a thread's hand-over itself does, all else asyncio."""
            if type(waited) is Handed and not task.driver.joined:
                task.driver.handed = waited
                waited.resume = partial(self._begin, None, context, held, task)
            else:
                self._tasks = TASKS
                task.join().waited = waited
            self._look_after(context, task)
            if held is not None:
                held.add(task)

    def _look_after(self, context: Context | None, task: "asyncio.Task[None]") -> None:
        """Have a call watched that waits after its first step; if it is over, only its answer does."""
        watch = self._watch
        if watch is not None and watch.begun is not None and (context is None or watch.begun is context):
            begun, watch.begun = watch.begun, None
            if begun is not UNMADE:
                watch.look_after(begun, task)

    def _turn(self) -> None:
        """Begin all that had to wait for this turn."""
        ready, behind = self._ready, False
        try:
            while ready and not behind:
                if self._tasks:
                    work, _, held = ready.popleft()
                    self._make_task(work, held)
                    behind = not self._tasks
                else:
                    self._begin(*ready.popleft())
        finally:
            self._scheduled = False
            if ready or behind:
                self._schedule()


_OVER: Any = object()
"""What a driver yields when a call is over."""
_ENDED: Any = object()
"""Stands for that of one that has ended with its call: it failed, or is asyncio's."""


class Driver:
    """Makes the steps of one call after the other, in a generator that stays: a call that ends here costs no `StopIteration`."""

    __slots__ = ("handed", "joined", "rest", "send", "steps", "variables", "work")

    work: Work | None
    variables: Variables

    def __init__(self) -> None:
        self.joined = False
        """Whether asyncio makes the steps of this call, after which there is none."""
        self.rest: Rest | None = None
        """What it makes them by."""
        self.handed: Handed | None = None
        """What the call waits for while a thread has it."""
        self.steps: Generator[Any, Any, None] = self._drive()
        self.send = self.steps.send
        self.send(None)

    @types.coroutine
    def _drive(self) -> Generator[Any, Any, None]:
        work = yield
        while True:
            yield from work
            if self.joined:
                return
            work = yield _OVER


class EagerTask(asyncio.Task[Any]):
    """A task that makes its first step before asyncio has initialised it, which happens once it waits.

    Or earlier: when somebody asks for what only an initialised one can tell.
    """

    __slots__ = ("driver",)

    driver: Driver

    @classmethod
    def made(cls) -> "EagerTask":
        """Return one that is not initialised, for a call to come."""
        task: EagerTask = cls.__new__(cls)
        object.__setattr__(task, "driver", Driver())
        return task

    def __setattr__(self, name: str, value: object) -> None:
        """Join: the next call that begins in this task would find what somebody keeps there."""
        if self.driver.rest is None:
            self.join()
        super().__setattr__(name, value)

    def join(self, *, over: bool = False) -> "Rest":
        """Become one of asyncio's tasks, which goes on (or, with ``over``, is done) in the next turn of the loop."""
        driver = self.driver
        rest, handed = driver.rest, driver.handed
        if rest is None:
            driver.joined = True
            rest = driver.rest = Rest(driver.steps)
            if handed is not None and handed.resume is not None:  # it is waited for by asyncio's means from here on
                handed.resume = None
                rest.waited = handed
            steps = rest.steps()
            steps.send(None)
            super().__init__(steps, loop=asyncio.get_running_loop(), context=driver.variables)
        rest.over = over
        return rest

    def get_coro(self) -> Any:
        """Return the coroutine, as a task does."""
        return self.driver.work


def _joining(name: str) -> Callable[..., Any]:
    """Return a method of tasks that joins first."""
    method = getattr(asyncio.Task, name)

    @wraps(method)
    def call(task: EagerTask, *given: Any, **named: Any) -> Any:
        if task.driver.rest is None:
            task.join()
        return method(task, *given, **named)

    return call


for _name in (
    "__await__", "__iter__", "__repr__", "add_done_callback", "cancel", "exception", "get_loop", "get_name", "get_stack", "print_stack",
    "remove_done_callback", "result", "set_name",
):  # fmt: skip
    setattr(EagerTask, _name, _joining(_name))


class Rest:
    """What is left of a coroutine that has made its first step."""

    __slots__ = ("over", "waited", "work")

    def __init__(self, work: Generator[Any, Any, None]) -> None:
        self.work = work
        self.over = False
        """Whether that step was its last."""
        self.waited: Any = None
        """What it waits for."""

    @types.coroutine
    def steps(self) -> Generator[Any, Any, Any]:
        """Make the other steps; once primed by a `send`, a cancellation before the next turn reaches the coroutine."""
        thrown: list[BaseException] = []  # taken out to be thrown: its traceback has this frame, and they would keep each other for long
        try:
            yield
        except GeneratorExit:
            self.work.close()
            raise
        except asyncio.CancelledError as error:
            thrown.append(error)
        if self.over:
            self.work.close()
            return None
        waited = self.waited
        thrown = [] if thrown and waited is not None and waited.cancel() else thrown  # as a waiting task does
        while True:
            try:
                if thrown:
                    waited = self.work.throw(thrown.pop())
            except StopIteration as end:
                return end.value
            try:
                yield waited
            except GeneratorExit:
                self.work.close()
                raise
            except BaseException as error:  # noqa: BLE001 - what was awaited failed, or the task is cancelled: the coroutine's to handle
                thrown.append(error)
            else:
                return (yield from self.work)
