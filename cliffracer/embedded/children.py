"""Processes of a supervisor: each holds a lock for as long as it lives, and ends when its supervisor does.

Standard library only: the supervisor starts without the rest of the package.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cliffracer.embedded import locks
from cliffracer.embedded.accounts import Account, enter_namespace
from cliffracer.embedded.journal import append

PR_SET_PDEATHSIG = 1
PASSED_ON = ("PATH", "TMPDIR", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class StartFailed(Exception):
    """A server that did not come up, in words for the user."""


def spawn(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    log: Path,
    alive: int,
    on_death: signal.Signals,
    account: Account | None = None,
    given: bytes = b"",
) -> subprocess.Popen[bytes]:
    """Return a child that keeps ``alive`` open, reads ``given``, writes to ``log``, and gets ``on_death`` when this process ends."""
    switch = account is not None and not account.mapped
    with append(log) as output:
        child = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.PIPE if given else subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(alive,),
            env=environment(),
            user=account.uid if account and switch else None,
            group=account.gid if account and switch else None,
            extra_groups=() if switch else None,
            preexec_fn=partial(_before_exec, os.getpid(), on_death, account),  # noqa: PLW1509 - a supervisor has one thread
        )  # fmt: skip
    if child.stdin is not None:
        child.stdin.write(given)  # less than a pipe holds
        child.stdin.close()
    return child


def environment() -> dict[str, str]:
    """Return the environment for processes that outlive us: without anything that could be a secret."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"LC_ALL": "C"}


def _before_exec(parent: int, on_death: signal.Signals, account: Account | None) -> None:
    if account is not None and account.mapped:
        enter_namespace(account)
    if sys.platform == "linux":  # elsewhere a killed supervisor leaves orphans, which the next one ends: see `claim`
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(on_death), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def claim(path: Path, harsh: signal.Signals) -> int:
    """Return the lock that a server holds while it lives, once servers that a dead supervisor left behind have ended."""
    for seconds, order in ((3.0, harsh), (5.0, signal.SIGKILL), (5.0, None)):
        fd = locks.wait(path, exclusive=True, seconds=seconds if sys.platform == "linux" or order != harsh else 0.2)
        if fd is not None:
            return fd
        for pid in locks.holders(path) if order else ():
            _send(pid, order)
    raise StartFailed(f"{path} is still held by processes {locks.holders(path)} that do not end")


def _send(pid: int, order: signal.Signals | None) -> None:
    if order is not None:
        try:
            os.kill(pid, order)
        except ProcessLookupError:
            return


def await_ready(child: subprocess.Popen[bytes], ready: Callable[[], bool], seconds: float) -> bool:
    """Return True once the child is ready; False if it ended or took too long, and then it is gone."""
    end = time.monotonic() + seconds
    while child.poll() is None and time.monotonic() < end:
        if ready():
            return True
        time.sleep(0.003)
    if child.poll() is None:
        child.kill()
    child.wait()
    return False


def finish(child: subprocess.Popen[bytes], polite: signal.Signals, harsh: signal.Signals) -> None:
    """Return when the child has ended: by a polite signal, then a harsher one, then a kill."""
    for order, seconds in ((polite, 10.0), (harsh, 5.0), (signal.SIGKILL, 5.0)):
        if child.poll() is None:
            child.send_signal(order)
            try:
                child.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
