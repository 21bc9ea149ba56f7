"""How commands print: tables for people, JSON for programs, one line for a mistake."""

import functools
import shutil
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

from cliffracer.errors import CliffracerError, InvalidInput, ServiceError

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """Print a value as JSON, indented on a terminal."""
    text = msgspec.json.encode(value)
    click.echo(msgspec.json.format(text, indent=2).decode())


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows under headings, as wide as they need and not wider than the terminal; ``empty`` if there are none."""
    if not rows:
        click.echo(empty)
        return
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(heading), *(len(row[at]) for row in cells)) for at, heading in enumerate(headings)]
    room = shutil.get_terminal_size((120, 24)).columns
    spare = room - sum(widths[:-1]) - 2 * (len(widths) - 1)
    widths[-1] = max(12, min(widths[-1], spare))
    click.echo(click.style(_line(headings, widths), bold=True))
    for row in cells:
        click.echo(_line(row, widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    last = cells[-1] if len(cells[-1]) <= widths[-1] else cells[-1][: widths[-1] - 1] + "…"
    return "  ".join([*(cell.ljust(width) for cell, width in zip(cells[:-1], widths[:-1], strict=True)), last]).rstrip()


def tells(command: F) -> F:
    """Print what a command raises on purpose as a message, and exit with 1; never a traceback for a user's mistake."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except CliffracerError as error:
            click.echo(f"{click.style('Error:', fg='red', bold=True)} {message_of(error)}", err=True)
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    return run  # type: ignore[return-value]  # wraps keeps the signature


def message_of(error: CliffracerError) -> str:
    """Return what to show for an error: its class where that says something, its message, every field that was refused."""
    if isinstance(error, InvalidInput) and error.errors:
        lines = [f"  {entry['path'] or '(all)'}: {entry['message']}" for entry in error.errors]
        return "\n".join([error.message, *lines])
    if isinstance(error, ServiceError):
        more = f" (error id {error.details['error_id']}: see the log of the service)" if error.details.get("error_id") else ""
        return f"{type(error).__name__}: {error.message}{more}"
    return str(error)
