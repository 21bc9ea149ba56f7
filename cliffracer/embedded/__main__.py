"""Start a supervisor: ``python -I -S embedded/__main__.py KIND FOLDER BINARY GRACE LOCK``. Not for users.

It detaches first, then imports its own modules without the ``__init__`` files above them, which bring the whole
framework and take ten times as long.
"""

import importlib
import os
import sys
from types import ModuleType

if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # whoever started us has no child to wait for, and no zombie to keep
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib would come before the fork
    for name, place in (("cliffracer", os.path.dirname(here)), ("cliffracer.embedded", here)):  # noqa: PTH120 - as above
        bare = ModuleType(name)
        bare.__path__ = [place]
        sys.modules[name] = bare
    sys.exit(importlib.import_module("cliffracer.embedded.supervisor").main(sys.argv[1:]))
