"""A pause of ``run --reload``, between one process of an app and the next: other commands that miss it in this folder are told.

A lock on the file says whether it still holds, however the one that wrote it ended.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cliffracer import embedded
from cliffracer.cli.output import printable
from cliffracer.embedded import locks


@contextmanager
def pausing(why: str) -> Iterator[None]:
    """Have `pause` return why while the block runs, where embedded servers keep their files."""
    path = _place()
    with ExitStack() as held:
        with suppress(OSError):  # such as a folder that root has made in a container: nobody is told, and that is all
            fd = locks.attempt(path, exclusive=True) if path.parent.is_dir() else None
            if fd is not None:  # or another one pauses
                held.callback(os.close, fd)
                held.callback(_remove, path)
                os.ftruncate(fd, 0)
                os.write(fd, why.encode())
        yield


def pause() -> str:
    """Return why nothing runs in this folder just now; nothing where no ``run --reload`` is about to change that."""
    path = _place()
    try:
        why = path.read_text(encoding="utf-8")
        return printable(why) if locks.is_held(path) else ""
    except (OSError, UnicodeError):
        return ""


def _remove(path: Path) -> None:
    with suppress(OSError):  # without the lock it says nothing
        path.unlink()


def _place() -> Path:
    return embedded.locate(None) / "paused"
