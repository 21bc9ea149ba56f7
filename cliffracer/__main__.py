"""``cliffracer`` and ``python -m cliffracer``: handles Ctrl-C while the rest is still being imported, and when all is done.

Before this is imported, Ctrl-C is Python's: it prints where in its own start, or in the script that an installer wrote, it was.
"""

import _signal  # type: ignore[import-not-found]  # what `signal` is made of: built in, while that one imports others first
import atexit
import os
import sys


def main() -> None:
    """Run the command line and exit."""
    before = _signal.getsignal(_signal.SIGINT)
    ours = before is _signal.default_int_handler  # not where it is ignored, as under `nohup`
    if ours:  # at once: an exception in a callback of the import system would be printed and forgotten
        _signal.signal(_signal.SIGINT, _leave)
    atexit.register(_deaf)  # called last, as the first that was registered
    from cliffracer.cli.main import main as run  # noqa: PLC0415 - as above

    try:
        if ours:
            _signal.signal(_signal.SIGINT, before)
        code = run()
    except KeyboardInterrupt:
        code = 130
    if _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, lambda *_: os._exit(code))  # all is done: nothing that is still running is waited for
    sys.exit(code)


def _leave(*_: object) -> None:
    os._exit(130)


def _deaf() -> None:
    """Ignore SIGINT from here on: during Python's own shutdown it would change the exit code."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)


if __name__ == "__main__":
    main()
