"""What commands say of themselves under ``python -OO``, which drops docstrings: it is read from the source, where that is there."""

import ast
import inspect
import sys
from contextlib import suppress

import click


def describe(command: click.Command) -> None:
    """Give a command, and those below it, the description that stands in the source of its function."""
    if command.help is None and command.callback is not None:
        function = inspect.unwrap(command.callback)
        with suppress(OSError):  # without a source there are still its options to read
            command.help = _docstring(inspect.getsource(sys.modules[function.__module__]), function.__code__.co_firstlineno)
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        describe(below)


def _docstring(source: str, line: int) -> str | None:
    """Return that of the function that begins, with its first decorator, in this line: several may have one name."""
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    return next(
        (ast.get_docstring(node) for node in functions if min([node.lineno, *(o.lineno for o in node.decorator_list)]) == line), None
    )
