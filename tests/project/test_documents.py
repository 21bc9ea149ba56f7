"""What the documents say runs: the docstring of each example, as a reader would do it. README.md: see cli/test_first_minutes.py."""

from pathlib import Path

import pytest

from tests.project.places import ROOT
from tests.project.snippets import SHELLS, Session, documents, examples, fits, follow, snippets

DOCUMENTS = documents()
NOT_RUN = {
    ("docs/tutorial/5-ready.md", "docker compose up"): "Docker; that its compose file is right is seen in cli/test_first_minutes.py",
}
"""What is shown and not run, by the last command of its block: the one that cannot be run here, and why."""
SAMPLE = """
```python file=words.py
def shout(text: str) -> str:
    return text.upper() + " 8000"
```

```sh norun
exit 3
```

```sh installs
exit 3
```

```sh
$ python -c "import words; print(words.shout('hello'))"
HELLO ...
$ echo one; echo two
one
  two
```

```python title="words.py" more
def whisper(text: str) -> str:
    return text.lower()
```

```text title="data/names.txt"
ada
```

```python needs=no_such_framework
from no_such_framework import app
```

```sh needs=no_such_program
no_such_program
```

```sh needs=cat
echo grace >> data/names.txt
```

```sh
$ cat data/names.txt
ada
grace
$ echo Error: over there; exit 1
Error: over there
```

```python
from words import shout, whisper
assert whisper("A") == "a"
assert shout("a").startswith("A") and not shout("a").endswith(" 80" + "00")
```

```sh fails
ls no-such-file
```
"""


def test_a_sample_document_runs(tmp_path: Path) -> None:
    """Files are saved and added to, commands compared with what they print, scripts run, installs left alone, port 8000 replaced."""
    follow(SAMPLE, folder=tmp_path)
    assert (tmp_path / "words.py").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        "```python\nimport no_such_module\n```",
        "```sh\nexit 3\n```",
        "```sh\n$ echo one\ntwo\n```",
        "```sh\n$ echo Error: but the exit code is 0\nError: ...\n```",
        "```python needs=no_such_framework\ndef broken(:\n```",
        "```sh fails\ntrue\n```",
        "```sh\ncliffracer run no_such_module:app\n```",
    ],
)
def test_a_document_that_is_wrong_fails(tmp_path: Path, wrong: str) -> None:
    """A snippet that does not do what the document says fails the test that runs it."""
    with pytest.raises((AssertionError, SyntaxError)):
        follow(wrong, folder=tmp_path)


@pytest.mark.parametrize(("expected", "printed"), [("a ... c", "a b\n c"), ("...", "x"), ("a\n b", "a\nb\n")])
def test_ellipsis_and_layout_do_not_count(expected: str, printed: str) -> None:
    """`...` stands for anything and indentation is the document's own."""
    assert fits(expected, printed)
    assert not fits(expected + " z", printed)


def test_what_only_a_reader_has_is_put_in_its_place(tmp_path: Path) -> None:
    """A server that is an example's becomes one of the test's, a well-known port a free one, and `~` a folder of this document's."""
    with Session(tmp_path, stand_ins={"https://id.example.org": "http://127.0.0.1:9"}) as session:
        session.command("echo https://id.example.org/x nats://127.0.0.1:4222 > ~/seen")
    assert (tmp_path / ".home" / "seen").read_text() == f"http://127.0.0.1:9/x nats://127.0.0.1:{session.ports['4222']}\n"


def test_curl_has_a_stand_in(tmp_path: Path) -> None:
    """On a machine without curl the documents' requests are made all the same, and nobody answering is an error."""
    with Session(tmp_path) as session:
        session.command('python -c \'import os; print(os.environ["PATH"].split(":")[-1])\'', "...programs")
        session.command(f"{tmp_path}/.programs/curl -s http://127.0.0.1:9/", "curl: (7) ...refused", fails=True)


def test_what_is_shown_and_not_run_has_its_reason() -> None:
    """Every block that no test runs is named in `NOT_RUN`; another one has to be argued there."""
    blocks = [(name, snippet) for name, document in DOCUMENTS.items() for snippet in snippets(document) if "norun" in snippet.options]
    last = [(name, snippet.commands()[-1][0].partition("  ")[0]) for name, snippet in blocks]
    assert sorted(last) == sorted(NOT_RUN)


def test_what_installs_packages_says_so() -> None:
    """A block with `pip install` is marked, so that it is carried out in an environment of its own and not in that of these tests."""
    blocks = [(name, snippet) for name, document in DOCUMENTS.items() for snippet in snippets(document) if snippet.language in SHELLS]
    unmarked = [(name, block.line) for name, block in blocks if "pip install" in block.text and "installs" not in block.options]
    assert unmarked == []


def test_nothing_is_shown_that_the_runner_passes_over() -> None:
    """Every other block is Python, commands, or a file that is saved and then used."""
    passed = [
        (name, snippet.line, snippet.language)
        for name, document in DOCUMENTS.items()
        for snippet in snippets(document)
        if snippet.language not in {"python", *SHELLS} and not snippet.file and "norun" not in snippet.options
    ]
    assert passed == []


@pytest.mark.parametrize("example", [str(path.relative_to(ROOT)) for path in examples()])
def test_example_does_what_its_docstring_says(tmp_path: Path, example: str) -> None:
    """The snippets in an example's docstring run, from an empty folder that can import `examples`."""
    follow(DOCUMENTS[example], folder=tmp_path, path=ROOT)
