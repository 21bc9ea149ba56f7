"""``cliffracer`` and ``python -m cliffracer``."""

from cliffracer.cli.main import main

if __name__ == "__main__":
    main()
