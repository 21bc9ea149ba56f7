"""The files of the console's pages, by name: its own, and those that it shares with ``/docs``."""

from pathlib import Path

from cliffracer.web.assets import PAGES

_OWN = Path(__file__).parent / "pages"
NAMED = {path.name: path for folder in (PAGES, _OWN) for path in sorted(folder.iterdir()) if path.is_file()}
