"""A Dockerfile carried out without an engine: its steps run by a shell, in a folder that stands for the root of the image."""

import fnmatch
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from dockerfile_parse import DockerfileParser

from tests.project.places import BIN

_PLACES = re.compile(r"(?<![\w.$/}-])/(opt|app|src|build|usr/local)\b")


class Image:
    """What a Dockerfile makes. All stages share one root, since virtual environments know where they are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        self.folder = root
        self.last: dict[str, str] = {}
        """The last value of each instruction."""

    @property
    def command(self) -> list[str]:
        """What the container runs."""
        return [*json.loads(self.last.get("ENTRYPOINT", "[]")), *json.loads(self.last["CMD"])]

    @property
    def health(self) -> list[str]:
        """What asks the container how it is."""
        found: list[str] = json.loads(self.last["HEALTHCHECK"].partition("CMD ")[2])
        return found

    def program(self, command: list[str]) -> list[str]:
        """Return a command with its program found as in the image: the system's programs are none of it."""
        found = shutil.which(command[0], path=self.environment["PATH"])
        assert found is not None, command
        assert Path(found).is_relative_to(self.root), f"{command[0]} is {found}, and not in the image"
        return [found, *command[1:]]

    def lend(self) -> None:
        """Let its environment find what pip was kept from fetching, where these tests run."""
        for packages in self.root.glob("opt/*/lib/python*/site-packages"):
            (packages / "lent.pth").write_text(sysconfig.get_path("purelib"))

    def step(self, name: str, value: str, context: Path, given: dict[str, str]) -> None:
        """Carry out one instruction; AssertionError with what it printed if it fails."""
        self.last[name] = value
        match name:
            case "FROM":
                self.folder = self.root
            case "WORKDIR":
                self.folder = Path(self._here(value))
                self.folder.mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(value, context)
            case "ENV":
                pairs = (pair.partition("=") for pair in shlex.split(value.replace("\\\n", " ")))
                known = self.environment.copy()
                self.environment |= {key: self._here(text).replace("$PATH", known["PATH"]) for key, _, text in pairs}
            case "RUN":
                shell = ["/bin/sh", "-ec", self._here(re.sub(r"^(--mount=\S+\s+)+", "", value))]  # no secret is given
                environment = {**os.environ, **self.environment, **given}
                done = subprocess.run(shell, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=300)
                assert done.returncode == 0, f"RUN {value}\n{done.stdout}{done.stderr}"

    def _copy(self, value: str, context: Path) -> None:
        *sources, target = value.split()
        if sources[0].startswith("--from="):
            assert all(Path(self._here(source)).exists() for source in sources[1:]), value
            return
        where = self.folder / self._here(target)
        for source in sources:
            files = list(_let_in(context, source))
            assert files, f"COPY {source}: there is no such file, or .dockerignore keeps it out"
            for file in files:
                to = where / file.relative_to(source) if (context / source).is_dir() else where / file.name
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(context / file, to)

    def _here(self, text: str) -> str:
        return _PLACES.sub(lambda found: f"{self.root}/{found[1]}", text)


def build(dockerfile: str, context: Path, root: Path, **given: str) -> Image:
    """Carry out all steps; ``given`` are environment variables for those that run, which the image does not keep.

    The standard library of the image that it begins with is one file, without its bytecode, as there.
    """
    image = Image(root)
    (root / "usr/local/lib/python").mkdir(parents=True)
    (root / "usr/local/lib/python/base.py").touch()
    steps = DockerfileParser(fileobj=io.BytesIO(dockerfile.encode())).structure
    for step in steps:
        if step["instruction"] != "COMMENT":
            image.step(step["instruction"], step["value"], context, given)
    return image


def _let_in(context: Path, source: str) -> Iterator[Path]:
    """Yield the files of a context below a source that its .dockerignore lets through: the last rule that fits decides."""
    rules = context / ".dockerignore"
    lines = [line for line in rules.read_text().splitlines() if line and not line.startswith("#")] if rules.exists() else []
    place = context / source
    for path in [place] if place.is_file() else sorted(place.rglob("*")):
        inside = path.relative_to(context)
        kept_out = False
        for line in lines:
            if any(fnmatch.fnmatch(str(part), line.lstrip("!").replace("**/", "*")) for part in (inside, *inside.parents)):
                kept_out = not line.startswith("!")
        if path.is_file() and not kept_out:
            yield inside
