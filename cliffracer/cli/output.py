"""How commands print: tables for people, JSON for programs, one line for a mistake; colours on a terminal only."""

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import click
import msgspec

from cliffracer.errors import CliffracerError, InvalidInput, ServiceError, SetupError

_NARROWEST = 12  # columns below which a cell says too little
_UNSAFE_IN_JSON = re.compile(r"[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ABOVE_ASCII = re.compile(r"[^\x00-\x7f]+")
_JSON_PARTS = re.compile(
    r'(?P<key>"(?:\\.|[^"\\])*")(?=\s*:)|(?P<text>"(?:\\.|[^"\\])*")|(?P<word>\b(?:true|false|null)\b)|(?P<number>-?\d[\d.eE+-]*)'
)
_JSON_COLOURS = {"key": "cyan", "text": "green", "word": "magenta", "number": "yellow"}


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line, in colour if that stream is a terminal and neither NO_COLOR nor a dumb terminal forbids it."""
    click.echo(text, err=err, color=_colour(sys.stderr if err else sys.stdout))


def hand_over(text: str, output: str | None, *, as_json: bool = False) -> None:
    """Print a document, or write it to the file that the user named, and say so; `SetupError` where that cannot be."""
    if output is None:
        say(text.rstrip())
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{output} cannot be written: {error.strerror or error}.") from None
    print_json({"written": output}) if as_json else say(f"{good('written')} {output}", err=True)


def hand_over_json(value: Any, output: str | None, *, as_json: bool = True) -> None:
    """Print a value as JSON, or write it to the file that the user named, and say so."""
    if output is None:
        print_json(value)
    else:
        hand_over(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n", output, as_json=as_json)


def strong(text: str) -> str:
    """Return text for headings and names."""
    return click.style(text, bold=True)


def soft(text: str) -> str:
    """Return text that matters less."""
    return click.style(text, dim=True)


def good(text: str) -> str:
    """Return text that says that all is well."""
    return click.style(text, fg="green")


def bad(text: str) -> str:
    """Return text that says that something is wrong."""
    return click.style(text, fg="red")


def odd(text: str) -> str:
    """Return text that wants to be looked at."""
    return click.style(text, fg="yellow")


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    _say_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_line(value: Any) -> None:
    """Print a value as JSON on one line: an item of a stream."""
    _say_json(msgspec.json.encode(value).decode())


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str, spare: Sequence[str] = ()) -> None:
    """Print rows under headings; on a terminal not wider than it is; ``empty`` if there are none. Numbers stand on the right."""
    if not rows:
        say(soft(empty))
        return
    say("\n".join(fitted_table(headings, rows, spare=spare)))


def fitted_table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], *, whole: Sequence[int] = (), spare: Sequence[str] = ()
) -> list[str]:
    """Return the lines of a table that is no wider than the terminal, if it is printed on one.

    Where it would be, columns that can be spared go before what is in the others is cut off, the first of them first.
    """
    room = _room()
    for name in spare:
        if room is None or max(map(width, table(headings, rows))) <= room:
            break
        if name in headings:
            at = headings.index(name)
            headings, rows = [*headings[:at], *headings[at + 1 :]], [[*row[:at], *row[at + 1 :]] for row in rows]
    return table(headings, rows, room=room, whole=whole)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, room: int | None = None, whole: Sequence[int] = ()) -> list[str]:
    """Return the lines of a table; the widest columns give way where it would be wider than ``room``, but for those that stay ``whole``."""
    cells = [[cell if isinstance(cell, str) else _shown(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(headings, *cells, strict=True)]
    giving = [at for at in range(len(widths)) if at not in whole]
    while room is not None and sum(widths) + 2 * (len(widths) - 1) > room and max(widths[at] for at in giving) > _NARROWEST:
        widths[max(giving, key=widths.__getitem__)] -= 1
    right = [_are_numbers([row[at] for row in rows]) for at in range(len(headings))]
    lines = [_line([soft(heading) for heading in headings], widths, right)]
    return [*lines, *(_line(row, widths, right) for row in cells)]


def width(text: str) -> int:
    """Return how many columns a text takes on a terminal."""
    plain = click.unstyle(text)
    if plain.isascii():
        return len(plain)
    import unicodedata  # noqa: PLC0415 - its tables are large, and a service prints no such text

    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in plain)


def fitted(text: str, wide: int) -> str:
    """Return text that takes so many columns at most, its end cut off if need be."""
    return text if width(text) <= wide else f"{click.unstyle(text)[: wide - 1]}…"


def hanging(text: str, indent: int, *, err: bool = False) -> str:
    """Return text that goes on under itself, behind ``indent`` columns, where a terminal is too narrow for it."""
    room = _room(sys.stderr if err else sys.stdout)
    if room is None or room - indent < 24:
        return text
    return textwrap.fill(text, room - indent, break_long_words=False, break_on_hyphens=False).replace("\n", f"\n{' ' * indent}")


def sure(question: str) -> bool:
    """Ask before what cannot be taken back, on a terminal; elsewhere nobody can be asked, and what was typed must do."""
    return not sys.stdin.isatty() or click.confirm(question, err=True)


def numbered(numbers: Sequence[int]) -> str:
    """Return how many events were meant, and the first twenty by number: ``2 events (numbers 4, 7)``."""
    shown = ", ".join(map(str, numbers[:20])) + (", …" if len(numbers) > 20 else "")
    told = f" ({'number' if len(numbers) == 1 else 'numbers'} {shown})" if numbers else ""
    return f"{len(numbers)} {'event' if len(numbers) == 1 else 'events'}{soft(told)}"


def printable(text: str) -> str:
    """Return text from elsewhere that moves no cursor: control characters are escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def tame(text: str) -> str:
    """Return JSON that moves no cursor: what may stand in it as it is, and would, is escaped."""
    return _UNSAFE_IN_JSON.sub(_escape, text)


def encodable(text: str) -> str:
    """Return text that goes into UTF-8: what the command line or a file name had of other bytes is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def tell(error: CliffracerError, *, as_json: bool = False) -> None:
    """Print what went wrong: a line on standard error, or as JSON on standard output for the program that asked for it."""
    if as_json:
        print_json({"error": described(error)})
        return
    text = message_of(error)
    shown = text if "\n" in text else hanging(text, len("Error: "), err=True)
    say(f"{click.style('Error:', fg='red', bold=True)} {shown}", err=True)


def described(error: CliffracerError) -> dict[str, Any]:
    """Return an error as a program reads it."""
    if isinstance(error, ServiceError):
        return {"type": type(error).__name__, "message": encodable(error.message), "code": error.code, "details": error.details}
    return {"type": type(error).__name__, "message": encodable(str(error))}


def message_of(error: CliffracerError) -> str:
    """Return what to show for an error: its class where that says something, its message, every field that was refused."""
    if isinstance(error, InvalidInput) and error.errors:
        if str(error) == error.message:
            return printable(error.message)  # it has the one reason in it
        head = error.message if error.message.endswith(":") else f"{error.message}:"
        return "\n".join(map(printable, [head, *(f"  {entry['path'] or '(all)'}: {entry['message']}" for entry in error.errors)]))
    if isinstance(error, ServiceError) and not error.message.startswith("Cannot reach "):
        named = printable(str(error.details.get("error_id") or ""))
        more = f" (error id {named}: see the log of the service)" if named else ""
        told = "" if error.message == error.title else f": {printable(error.message)}"
        return f"{type(error).__name__}{told}{more}"
    return printable(str(error)) if isinstance(error, ServiceError) else str(error)


def _colour(stream: TextIO | None) -> bool | None:
    """Return whether to colour; None lets click ask whether the stream is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return False if os.environ.get("TERM") == "dumb" or stream is None else None


def _room(stream: TextIO | None = None) -> int | None:
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.2f}" if cell >= 0.01 or not cell else f"{cell:.3f}"
    return "" if cell is None else printable(str(cell))


def _are_numbers(column: Sequence[object]) -> bool:
    there = [cell for cell in column if cell is not None]
    return bool(there) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in there)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    return "  ".join(_padded(cell, wide, right=to) for cell, wide, to in zip(cells, widths, right, strict=True)).rstrip()


def _padded(cell: str, wide: int, *, right: bool) -> str:
    cell = fitted(cell, wide)
    blank = " " * (wide - width(cell))
    return blank + cell if right else cell + blank


def _say_json(text: str) -> None:
    """Print JSON that stays JSON in whatever encoding standard output has."""
    text = tame(text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = _ABOVE_ASCII.sub(_escape, text)
    say(_highlighted(text))


def _escape(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def _highlighted(text: str) -> str:
    return _JSON_PARTS.sub(lambda found: click.style(found[0], fg=_JSON_COLOURS[found.lastgroup or "text"]), text)
