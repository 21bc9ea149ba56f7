"""Refuses, outside production, a query that the calling line builds from values.

Type checkers do it through `LiteralString`; this is for services that use none. It reads the call in the source, once
per place: an f-string, ``%``, ``+``, ``+=``, ``.format``, ``.join`` or ``.replace`` with anything but text and CONSTANTS is how
injections are written.
"""

import ast
import linecache
from functools import lru_cache
from types import CodeType, FrameType

from cliffracer.errors import SetupError

_seen: dict[tuple[CodeType, int], str | None] = {}
MOST = 4096
_BUILDING = {"format", "join", "replace"}


def check_call(frame: FrameType | None, place: int) -> None:
    """Raise `SetupError` if the call that a frame is in builds its query, the positional argument at a place, from values."""
    if frame is None:
        return
    key = (frame.f_code, frame.f_lasti)
    if key not in _seen:
        if len(_seen) >= MOST:
            _seen.clear()
        _seen[key] = _fault(frame, place)
    fault = _seen[key]
    if fault is not None:
        raise SetupError(fault)


def _fault(frame: FrameType, place: int) -> str | None:
    code = frame.f_code
    position = list(code.co_positions())[frame.f_lasti // 2]
    tree = _parsed(code.co_filename)
    if tree is None or position[0] is None:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset) == position:
            starred = any(isinstance(argument, ast.Starred) for argument in node.args[: place + 1])
            if not starred and len(node.args) > place and _is_built(_meant(node.args[place], tree, code)):
                return (
                    f"{code.co_filename}:{position[0]}: the query is put together from values, which lets them be read as SQL. "
                    "Write %s for each value and pass it as a parameter; for names of tables or columns use psycopg.sql.Identifier. "
                    "A part that is always the same text is taken by a name in CAPITALS."
                )
    return None


@lru_cache(maxsize=64)
def _parsed(filename: str) -> ast.Module | None:
    source = "".join(linecache.getlines(filename))
    try:
        return ast.parse(source) if source else None
    except SyntaxError:
        return None


def _meant(argument: ast.expr, tree: ast.Module, code: CodeType) -> ast.expr:
    """Return what a local name was last assigned before the call, with what was added to it since; else the argument itself."""
    if not isinstance(argument, ast.Name):
        return argument
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = [node for node in functions if node.name == code.co_name and _first_line(node) == code.co_firstlineno]
    found: ast.expr = argument
    given = [node for scope in inside for node in ast.walk(scope) if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign)]
    for node in sorted(given, key=lambda node: node.lineno):
        if node.lineno >= argument.lineno or not _names(node, argument.id) or node.value is None:
            continue
        added = isinstance(node, ast.AugAssign)
        found = ast.BinOp(found, node.op, node.value) if isinstance(node, ast.AugAssign) else node.value
        if added and _is_built(found):
            break  # whatever comes later, this may have been sent
    return found


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _names(node: ast.Assign | ast.AnnAssign | ast.AugAssign, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _is_built(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) and not _is_fixed(part.value) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return _is_text(node) and not (_is_fixed(node.left) and _is_fixed(node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _BUILDING:
        if not _is_text(node.func.value):  # of psycopg.sql, or nothing that we know
            return False
        return _is_built(node.func.value) or not all(map(_is_fixed, [*node.args, *(word.value for word in node.keywords)]))
    return False


def _is_text(node: ast.expr) -> bool:
    """Say whether a sum has text in it, so that it cannot be a composition by psycopg.sql."""
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _BUILDING:
        return _is_text(node.func.value)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_fixed(node: ast.expr) -> bool:
    """Say whether a part is text of the source: a literal, or a CONSTANT by its name."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.Name | ast.Attribute):
        return (node.id if isinstance(node, ast.Name) else node.attr).isupper()
    if isinstance(node, ast.BinOp):
        return _is_fixed(node.left) and (_is_fixed(node.right) or _repeats(node))
    if isinstance(node, ast.List | ast.Tuple):
        return all(map(_is_fixed, node.elts))
    if isinstance(node, ast.IfExp):
        return _is_fixed(node.body) and _is_fixed(node.orelse)
    return (isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Call) and _is_text(node))) and not _is_built(node)


def _repeats(node: ast.BinOp) -> bool:
    """Say whether fixed text is repeated, as in ``["%s"] * len(values)``."""
    return isinstance(node.op, ast.Mult) and isinstance(node.left, ast.List | ast.Tuple | ast.Constant)
