"""A program that uses embedded servers until its stdin ends: ``user_of_servers.py FOLDER [nats] [database]``."""

import sys
from pathlib import Path

from cliffracer import embedded
from cliffracer.errors import SetupError

if __name__ == "__main__":
    try:
        with embedded.servers(nats="nats" in sys.argv, database="database" in sys.argv, folder=Path(sys.argv[1])) as urls:
            print(urls.nats_url, urls.database_url, flush=True)
            sys.stdin.read()
    except SetupError as error:
        sys.exit(str(error))
