"""``cliffracer`` and ``python -m cliffracer``: handles Ctrl-C while the rest is still being imported, and when all is done."""

import atexit
import sys


def main() -> None:
    """Run the command line and exit."""
    atexit.register(_deaf)  # called last, as the first that was registered
    try:
        from cliffracer.cli.early import importing  # noqa: PLC0415 - importing takes a moment in which people change their mind

        with importing():
            from cliffracer.cli.main import main as run  # noqa: PLC0415 - as above
        code = run()
    except KeyboardInterrupt:
        code = 130
    import os  # noqa: PLC0415 - as above
    import signal  # noqa: PLC0415 - as above

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))  # all is done: nothing that is still running is waited for
    sys.exit(code)


def _deaf() -> None:
    """Ignore SIGINT from here on: during Python's own shutdown it would change the exit code."""
    import signal  # noqa: PLC0415 - as above

    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
