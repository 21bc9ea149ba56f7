"""``cliffracer`` and ``python -m cliffracer``: what Ctrl-C meets while the rest is still being imported, and when all is done."""

import sys


def main() -> None:
    """Run the command line and exit."""
    try:
        from cliffracer.cli.early import importing  # noqa: PLC0415 - importing takes a moment in which people change their mind

        with importing():
            from cliffracer.cli.main import main as run  # noqa: PLC0415 - as above
        code = run()
    except KeyboardInterrupt:
        code = 130
    import signal  # noqa: PLC0415 - as above

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # from here on it ends the process without a word
    sys.exit(code)


if __name__ == "__main__":
    main()
