"""Where migrations are, and how they are named."""

import re
from pathlib import Path

FOLDER = Path("migrations")
"""Where they are, relative to the working directory."""
NAME = re.compile(r"(\d{1,9})_([A-Za-z0-9_-]+)\.sql")


def is_ours(folder: Path) -> bool:
    """Say whether all migrations in a folder are named as ours are; those of other tools are left alone."""
    names = [path.name for path in folder.glob("*.sql")]
    return bool(names) and all(NAME.fullmatch(name) for name in names)
